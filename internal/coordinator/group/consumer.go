package group

import (
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// Epochs that mean something.
const (
	joinEpoch        = 0  // of a heartbeat: the member is new, or gave up what it had
	leaveEpoch       = -1 // of a heartbeat: it leaves
	leaveStaticEpoch = -2 // it leaves for a while, and keeps its place; the epoch that it has then
	firstEpoch       = 1  // of a new group and its assignment
)

// memberState is how far a member of a consumer group has come towards its target. The numbers are those of its records.
type memberState int8

const (
	reconciled    memberState = 0   // it has its target
	unrevoked     memberState = 1   // it is to give back partitions
	unreleased    memberState = 2   // it waits for partitions that others have not given back
	unknownMember memberState = 127 // of a later version
)

// consumerMember is one member of a consumer group. All of it is hard state.
type consumerMember struct {
	id               string
	instance         *string // group.instance.id of a static member
	rack             *string
	clientID         string
	clientHost       string
	topics           []string // names it subscribes to, sorted
	regex            string   // pattern of names it subscribes to; empty: none
	assignor         *string  // server-side assignor that it prefers
	rebalanceTimeout int32    // ms
	classic          *classicMetadata

	epoch    int32
	previous int32 // epoch before
	state    memberState
	assigned holding
	revoking holding // to be given back
}

// classicMetadata is what a member that speaks the classic protocol has in addition.
type classicMetadata struct {
	sessionTimeout int32 // ms
	protocols      []protocol
}

func newConsumerMember(id string) *consumerMember {
	return &consumerMember{id: id, previous: -1, rebalanceTimeout: -1}
}

// sameMetadata reports whether a member's record would be the same.
func (m *consumerMember) sameMetadata(o *consumerMember) bool {
	if (m.classic == nil) != (o.classic == nil) {
		return false
	}
	if m.classic != nil && (m.classic.sessionTimeout != o.classic.sessionTimeout || !sameProtocols(m.classic.protocols, o.classic.protocols)) {
		return false
	}
	return equalText(m.instance, o.instance) && equalText(m.rack, o.rack) && m.clientID == o.clientID && m.clientHost == o.clientHost &&
		slices.Equal(m.topics, o.topics) && m.regex == o.regex && equalText(m.assignor, o.assignor) && m.rebalanceTimeout == o.rebalanceTimeout
}

func (m *consumerMember) reconciledTo(epoch int32) bool {
	return m.state == reconciled && m.epoch == epoch
}

// size is about the memory that the member takes.
func (m *consumerMember) size() int64 {
	n := memberOverhead + len(m.id) + len(deref(m.instance)) + len(deref(m.rack)) + len(m.clientID) + len(m.clientHost) + len(m.regex) +
		len(deref(m.assignor)) + partitionOverhead*(m.assigned.count()+m.revoking.count())
	for _, t := range m.topics {
		n += topicOverhead + len(t)
	}
	if m.classic != nil {
		for _, p := range m.classic.protocols {
			n += protocolOverhead + len(p.name) + len(p.metadata)
		}
	}
	return int64(n)
}

// subscriptionCount is how often a topic is subscribed to.
type subscriptionCount struct {
	byName  int // members
	byRegex int // patterns
}

// resolvedRegex is what a pattern was found to match.
type resolvedRegex struct {
	topics  []string // sorted
	version int64    // of the topics that it was matched with
	at      int64    // ms, when
}

// consumerGroup is a group of the consumer protocol (KIP-848). It implements group.
type consumerGroup struct {
	id         string
	epoch      int32
	hash       int64 // of what is known of the topics that it subscribes to
	members    map[string]*consumerMember
	regexes    map[string]resolvedRegex
	legacyHash bool // there is a record of the topics as Kafka 4.0 wrote them

	target      map[string]assignor.Assignment
	targetEpoch int32
	targetAt    int64 // ms, when it was made; 0: not here

	// Kept in step with members and regexes.
	static           map[string]string // instance id → member id
	subscribed       map[string]subscriptionCount
	regexMembers     map[string]int                   // by pattern
	assignors        map[string]int                   // members that prefer each
	owners           map[base.TopicID]map[int32]int32 // epoch of the member that has the partition, or is to give it back
	classicMembers   int
	classicProtocols map[string]int

	// Soft state.
	checked int64 // version of the topics that hash was last compared with
}

func newConsumerGroup(id string) *consumerGroup {
	return &consumerGroup{
		id: id, epoch: firstEpoch, targetEpoch: firstEpoch, checked: -1,
		members: map[string]*consumerMember{}, regexes: map[string]resolvedRegex{}, target: map[string]assignor.Assignment{},
		static: map[string]string{}, subscribed: map[string]subscriptionCount{}, regexMembers: map[string]int{},
		assignors: map[string]int{}, owners: map[base.TopicID]map[int32]int32{}, classicProtocols: map[string]int{},
	}
}

// put adds a member or puts one in the place of its former self.
func (g *consumerGroup) put(mb *consumerMember) {
	g.drop(mb.id)
	g.members[mb.id] = mb
	g.count(mb, 1)
	if mb.instance != nil {
		g.static[*mb.instance] = mb.id
	}
	for _, h := range []holding{mb.assigned, mb.revoking} {
		for _, t := range h {
			partitions := g.owners[t.topic]
			if partitions == nil {
				partitions = map[int32]int32{}
				g.owners[t.topic] = partitions
			}
			for _, p := range t.partitions {
				if epoch, ok := partitions[p]; !ok || epoch < mb.epoch {
					partitions[p] = mb.epoch
				}
			}
		}
	}
}

// drop forgets a member, but for its target.
func (g *consumerGroup) drop(id string) {
	mb := g.members[id]
	if mb == nil {
		return
	}
	delete(g.members, id)
	g.count(mb, -1)
	if mb.instance != nil && g.static[*mb.instance] == id {
		delete(g.static, *mb.instance)
	}
	for _, h := range []holding{mb.assigned, mb.revoking} {
		for _, t := range h {
			partitions := g.owners[t.topic]
			for _, p := range t.partitions {
				if epoch, ok := partitions[p]; ok && epoch == mb.epoch {
					delete(partitions, p)
				}
			}
			if len(partitions) == 0 {
				delete(g.owners, t.topic)
			}
		}
	}
}

func (g *consumerGroup) count(mb *consumerMember, by int) {
	for _, t := range mb.topics {
		g.subscribe(t, by, 0)
	}
	if mb.regex != "" {
		tally(g.regexMembers, mb.regex, by)
	}
	if mb.assignor != nil {
		tally(g.assignors, *mb.assignor, by)
	}
	if mb.classic != nil {
		g.classicMembers += by
		for _, p := range mb.classic.protocols {
			tally(g.classicProtocols, p.name, by)
		}
	}
}

func (g *consumerGroup) subscribe(topic string, byName, byRegex int) {
	c := g.subscribed[topic]
	c.byName, c.byRegex = c.byName+byName, c.byRegex+byRegex
	if g.subscribed[topic] = c; c == (subscriptionCount{}) {
		delete(g.subscribed, topic)
	}
}

func tally(counts map[string]int, name string, by int) {
	if counts[name] += by; counts[name] == 0 {
		delete(counts, name)
	}
}

// resolve sets what a pattern matches; nil: nothing is known of it any more.
func (g *consumerGroup) resolve(regex string, r *resolvedRegex) {
	for _, t := range g.regexes[regex].topics {
		g.subscribe(t, 0, -1)
	}
	delete(g.regexes, regex)
	if r == nil {
		return
	}
	g.regexes[regex] = *r
	for _, t := range r.topics {
		g.subscribe(t, 0, 1)
	}
}

// owned reports whether a member has a partition, or is yet to give it back.
func (g *consumerGroup) owned(topic base.TopicID, partition int32) bool {
	_, ok := g.owners[topic][partition]
	return ok
}

// alike reports whether all members subscribe to the same.
func (g *consumerGroup) alike() bool {
	n := len(g.members)
	switch {
	case len(g.regexMembers) == 0:
		for _, c := range g.subscribed {
			if c.byName != n {
				return false
			}
		}
	case len(g.regexMembers) > 1:
		return false
	default:
		for _, members := range g.regexMembers {
			if members != n {
				return false
			}
		}
		for _, c := range g.subscribed {
			if c.byRegex != 1 || c.byName > 0 {
				return false
			}
		}
	}
	return true
}

// assignorName is the server-side assignor that most members prefer; of equals the one that comes first in a Java HashMap, as Kafka has it.
func (g *consumerGroup) assignorName(otherwise string) string {
	var best string
	for name, n := range g.assignors {
		if best == "" || n > g.assignors[best] || n == g.assignors[best] && before(name, best) {
			best = name
		}
	}
	if best == "" {
		return otherwise
	}
	return best
}

// topicsOf are the names of the topics that a member subscribes to.
func (g *consumerGroup) topicsOf(mb *consumerMember) []string {
	matched := g.regexes[mb.regex].topics
	if mb.regex == "" || len(matched) == 0 {
		return mb.topics
	}
	if len(mb.topics) == 0 {
		return matched
	}
	all := slices.Concat(mb.topics, matched)
	slices.Sort(all)
	return slices.Compact(all)
}

func (m *Machine) consumer(id string) *consumerGroup {
	g, _ := m.groups[id].(*consumerGroup)
	return g
}

func rebalanceTimer(g *consumerGroup, member string) coordinator.Timer {
	return coordinator.Timer{Kind: timerRebalance, Group: g.id, Member: member}
}

func classicJoinTimer(g *consumerGroup, member string) coordinator.Timer {
	return coordinator.Timer{Kind: timerClassicJoin, Group: g.id, Member: member}
}

func classicSyncTimer(g *consumerGroup, member string) coordinator.Timer {
	return coordinator.Timer{Kind: timerClassicSync, Group: g.id, Member: member}
}

func consumerSessionTimer(g *consumerGroup, member string) coordinator.Timer {
	return coordinator.Timer{Kind: timerSession, Group: g.id, Member: member}
}

func equalText(a, b *string) bool { return (a == nil) == (b == nil) && deref(a) == deref(b) }

func sameProtocols(a, b []protocol) bool {
	return slices.EqualFunc(a, b, func(x, y protocol) bool { return x.name == y.name && string(x.metadata) == string(y.metadata) })
}
