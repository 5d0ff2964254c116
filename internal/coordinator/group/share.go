package group

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// shareAssignor is the name of the only assignor of share groups.
const shareAssignor = "simple"

// shareMember is one member of a share group. All of it is hard state.
type shareMember struct {
	id         string
	rack       *string
	clientID   string
	clientHost string
	topics     []string // names it subscribes to, as it says, none twice

	epoch    int32
	previous int32 // epoch before
	assigned assignor.Assignment
}

func newShareMember(id string) *shareMember { return &shareMember{id: id, previous: -1} }

// distinct are names in their order, each once.
func distinct(names []string) []string {
	var once []string
	for _, n := range names {
		if !slices.Contains(once, n) {
			once = append(once, n)
		}
	}
	return once
}

// sameMetadata reports whether a member's record would be the same.
func (m *shareMember) sameMetadata(o *shareMember) bool {
	return equalText(m.rack, o.rack) && m.clientID == o.clientID && m.clientHost == o.clientHost && slices.Equal(m.topics, o.topics)
}

// size is about the memory that the member takes.
func (m *shareMember) size() int64 {
	n := memberOverhead + len(m.id) + len(deref(m.rack)) + len(m.clientID) + len(m.clientHost) + partitionOverhead*m.assigned.Count()
	for _, t := range m.topics {
		n += topicOverhead + len(t)
	}
	return int64(n)
}

// shareTopic is a topic and partitions of it whose state is being initialized, or is there.
type shareTopic struct {
	name       string
	partitions []int32 // sorted
	at         int64   // ms, when that was recorded
}

// shareTopics is shareTopic by topic id. It is not changed once it is made.
type shareTopics map[base.TopicID]shareTopic

// with is s and some more partitions.
func (s shareTopics) with(o shareTopics) shareTopics {
	sum := maps.Clone(s)
	if sum == nil {
		sum = shareTopics{}
	}
	for id, t := range o {
		t.partitions = slices.Compact(slices.Sorted(slices.Values(slices.Concat(sum[id].partitions, t.partitions))))
		sum[id] = t
	}
	return sum
}

// without is s but for some partitions.
func (s shareTopics) without(o shareTopics) shareTopics {
	rest := shareTopics{}
	for id, t := range s {
		kept := slices.DeleteFunc(slices.Clone(t.partitions), func(p int32) bool { return slices.Contains(o[id].partitions, p) })
		if len(kept) > 0 {
			t.partitions = kept
			rest[id] = t
		}
	}
	return rest
}

func (s shareTopics) has(id base.TopicID, partition int32) bool {
	_, ok := slices.BinarySearch(s[id].partitions, partition)
	return ok
}

// ids are the topic ids in order.
func (s shareTopics) ids() []base.TopicID { return sortedIDs(s) }

func sortedIDs[V any](m map[base.TopicID]V) []base.TopicID {
	return slices.SortedFunc(maps.Keys(m), func(a, b base.TopicID) int { return bytes.Compare(a[:], b[:]) })
}

func (s shareTopics) size() int64 {
	n := 0
	for _, t := range s {
		n += topicOverhead + len(t.name) + partitionOverhead*len(t.partitions)
	}
	return int64(n)
}

// shareState says how far the share coordinator is with the partitions of a group. It is recorded as a whole.
type shareState struct {
	initializing shareTopics // it has been asked to; not assigned yet
	initialized  shareTopics
	deleting     map[base.TopicID]string // names of topics of which it is to forget all
}

func (s *shareState) size() int64 {
	n := s.initializing.size() + s.initialized.size()
	for _, name := range s.deleting {
		n += int64(topicOverhead + len(name))
	}
	return n
}

// shareGroup is a share group (KIP-932). It implements group.
type shareGroup struct {
	id          string
	epoch       int32
	hash        int64 // of what is known of the topics that it subscribes to
	members     map[string]*shareMember
	target      map[string]assignor.Assignment
	targetEpoch int32
	targetAt    int64 // ms, when it was made; 0: not here
	state       shareState

	subscribed map[string]int // members that subscribe to each topic; kept in step with members
	checked    int64          // version of the topics that hash was last compared with; soft state
}

func newShareGroup(id string) *shareGroup {
	return &shareGroup{
		id: id, epoch: firstEpoch, targetEpoch: firstEpoch, checked: -1,
		members: map[string]*shareMember{}, target: map[string]assignor.Assignment{}, subscribed: map[string]int{},
	}
}

// put adds a member or puts one in the place of its former self.
func (g *shareGroup) put(mb *shareMember) {
	g.drop(mb.id)
	g.members[mb.id] = mb
	for _, t := range mb.topics {
		tally(g.subscribed, t, 1)
	}
}

// drop forgets a member, but for its target.
func (g *shareGroup) drop(id string) {
	if mb := g.members[id]; mb != nil {
		delete(g.members, id)
		for _, t := range mb.topics {
			tally(g.subscribed, t, -1)
		}
	}
}

// copyMember is a copy of a member, or a new one.
func (g *shareGroup) copyMember(id string) *shareMember {
	if mb := g.members[id]; mb != nil {
		c := *mb
		return &c
	}
	return newShareMember(id)
}

// alike reports whether all members subscribe to the same.
func (g *shareGroup) alike() bool {
	for _, n := range g.subscribed {
		if n != len(g.members) {
			return false
		}
	}
	return true
}

// pending reports whether partitions that members subscribe to have been initialized, and nobody has them in the target assignment.
func (g *shareGroup) pending() bool {
	if len(g.members) == 0 {
		return false
	}
	given := map[base.TopicID]map[int32]bool{}
	for _, a := range g.target {
		for _, t := range a {
			if given[t.Topic] == nil {
				given[t.Topic] = map[int32]bool{}
			}
			for _, p := range t.Partitions {
				given[t.Topic][p] = true
			}
		}
	}
	for id, t := range g.state.initialized {
		if g.subscribed[t.name] == 0 {
			continue
		}
		if len(given[id]) != len(t.partitions) || slices.ContainsFunc(t.partitions, func(p int32) bool { return !given[id][p] }) {
			return true
		}
	}
	return false
}

func (m *Machine) share(id string) *shareGroup {
	g, _ := m.groups[id].(*shareGroup)
	return g
}

func shareSessionTimer(g *shareGroup, member string) coordinator.Timer {
	return coordinator.Timer{Kind: timerSession, Group: g.id, Member: member}
}

// ShareSettings are the settings of one share group: of the group itself (share.*) or else of the broker (group.share.*).
type ShareSettings struct {
	SessionTimeout     time.Duration // after which a member that was not heard of is out
	HeartbeatInterval  time.Duration // that members are told to keep
	AssignmentInterval time.Duration // least time between two target assignments
}

// DefaultShareSettings are Kafka's.
var DefaultShareSettings = ShareSettings{SessionTimeout: 45 * time.Second, HeartbeatInterval: 5 * time.Second, AssignmentInterval: time.Second}

// ShareListener is told of members of share groups that are no more, so that others get what they have not finished. It does not block.
type ShareListener interface {
	MemberLeft(group, member string)
	GroupEmpty(group string)
}
