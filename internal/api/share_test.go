package api

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/share"
)

// sharer is a member of a share group on a connection of its own.
type sharer struct {
	*testClient
	group, member string
	topic         base.TopicID
	epoch         int32
}

func (b *testBroker) sharer(group, member string, topic base.TopicID) *sharer {
	b.tb.Helper()
	if err := b.shareState.Ensure(b.ctx); err != nil {
		b.tb.Fatal(err)
	}
	for p := range int32(2) {
		key := share.Key{Group: group, Topic: topic, Partition: p}
		if s, err := b.shareState.ReadSummary(key, 0).Wait(b.ctx); err == nil && s.StateEpoch > 0 {
			continue
		}
		if _, err := b.shareState.Initialize(key, 1, base.NoOffset).Wait(b.ctx); err != nil && p == 0 {
			b.tb.Fatal(err)
		}
	}
	return &sharer{b.client(), group, member, topic, 0}
}

// request is a share fetch of partitions 0 to partitions-1; none once they are in the session.
func (s *sharer) request(partitions int32) *kmsg.ShareFetchRequest {
	req := kmsg.NewPtrShareFetchRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = 2, &s.group, &s.member, s.epoch
	req.MinBytes, req.MaxBytes, req.MaxRecords, req.BatchSize = 1, 1<<20, 500, 500
	s.epoch++
	if partitions > 0 {
		topic := kmsg.NewShareFetchRequestTopic()
		topic.TopicID = s.topic
		for i := range partitions {
			p := kmsg.NewShareFetchRequestTopicPartition()
			p.Partition = i
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
	}
	return req
}

func (s *sharer) fetch(req *kmsg.ShareFetchRequest) *kmsg.ShareFetchResponse {
	s.tb.Helper()
	return ask[*kmsg.ShareFetchResponse](s.testClient, req)
}

// shared writes down an answer: the records acquired of each partition, errors, and what has become of acknowledgements.
func shared(tb testing.TB, resp *kmsg.ShareFetchResponse) string {
	tb.Helper()
	if resp.ErrorCode != 0 {
		return kerr.TypedErrorForCode(resp.ErrorCode).Message
	}
	var out []string
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			text := fmt.Sprintf("%d:", p.Partition)
			if p.ErrorCode != 0 {
				text += " " + kerr.TypedErrorForCode(p.ErrorCode).Message
			}
			if p.AcknowledgeErrorCode != 0 {
				text += " ack " + kerr.TypedErrorForCode(p.AcknowledgeErrorCode).Message
			}
			records := recordsOf(tb, p.Records)
			for _, b := range p.AcquiredRecords {
				text += fmt.Sprintf(" %d-%d(%d)", b.FirstOffset, b.LastOffset, b.DeliveryCount)
				for o := b.FirstOffset; o <= b.LastOffset; o++ {
					if !slices.ContainsFunc(records, func(r string) bool { return strings.HasPrefix(r, fmt.Sprintf("%d:", o)) }) {
						text += fmt.Sprintf(" without %d", o)
					}
				}
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, "; ")
}

// acks are acknowledgements of one partition: 3-4:1, or 3-5:1,2,3.
func (s *sharer) acks(partition int32, acks ...string) kmsg.ShareFetchRequestTopic {
	topic := kmsg.NewShareFetchRequestTopic()
	topic.TopicID = s.topic
	p := kmsg.NewShareFetchRequestTopicPartition()
	p.Partition = partition
	for _, a := range acks {
		var b kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch
		var types string
		if _, err := fmt.Sscanf(a, "%d-%d:%s", &b.FirstOffset, &b.LastOffset, &types); err != nil {
			s.tb.Fatal(a, err)
		}
		for t := range strings.SplitSeq(types, ",") {
			b.AcknowledgeTypes = append(b.AcknowledgeTypes, int8(t[0]-'0'))
		}
		p.AcknowledgementBatches = append(p.AcknowledgementBatches, b)
	}
	topic.Partitions = append(topic.Partitions, p)
	return topic
}

// acknowledge asks in a request of its own, and returns the code of the whole or of the partition.
func (s *sharer) acknowledge(epoch int32, partition int32, acks ...string) error {
	s.tb.Helper()
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = 2, &s.group, &s.member, epoch
	from := s.acks(partition, acks...)
	topic := kmsg.NewShareAcknowledgeRequestTopic()
	topic.TopicID = from.TopicID
	p := kmsg.NewShareAcknowledgeRequestTopicPartition()
	p.Partition = partition
	for _, b := range from.Partitions[0].AcknowledgementBatches {
		p.AcknowledgementBatches = append(p.AcknowledgementBatches, kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{FirstOffset: b.FirstOffset, LastOffset: b.LastOffset, AcknowledgeTypes: b.AcknowledgeTypes})
	}
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	resp := ask[*kmsg.ShareAcknowledgeResponse](s.testClient, req)
	if resp.ErrorCode != 0 {
		return kerr.ErrorForCode(resp.ErrorCode)
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// earliest has a share group begin with the first record, and gives it more settings: names and values.
func (b *testBroker) earliest(group string, more ...string) {
	b.tb.Helper()
	set := map[string]string{"share.auto.offset.reset": "earliest"}
	for i := 0; i+1 < len(more); i += 2 {
		set[more[i]] = more[i+1]
	}
	r := metadata.Resource{Type: metadata.ResourceGroup, Name: group}
	if err := b.metadata.AlterConfigs(b.ctx, r, func(map[string]string) (map[string]string, error) { return set, nil }); err != nil {
		b.tb.Fatal(err)
	}
}

func TestShareFetchDeliversAndRedelivers(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 1)
	b.earliest("g")
	mustProduce(b.client(), "t", 0, "a", "b", "c")
	mustProduce(b.client(), "t", 0, "d", "e")
	one, two := b.sharer("g", "one", topic), b.sharer("g", "two", topic)

	want := func(got *kmsg.ShareFetchResponse, want string) {
		t.Helper()
		if text := shared(t, got); text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
	want(one.fetch(one.request(1)), "0: 0-4(1)")
	want(two.fetch(two.request(1)), "")
	req := one.request(0)
	req.Topics = append(req.Topics, one.acks(0, "0-1:1", "2-4:2"))
	want(one.fetch(req), "0: 2-4(2)")
	if err := one.acknowledge(one.epoch, 0, "2-4:1,2,3"); err != nil {
		t.Error(err)
	}
	one.epoch++
	want(two.fetch(two.request(0)), "0: 3-3(3)")
	if err := one.acknowledge(one.epoch, 0, "3-3:1"); !errors.Is(err, kerr.InvalidRecordState) {
		t.Errorf("a record of another member: %v", err)
	}
	one.epoch++
	if err := two.acknowledge(-1, 0, "3-3:1"); err != nil {
		t.Error(err)
	}
	if err := two.acknowledge(2, 0, "3-3:1"); !errors.Is(err, kerr.ShareSessionNotFound) {
		t.Errorf("after the end of the session: %v", err)
	}
	state, err := b.shareState.Read(share.Key{Group: "g", Topic: topic}, 9).Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state.Start != 5 || len(state.Batches) != 0 {
		t.Errorf("persisted: %+v", state)
	}
}

func TestShareFetchWaits(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 2)
	b.earliest("g")
	one, two := b.sharer("g", "one", topic), b.sharer("g", "two", topic)
	for _, s := range []*sharer{one, two} {
		if got := shared(t, s.fetch(s.request(2))); got != "" {
			t.Fatalf("empty topic: %s", got)
		}
	}
	waiting := one.request(0)
	waiting.MaxWaitMillis = 60_000
	one.send(waiting)
	mustProduce(b.client(), "t", 1, "a")
	if got := shared(t, answered[*kmsg.ShareFetchResponse](one.testClient, waiting)); got != "1: 0-0(1)" {
		t.Errorf("woken by a record: %q", got)
	}
	waiting = two.request(0)
	waiting.MaxWaitMillis = 60_000
	two.send(waiting)
	if err := one.acknowledge(one.epoch, 1, "0-0:2"); err != nil {
		t.Error(err)
	}
	if got := shared(t, answered[*kmsg.ShareFetchResponse](two.testClient, waiting)); got != "1: 0-0(2)" {
		t.Errorf("woken by a release: %q", got)
	}
	one.epoch++
	waiting = one.request(0)
	waiting.MaxWaitMillis = 60_000
	one.send(waiting)
	two.conn.Close()
	if got := shared(t, answered[*kmsg.ShareFetchResponse](one.testClient, waiting)); got != "1: 0-0(3)" {
		t.Errorf("woken by the end of a connection: %q", got)
	}
}

func TestShareFetchRefusals(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "group.share.max.share.sessions=1")
	topic := b.createTopic("t", 1)
	s := b.sharer("g", "m", topic)
	for _, c := range []struct {
		name   string
		change func(r *kmsg.ShareFetchRequest)
		want   string
	}{
		{"no group", func(r *kmsg.ShareFetchRequest) { r.GroupID = nil }, "INVALID_REQUEST"},
		{"no member", func(r *kmsg.ShareFetchRequest) { r.MemberID = nil }, "INVALID_REQUEST"},
		{"empty member", func(r *kmsg.ShareFetchRequest) { r.MemberID = kmsg.StringPtr("") }, "INVALID_REQUEST"},
		{"no session", func(r *kmsg.ShareFetchRequest) { r.ShareSessionEpoch = 1 }, "SHARE_SESSION_NOT_FOUND"},
		{"end of no session", func(r *kmsg.ShareFetchRequest) { r.ShareSessionEpoch = -1 }, "SHARE_SESSION_NOT_FOUND"},
		{"acknowledges at once", func(r *kmsg.ShareFetchRequest) { r.Topics = append(r.Topics, s.acks(0, "0-0:1")) }, "INVALID_REQUEST"},
		{"renews and fetches", func(r *kmsg.ShareFetchRequest) { r.IsRenewAck = true }, "INVALID_REQUEST"},
		{"good", func(*kmsg.ShareFetchRequest) {}, ""},
		{"epoch before", func(r *kmsg.ShareFetchRequest) { r.ShareSessionEpoch = 2 }, "INVALID_SHARE_SESSION_EPOCH"},
		{"another member", func(r *kmsg.ShareFetchRequest) { r.MemberID = kmsg.StringPtr("n") }, "SHARE_SESSION_LIMIT_REACHED"},
		{"unknown partition", func(r *kmsg.ShareFetchRequest) {
			r.Topics[0].Partitions[0].Partition, r.ShareSessionEpoch = 7, 1
		}, "7: UNKNOWN_TOPIC_OR_PARTITION"},
		{"unknown topic", func(r *kmsg.ShareFetchRequest) { r.Topics[0].TopicID, r.ShareSessionEpoch = base.TopicID{1}, 2 },
			"0: UNKNOWN_TOPIC_ID; 7: UNKNOWN_TOPIC_OR_PARTITION"},
		{"bad acknowledgement", func(r *kmsg.ShareFetchRequest) {
			r.ShareSessionEpoch, r.Topics = 3, []kmsg.ShareFetchRequestTopic{s.acks(0, "1-0:1")}
		}, "0: UNKNOWN_TOPIC_ID; 0: ack INVALID_REQUEST; 7: UNKNOWN_TOPIC_OR_PARTITION"},
		{"end", func(r *kmsg.ShareFetchRequest) { r.ShareSessionEpoch, r.Topics = -1, nil }, ""},
	} {
		s.epoch = 0
		req := s.request(1)
		c.change(req)
		if got := shared(t, s.fetch(req)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestShareFetchSkipsWhatNobodySees(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 1)
	b.earliest("committed", "share.isolation.level", "read_committed")
	b.earliest("uncommitted")
	// 0: aborted, 1: its marker, 2: committed, 3: its marker, 4: open
	producer := newTxnClient(b, "x")
	for i, commit := range []bool{false, true} {
		producer.want("produce", producer.produce(12, "t", 0, strconv.Itoa(i)), nil)
		producer.want("end", producer.end(5, commit), nil)
		for committed := int64(2*i + 2); ; time.Sleep(time.Millisecond) { // the markers follow the answer to EndTxn
			req := fetchRequest(12, "t", base.TopicID{}, 0, 0)
			if ask[*kmsg.FetchResponse](producer.testClient, req).Topics[0].Partitions[0].LastStableOffset == committed {
				break
			}
		}
	}
	producer.want("produce", producer.produce(12, "t", 0, "open"), nil)
	for group, want := range map[string]string{
		"committed":   "0: 2-2(1)",
		"uncommitted": "0: 0-0(1) 2-2(1) 4-4(1)",
	} {
		s := b.sharer(group, "m", topic)
		if got := shared(t, s.fetch(s.request(1))); got != want {
			t.Errorf("%s: %q, want %q", group, got, want)
		}
		if err := s.acknowledge(-1, 0, "2-2:1"); err != nil {
			t.Error(err)
		}
	}
}

func TestShareFetchLimits(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 2)
	b.earliest("g")
	for range 3 {
		mustProduce(b.client(), "t", 0, "a", "b", "c")
		mustProduce(b.client(), "t", 1, "a", "b", "c")
	}
	s := b.sharer("g", "m", topic)
	for _, c := range []struct {
		records int32
		exact   bool
		want    string
	}{{1, false, "0: 0-2(1)"}, {4, true, "1: 0-3(1)"}, {4, true, "0: 3-6(1)"}, {500, false, "0: 7-8(1); 1: 4-8(1)"}, {500, false, ""}} {
		req := s.request(2)
		if s.epoch > 1 {
			req.Topics = nil
		}
		if req.MaxRecords = c.records; c.exact {
			req.ShareAcquireMode = 1
		}
		if got := shared(t, s.fetch(req)); got != c.want {
			t.Errorf("max records %d: %q, want %q", c.records, got, c.want)
		}
	}
}

func TestShareFetchFollowsDeletedRecordsAndTopics(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 1)
	b.earliest("g")
	c := b.client()
	mustProduce(c, "t", 0, "a", "b", "c")
	s := b.sharer("g", "m", topic)
	deleted := kmsg.NewPtrDeleteRecordsRequest()
	deleted.Version, deleted.TimeoutMillis = 2, 10_000
	deleted.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 1}}}}
	ask[*kmsg.DeleteRecordsResponse](c, deleted)
	if got := shared(t, s.fetch(s.request(1))); got != "0: 1-2(1)" {
		t.Errorf("from the log's start: %q", got)
	}
	deleted.Topics[0].Partitions[0].Offset = 2
	ask[*kmsg.DeleteRecordsResponse](c, deleted)
	if err := s.acknowledge(1, 0, "1-2:2"); err != nil {
		t.Error(err)
	}
	s.epoch++
	if got := shared(t, s.fetch(s.request(0))); got != "0: 2-2(2)" {
		t.Errorf("after the log's start moved: %q", got)
	}
	gone := kmsg.NewPtrDeleteTopicsRequest()
	gone.Version, gone.TimeoutMillis = 6, 10_000
	gone.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: topic}}
	ask[*kmsg.DeleteTopicsResponse](c, gone)
	req := s.request(0)
	req.MaxWaitMillis = int32(time.Minute.Milliseconds())
	if got := shared(t, s.fetch(req)); got != "0: UNKNOWN_TOPIC_ID" {
		t.Errorf("after the topic went: %q", got)
	}
}
