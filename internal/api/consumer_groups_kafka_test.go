package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestConsumerGroupsAnswerAsKafka has a conversation about consumer groups, and groups on their way from one protocol to the other, and
// compares each answer with the one that Apache Kafka 4.3.1 gave.
func TestConsumerGroupsAnswerAsKafka(t *testing.T) {
	compareWithKafka(t, "testdata/golden/consumer-groups-kafka-4.3.1.txt", (*conversation).consumers)
}

func (v *conversation) consumers(_ *testing.T) {
	v.begin("consumed")
	v.heartbeats()
	v.consumerStatics()
	v.consumerOffsets()
	v.upgrade()
	v.kinds()
}

// report is the heartbeat of a member; the first one (epoch 0) says what every first one does.
func (v *conversation) report(group, member string, epoch int32, with ...func(*kmsg.ConsumerGroupHeartbeatRequest)) *kmsg.ConsumerGroupHeartbeatRequest {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.MemberEpoch, r.RebalanceTimeoutMillis = 1, group, member, epoch, -1
	if epoch == 0 {
		r.RebalanceTimeoutMillis, r.SubscribedTopicNames, r.Topics = 30000, []string{v.topic}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	for _, w := range with {
		w(r)
	}
	return r
}

func version(n int16) func(*kmsg.ConsumerGroupHeartbeatRequest) {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Version = n }
}

func instance(id string) func(*kmsg.ConsumerGroupHeartbeatRequest) {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = &id }
}

func topics(names ...string) func(*kmsg.ConsumerGroupHeartbeatRequest) {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = names }
}

func assignedBy(name string) func(*kmsg.ConsumerGroupHeartbeatRequest) {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.ServerAssignor = &name }
}

func matching(pattern string) func(*kmsg.ConsumerGroupHeartbeatRequest) {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.SubscribedTopicNames, r.SubscribedTopicRegex = nil, &pattern
	}
}

// owning says which partitions the member has; none: nothing.
func (v *conversation) owning(partitions ...int32) func(*kmsg.ConsumerGroupHeartbeatRequest) {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if len(partitions) > 0 {
			r.Topics = append(r.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: v.topicID, Partitions: partitions})
		}
	}
}

func consumerDescribe(version int16, groups ...string) *kmsg.ConsumerGroupDescribeRequest {
	r := kmsg.NewPtrConsumerGroupDescribeRequest()
	r.Version, r.Groups, r.IncludeAuthorizedOperations = version, groups, true
	return r
}

