package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

func brokerName(id base.BrokerID) string { return strconv.Itoa(int(id)) }

// offsetsTopic is __consumer_offsets as the coordinator's runtime sees it: it implements coordinator.Topic.
type offsetsTopic struct {
	cfg      *config.Broker
	metadata *metadata.Metadata
	engine   *storage.Engine
}

// Ensure creates the topic at its first use, with the settings that Kafka gives it.
func (o *offsetsTopic) Ensure(ctx context.Context) error {
	if o.Partitions() > 0 {
		return nil
	}
	result := o.metadata.CreateTopics(ctx, []metadata.NewTopic{{
		Name:              group.Topic,
		Partitions:        o.cfg.OffsetsTopicPartitions,
		ReplicationFactor: o.cfg.OffsetsTopicReplicationFactor,
		Internal:          true,
		Configs: map[string]string{
			"cleanup.policy":   "compact",
			"compression.type": "producer",
			"segment.bytes":    strconv.FormatInt(o.cfg.OffsetsTopicSegmentBytes, 10),
		},
	}}, false)
	if err := result[0].Err; err != nil && !errors.Is(err, metadata.ErrTopicExists) {
		return fmt.Errorf("create %s: %w", group.Topic, err)
	}
	return nil
}

// Partitions implements coordinator.Topic.
func (o *offsetsTopic) Partitions() int32 {
	topic, ok := o.metadata.Image().Topic(group.Topic)
	if !ok {
		return 0
	}
	return int32(len(topic.Partitions))
}

// Log implements coordinator.Topic.
func (o *offsetsTopic) Log(partition int32) (coordinator.Log, error) {
	topic, ok := o.metadata.Image().Topic(group.Topic)
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
	slice, err := l.partition.Read(from, storage.ReadOptions{MaxBytes: maxBytes, AtLeastOne: true, Upto: storage.LogEnd})
	if err != nil {
		return nil, err
	}
	return slice.Bytes()
}

// ID implements coordinator.Identified.
func (l coordinatorLog) ID() base.TopicIDPartition { return l.partition.ID() }

// Offsets implements coordinator.Log.
func (l coordinatorLog) Offsets() (start, end base.Offset) {
	o := l.partition.Offsets()
	return o.LogStart, o.LogEnd
}
