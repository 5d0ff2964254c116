package group

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// TestStreamsGroupsAreBounded: members come until the memory for groups is full; then new ones are refused, and those that are there go on.
func TestStreamsGroupsAreBounded(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	m := newTestMachine()
	m.env.Budget = NewBudget(limit)
	m.env.Topics = topicMap{"t": TopicInfo{Name: "t", ID: testTopic("t", 1).ID, Partitions: 100}}
	m.env.StreamsSettings = func(string) StreamsSettings { return StreamsSettings{SessionTimeout: 1, HeartbeatInterval: 1} }
	heartbeat := func(member string, epoch int32) *kmsg.StreamsGroupHeartbeatResponse {
		req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = "g", member, epoch, -1
		if epoch == 0 {
			req.RebalanceTimeoutMillis, req.ProcessID, req.Topology = 1000, &member, testTopology("plain")
			req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
		}
		return m.StreamsGroupHeartbeat(effectsOf(m), Client{ID: "c"}, req).Response
	}
	joined := 0
	for {
		resp := heartbeat(fmt.Sprintf("m%03d", joined), 0)
		if resp.ErrorCode == kerr.CoordinatorNotAvailable.Code {
			break
		}
		if resp.ErrorCode != 0 || joined > limit/memberOverhead {
			t.Fatalf("member %d: %+v", joined, resp)
		}
		joined++
	}
	if used := m.env.Budget.Used(); joined < 10 || used > limit || used != m.groups["g"].size() {
		t.Errorf("%d members take %d bytes, want at most %d", joined, used, limit)
	}
	first := m.streams("g").members["m000"]
	if resp := heartbeat("m000", first.epoch); resp.ErrorCode != 0 || resp.MemberEpoch < first.epoch {
		t.Errorf("a member that is there: %+v", resp)
	}
	m.Release()
	if used := m.env.Budget.Used(); used != 0 {
		t.Errorf("%d bytes are not given back", used)
	}
}

// TestLongTasksAreLeftOut: a target that would not fit into a record is not made, and the members keep what they have.
func TestLongTasksAreLeftOut(t *testing.T) {
	t.Parallel()
	m := newTestMachine()
	m.env.Config.MaxRecordBytes = 2000
	m.env.Topics = topicMap{"t": TopicInfo{Name: "t", ID: testTopic("t", 1).ID, Partitions: 1000}}
	m.env.StreamsSettings = func(string) StreamsSettings { return StreamsSettings{SessionTimeout: 1, HeartbeatInterval: 1} }
	req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	req.Group, req.MemberID, req.RebalanceTimeoutMillis, req.ProcessID, req.Topology = "g", "a", 1000, ptr("p"), testTopology("plain")
	req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
	fx := coordinator.NewEffects(m, effectsOf(m).Now, 0)
	resp := m.StreamsGroupHeartbeat(fx, Client{ID: "c"}, req).Response
	if resp.ErrorCode != 0 || resp.MemberEpoch != firstEpoch || len(resp.ActiveTasks) != 0 {
		t.Errorf("%+v", resp)
	}
	for _, r := range fx.Records() {
		if len(r.Key)+len(r.Value) > m.env.Config.MaxRecordBytes {
			t.Errorf("a record of %d bytes", len(r.Key)+len(r.Value))
		}
	}
}