func (v *conversation) heartbeats() {
	v.ask("no group", v.report("", "a", 0))
	v.ask("no member", v.report("c", "", 0))
	v.ask("blank member", v.report("c", " ", 0))
	v.ask("no such group", v.report("c", "a", 1))
	v.ask("leaves no group", v.report("c", "a", -1))
	v.ask("epoch below all", v.report("c", "a", -3))
	v.ask("static without instance", v.report("c", "a", -2))
	v.ask("blank instance", v.report("c", "a", 0, instance(" ")))
	v.ask("blank rack", v.report("c", "a", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RackID = kmsg.StringPtr("") }))
	v.ask("no rebalance timeout", v.report("c", "a", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = -1 }))
	v.ask("owns partitions", v.report("c", "a", 0, v.owning(0)))
	v.ask("does not say what it owns", v.report("c", "a", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Topics = nil }))
	v.ask("no subscription", v.report("c", "a", 0, topics()))
	v.ask("unknown assignor", v.report("c", "a", 0, assignedBy("sticky")))
	v.ask("bad pattern", v.report("c", "a", 0, matching("(")))
	v.ask("another bad pattern", v.report("c", "a", 0, matching("a{1001}")))
	v.ask("no such group", consumerDescribe(1, "c", ""))

	v.ask("without an id of its own", v.report("c0", "", 0, version(0)))
	v.ask("first", v.report("c", "a", 0))
	v.ask("again", v.report("c", "a", 0))
	v.ask("unchanged", v.report("c", "a", 2))
	v.ask("full", v.report("c", "a", 2, topics(v.topic), v.owning(0, 1), func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = 30000 }))
	v.ask("one member", consumerDescribe(0, "c"))
	v.ask("one member", consumerDescribe(1, "c"))
	v.ask("epoch too high", v.report("c", "a", 3))
	v.ask("unknown member", v.report("c", "x", 2))
	v.ask("unknown member leaves", v.report("c", "x", -1))
	v.ask("unknown instance", v.report("c", "a", 2, instance("i")))
	v.ask("second", v.report("c", "b", 0))
	v.ask("reconciling", consumerDescribe(1, "c"))
	v.ask("waits", v.report("c", "b", 3))
	v.ask("is to give one back", v.report("c", "a", 2))
	v.ask("reconciling", consumerDescribe(1, "c"))
	v.ask("has not yet", v.report("c", "a", 2, v.owning(0, 1)))
	v.ask("has given it back", v.report("c", "a", 2, v.owning(0)))
	v.ask("gets it", v.report("c", "b", 3))
	v.ask("stable", consumerDescribe(1, "c"))
	v.ask("epoch before, says nothing", v.report("c", "a", 2))
	v.ask("epoch before, owns what it may", v.report("c", "a", 2, v.owning(0)))
	v.ask("epoch before, owns more", v.report("c", "a", 2, v.owning(0, 1)))
	v.ask("epoch long gone", v.report("c", "a", 1, v.owning(0)))
	v.ask("prefers an assignor", v.report("c", "a", 3, assignedBy("range")))
	v.ask("unsubscribes", v.report("c", "a", 3, topics()))
	v.ask("unsubscribes", v.report("c", "a", 3, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = []string{} }))
	v.ask("has given all back", v.report("c", "a", 3, v.owning()))
	v.ask("gets all", v.report("c", "b", 3))
	v.ask("stable", consumerDescribe(1, "c"))
	v.ask("a topic that there is not", v.report("c", "b", 4, topics(v.topic, "nope")))
	v.ask("leaves", v.report("c", "b", -1))
	v.ask("one left", consumerDescribe(1, "c"))
	v.ask("leaves", v.report("c", "a", -1))
	v.ask("empty", consumerDescribe(1, "c"))
}

func (v *conversation) consumerStatics() {
	i := instance("i")
	v.ask("static", v.report("s", "a1", 0, i))
	v.ask("still there", v.report("s", "a2", 0, i))
	v.ask("fenced", v.report("s", "a2", 2, i))
	v.ask("fenced leaves", v.report("s", "a2", -1, i))
	v.ask("unknown instance leaves", v.report("s", "a1", -2, instance("j")))
	v.ask("leaves for a while", v.report("s", "a1", -2, i))
	v.ask("away", consumerDescribe(1, "s"))
	v.ask("epoch of before", v.report("s", "a1", 2, i))
	v.ask("another takes its place", v.report("s", "a2", 0, i))
	v.ask("former self", v.report("s", "a1", 2, i))
	v.ask("stable", consumerDescribe(1, "s"))
	v.ask("leaves", v.report("s", "a2", -1, i))
}

