package api

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestDrainingAnswersWhoWaits stops a broker while a member waits for another one to join, a member waits for its leader's assignment, and
// a consumer waits for records. Each would wait for minutes; the stop waits for none of them, and each gets an answer.
func TestDrainingAnswersWhoWaits(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	admin := b.client()
	find := kmsg.NewPtrFindCoordinatorRequest() // creates the internal topic
	find.Version, find.CoordinatorKey = 3, "joining"
	ask[*kmsg.FindCoordinatorResponse](admin, find)

	join := func(group, member string) *kmsg.JoinGroupRequest {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID = 3, group, member // before v4 a member need not join twice
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 300_000, 300_000, "consumer"
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name = "range"
		req.Protocols = append(req.Protocols, p)
		return req
	}
	joined := func(group string) *kmsg.JoinGroupResponse {
		c := b.client()
		resp := ask[*kmsg.JoinGroupResponse](c, join(group, ""))
		if resp.ErrorCode != 0 {
			t.Fatal(kerr.ErrorForCode(resp.ErrorCode))
		}
		return resp
	}
	// The first member of this group does not come back, so the second waits.
	joined("joining")
	joining, joinReq := b.client(), join("joining", "")
	joining.send(joinReq)

	// The leader of this one never sends its assignment.
	leader := joined("syncing")
	first := b.client()
	rejoin := join("syncing", leader.MemberID)
	second, secondReq := b.client(), join("syncing", "")
	second.send(secondReq)
	waitFor(t, b, "syncing", "PreparingRebalance")
	first.send(rejoin)
	answered[*kmsg.JoinGroupResponse](first, rejoin)
	follower := answered[*kmsg.JoinGroupResponse](second, secondReq)
	if follower.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(follower.ErrorCode))
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.Generation, sync.MemberID = 3, "syncing", follower.Generation, follower.MemberID
	second.send(sync)

	fetching, fetch := b.client(), kmsg.NewPtrFetchRequest()
	fetch.Version, fetch.MaxWaitMillis, fetch.MinBytes, fetch.MaxBytes, fetch.SessionEpoch, fetch.ReplicaID = 11, 300_000, 1, 1<<20, -1, -1
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic = "t"
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.PartitionMaxBytes = 1 << 20
	ft.Partitions = append(ft.Partitions, fp)
	fetch.Topics = append(fetch.Topics, ft)
	fetching.send(fetch)

	waitFor(t, b, "joining", "PreparingRebalance")
	waitFor(t, b, "syncing", "CompletingRebalance")
	stopped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	go func() { stopped <- b.wire.Shutdown(ctx) }()
	if got := answered[*kmsg.JoinGroupResponse](joining, joinReq); got.ErrorCode != kerr.NotCoordinator.Code {
		t.Errorf("the join was answered with %v", kerr.ErrorForCode(got.ErrorCode))
	}
	if got := answered[*kmsg.SyncGroupResponse](second, sync); got.ErrorCode != kerr.NotCoordinator.Code {
		t.Errorf("the sync was answered with %v", kerr.ErrorForCode(got.ErrorCode))
	}
	if got := answered[*kmsg.FetchResponse](fetching, fetch); got.ErrorCode != 0 {
		t.Errorf("the fetch was answered with %v", kerr.ErrorForCode(got.ErrorCode))
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second { // it is a matter of milliseconds, but the machine may be busy
		t.Errorf("the stop took %v", took)
	}
}

// waitFor asks for a group's state until it is the one that is wanted.
func waitFor(t *testing.T, b *testBroker, group, state string) {
	t.Helper()
	c := b.client()
	for deadline := time.Now().Add(20 * time.Second); ; {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Version, req.Groups = 4, []string{group}
		got := ask[*kmsg.DescribeGroupsResponse](c, req).Groups[0]
		if got.State == state {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("group %s is %s, want %s", group, got.State, state)
		}
	}
}
