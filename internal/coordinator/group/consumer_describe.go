package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// The protocols that a member of a consumer group is described with.
const (
	describedClassic  int8 = 0
	describedConsumer int8 = 1
)

// DescribeConsumerGroup handles one group of ConsumerGroupDescribe v0–1 (KIP-848). v1 tells which protocol each member speaks.
func (m *Machine) DescribeConsumerGroup(id string) kmsg.ConsumerGroupDescribeResponseGroup {
	d := kmsg.NewConsumerGroupDescribeResponseGroup()
	d.Group = id
	g, refused := as[*consumerGroup](m, id, "consumer")
	if refused != nil {
		d.ErrorCode, d.ErrorMessage = refused.Code.Code, &refused.Text
		return d
	}
	image := m.env.Topics.Image()
	d.State, d.Epoch, d.AssignmentEpoch = g.stateName(), g.epoch, g.targetEpoch
	d.AssignorName = g.assignorName(m.env.Config.Assignors[0])
	for _, id := range sortedKeys(g.members) {
		mb := g.members[id]
		dm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		dm.MemberID, dm.InstanceID, dm.RackID, dm.MemberEpoch = id, mb.instance, mb.rack, mb.epoch
		dm.ClientID, dm.ClientHost = mb.clientID, mb.clientHost
		dm.SubscribedTopics, dm.SubscribedTopicRegex = mb.topics, &mb.regex
		has := holder{}
		has.addAll(mb.assigned)
		has.addAll(mb.revoking)
		dm.Assignment = described(image, has.holding().assignment())
		dm.TargetAssignment = described(image, g.target[id])
		dm.MemberType = describedConsumer
		if mb.classic != nil {
			dm.MemberType = describedClassic
		}
		d.Members = append(d.Members, dm)
	}
	return d
}

// described is an assignment with names of topics; those of topics that are no more are left out.
func described(image TopicImage, a assignor.Assignment) kmsg.Assignment {
	out := kmsg.NewAssignment()
	for _, t := range a {
		if info, ok := image.TopicByID(t.Topic); ok {
			tp := kmsg.NewAssignmentTopicPartition()
			tp.TopicID, tp.Topic, tp.Partitions = t.Topic, info.Name, t.Partitions
			out.TopicPartitions = append(out.TopicPartitions, tp)
		}
	}
	return out
}
