package txn

import (
	"maps"
	"math"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/plant"
)

// Producer is who a transactional request is from.
type Producer struct {
	TransactionalID string
	ID              base.ProducerID
	Epoch           base.ProducerEpoch
}

// Outcome answers InitProducerId and EndTxn: a code, and the producer id and epoch from now on where there is none.
type Outcome struct {
	Code  *kerr.Error
	ID    base.ProducerID
	Epoch base.ProducerEpoch
	// needsID asks for the request again with a producer id that nobody has.
	needsID bool
}

func refused(code *kerr.Error) Outcome {
	return Outcome{Code: code, ID: base.NoProducerID, Epoch: base.NoProducerEpoch}
}

// InitProducerID handles InitProducerId v0–5 with a transactional id. p has the producer id and epoch that the producer had before,
// which it may name from v3 on (KIP-360), else -1. fresh is a new producer id, or NoProducerID where none was taken yet.
//
//   - A new transactional id gets a producer id; a known one its next epoch, which fences whoever had the one before.
//   - Who names an epoch that is not the current one, or by a retry the last, is fenced: PRODUCER_FENCED.
//   - While a transaction is open it is aborted, and while one is ending nothing happens: CONCURRENT_TRANSACTIONS, to be tried again.
//   - When the epochs are used up the producer id changes.
func (m *Machine) InitProducerID(fx *coordinator.Effects, p Producer, timeout int32, fresh base.ProducerID) Outcome {
	t := m.txns[p.TransactionalID]
	if t == nil {
		if fresh == base.NoProducerID {
			return Outcome{needsID: true}
		}
		t = &transaction{
			id: p.TransactionalID, producerID: fresh, prevProducerID: base.NoProducerID, nextProducerID: base.NoProducerID,
			epoch: base.NoProducerEpoch, lastEpoch: base.NoProducerEpoch, started: -1,
		}
		if m.env.full(t.size()) {
			return refused(kerr.CoordinatorNotAvailable)
		}
	}
	expects := p.ID != base.NoProducerID
	if expects && t.epoch != base.NoProducerEpoch && p.ID != t.producerID && !(p.ID == t.prevProducerID && exhausted(p.Epoch)) {
		return refused(kerr.ProducerFenced)
	}
	switch {
	case t.state == ongoing, t.state == prepareCommit && plant.On(plant.AbortDecided):
		m.fence(fx, t)
		return refused(kerr.ConcurrentTransactions)
	case t.preparing():
		return refused(kerr.ConcurrentTransactions)
	}
	n := t.next(fx.Now.UnixMilli())
	switch {
	case exhausted(t.epoch) && (!expects || p.Epoch == t.epoch || t.epoch == math.MaxInt16 && p.Epoch == t.lastEpoch):
		if fresh == base.NoProducerID {
			return Outcome{needsID: true}
		}
		n.producerID, n.epoch, n.lastEpoch = fresh, 0, base.NoProducerEpoch
		if expects {
			n.lastEpoch = p.Epoch
		}
	case !expects:
		n.epoch, n.lastEpoch = t.epoch+1, base.NoProducerEpoch
	case t.epoch == base.NoProducerEpoch || p.Epoch == t.epoch:
		n.epoch, n.lastEpoch = t.epoch+1, t.epoch
	case p.Epoch == t.lastEpoch: // again, and the answer was lost
	default:
		return refused(kerr.ProducerFenced)
	}
	if plant.On(plant.NotFenced) && t.epoch != base.NoProducerEpoch {
		n.epoch = t.epoch
	}
	n.state, n.timeout, n.partitions, n.started = empty, timeout, nil, -1
	m.record(fx, n)
	return Outcome{ID: n.producerID, Epoch: n.epoch}
}

// check finds the transactional id of a request that changes or asks about its transaction.
func (m *Machine) check(p Producer) (*transaction, *kerr.Error) {
	t := m.txns[p.TransactionalID]
	switch {
	case t == nil || t.producerID != p.ID:
		return nil, kerr.InvalidProducerIDMapping
	case t.epoch != p.Epoch:
		return nil, kerr.ProducerFenced
	case t.preparing():
		return nil, kerr.ConcurrentTransactions
	}
	return t, nil
}

