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

// producerTable holds a partition's idempotent producers. The zero value is empty and costs nothing. It is not safe for
// concurrent use.
//
// A partition has two: one as of its end, against which appends are checked, and one as of its flushed offset, which is
// what a checkpoint stores. Both are fed by apply alone, in offset order, so that replay yields the same state.
type producerTable struct {
	byID map[base.ProducerID]*producer
}

// check decides about a batch of an idempotent producer as Kafka does (ProducerAppendInfo, KIP-98): nil, nil = it is the
// next one; a batch = it was appended before, there.
func (t *producerTable) check(h record.Header, origin Origin) (*producerBatch, error) {
	s, known := t.byID[h.ProducerID]
	if !known {
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
		return
	}
	s := t.byID[h.ProducerID]
	if s == nil {
		if t.byID == nil {
			t.byID = make(map[base.ProducerID]*producer)
		}
		s = &producer{epoch: h.ProducerEpoch}
		t.byID[h.ProducerID] = s
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

// expire forgets the producers whose last batch is older than expiry at now, by the batches' own timestamps.
func (t *producerTable) expire(now time.Time, expiry time.Duration) {
	before := now.Add(-expiry).UnixMilli()
	for id, s := range t.byID {
		if s.lastTimestamp <= before {
			delete(t.byID, id)
		}
	}
	if len(t.byID) == 0 {
		t.byID = nil
	}
}

// highest is the highest producer id, or NoProducerID.
func (t *producerTable) highest() base.ProducerID {
	highest := base.NoProducerID
	for id := range t.byID {
		highest = max(highest, id)
	}
	return highest
}

// clone is a deep copy.
func (t *producerTable) clone() producerTable {
	if len(t.byID) == 0 {
		return producerTable{}
	}
	c := producerTable{byID: make(map[base.ProducerID]*producer, len(t.byID))}
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

// states lists the producers for DescribeProducers, without those that have expired at now.
func (t *producerTable) states(now time.Time, expiry time.Duration) []ProducerState {
	before := now.Add(-expiry).UnixMilli()
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
