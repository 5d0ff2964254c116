package group

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
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

	Assignors            []string        // group.consumer.assignors, the default first; uniform, range
	ConsumerMaxSize      int             // group.consumer.max.size, members of a group; 2147483647
	RegexRefreshInterval time.Duration   // group.consumer.regex.refresh.interval.ms; 10 min
	Migration            MigrationPolicy // group.consumer.migration.policy; bidirectional

	ShareMaxSize         int           // group.share.max.size, members of a group; 200
	ShareInitializeRetry time.Duration // group.share.initialize.retry.interval.ms; 30 s

	StreamsMaxSize int // group.streams.max.size, members of a group; 2147483647
}

// ConsumerSettings are the settings of one consumer group: of the group itself (consumer.*) or else of the broker (group.consumer.*).
type ConsumerSettings struct {
	SessionTimeout     time.Duration // after which a member that was not heard of is out
	HeartbeatInterval  time.Duration // that members are told to keep
	AssignmentInterval time.Duration // least time between two target assignments
}

// DefaultConsumerSettings are Kafka's.
var DefaultConsumerSettings = ConsumerSettings{SessionTimeout: 45 * time.Second, HeartbeatInterval: 5 * time.Second, AssignmentInterval: time.Second}

// StreamsSettings are the settings of one streams group: of the group itself (streams.*) or else of the broker (group.streams.*).
type StreamsSettings struct {
	SessionTimeout     time.Duration // after which a member that was not heard of is out
	HeartbeatInterval  time.Duration // that members are told to keep
	AssignmentInterval time.Duration // least time between two target assignments
	InitialDelay       time.Duration // for which a group that was empty waits for more members; 0: it does not
	StandbyReplicas    int           // standby copies of each task
}

// DefaultStreamsSettings are Kafka's.
var DefaultStreamsSettings = StreamsSettings{
	SessionTimeout: 45 * time.Second, HeartbeatInterval: 5 * time.Second, AssignmentInterval: time.Second, InitialDelay: 3 * time.Second,
}

// MigrationPolicy says which groups with members may change their protocol.
type MigrationPolicy uint8

// The migration policies, by Kafka's names in lower case.
const (
	MigrateBothWays   MigrationPolicy = iota // bidirectional
	MigrateUpgrade                           // classic to consumer
	MigrateDowngrade                         // consumer to classic
	MigrationDisabled                        // and members of the classic protocol do not join consumer groups
)

// ParseMigrationPolicy reads group.consumer.migration.policy. What it does not know disables migration, as in Kafka.
func ParseMigrationPolicy(name string) MigrationPolicy {
	switch strings.ToLower(name) {
	case "bidirectional":
		return MigrateBothWays
	case "upgrade":
		return MigrateUpgrade
	case "downgrade":
		return MigrateDowngrade
	default:
		return MigrationDisabled
	}
}

func (p MigrationPolicy) upgrades() bool   { return p == MigrateBothWays || p == MigrateUpgrade }
func (p MigrationPolicy) downgrades() bool { return p == MigrateBothWays || p == MigrateDowngrade }

// WithDefaults returns the configuration with its defaults filled in.
func (c Config) WithDefaults() Config {
	switch {
	case c.InitialRebalanceDelay == 0:
		c.InitialRebalanceDelay = 3 * time.Second
	case c.InitialRebalanceDelay < 0:
		c.InitialRebalanceDelay = 0
	}
	c.MinSessionTimeout = cmp.Or(c.MinSessionTimeout, 6*time.Second)
	c.MaxSessionTimeout = cmp.Or(c.MaxSessionTimeout, 30*time.Minute)
	c.MaxSize = cmp.Or(c.MaxSize, math.MaxInt32)
	c.OffsetMetadataMaxBytes = cmp.Or(c.OffsetMetadataMaxBytes, 4096)
	c.OffsetsRetention = cmp.Or(c.OffsetsRetention, 7*24*time.Hour)
	c.RetentionCheckInterval = cmp.Or(c.RetentionCheckInterval, 10*time.Minute)
	c.MaxRecordBytes = cmp.Or(c.MaxRecordBytes, 1048588)
	c.MaxBytes = cmp.Or(c.MaxBytes, DefaultMaxBytes)
	if c.Assignors == nil {
		c.Assignors = []string{"uniform", "range"}
	}
	c.ConsumerMaxSize = cmp.Or(c.ConsumerMaxSize, math.MaxInt32)
	c.ShareMaxSize = cmp.Or(c.ShareMaxSize, 200)
	c.ShareInitializeRetry = cmp.Or(c.ShareInitializeRetry, 30*time.Second)
	c.RegexRefreshInterval = cmp.Or(c.RegexRefreshInterval, 10*time.Minute)
	c.StreamsMaxSize = cmp.Or(c.StreamsMaxSize, math.MaxInt32)
	return c
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
	check(len(c.Assignors) > 0, "group.consumer.assignors is empty")
	for _, name := range c.Assignors {
		check(assignor.ByName[name] != nil, "group.consumer.assignors: there is no assignor %q, only uniform and range", name)
	}
	check(c.ConsumerMaxSize > 0, "group.consumer.max.size %d is not positive", c.ConsumerMaxSize)
	check(c.StreamsMaxSize > 0, "group.streams.max.size %d is not positive", c.StreamsMaxSize)
	check(c.ShareMaxSize > 0, "group.share.max.size %d is not positive", c.ShareMaxSize)
	check(c.RegexRefreshInterval > 0, "group.consumer.regex.refresh.interval %v is not positive", c.RegexRefreshInterval)
	return errors.Join(problems...)
}
