package storage

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// AbortedTxn is a transaction that was aborted: who, and from its first record to its marker.
type AbortedTxn = segment.AbortedTxn

// Marker ends a producer's transaction in one partition (KIP-98).
type Marker struct {
	ProducerID base.ProducerID
	// ProducerEpoch is the producer's epoch, or with transaction version 2 the one that it has from now on (KIP-890).
	ProducerEpoch base.ProducerEpoch
	Commit        bool
	// CoordinatorEpoch fences the coordinators of former times.
	CoordinatorEpoch int32
	// TransactionVersion is the transaction.version that the transaction was run with. From 2 on a marker must have an epoch
	// above that of the records, so that one that is late or repeated ends no later transaction (KIP-1228).
	TransactionVersion int16
}

// marker is what the log says of a transaction's end. The zero marker is that of a control batch of another kind.
type marker struct {
	ends             bool
	commit           bool
	coordinatorEpoch int32
}

// markerOf reads what a control batch says. What it cannot read ends no transaction.
func markerOf(batch []byte) marker {
	for r, err := range record.Records(batch, record.DefaultDecompressLimit) {
		if err != nil {
			return marker{}
		}
		key, err := record.ParseControlKey(r.Key)
		if err != nil || key.Type != record.ControlAbort && key.Type != record.ControlCommit {
			return marker{}
		}
		end, err := record.ParseEndTxn(r.Value)
		if err != nil {
			return marker{}
		}
		return marker{ends: true, commit: key.Type == record.ControlCommit, coordinatorEpoch: end.CoordinatorEpoch}
	}
	return marker{}
}

// openTxn is a transaction that has neither been committed nor aborted.
type openTxn struct {
	producer base.ProducerID
	first    base.Offset // of its first record
	pos      int32       // of the batch of its first record, in its segment
}

// endedTxn is a transaction whose end is not durable yet, so that for readers it is still open.
type endedTxn struct {
	openTxn
	marker base.Offset
}

// endLocked takes note of a transaction that a marker at offset ended. The table of producers no longer has it.
func (p *Partition) endLocked(txn openTxn, m marker, at base.Offset) {
	if at >= p.hw && !plant.On(plant.LastStableEarly) {
		p.ended = append(p.ended, endedTxn{txn, at})
	}
	if m.commit {
		return
	}
	stable := at + 1
	if len(p.producers.open) > 0 {
		stable = p.producers.open[0].first
	}
	p.aborted = append(p.aborted, AbortedTxn{ProducerID: txn.producer, FirstOffset: txn.first, LastOffset: at, LastStable: stable})
}

// settleTxnsLocked forgets the transactions whose end has become durable.
func (p *Partition) settleTxnsLocked() {
	p.ended = slices.DeleteFunc(p.ended, func(t endedTxn) bool { return t.marker < p.hw })
}

// stableLocked is the last stable offset and its stream position: below it no transaction is open, and all ends of transactions are
// durable.
func (p *Partition) stableLocked() (base.Offset, int64) {
	if len(p.producers.open) == 0 && len(p.ended) == 0 || plant.On(plant.ReadOpen) {
		return p.hw, p.hwPos
	}
	first := openTxn{first: p.hw}
	if len(p.producers.open) > 0 && p.producers.open[0].first < first.first {
		first = p.producers.open[0]
	}
	for _, t := range p.ended {
		if t.first < first.first {
			first = t.openTxn
		}
	}
	switch {
	case first.first == p.hw:
		return p.hw, p.hwPos
	case first.first <= p.logStart: // its first records were deleted
		return p.logStart, p.segments[0].start
	}
	i, found := slices.BinarySearchFunc(p.segments, first.first, func(s *segmentRef, at base.Offset) int { return cmp.Compare(s.base, at) })
	if !found {
		i--
	}
	return first.first, p.segments[max(i, 0)].start + int64(first.pos)
}

