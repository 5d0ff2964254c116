package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// shareGroup implements group.

func (g *shareGroup) kind() Kind { return Share }

func (g *shareGroup) stateName() string {
	if len(g.members) == 0 {
		return "Empty"
	}
	return "Stable"
}

func (g *shareGroup) protocolName() string { return string(Share) }

func (g *shareGroup) isEmpty() bool { return len(g.members) == 0 }

func (g *shareGroup) size() int64 {
	n := groupOverhead + g.state.size()
	for _, mb := range g.members {
		n += mb.size()
	}
	for id, a := range g.target {
		n += targetSize(id, a)
	}
	return n
}

// resume gives every member a session from now on, whenever it was last heard of, and forgets topics that were deleted meanwhile.
func (g *shareGroup) resume(m *Machine, fx *coordinator.Effects) {
	for _, id := range sortedKeys(g.members) {
		m.shareSession(fx, g, id)
	}
	m.forgetShareTopics(fx, g)
}

func (g *shareGroup) elapsed(m *Machine, fx *coordinator.Effects, t coordinator.Timer) {
	if g.members[t.Member] != nil {
		m.log("a member is out", g.id, "member", t.Member, "why", "its session ended")
		m.removeShareMember(fx, g, t.Member)
	}
}

// entomb writes the tombstones in Kafka's order.
func (g *shareGroup) entomb(_ *Machine, fx *coordinator.Effects) {
	members := sortedKeys(g.members)
	for _, id := range members {
		fx.CancelTimer(shareSessionTimer(g, id))
		fx.Append(shareCurrentKey(g.id, id), nil)
	}
	for _, id := range sortedKeys(g.target) {
		fx.Append(shareTargetKey(g.id, id), nil)
	}
	fx.Append(shareTargetMetadataKey(g.id), nil)
	for _, id := range members {
		fx.Append(shareMemberKey(g.id, id), nil)
	}
	fx.Append(shareStateKey(g.id), nil)
	fx.Append(shareGroupKey(g.id), nil)
}

func (g *shareGroup) snapshot(emit func(key, value []byte)) {
	members := sortedKeys(g.members)
	emit(shareGroupKey(g.id), encodeGroupEpochHash(g.epoch, g.hash))
	for _, id := range members {
		emit(shareMemberKey(g.id, id), encodeShareMember(g.members[id]))
	}
	for _, id := range sortedKeys(g.target) {
		emit(shareTargetKey(g.id, id), encodeTarget(g.target[id]))
	}
	emit(shareTargetMetadataKey(g.id), encodeTargetMetadata(g.targetEpoch, g.targetAt))
	for _, id := range members {
		emit(shareCurrentKey(g.id, id), encodeShareCurrent(g.members[id]))
	}
	if g.state.initialized != nil { // recorded
		emit(shareStateKey(g.id), encodeShareState(&g.state))
	}
}

// A share group has no committed offsets, and goes only when it is deleted.

func (g *shareGroup) subscribes(topic string) bool { return g.subscribed[topic] > 0 }

func (g *shareGroup) mayDeleteOffsets() *kerr.Error { return kerr.GroupIDNotFound }

func (g *shareGroup) retention() func(*committed) int64 { return nil }

func (g *shareGroup) mayCommit(committer) (commitCheck, *kerr.Error) {
	return nil, kerr.GroupIDNotFound
}

func (g *shareGroup) mayFetch(fetcher) *kerr.Error { return nil }

// DescribeShareGroup handles one group of ShareGroupDescribe v1 (KIP-932).
func (m *Machine) DescribeShareGroup(id string) kmsg.ShareGroupDescribeResponseGroup {
	d := kmsg.NewShareGroupDescribeResponseGroup()
	d.GroupID = id
	g, refused := as[*shareGroup](m, id, "share")
	if refused != nil {
		d.ErrorCode, d.ErrorMessage = refused.Code.Code, &refused.Text
		return d
	}
	image := m.env.Topics.Image()
	d.GroupState, d.GroupEpoch, d.AssignmentEpoch, d.Assignor = g.stateName(), g.epoch, g.targetEpoch, shareAssignor
	for _, id := range sortedKeys(g.members) {
		mb := g.members[id]
		dm := kmsg.NewShareGroupDescribeResponseGroupMember()
		dm.MemberID, dm.RackID, dm.MemberEpoch = id, mb.rack, mb.epoch
		dm.ClientID, dm.ClientHost, dm.SubscribedTopicNames = mb.clientID, mb.clientHost, mb.topics
		for _, t := range mb.assigned {
			if info, ok := image.TopicByID(t.Topic); ok {
				tp := kmsg.NewShareGroupDescribeResponseGroupMemberAssignmentTopicPartition()
				tp.TopicID, tp.Topic, tp.Partitions = t.Topic, info.Name, t.Partitions
				dm.Assignment.TopicPartitions = append(dm.Assignment.TopicPartitions, tp)
			}
		}
		d.Members = append(d.Members, dm)
	}
	return d
}

// forgetShareTopics forgets topics that do not exist any more. The share coordinator does so by itself.
func (m *Machine) forgetShareTopics(fx *coordinator.Effects, g *shareGroup) {
	image := m.env.Topics.Image()
	gone := func(id base.TopicID) bool {
		_, ok := image.TopicByID(id)
		return !ok
	}
	s := shareState{initializing: shareTopics{}, initialized: shareTopics{}, deleting: map[base.TopicID]string{}}
	for id, t := range g.state.initializing {
		if !gone(id) {
			s.initializing[id] = t
		}
	}
	for id, t := range g.state.initialized {
		if !gone(id) {
			s.initialized[id] = t
		}
	}
	for id, name := range g.state.deleting {
		if !gone(id) {
			s.deleting[id] = name
		}
	}
	if len(s.initializing)+len(s.initialized)+len(s.deleting) < len(g.state.initializing)+len(g.state.initialized)+len(g.state.deleting) {
		m.recordShareState(fx, g, s)
	}
}
