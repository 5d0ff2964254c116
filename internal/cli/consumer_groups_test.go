package cli_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/cli"
)

// TestConsumerGroupsAreDescribed looks at a group of the consumer protocol with one member.
func TestConsumerGroupsAreDescribed(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("modern", 2)
	s.produce("a\nb\nc\n", cli.Produce{Topic: "modern", Partition: 1})
	client, err := kgo.NewClient(kgo.SeedBrokers(server))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.RebalanceTimeoutMillis = "modern", "the-member", 30000
	req.SubscribedTopicNames, req.Topics = []string{"modern"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	s.cleanUp(func(ctx context.Context, c *cli.Client) error { return c.DeleteGroups(ctx, []string{"modern"}, true) })
	resp, err := req.RequestWith(t.Context(), client)
	if err != nil || resp.ErrorCode != 0 {
		t.Fatalf("%+v, %v", resp, err)
	}
	defer func() {
		req.MemberEpoch = -1 // it leaves
		if resp, err := req.RequestWith(t.Context(), client); err != nil || resp.ErrorCode != 0 {
			t.Errorf("%+v, %v", resp, err)
		}
	}()
	text := s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.DescribeGroups(ctx, []string{"modern"}, cli.FormatText)
	})
	want := regexp.MustCompile(`^Group: modern  Type: consumer  State: Stable  Assignor: uniform  Coordinator: 1  Members: 1  Lag: 3  TimeLag: \S+
Epoch: 2  AssignmentEpoch: 2
TOPIC +PARTITION .*
modern +0 .*
modern +1 .* 3 +3 +\S+ +the-member .*
CONSUMER-ID +EPOCH  ASSIGNMENT  TARGET-ASSIGNMENT
the-member +2  modern:0,1  modern:0,1 *
$`)
	if !want.MatchString(text) {
		t.Errorf("described as\n%s", text)
	}
	list := s.must("", func(ctx context.Context, c *cli.Client) error { return c.ListGroups(ctx, cli.FormatText) })
	if !regexp.MustCompile(`(?m)^modern +consumer +Stable +uniform +1 +1 +3 +-$`).MatchString(list) {
		t.Errorf("the list is\n%s", list)
	}
	err = s.run("", func(ctx context.Context, c *cli.Client) error {
		return c.ResetGroup(ctx, "modern", cli.ResetGroup{To: "latest", Topics: []string{"modern"}, Execute: true}, cli.FormatText)
	})
	if err == nil || !strings.Contains(err.Error(), "1 member") {
		t.Errorf("a reset while there are members: %v", err)
	}
}

