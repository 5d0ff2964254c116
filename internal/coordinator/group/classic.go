package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/plant"
)

// state is the state of a classic group; see the package comment for the transitions.
type state uint8

const (
	empty      state = iota // no members; perhaps offsets
	preparing               // members are asked to join (again)
	completing              // all have joined, the leader's assignment is awaited
	stable                  // the assignment is known and recorded
)

var stateNames = [...]string{empty: "Empty", preparing: "PreparingRebalance", completing: "CompletingRebalance", stable: "Stable"}

// String is Kafka's name of the state.
func (s state) String() string { return stateNames[s] }

// deadName is the state that a group that does not exist is described with.
const deadName = "Dead"

// consumerProtocol is the protocol type of consumers, the only one whose metadata the coordinator reads.
const consumerProtocol = "consumer"

type (
	joinCall = coordinator.Call[*kmsg.JoinGroupResponse]
	syncCall = coordinator.Call[*kmsg.SyncGroupResponse]
)

// protocol is one way of assigning partitions that a member offers, and what it tells the leader about itself in it.
type protocol struct {
	name     string
	metadata []byte
}

// member is one member of a classic group. What a GroupMetadataValue record holds of it is hard state; the rest is soft.
type member struct {
	id               string
	instance         *string // group.instance.id of a static member
	clientID         string
	clientHost       string
	rebalanceTimeout int32 // ms
	sessionTimeout   int32 // ms
	protocols        []protocol
	assignment       []byte

	join *joinCall // waits for the join phase to complete
	sync *syncCall // waits for the leader's assignment
	// fresh is set until the first join phase that the member takes part in completes: a client that gave up waiting does
	// not know its member id, so waiting in the join phase does not keep such a member alive.
	fresh bool
}

// metadata is what the member offers for a protocol.
func (m *member) metadata(name string) []byte {
	for _, p := range m.protocols {
		if p.name == name {
			return p.metadata
		}
	}
	return nil
}

// offers reports whether protocols are the very ones that the member already has.
func (m *member) offers(protocols []protocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b protocol) bool {
		return a.name == b.name && string(a.metadata) == string(b.metadata)
	})
}

// waits reports whether the member is known to be alive because it waits for an answer.
func (m *member) waits() bool { return !m.fresh && (m.join != nil || m.sync != nil) }

// size is about the memory that the member takes.
func (m *member) size() int64 {
	n := memberOverhead + len(m.id) + len(m.clientID) + len(m.clientHost) + len(m.assignment)
	if m.instance != nil {
		n += len(*m.instance)
	}
	for _, p := range m.protocols {
		n += protocolOverhead + len(p.name) + len(p.metadata)
	}
	return int64(n)
}

// classicGroup is a group of the classic protocol.
type classicGroup struct {
	id           string
	recorded     bool // there is a record of it, not only of its offsets
	state        state
	previous     state  // before state
	since        int64  // ms, when state was entered; -1 unknown
	protocolType string // empty: none yet
	protocol     *string
	generation   int32
	leader       string // member id; empty: none

	members     map[string]*member
	order       []*member           // members in the order in which they joined
	static      map[string]string   // instance id → member id
	offered     map[string]int      // protocol → members that offer it
	awaiting    int                 // members whose join waits
	pending     map[string]struct{} // ids given out by MEMBER_ID_REQUIRED that have not joined yet
	pendingSync map[string]struct{} // members that have not synced in this generation
	subscribed  map[string]struct{} // topics of a consumer group's subscriptions; nil: unknown

	// The initial rebalance waits for more members while they keep coming.
	initial          bool  // the join timer is that of the initial rebalance
	initialDelay     int32 // ms, of the running timer
	initialRemaining int32 // ms, after it
	newMember        bool  // one came since the timer was set
}

func newClassicGroup(id string, now int64) *classicGroup {
	return &classicGroup{
		id: id, since: now,
		members: map[string]*member{}, static: map[string]string{}, offered: map[string]int{},
		pending: map[string]struct{}{}, pendingSync: map[string]struct{}{},
	}
}

func (g *classicGroup) enter(s state, now int64) {
	g.previous, g.state, g.since = g.state, s, now
}