func (v *conversation) consumerOffsets() {
	v.ask("first", v.report("o", "a", 0))
	v.ask("second", v.report("o", "b", 0))
	v.ask("gives", v.report("o", "a", 2))
	v.ask("has given", v.report("o", "a", 2, v.owning(0)))
	v.ask("gets", v.report("o", "b", 3))
	for version := int16(8); version <= 10; version++ {
		v.ask("current epoch", v.commit(version, "o", v.topic, 3, "a", 0))
		v.ask("old epoch, kept since", v.commit(version, "o", v.topic, 2, "a", 0))
		v.ask("old epoch, not kept", v.commit(version, "o", v.topic, 2, "a", 1))
		v.ask("old epoch, one kept and one not", v.commit(version, "o", v.topic, 2, "a", 0, 1))
		v.ask("epoch of before it was assigned", v.commit(version, "o", v.topic, 2, "b", 1))
		v.ask("epoch to come", v.commit(version, "o", v.topic, 4, "a", 0))
		v.ask("unknown member", v.commit(version, "o", v.topic, 3, "x", 0))
		v.ask("no member", v.commit(version, "o", v.topic, -1, "", 0))
		v.ask("no group", v.commit(version, "none", v.topic, 3, "a", 0))
		for _, epoch := range []int32{-1, 2, 3, 4} {
			f := v.fetch(version, "o", v.topic, 0, 1)
			f.Groups[0].MemberID, f.Groups[0].MemberEpoch = kmsg.StringPtr("a"), epoch
			v.ask("of a member", f)
		}
		f := v.fetch(version, "o", v.topic, 0)
		f.Groups[0].MemberID, f.Groups[0].MemberEpoch = kmsg.StringPtr("x"), 3
		v.ask("of an unknown member", f)
		v.ask("of no member", v.fetch(version, "o", v.topic, 0))
	}
	v.ask("subscribed", deleteOffsets("o", v.topic, 0))
	v.ask("not empty", deleteRequest(2, "o"))
	v.ask("leaves", v.report("o", "a", -1))
	v.ask("leaves", v.report("o", "b", -1))
	v.ask("of no member, empty", v.commit(9, "o", v.topic, -1, "", 0))
	v.ask("not subscribed", deleteOffsets("o", v.topic, 0))
	v.ask("empty", deleteRequest(2, "o"))
	v.ask("gone", consumerDescribe(1, "o"))
}

// subscription is ConsumerProtocolSubscription v1 of the topic, with partitions that its member has.
func (v *conversation) subscription(owned ...int32) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, []string{v.topic}
	if len(owned) > 0 {
		m.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: v.topic, Partitions: owned}}
	}
	return m.AppendTo(nil)
}

func (v *conversation) classicJoin(group, member string, instance *string, owned ...int32) *kmsg.JoinGroupRequest {
	r := join(9, group, member, instance, "range")
	r.Protocols[0].Metadata = v.subscription(owned...)
	return r
}

