package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/storage"
)

// topicSync applies the metadata to the engine. Partitions appear in the engine before an admin call returns and before a client
// can see them in an image that came after; deletions, which wait for the disk, follow behind on a goroutine of their own.
type topicSync struct {
	engine *storage.Engine
	cfg    *config.Broker
	logger *slog.Logger

	mu      sync.Mutex // guards the fields below
	deleted []*metadata.Topic
	heard   func([]*metadata.Topic)
	wake    chan struct{}
}

func newTopicSync(engine *storage.Engine, cfg *config.Broker, logger *slog.Logger) *topicSync {
	return &topicSync{engine: engine, cfg: cfg, logger: logger, wake: make(chan struct{}, 1)}
}

// follow brings the engine to the image of now and keeps it there.
func (t *topicSync) follow(m *metadata.Metadata) {
	opened := m.Image()
	now := m.Subscribe(t.apply)
	t.apply(opened, now)
}

// onDeleted has f called with topics after they were deleted.
func (t *topicSync) onDeleted(f func(topics []*metadata.Topic)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard = f
}

func (t *topicSync) apply(prev, next *metadata.Image) {
	delta := next.Diff(prev)
	broker := dynamicConfig(t.cfg, next)
	for _, topic := range delta.Created {
		t.create(topic, 0, broker)
	}
	for _, change := range delta.Changed {
		t.create(change.Next, len(change.Prev.Partitions), broker)
		t.engine.SetConfig(change.Next.ID, logConfig(change.Next, broker))
	}
	if slices.ContainsFunc(delta.Configs, func(r metadata.Resource) bool { return r.Type == metadata.ResourceBroker }) {
		t.engine.SetCleaner(cleanerConfig(broker))
		for topic := range next.Topics() {
			t.engine.SetConfig(topic.ID, logConfig(topic, broker))
		}
	}
	if len(delta.Deleted) > 0 {
		t.mu.Lock()
		t.deleted = append(t.deleted, delta.Deleted...)
		t.mu.Unlock()
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// create adds the partitions of a topic from the given one on.
func (t *topicSync) create(topic *metadata.Topic, from int, broker *config.Broker) {
	settings := logConfig(topic, broker)
	for p := from; p < len(topic.Partitions); p++ {
		spec := storage.PartitionSpec{
			Topic:  topic.Name,
			ID:     base.TopicIDPartition{ID: topic.ID, Partition: int32(p)},
			Config: settings,
		}
		if _, err := t.engine.Create(spec); err != nil && !errors.Is(err, storage.ErrExists) && !errors.Is(err, storage.ErrClosed) {
			t.logger.Error("a partition could not be created", "topic", topic.Name, "partition", p, "err", err)
		}
	}
}

// run deletes what the metadata no longer has, until ctx ends. What is left then is deleted at the next start, by its tombstone.
func (t *topicSync) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		t.mu.Lock()
		deleted, heard := t.deleted, t.heard
		t.deleted = nil
		t.mu.Unlock()
		for _, topic := range deleted {
			if err := t.engine.Delete(ctx, topic.ID); err != nil && ctx.Err() == nil {
				t.logger.Error("a deleted topic's log is still there; it goes at the next start", "topic", topic.Name, "err", err)
			}
		}
		if heard != nil {
			heard(deleted)
		}
	}
}

// dynamicConfig is the broker's settings with the dynamic ones of an image on top. Values that do not parse were refused when they
// were set, so an error here leaves them out and nothing more.
func dynamicConfig(cfg *config.Broker, image *metadata.Image) *config.Broker {
	broker, _ := cfg.WithDynamic(
		image.Config(metadata.Resource{Type: metadata.ResourceBroker}),
		image.Config(metadata.Resource{Type: metadata.ResourceBroker, Name: brokerName(cfg.NodeID)}))
	return broker
}

// partitionSpecs lists every partition of an image for the engine.
func partitionSpecs(image *metadata.Image, cfg *config.Broker) []storage.PartitionSpec {
	broker := dynamicConfig(cfg, image)
	specs := make([]storage.PartitionSpec, 0, image.PartitionCount())
	for topic := range image.Topics() {
		settings := logConfig(topic, broker)
		for p := range topic.Partitions {
			specs = append(specs, storage.PartitionSpec{
				Topic:  topic.Name,
				ID:     base.TopicIDPartition{ID: topic.ID, Partition: int32(p)},
				Config: settings,
			})
		}
	}
	return specs
}

// logConfig is what the engine needs of a topic's settings.
func logConfig(topic *metadata.Topic, broker *config.Broker) storage.LogConfig {
	c := config.ResolveTopic(topic.Configs, broker)
	return storage.LogConfig{
		SegmentBytes:    c.SegmentBytes,
		SegmentAge:      c.SegmentAge,
		SegmentJitter:   c.SegmentJitter,
		RetentionBytes:  c.RetentionBytes,
		Retention:       c.Retention,
		Delete:          c.CleanupDelete,
		Compact:         c.CleanupCompact,
		DeleteRetention: c.DeleteRetention,
		MinLag:          c.MinCompactionLag,
		MaxLag:          c.MaxCompactionLag,
		MinDirtyRatio:   c.MinCleanableDirtyRatio,
		IndexInterval:   c.IndexIntervalBytes,
		SegmentIndex:    int(c.SegmentIndexBytes),
		FileDeleteDelay: c.FileDeleteDelay,
	}
}

// cleanerConfig is what the engine needs of the broker's settings for compaction.
func cleanerConfig(broker *config.Broker) storage.CleanerConfig {
	threads := broker.CleanerThreads
	if threads == 0 || !broker.CleanerEnable {
		threads = -1
	}
	return storage.CleanerConfig{
		Threads:        threads,
		BufferBytes:    broker.CleanerDedupeBufferSize,
		LoadFactor:     broker.CleanerLoadFactor,
		BytesPerSecond: broker.CleanerMaxBytesPerSecond,
		Backoff:        broker.CleanerBackoff,
	}
}
