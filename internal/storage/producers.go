package storage

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// producerWindow is how many batches of a producer are remembered, which is how many a client may have in flight (KIP-98).
const producerWindow = 5

// producerBatch is one remembered batch of a producer.
type producerBatch struct {
	firstSequence, lastSequence int32
	lastOffset                  base.Offset
	offsetDelta                 int32 // lastOffset minus the batch's base offset
	timestamp                   int64 // maximum of the batch, ms
	group                       wal.Sequence
}

func (b producerBatch) baseOffset() base.Offset { return b.lastOffset - base.Offset(b.offsetDelta) }

// producer is what is known of one producer id. Its batches are of its epoch, oldest first, and contiguous in sequence.
type producer struct {
	epoch         base.ProducerEpoch
	lastTimestamp int64
	batches       []producerBatch
}

func (s *producer) last() producerBatch { return s.batches[len(s.batches)-1] }

// maxProducers bounds the producers that a partition remembers, whatever clients do. Beyond it those that have been silent for
// longest are forgotten.
const maxProducers = 50_000

// producerTable holds a partition's idempotent producers. A table without any costs nothing. It is not safe for concurrent use.
//
// A partition has two: one as of its end, against which appends are checked, and one as of its flushed offset, which is
// what a checkpoint stores. Both are fed by apply alone, in offset order, and time is that of the batches' timestamps, so a
// table is a function of the log, and replay yields the same.
type producerTable struct {
	expiry time.Duration // producer.id.expiration.ms
	clock  int64         // largest timestamp of any batch, ms
	byID   map[base.ProducerID]*producer
}

// known finds a producer that has not expired.
func (t *producerTable) known(id base.ProducerID) *producer {
	s := t.byID[id]
	if s == nil || t.expired(s) {
		return nil
	}
	return s
}

func (t *producerTable) expired(s *producer) bool {
	return t.clock-s.lastTimestamp >= t.expiry.Milliseconds()
}

// check decides about a batch of an idempotent producer as Kafka does (ProducerAppendInfo, KIP-98): nil, nil = it is the
// next one; a batch = it was appended before, there.
func (t *producerTable) check(h record.Header, origin Origin) (*producerBatch, error) {
	s := t.known(h.ProducerID)
	if s == nil {
		return nil, nil // nothing is known, so any sequence may be the next
	}
	if origin == Client && s.epoch == h.ProducerEpoch {
		for i := range s.batches {
			if b := &s.batches[i]; b.firstSequence == h.BaseSequence && b.lastSequence == h.LastSequence() {
				return b, nil
			}
		}
	}
	if h.ProducerEpoch < s.epoch {
		return nil, fmt.Errorf("%w: producer %d has epoch %d, the batch %d", ErrInvalidProducerEpoch, h.ProducerID, s.epoch, h.ProducerEpoch)
	}
	if origin != Client {
		return nil, nil
	}
	if h.ProducerEpoch > s.epoch {
		if h.BaseSequence != 0 {
			return nil, fmt.Errorf("%w: producer %d begins epoch %d at sequence %d", ErrOutOfOrderSequence, h.ProducerID, h.ProducerEpoch, h.BaseSequence)
		}
		return nil, nil
	}
	if last := s.last().lastSequence; !follows(last, h.BaseSequence) {
		return nil, fmt.Errorf("%w: producer %d, epoch %d: sequence %d after %d", ErrOutOfOrderSequence, h.ProducerID, h.ProducerEpoch, h.BaseSequence, last)
	}
	return nil, nil
}

// follows reports whether next is the sequence after last: they wrap from the greatest int32 to 0.
func follows(last, next int32) bool {
	return int64(next) == int64(last)+1 || next == 0 && last == math.MaxInt32
}