// TestStreamsGroupsAreDescribed looks at a group of the streams protocol with one member, whose subtopology reads two topics of different
// size.
func TestStreamsGroupsAreDescribed(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("flow", 2)
	s.create("flow-more", 3)
	s.produce("a\nb\nc\n", cli.Produce{Topic: "flow", Partition: 1})
	client, err := kgo.NewClient(kgo.SeedBrokers(server))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	at := kadm.NewClient(client).FindGroupCoordinators(t.Context(), "flowing")["flowing"]
	if at.Err != nil {
		t.Fatal(at.Err)
	}
	coordinator := client.Broker(int(at.NodeID)) // the client does not know whom to send this request to
	topology := &kmsg.StreamsGroupHeartbeatRequestTopology{
		Subtopologies: []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{{SubtopologyID: "0", SourceTopics: []string{"flow", "flow-more"}}},
	}
	s.cleanUp(func(ctx context.Context, c *cli.Client) error { return c.DeleteGroups(ctx, []string{"flowing"}, true) })
	defer func() {
		req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch = "flowing", "the-member", -1 // it leaves
		if resp, err := req.RequestWith(t.Context(), coordinator); err != nil || resp.ErrorCode != 0 {
			t.Errorf("%+v, %v", resp, err)
		}
	}()
	epoch := int32(0)
	for {
		req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch = "flowing", "the-member", epoch
		req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
		if epoch == 0 {
			req.RebalanceTimeoutMillis, req.ProcessID, req.Topology = 30000, kmsg.StringPtr("p"), topology
		}
		resp, err := req.RequestWith(t.Context(), coordinator)
		if err != nil || resp.ErrorCode != 0 {
			t.Fatalf("%+v, %v", resp, err)
		}
		if epoch = resp.MemberEpoch; len(resp.ActiveTasks) > 0 {
			break
		}
		time.Sleep(time.Duration(resp.HeartbeatIntervalMillis) * time.Millisecond) // the group waits for more members
	}
	text := s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.DescribeGroups(ctx, []string{"flowing"}, cli.FormatText)
	})
	want := regexp.MustCompile(`^Group: flowing  Type: streams  State: Stable  Assignor: sticky  Coordinator: 1  Members: 1  Lag: 3  TimeLag: \S+
Epoch: 2  AssignmentEpoch: 2
TOPIC +PARTITION .*
flow +0 .*
flow +1 .* 3 +3 +\S+ +the-member .*
flow-more +0 .*
flow-more +1 .*
flow-more +2 .*
CONSUMER-ID +EPOCH  ASSIGNMENT  TARGET-ASSIGNMENT
the-member +2  0:0,1,2 +0:0,1,2 *
$`)
	if !want.MatchString(text) {
		t.Errorf("described as\n%s", text)
	}
	list := s.must("", func(ctx context.Context, c *cli.Client) error { return c.ListGroups(ctx, cli.FormatText) })
	if !regexp.MustCompile(`(?m)^flowing +streams +Stable +sticky +1 +1 +3 +-$`).MatchString(list) {
		t.Errorf("the list is\n%s", list)
	}
}

// TestShareGroupsAreDescribed looks at a share group with two members, which share the one partition.
func TestShareGroupsAreDescribed(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("queue", 1)
	s.produce("a\nb\n", cli.Produce{Topic: "queue", Partition: 0})
	client, err := kgo.NewClient(kgo.SeedBrokers(server))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	at := kadm.NewClient(client).FindGroupCoordinators(t.Context(), "sharing")["sharing"]
	if at.Err != nil {
		t.Fatal(at.Err)
	}
	for _, member := range []string{"one", "two"} {
		epoch := int32(0)
		for assigned := false; !assigned; {
			req := kmsg.NewPtrShareGroupHeartbeatRequest()
			req.GroupID, req.MemberID, req.MemberEpoch = "sharing", member, epoch
			if epoch == 0 {
				req.SubscribedTopicNames = []string{"queue"}
			}
			resp, err := req.RequestWith(t.Context(), client.Broker(int(at.NodeID)))
			if err != nil || resp.ErrorCode != 0 {
				t.Fatalf("%+v, %v", resp, err)
			}
			epoch = resp.MemberEpoch
			if assigned = resp.Assignment != nil && len(resp.Assignment.TopicPartitions) > 0; !assigned {
				time.Sleep(time.Duration(resp.HeartbeatIntervalMillis) * time.Millisecond)
			}
		}
	}
	text := s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.DescribeGroups(ctx, []string{"sharing"}, cli.FormatText)
	})
	want := regexp.MustCompile(`^Group: sharing  Type: share  State: Stable  Assignor: simple  Coordinator: 1  Members: 2  Lag: \S+  TimeLag: \S+
Epoch: \d+  AssignmentEpoch: \d+
TOPIC +PARTITION .*
queue +0 .* 2 .*
CONSUMER-ID .*
one +\d+ +queue:0 .*
two +\d+ +queue:0 .*
$`)
	if !want.MatchString(text) {
		t.Errorf("described as\n%s", text)
	}
	list := s.must("", func(ctx context.Context, c *cli.Client) error { return c.ListGroups(ctx, cli.FormatText) })
	if !regexp.MustCompile(`(?m)^sharing +share +Stable +simple +1 +2 +\S+ +-$`).MatchString(list) {
		t.Errorf("the list is\n%s", list)
	}
}
