package api

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestStreamsGroupsAnswerAsKafka has a conversation about streams groups and compares each answer with the one that Apache Kafka 4.3.1
// gave, with group.streams.initial.rebalance.delay.ms=0 and group.streams.assignment.interval.ms=0.
func TestStreamsGroupsAnswerAsKafka(t *testing.T) {
	compareWithKafka(t, "testdata/golden/streams-groups-kafka-4.3.1.txt", (*conversation).streams)
}

func (v *conversation) streams(_ *testing.T) {
	v.begin("streamed")
	v.streamsHeartbeats()
	v.topologies()
	v.standbys()
	v.streamsOffsets()
	v.otherKinds()
}

// streamsReport is the heartbeat of a member; the first one (epoch 0) says what every first one does.
func (v *conversation) streamsReport(group, member string, epoch int32, with ...func(*kmsg.StreamsGroupHeartbeatRequest)) *kmsg.StreamsGroupHeartbeatRequest {
	r := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	r.Group, r.MemberID, r.MemberEpoch, r.RebalanceTimeoutMillis = group, member, epoch, -1
	if epoch == 0 {
		r.RebalanceTimeoutMillis, r.ProcessID = 30000, kmsg.StringPtr("p-"+member)
		r.ActiveTasks, r.StandbyTasks, r.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
		plain(v.topic)(r)
	}
	for _, w := range with {
		w(r)
	}
	return r
}

type streamsSubtopology = kmsg.StreamsGroupHeartbeatRequestTopologySubtopology

func reading(subtopologies ...streamsSubtopology) func(*kmsg.StreamsGroupHeartbeatRequest) {
	return func(r *kmsg.StreamsGroupHeartbeatRequest) {
		r.Topology = &kmsg.StreamsGroupHeartbeatRequestTopology{Subtopologies: subtopologies}
	}
}

// plain is a topology that reads a topic.
func plain(topic string) func(*kmsg.StreamsGroupHeartbeatRequest) {
	return reading(streamsSubtopology{SubtopologyID: "0", SourceTopics: []string{topic}})
}

// counting is a topology that reads a topic, writes a repartition topic, reads that and keeps a store.
func counting(topic, prefix string) func(*kmsg.StreamsGroupHeartbeatRequest) {
	return reading(
		streamsSubtopology{SubtopologyID: "0", SourceTopics: []string{topic}, RepartitionSinkTopics: []string{prefix + "-repartition"}},
		streamsSubtopology{
			SubtopologyID:           "1",
			RepartitionSourceTopics: []kmsg.TopicInfo{{Topic: prefix + "-repartition", Configs: []kmsg.TopicInfoConfig{{Key: "retention.ms", Value: "-1"}}}},
			StateChangelogTopics:    []kmsg.TopicInfo{{Topic: prefix + "-store", Configs: []kmsg.TopicInfoConfig{{Key: "cleanup.policy", Value: "compact"}}}},
			CopartitionGroups:       []kmsg.StreamsGroupHeartbeatRequestTopologySubtopologyCopartitionGroup{{RepartitionSourceTopics: []int16{0}}},
		},
	)
}

func topologyEpoch(n int32) func(*kmsg.StreamsGroupHeartbeatRequest) {
	return func(r *kmsg.StreamsGroupHeartbeatRequest) { r.Topology.Epoch = n }
}

// running says which active tasks of subtopology 0 the member has, and no others; none: nothing.
func running(partitions ...int32) func(*kmsg.StreamsGroupHeartbeatRequest) {
	return func(r *kmsg.StreamsGroupHeartbeatRequest) {
		r.ActiveTasks, r.StandbyTasks, r.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
		if len(partitions) > 0 {
			r.ActiveTasks = append(r.ActiveTasks, kmsg.TaskIDs{SubtopologyID: "0", Partitions: partitions})
		}
	}
}

func standby(subtopology string, partitions ...int32) func(*kmsg.StreamsGroupHeartbeatRequest) {
	return func(r *kmsg.StreamsGroupHeartbeatRequest) {
		r.StandbyTasks = []kmsg.TaskIDs{{SubtopologyID: subtopology, Partitions: partitions}}
	}
}

func withEndpoint(host string, known int32) func(*kmsg.StreamsGroupHeartbeatRequest) {
	return func(r *kmsg.StreamsGroupHeartbeatRequest) {
		r.EndpointInformationEpoch = known
		if host != "" {
			r.UserEndpoint = &kmsg.StreamsGroupHeartbeatRequestUserEndpoint{Host: host, Port: 8080}
		}
	}
}

