package api

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator/group/topology"
)

// TestInternalTopicsOfStreamsGroups: they are there when the answer comes that says that they are missing, with their settings; and where
// one cannot be created the answer says why.
func TestInternalTopicsOfStreamsGroups(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "group.streams.initial.rebalance.delay.ms=0")
	talk := &conversation{client: b.client(), names: map[string]string{}}
	talk.begin("in")
	report := func(group, policy string) kmsg.StreamsGroupHeartbeatResponseStatus {
		store := kmsg.TopicInfo{Topic: group + "-store", Configs: []kmsg.TopicInfoConfig{{Key: "cleanup.policy", Value: policy}}}
		resp := ask[*kmsg.StreamsGroupHeartbeatResponse](talk.client, talk.streamsReport(group, "a", 0, reading(streamsSubtopology{
			SubtopologyID: "0", SourceTopics: []string{"in"}, StateChangelogTopics: []kmsg.TopicInfo{store},
		})))
		if resp.ErrorCode != 0 || len(resp.Status) != 1 || resp.Status[0].StatusCode != int8(topology.MissingInternalTopics) {
			t.Fatalf("%+v", resp)
		}
		return resp.Status[0]
	}
	if got := report("good", "compact").StatusDetail; got != "Internal topics are missing: good-store" {
		t.Errorf("the status is %q", got)
	}
	made, ok := b.metadata.Image().Topic("good-store")
	if !ok || len(made.Partitions) != 2 || made.Configs["cleanup.policy"] != "compact" {
		t.Errorf("the changelog topic is %+v", made)
	}
	if got := report("bad", "nonsense").StatusDetail; !strings.HasPrefix(got, "Internal topics are missing: bad-store; Creation failed: bad-store (") {
		t.Errorf("the status is %q", got)
	}
	if made, ok := b.metadata.Image().Topic("bad-store"); ok {
		t.Errorf("a topic with a bad setting was created: %+v", made)
	}
}

func TestFailuresAreToldInShort(t *testing.T) {
	t.Parallel()
	resp := &kmsg.StreamsGroupHeartbeatResponse{Status: []kmsg.StreamsGroupHeartbeatResponseStatus{
		{StatusCode: int8(topology.AssignmentDelayed), StatusDetail: "x"}, {StatusCode: int8(topology.MissingInternalTopics), StatusDetail: "y"},
	}}
	tellFailures(resp, []string{"a (1)", "b (2)", "c (3)", "d (4)", "e (5)"})
	if resp.Status[0].StatusDetail != "x" || resp.Status[1].StatusDetail != "y; Creation failed: a (1), b (2), c (3) and 2 more." {
		t.Errorf("told %+v", resp.Status)
	}
}

// TestStreamsProtocolIsOff: both requests are refused, and groups of other kinds go on.
func TestStreamsProtocolIsOff(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "group.coordinator.rebalance.protocols=classic,consumer")
	talk := &conversation{client: b.client(), names: map[string]string{}}
	talk.begin("in")
	if resp := ask[*kmsg.StreamsGroupHeartbeatResponse](talk.client, talk.streamsReport("g", "a", 0)); resp.ErrorCode != kerr.UnsupportedVersion.Code {
		t.Errorf("%+v", resp)
	}
	if resp := ask[*kmsg.StreamsGroupDescribeResponse](talk.client, streamsDescribe("g")); resp.Groups[0].ErrorCode != kerr.UnsupportedVersion.Code {
		t.Errorf("%+v", resp)
	}
	if resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](talk.client, talk.report("g", "a", 0)); resp.ErrorCode != 0 {
		t.Errorf("%+v", resp)
	}
}
