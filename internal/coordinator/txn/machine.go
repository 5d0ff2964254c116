package txn

import (
	"maps"
	"math"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/plant"
)

// Timers of the machine.
const (
	timerAbort  uint8 = iota + 1 // transactions that have timed out are to be looked for
	timerExpiry                  // transactional ids that have expired
)

// Machine is the transactional ids of one partition of __transaction_state. It implements coordinator.Machine.
type Machine struct {
	env  *Environment
	txns map[string]*transaction
	used int64 // of the budget
}

// NewMachine returns the state of an empty partition.
func NewMachine(env *Environment) *Machine {
	return &Machine{env: env, txns: map[string]*transaction{}}
}

// Release gives back the machine's share of the budget. The runtime calls it when the state is given up.
func (m *Machine) Release() { m.use(-m.used) }

func (m *Machine) use(n int64) {
	m.used += n
	m.env.used.Add(n)
}

// put sets a transactional id to what a record says. What is not recorded stays.
func (m *Machine) put(t *transaction) {
	if old := m.txns[t.id]; old != nil {
		m.use(-old.size())
		t.lastEpoch = old.lastEpoch
	}
	m.txns[t.id] = t
	m.use(t.size())
}

func (m *Machine) forget(id string) {
	if old := m.txns[id]; old != nil {
		m.use(-old.size())
		delete(m.txns, id)
	}
}

// record writes a transition down, which makes it the state.
func (m *Machine) record(fx *coordinator.Effects, t transaction) {
	fx.Append(encodeKey(t.id), t.encode())
	m.txns[t.id].lastEpoch = t.lastEpoch
}

// Loaded implements coordinator.Machine: the ends that were decided are carried out.
func (m *Machine) Loaded(fx *coordinator.Effects) {
	if !plant.On(plant.EndForgotten) {
		for _, id := range slices.Sorted(maps.Keys(m.txns)) {
			m.end(fx, m.txns[id])
		}
	}
	fx.SetTimer(coordinator.Timer{Kind: timerAbort}, m.env.Config.AbortInterval)
	fx.SetTimer(coordinator.Timer{Kind: timerExpiry}, m.env.Config.ExpiryInterval)
}

// Elapsed implements coordinator.Machine.
func (m *Machine) Elapsed(t coordinator.Timer, fx *coordinator.Effects) {
	now := fx.Now.UnixMilli()
	for _, id := range slices.Sorted(maps.Keys(m.txns)) {
		x := m.txns[id]
		switch {
		case t.Kind == timerAbort && x.state == ongoing && x.started+int64(x.timeout) < now:
			m.fence(fx, x)
		case t.Kind == timerExpiry && x.resting() && now-x.updated >= m.env.Config.Expiration.Milliseconds():
			fx.Append(encodeKey(id), nil)
		}
	}
	if t.Kind == timerAbort {
		fx.SetTimer(t, m.env.Config.AbortInterval)
	} else {
		fx.SetTimer(t, m.env.Config.ExpiryInterval)
	}
}

// resting reports that no transaction is under way.
func (t *transaction) resting() bool {
	return t.state == empty || t.state == completeCommit || t.state == completeAbort
}

// preparing reports that the end is decided, and markers are being written.
func (t *transaction) preparing() bool { return t.state == prepareCommit || t.state == prepareAbort }

// end has the markers of a transaction whose end is decided written.
func (m *Machine) end(fx *coordinator.Effects, t *transaction) {
	if !t.preparing() || m.env.End == nil {
		return
	}
	e := Ending{TransactionalID: t.id, Partitions: t.sorted(), Marker: Marker{
		ProducerID: t.producerID, ProducerEpoch: t.epoch, Commit: t.state == prepareCommit,
		CoordinatorEpoch: m.env.CoordinatorEpoch, TransactionVersion: t.version,
	}}
	fx.After(func() { m.env.End(e) })
}

// fence aborts an open transaction that its producer has not asked to end. The epoch goes up, with version 2 as by every end. The producer,
// if it is alive and says which epoch it had, may go on with the next (KIP-360, KIP-588).
func (m *Machine) fence(fx *coordinator.Effects, t *transaction) {
	n := t.next(fx.Now.UnixMilli())
	if n.version < epochBumps {
		n.lastEpoch = n.epoch
		if n.epoch < math.MaxInt16 && !plant.On(plant.LaggardUnfenced) {
			n.epoch++
		}
	}
	m.prepare(fx, n, prepareAbort)
}

// prepare decides the end of the transaction n, a copy of the state as it is before: commit or abort.
func (m *Machine) prepare(fx *coordinator.Effects, n transaction, to state) {
	if n.version >= epochBumps && !plant.On(plant.EpochKept) {
		n.lastEpoch = n.epoch
		if n.epoch < math.MaxInt16 { // at the highest one only an abort can come, which lets the id recover
			n.epoch++
		}
	}
	n.state = to
	m.record(fx, n)
	m.end(fx, m.txns[n.id])
}

// Ended is told that the markers of a transaction are in the logs of its partitions.
func (m *Machine) Ended(fx *coordinator.Effects, e Ending) {
	t := m.txns[e.TransactionalID]
	if t == nil || !t.preparing() || t.producerID != e.Marker.ProducerID || t.epoch != e.Marker.ProducerEpoch || (t.state == prepareCommit) != e.Marker.Commit {
		return
	}
	n := t.next(fx.Now.UnixMilli())
	n.state = completeAbort
	if t.state == prepareCommit {
		n.state = completeCommit
	}
	if n.version >= epochBumps && n.nextProducerID != base.NoProducerID {
		n.producerID, n.epoch = n.nextProducerID, 0
	}
	n.nextProducerID, n.partitions = base.NoProducerID, nil
	m.record(fx, n)
}

// Snapshot implements coordinator.Snapshotter.
func (m *Machine) Snapshot(emit func(key, value []byte)) {
	for _, id := range slices.Sorted(maps.Keys(m.txns)) {
		emit(encodeKey(id), m.txns[id].encode())
	}
}