func streamsDescribe(groups ...string) *kmsg.StreamsGroupDescribeRequest {
	r := kmsg.NewPtrStreamsGroupDescribeRequest()
	r.Groups, r.IncludeAuthorizedOperations = groups, true
	return r
}

func (v *conversation) streamsHeartbeats() {
	type request = kmsg.StreamsGroupHeartbeatRequest
	v.ask("no group", v.streamsReport("", "a", 0))
	v.ask("no member", v.streamsReport("s", "", 0))
	v.ask("blank member", v.streamsReport("s", " ", 0))
	v.ask("no such group", v.streamsReport("s", "a", 1))
	v.ask("leaves no group", v.streamsReport("s", "a", -1))
	v.ask("epoch below all", v.streamsReport("s", "a", -3))
	v.ask("static without instance", v.streamsReport("s", "a", -2))
	v.ask("static", v.streamsReport("s", "a", 0, func(r *request) { r.InstanceID = kmsg.StringPtr("i") }))
	v.ask("blank instance", v.streamsReport("s", "a", 0, func(r *request) { r.InstanceID = kmsg.StringPtr("") }))
	v.ask("blank rack", v.streamsReport("s", "a", 0, func(r *request) { r.RackID = kmsg.StringPtr(" ") }))
	v.ask("no rebalance timeout", v.streamsReport("s", "a", 0, func(r *request) { r.RebalanceTimeoutMillis = -1 }))
	v.ask("has tasks", v.streamsReport("s", "a", 0, running(0)))
	v.ask("has standby tasks", v.streamsReport("s", "a", 0, standby("0", 0)))
	v.ask("has warm-up tasks", v.streamsReport("s", "a", 0, func(r *request) { r.WarmupTasks = []kmsg.TaskIDs{{SubtopologyID: "0"}} }))
	v.ask("does not say what it has", v.streamsReport("s", "a", 0, func(r *request) { r.ActiveTasks = nil }))
	v.ask("does not say what warm-up tasks it has", v.streamsReport("s", "a", 0, func(r *request) { r.WarmupTasks = nil }))
	v.ask("no topology", v.streamsReport("s", "a", 0, func(r *request) { r.Topology = nil }))
	v.ask("task offsets", v.streamsReport("s", "a", 0, func(r *request) { r.TaskOffsets = []kmsg.TaskOffset{} }))
	v.ask("task end offsets", v.streamsReport("s", "a", 0, func(r *request) { r.TaskEndOffsets = []kmsg.TaskOffset{} }))
	v.ask("no such group", streamsDescribe("s", ""))

	v.ask("first", v.streamsReport("s", "a", 0))
	v.ask("again", v.streamsReport("s", "a", 0))
	v.ask("unchanged", v.streamsReport("s", "a", 2))
	v.ask("one member", streamsDescribe("s"))
	v.ask("topology later", v.streamsReport("s", "a", 2, plain(v.topic)))
	v.ask("only active", v.streamsReport("s", "a", 2, func(r *request) { r.ActiveTasks = []kmsg.TaskIDs{} }))
	v.ask("no such task", v.streamsReport("s", "a", 2, running(2)))
	v.ask("no such subtopology", v.streamsReport("s", "a", 2, running(0), standby("x", 0)))
	v.ask("epoch too high", v.streamsReport("s", "a", 3))
	v.ask("unknown member", v.streamsReport("s", "x", 2))
	v.ask("unknown member leaves", v.streamsReport("s", "x", -1))
	v.ask("second", v.streamsReport("s", "b", 0, withEndpoint("hb", 0), func(r *request) {
		r.RackID, r.ClientTags = kmsg.StringPtr("r1"), []kmsg.StreamsGroupHeartbeatRequestClientTag{{Key: "zone", Value: "z"}, {Key: "cluster", Value: "c"}}
	}))
	v.ask("reconciling", streamsDescribe("s"))
	v.ask("waits", v.streamsReport("s", "b", 3, withEndpoint("", 1)))
	v.ask("is to give one back", v.streamsReport("s", "a", 2))
	v.ask("reconciling", streamsDescribe("s"))
	v.ask("has not yet", v.streamsReport("s", "a", 2, running(0, 1)))
	v.ask("has given it back", v.streamsReport("s", "a", 2, running(0)))
	v.ask("gets it", v.streamsReport("s", "b", 3, withEndpoint("", 1)))
	v.ask("stable", streamsDescribe("s"))
	v.ask("learns of endpoints", v.streamsReport("s", "a", 3, withEndpoint("", 1)))
	v.ask("epoch before, says nothing", v.streamsReport("s", "a", 2))
	v.ask("epoch before, has what it may", v.streamsReport("s", "a", 2, running(0)))
	v.ask("epoch before, has more", v.streamsReport("s", "a", 2, running(0, 1)))
	v.ask("epoch long gone", v.streamsReport("s", "a", 1, running(0)))
	v.ask("another process", v.streamsReport("s", "a", 3, func(r *request) { r.ProcessID = kmsg.StringPtr("p-b") }))
	v.ask("shuts all down", v.streamsReport("s", "a", 4, func(r *request) { r.ShutdownApplication = true }))
	v.ask("is told", v.streamsReport("s", "b", 3, withEndpoint("", 2)))
	v.ask("leaves", v.streamsReport("s", "b", -1))
	v.ask("one left", streamsDescribe("s"))
	v.ask("gets all", v.streamsReport("s", "a", 4))
	v.ask("leaves", v.streamsReport("s", "a", -1))
	v.ask("empty", streamsDescribe("s"))
	v.ask("joins anew", v.streamsReport("s", "a", 0))
	v.ask("leaves", v.streamsReport("s", "a", -1))
}

