package api

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var recordFrom = flag.String("groups-from", "", "address of a new Apache Kafka broker (group.initial.rebalance.delay.ms=0, "+
	"group.consumer.assignment.interval.ms=0, offsets.topic.num.partitions=4) to take the expected answers from")

// TestGroupsAnswerAsKafka has one long conversation about groups and offsets, in all versions of all their APIs, and compares each answer
// with the one that Apache Kafka 4.3.1 gave. What is random in an answer has a name in its place, and lists whose order means nothing
// are sorted.
func TestGroupsAnswerAsKafka(t *testing.T) {
	compareWithKafka(t, "testdata/golden/groups-kafka-4.3.1.txt", (*conversation).all)
}

// difference is an answer that is another than Kafka's on purpose: where it has one text, ours has the other.
type difference struct {
	asked            string // API and label, of any version
	kafka, ours, why string
}

// is reports whether a line of ours differs from Kafka's in this alone.
func (d difference) is(ours, kafka string) bool {
	asked := anyVersion.ReplaceAllString(kafka, ":")
	return strings.HasPrefix(asked, d.asked+" {") && ours == strings.Replace(kafka, d.kafka, d.ours, 1)
}

var anyVersion = regexp.MustCompile(` v\d+:`)

// compareWithKafka has a conversation and compares each answer with that in a file. Each of the differences must be there.
func compareWithKafka(t *testing.T, golden string, have func(*conversation, *testing.T), differences ...difference) {
	t.Helper()
	if *recordFrom == "" {
		t.Parallel()
	}
	var connect func() *testClient
	if *recordFrom != "" {
		connect = func() *testClient {
			conn, err := net.Dial("tcp", *recordFrom)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return &testClient{tb: t, conn: conn}
		}
	} else {
		b := newBroker(t, "offsets.topic.num.partitions=4", "group.share.assignment.interval.ms=0", "group.consumer.assignment.interval.ms=0",
			"group.streams.assignment.interval.ms=0", "group.streams.initial.rebalance.delay.ms=0")
		connect = b.client
	}
	talk := &conversation{client: connect(), other: connect(), names: map[string]string{}, producers: map[float64]string{}}
	have(talk, t)
	if *recordFrom != "" {
		if err := os.WriteFile(golden, []byte(strings.Join(talk.lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(talk.lines) != len(want) {
		t.Errorf("%d answers, want %d", len(talk.lines), len(want))
	}
	met := make([]bool, len(differences))
	for i := range min(len(talk.lines), len(want)) {
		if talk.lines[i] == want[i] {
			continue
		}
		d := slices.IndexFunc(differences, func(d difference) bool { return d.is(talk.lines[i], want[i]) })
		if d < 0 {
			t.Errorf("answer %d\n  got %s\nKafka %s", i+1, talk.lines[i], want[i])
			continue
		}
		met[d] = true
	}
	for i, d := range differences {
		if !met[i] {
			t.Errorf("%s: as Kafka's, though it should not be: %s", d.asked, d.why)
		}
	}
}

// conversation asks a broker and notes the answers.
type conversation struct {
	client, other *testClient
	topic         string
	topicID       [16]byte
	names         map[string]string  // of member ids, by id
	producers     map[float64]string // names of producer ids
	lines         []string
}

// uuid finds both ways in which Kafka writes the random part of a member's id.
var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|"[A-Za-z0-9_-]{22}"`)

// ask notes the answer to req under a label.
func (v *conversation) ask(label string, req kmsg.Request) kmsg.Response {
	resp := ask[kmsg.Response](v.client, req)
	v.note(label, req, resp)
	return resp
}

func (v *conversation) note(label string, req kmsg.Request, resp kmsg.Response) {
	b, err := json.Marshal(resp)
	if err != nil {
		v.client.tb.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), v.topicIDText(), `"the topic's id"`)
	text = uuid.ReplaceAllStringFunc(text, func(u string) string {
		id := strings.Trim(u, `"`)
		if v.names[id] == "" {
			v.names[id] = fmt.Sprintf("uuid%d", len(v.names)+1)
		}
		return strings.Replace(u, id, v.names[id], 1)
	})
	var tree any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		v.client.tb.Fatal(err)
	}
	v.nameProducers(tree)
	b, err = json.Marshal(simplify(tree))
	if err != nil {
		v.client.tb.Fatal(err)
	}
	v.lines = append(v.lines, fmt.Sprintf("%s v%d: %s %s", kmsg.NameForKey(req.Key()), req.GetVersion(), label, b))
}

