package group

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// What a consumer group adds to the rules of histories:
//
//   - a partition is with one member at most: nobody is told that it has one while another, who is still a member, was told so and has
//     not given it back;
//   - the epoch that a member is told never goes down while it is a member;
//   - a static member that was replaced is refused;
//   - what the group keeps in step with its members is what they add up to;
//   - once all is quiet every partition comes to be with one of those who still report.

// consumerClient is a client of the consumer protocol, in the group c, with one heartbeat under way at most.
type consumerClient struct {
	name     string
	member   string
	lives    int // how often it started
	accepted int // the last of its lives that was told that it is a member
	instance *string
	epoch    int32          // 0: not a member
	told     map[place]bool // what it is to have
	owned    map[place]bool // what it has: it gives back in its own time
	busy     bool
	last     *kmsg.ConsumerGroupHeartbeatRequest // that it sent as a member
}

// lateHeartbeat is the last one of a client's life, which comes again in a later one.
type lateHeartbeat struct {
	client *consumerClient
	life   int
	req    *kmsg.ConsumerGroupHeartbeatRequest
}

// place is a partition of a topic.
type place struct {
	topic     base.TopicID
	partition int32
}

func (h *historian) newConsumers() {
	for i := range 5 {
		c := &consumerClient{name: fmt.Sprintf("c%d", i)}
		if i >= 3 {
			c.instance = ptr(c.name)
		}
		h.restartConsumer(c)
		h.consumers = append(h.consumers, c)
	}
}

// restartConsumer is a client that starts anew, under a new member id, and knows nothing.
func (h *historian) restartConsumer(c *consumerClient) {
	if c.instance != nil && c.last != nil {
		h.late = append(h.late, lateHeartbeat{c, c.lives, c.last})
	}
	h.lastID++
	*c = consumerClient{name: c.name, instance: c.instance, member: fmt.Sprintf("%s/%d", c.name, h.lastID), lives: c.lives + 1, accepted: c.accepted}
	c.hasNothing()
}

func (c *consumerClient) hasNothing() { c.epoch, c.told, c.owned = 0, nil, map[place]bool{} }

// giveBack is what a client does some time after it was told that it has less than before.
func (c *consumerClient) giveBack() {
	maps.DeleteFunc(c.owned, func(at place, _ bool) bool { return !c.told[at] })
}

// heartbeat is what all heartbeats of a client have in common.
func (c *consumerClient) heartbeat() *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID, req.RebalanceTimeoutMillis = 1, "c", c.member, c.epoch, c.instance, -1
	return req
}

// says has a heartbeat tell what the client has.
func (c *consumerClient) says(req *kmsg.ConsumerGroupHeartbeatRequest) {
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for p := range c.owned {
		req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: p.topic, Partitions: []int32{p.partition}})
	}
}

// report has a client send the heartbeat that it might send next.
func (h *historian) report(c *consumerClient) {
	if c.busy {
		if h.pick(12) == 0 {
			h.restartConsumer(c)
		}
		return
	}
	if c.epoch == 0 && h.pick(2) == 0 {
		h.restartConsumer(c) // one that left comes back as another
	}
	if h.pick(4) == 0 {
		c.giveBack()
	}
	gives := !maps.Equal(c.owned, c.told)
	req := c.heartbeat()
	subscribe := func() {
		switch h.pick(4) {
		case 0:
			req.SubscribedTopicNames, req.SubscribedTopicRegex = []string{}, ptr("t|v.*")
		case 1:
			req.SubscribedTopicNames, req.SubscribedTopicRegex = []string{"t", "u"}, ptr("")
		default:
			req.SubscribedTopicNames, req.SubscribedTopicRegex = []string{"t"}, ptr("")
		}
	}
	says := true
	switch n := h.pick(20); {
	case c.epoch == 0:
		req.RebalanceTimeoutMillis = 5000
		subscribe()
	case n < 3:
		subscribe()
	case n < 5:
		req.ServerAssignor = ptr([]string{"uniform", "range"}[h.pick(2)])
	case n < 7, gives && n < 15:
		says = false
	case n < 8, c.instance != nil && n < 10:
		c.hasNothing() // it is without them before it says so
		req.MemberEpoch = leaveEpoch
		if c.instance != nil && h.pick(2) == 0 {
			req.MemberEpoch = leaveStaticEpoch
		}
	}
	if says {
		c.says(req)
	}
	h.send(c, req)
}

