package group

import (
	"fmt"
	"maps"
	"reflect"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// What a streams group adds to the rules of histories:
//
//   - an active task is with one member at most, and of the state of a task a process has one copy at most: nobody is told that it has a task
//     while another, who is still a member, was told so and has not given it back;
//   - the epoch that a member is told never goes down while it is a member;
//   - what the group keeps in step with its members is what they add up to;
//   - once all is quiet every task comes to be with one of those who still report.

// streamsClient is a client of the streams protocol, in the group z, with one heartbeat under way at most.
type streamsClient struct {
	name, process string
	member        string
	lives         int // how often it started
	epoch         int32
	owned         [taskKinds]map[task]bool
	busy          bool
}

func (h *historian) newStreams() {
	h.topics["s"] = TopicInfo{Name: "s", ID: base.TopicID{1, 15: 1}, Partitions: 3}
	for i := range 4 {
		c := &streamsClient{name: fmt.Sprintf("z%d", i), process: fmt.Sprintf("p%d", i/2)}
		h.restartStreams(c)
		h.streamers = append(h.streamers, c)
	}
}

// restartStreams is a client that starts anew, under a new member id, and knows nothing.
func (h *historian) restartStreams(c *streamsClient) {
	h.lastID++
	*c = streamsClient{name: c.name, process: c.process, member: fmt.Sprintf("%s-%d", c.name, h.lastID), lives: c.lives + 1}
}

// historyTopology has tasks without state, one for each partition of t, and three with state.
func historyTopology() *kmsg.StreamsGroupHeartbeatRequestTopology {
	return &kmsg.StreamsGroupHeartbeatRequestTopology{Subtopologies: []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{
		{SubtopologyID: "0", SourceTopics: []string{"t"}},
		{SubtopologyID: "1", SourceTopics: []string{"s"}, StateChangelogTopics: []kmsg.TopicInfo{{Topic: "store"}}},
	}}
}

// reportTasks has a client send the heartbeat that it might send next; leaves says whether it may restart or leave.
func (h *historian) reportTasks(c *streamsClient, leaves bool) {
	if c.busy {
		if leaves && h.pick(12) == 0 {
			h.restartStreams(c)
		}
		return
	}
	req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = "z", c.member, c.epoch, -1
	says := true
	switch {
	case c.epoch == 0:
		req.RebalanceTimeoutMillis, req.ProcessID, req.Topology = 5000, &c.process, historyTopology()
		c.owned = [taskKinds]map[task]bool{}
	case !leaves:
	default:
		switch n := h.pick(20); {
		case n < 2:
			says = false
		case n < 3:
			h.restartStreams(c) // it died
			return
		case n < 4:
			c.epoch, req.MemberEpoch = 0, leaveEpoch
			c.owned = [taskKinds]map[task]bool{} // it is without them before it says so
		}
	}
	if says {
		for kind, into := range []*[]kmsg.TaskIDs{&req.ActiveTasks, &req.StandbyTasks, &req.WarmupTasks} {
			*into = []kmsg.TaskIDs{}
			for t := range c.owned[kind] {
				*into = append(*into, kmsg.TaskIDs{SubtopologyID: t.subtopology, Partitions: []int32{t.partition}})
			}
		}
	}
	c.busy = true
	life := c.lives
	expectEither(h.runner, c.name, h.service.StreamsGroupHeartbeat(Client{ID: c.name}, req), func(answer StreamsHeartbeat, err error) {
		if c.lives != life {
			return // the one that asked is no more
		}
		if c.busy = false; err != nil || req.MemberEpoch < 0 {
			return
		}
		resp := answer.Response
		switch code := codeName(resp.ErrorCode); code {
		case "ok":
			for _, t := range answer.Create {
				h.lastID++
				h.topics[t.Name] = TopicInfo{Name: t.Name, ID: base.TopicID{2, 14: byte(h.lastID >> 8), 15: byte(h.lastID)}, Partitions: t.Partitions}
			}
			h.reportedTasks(c, resp)
		case "FENCED_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID", "GROUP_ID_NOT_FOUND":
			c.epoch, c.owned = 0, [taskKinds]map[task]bool{}
		default:
			h.failf("%s: %s %s", c.name, code, deref(resp.ErrorMessage))
		}
	})
}

// reportedTasks takes over what an answer says.
func (h *historian) reportedTasks(c *streamsClient, resp *kmsg.StreamsGroupHeartbeatResponse) {
	if resp.MemberEpoch < c.epoch {
		h.failf("%s is told epoch %d after %d", c.name, resp.MemberEpoch, c.epoch)
	}
	c.epoch = resp.MemberEpoch
	if resp.ActiveTasks == nil {
		return
	}
	c.owned = [taskKinds]map[task]bool{}
	for kind, tasks := range [][]kmsg.TaskIDs{resp.ActiveTasks, resp.StandbyTasks, resp.WarmupTasks} {
		c.owned[kind] = map[task]bool{}
		for _, s := range tasks {
			for _, p := range s.Partitions {
				c.owned[kind][task{s.SubtopologyID, p}] = true
			}
		}
	}
	for _, other := range h.streamers {
		if other == c {
			continue
		}
		for t := range c.owned[activeTasks] {
			if other.owned[activeTasks][t] {
				h.bothHaveTask(c, other, t)
			}
		}
		if other.process == c.process {
			for kind := range c.owned {
				for t := range c.owned[kind] {
					if other.owned[activeTasks][t] || other.owned[standbyTasks][t] {
						h.bothHaveTask(c, other, t)
					}
				}
			}
		}
	}
}

// bothHaveTask fails if a client that has a task which another was given is a member still.
func (h *historian) bothHaveTask(c, other *streamsClient, at task) {
	member, name := other.member, c.name
	call := coordinator.Submit(h.service.runtime, 0, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[[]string]) {
		var is []string
		if g := m.streams("z"); g != nil && g.members[member] != nil {
			is = dumpStreams(g)
		}
		c.Answer(fx, is)
	})
	expectEither(h.runner, "both", call, func(is []string, err error) {
		if err == nil && is != nil {
			h.failf("%s was given task %s_%d, which %s has; the group is\n%s", name, at.subtopology, at.partition, member, strings.Join(is, "\n"))
		}
	})
}