func (v *conversation) topicIDText() string {
	b, err := json.Marshal(v.topicID)
	if err != nil {
		v.client.tb.Fatal(err)
	}
	return string(b)
}

// simplify leaves out what says nothing, and the heartbeat interval, which is shorter here while a member waits; it sorts what has no order.
func simplify(tree any) any {
	switch tree := tree.(type) {
	case map[string]any:
		for k, field := range tree {
			zero, _ := field.([]any)
			switch {
			case field == nil, slices.Contains([]string{"UnknownTags", "Version", "ThrottleMillis", "ClientHost", "HeartbeatIntervalMillis"}, k),
				len(zero) == 16 && zero[0] == 0.0:
				delete(tree, k)
			default:
				tree[k] = simplify(field)
			}
		}
		for _, k := range []string{
			"Partitions", "Groups", "Topics", "TopicPartitions", "Members", "ActiveTasks", "StandbyTasks", "ClientTags", "Configs", "ActivePartitions",
			"StandbyPartitions", "PartitionsByUserEndpoint", "Transactions", "TransactionStates", "SubscribedTopics",
		} {
			if list, ok := tree[k].([]any); ok {
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
		}
	case []any:
		for i := range tree {
			tree[i] = simplify(tree[i])
		}
	}
	return tree
}

// all is the conversation about classic groups and offsets.
func (v *conversation) all(*testing.T) {
	v.begin("t")
	v.simpleGroups()
	for version := range int16(10) {
		v.membership(version)
	}
	v.staticMembers()
	v.admin()
}

// begin creates a topic of two partitions and waits for the group coordinator.
func (v *conversation) begin(topic string) {
	v.topic = topic
	ct := kmsg.NewPtrCreateTopicsRequest()
	ct.Version, ct.TimeoutMillis = 7, 10000
	ct.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: topic, NumPartitions: 2, ReplicationFactor: 1}}
	v.topicID = ask[*kmsg.CreateTopicsResponse](v.client, ct).Topics[0].TopicID
	fc := kmsg.NewPtrFindCoordinatorRequest()
	fc.Version, fc.CoordinatorKeys = 6, []string{"g"}
	for ask[*kmsg.FindCoordinatorResponse](v.client, fc).Coordinators[0].ErrorCode != 0 {
		time.Sleep(100 * time.Millisecond) // a real broker creates __consumer_offsets in the background
	}
	for ask[*kmsg.OffsetFetchResponse](v.client, v.fetch(7, "g", topic, 0)).ErrorCode != 0 {
		time.Sleep(100 * time.Millisecond)
	}
}

func (v *conversation) commit(version int16, group, topic string, generation int32, member string, partitions ...int32) *kmsg.OffsetCommitRequest {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Version, r.Group, r.Generation, r.MemberID, r.RetentionTimeMillis = version, group, generation, member, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = topic
	if rt.TopicID = v.topicID; topic != v.topic {
		rt.TopicID = [16]byte{9}
	}
	for _, p := range partitions {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = p, int64(version)*10+int64(p), 3, kmsg.StringPtr("m")
		rt.Partitions = append(rt.Partitions, rp)
	}
	r.Topics = append(r.Topics, rt)
	return r
}

func (v *conversation) fetch(version int16, group, topic string, partitions ...int32) *kmsg.OffsetFetchRequest {
	r := kmsg.NewPtrOffsetFetchRequest()
	r.Version, r.Group = version, group
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.MemberEpoch = group, -1
	if len(partitions) > 0 {
		r.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: partitions}}
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, TopicID: v.topicID, Partitions: partitions}}
		if topic != v.topic {
			g.Topics[0].TopicID = [16]byte{9}
		}
	}
	r.Groups = append(r.Groups, g)
	return r
}

