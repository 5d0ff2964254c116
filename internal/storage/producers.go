package storage

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
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

// producer is what is known of one producer id. Its batches are of its epoch, oldest first, and contiguous in sequence; there are
// none after a marker that began the epoch.
type producer struct {
	epoch            base.ProducerEpoch
	coordinatorEpoch int32 // of its last marker, -1 before the first
	lastTimestamp    int64
	txnFirst         base.Offset // of the open transaction, NoOffset without one
	batches          []producerBatch
}

func newProducer(epoch base.ProducerEpoch) *producer {
	return &producer{epoch: epoch, coordinatorEpoch: -1, txnFirst: base.NoOffset}
}

// last is the newest batch; before the first one with nothing but -1 in it.
func (s *producer) last() producerBatch {
	if len(s.batches) == 0 {
		return producerBatch{firstSequence: -1, lastSequence: -1, lastOffset: base.NoOffset, timestamp: base.NoTimestamp}
	}
	return s.batches[len(s.batches)-1]
}

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
	open   []openTxn // by first offset
}

// known finds a producer that has not expired.
func (t *producerTable) known(id base.ProducerID) *producer {
	s := t.byID[id]
	if s == nil || t.expired(s) {
		return nil
	}
	return s
}

// expired reports whether a producer may be forgotten: never one with an open transaction.
func (t *producerTable) expired(s *producer) bool {
	return s.txnFirst == base.NoOffset && t.clock-s.lastTimestamp >= t.expiry.Milliseconds()
}

// duplicate finds the batch that h repeats, nil if it repeats none.
func (t *producerTable) duplicate(h record.Header) *producerBatch {
	s := t.known(h.ProducerID)
	if s == nil || s.epoch != h.ProducerEpoch {
		return nil
	}
	for i := range s.batches {
		if b := &s.batches[i]; b.firstSequence == h.BaseSequence && b.lastSequence == h.LastSequence() {
			if plant.On(plant.DuplicateElsewhere) {
				return &s.batches[0]
			}
			return b
		}
	}
	return nil
}

