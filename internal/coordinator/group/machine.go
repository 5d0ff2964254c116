package group

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// Sizes that stand for what the state takes in memory.
const (
	groupOverhead    = 1024
	memberOverhead   = 512
	protocolOverhead = 64
	pendingOverhead  = 256
	offsetOverhead   = 160

	topicOverhead     = 64  // of a subscription
	partitionOverhead = 48  // of an assignment
	targetOverhead    = 128 // of one member's assignment
	taskOverhead      = 64
)

// Budget bounds the memory of all groups of a broker. It is safe for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used is about how many bytes all groups take.
func (b *Budget) Used() int64 { return b.used.Load() }

// full reports whether the budget has no room for n further bytes.
func (b *Budget) full(n int64) bool { return b.used.Load()+n > b.limit }

// Environment is what a Machine needs of the world; all of it is given so that the machine itself stays a plain function.
type Environment struct {
	Config Config
	Topics Topics
	Budget *Budget
	// Settings are those of a consumer group that may change at any time, of the group itself or else of the broker.
	Settings func(group string) ConsumerSettings
	// StreamsSettings are those of a streams group.
	StreamsSettings func(group string) StreamsSettings
	// ShareSettings are those of a share group.
	ShareSettings func(group string) ShareSettings
	// ShareListener is told of members of share groups that have gone; optional.
	ShareListener ShareListener
	// NewID returns text that no other call returns: the second part of member ids.
	NewID func() string
	// Log is told what an operator may want to know of a group; optional.
	Log func(msg string, group string, args ...any)
}

// Timers of the machine. All but timerExpiry belong to a group.
const (
	timerSession uint8 = iota + 1 // a member was not heard of
	timerJoin                     // the join phase has taken long enough
	timerSync                     // so has the sync phase
	timerExpiry                   // offsets and groups are to be looked through

	// Of members of consumer groups.
	timerRebalance   // it did not give its partitions back
	timerClassicJoin // it speaks the classic protocol and did not join again
	timerClassicSync // nor sync

	timerDelay // of a streams group that was empty: its first members have come
)

// Machine is the groups and offsets of one partition of __consumer_offsets. It implements coordinator.Machine.
type Machine struct {
	env     *Environment
	groups  map[string]group
	offsets map[string]map[string]map[int32]committed // group → topic → partition
	used    int64                                     // of the budget

	producers map[base.ProducerID]*txnProducer
	unstable  map[offsetID]int // number of transactions that have the offset pending
}

// NewMachine returns the state of an empty partition.
func NewMachine(env *Environment) *Machine {
	return &Machine{
		env: env, groups: map[string]group{}, offsets: map[string]map[string]map[int32]committed{},
		producers: map[base.ProducerID]*txnProducer{}, unstable: map[offsetID]int{},
	}
}

// Release gives back the machine's share of the budget. The runtime calls it when the state is given up.
func (m *Machine) Release() { m.use(-m.used) }

func (m *Machine) use(n int64) {
	m.used += n
	m.env.Budget.used.Add(n)
}

func (m *Machine) log(msg, group string, args ...any) {
	if m.env.Log != nil {
		m.env.Log(msg, group, args...)
	}
}

// Loaded implements coordinator.Machine.
func (m *Machine) Loaded(fx *coordinator.Effects) {
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		m.groups[id].resume(m, fx)
	}
	fx.SetTimer(coordinator.Timer{Kind: timerExpiry}, m.env.Config.RetentionCheckInterval)
}

// Elapsed implements coordinator.Machine.
func (m *Machine) Elapsed(t coordinator.Timer, fx *coordinator.Effects) {
	if t.Kind == timerExpiry {
		m.expire(fx)
		m.forgetProducers(fx.Now.UnixMilli())
		fx.SetTimer(t, m.env.Config.RetentionCheckInterval)
		return
	}
	if g := m.groups[t.Group]; g != nil {
		g.elapsed(m, fx, t)
	}
}

// found adds a group.
func (m *Machine) found(id string, g group) {
	m.groups[id] = g
	m.use(g.size())
}

// dissolve forgets a group, but for its offsets.
func (m *Machine) dissolve(id string) {
	if g := m.groups[id]; g != nil {
		m.use(-g.size())
		delete(m.groups, id)
	}
}

func (m *Machine) settings(group string) ConsumerSettings { return m.env.Settings(group) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func millis(n int32) time.Duration { return time.Duration(n) * time.Millisecond }

// committed is one committed offset.
type committed struct {
	offset      base.Offset
	leaderEpoch base.LeaderEpoch
	metadata    string
	at          int64 // ms, commit timestamp
	expire      int64 // ms, explicit expiry (OffsetCommit before v5); -1 none
	topicID     base.TopicID
}

func (c *committed) size() int64 { return int64(offsetOverhead + len(c.metadata)) }