func (v *conversation) simpleGroups() {
	for version := int16(2); version <= 10; version++ {
		group := fmt.Sprint("simple", version)
		v.ask("", v.commit(version, group, "t", -1, "", 0, 1, 2))
		v.ask("unknown topic", v.commit(version, group, "nope", -1, "", 0))
		v.ask("a generation it does not have", v.commit(version, group, "t", 5, "x", 0))
		v.ask("no such group", v.commit(version, "nogroup", "t", 5, "x", 0))
		v.ask("empty group id", v.commit(version, "", "t", -1, "", 0))
		large := v.commit(version, group, "t", -1, "", 0, 1)
		large.Topics[0].Partitions[1].Metadata = kmsg.StringPtr(strings.Repeat("x", 4097))
		v.ask("large metadata", large)
		null := v.commit(version, group, "t", -1, "", 0)
		null.Topics[0].Partitions[0].Metadata = nil
		v.ask("null metadata", null)
		negative := v.commit(version, group, "t", -1, "member", 0)
		negative.Topics[0].Partitions[0].Offset = -7
		v.ask("negative offset", negative)
	}
	for version := int16(1); version <= 10; version++ {
		v.ask("", v.fetch(version, "simple7", "t", 0, 1, 2))
		v.ask("unknown topic", v.fetch(version, "simple7", "nope", 0))
		v.ask("no such group", v.fetch(version, "nogroup", "t", 0))
		v.ask("empty group id", v.fetch(version, "", "t", 0))
		if version >= 2 {
			v.ask("all topics", v.fetch(version, "simple7", ""))
			v.ask("all topics of no such group", v.fetch(version, "nogroup", ""))
		}
		none := v.fetch(version, "simple7", "t", 0)
		none.Topics, none.Groups[0].Topics = []kmsg.OffsetFetchRequestTopic{}, []kmsg.OffsetFetchRequestGroupTopic{}
		v.ask("no topics", none)
		member := v.fetch(version, "simple7", "t", 0)
		member.RequireStable, member.Groups[0].MemberID, member.Groups[0].MemberEpoch = true, kmsg.StringPtr("x"), 4
		v.ask("with a member epoch", member)
	}
}

func join(version int16, group, member string, instance *string, protocols ...string) *kmsg.JoinGroupRequest {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID, r.ProtocolType = version, group, member, instance, "consumer"
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 10000, 20000
	for _, p := range protocols {
		metadata := []byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff} // a subscription to t
		r.Protocols = append(r.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: metadata})
	}
	return r
}

func syncRequest(version int16, group, member string, generation int32, instance *string, assign ...string) *kmsg.SyncGroupRequest {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Version, r.Group, r.MemberID, r.Generation, r.InstanceID = version, group, member, generation, instance
	r.ProtocolType, r.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	for _, m := range assign {
		r.GroupAssignment = append(r.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: m, MemberAssignment: []byte("abc")})
	}
	return r
}

func heartbeatRequest(version int16, group, member string, generation int32, instance *string) *kmsg.HeartbeatRequest {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.Generation, r.InstanceID = version, group, member, generation, instance
	return r
}

func leaveRequest(version int16, group, member string, members ...kmsg.LeaveGroupRequestMember) *kmsg.LeaveGroupRequest {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Version, r.Group, r.MemberID, r.Members = version, group, member, members
	return r
}

func describeRequest(version int16, groups ...string) *kmsg.DescribeGroupsRequest {
	r := kmsg.NewPtrDescribeGroupsRequest()
	r.Version, r.Groups, r.IncludeAuthorizedOperations = version, groups, true
	return r
}

