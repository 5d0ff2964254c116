package sharestate

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/share"
)

// timerCold: share partitions whose snapshots are old are to be recorded again.
const timerCold uint8 = 1

// Sizes that stand for what the state takes in memory.
const (
	stateOverhead = 256
	batchSize     = 24
)

// state is a share partition. Batches are not changed once they are here.
type state struct {
	share.Persisted
	snapshotEpoch int32
	created       int64 // ms, when a snapshot was first recorded on account of a write
	written       int64 // ms, when the last one was recorded

	updates int         // since then
	at      base.Offset // of the last snapshot
}

func (s *state) size(k share.Key) int64 {
	return int64(stateOverhead + len(k.Group) + batchSize*len(s.Batches))
}

// Machine is the share partitions of one partition of __share_group_state. It implements coordinator.Machine.
type Machine struct {
	env    *Environment
	states map[share.Key]*state
	used   int64 // of the budget
}

// NewMachine returns the state of an empty partition.
func NewMachine(env *Environment) *Machine {
	return &Machine{env: env, states: map[share.Key]*state{}}
}

// Release gives back the machine's share of the budget. The runtime calls it when the state is given up.
func (m *Machine) Release() { m.use(-m.used) }

func (m *Machine) use(n int64) {
	m.used += n
	m.env.used.Add(n)
}

func (m *Machine) put(k share.Key, s *state) {
	m.forget(k)
	m.states[k] = s
	m.use(s.size(k))
}

func (m *Machine) forget(k share.Key) {
	if old := m.states[k]; old != nil {
		m.use(-old.size(k))
		delete(m.states, k)
	}
}

// Loaded implements coordinator.Machine. Topics may have been deleted while nobody told the coordinator.
func (m *Machine) Loaded(fx *coordinator.Effects) {
	for _, k := range m.keys() {
		if m.env.Partitions(k.Topic) == 0 {
			fx.Append(encodeKey(keySnapshot, k), nil)
		}
	}
	fx.SetTimer(coordinator.Timer{Kind: timerCold}, m.env.Config.ColdInterval)
}

// Elapsed implements coordinator.Machine.
func (m *Machine) Elapsed(t coordinator.Timer, fx *coordinator.Effects) {
	m.snapshotCold(fx)
	fx.SetTimer(t, m.env.Config.ColdInterval)
}

// Initialize begins a share partition, or begins it anew without batches.
func (m *Machine) Initialize(fx *coordinator.Effects, k share.Key, stateEpoch int32, start base.Offset) error {
	old := m.states[k]
	s := &state{created: fx.Now.UnixMilli(), written: fx.Now.UnixMilli()}
	s.StateEpoch, s.Start = stateEpoch, start
	if start == base.NoOffset {
		s.DeliveryCompleteCount = notCounted
	}
	switch {
	case old != nil && stateEpoch != -1 && stateEpoch < old.StateEpoch:
		return share.ErrFencedStateEpoch
	case !m.exists(k):
		return share.ErrUnknownPartition
	case old == nil && m.env.full(s.size(k)):
		return coordinator.ErrUnavailable
	}
	if old != nil { // its leader epoch goes on to fence
		s.snapshotEpoch, s.LeaderEpoch = old.snapshotEpoch+1, old.LeaderEpoch
	}
	fx.Append(encodeKey(keySnapshot, k), s.encode())
	return nil
}

// Read returns the state, and records the reader's leader epoch where it is a new one.
func (m *Machine) Read(fx *coordinator.Effects, k share.Key, leaderEpoch base.LeaderEpoch) (share.Persisted, error) {
	s := m.states[k]
	switch {
	case s == nil:
		return share.Persisted{}, share.ErrNotInitialized
	case leaderEpoch != base.NoLeaderEpoch && leaderEpoch < s.LeaderEpoch:
		return share.Persisted{}, share.ErrFencedLeaderEpoch
	case !m.exists(k):
		return share.Persisted{}, share.ErrUnknownPartition
	}
	if leaderEpoch != base.NoLeaderEpoch && leaderEpoch != s.LeaderEpoch {
		m.record(fx, k, share.Persisted{LeaderEpoch: leaderEpoch, Start: s.Start, DeliveryCompleteCount: s.DeliveryCompleteCount})
	}
	return m.states[k].Persisted, nil
}

