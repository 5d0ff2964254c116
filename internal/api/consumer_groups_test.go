package api

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/metadata"
)

func firstHeartbeat(group, member string) *kmsg.ConsumerGroupHeartbeatRequest {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.RebalanceTimeoutMillis = 1, group, member, 30000
	r.SubscribedTopicNames, r.Topics = []string{"none"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return r
}

func TestConsumerGroupsFollowTheirSettings(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "group.consumer.heartbeat.interval.ms=7000")
	c := b.client()
	fc := kmsg.NewPtrFindCoordinatorRequest()
	fc.Version, fc.CoordinatorKeys = 6, []string{"g"}
	ask[*kmsg.FindCoordinatorResponse](c, fc)
	set := func(r metadata.Resource, key, value string) {
		t.Helper()
		if err := b.metadata.AlterConfigs(t.Context(), r, func(map[string]string) (map[string]string, error) {
			return map[string]string{key: value}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	interval := func(want int32) {
		t.Helper()
		resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](c, firstHeartbeat("g", "m"))
		if resp.ErrorCode != 0 || resp.HeartbeatIntervalMillis != want {
			t.Errorf("code %d, interval %d, want %d", resp.ErrorCode, resp.HeartbeatIntervalMillis, want)
		}
	}
	interval(7000)
	group := metadata.Resource{Type: metadata.ResourceGroup, Name: "g"}
	set(group, "consumer.heartbeat.interval.ms", "9000")
	interval(9000)
	set(group, "consumer.heartbeat.interval.ms", "90000") // as if the broker's bounds had been others when it was set
	interval(15000)
	if got := NewGroupSettings(b.api.config, b.metadata).Consumer("g").SessionTimeout; got != 45*time.Second {
		t.Errorf("session timeout %v", got)
	}
	set(metadata.Resource{Type: metadata.ResourceBroker}, "group.consumer.assignment.interval.ms", "250")
	if got := NewGroupSettings(b.api.config, b.metadata).Consumer("g").AssignmentInterval; got != 250*time.Millisecond {
		t.Errorf("assignment interval %v", got)
	}
}

func TestConsumerGroupsCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "group.coordinator.rebalance.protocols=classic")
	c := b.client()
	if resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](c, firstHeartbeat("g", "m")); resp.ErrorCode != kerr.UnsupportedVersion.Code {
		t.Errorf("heartbeat: code %d", resp.ErrorCode)
	}
	if resp := ask[*kmsg.ConsumerGroupDescribeResponse](c, consumerDescribe(1, "g")); resp.Groups[0].ErrorCode != kerr.UnsupportedVersion.Code {
		t.Errorf("describe: code %d", resp.Groups[0].ErrorCode)
	}
}
