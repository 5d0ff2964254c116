package group

import (
	"maps"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
	"github.com/ottlaio/ottla/internal/coordinator/group/topology"
)

// streamsState is how far a member of a streams group has come towards its target. The numbers are those of its records.
type streamsState int8

const (
	streamsStable     streamsState = 1   // it has its target
	unrevokedTasks    streamsState = 2   // it is to give back tasks
	unreleasedTasks   streamsState = 3   // it waits for tasks that others have not given back
	unknownTasksState streamsState = 127 // of a later version
)

// noTopology is the topology epoch of a member or group that has none.
const noTopology = -1

// streamsEndpoint is where a process answers interactive queries.
type streamsEndpoint struct {
	host string
	port uint16
}

// streamsMember is one member of a streams group: one thread of a process of the application. All of it is hard state.
type streamsMember struct {
	id               string
	instance         *string // Kafka 4.3 has a place for it in its record, and refuses static members
	rack             *string
	clientID         string
	clientHost       string
	rebalanceTimeout int32 // ms
	topologyEpoch    int32
	process          string
	endpoint         *streamsEndpoint
	tags             map[string]string

	epoch    int32
	previous int32 // epoch before
	state    streamsState
	assigned taskSet
	revoking taskSet // to be given back
}

func newStreamsMember(id string) *streamsMember {
	return &streamsMember{id: id, rebalanceTimeout: -1, topologyEpoch: noTopology, state: streamsStable}
}

// sameMetadata reports whether a member's record would be the same.
func (m *streamsMember) sameMetadata(o *streamsMember) bool {
	sameEndpoint := (m.endpoint == nil) == (o.endpoint == nil) && (m.endpoint == nil || *m.endpoint == *o.endpoint)
	return equalText(m.instance, o.instance) && equalText(m.rack, o.rack) && m.clientID == o.clientID && m.clientHost == o.clientHost &&
		m.rebalanceTimeout == o.rebalanceTimeout && m.topologyEpoch == o.topologyEpoch && m.process == o.process && sameEndpoint &&
		maps.Equal(m.tags, o.tags)
}

// sameProgress reports whether the record of what a member has would be the same.
func (m *streamsMember) sameProgress(o *streamsMember) bool {
	return m.epoch == o.epoch && m.previous == o.previous && m.state == o.state && m.assigned.equal(&o.assigned) && m.revoking.equal(&o.revoking)
}

func (m *streamsMember) reconciledTo(epoch int32) bool {
	return m.state == streamsStable && m.epoch == epoch
}

// size is about the memory that the member takes.
func (m *streamsMember) size() int64 {
	n := memberOverhead + len(m.id) + len(deref(m.instance)) + len(deref(m.rack)) + len(m.clientID) + len(m.clientHost) + len(m.process)
	if m.endpoint != nil {
		n += len(m.endpoint.host)
	}
	for k, v := range m.tags {
		n += protocolOverhead + len(k) + len(v)
	}
	return int64(n) + m.assigned.size() + m.revoking.size()
}

// streamsGroup is a group of the streams protocol (KIP-1071). It implements group.
type streamsGroup struct {
	id        string
	epoch     int32
	hash      int64             // of what is known of the topics that its topology refers to
	validated int32             // epoch of the topology that was found to have all of its topics; noTopology: none
	configs   map[string]string // of the assignor, as of the group's epoch
	members   map[string]*streamsMember
	topology  *topology.Topology // nil: not known yet
	encoded   []byte             // the topology's record

	target      map[string]assignor.TaskAssignment
	targetEpoch int32
	targetAt    int64 // ms, when it was made; 0: not here

	// Kept in step with members and topology.
	owners  taskOwners
	sources map[string]string // topic → subtopology that reads it

	// Soft state.
	configured    *topology.Configured // what the topology needs of the topics; nil: not worked out yet
	checked       int64                // version of the topics that hash was last compared with
	delayed       bool                 // more members are waited for before the first target
	shutdown      string               // member that asked for the whole application to end; "": none
	endpointEpoch int32                // goes up with what members with an endpoint have
}

func newStreamsGroup(id string) *streamsGroup {
	return &streamsGroup{
		id: id, epoch: firstEpoch, targetEpoch: firstEpoch, checked: -1, members: map[string]*streamsMember{}, configs: map[string]string{},
		target: map[string]assignor.TaskAssignment{}, owners: newTaskOwners(), sources: map[string]string{},
	}
}

// put adds a member or puts one in the place of its former self.
func (g *streamsGroup) put(mb *streamsMember) {
	g.uncount(mb.id)
	g.members[mb.id] = mb
	g.owners.count(&mb.assigned, mb.process, 1)
	g.owners.count(&mb.revoking, mb.process, 1)
}

// drop forgets a member, but for its target.
func (g *streamsGroup) drop(id string) {
	g.uncount(id)
	if delete(g.members, id); len(g.members) == 0 {
		g.shutdown = ""
	}
}

func (g *streamsGroup) uncount(id string) {
	if mb := g.members[id]; mb != nil {
		g.owners.count(&mb.assigned, mb.process, -1)
		g.owners.count(&mb.revoking, mb.process, -1)
	}
}

// copyMember is a copy of a member, or a new one.
func (g *streamsGroup) copyMember(id string) *streamsMember {
	if mb := g.members[id]; mb != nil {
		c := *mb
		return &c
	}
	return newStreamsMember(id)
}

// setTopology replaces the topology; nil: there is none.
func (g *streamsGroup) setTopology(t *topology.Topology, encoded []byte) {
	g.topology, g.encoded, g.configured = t, encoded, nil
	clear(g.sources)
	if t == nil {
		return
	}
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		for _, name := range s.SourceTopics {
			g.sources[name] = s.ID
		}
		for j := range s.RepartitionSourceTopics {
			g.sources[s.RepartitionSourceTopics[j].Name] = s.ID
		}
	}
}

// topologySize is about the memory that a topology takes, with what is worked out from it: it is there three times.
func (g *streamsGroup) topologySize() int64 { return 4 * int64(len(g.encoded)) }

func (m *Machine) streams(id string) *streamsGroup {
	g, _ := m.groups[id].(*streamsGroup)
	return g
}

func streamsSessionTimer(g *streamsGroup, member string) coordinator.Timer {
	return coordinator.Timer{Kind: timerSession, Group: g.id, Member: member}
}

func streamsRebalanceTimer(g *streamsGroup, member string) coordinator.Timer {
	return coordinator.Timer{Kind: timerRebalance, Group: g.id, Member: member}
}

// streamsDelayTimer ends the wait for more members of a group that was empty.
func streamsDelayTimer(g *streamsGroup) coordinator.Timer {
	return coordinator.Timer{Kind: timerDelay, Group: g.id}
}
