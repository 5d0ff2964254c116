package storage

import (
	"cmp"
	"errors"
	"log/slog"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// Config says where an engine keeps its data and how much it may use. A zero field stands for its documented default.
type Config struct {
	// FS is the file system. Required.
	FS disk.FS
	// Dir is the data folder; the engine owns wal/, topics/, set-aside/ and checkpoint in it. It exists and is locked by
	// the caller.
	Dir string
	// WALMaxBytes caps the live write-ahead log, and with it the time of a recovery. Default 1 GiB.
	WALMaxBytes int64
	// WALFileBytes is the size of one wal file. Default 64 MiB.
	WALFileBytes int64
	// MinFreeBytes is what appends leave free on the disk, so that a full disk can be helped from inside: deleting topics, retention
	// and checkpoints go on below it, and so does a stop. Default 0.
	MinFreeBytes int64
	// TailBytes is the memory for the newest batches of all partitions, in bytes. Default 256 MiB.
	TailBytes int64
	// IndirectBytes is from what size on a batch is large: its whole blocks may go straight to the segment and not through the wal.
	// Default 16 KiB.
	IndirectBytes int64
	// IndirectWaiting is how many bytes have to wait to become durable for a large batch to go that way, in its partition or on average in those
	// where anything waits: the sync that it costs is worth it only for many. Default 256 KiB; negative: none have to.
	IndirectWaiting int64
	// LeaderEpoch is the epoch with which this start leads all its partitions. It is above that of every earlier start.
	LeaderEpoch base.LeaderEpoch
	// AckMode says when an append counts as durable. Default wal.Synced.
	AckMode wal.AckMode
	// ProducerExpiry is how long a partition remembers an idempotent producer after its last batch, by batch timestamps
	// (producer.id.expiration.ms). Default 24 h.
	ProducerExpiry time.Duration
	// CheckpointInterval is the longest time that a change waits for a checkpoint. Default 60 s.
	CheckpointInterval time.Duration
	// RetentionInterval is the time between looks for segments to delete (log.retention.check.interval.ms). Default 5 min.
	RetentionInterval time.Duration
	// IdleFlush is how long the end of a partition that gets no appends waits in memory before it is flushed. Default 30 s.
	IdleFlush time.Duration
	// Cleaner says how compacted topics are compacted. SetCleaner changes it.
	Cleaner CleanerConfig
	// OpenFiles bounds the descriptors of segment files. Default 1,024.
	OpenFiles int
	// SyncAllFrom is from how many partitions on a checkpoint, and whatever makes folders, syncs the whole file system once instead of each
	// file, where it can. Default 64.
	SyncAllFrom int
	// Partitions lists the partitions that the metadata knows. Those that have no data yet cost no files.
	Partitions []PartitionSpec
	// Tombstones holds the ids of deleted topics: what the log still says of them is dropped.
	Tombstones map[base.TopicID]struct{}
	// Logger hears of damage, set-aside data and failures. Default: discards.
	Logger *slog.Logger
}

// PartitionSpec names a partition and its settings.
type PartitionSpec struct {
	Topic  string
	ID     base.TopicIDPartition
	Config LogConfig
}

// LogConfig holds the settings of one topic's logs, with Kafka's meaning. Sizes are in bytes.
type LogConfig struct {
	SegmentBytes    int64         // segment.bytes; 0 = 1 GiB
	SegmentAge      time.Duration // segment.ms, by the timestamps of batches; 0 = 7 days
	SegmentJitter   time.Duration // segment.jitter.ms
	SegmentIndex    int           // segment.index.bytes; 0 = 10 MiB
	IndexInterval   int           // index.interval.bytes; 0 = 4096
	Delete          bool          // cleanup.policy holds delete: the next two fields count
	Retention       time.Duration // retention.ms; negative = no limit, 0 = nothing is kept longer than it must be
	RetentionBytes  int64         // retention.bytes; negative = no limit, 0 = nothing is kept longer than it must be
	Compact         bool          // cleanup.policy holds compact: the next four fields count
	DeleteRetention time.Duration // delete.retention.ms
	MinLag          time.Duration // min.compaction.lag.ms
	MaxLag          time.Duration // max.compaction.lag.ms; 0 = no limit
	MinDirtyRatio   float64       // min.cleanable.dirty.ratio
	FileDeleteDelay time.Duration // file.delete.delay.ms
}

func (c LogConfig) withDefaults() LogConfig {
	c.SegmentBytes = cmp.Or(c.SegmentBytes, 1<<30)
	c.SegmentAge = cmp.Or(c.SegmentAge, 7*24*time.Hour)
	if c.Compact && c.MaxLag > 0 {
		c.SegmentAge = min(c.SegmentAge, c.MaxLag) // only what is in an ended segment can be compacted
	}
	c.SegmentIndex = cmp.Or(c.SegmentIndex, segment.DefaultIndexBytes)
	c.IndexInterval = cmp.Or(c.IndexInterval, segment.DefaultIndexInterval)
	return c
}

func (c Config) withDefaults() (Config, error) {
	if c.FS == nil || c.Dir == "" {
		return c, errors.New("storage config: FS and Dir are required")
	}
	c.WALMaxBytes = cmp.Or(c.WALMaxBytes, 1<<30)
	c.WALFileBytes = cmp.Or(c.WALFileBytes, 64<<20)
	c.TailBytes = cmp.Or(c.TailBytes, 256<<20)
	c.IndirectBytes = cmp.Or(c.IndirectBytes, 16<<10)
	c.IndirectWaiting = cmp.Or(c.IndirectWaiting, 256<<10)
	c.ProducerExpiry = cmp.Or(c.ProducerExpiry, 24*time.Hour)
	c.CheckpointInterval = cmp.Or(c.CheckpointInterval, time.Minute)
	c.RetentionInterval = cmp.Or(c.RetentionInterval, 5*time.Minute)
	c.IdleFlush = cmp.Or(c.IdleFlush, 30*time.Second)
	c.OpenFiles = cmp.Or(c.OpenFiles, 1024)
	c.SyncAllFrom = cmp.Or(c.SyncAllFrom, 64)
	c.Cleaner = c.Cleaner.withDefaults()
	if c.Logger == nil {
		c.Logger = discardLogger
	}
	return c, nil
}
