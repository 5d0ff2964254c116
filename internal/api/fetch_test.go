package api

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
)

// fetchRequest asks for one partition, without a session.
func fetchRequest(version int16, topic string, id base.TopicID, partition int32, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MinBytes = version, 1<<20, 0
	addFetch(req, topic, id, partition, offset)
	return req
}

func addFetch(req *kmsg.FetchRequest, topic string, id base.TopicID, partition int32, offset int64) {
	t := kmsg.NewFetchRequestTopic()
	if req.Version >= 13 {
		t.TopicID = id
	} else {
		t.Topic = topic
	}
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, 1<<20
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
}

// fetchAll returns the records of a partition from offset on.
func fetchAll(c *testClient, topic string, partition int32, offset int64) []string {
	c.tb.Helper()
	resp := ask[*kmsg.FetchResponse](c, fetchRequest(12, topic, base.TopicID{}, partition, offset))
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		c.tb.Fatalf("fetch %s-%d: code %d", topic, partition, p.ErrorCode)
	}
	return recordsOf(c.tb, p.RecordBatches)
}

func TestFetchAtEveryVersion(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 1)
	c := b.client()
	mustProduce(c, "t", 0, "a", "b")
	mustProduce(c, "t", 0, "c")
	for version := int16(4); version <= 18; version++ {
		resp := ask[*kmsg.FetchResponse](c, fetchRequest(version, "t", id, 0, 1))
		p := resp.Topics[0].Partitions[0]
		if got := strings.Join(recordsOf(t, p.RecordBatches), " "); got != "0:a 1:b 2:c" {
			t.Errorf("v%d: records %q, want the whole batch that holds offset 1 and the next", version, got)
		}
		if p.ErrorCode != 0 || p.HighWatermark != 3 || p.LastStableOffset != 3 || version >= 5 && p.LogStartOffset != 0 {
			t.Errorf("v%d: %+v", version, p)
		}
		if p.AbortedTransactions != nil || version >= 11 && p.PreferredReadReplica != -1 {
			t.Errorf("v%d: aborted %v, preferred %d, want null and -1", version, p.AbortedTransactions, p.PreferredReadReplica)
		}
		if version >= 13 && resp.Topics[0].TopicID != id {
			t.Errorf("v%d: topic id %v", version, resp.Topics[0].TopicID)
		}
	}
}

func TestReadCommittedHasAnEmptyListOfAbortedTransactions(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 1)
	c := b.client()
	mustProduce(c, "t", 0, "a")
	for _, version := range []int16{4, 11, 12, 18} {
		req := fetchRequest(version, "t", id, 0, 0)
		req.IsolationLevel = 1
		p := ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions[0]
		if p.AbortedTransactions == nil || len(p.AbortedTransactions) != 0 {
			t.Errorf("v%d: aborted %v, want an empty list", version, p.AbortedTransactions)
		}
		if len(p.RecordBatches) == 0 {
			t.Errorf("v%d: no records", version)
		}
	}
}

func TestFetchErrors(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 1)
	c := b.client()
	mustProduce(c, "t", 0, "a")
	epoch := int32(b.metadata.Image().LeaderEpoch())
	cases := []struct {
		name    string
		version int16
		change  func(req *kmsg.FetchRequest)
		want    *kerr.Error
	}{
		{"unknown topic", 12, func(r *kmsg.FetchRequest) { r.Topics[0].Topic = "nope" }, kerr.UnknownTopicOrPartition},
		{"unknown topic id", 13, func(r *kmsg.FetchRequest) { r.Topics[0].TopicID = [16]byte{9} }, kerr.UnknownTopicID},
		{"unknown partition", 13, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].Partition = 1 }, kerr.UnknownTopicOrPartition},
		{"above the end", 12, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = 2 }, kerr.OffsetOutOfRange},
		{"negative offset", 12, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = -1 }, kerr.OffsetOutOfRange},
		{"old epoch", 18, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch - 1 }, kerr.FencedLeaderEpoch},
		{"new epoch", 12, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch + 1 }, kerr.UnknownLeaderEpoch},
		{"replica", 12, func(r *kmsg.FetchRequest) { r.ReplicaID = 5 }, kerr.NotLeaderForPartition},
		{"replica state", 15, func(r *kmsg.FetchRequest) { r.ReplicaState.ID = 5 }, kerr.NotLeaderForPartition},
	}
	for _, tc := range cases {
		req := fetchRequest(tc.version, "t", id, 0, 0)
		req.MaxWaitMillis, req.MinBytes = 10_000, 1
		tc.change(req)
		start := time.Now()
		resp := ask[*kmsg.FetchResponse](c, req)
		p := resp.Topics[0].Partitions[0]
		if p.ErrorCode != tc.want.Code || p.HighWatermark != -1 || len(p.RecordBatches) != 0 {
			t.Errorf("%s: %+v, want %s", tc.name, p, tc.want.Message)
		}
		if time.Since(start) > 5*time.Second {
			t.Errorf("%s: the error waited", tc.name)
		}
		if fenced := tc.want == kerr.FencedLeaderEpoch; fenced && (p.CurrentLeader.LeaderID != 1 || len(resp.Brokers) != 1) {
			t.Errorf("%s: leader %+v at %+v, want it named", tc.name, p.CurrentLeader, resp.Brokers)
		}
	}
}

