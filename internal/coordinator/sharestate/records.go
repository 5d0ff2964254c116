package sharestate

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/share"
)

// Types of the records in __share_group_state, as Apache Kafka 4.3 writes them; all values have version 0. See docs/formats/share.md.
const (
	keySnapshot = 0
	keyUpdate   = 1
)

// notCounted is the delivery-complete count of a share partition where nobody counted. It is not written.
const notCounted = -1

// errRecord marks a record that cannot be read.
var errRecord = errors.New("malformed share state record")

func encodeKey(recordType int16, k share.Key) []byte {
	b := kbin.AppendInt16(nil, recordType)
	b = kbin.AppendString(b, k.Group)
	b = kbin.AppendUuid(b, k.Topic)
	return kbin.AppendInt32(b, k.Partition)
}

func (s *state) encode() []byte {
	b := make([]byte, 0, 48+20*len(s.Batches))
	b = kbin.AppendInt16(b, 0)
	b = kbin.AppendInt32(b, s.snapshotEpoch)
	b = kbin.AppendInt32(b, s.StateEpoch)
	b = kbin.AppendInt32(b, int32(s.LeaderEpoch))
	b = kbin.AppendInt64(b, int64(s.Start))
	b = kbin.AppendInt64(b, s.created)
	b = kbin.AppendInt64(b, s.written)
	b = appendBatches(b, s.Batches)
	return appendCount(b, s.DeliveryCompleteCount)
}

func encodeUpdate(snapshotEpoch int32, w share.Persisted) []byte {
	b := make([]byte, 0, 32+20*len(w.Batches))
	b = kbin.AppendInt16(b, 0)
	b = kbin.AppendInt32(b, snapshotEpoch)
	b = kbin.AppendInt32(b, int32(w.LeaderEpoch))
	b = kbin.AppendInt64(b, int64(w.Start))
	b = appendBatches(b, w.Batches)
	return appendCount(b, w.DeliveryCompleteCount)
}

func appendBatches(b []byte, batches []share.StateBatch) []byte {
	b = kbin.AppendCompactArrayLen(b, len(batches))
	for _, s := range batches {
		b = kbin.AppendInt64(b, int64(s.First))
		b = kbin.AppendInt64(b, int64(s.Last))
		b = kbin.AppendInt8(b, int8(s.State))
		b = kbin.AppendInt16(b, s.DeliveryCount)
		b = append(b, 0) // no tagged fields
	}
	return b
}

// appendCount ends a value with its tagged fields: tag 0 is the delivery-complete count.
func appendCount(b []byte, n int32) []byte {
	if n == notCounted {
		return append(b, 0)
	}
	return kbin.AppendInt32(append(b, 1, 0, 4), n)
}

// Replay implements coordinator.Machine.
func (m *Machine) Replay(r coordinator.Record) error {
	if r.Control {
		return nil
	}
	k := kbin.Reader{Src: r.Key}
	recordType := k.Int16()
	if len(r.Key) >= 2 && recordType != keySnapshot && recordType != keyUpdate {
		return fmt.Errorf("%w: key version %d", coordinator.ErrUnknownRecord, recordType)
	}
	key := share.Key{Group: k.String(), Topic: k.Uuid(), Partition: k.Int32()}
	if err := k.Complete(); err != nil {
		return fmt.Errorf("%w: key: %w", errRecord, err)
	}
	if r.Value == nil {
		m.forget(key)
		return nil
	}
	if len(r.Value) < 2 || binary.BigEndian.Uint16(r.Value) != 0 {
		return fmt.Errorf("%w: value of %d bytes without version 0", errRecord, len(r.Value))
	}
	v := kbin.Reader{Src: r.Value[2:]}
	if recordType == keySnapshot {
		s := &state{at: r.Offset, snapshotEpoch: v.Int32()}
		s.StateEpoch, s.LeaderEpoch, s.Start = v.Int32(), base.LeaderEpoch(v.Int32()), base.Offset(v.Int64())
		s.created, s.written = v.Int64(), v.Int64()
		batches, count, err := readBatches(&v)
		if err != nil {
			return err
		}
		s.Batches, s.DeliveryCompleteCount = batches, count
		m.put(key, s)
		return nil
	}
	old := m.states[key]
	if old == nil {
		return nil // its snapshot was pruned, so a later one or a tombstone follows
	}
	s := *old
	_ = v.Int32() // the snapshot's epoch
	if epoch := base.LeaderEpoch(v.Int32()); epoch != base.NoLeaderEpoch {
		s.LeaderEpoch = epoch
	}
	if start := base.Offset(v.Int64()); start != base.NoOffset {
		s.Start = start
	}
	changes, count, err := readBatches(&v)
	if err != nil {
		return err
	}
	s.Batches, s.DeliveryCompleteCount = combine(s.Batches, changes, s.Start), count
	s.updates++
	m.put(key, &s)
	return nil
}

// readBatches reads what both kinds of values end with. It allocates as bytes are there, not as the length says.
func readBatches(v *kbin.Reader) ([]share.StateBatch, int32, error) {
	var batches []share.StateBatch
	for n := v.CompactArrayLen(); n > 0 && v.Ok(); n-- {
		b := share.StateBatch{First: base.Offset(v.Int64()), Last: base.Offset(v.Int64()), State: share.State(v.Int8()), DeliveryCount: v.Int16()}
		skipTags(v, nil)
		if v.Ok() {
			batches = append(batches, b)
		}
	}
	count := int32(notCounted)
	skipTags(v, func(field *kbin.Reader) { count = field.Int32() })
	if err := v.Complete(); err != nil {
		return nil, 0, fmt.Errorf("%w: value: %w", errRecord, err)
	}
	for _, b := range batches {
		if b.First < 0 || b.Last < b.First {
			return nil, 0, fmt.Errorf("%w: a batch from %d to %d", errRecord, b.First, b.Last)
		}
	}
	return disjoint(batches), count, nil
}

// skipTags reads the tagged fields that end a structure; tag 0 is given to zero, if any.
func skipTags(v *kbin.Reader, zero func(field *kbin.Reader)) {
	for n := v.Uvarint(); n > 0 && v.Ok(); n-- {
		tag := v.Uvarint()
		field := kbin.Reader{Src: v.Span(int(v.Uvarint()))}
		if tag == 0 && zero != nil && v.Ok() {
			if zero(&field); !field.Ok() {
				v.Span(len(v.Src) + 1) // so that the record is one that cannot be read
			}
		}
	}
}