// Aborted lists the transactions that were aborted and have records in s, which was read from offset from: a reader of committed
// records must leave those out. It may list some that have none.
//
// Errors: *DamageError, ErrOffsetOutOfRange if the segments were deleted meanwhile, ErrDeleted.
func (p *Partition) Aborted(s Slice, from base.Offset) ([]AbortedTxn, error) {
	if s.Len() == 0 {
		return nil, nil
	}
	p.mu.Lock()
	segments, known := p.refsFromLocked(s.pos, s.layout)
	indexed := withAborted(segments)
	recent := slices.Clone(p.aborted)
	p.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("aborted transactions of %v from %d: %w", p, from, p.missingAt(s.pos))
	}
	if len(recent)+len(indexed) == 0 {
		return nil, nil
	}
	upto, err := p.endOffset(s)
	if err != nil {
		return nil, fmt.Errorf("aborted transactions of %v from %d: %w", p, from, err)
	}
	var found []AbortedTxn
	last, more := base.NoOffset, true
	take := func(a AbortedTxn) bool {
		if a.LastOffset > last && a.LastOffset >= from {
			last = a.LastOffset
			if a.FirstOffset < upto {
				found = append(found, a)
			}
			more = a.LastStable < upto // otherwise those aborted later began after upto
		}
		return more
	}
	for _, s := range indexed {
		if !more {
			break
		}
		if err := s.seg.Aborted(from, take); err != nil {
			return nil, fmt.Errorf("aborted transactions of %v from %d: %w", p, from, p.noteDamage(s.ref, err))
		}
	}
	for _, a := range recent {
		if more {
			take(a)
		}
	}
	return found, nil
}

// abortedIn is a segment in whose flushed part transactions were aborted.
type abortedIn struct {
	ref *segmentRef
	seg *segment.Segment
}

// withAborted lists those of some segments. The partition's lock is held, because the one that is being written may just be made.
func withAborted(segments []*segmentRef) (indexed []abortedIn) {
	for _, ref := range segments {
		if ref.seg != nil && ref.seg.Current().TxnIndex.Entries > 0 {
			indexed = append(indexed, abortedIn{ref, ref.seg})
		}
	}
	return indexed
}

// endOffset is the offset after the last batch of s.
func (p *Partition) endOffset(s Slice) (base.Offset, error) {
	end := s.pos + s.n
	w := &walker{p: p, pos: s.pos, limit: end, stop: end, layout: s.layout}
	defer w.close()
	w.skipTo(end - 1)
	for {
		h, _, err := w.next()
		if err != nil {
			return 0, err
		}
		if w.pos >= end {
			return h.LastOffset() + 1, nil
		}
	}
}

// AppendMarker orders a marker after everything appended before, which ends the producer's transaction if one is open here. It is
// durable once Engine.Wait(Sequence) has returned nil. now is the marker's timestamp, in ms.
//
// Errors: ErrInvalidProducerEpoch, ErrCoordinatorFenced, and those of Append.
func (p *Partition) AppendMarker(ctx context.Context, m Marker, now int64) (Appended, error) {
	kind := record.ControlAbort
	if m.Commit {
		kind = record.ControlCommit
	}
	batch := record.EndTxnMarker(record.Producer{ID: m.ProducerID, Epoch: m.ProducerEpoch}, kind, m.CoordinatorEpoch, now)
	h, err := record.ParseHeader(batch)
	if err != nil {
		return Appended{}, fmt.Errorf("append to %v: %w", p, err)
	}
	return p.Append(ctx, batch, h, AppendOptions{Origin: Coordinator, TransactionVersion: m.TransactionVersion})
}

// Verification is what an append needs that begins a transaction in a partition: proof that between asking the coordinator and
// the append the producer's transaction has not ended here (KIP-890). The zero Verification proves nothing.
type Verification struct{ state *verification }

// verification is one that is under way.
type verification struct {
	epoch          base.ProducerEpoch
	lowestSequence int32 // of the batches that asked for it
	epochBumps     bool  // the client's protocol bumps the epoch with each transaction
}