// AddPartitions adds partitions to the producer's transaction, which begins with the first (AddPartitionsToTxn, AddOffsetsToTxn, and with
// version 2 the first records in each partition). version is the transaction version of the client.
func (m *Machine) AddPartitions(fx *coordinator.Effects, p Producer, partitions []base.TopicPartition, version int16) *kerr.Error {
	t, err := m.check(p)
	if err != nil {
		return err
	}
	var more int64
	for _, tp := range partitions {
		if _, known := t.partitions[tp]; !known {
			more += partitionSize(tp)
		}
	}
	switch {
	case t.state == ongoing && more == 0:
		return nil
	case m.env.full(more):
		return kerr.CoordinatorNotAvailable
	}
	n := t.next(fx.Now.UnixMilli())
	if n.state != ongoing {
		n.started, n.partitions = n.updated, nil
	}
	n.state, n.version = ongoing, version
	n.partitions = maps.Clone(n.partitions)
	if n.partitions == nil {
		n.partitions = make(map[base.TopicPartition]struct{}, len(partitions))
	}
	for _, tp := range partitions {
		n.partitions[tp] = struct{}{}
	}
	m.record(fx, n)
	return nil
}

// Verified is the outcome of Verify: a code for the whole, or one for each partition, in order.
type Verified struct {
	Code       *kerr.Error
	Partitions []*kerr.Error
}

// Verify tells whether partitions are part of the producer's transaction (KIP-890). Of those that are not the answer is
// TRANSACTION_ABORTABLE.
func (m *Machine) Verify(p Producer, partitions []base.TopicPartition) Verified {
	t, err := m.check(p)
	if err != nil {
		return Verified{Code: err}
	}
	v := Verified{Partitions: make([]*kerr.Error, len(partitions))}
	for i, tp := range partitions {
		if _, ok := t.partitions[tp]; !ok || t.state != ongoing {
			v.Partitions[i] = kerr.TransactionAbortable
		}
	}
	return v
}

// End handles EndTxn v0–5. version is the transaction version of the client, fresh a new producer id or NoProducerID where none was taken
// yet.
//
//   - Version 0: the epoch stays; an end that was asked for before is confirmed, the other end is INVALID_TXN_STATE.
//   - Version 2: the epoch goes up, so a request with the former one is a retry, and any other is fenced. An abort without
//     transaction is an end all the same.
//   - While the end is under way: CONCURRENT_TRANSACTIONS.
func (m *Machine) End(fx *coordinator.Effects, p Producer, commit bool, version int16, fresh base.ProducerID) Outcome {
	t := m.txns[p.TransactionalID]
	if t == nil {
		return refused(kerr.InvalidProducerIDMapping)
	}
	to := prepareAbort
	if commit {
		to = prepareCommit
	}
	if version < epochBumps {
		return m.endV0(fx, t, p, to)
	}
	overflowed := t.prevProducerID == p.ID && p.Epoch == 1<<15-2 && t.epoch == 0
	// Only an end of version 2 raises the epoch. Kafka does not ask, and so may tell who was fenced by InitProducerId the epoch of its successor.
	bumped := t.version >= epochBumps && int32(t.epoch) == int32(p.Epoch)+1
	retry := overflowed || bumped
	switch {
	case !overflowed && t.producerID != p.ID:
		return refused(kerr.InvalidProducerIDMapping)
	case !t.mayEnd(p.Epoch, bumped, overflowed) && !(plant.On(plant.LateEndTaken) && p.Epoch < t.epoch):
		return refused(kerr.ProducerFenced)
	case t.preparing() && t.state == to:
		return refused(kerr.ConcurrentTransactions)
	case t.preparing():
		return refused(kerr.InvalidTxnState)
	case retry && (t.state == completeCommit && commit || t.state == completeAbort && !commit):
		return Outcome{ID: t.producerID, Epoch: t.epoch}
	case t.state != ongoing && (retry || commit):
		return refused(kerr.InvalidTxnState)
	}
	n := t.next(fx.Now.UnixMilli())
	if exhausted(t.epoch) {
		if fresh == base.NoProducerID {
			return Outcome{needsID: true}
		}
		n.nextProducerID = fresh
	}
	if n.state != ongoing {
		n.started, n.partitions = n.updated, nil
	}
	n.version = version
	m.prepare(fx, n, to)
	if n.nextProducerID != base.NoProducerID {
		return Outcome{ID: n.nextProducerID, Epoch: 0}
	}
	return Outcome{ID: n.producerID, Epoch: m.txns[n.id].epoch}
}