// upgrade takes a group with a classic member to the consumer protocol and back.
func (v *conversation) upgrade() {
	m := v.ask("classic", v.classicJoin("u", "", nil)).(*kmsg.JoinGroupResponse).MemberID
	v.ask("classic", v.classicJoin("u", m, nil))
	all := kmsg.NewConsumerMemberAssignment()
	all.Version, all.Topics = 1, []kmsg.ConsumerMemberAssignmentTopic{{Topic: v.topic, Partitions: []int32{0, 1}}}
	sync := syncRequest(5, "u", m, 1, nil)
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: m, MemberAssignment: all.AppendTo(nil)}}
	v.ask("classic", sync)
	v.ask("of a classic member", v.commit(9, "u", v.topic, 1, m, 0))
	v.ask("not a consumer group", consumerDescribe(1, "u"))
	v.ask("not a consumer group", v.report("u", "z", 1))
	v.ask("not a consumer group", v.report("u", "z", -1))

	v.ask("upgrades the group", v.report("u", "z", 0))
	v.ask("mixed", consumerDescribe(1, "u"))
	v.ask("mixed", describeRequest(6, "u"))
	v.ask("has to join again", heartbeatRequest(4, "u", m, 1, nil))
	v.ask("wrong generation", heartbeatRequest(4, "u", m, 2, nil))
	v.ask("of the consumer protocol", heartbeatRequest(4, "u", "z", 2, nil))
	v.ask("unknown", heartbeatRequest(4, "u", "x", 1, nil))
	v.ask("has to join again", syncRequest(5, "u", m, 1, nil))
	v.ask("of a classic member", v.commit(9, "u", v.topic, 1, m, 0))
	v.ask("of a classic member, generation to come", v.commit(9, "u", v.topic, 2, m, 0))
	v.ask("joins again with all", v.classicJoin("u", m, nil, 0, 1))
	v.ask("mixed", consumerDescribe(1, "u"))
	v.ask("", syncRequest(5, "u", m, 1, nil))
	v.ask("joins again with less", v.classicJoin("u", m, nil, 0))
	v.ask("wrong generation", syncRequest(5, "u", m, 1, nil))
	other := syncRequest(5, "u", m, 2, nil)
	other.Protocol = kmsg.StringPtr("sticky")
	v.ask("other protocol", other)
	v.ask("", syncRequest(5, "u", m, 2, nil))
	v.ask("", heartbeatRequest(4, "u", m, 2, nil))
	v.ask("gets the rest", v.report("u", "z", 2))
	v.ask("mixed", consumerDescribe(1, "u"))
	odd := v.classicJoin("u", "", nil)
	odd.Protocols[0].Name = "odd"
	v.ask("other protocol", odd)
	odd = v.classicJoin("u", "", nil)
	odd.ProtocolType = "connect"
	v.ask("other protocol type", odd)
	v.ask("static", v.classicJoin("u", "", kmsg.StringPtr("i")))
	v.ask("unknown static", v.classicJoin("u", "xx", kmsg.StringPtr("j")))
	v.ask("three", consumerDescribe(1, "u"))
	v.ask("", leaveRequest(5, "u", "", kmsg.LeaveGroupRequestMember{MemberID: "xx"}, kmsg.LeaveGroupRequestMember{InstanceID: kmsg.StringPtr("i")},
		kmsg.LeaveGroupRequestMember{InstanceID: kmsg.StringPtr("j")}))
	v.ask("downgrades the group", v.report("u", "z", -1))
	v.ask("classic again", describeRequest(6, "u"))
	v.ask("not a consumer group", consumerDescribe(1, "u"))
	v.ask("", leaveRequest(5, "u", "", kmsg.LeaveGroupRequestMember{MemberID: m}))
	v.ask("empty", describeRequest(6, "u"))
	v.ask("an empty classic group becomes a consumer group", v.report("u", "y", 0))
	v.ask("leaves", v.report("u", "y", -1))
	v.ask("an empty consumer group becomes a classic group", v.classicJoin("u", "", nil))
	v.ask("classic", describeRequest(6, "u"))

	connect := join(3, "k", "", nil, "range")
	connect.ProtocolType = "connect"
	v.ask("another classic group", connect)
	v.ask("cannot be upgraded", v.report("k", "z", 0))
}

// kinds lists and deletes groups of both kinds.
func (v *conversation) kinds() {
	v.ask("first", v.report("listed", "a", 0))
	for _, filter := range [][]string{nil, {"consumer"}, {"Consumer", "classic"}, {"share"}, {"nonsense"}} {
		r := kmsg.NewPtrListGroupsRequest()
		r.Version, r.TypesFilter = 5, filter
		v.ask("", r)
	}
	for _, state := range []string{"Stable", "assigning", "empty", "dead"} {
		r := kmsg.NewPtrListGroupsRequest()
		r.Version, r.TypesFilter, r.StatesFilter = 5, []string{"consumer"}, []string{state}
		v.ask("", r)
	}
	v.ask("", deleteRequest(2, "listed", "c", "s", "none"))
}

func deleteOffsets(group, topic string, partition int32) *kmsg.OffsetDeleteRequest {
	r := kmsg.NewPtrOffsetDeleteRequest()
	r.Group = group
	r.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: partition}}}}
	return r
}

func deleteRequest(version int16, groups ...string) *kmsg.DeleteGroupsRequest {
	r := kmsg.NewPtrDeleteGroupsRequest()
	r.Version, r.Groups = version, groups
	return r
}