// apply remembers a batch that was appended with the offsets in h. It decides nothing: what is in the log is in order.
func (t *producerTable) apply(h record.Header, group wal.Sequence) {
	if !h.HasProducer() || h.Attributes.Control() {
		t.clock = max(t.clock, h.MaxTimestamp)
		return
	}
	s := t.known(h.ProducerID)
	t.clock = max(t.clock, h.MaxTimestamp)
	if s == nil {
		if t.byID == nil {
			t.byID = make(map[base.ProducerID]*producer)
		}
		s = &producer{epoch: h.ProducerEpoch}
		t.byID[h.ProducerID] = s
		t.bound()
	}
	// A step in the sequence is a new epoch, or a producer that had expired here when the batch was appended.
	if s.epoch != h.ProducerEpoch || len(s.batches) > 0 && !follows(s.last().lastSequence, h.BaseSequence) {
		s.batches = s.batches[:0]
	}
	s.epoch = h.ProducerEpoch
	s.lastTimestamp = h.MaxTimestamp
	if len(s.batches) == producerWindow {
		s.batches = s.batches[:copy(s.batches, s.batches[1:])]
	}
	s.batches = append(s.batches, producerBatch{
		firstSequence: h.BaseSequence, lastSequence: h.LastSequence(),
		lastOffset: h.LastOffset(), offsetDelta: h.LastOffsetDelta,
		timestamp: h.MaxTimestamp, group: group,
	})
}

// bound forgets producers when there are too many: the expired ones, and then a tenth, those that appended longest ago.
func (t *producerTable) bound() {
	if len(t.byID) <= maxProducers {
		return
	}
	t.sweep()
	if len(t.byID) <= maxProducers {
		return
	}
	ids := t.ids()
	slices.SortFunc(ids, func(a, b base.ProducerID) int {
		return cmp.Compare(t.byID[a].lastOffset(), t.byID[b].lastOffset())
	})
	forget := ids[:0]
	for _, id := range ids {
		if len(t.byID[id].batches) > 0 { // not the newcomer
			forget = append(forget, id)
		}
	}
	for _, id := range forget[:maxProducers/10] {
		delete(t.byID, id)
	}
}

// lastOffset is the offset of the producer's last record, NoOffset before the first.
func (s *producer) lastOffset() base.Offset {
	if len(s.batches) == 0 {
		return base.NoOffset
	}
	return s.last().lastOffset
}

// sweep drops what has expired. It changes nothing that can be seen but the memory used.
func (t *producerTable) sweep() {
	for id, s := range t.byID {
		if t.expired(s) {
			delete(t.byID, id)
		}
	}
	if len(t.byID) == 0 {
		t.byID = nil
	}
}

// clone is a deep copy.
func (t *producerTable) clone() producerTable {
	c := producerTable{expiry: t.expiry, clock: t.clock}
	if len(t.byID) > 0 {
		c.byID = make(map[base.ProducerID]*producer, len(t.byID))
	}
	for id, s := range t.byID {
		copied := *s
		copied.batches = slices.Clone(s.batches)
		c.byID[id] = &copied
	}
	return c
}

// ids lists the producer ids in order.
func (t *producerTable) ids() []base.ProducerID {
	ids := make([]base.ProducerID, 0, len(t.byID))
	for id := range t.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// states lists the producers for DescribeProducers. As in Kafka those whose last batch is too old at now are not shown.
func (t *producerTable) states(now time.Time) []ProducerState {
	before := now.Add(-t.expiry).UnixMilli()
	states := make([]ProducerState, 0, len(t.byID))
	for id, s := range t.byID {
		if s.lastTimestamp <= before {
			continue
		}
		states = append(states, ProducerState{
			ID: id, Epoch: s.epoch, LastSequence: s.last().lastSequence, LastTimestamp: s.lastTimestamp,
			CoordinatorEpoch: -1, TxnStartOffset: base.NoOffset,
		})
	}
	slices.SortFunc(states, func(a, b ProducerState) int { return cmp.Compare(a.ID, b.ID) })
	return states
}

// snapshot is the table in the form of Kafka's producer snapshots.
func (t *producerTable) snapshot() []segment.ProducerEntry {
	entries := make([]segment.ProducerEntry, 0, len(t.byID))
	for _, id := range t.ids() {
		s := t.byID[id]
		last := s.last()
		entries = append(entries, segment.ProducerEntry{
			ProducerID: id, ProducerEpoch: s.epoch, LastSequence: last.lastSequence, LastOffset: last.lastOffset,
			OffsetDelta: last.offsetDelta, Timestamp: last.timestamp, CoordinatorEpoch: -1, CurrentTxnFirst: base.NoOffset,
		})
	}
	return entries
}