// membership takes a group through its life at a version of JoinGroup and the nearest ones of the other APIs.
func (v *conversation) membership(version int16) {
	group := fmt.Sprint("join", version)
	v.ask("empty group id", join(version, "", "", nil, "range"))
	short := join(version, group, "", nil, "range")
	short.SessionTimeoutMillis = 1
	v.ask("session timeout too short", short)
	v.ask("unknown member", join(version, group, "xx", nil, "range"))
	v.ask("no such group", describeRequest(5, group))
	v.ask("no protocols", join(version, group, "", nil))
	joined := v.ask("", join(version, group, "", nil, "range", "sticky")).(*kmsg.JoinGroupResponse)
	if version >= 4 {
		v.ask("of a group with a pending member", describeRequest(6, group))
		joined = v.ask("with the id", join(version, group, joined.MemberID, nil, "range", "sticky")).(*kmsg.JoinGroupResponse)
	}
	m := joined.MemberID
	v.ask("again", join(version, group, m, nil, "range", "sticky"))
	other := join(version, group, "", nil, "range")
	other.ProtocolType = "connect"
	v.ask("other protocol type", other)
	v.ask("other protocol", join(version, group, "", nil, "roundrobin"))
	v.ask("completing", describeRequest(6, group))
	v.ask("completing", v.commit(8, group, "t", 1, m, 0))

	sv := min(version, 5)
	v.ask("wrong generation", syncRequest(sv, group, m, 7, nil))
	v.ask("unknown member", syncRequest(sv, group, "xx", 1, nil))
	v.ask("no such group", syncRequest(sv, "nogroup", "xx", 1, nil))
	v.ask("empty group id", syncRequest(sv, "", "xx", 1, nil))
	if sv == 5 {
		wrong := syncRequest(sv, group, m, 1, nil, m)
		wrong.Protocol = nil
		v.ask("no protocol", wrong)
		wrong.Protocol = kmsg.StringPtr("sticky")
		v.ask("other protocol", wrong)
		wrong.Protocol, wrong.ProtocolType = kmsg.StringPtr("range"), kmsg.StringPtr("connect")
		v.ask("other protocol type", wrong)
	}
	v.ask("", syncRequest(sv, group, m, 1, nil, m))
	v.ask("again", syncRequest(sv, group, m, 1, nil))

	hv := min(version, 4)
	v.ask("", heartbeatRequest(hv, group, m, 1, nil))
	v.ask("wrong generation", heartbeatRequest(hv, group, m, 2, nil))
	v.ask("unknown member", heartbeatRequest(hv, group, "xx", 1, nil))
	v.ask("no such group", heartbeatRequest(hv, "nogroup", "xx", 1, nil))
	v.ask("empty group id", heartbeatRequest(hv, "", "xx", 1, nil))
	v.ask("stable", describeRequest(min(version, 6), group, "nogroup"))

	cv := max(version, 2)
	v.ask("of a member", v.commit(cv, group, "t", 1, m, 0))
	v.ask("of no member", v.commit(cv, group, "t", -1, "", 0))
	v.ask("old generation", v.commit(cv, group, "t", 0, m, 0))

	lv := min(version, 5)
	if lv < 3 {
		v.ask("unknown member", leaveRequest(lv, group, "xx"))
		v.ask("no such group", leaveRequest(lv, "nogroup", "xx"))
		v.ask("", leaveRequest(lv, group, m))
	} else {
		v.ask("", leaveRequest(lv, group, "", kmsg.LeaveGroupRequestMember{MemberID: "xx"}, kmsg.LeaveGroupRequestMember{MemberID: m},
			kmsg.LeaveGroupRequestMember{InstanceID: kmsg.StringPtr("no")}))
		v.ask("nobody", leaveRequest(lv, group, ""))
		v.ask("no such group", leaveRequest(lv, "nogroup", "", kmsg.LeaveGroupRequestMember{MemberID: "xx"}))
	}
	v.ask("empty group id", leaveRequest(lv, "", "xx"))
	v.ask("left", describeRequest(6, group))
}