// mayEnd reports whether a producer with this epoch may end, or has ended, a transaction of version 2.
func (t *transaction) mayEnd(epoch base.ProducerEpoch, bumped, overflowed bool) bool {
	switch t.state {
	case prepareCommit, prepareAbort:
		return bumped
	case completeCommit, completeAbort:
		// The last epoch is there to fence: whoever has the one before it was fenced, though that looks as if its own request came again.
		return t.epoch < math.MaxInt16 && (bumped || overflowed || epoch == t.epoch)
	default:
		return epoch == t.epoch
	}
}

// endV0 is End for clients before KIP-890.
func (m *Machine) endV0(fx *coordinator.Effects, t *transaction, p Producer, to state) Outcome {
	switch {
	case t.producerID != p.ID:
		return refused(kerr.InvalidProducerIDMapping)
	case t.epoch != p.Epoch:
		return refused(kerr.ProducerFenced)
	case t.state == to:
		return refused(kerr.ConcurrentTransactions)
	case t.state == completeCommit && to == prepareCommit, t.state == completeAbort && to == prepareAbort:
		return Outcome{ID: t.producerID, Epoch: t.epoch}
	case t.state != ongoing:
		return refused(kerr.InvalidTxnState)
	}
	n := t.next(fx.Now.UnixMilli())
	n.version = 0
	m.prepare(fx, n, to)
	return Outcome{ID: n.producerID, Epoch: n.epoch}
}

// Description is a transactional id as DescribeTransactions and ListTransactions show it.
type Description struct {
	TransactionalID string
	ProducerID      base.ProducerID
	Epoch           base.ProducerEpoch
	State           string
	Timeout         int32 // ms
	Started         int64 // ms, -1 if nothing was ever started
	Partitions      []base.TopicPartition
}

func (t *transaction) describe() Description {
	return Description{
		TransactionalID: t.id, ProducerID: t.producerID, Epoch: t.epoch, State: t.state.String(),
		Timeout: t.timeout, Started: t.started, Partitions: t.sorted(),
	}
}

// Describe handles DescribeTransactions v0 for one transactional id. ok is false where it is not known.
func (m *Machine) Describe(id string) (d Description, ok bool) {
	t := m.txns[id]
	if t == nil {
		return Description{}, false
	}
	return t.describe(), true
}

// Filter says which transactional ids to list; empty parts leave out none.
type Filter struct {
	ProducerIDs []int64
	States      []string
	LongerThan  int64          // ms that the transaction has been open for; negative: any
	IDs         *regexp.Regexp // nil: any
}

// List handles ListTransactions v0–2.
func (m *Machine) List(now int64, f Filter) []Description {
	var list []Description
	for _, id := range slices.Sorted(maps.Keys(m.txns)) {
		t := m.txns[id]
		switch {
		case len(f.ProducerIDs) > 0 && !slices.Contains(f.ProducerIDs, int64(t.producerID)):
		case len(f.States) > 0 && !slices.Contains(f.States, t.state.String()):
		case f.LongerThan >= 0 && now-t.started <= f.LongerThan:
		case f.IDs != nil && !f.IDs.MatchString(id):
		default:
			list = append(list, t.describe())
		}
	}
	return list
}
