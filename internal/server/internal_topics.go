package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/sharestate"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

func brokerName(id base.BrokerID) string { return strconv.Itoa(int(id)) }

// internalTopic is a coordinator's topic as its runtime sees it: it implements coordinator.Topic.
type internalTopic struct {
	name         string
	partitions   int32
	replication  int16
	segmentBytes int64
	configs      map[string]string // beside those that all have, or instead
	broker       *config.Broker
	metadata     *metadata.Metadata
	engine       *storage.Engine
}

// offsetsTopic is __consumer_offsets.
func offsetsTopic(cfg *config.Broker, m *metadata.Metadata, e *storage.Engine) *internalTopic {
	return &internalTopic{
		name: group.Topic, partitions: cfg.OffsetsTopicPartitions, replication: cfg.OffsetsTopicReplicationFactor,
		segmentBytes: cfg.OffsetsTopicSegmentBytes, broker: cfg, metadata: m, engine: e,
	}
}

// transactionTopic is __transaction_state.
func transactionTopic(cfg *config.Broker, m *metadata.Metadata, e *storage.Engine) *internalTopic {
	return &internalTopic{
		name: txn.Topic, partitions: cfg.TransactionTopicPartitions, replication: cfg.TransactionTopicReplicationFactor,
		segmentBytes: cfg.TransactionTopicSegmentBytes, broker: cfg, metadata: m, engine: e,
		configs: map[string]string{"compression.type": "uncompressed"},
	}
}

// shareTopic is __share_group_state. It is not compacted: what is not needed any more is deleted from its beginning.
func shareTopic(cfg *config.Broker, m *metadata.Metadata, e *storage.Engine) *internalTopic {
	return &internalTopic{
		name: sharestate.Topic, partitions: cfg.ShareTopicPartitions, replication: cfg.ShareTopicReplicationFactor,
		segmentBytes: cfg.ShareTopicSegmentBytes, broker: cfg, metadata: m, engine: e,
		configs: map[string]string{
			"cleanup.policy": "delete", "retention.ms": "-1", "min.insync.replicas": strconv.Itoa(cfg.ShareTopicMinISR),
		},
	}
}

// Ensure creates the topic at its first use, with the settings that Kafka gives it. Where one of them is none that a topic may have, such
// as a segment size below 1 MiB, it fails, as in Kafka: the broker's own settings have wider bounds.
func (o *internalTopic) Ensure(ctx context.Context) error {
	if o.Partitions() > 0 {
		return nil
	}
	configs := map[string]string{
		"cleanup.policy":   "compact",
		"compression.type": "producer",
		"segment.bytes":    strconv.FormatInt(o.segmentBytes, 10),
	}
	maps.Copy(configs, o.configs)
	if err := config.ValidateTopic(configs, o.broker); err != nil {
		return fmt.Errorf("create %s: %w", o.name, err)
	}
	result := o.metadata.CreateTopics(ctx, []metadata.NewTopic{{
		Name: o.name, Partitions: o.partitions, ReplicationFactor: o.replication, Internal: true, Configs: configs,
	}}, false)
	if err := result[0].Err; err != nil && !errors.Is(err, metadata.ErrTopicExists) {
		return fmt.Errorf("create %s: %w", o.name, err)
	}
	return nil
}

// Partitions implements coordinator.Topic.
func (o *internalTopic) Partitions() int32 {
	topic, ok := o.metadata.Image().Topic(o.name)
	if !ok {
		return 0
	}
	return int32(len(topic.Partitions))
}

// Log implements coordinator.Topic.
func (o *internalTopic) Log(partition int32) (coordinator.Log, error) {
	topic, ok := o.metadata.Image().Topic(o.name)
	if !ok {
		return nil, coordinator.ErrNotCoordinator
	}
	p, ok := o.engine.Partition(base.TopicIDPartition{ID: topic.ID, Partition: partition})
	if !ok {
		return nil, coordinator.ErrNotCoordinator
	}
	return coordinatorLog{engine: o.engine, partition: p}, nil
}

// coordinatorLog is a partition as the runtime writes and replays it. A token is the number of a commit group.
type coordinatorLog struct {
	engine    *storage.Engine
	partition *storage.Partition
}

// Append implements coordinator.Log.
func (l coordinatorLog) Append(ctx context.Context, batch []byte) (coordinator.Appended, error) {
	header, err := record.ParseHeader(batch)
	if err != nil {
		return coordinator.Appended{}, err
	}
	done, err := l.partition.Append(ctx, batch, header, storage.AppendOptions{
		Origin:        storage.Coordinator,
		OffsetOfMax:   base.Offset(header.LastOffsetDelta),
		ExpectedEpoch: base.NoLeaderEpoch,
	})
	if errors.Is(err, storage.ErrDeleted) || errors.Is(err, storage.ErrClosed) {
		err = fmt.Errorf("%w: %w", coordinator.ErrNotCoordinator, err)
	}
	return coordinator.Appended{Base: done.Base, Token: coordinator.Token(done.Sequence)}, err
}

// Wait implements coordinator.Log.
func (l coordinatorLog) Wait(ctx context.Context, token coordinator.Token) error {
	return l.engine.Wait(ctx, wal.Sequence(token))
}

// Read implements coordinator.Log.
func (l coordinatorLog) Read(from base.Offset, maxBytes int) ([]byte, error) {
	upto := storage.LogEnd
	if plant.On(plant.LoadShort) {
		upto = storage.LastStable
	}
	slice, err := l.partition.Read(from, storage.ReadOptions{MaxBytes: maxBytes, AtLeastOne: true, Upto: upto})
	if err != nil {
		return nil, err
	}
	return slice.Bytes()
}

// Prune implements coordinator.Pruner.
func (l coordinatorLog) Prune(ctx context.Context, before base.Offset) error {
	_, moved, err := l.partition.DeleteRecords(ctx, before)
	if err != nil {
		return err
	}
	return l.engine.Wait(ctx, moved)
}

// ID implements coordinator.Identified.
func (l coordinatorLog) ID() base.TopicIDPartition { return l.partition.ID() }

// Forgotten implements coordinator.Identified.
func (l coordinatorLog) Forgotten() base.Offset { return l.partition.Forgotten() }

// Offsets implements coordinator.Log.
func (l coordinatorLog) Offsets() (start, end base.Offset) {
	o := l.partition.Offsets()
	return o.LogStart, o.LogEnd
}
