package group

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// newMemberJoinTimeout is how long a member that just joined may take to come through its first join phase: a client that gave up
// does not know its id, so nobody would hear of it again (KIP-394).
const newMemberJoinTimeout = 5 * time.Minute

// DefaultMaxBytes is the memory that all groups of a broker may take by default. Past it new members and offsets are refused with
// a retriable error.
const DefaultMaxBytes = 512 << 20

// Config holds Kafka's settings for groups. Zero values stand for the documented defaults.
type Config struct {
	InitialRebalanceDelay  time.Duration // group.initial.rebalance.delay.ms; negative means none; 3 s
	MinSessionTimeout      time.Duration // group.min.session.timeout.ms; 6 s
	MaxSessionTimeout      time.Duration // group.max.session.timeout.ms; 30 min
	MaxSize                int           // group.max.size, members of a group; 2147483647
	OffsetMetadataMaxBytes int           // offset.metadata.max.bytes; 4096
	OffsetsRetention       time.Duration // offsets.retention.minutes; 7 days
	RetentionCheckInterval time.Duration // offsets.retention.check.interval.ms; 10 min
	MaxRecordBytes         int           // the internal topic's max.message.bytes; 1048588
	MaxBytes               int64         // memory for all groups; DefaultMaxBytes
}

// WithDefaults returns the configuration with its defaults filled in.
func (c Config) WithDefaults() Config {
	switch {
	case c.InitialRebalanceDelay == 0:
		c.InitialRebalanceDelay = 3 * time.Second
	case c.InitialRebalanceDelay < 0:
		c.InitialRebalanceDelay = 0
	}
	orElse(&c.MinSessionTimeout, 6*time.Second)
	orElse(&c.MaxSessionTimeout, 30*time.Minute)
	orElse(&c.MaxSize, math.MaxInt32)
	orElse(&c.OffsetMetadataMaxBytes, 4096)
	orElse(&c.OffsetsRetention, 7*24*time.Hour)
	orElse(&c.RetentionCheckInterval, 10*time.Minute)
	orElse(&c.MaxRecordBytes, 1048588)
	orElse(&c.MaxBytes, DefaultMaxBytes)
	return c
}

func orElse[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Validate reports every problem of a configuration with its defaults filled in.
func (c Config) Validate() error {
	var problems []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	check(c.MinSessionTimeout > 0 && c.MinSessionTimeout <= c.MaxSessionTimeout,
		"group.min.session.timeout.ms %v is not between 0 and group.max.session.timeout.ms %v", c.MinSessionTimeout, c.MaxSessionTimeout)
	check(c.MaxSize > 0, "group.max.size %d is not positive", c.MaxSize)
	check(c.OffsetMetadataMaxBytes >= 0, "offset.metadata.max.bytes %d is negative", c.OffsetMetadataMaxBytes)
	check(c.OffsetsRetention > 0, "offsets.retention %v is not positive", c.OffsetsRetention)
	check(c.RetentionCheckInterval > 0, "offsets.retention.check.interval %v is not positive", c.RetentionCheckInterval)
	check(c.MaxBytes > 0, "the memory for groups, %d bytes, is not positive", c.MaxBytes)
	return errors.Join(problems...)
}