// topologies has topologies that are wrong, or lack topics.
func (v *conversation) topologies() {
	v.ask("source topic is missing", v.streamsReport("m", "a", 0, plain("streamed-nope")))
	v.ask("not ready", streamsDescribe("m"))
	v.ask("still", v.streamsReport("m", "a", 2))
	v.ask("internal topic", v.streamsReport("n", "a", 0, plain("__consumer_offsets")))
	v.ask("bad name", v.streamsReport("n", "a", 0, plain("a/b")))
	v.ask("pattern", v.streamsReport("n", "a", 0, reading(streamsSubtopology{SubtopologyID: "0", SourceTopicRegex: []string{"a.*"}})))
	v.ask("changelog with partitions", v.streamsReport("n", "a", 0, reading(streamsSubtopology{
		SubtopologyID: "0", SourceTopics: []string{v.topic}, StateChangelogTopics: []kmsg.TopicInfo{{Topic: "x", NumPartitions: 2}},
	})))
	v.createTopic("streamed-3", 3)
	two := []string{v.topic, "streamed-3"}
	v.ask("not copartitioned", v.streamsReport("n", "a", 0, reading(streamsSubtopology{
		SubtopologyID: "0", SourceTopics: two, CopartitionGroups: []kmsg.StreamsGroupHeartbeatRequestTopologySubtopologyCopartitionGroup{{SourceTopics: []int16{0, 1}}},
	})))
	v.ask("need not be", v.streamsReport("o", "a", 0, reading(streamsSubtopology{SubtopologyID: "0", SourceTopics: two})))
	v.ask("stable", streamsDescribe("o"))
	v.ask("endpoints of topics with fewer partitions", v.streamsReport("o", "b", 0, plainOf(two), withEndpoint("hb", 0)))

	v.ask("internal topics are missing", v.streamsReport("c", "a", 0, counting(v.topic, "c")))
	v.awaitTopics("c-repartition", "c-store")
	v.ask("they are there", v.streamsReport("c", "a", 2))
	v.ask("stable", streamsDescribe("c"))
	v.ask("another topology", v.streamsReport("c", "b", 0))
	v.ask("newer topology", v.streamsReport("c", "b", 0, counting(v.topic, "c"), topologyEpoch(1)))
	v.ask("newer topology", v.streamsReport("e", "a", 0, topologyEpoch(3)))
	v.ask("older topology", v.streamsReport("e", "b", 0, topologyEpoch(2)))
	v.createTopic("d-store", 1)
	v.ask("one does not fit", v.streamsReport("d", "a", 0, counting(v.topic, "d")))
}

func plainOf(topics []string) func(*kmsg.StreamsGroupHeartbeatRequest) {
	return reading(streamsSubtopology{SubtopologyID: "0", SourceTopics: topics})
}

// standbys has a group with standby tasks.
func (v *conversation) standbys() {
	set := kmsg.NewPtrIncrementalAlterConfigsRequest()
	set.Version = 1
	set.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: "c",
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "streams.num.standby.replicas", Value: kmsg.StringPtr("1")}},
	}}
	v.ask("", set)
	if *recordFrom != "" {
		time.Sleep(time.Second) // a real broker's coordinator learns of it later
	}
	v.ask("settings changed", v.streamsReport("c", "a", 3))
	v.ask("second", v.streamsReport("c", "b", 0, counting(v.topic, "c")))
	v.ask("targets", streamsDescribe("c"))
}

