package txn

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// DefaultMaxBytes is the memory that all transactional ids of a broker may take by default.
const DefaultMaxBytes = 256 << 20

// Config holds Kafka's settings for transactions. Zero values stand for the documented defaults.
type Config struct {
	MaxTimeout     time.Duration // transaction.max.timeout.ms; 15 min
	AbortInterval  time.Duration // transaction.abort.timed.out.transaction.cleanup.interval.ms; 10 s
	Expiration     time.Duration // transactional.id.expiration.ms; 7 days
	ExpiryInterval time.Duration // transaction.remove.expired.transaction.cleanup.interval.ms; 1 h
	MaxBytes       int64         // memory for all transactional ids; DefaultMaxBytes
}

// WithDefaults returns the configuration with its defaults filled in.
func (c Config) WithDefaults() Config {
	c.MaxTimeout = cmp.Or(c.MaxTimeout, 15*time.Minute)
	c.AbortInterval = cmp.Or(c.AbortInterval, 10*time.Second)
	c.Expiration = cmp.Or(c.Expiration, 7*24*time.Hour)
	c.ExpiryInterval = cmp.Or(c.ExpiryInterval, time.Hour)
	c.MaxBytes = cmp.Or(c.MaxBytes, DefaultMaxBytes)
	return c
}

// Environment is what a Machine needs of the world; all of it is given so that the machine itself stays a plain function.
type Environment struct {
	Config Config
	// CoordinatorEpoch goes into every marker. It rises with each start of the broker.
	CoordinatorEpoch int32
	// End is told of each transaction whose markers are to be written, once that is decided in the log. It does not block.
	End func(Ending)

	used atomic.Int64 // bytes that all machines take
}

// full reports whether there is no room for n further bytes.
func (e *Environment) full(n int64) bool { return e.used.Load()+n > e.Config.MaxBytes }

// Ending is the end of a transaction that has been decided: its markers are to be written, again and again until they are.
type Ending struct {
	TransactionalID string
	Marker          Marker
	Partitions      []base.TopicPartition
}

// Marker is what is to be written into each partition of a transaction.
type Marker struct {
	ProducerID         base.ProducerID
	ProducerEpoch      base.ProducerEpoch
	Commit             bool
	CoordinatorEpoch   int32
	TransactionVersion int16
}
