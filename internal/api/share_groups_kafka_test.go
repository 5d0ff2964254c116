package api

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestShareGroupsAnswerAsKafka has a conversation about share groups and compares each answer with the one that Apache Kafka 4.3.1 gave.
func TestShareGroupsAnswerAsKafka(t *testing.T) {
	compareWithKafka(t, "testdata/golden/share-groups-kafka-4.3.1.txt", (*conversation).shareGroups)
}

// shareReport is the heartbeat of a member; the first one (epoch 0) says what every first one does.
func (v *conversation) shareReport(group, member string, epoch int32, with ...func(*kmsg.ShareGroupHeartbeatRequest)) *kmsg.ShareGroupHeartbeatRequest {
	r := kmsg.NewPtrShareGroupHeartbeatRequest()
	r.Version, r.GroupID, r.MemberID, r.MemberEpoch = 1, group, member, epoch
	if epoch == 0 {
		r.SubscribedTopicNames = []string{v.topic}
	}
	for _, w := range with {
		w(r)
	}
	return r
}

// awaitInitialized waits until the state of all partitions is initialized, which a broker does behind the first heartbeat.
func (v *conversation) awaitInitialized(group string) {
	for {
		resp := ask[*kmsg.DescribeShareGroupOffsetsResponse](v.client, v.describeShareOffsets(1, group))
		if topics := resp.Groups[0].Topics; len(topics) == 1 && len(topics[0].Partitions) == 2 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func subscribing(names ...string) func(*kmsg.ShareGroupHeartbeatRequest) {
	return func(r *kmsg.ShareGroupHeartbeatRequest) { r.SubscribedTopicNames = names }
}

func inRack(rack string) func(*kmsg.ShareGroupHeartbeatRequest) {
	return func(r *kmsg.ShareGroupHeartbeatRequest) { r.RackID = &rack }
}

func shareDescribe(groups ...string) *kmsg.ShareGroupDescribeRequest {
	r := kmsg.NewPtrShareGroupDescribeRequest()
	r.Version, r.GroupIDs, r.IncludeAuthorizedOperations = 1, groups, true
	return r
}

func (v *conversation) shareGroups(*testing.T) {
	v.beginShare("shared")
	v.shareRefusals()
	v.shareMembers()
	v.shareOffsets()
	v.shareKinds()
}

func (v *conversation) shareRefusals() {
	v.ask("no group", v.shareReport("", "a", 0))
	v.ask("blank group", v.shareReport(" ", "a", 0))
	v.ask("no member", v.shareReport("s", "", 0))
	v.ask("no rack", v.shareReport("s", "a", 0, inRack("")))
	v.ask("no topics", v.shareReport("s", "a", 0, subscribing()))
	v.ask("bad epoch", v.shareReport("s", "a", -2))
	v.ask("no such group", v.shareReport("s", "a", 1))
	v.ask("leaves no group", v.shareReport("s", "a", -1))
	v.ask("not there", shareDescribe("s", ""))
	v.ask("not there", deleteRequest(2, "s"))
	v.ask("not there", v.describeShareOffsets(1, "s"))
	v.ask("not there", v.describeShareOffsets(0, "s", 0))
	v.ask("not there", deleteShareOffsets("s", "shared"))
}

func (v *conversation) shareMembers() {
	v.ask("first", v.shareReport("s", "a", 0, inRack("r")))
	v.awaitInitialized("s")
	v.ask("an epoch that nobody had", v.shareReport("s", "a", 1))
	v.ask("is assigned", v.shareReport("s", "a", 2))
	v.ask("the answer was lost", v.shareReport("s", "a", 2))
	v.ask("no news", v.shareReport("s", "a", 3))
	v.ask("another rack", v.shareReport("s", "a", 3, inRack("r2")))
	v.ask("one member", shareDescribe("s"))
	v.ask("epoch too high", v.shareReport("s", "a", 9))
	v.ask("epoch long gone", v.shareReport("s", "a", 0))
	v.ask("second", v.shareReport("s", "b", 0))
	v.ask("repeats it", v.shareReport("s", "b", 0))
	v.ask("third", v.shareReport("s", "c", 0, subscribing("shared", "nope")))
	v.ask("two steps behind", v.shareReport("s", "a", 2))
	v.ask("two members more", shareDescribe("s"))
	v.ask("unknown member", v.shareReport("s", "x", 3))
	v.ask("unknown member leaves", v.shareReport("s", "x", -1))
	v.ask("subscribes to nothing that exists", v.shareReport("s", "a", 5, subscribing("nope")))
	v.ask("described", shareDescribe("s", "nope"))
	v.ask("leaves", v.shareReport("s", "b", -1))
	v.ask("of another kind", v.report("s", "a", 0))
	v.ask("of another kind", v.commit(9, "s", "shared", -1, "", 0))
	v.ask("of another kind", v.fetch(9, "s", "shared", 0))
	v.ask("of another kind", join(5, "s", "", nil, "range"))
	v.ask("of another kind", consumerDescribe(1, "s"))
	v.ask("of another kind", describeRequest(6, "s"))
	v.ask("of another kind", deleteOffsets("s", "shared", 0))
	v.ask("not empty", deleteRequest(2, "s"))
	v.ask("not empty", deleteShareOffsets("s", "shared"))
	v.ask("not empty", v.alterShareOffsets("s", 0, 3))
	v.ask("initialized", v.stateSummary("s", 0, 1))
	v.ask("leaves", v.shareReport("s", "a", -1))
	v.ask("leaves", v.shareReport("s", "c", -1))
	v.ask("empty", shareDescribe("s"))
}

func (v *conversation) describeShareOffsets(version int16, group string, partitions ...int32) *kmsg.DescribeShareGroupOffsetsRequest {
	r := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	r.Version = version
	g := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
	g.GroupID = group
	if len(partitions) > 0 {
		g.Topics = []kmsg.DescribeShareGroupOffsetsRequestGroupTopic{
			{Topic: v.topic, Partitions: partitions}, {Topic: "nope", Partitions: []int32{0}},
		}
	}
	r.Groups = append(r.Groups, g)
	return r
}

func (v *conversation) alterShareOffsets(group string, partition int32, start int64) *kmsg.AlterShareGroupOffsetsRequest {
	r := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	r.GroupID = group
	r.Topics = []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: v.topic, Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{
		{Partition: partition, StartOffset: start}, {Partition: 7, StartOffset: start},
	}}, {Topic: "nope", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{Partition: 0}}}}
	return r
}

