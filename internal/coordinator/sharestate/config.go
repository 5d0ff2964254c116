package sharestate

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// DefaultMaxBytes is the memory that all share partitions of a broker may take by default.
const DefaultMaxBytes = 256 << 20

// maxBatches is how many batches a share partition may have. A group has at most group.share.max.partition.max.record.locks records of a
// partition in flight (10000 at most), and each of them is a batch at worst.
const maxBatches = 32768

// Config holds Kafka's settings for the share coordinator. Zero values stand for the documented defaults.
type Config struct {
	UpdatesPerSnapshot int           // share.coordinator.snapshot.update.records.per.snapshot; 500, negative means none
	PruneInterval      time.Duration // share.coordinator.state.topic.prune.interval.ms; 5 min
	ColdInterval       time.Duration // share.coordinator.cold.partition.snapshot.interval.ms; 5 min
	MaxBytes           int64         // memory for all share partitions; DefaultMaxBytes
}

// WithDefaults returns the configuration with its defaults filled in.
func (c Config) WithDefaults() Config {
	switch {
	case c.UpdatesPerSnapshot == 0:
		c.UpdatesPerSnapshot = 500
	case c.UpdatesPerSnapshot < 0:
		c.UpdatesPerSnapshot = 0
	}
	c.PruneInterval = cmp.Or(c.PruneInterval, 5*time.Minute)
	c.ColdInterval = cmp.Or(c.ColdInterval, 5*time.Minute)
	c.MaxBytes = cmp.Or(c.MaxBytes, DefaultMaxBytes)
	return c
}

// Environment is what a Machine needs of the world; all of it is given so that the machine itself stays a plain function.
type Environment struct {
	Config Config
	// Partitions is how many partitions a topic has, 0 where there is none. It does not block.
	Partitions func(base.TopicID) int32

	used atomic.Int64 // bytes that all machines take
}

// full reports whether there is no room for n further bytes.
func (e *Environment) full(n int64) bool { return n > 0 && e.used.Load()+n > e.Config.MaxBytes }