// staticMembers has members with instance ids come, come back and go.
func (v *conversation) staticMembers() {
	const group = "static"
	one, two := kmsg.StringPtr("i1"), kmsg.StringPtr("i2")
	first := v.ask("static", join(9, group, "", one, "range")).(*kmsg.JoinGroupResponse).MemberID
	v.ask("static", syncRequest(5, group, first, 1, one, first))
	v.ask("static, again", join(9, group, "", one, "range"))
	v.ask("static, again", join(8, group, "", one, "range"))
	now := v.ask("static, again", join(5, group, "", one, "range")).(*kmsg.JoinGroupResponse).MemberID
	v.ask("static", describeRequest(6, group))
	v.ask("fenced", heartbeatRequest(4, group, first, 1, one))
	v.ask("fenced, without instance id", heartbeatRequest(4, group, first, 1, nil))
	v.ask("unknown instance id", heartbeatRequest(4, group, now, 1, two))
	v.ask("fenced", join(9, group, first, one, "range"))
	v.ask("fenced", syncRequest(5, group, first, 1, one))
	v.ask("static", heartbeatRequest(4, group, now, 1, one))
	v.ask("fenced", leaveRequest(5, group, "", kmsg.LeaveGroupRequestMember{MemberID: first, InstanceID: one}))

	// A second member starts a rebalance and waits for the first.
	second := join(9, group, "", two, "sticky", "range")
	v.other.send(second)
	for ask[*kmsg.HeartbeatResponse](v.client, heartbeatRequest(4, group, now, 1, one)).ErrorCode == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	v.ask("preparing", heartbeatRequest(4, group, now, 1, one))
	v.ask("preparing", syncRequest(5, group, now, 1, one))
	v.ask("preparing", v.commit(9, group, "t", 1, now, 0))
	v.ask("preparing", describeRequest(6, group))
	v.ask("the first of two", join(9, group, now, one, "range", "sticky"))
	joined := answered[*kmsg.JoinGroupResponse](v.other, second)
	v.note("the second of two", second, joined)

	wait := syncRequest(5, group, joined.MemberID, 2, two)
	wait.Protocol = joined.Protocol
	v.other.send(wait)
	lead := syncRequest(5, group, now, 2, one, now, joined.MemberID, "stranger")
	lead.Protocol = joined.Protocol
	v.ask("the leader", lead)
	v.note("the follower", wait, answered[*kmsg.SyncGroupResponse](v.other, wait))
	v.ask("both", leaveRequest(4, group, "", kmsg.LeaveGroupRequestMember{InstanceID: one},
		kmsg.LeaveGroupRequestMember{MemberID: joined.MemberID, InstanceID: two}))
	v.ask("both left", describeRequest(6, group))
}

// admin lists groups and deletes offsets and groups.
func (v *conversation) admin() {
	for version := range int16(6) {
		filters := []struct{ states, types []string }{{}}
		if version >= 4 {
			filters = append(filters, []struct{ states, types []string }{{states: []string{"Stable"}}, {states: []string{"nonsense"}}, {states: []string{" eMPTY"}}}...)
		}
		if version >= 5 {
			filters = append(filters, []struct{ states, types []string }{
				{types: []string{"consumer"}}, {types: []string{"nonsense"}}, {types: []string{"Classic "}}, {states: []string{"Empty"}, types: []string{"ClassiC"}},
			}...)
		}
		for _, f := range filters {
			r := kmsg.NewPtrListGroupsRequest()
			r.Version, r.StatesFilter, r.TypesFilter = version, f.states, f.types
			v.ask(fmt.Sprint(f), r)
		}
	}
	forget := func(group string, topics ...string) *kmsg.OffsetDeleteRequest {
		r := kmsg.NewPtrOffsetDeleteRequest()
		r.Group = group
		for _, t := range topics {
			partitions := []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}, {Partition: 7}}
			r.Topics = append(r.Topics, kmsg.OffsetDeleteRequestTopic{Topic: t, Partitions: partitions})
		}
		return r
	}
	v.ask("", forget("simple3", "t", "nope"))
	v.ask("after OffsetDelete", v.fetch(8, "simple3", "t", 0, 1))
	v.ask("no such group", forget("nogroup", "t"))
	v.ask("empty group id", forget("", "t"))
	v.ask("unknown topic", forget("simple3", "nope"))
	v.ask("no such group, unknown topic", forget("nogroup", "nope"))
	m := v.ask("to be deleted", join(3, "members", "", nil, "range")).(*kmsg.JoinGroupResponse).MemberID
	v.ask("completing", forget("members", "t"))
	v.ask("to be deleted", syncRequest(3, "members", m, 1, nil))
	v.ask("subscribed", forget("members", "t"))
	connect := join(3, "connect", "", nil, "range")
	connect.ProtocolType = "connect"
	v.ask("connect", connect)
	v.ask("connect", forget("connect", "t"))
	for version := range int16(3) {
		r := kmsg.NewPtrDeleteGroupsRequest()
		r.Version, r.Groups = version, []string{fmt.Sprint("simple", 4+version), "nogroup", "members", "nogroup"}
		v.ask("", r)
	}
	v.ask("deleted", v.fetch(8, "simple4", "t", 0, 1))
	v.ask("deleted", describeRequest(6, "simple4"))
}
