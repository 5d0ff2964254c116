package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage"
)

// Markers writes transaction markers into the partitions of this broker. It implements txn.Markers.
type Markers struct {
	Metadata *metadata.Metadata
	Engine   *storage.Engine
	Groups   *group.Service
	Logger   *slog.Logger
}

// WriteMarker implements txn.Markers.
func (m *Markers) WriteMarker(ctx context.Context, at base.TopicPartition, marker txn.Marker) error {
	if plant.On(plant.TornEnd) && at.Partition > 0 {
		marker.Commit = false
	}
	_, err := m.order(ctx, at, marker)
	code, _ := lookUp(err)
	switch code {
	case kerr.UnknownTopicOrPartition.Code:
		return nil // deleted, with all that there was to end
	case kerr.InvalidProducerEpoch.Code, kerr.TransactionCoordinatorFenced.Code:
		// Somebody went further here already; to go on trying would never end.
		m.Logger.Error("a transaction marker is refused by its partition", "topic", at.Topic, "partition", at.Partition,
			"producer_id", marker.ProducerID, "producer_epoch", marker.ProducerEpoch, "err", err)
		return nil
	}
	return err
}

// order gives a marker its place in the log of its partition. The function that it returns waits until the marker is durable.
func (m *Markers) order(ctx context.Context, at base.TopicPartition, k txn.Marker) (durable func(context.Context) error, err error) {
	topic, ok := m.Metadata.Image().Topic(at.Topic)
	if !ok || at.Partition < 0 || int(at.Partition) >= len(topic.Partitions) {
		return nil, errUnknownPartition
	}
	if topic.Name == group.Topic {
		return m.orderInGroups(ctx, at.Partition, k)
	}
	p, ok := m.Engine.Partition(base.TopicIDPartition{ID: topic.ID, Partition: at.Partition})
	if !ok {
		return nil, errPartitionOffline
	}
	done, err := p.AppendMarker(ctx, storage.Marker(k), time.Now().UnixMilli())
	if errors.Is(err, storage.ErrDeleted) {
		return nil, errUnknownPartition
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return m.Engine.Wait(ctx, done.Sequence) }, nil
}

// orderForClient is order for a marker that a client sends. While the memory for groups is used up it gets none into __consumer_offsets, where each
// producer's is remembered: a client could name producers without end. The transaction coordinator's own end what is open, and are always taken.
func (m *Markers) orderForClient(ctx context.Context, at base.TopicPartition, k txn.Marker) (durable func(context.Context) error, err error) {
	if at.Topic == group.Topic && m.Groups.Full() {
		return nil, coordinator.ErrUnavailable
	}
	return m.order(ctx, at, k)
}

// orderInGroups is order for __consumer_offsets, to which only the group coordinator appends.
func (m *Markers) orderInGroups(ctx context.Context, partition int32, k txn.Marker) (durable func(context.Context) error, err error) {
	ended := m.Groups.EndTxn(partition, group.Marker(k))
	code, err := ended.Applied(ctx)
	if err == nil && code != nil {
		err = &refusal{code: code, text: code.Description}
	}
	if err != nil {
		return nil, fmt.Errorf("end the transaction in %s-%d: %w", group.Topic, partition, err)
	}
	return func(ctx context.Context) error {
		_, err := ended.Wait(ctx)
		return err
	}, nil
}

// codeErr is the error that stands for a code of a state machine, nil for none.
func codeErr(code *kerr.Error, err error) error {
	if err == nil && code != nil {
		return &refusal{code: code, text: code.Description}
	}
	return err
}

// busy reports whether a coordinator's refusal is a temporary one, that its clients would wait out.
func busy(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return r.code == kerr.ConcurrentTransactions || r.code == kerr.CoordinatorNotAvailable
	}
	return errors.Is(err, coordinator.ErrNotCoordinator) || errors.Is(err, coordinator.ErrLoading) ||
		errors.Is(err, coordinator.ErrUnavailable) || errors.Is(err, coordinator.ErrClosed)
}