func (g *classicGroup) add(m *member, join *joinCall) {
	if m.instance != nil {
		g.static[*m.instance] = m.id
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.members[m.id] = m
	g.order = append(g.order, m)
	g.count(m, 1)
	if m.join = join; join != nil {
		g.awaiting++
	}
	delete(g.pending, m.id)
}

// remove takes a member, or an id that was given out but never joined, out of the group.
func (g *classicGroup) remove(id string) {
	if m := g.members[id]; m != nil {
		delete(g.members, id)
		g.order = slices.DeleteFunc(g.order, func(o *member) bool { return o == m })
		g.count(m, -1)
		if m.join != nil {
			g.awaiting--
		}
		if m.instance != nil {
			delete(g.static, *m.instance)
		}
	}
	if g.leader == id {
		g.leader = ""
		if len(g.order) > 0 {
			g.leader = g.order[0].id
		}
	}
	delete(g.pending, id)
	delete(g.pendingSync, id)
}

// rename gives a static member the id under which it came back.
func (g *classicGroup) rename(m *member, id string) {
	delete(g.members, m.id)
	if g.leader == m.id {
		g.leader = id
	}
	m.id = id
	g.members[id] = m
	g.static[*m.instance] = id
}

// update sets what a member offers as it joins again.
func (g *classicGroup) update(m *member, protocols []protocol, rebalanceTimeout, sessionTimeout int32, join *joinCall) {
	g.count(m, -1)
	m.protocols = protocols
	g.count(m, 1)
	m.rebalanceTimeout, m.sessionTimeout = rebalanceTimeout, sessionTimeout
	if m.join == nil {
		g.awaiting++
	}
	m.join = join
}

func (g *classicGroup) count(m *member, by int) {
	for _, p := range m.protocols {
		if g.offered[p.name] += by; g.offered[p.name] == 0 {
			delete(g.offered, p.name)
		}
	}
}

// supports reports whether a member that offers protocols could be part of the group.
func (g *classicGroup) supports(protocolType string, protocols []protocol) bool {
	if g.state == empty {
		return protocolType != "" && len(protocols) > 0
	}
	return g.protocolType == protocolType && slices.ContainsFunc(protocols, func(p protocol) bool {
		return g.offered[p.name] == len(g.members)
	})
}

// choose returns the protocol that most members prefer among those that all offer. Of equals it takes the one that comes first in
// a Java HashMap, as Kafka does.
func (g *classicGroup) choose() string {
	var best string
	votes := map[string]int{}
	for _, m := range g.order {
		for _, p := range m.protocols {
			if g.offered[p.name] == len(g.members) {
				votes[p.name]++
				break
			}
		}
	}
	for name, n := range votes {
		switch {
		case n > votes[best], n == votes[best] && before(name, best):
			best = name
		}
	}
	return best
}

// before orders strings as the iteration of a small Java HashMap does: by bucket, of sixteen.
func before(a, b string) bool {
	bucket := func(s string) uint32 {
		h := uint32(coordinator.JavaHash(s))
		return (h ^ h>>16) & 15
	}
	if x, y := bucket(a), bucket(b); x != y {
		return x < y
	}
	return a < b
}

// rebalanceTimeoutMillis is the longest that any member asks for.
func (g *classicGroup) rebalanceTimeoutMillis() int32 {
	var longest int32
	for _, m := range g.order {
		longest = max(longest, m.rebalanceTimeout)
	}
	return longest
}

func (g *classicGroup) allJoined() bool { return len(g.members) == g.awaiting && len(g.pending) == 0 }

// elect makes sure that the leader is one that has joined. It reports whether there is one.
func (g *classicGroup) elect() bool {
	leader := g.members[g.leader]
	if leader == nil {
		return false
	}
	if leader.join != nil {
		return true
	}
	for _, m := range g.order {
		if m.join != nil {
			g.leader = m.id
			return true
		}
	}
	return false
}

// nextGeneration ends the join phase.
func (g *classicGroup) nextGeneration(now int64) {
	if !plant.On(plant.GenerationKept) {
		g.generation++
	}
	if len(g.members) > 0 {
		chosen := g.choose()
		g.protocol = &chosen
		g.enter(completing, now)
	} else {
		g.protocol = nil
		g.enter(empty, now)
	}
	g.subscribed = g.subscriptions()
	clear(g.pendingSync)
}

func (g *classicGroup) consumers() bool { return g.protocolType == consumerProtocol }

// subscribes reports whether members are subscribed to a topic; of a consumer group whose subscriptions cannot be read, whether
// they may be.
func (g *classicGroup) subscribes(topic string) bool {
	if g.subscribed == nil {
		return g.consumers()
	}
	_, ok := g.subscribed[topic]
	return ok
}

// subscriptions are the topics that the members of a consumer group subscribe to; nil where that cannot be known.
func (g *classicGroup) subscriptions() map[string]struct{} {
	if !g.consumers() {
		return nil
	}
	topics := map[string]struct{}{}
	if len(g.members) == 0 {
		return topics
	}
	if g.protocol == nil {
		return nil
	}
	for _, m := range g.order {
		names, ok := subscribedTopics(m.metadata(*g.protocol))
		if !ok {
			return nil
		}
		for _, name := range names {
			topics[name] = struct{}{}
		}
	}
	return topics
}