// send sends a client's heartbeat.
func (h *historian) send(c *consumerClient, req *kmsg.ConsumerGroupHeartbeatRequest) {
	if req.MemberEpoch > 0 {
		again := *req
		c.last = &again
	}
	c.busy = true
	life := c.lives
	expectEither(h.runner, c.name, h.service.ConsumerGroupHeartbeat(Client{ID: c.name}, req), func(resp *kmsg.ConsumerGroupHeartbeatResponse, err error) {
		if c.lives != life {
			return // the one that asked is no more
		}
		if c.busy = false; err != nil || req.MemberEpoch < 0 {
			return
		}
		switch code := codeName(resp.ErrorCode); code {
		case "ok":
			h.reported(c, resp)
		case "FENCED_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID", "GROUP_ID_NOT_FOUND":
			c.hasNothing()
		case "UNRELEASED_INSTANCE_ID":
		default:
			h.failf("%s: %s %s", c.name, code, deref(resp.ErrorMessage))
		}
	})
}

// repeat has a heartbeat of a static member come that was under way until its client had started anew.
func (h *historian) repeat() {
	if len(h.late) == 0 {
		return
	}
	was := h.late[len(h.late)-1-h.pick(min(len(h.late), 3))]
	c, replaced := was.client, was.client.accepted > was.life
	again := *was.req
	expectEither(h.runner, c.name, h.service.ConsumerGroupHeartbeat(Client{ID: c.name}, &again), func(resp *kmsg.ConsumerGroupHeartbeatResponse, err error) {
		if err == nil && resp.ErrorCode == 0 && replaced {
			h.failf("a heartbeat of %s, whom another replaced, is answered as one of %s", was.req.MemberID, deref(resp.MemberID))
		}
	})
}

// reported takes over what an answer says.
func (h *historian) reported(c *consumerClient, resp *kmsg.ConsumerGroupHeartbeatResponse) {
	if resp.MemberEpoch < c.epoch {
		h.failf("%s is told epoch %d after %d", c.name, resp.MemberEpoch, c.epoch)
	}
	c.epoch, c.accepted = resp.MemberEpoch, c.lives
	if resp.Assignment == nil {
		return
	}
	c.told = map[place]bool{}
	for _, t := range resp.Assignment.Topics {
		for _, p := range t.Partitions {
			at := place{t.TopicID, p}
			c.told[at], c.owned[at] = true, true
			for _, other := range h.consumers {
				if other != c && other.owned[at] {
					h.bothHave(c.name, other, at)
				}
			}
		}
	}
}

// reportInFull has a client send a heartbeat that says all, as one does that has missed an answer.
func (h *historian) reportInFull(c *consumerClient) {
	if c.busy {
		return
	}
	c.giveBack()
	req := c.heartbeat()
	req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.SubscribedTopicRegex = 5000, []string{"t"}, ptr("")
	c.says(req)
	h.send(c, req)
}

// checkQuiet holds every partition that all subscribe to be with one client.
func (h *historian) checkQuiet() {
	owner := map[place]string{}
	for _, c := range h.consumers {
		for at := range c.owned {
			if other, ok := owner[at]; ok {
				h.failf("%s-%d is with %s and %s in the end", at.topic, at.partition, other, c.name)
			}
			owner[at] = c.name
		}
	}
	if want := int(h.topics["t"].Partitions); len(owner) != want {
		h.failf("%d partitions are with somebody in the end, want %d: %v", len(owner), want, owner)
	}
}