// Write changes the state of a share partition: w.Batches are laid over its batches, and w.Start, w.DeliveryCompleteCount and
// w.LeaderEpoch take the place of what is there (a start or leader epoch of -1 does not).
func (m *Machine) Write(fx *coordinator.Effects, k share.Key, w share.Persisted) error {
	s := m.states[k]
	switch {
	case s == nil:
		return share.ErrNotInitialized
	case w.LeaderEpoch != base.NoLeaderEpoch && w.LeaderEpoch < s.LeaderEpoch:
		return share.ErrFencedLeaderEpoch
	case w.StateEpoch != -1 && w.StateEpoch < s.StateEpoch && !plant.On(plant.ShareStateUnfenced):
		return share.ErrFencedStateEpoch
	case !m.exists(k):
		return share.ErrUnknownPartition
	}
	for _, b := range w.Batches {
		if b.First < 0 || b.Last < b.First || b.DeliveryCount < 0 {
			return fmt.Errorf("%w: a batch from %d to %d, delivered %d times", share.ErrInvalidState, b.First, b.Last, b.DeliveryCount)
		}
	}
	w.Batches = combine(nil, w.Batches, w.Start)
	switch grown := 2 * len(w.Batches); { // a batch can split one that is there
	case len(s.Batches)+grown > maxBatches:
		return fmt.Errorf("%w: more than %d batches", share.ErrInvalidState, maxBatches)
	case m.env.full(int64(grown*batchSize)) && len(combine(s.Batches, w.Batches, max(w.Start, s.Start))) > len(s.Batches):
		return coordinator.ErrUnavailable
	}
	m.record(fx, k, w)
	return nil
}

// record writes down what changes of a share partition that is there: as an update, or as part of a snapshot after so many updates.
func (m *Machine) record(fx *coordinator.Effects, k share.Key, w share.Persisted) {
	s := *m.states[k]
	if s.updates < m.env.Config.UpdatesPerSnapshot {
		fx.Append(encodeKey(keyUpdate, k), encodeUpdate(s.snapshotEpoch, w))
		return
	}
	if w.LeaderEpoch != base.NoLeaderEpoch {
		s.LeaderEpoch = w.LeaderEpoch
	}
	if w.Start != base.NoOffset {
		s.Start = w.Start
	}
	s.Batches, s.DeliveryCompleteCount = combine(s.Batches, w.Batches, s.Start), w.DeliveryCompleteCount
	s.created = fx.Now.UnixMilli()
	m.snapshot(fx, k, s)
}

func (m *Machine) snapshot(fx *coordinator.Effects, k share.Key, s state) {
	s.snapshotEpoch++
	s.written = fx.Now.UnixMilli()
	fx.Append(encodeKey(keySnapshot, k), s.encode())
}

// Delete forgets a share partition. One that is not there is as good as deleted.
func (m *Machine) Delete(fx *coordinator.Effects, k share.Key) error {
	if !m.exists(k) {
		return share.ErrUnknownPartition
	}
	if m.states[k] != nil {
		fx.Append(encodeKey(keySnapshot, k), nil)
	}
	return nil
}

// Summary is the state without its batches; of a share partition that is not there it says so by its start offset.
func (m *Machine) Summary(k share.Key) (share.Persisted, error) {
	if !m.exists(k) {
		return share.Persisted{}, share.ErrUnknownPartition
	}
	s := m.states[k]
	if s == nil {
		return share.Persisted{Start: base.NoOffset, DeliveryCompleteCount: notCounted}, nil
	}
	p := s.Persisted
	p.Batches = nil
	return p, nil
}

// TopicsDeleted forgets the share partitions of topics that are no more.
func (m *Machine) TopicsDeleted(fx *coordinator.Effects, ids []base.TopicID) {
	for _, k := range m.keys() {
		if slices.Contains(ids, k.Topic) {
			fx.Append(encodeKey(keySnapshot, k), nil)
		}
	}
}

// Needed is the offset from which on the log is needed: that of the oldest snapshot, or end, behind the last record, where there is none.
func (m *Machine) Needed(end base.Offset) base.Offset {
	for _, s := range m.states {
		end = min(end, s.at)
	}
	if plant.On(plant.PruneSnapshot) {
		end++
	}
	return end
}

// snapshotCold records share partitions whose snapshots are old once more, unless all of them are quiet: then nothing is gained.
func (m *Machine) snapshotCold(fx *coordinator.Effects) {
	quiet := true
	for _, s := range m.states {
		quiet = quiet && s.created != s.written
	}
	if quiet {
		return
	}
	for _, k := range m.keys() {
		if s := m.states[k]; fx.Now.UnixMilli()-s.written >= m.env.Config.ColdInterval.Milliseconds() {
			m.snapshot(fx, k, *s)
		}
	}
}

// exists reports whether there is such a partition.
func (m *Machine) exists(k share.Key) bool {
	return k.Partition >= 0 && k.Partition < m.env.Partitions(k.Topic)
}

// keys are all share partitions in a fixed order.
func (m *Machine) keys() []share.Key {
	return slices.SortedFunc(maps.Keys(m.states), func(a, b share.Key) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
}