// maxVerifications bounds what a partition remembers of producers that asked for a transaction and never appended to it.
const maxVerifications = 10_000

// Verify begins what must be done before a transactional batch may be appended. ok is true if the producer's transaction is known
// here, so that there is nothing to verify. Otherwise the caller asks the transaction coordinator, and then appends with the
// Verification that this returned. epochBumps says that the client's protocol is that of KIP-890.
func (p *Partition) Verify(h record.Header, epochBumps bool) (v Verification, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.producers.known(h.ProducerID); s != nil && s.txnFirst != base.NoOffset && s.epoch == h.ProducerEpoch {
		return Verification{}, true
	}
	if p.producers.duplicate(h) != nil {
		return Verification{}, true // of a transaction that has ended
	}
	s := p.verifying[h.ProducerID]
	if s == nil {
		for id := range p.verifying {
			if len(p.verifying) < maxVerifications {
				break
			}
			delete(p.verifying, id)
		}
		if p.verifying == nil {
			p.verifying = make(map[base.ProducerID]*verification)
		}
		s = &verification{epoch: h.ProducerEpoch, lowestSequence: h.BaseSequence, epochBumps: epochBumps}
		p.verifying[h.ProducerID] = s
	}
	if h.ProducerEpoch > s.epoch {
		s.epoch, s.lowestSequence = h.ProducerEpoch, h.BaseSequence
	} else if h.ProducerEpoch == s.epoch {
		s.lowestSequence = min(s.lowestSequence, h.BaseSequence)
	}
	return Verification{s}, false
}

// settleVerificationLocked ends the verification of a producer whose batch or marker has been appended. A marker that only ends the transaction
// before the one that is verified leaves it be: where every end raises the epoch, that of the marker is the next transaction's.
func (p *Partition) settleVerificationLocked(h record.Header) {
	if s := p.verifying[h.ProducerID]; s != nil && !(s.epochBumps && h.Attributes.Control() && h.ProducerEpoch <= s.epoch) {
		delete(p.verifying, h.ProducerID)
	}
}

// checkVerifiedLocked decides about a transactional batch of a client whose transaction is not known here.
func (p *Partition) checkVerifiedLocked(h record.Header, v Verification) error {
	s := v.state
	switch {
	case s == nil || p.verifying[h.ProducerID] != s:
		return fmt.Errorf("%w: the batch of producer %d, epoch %d, is of no transaction that is known to be open", ErrInvalidTxnState, h.ProducerID, h.ProducerEpoch)
	case s.epochBumps && h.BaseSequence != 0 && p.producers.known(h.ProducerID) == nil:
		return fmt.Errorf("%w: producer %d is not known, its first sequence is %d", ErrOutOfOrderSequence, h.ProducerID, h.BaseSequence)
	case h.BaseSequence > s.lowestSequence:
		return fmt.Errorf("%w: producer %d: sequence %d, while %d is not there yet", ErrOutOfOrderSequence, h.ProducerID, h.BaseSequence, s.lowestSequence)
	}
	return nil
}

// checkProducerLocked decides about a batch with a producer id: a batch = it was appended before, there.
func (p *Partition) checkProducerLocked(batch []byte, h record.Header, o AppendOptions) (*producerBatch, error) {
	if h.Attributes.Control() {
		return nil, p.producers.checkMarker(h, markerOf(batch), o.TransactionVersion)
	}
	before, err := p.producers.check(h, o.Origin)
	if before != nil || err != nil || o.Origin != Client {
		return before, err
	}
	s := p.producers.known(h.ProducerID)
	open := s != nil && s.txnFirst != base.NoOffset
	switch {
	case !h.Attributes.Transactional() && open:
		return nil, fmt.Errorf("%w: producer %d has a transaction open, and the batch is not of it", ErrInvalidTxnState, h.ProducerID)
	case h.Attributes.Transactional() && !(open && s.epoch == h.ProducerEpoch):
		return nil, p.checkVerifiedLocked(h, o.Verified)
	}
	return nil, nil
}