// bothHave fails if a client that has a partition which another was given is a member still.
func (h *historian) bothHave(name string, other *consumerClient, at place) {
	member := other.member
	call := coordinator.Submit(h.service.runtime, 0, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[[]string]) {
		var is []string
		if g := m.consumer("c"); g != nil && g.members[member] != nil {
			is = dumpConsumers(m, g)
		}
		c.Answer(fx, is)
	})
	expectEither(h.runner, "both", call, func(is []string, err error) {
		if err == nil && is != nil {
			h.failf("%s was given %s-%d, which %s has; the group is\n%s", name, at.topic, at.partition, member, strings.Join(is, "\n"))
		}
	})
}

// changeTopics has topics come, grow and go.
func (h *historian) changeTopics() {
	switch t := h.topics["t"]; h.pick(5) {
	case 4:
		delete(h.topics, "store") // of a streams group, which makes it again
	case 0:
		if t.Partitions < 6 {
			t.Partitions++
			h.topics["t"] = t
		}
	case 1:
		delete(h.topics, "v1")
	default:
		h.lastID++
		h.topics["v1"] = TopicInfo{Name: "v1", ID: base.TopicID{14: byte(h.lastID >> 8), 15: byte(h.lastID)}, Partitions: 3}
	}
}

// checkConsumers compares what a group keeps in step with its members with what these give.
func (h *historian) checkConsumers(g *consumerGroup) {
	fresh := newConsumerGroup(g.id)
	owner := map[place]string{}
	for id, mb := range g.members {
		fresh.put(mb)
		for _, held := range []holding{mb.assigned, mb.revoking} {
			for _, t := range held {
				for _, p := range t.partitions {
					at := place{t.topic, p}
					if other, ok := owner[at]; ok {
						h.failf("%s-%d is with %s and %s", at.topic, at.partition, other, id)
					}
					owner[at] = id
				}
			}
		}
		if mb.epoch > g.targetEpoch || g.targetEpoch > g.epoch {
			h.failf("epochs: member %d, target %d, group %d", mb.epoch, g.targetEpoch, g.epoch)
		}
	}
	for pattern, r := range g.regexes {
		fresh.resolve(pattern, &r)
		if g.regexMembers[pattern] == 0 {
			h.failf("nobody subscribes to pattern %s any more", pattern)
		}
	}
	targets := map[place]string{}
	for id, a := range g.target {
		if g.members[id] == nil {
			h.failf("%s has a target and is not a member", id)
		}
		for _, t := range a {
			for _, p := range t.Partitions {
				if other, ok := targets[place{t.Topic, p}]; ok {
					h.failf("%s-%d is the target of %s and %s", t.Topic, p, other, id)
				}
				targets[place{t.Topic, p}] = id
			}
		}
	}
	for name, pair := range map[string][2]any{
		"subscribed": {g.subscribed, fresh.subscribed}, "regexMembers": {g.regexMembers, fresh.regexMembers}, "assignors": {g.assignors, fresh.assignors},
		"static": {g.static, fresh.static}, "classicMembers": {g.classicMembers, fresh.classicMembers},
		"classicProtocols": {g.classicProtocols, fresh.classicProtocols}, "owners": {ownedPlaces(g), slices.Sorted(maps.Keys(placeNames(owner)))},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			h.failf("%s is %v, want %v", name, pair[0], pair[1])
		}
	}
}

func ownedPlaces(g *consumerGroup) []string {
	names := map[place]string{}
	for topic, partitions := range g.owners {
		for p := range partitions {
			names[place{topic, p}] = ""
		}
	}
	return slices.Sorted(maps.Keys(placeNames(names)))
}

func placeNames(places map[place]string) map[string]bool {
	names := map[string]bool{}
	for p := range places {
		names[fmt.Sprintf("%s-%d", p.topic, p.partition)] = true
	}
	return names
}
