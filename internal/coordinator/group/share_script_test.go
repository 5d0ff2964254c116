package group

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// share G M epoch=N [topics=t+u] [rack=R]: a heartbeat of a member of a share group. The first one subscribes to t unless it says otherwise.
func (r *runner) shareHeartbeat(a args) []string {
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.MemberEpoch = groupArg(a), a.plain[1], int32(a.number("epoch", 0))
	req.RackID = a.optional("rack")
	if topics, ok := a.named["topics"]; ok || req.MemberEpoch == 0 {
		if !ok {
			topics = "t"
		}
		req.SubscribedTopicNames = split(topics, "+")
	}
	expect(r, req.MemberID, r.service.ShareGroupHeartbeat(Client{ID: req.MemberID, Host: "/127.0.0.1"}, req), func(report ShareReport) []string {
		resp := report.Response
		r.initialize = append(r.initialize, report.Initialize...)
		if resp.ErrorCode != 0 {
			return []string{strings.TrimSpace(codeName(resp.ErrorCode) + " " + deref(resp.ErrorMessage))}
		}
		line := fmt.Sprintf("member=%s epoch=%d next=%dms", deref(resp.MemberID), resp.MemberEpoch, resp.HeartbeatIntervalMillis)
		if resp.Assignment != nil {
			line += " has="
			for _, t := range resp.Assignment.TopicPartitions {
				line += fmt.Sprintf("%d:%v", t.TopicID[15], t.Partitions)
			}
		}
		return append([]string{line}, showShare("initialize", report.Initialize)...)
	})
	return nil
}

func showShare(what string, partitions []SharePartition) []string {
	var out []string
	for _, p := range partitions {
		out = append(out, fmt.Sprintf("%s %d-%d epoch=%d start=%d", what, p.Topic[15], p.Partition, p.StateEpoch, p.Start))
	}
	return out
}

// initialized G [no]: the share coordinator has initialized, or has not, what it was asked for so far.
func (r *runner) shareInitialized(a args) []string {
	partitions := r.initialize
	r.initialize = nil
	expect(r, "initialized", r.service.ShareInitialized(groupArg(a), partitions, len(a.plain) < 2), func(struct{}) []string { return nil })
	return nil
}

// shares G: describes a share group, and the topics of which it has offsets.
func (r *runner) describeShares(a args) []string {
	expect(r, "shares", r.service.DescribeShareGroup(groupArg(a)), func(d kmsg.ShareGroupDescribeResponseGroup) []string {
		if d.ErrorCode != 0 {
			return []string{codeName(d.ErrorCode) + " " + deref(d.ErrorMessage)}
		}
		out := []string{fmt.Sprintf("%s epoch=%d assignment=%d %s", d.GroupState, d.GroupEpoch, d.AssignmentEpoch, d.Assignor)}
		for _, m := range d.Members {
			line := fmt.Sprintf("member=%s rack=%s epoch=%d client=%s topics=%v has=", m.MemberID, deref(m.RackID), m.MemberEpoch, m.ClientID, m.SubscribedTopicNames)
			for _, t := range m.Assignment.TopicPartitions {
				line += fmt.Sprintf("%s:%v", t.Topic, t.Partitions)
			}
			out = append(out, line)
		}
		return out
	})
	expect(r, "offsets", r.service.ShareOffsetTopics(groupArg(a)), func(topics []ShareTopic) []string {
		var out []string
		for _, t := range topics {
			out = append(out, fmt.Sprintf("%s %v", t.Name, t.Partitions))
		}
		return out
	})
	return nil
}

// alter G TOPIC PARTITION START: the first step of altering the offsets of a share group.
func (r *runner) alterShare(a args) []string {
	req := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	req.GroupID = groupArg(a)
	p := kmsg.NewAlterShareGroupOffsetsRequestTopicPartition()
	p.Partition, p.StartOffset = int32(atoi(a.plain[2])), int64(atoi(a.plain[3]))
	req.Topics = []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: a.plain[1], Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{p}}}
	expect(r, "alter", r.service.AlterShareOffsets(req), func(c ShareChange) []string {
		r.initialize = append(r.initialize, c.Partitions...)
		return append(showRefusal(c.Refused), showShare("initialize", c.Partitions)...)
	})
	return nil
}

// unshare G TOPIC: the first step of deleting the offsets of a share group; "forgotten G" is the last.
func (r *runner) forgetShare(a args) []string {
	req := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
	req.GroupID = groupArg(a)
	req.Topics = []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: a.plain[1]}}
	expect(r, "unshare", r.service.DeleteShareOffsets(req), func(c ShareChange) []string {
		out := append(showRefusal(c.Refused), showShare("forget", c.Partitions)...)
		for _, t := range c.Deleted {
			if r.unshared = append(r.unshared, t.TopicID); t.ErrorCode != 0 {
				out = append(out, codeName(t.ErrorCode)+" "+deref(t.ErrorMessage))
			}
		}
		return out
	})
	return nil
}

func (r *runner) shareForgotten(a args) []string {
	topics := r.unshared
	r.unshared = nil
	expect(r, "forgotten", r.service.ShareDeleted(groupArg(a), topics), func(struct{}) []string { return nil })
	return nil
}

func showRefusal(refused *Refusal) []string {
	if refused == nil {
		return nil
	}
	return []string{codeName(refused.Code.Code) + " " + refused.Text}
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// dumpShare shows a share group's state as text.
func dumpShare(m *Machine, g *shareGroup) []string {
	image := m.env.Topics.Image()
	out := []string{fmt.Sprintf("%s share %s epoch=%d target=%d hash=%v", g.id, g.stateName(), g.epoch, g.targetEpoch, g.hash != 0)}
	for _, id := range sortedKeys(g.members) {
		mb := g.members[id]
		out = append(out, fmt.Sprintf("- %s rack=%s topics=%v epoch=%d/%d has=%s target=%s", id, deref(mb.rack), mb.topics, mb.epoch, mb.previous,
			showAssignment(image, mb.assigned), showAssignment(image, g.target[id])))
	}
	show := func(what string, topics shareTopics) {
		for _, id := range topics.ids() {
			out = append(out, fmt.Sprintf("- %s %s %v", what, topics[id].name, topics[id].partitions))
		}
	}
	show("initializing", g.state.initializing)
	show("initialized", g.state.initialized)
	for _, id := range sortedIDs(g.state.deleting) {
		out = append(out, "- deleting "+g.state.deleting[id])
	}
	return out
}
