package api

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestBadInputIsAnsweredAsKafka addresses groups of one kind as another, names what is not there, and sends what no client sends. It compares
// each answer with the one that Apache Kafka 4.3.1 gave, and describes each group afterwards: its state must be unharmed.
func TestBadInputIsAnsweredAsKafka(t *testing.T) {
	compareWithKafka(t, "testdata/golden/bad-input-kafka-4.3.1.txt", (*conversation).badInput)
}

func (v *conversation) badInput(*testing.T) {
	v.beginShare("bad")
	v.badHeartbeats()
	v.badClassics()
	v.badCommits()
	v.wrongKinds()
}

// owningOf says which partitions of a topic the member has.
func owningOf(topic [16]byte, partitions ...int32) func(*kmsg.ConsumerGroupHeartbeatRequest) {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{{TopicID: topic, Partitions: partitions}}
	}
}

func (v *conversation) badHeartbeats() {
	v.ask("first", v.report("c", "a", 0))
	v.ask("owns what is not there", v.report("c", "a", 2, owningOf([16]byte{9}, 0)))
	v.ask("owns a partition that is not there", v.report("c", "a", 2, owningOf(v.topicID, 0, 1, 7)))
	v.ask("owns a partition below 0", v.report("c", "a", 2, owningOf(v.topicID, -1)))
	v.ask("owns a partition twice", v.report("c", "a", 2, owningOf(v.topicID, 0, 0, 1)))
	v.ask("unharmed", consumerDescribe(1, "c"))
	v.ask("bad pattern", v.report("c", "a", 2, matching("*")))
	v.ask("look-ahead", v.report("c", "a", 2, matching("a(?!b)")))
	v.ask("unknown assignor", v.report("c", "a", 2, assignedBy("sticky")))
	v.ask("empty assignor", v.report("c", "b", 0, assignedBy("")))
	v.ask("names that no topic can have", v.report("c", "a", 2, topics("a/b", "", "..", strings.Repeat("x", 300), v.topic)))
	v.ask("unharmed", consumerDescribe(1, "c"))
	v.ask("a name twice", v.report("c", "a", 3, topics(v.topic, v.topic)))
	v.ask("unharmed", consumerDescribe(1, "c"))
	v.ask("static", v.report("c", "s", 0, instance("i")))
	v.ask("in use", v.report("c", "t", 0, instance("i")))
	v.ask("in use by another member", v.report("c", "t", 5, instance("i")))
	v.ask("static as dynamic leaves", v.report("c", "s", -1))
	v.ask("left", consumerDescribe(1, "c"))
	v.ask("empty static member leaves", v.report("c", "", -2, instance("i")))
}

func (v *conversation) badClassics() {
	m := v.ask("classic", join(5, "k", "", kmsg.StringPtr("i"), "range")).(*kmsg.JoinGroupResponse).MemberID
	unknown := kmsg.NewConsumerMemberAssignment()
	unknown.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: "nope", Partitions: []int32{0, -1, 1 << 30}}}
	sync := syncRequest(5, "k", m, 1, kmsg.StringPtr("i"))
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{
		{MemberID: m, MemberAssignment: unknown.AppendTo(nil)}, {MemberID: "stranger", MemberAssignment: []byte("x")}, {MemberID: m, MemberAssignment: nil},
	}
	v.ask("assigns what is not there, to a stranger, and twice", sync)
	v.ask("unharmed", describeRequest(6, "k"))
	odd := join(5, "k", "", nil, "range")
	odd.Protocols[0].Metadata = []byte{0xff}
	odd.ProtocolType = "connect"
	v.ask("other protocol type", odd)
	empty := join(5, "k", m, kmsg.StringPtr("i"))
	v.ask("no protocols", empty)
	empty = join(5, "k", m, kmsg.StringPtr("i"), "range")
	empty.ProtocolType = ""
	v.ask("no protocol type", empty)
	long := join(5, "k", m, kmsg.StringPtr("i"), "range")
	long.SessionTimeoutMillis = 1 << 30
	v.ask("session timeout too long", long)
	v.ask("unknown member with instance id", join(5, "k", "x", kmsg.StringPtr("j"), "range"))
	v.ask("heartbeat below 0", heartbeatRequest(4, "k", m, -1, nil))
	v.ask("unharmed", describeRequest(6, "k"))
}

func (v *conversation) badCommits() {
	large := func(group, member string, epoch int32) *kmsg.OffsetCommitRequest {
		r := v.commit(9, group, v.topic, epoch, member, 0, 1)
		r.Topics[0].Partitions[1].Metadata = kmsg.StringPtr(strings.Repeat("é", 2049))
		return r
	}
	v.ask("member", v.report("o", "a", 0))
	v.ask("large metadata", large("o", "a", 2))
	v.ask("large metadata of nobody", large("simple", "", -1))
	v.ask("large metadata of a new group", large("none", "", -1))
	v.ask("a partition below 0", v.commit(9, "o", v.topic, 2, "a", -1))
	v.ask("a topic twice", func() *kmsg.OffsetCommitRequest {
		r := v.commit(9, "o", v.topic, 2, "a", 0)
		r.Topics = append(r.Topics, r.Topics[0])
		return r
	}())
	v.ask("unknown topic of an unknown member", v.commit(9, "o", "nope", 2, "x", 0))
	v.ask("fetched", v.fetch(9, "o", v.topic, 0, 1, -1))
	v.ask("deleted while subscribed", deleteOffsets("o", v.topic, 0))
	v.ask("deleted of an unknown topic", deleteOffsets("o", "nope", 0))
	v.ask("fetched", v.fetch(9, "o", v.topic, 0))
	v.ask("leaves", v.report("o", "a", -1))
}

// wrongKinds has one group of each kind and addresses it as each of the others.
func (v *conversation) wrongKinds() {
	v.ask("share group", v.shareReport("share", "a", 0))
	v.awaitInitialized("share")
	v.ask("streams group", v.streamsReport("streams", "a", 0))
	for _, group := range []string{"k", "c", "share", "streams", "simple"} {
		epoch := int32(2)
		for _, req := range []kmsg.Request{
			join(5, group, "a", nil, "range"), syncRequest(5, group, "a", epoch, nil), heartbeatRequest(4, group, "a", epoch, nil),
			leaveRequest(5, group, "", kmsg.LeaveGroupRequestMember{MemberID: "b"}), describeRequest(6, group),
			v.report(group, "b", 1), v.report(group, "b", -1), consumerDescribe(1, group),
			v.shareReport(group, "b", 1), v.shareReport(group, "b", -1), shareDescribe(group), v.describeShareOffsets(1, group),
			v.alterShareOffsets(group, 0, 1), deleteShareOffsets(group, v.topic),
			v.streamsReport(group, "b", 1), v.streamsReport(group, "b", -1), streamsDescribe(group),
			v.commit(9, group, v.topic, 9, "b", 0), v.fetch(9, group, v.topic, 0), deleteOffsets(group, v.topic, 0),
		} {
			if group == "simple" && req.Key() == 11 {
				continue // anybody may join a group of offsets alone
			}
			v.ask(group, req)
		}
	}
	v.ask("not empty", deleteRequest(2, "k", "c", "share", "streams"))
	list := kmsg.NewPtrListGroupsRequest()
	list.Version = 5
	v.ask("unharmed", list)
	v.ask("unharmed", describeRequest(6, "k"))
	v.ask("unharmed", consumerDescribe(1, "c"))
	v.ask("unharmed", shareDescribe("share"))
	v.ask("unharmed", streamsDescribe("streams"))
}