func TestDivergingEpoch(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 1)
	c := b.client()
	mustProduce(c, "t", 0, "a")
	req := fetchRequest(13, "t", id, 0, 1)
	req.Topics[0].Partitions[0].LastFetchedEpoch = int32(b.metadata.Image().LeaderEpoch())
	if p := ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.DivergingEpoch.Epoch != -1 {
		t.Errorf("same epoch: %+v, want no divergence", p)
	}
}

func TestFetchReturnsAtMinBytes(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 1)
	reader, writer := b.client(), b.client()
	req := fetchRequest(16, "t", id, 0, 0)
	req.MaxWaitMillis, req.MinBytes = 15_000, 200
	reader.send(req)
	start := time.Now()
	var values []string
	for range 4 {
		mustProduce(writer, "t", 0, strings.Repeat("x", 50))
		values = append(values, strings.Repeat("x", 50))
	}
	got := recordsOf(t, answered[*kmsg.FetchResponse](reader, req).Topics[0].Partitions[0].RecordBatches)
	if len(got) < 2 || len(got) > len(values) {
		t.Errorf("%d records, want those that make 200 bytes", len(got))
	}
	if time.Since(start) > 10*time.Second {
		t.Error("it waited for max wait")
	}
}

func TestFetchReturnsAtMaxWait(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 1)
	req := fetchRequest(16, "t", id, 0, 0)
	req.MaxWaitMillis, req.MinBytes = 50, 1
	start := time.Now()
	p := ask[*kmsg.FetchResponse](b.client(), req).Topics[0].Partitions[0]
	if p.ErrorCode != 0 || len(p.RecordBatches) != 0 || p.RecordBatches == nil {
		t.Errorf("%+v, want empty records", p)
	}
	if wait := time.Since(start); wait < 50*time.Millisecond {
		t.Errorf("it came after %v", wait)
	}
}

func TestFirstBatchIsWholeAndLimitsHold(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 3)
	c := b.client()
	for p := range int32(3) {
		for range 3 {
			mustProduce(c, "t", p, strings.Repeat("x", 1000))
		}
	}
	req := fetchRequest(16, "t", id, 0, 0)
	addFetch(req, "t", id, 1, 0)
	addFetch(req, "t", id, 2, 0)
	count := func() []int {
		var n []int
		for _, topic := range ask[*kmsg.FetchResponse](c, req).Topics {
			for _, p := range topic.Partitions {
				n = append(n, len(recordsOf(t, p.RecordBatches)))
			}
		}
		return n
	}
	req.MaxBytes = 10
	if got := count(); !slices.Equal(got, []int{1, 0, 0}) {
		t.Errorf("max bytes 10: %v records, want the first batch only", got)
	}
	req.MaxBytes = 2500
	if got := count(); !slices.Equal(got, []int{2, 0, 0}) && !slices.Equal(got, []int{2, 1, 0}) {
		t.Errorf("max bytes 2500: %v records, want two batches", got)
	}
	req.MaxBytes = 1 << 20
	for i := range req.Topics {
		req.Topics[i].Partitions[0].PartitionMaxBytes = 1500
	}
	if got := count(); !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("partition max bytes 1500: %v records, want one of each", got)
	}
	for i := range req.Topics {
		req.Topics[i].Partitions[0].PartitionMaxBytes = 10
	}
	if got := count(); !slices.Equal(got, []int{1, 0, 0}) {
		t.Errorf("partition max bytes 10: %v records, want only the first partition to go over", got)
	}
}
