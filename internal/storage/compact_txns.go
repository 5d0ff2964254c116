package storage

import (
	"cmp"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
)

// abortedTxns are those with records or markers in a part of a log.
type abortedTxns struct {
	byProducer map[base.ProducerID][]abortedTxn // by marker
}

type abortedTxn struct {
	AbortedTxn
	seen bool // a batch of it was met in this round
}

// collectAborted lists the aborted transactions of a partition whose markers are at or after from. The segments up to the last
// stable offset must all be among segments.
func (p *Partition) collectAborted(from base.Offset) (abortedTxns, error) {
	p.mu.Lock()
	indexed := withAborted(p.segments)
	recent := slices.Clone(p.aborted)
	p.mu.Unlock()
	all := abortedTxns{byProducer: map[base.ProducerID][]abortedTxn{}}
	last := base.NoOffset
	take := func(a AbortedTxn) bool {
		if a.LastOffset > last {
			last = a.LastOffset
			all.byProducer[a.ProducerID] = append(all.byProducer[a.ProducerID], abortedTxn{AbortedTxn: a})
		}
		return true
	}
	for _, s := range indexed {
		if err := s.seg.Aborted(from, take); err != nil {
			return all, p.noteDamage(s.ref, err)
		}
	}
	for _, a := range recent {
		take(a)
	}
	return all, nil
}

// of finds the aborted transaction that a batch belongs to, as data or as marker; nil if there is none.
func (a *abortedTxns) of(h record.Header) *abortedTxn {
	txns := a.byProducer[h.ProducerID]
	i, _ := slices.BinarySearchFunc(txns, h.BaseOffset, func(t abortedTxn, at base.Offset) int { return cmp.Compare(t.LastOffset, at) })
	if i < len(txns) && txns[i].FirstOffset <= h.BaseOffset {
		return &txns[i]
	}
	return nil
}

// txnRound follows the transactions through the batches of a round, from the log's start on, as Kafka's CleanedTransactionMetadata does.
type txnRound struct {
	aborted   abortedTxns
	committed map[base.ProducerID]bool // have a batch since their last marker
}

// discards decides about a batch by its transaction alone. For data it says that the transaction was aborted; for a marker that none of its
// transaction's batches is left.
func (r *txnRound) discards(h record.Header, m marker) bool {
	switch {
	case h.Attributes.Control() && !m.ends:
		return h.RecordCount == 0 // a marker that a former round has emptied; any other control batch stays
	case h.Attributes.Control():
		if txn := r.aborted.of(h); txn != nil && !m.commit {
			delete(r.committed, h.ProducerID)
			return !txn.seen
		}
		seen := r.committed[h.ProducerID]
		delete(r.committed, h.ProducerID)
		return !seen
	case !h.Attributes.Transactional():
		return false
	}
	if txn := r.aborted.of(h); txn != nil {
		txn.seen = true
		return true
	}
	r.committed[h.ProducerID] = true
	return false
}

// lastOfProducer is what must stay in the log of a producer that is active: its last batch, which has its sequence, or without one its
// last marker, which has its epoch.
type lastOfProducer struct {
	offset base.Offset // of the last record; NoOffset = there is no batch of its epoch
	epoch  base.ProducerEpoch
}

// activeProducers lists them as of the log's end.
func (p *Partition) activeProducers() map[base.ProducerID]lastOfProducer {
	p.mu.Lock()
	defer p.mu.Unlock()
	active := make(map[base.ProducerID]lastOfProducer, len(p.producers.byID))
	for id, s := range p.producers.byID {
		if !p.producers.expired(s) {
			active[id] = lastOfProducer{s.last().lastOffset, s.epoch}
		}
	}
	return active
}

// holds reports whether the batch is the one to stay.
func (l lastOfProducer) holds(h record.Header) bool {
	if l.offset != base.NoOffset {
		return h.LastOffset() == l.offset
	}
	return h.Attributes.Control() && h.ProducerEpoch == l.epoch
}