func deleteShareOffsets(group string, topics ...string) *kmsg.DeleteShareGroupOffsetsRequest {
	r := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
	r.GroupID = group
	for _, t := range topics {
		r.Topics = append(r.Topics, kmsg.DeleteShareGroupOffsetsRequestTopic{Topic: t})
	}
	return r
}

func (v *conversation) shareOffsets() {
	v.ask("all", v.describeShareOffsets(1, "s"))
	v.ask("", v.describeShareOffsets(1, "s", 0, 1))
	v.ask("", v.describeShareOffsets(0, "s", 0))
	v.ask("empty group", v.alterShareOffsets("", 0, 5))
	v.ask("", v.alterShareOffsets("s", 0, 5))
	v.ask("altered", shareDescribe("s"))
	v.ask("altered", v.describeShareOffsets(1, "s"))
	v.ask("altered", v.stateSummary("s", 0))
	v.ask("of a new group", v.alterShareOffsets("new", 1, 6))
	v.ask("a new group", shareDescribe("new"))
	v.ask("a new group", v.describeShareOffsets(1, "new"))
	v.ask("negative", v.alterShareOffsets("s", 1, -9))
	v.ask("", deleteShareOffsets("", "shared"))
	v.ask("", deleteShareOffsets("s", "nope", "shared"))
	v.ask("deleted", v.describeShareOffsets(1, "s"))
	v.ask("deleted", v.stateSummary("s", 0))
	v.ask("again", deleteShareOffsets("s", "shared"))
	v.ask("joins again", v.shareReport("s", "a", 0))
	v.awaitInitialized("s")
	v.ask("initialized again", v.stateSummary("s", 0, 1))
	v.ask("leaves", v.shareReport("s", "a", -1))
}

func (v *conversation) shareKinds() {
	v.ask("a consumer group", v.report("cg", "a", 0))
	v.ask("a consumer group", v.shareReport("cg", "a", 0))
	v.ask("a consumer group", v.shareReport("cg", "a", 1))
	v.ask("a consumer group", v.shareReport("cg", "a", -1))
	v.ask("a consumer group", shareDescribe("cg"))
	v.ask("a consumer group", v.describeShareOffsets(1, "cg"))
	v.ask("a consumer group", v.alterShareOffsets("cg", 0, 1))
	v.ask("a consumer group", deleteShareOffsets("cg", "shared"))
	v.ask("leaves", v.report("cg", "a", -1))
	v.ask("an empty consumer group", v.shareReport("cg", "a", 0))
	v.ask("commits", v.commit(9, "simple", "shared", -1, "", 0))
	v.ask("a classic group", v.shareReport("simple", "a", 0))
	v.ask("a share group", v.shareReport("listed", "a", 0))
	for _, filter := range [][]string{{"share"}, {"Share", "consumer"}} {
		r := kmsg.NewPtrListGroupsRequest()
		r.Version, r.TypesFilter = 5, filter
		v.ask("", r)
	}
	for _, state := range []string{"Stable", "empty"} {
		r := kmsg.NewPtrListGroupsRequest()
		r.Version, r.TypesFilter, r.StatesFilter = 5, []string{"share"}, []string{state}
		v.ask("", r)
	}
	v.ask("", deleteRequest(2, "s", "listed", "new"))
	v.ask("deleted", shareDescribe("s"))
	v.ask("deleted", v.stateSummary("s", 0))
}
