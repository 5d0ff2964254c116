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
//   - what the group keeps in step with its members is what they add up to.

// consumerClient is a client of the consumer protocol, in the group c, with one heartbeat under way at most.
type consumerClient struct {
	name     string
	member   string
	lives    int // how often it started
	instance *string
	epoch    int32 // 0: not a member
	owned    map[place]bool
	busy     bool
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
	h.lastID++
	*c = consumerClient{name: c.name, instance: c.instance, member: fmt.Sprintf("%s-%d", c.name, h.lastID), lives: c.lives + 1, owned: map[place]bool{}}
}

// report has a client send the heartbeat that it might send next.
func (h *historian) report(c *consumerClient) {
	if c.busy {
		if h.pick(12) == 0 {
			h.restartConsumer(c)
		}
		return
	}
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID, req.RebalanceTimeoutMillis = 1, "c", c.member, c.epoch, c.instance, -1
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
	case n < 7:
		says = false
	case n < 8:
		c.epoch, req.MemberEpoch = 0, leaveEpoch
		if c.instance != nil && h.pick(2) == 0 {
			req.MemberEpoch = leaveStaticEpoch
		}
		c.owned = map[place]bool{} // it is without them before it says so
	}
	if says {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for p := range c.owned {
			req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: p.topic, Partitions: []int32{p.partition}})
		}
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
			c.epoch, c.owned = 0, map[place]bool{}
		case "UNRELEASED_INSTANCE_ID":
		default:
			h.failf("%s: %s %s", c.name, code, deref(resp.ErrorMessage))
		}
	})
}

// reported takes over what an answer says.
func (h *historian) reported(c *consumerClient, resp *kmsg.ConsumerGroupHeartbeatResponse) {
	if resp.MemberEpoch < c.epoch {
		h.failf("%s is told epoch %d after %d", c.name, resp.MemberEpoch, c.epoch)
	}
	c.epoch = resp.MemberEpoch
	if resp.Assignment == nil {
		return
	}
	has := map[place]bool{}
	for _, t := range resp.Assignment.Topics {
		for _, p := range t.Partitions {
			at := place{t.TopicID, p}
			has[at] = true
			for _, other := range h.consumers {
				if other != c && other.owned[at] {
					h.bothHave(c.name, other, at)
				}
			}
		}
	}
	c.owned = has
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