// checkQuietTasks holds every task to be with one client.
func (h *historian) checkQuietTasks() {
	owner := map[task]string{}
	for _, c := range h.streamers {
		for t := range c.owned[activeTasks] {
			if other, ok := owner[t]; ok {
				h.failf("task %s_%d is with %s and %s in the end", t.subtopology, t.partition, other, c.name)
			}
			owner[t] = c.name
		}
	}
	want := int(h.topics["t"].Partitions + h.topics["s"].Partitions)
	if len(owner) != want {
		h.failf("%d tasks are with somebody in the end, want %d: %v", len(owner), want, owner)
	}
}

// checkStreams compares what a group keeps in step with its members with what these give.
func (h *historian) checkStreams(g *streamsGroup) {
	fresh := newStreamsGroup(g.id)
	owner := map[task]string{}
	for id, mb := range g.members {
		fresh.put(mb)
		for _, held := range []heldTasks{mb.assigned[activeTasks], mb.revoking[activeTasks]} {
			for t := range held {
				if other, ok := owner[t]; ok {
					h.failf("task %s_%d is with %s and %s", t.subtopology, t.partition, other, id)
				}
				owner[t] = id
			}
		}
		if mb.epoch > g.targetEpoch || g.targetEpoch > g.epoch {
			h.failf("epochs: member %d, target %d, group %d", mb.epoch, g.targetEpoch, g.epoch)
		}
	}
	for kind := range g.owners {
		if !maps.EqualFunc(g.owners[kind], fresh.owners[kind], func(a, b map[string]int) bool { return reflect.DeepEqual(a, b) }) {
			h.failf("owners of kind %d are %v, want %v", kind, g.owners[kind], fresh.owners[kind])
		}
	}
	targets := map[task]string{}
	for id, a := range g.target {
		if g.members[id] == nil {
			h.failf("%s has a target and is not a member", id)
		}
		h.checkTargets(id, a.Active, targets)
	}
}

func (h *historian) checkTargets(id string, tasks assignor.Tasks, targets map[task]string) {
	for _, s := range tasks {
		for _, p := range s.Partitions {
			if other, ok := targets[task{s.Subtopology, p}]; ok {
				h.failf("task %s_%d is the target of %s and %s", s.Subtopology, p, other, id)
			}
			targets[task{s.Subtopology, p}] = id
		}
	}
}
