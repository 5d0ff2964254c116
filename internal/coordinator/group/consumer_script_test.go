package group

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// hb G C epoch=N [member=ID] [instance=I] [rack=R] [topics=t+u] [regex=P] [assignor=A] [rebalance=30s] [owned=t:0.1+u:0]: a heartbeat of
// the consumer protocol, with the client's name as member id. The first one of a member says that it has nothing; "owned=none" says so
// later, and without owned nothing is said.
func (r *runner) consumerHeartbeat(a args) []string {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version = int16(a.number("v", 1))
	req.Group, req.MemberID = groupArg(a), a.get("member", a.plain[1])
	req.MemberEpoch = int32(a.number("epoch", 0))
	req.InstanceID, req.RackID, req.ServerAssignor = a.optional("instance"), a.optional("rack"), a.optional("assignor")
	req.SubscribedTopicRegex = a.optional("regex")
	req.RebalanceTimeoutMillis = -1
	if _, ok := a.named["rebalance"]; ok || req.MemberEpoch == 0 {
		req.RebalanceTimeoutMillis = a.millis("rebalance", "30s")
	}
	if topics, ok := a.named["topics"]; ok {
		req.SubscribedTopicNames = split(topics, "+")
	}
	owned, says := a.named["owned"]
	if says || req.MemberEpoch == 0 {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	if owned != "none" {
		for _, t := range split(owned, "+") {
			name, partitions, _ := strings.Cut(t, ":")
			rt := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			rt.TopicID = r.topics[name].ID
			for _, p := range split(partitions, ".") {
				n, _ := strconv.Atoi(p)
				rt.Partitions = append(rt.Partitions, int32(n))
			}
			req.Topics = append(req.Topics, rt)
		}
	}
	names := r.topics
	expect(r, a.plain[1], r.service.ConsumerGroupHeartbeat(Client{ID: a.plain[1], Host: "/127.0.0.1"}, req), func(resp *kmsg.ConsumerGroupHeartbeatResponse) []string {
		if resp.ErrorCode != 0 {
			return []string{codeName(resp.ErrorCode) + ": " + deref(resp.ErrorMessage)}
		}
		s := fmt.Sprintf("member=%s epoch=%d", deref(resp.MemberID), resp.MemberEpoch)
		if n := resp.HeartbeatIntervalMillis; resp.MemberEpoch >= 0 && n != 5000 {
			s += fmt.Sprintf(" next=%dms", n)
		}
		if resp.Assignment != nil {
			var has assignor.Assignment
			for _, t := range resp.Assignment.Topics {
				has = append(has, assignor.TopicPartitions{Topic: t.TopicID, Partitions: t.Partitions})
			}
			s += " assignment=" + showAssignment(names, has)
		}
		return []string{s}
	})
	return nil
}

func split(s, by string) []string {
	if s == "" {
		return []string{}
	}
	return strings.Split(s, by)
}

func showAssignment(image TopicImage, a assignor.Assignment) string {
	var topics []string
	for _, t := range a {
		topics = append(topics, topicText(image, t.Topic)+":"+showInts(t.Partitions, nil))
	}
	return "[" + strings.Join(topics, " ") + "]"
}

func topicText(image TopicImage, id base.TopicID) string {
	if t, ok := image.TopicByID(id); ok {
		return t.Name
	}
	return fmt.Sprintf("?%d", id[15])
}

// showInts shows numbers, with an epoch behind each where there are any.
func showInts(numbers, epochs []int32) string {
	var out []string
	for i, n := range numbers {
		s := strconv.Itoa(int(n))
		if epochs != nil {
			s += "@" + strconv.Itoa(int(epochs[i]))
		}
		out = append(out, s)
	}
	return strings.Join(out, ".")
}

func showHolding(image TopicImage, h holding) string {
	var topics []string
	for _, t := range h {
		topics = append(topics, topicText(image, t.topic)+":"+showInts(t.partitions, t.epochs))
	}
	return "[" + strings.Join(topics, " ") + "]"
}

// dumpConsumers shows a consumer group, all of which is hard state.
func dumpConsumers(m *Machine, g *consumerGroup) []string {
	image := m.env.Topics.Image()
	s := fmt.Sprintf("%s consumer %s epoch=%d target=%d", g.id, g.stateName(), g.epoch, g.targetEpoch)
	if g.hash != 0 {
		s += " hash"
	}
	for _, regex := range sortedKeys(g.regexes) {
		s += fmt.Sprintf(" %s=%s", regex, strings.Join(g.regexes[regex].topics, "+"))
	}
	out := []string{s}
	for _, id := range sortedKeys(g.members) {
		mb := g.members[id]
		s := fmt.Sprintf("- %s instance=%s topics=%s regex=%s rebalance=%d epoch=%d/%d %s has=%s", id, deref(mb.instance), strings.Join(mb.topics, "+"), mb.regex,
			mb.rebalanceTimeout, mb.epoch, mb.previous, stateText(mb.state), showHolding(image, mb.assigned))
		if len(mb.revoking) > 0 {
			s += " gives=" + showHolding(image, mb.revoking)
		}
		s += " target=" + showAssignment(image, g.target[id])
		if mb.assignor != nil {
			s += " assignor=" + *mb.assignor
		}
		if mb.classic != nil {
			s += fmt.Sprintf(" classic session=%d", mb.classic.sessionTimeout)
			for _, p := range mb.classic.protocols {
				s += " " + p.name
			}
		}
		out = append(out, s)
	}
	for _, id := range sortedKeys(g.target) {
		if g.members[id] == nil {
			out = append(out, fmt.Sprintf("- target of %s, who is not there: %s", id, showAssignment(image, g.target[id])))
		}
	}
	return out
}

func stateText(s memberState) string {
	return map[memberState]string{reconciled: "reconciled", unrevoked: "unrevoked", unreleased: "unreleased", unknownMember: "unknown"}[s]
}

// describeConsumers is ConsumerGroupDescribe.
func (r *runner) describeConsumers(a args) []string {
	expect(r, "consumers", r.service.DescribeConsumerGroup(groupArg(a)), func(g kmsg.ConsumerGroupDescribeResponseGroup) []string {
		if g.ErrorCode != 0 {
			return []string{codeName(g.ErrorCode) + ": " + deref(g.ErrorMessage)}
		}
		out := []string{fmt.Sprintf("%s epoch=%d assignment=%d assignor=%s", g.State, g.Epoch, g.AssignmentEpoch, g.AssignorName)}
		show := func(a kmsg.Assignment) string {
			var topics []string
			for _, t := range a.TopicPartitions {
				topics = append(topics, t.Topic+":"+showInts(t.Partitions, nil))
			}
			return "[" + strings.Join(topics, " ") + "]"
		}
		for _, m := range g.Members {
			out = append(out, fmt.Sprintf("member=%s instance=%s rack=%s epoch=%d client=%s host=%s topics=%s regex=%s type=%d has=%s target=%s", m.MemberID,
				deref(m.InstanceID), deref(m.RackID), m.MemberEpoch, m.ClientID, m.ClientHost, strings.Join(m.SubscribedTopics, "+"), deref(m.SubscribedTopicRegex),
				m.MemberType, show(m.Assignment), show(m.TargetAssignment)))
		}
		return out
	})
	return nil
}

// describeConsumerRecord shows a record of a consumer group by what it makes of an empty state.
func describeConsumerRecord(t *testing.T, key, value []byte) string {
	k := kbin.Reader{Src: key[2:]}
	s := consumerRecordNames[key[1]] + " " + k.String()
	name := ""
	if len(k.Src) > 0 {
		name = k.String()
		s += " " + name
	}
	if value == nil {
		return s + " deleted"
	}
	m := newTestMachine()
	mustReplay(t, m, key, value)
	for _, g := range m.groups {
		g := g.(*consumerGroup)
		mb, image := g.copyMember(name), m.env.Topics.Image()
		switch key[1] {
		case keyConsumerGroup:
			s += fmt.Sprintf(" %d", g.epoch)
		case keyConsumerMember:
			s += fmt.Sprintf(" topics=%s regex=%s", strings.Join(mb.topics, "+"), mb.regex)
		case keyTargetMetadata:
			s += fmt.Sprintf(" %d", g.targetEpoch)
		case keyTarget:
			s += " " + showAssignment(image, g.target[name])
		case keyCurrent:
			s += fmt.Sprintf(" %d/%d %s %s", mb.epoch, mb.previous, stateText(mb.state), showHolding(image, mb.assigned))
			if len(mb.revoking) > 0 {
				s += " gives=" + showHolding(image, mb.revoking)
			}
		case keyRegex:
			s += " " + strings.Join(g.regexes[name].topics, "+")
		}
	}
	return s
}