func (v *conversation) streamsOffsets() {
	v.ask("first", v.streamsReport("so", "a", 0))
	v.ask("second", v.streamsReport("so", "b", 0))
	v.ask("gives", v.streamsReport("so", "a", 2))
	v.ask("has given", v.streamsReport("so", "a", 2, running(0)))
	v.ask("gets", v.streamsReport("so", "b", 3))
	for version := int16(8); version <= 10; version++ {
		v.ask("current epoch", v.commit(version, "so", v.topic, 3, "a", 0))
		v.ask("old epoch, kept since", v.commit(version, "so", v.topic, 2, "a", 0))
		v.ask("old epoch, not kept", v.commit(version, "so", v.topic, 2, "a", 1))
		v.ask("epoch of before it was assigned", v.commit(version, "so", v.topic, 2, "b", 1))
		v.ask("epoch to come", v.commit(version, "so", v.topic, 4, "a", 0))
		v.ask("unknown member", v.commit(version, "so", v.topic, 3, "x", 0))
		v.ask("no member", v.commit(version, "so", v.topic, -1, "", 0))
		for _, epoch := range []int32{-1, 2, 3, 4} {
			f := v.fetch(version, "so", v.topic, 0, 1)
			f.Groups[0].MemberID, f.Groups[0].MemberEpoch = kmsg.StringPtr("a"), epoch
			v.ask("of a member", f)
		}
		v.ask("of no member", v.fetch(version, "so", v.topic, 0))
	}
	v.ask("read", deleteOffsets("so", v.topic, 0))
	v.ask("not empty", deleteRequest(2, "so"))
	v.ask("leaves", v.streamsReport("so", "a", -1))
	v.ask("leaves", v.streamsReport("so", "b", -1))
	v.ask("of no member, empty", v.commit(9, "so", v.topic, -1, "", 0))
	v.ask("not read", deleteOffsets("so", v.topic, 0))
	v.ask("empty", deleteRequest(2, "so"))
	v.ask("gone", streamsDescribe("so"))
}

// otherKinds addresses groups of one kind as another, lists and deletes them.
func (v *conversation) otherKinds() {
	v.ask("consumer group", v.report("k", "a", 0))
	v.ask("not a streams group", v.streamsReport("k", "b", 0))
	v.ask("not a streams group", v.streamsReport("k", "b", 1))
	v.ask("not a streams group", v.streamsReport("k", "b", -1))
	v.ask("not a streams group", streamsDescribe("k"))
	v.ask("streams group", v.streamsReport("z", "a", 0))
	v.ask("not a consumer group", v.report("z", "b", 0))
	v.ask("not a consumer group", v.report("z", "b", 1))
	v.ask("not a consumer group", consumerDescribe(1, "z"))
	v.ask("not a classic group", describeRequest(6, "z"))
	v.ask("not a classic group", v.classicJoin("z", "", nil))
	v.ask("not a classic group", heartbeatRequest(4, "z", "a", 2, nil))
	v.ask("not a classic group", syncRequest(5, "z", "a", 2, nil))
	v.ask("not a classic group", leaveRequest(5, "z", "", kmsg.LeaveGroupRequestMember{MemberID: "a"}))
	for _, filter := range [][]string{nil, {"streams"}, {"Streams", "classic"}} {
		r := kmsg.NewPtrListGroupsRequest()
		r.Version, r.TypesFilter = 5, filter
		v.ask("", r)
	}
	for _, state := range []string{"Stable", "not_ready", "empty"} {
		r := kmsg.NewPtrListGroupsRequest()
		r.Version, r.TypesFilter, r.StatesFilter = 5, []string{"streams"}, []string{state}
		v.ask("", r)
	}
	v.ask("leaves", v.streamsReport("z", "a", -1))
	v.ask("an empty streams group is no consumer group", v.report("z", "b", 0))
	v.ask("an empty streams group becomes a classic group", v.classicJoin("z", "", nil))
	v.ask("", deleteRequest(2, "s", "c"))
}

func (v *conversation) createTopic(name string, partitions int32) {
	ct := kmsg.NewPtrCreateTopicsRequest()
	ct.Version, ct.TimeoutMillis = 7, 10000
	ct.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: name, NumPartitions: partitions, ReplicationFactor: 1}}
	ask[*kmsg.CreateTopicsResponse](v.client, ct)
	v.awaitTopics(name)
}

// awaitTopics waits until topics are there. A real broker creates those of a topology in the background.
func (v *conversation) awaitTopics(names ...string) {
	for _, name := range names {
		m := kmsg.NewPtrMetadataRequest()
		m.Version, m.AllowAutoTopicCreation = 12, false
		m.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr(name)}}
		for ask[*kmsg.MetadataResponse](v.client, m).Topics[0].ErrorCode != 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	if *recordFrom != "" {
		time.Sleep(500 * time.Millisecond) // its coordinator learns of them later
	}
}