// check decides about a batch of an idempotent producer as Kafka does (ProducerAppendInfo, KIP-98): nil, nil = it is the
// next one; a batch = it was appended before, there.
func (t *producerTable) check(h record.Header, origin Origin) (*producerBatch, error) {
	s := t.known(h.ProducerID)
	if s == nil {
		return nil, nil // nothing is known, so any sequence may be the next
	}
	if plant.On(plant.AcceptDuplicates) {
		return nil, nil
	}
	if origin == Client {
		if b := t.duplicate(h); b != nil {
			return b, nil
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

// checkMarker decides about a marker as Kafka does. With transaction version 2 a marker's epoch is above that of the transaction that
// it ends; one of the same epoch may only be repeated, after the end.
func (t *producerTable) checkMarker(h record.Header, m marker, transactionVersion int16) error {
	s := t.known(h.ProducerID)
	if s == nil {
		return nil
	}
	repeated := h.ProducerEpoch == s.epoch && s.txnFirst == base.NoOffset
	if h.ProducerEpoch < s.epoch || transactionVersion >= 2 && h.ProducerEpoch == s.epoch && !repeated {
		return fmt.Errorf("%w: producer %d has epoch %d, the marker %d (transaction version %d)",
			ErrInvalidProducerEpoch, h.ProducerID, s.epoch, h.ProducerEpoch, transactionVersion)
	}
	if m.coordinatorEpoch < s.coordinatorEpoch {
		return fmt.Errorf("%w: producer %d has a marker of coordinator epoch %d, this one is of %d",
			ErrCoordinatorFenced, h.ProducerID, s.coordinatorEpoch, m.coordinatorEpoch)
	}
	return nil
}

// follows reports whether next is the sequence after last: they wrap from the greatest int32 to 0.
func follows(last, next int32) bool {
	return int64(next) == int64(last)+1 || next == 0 && last == math.MaxInt32
}

// logged is a batch as the producer table sees it.
type logged struct {
	record.Header
	marker marker // where it is one
	pos    int64  // in its segment
}

// apply remembers a batch that was appended. It decides nothing: what is in the log is in order. A marker ends the transaction that it
// returns, if one is open.
func (t *producerTable) apply(h logged, group wal.Sequence) (ended openTxn, ok bool) {
	if !h.HasProducer() || h.Attributes.Control() && !h.marker.ends {
		t.clock = max(t.clock, h.MaxTimestamp)
		return openTxn{}, false
	}
	s := t.known(h.ProducerID)
	t.clock = max(t.clock, h.MaxTimestamp)
	if s == nil {
		if t.byID == nil {
			t.byID = make(map[base.ProducerID]*producer)
		}
		s = newProducer(h.ProducerEpoch)
		t.byID[h.ProducerID] = s
		t.bound(h.ProducerID)
	}
	if h.marker.ends {
		return t.applyMarker(s, h)
	}
	if h.Attributes.Transactional() && s.txnFirst == base.NoOffset {
		s.txnFirst = h.BaseOffset
		t.open = append(t.open, openTxn{producer: h.ProducerID, first: h.BaseOffset, pos: int32(h.pos)})
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
	return openTxn{}, false
}

// applyMarker remembers the end of s's transaction.
func (t *producerTable) applyMarker(s *producer, h logged) (ended openTxn, ok bool) {
	if s.epoch != h.ProducerEpoch {
		s.epoch, s.batches = h.ProducerEpoch, nil
	}
	s.coordinatorEpoch, s.lastTimestamp = h.marker.coordinatorEpoch, h.MaxTimestamp
	if s.txnFirst == base.NoOffset {
		return openTxn{}, false
	}
	i, ok := t.openAt(s.txnFirst)
	if !ok {
		panic(fmt.Sprintf("storage: the transaction of producer %d at offset %d is not among the open ones", h.ProducerID, s.txnFirst))
	}
	ended = t.open[i]
	t.open = slices.Delete(t.open, i, i+1)
	s.txnFirst = base.NoOffset
	return ended, true
}

// openAt finds the place of the open transaction that begins at first.
func (t *producerTable) openAt(first base.Offset) (i int, ok bool) {
	return slices.BinarySearchFunc(t.open, first, func(o openTxn, first base.Offset) int { return cmp.Compare(o.first, first) })
}

// bound forgets producers when there are too many: the expired ones, and then a tenth, those that appended longest ago. It keeps the
// newcomer and those with an open transaction, of which the transaction coordinator allows only so many.
func (t *producerTable) bound(newcomer base.ProducerID) {
	if len(t.byID) <= maxProducers {
		return
	}
	t.sweep()
	if len(t.byID) <= maxProducers {
		return
	}
	ids := t.ids()
	slices.SortFunc(ids, func(a, b base.ProducerID) int {
		return cmp.Compare(t.byID[a].last().lastOffset, t.byID[b].last().lastOffset)
	})
	forget := ids[:0]
	for _, id := range ids {
		if id != newcomer && t.byID[id].txnFirst == base.NoOffset {
			forget = append(forget, id)
		}
	}
	for _, id := range forget[:min(len(forget), maxProducers/10)] {
		delete(t.byID, id)
	}
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
	c := producerTable{expiry: t.expiry, clock: t.clock, open: slices.Clone(t.open)}
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
		if s.lastTimestamp <= before && s.txnFirst == base.NoOffset {
			continue
		}
		states = append(states, ProducerState{
			ID: id, Epoch: s.epoch, LastSequence: s.last().lastSequence, LastTimestamp: s.lastTimestamp,
			CoordinatorEpoch: s.coordinatorEpoch, TxnStartOffset: s.txnFirst,
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
			OffsetDelta: last.offsetDelta, Timestamp: s.lastTimestamp, CoordinatorEpoch: s.coordinatorEpoch, CurrentTxnFirst: s.txnFirst,
		})
	}
	return entries
}
