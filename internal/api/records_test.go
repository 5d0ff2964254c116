package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/record"
)

// listed asks for one partition's offset for a timestamp: "offset@timestamp", or the error's name.
func listed(c *testClient, version int16, topic string, partition int32, timestamp int64) string {
	c.tb.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = version, -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, timestamp
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	got := ask[*kmsg.ListOffsetsResponse](c, req).Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		return kerr.TypedErrorForCode(got.ErrorCode).Message
	}
	return fmt.Sprintf("%d@%d", got.Offset, got.Timestamp)
}

func TestListOffsets(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 2)
	c := b.client()
	for _, ts := range []int64{1000, 3000, 2000} {
		if got := produced1(c, produceRequest(9, "t", base.TopicID{}, 0, batchOf(ts, "a", "b"))); got.ErrorCode != 0 {
			t.Fatalf("%+v", got)
		}
	}
	for _, tc := range []struct {
		version   int16
		topic     string
		partition int32
		timestamp int64
		want      string
	}{
		{1, "t", 0, -1, "6@-1"},
		{11, "t", 0, -1, "6@-1"},
		{11, "t", 0, -2, "0@-1"},
		{11, "t", 0, -3, "2@3000"},
		{11, "t", 0, -4, "0@-1"},
		{11, "t", 0, -5, "-1@-1"},
		{11, "t", 0, -6, "-1@-1"},
		{11, "t", 0, -7, kerr.UnsupportedVersion.Message},
		{6, "t", 0, -3, kerr.UnsupportedVersion.Message},
		{7, "t", 0, -4, kerr.UnsupportedVersion.Message},
		{8, "t", 0, -5, kerr.UnsupportedVersion.Message},
		{10, "t", 0, -6, kerr.UnsupportedVersion.Message},
		{11, "t", 0, 0, "0@1000"},
		{11, "t", 0, 1001, "2@3000"},
		{11, "t", 0, 3001, "-1@-1"},
		{11, "t", 1, -1, "0@-1"},
		{11, "t", 1, -3, "-1@-1"},
		{11, "t", 2, -1, kerr.UnknownTopicOrPartition.Message},
		{11, "nope", 0, -1, kerr.UnknownTopicOrPartition.Message},
	} {
		if got := listed(c, tc.version, tc.topic, tc.partition, tc.timestamp); got != tc.want {
			t.Errorf("v%d %s-%d at %d: %s, want %s", tc.version, tc.topic, tc.partition, tc.timestamp, got, tc.want)
		}
	}
}

func TestListOffsetsChecksEpochAndDuplicates(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 2)
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 11, -1
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = "t"
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp, p.CurrentLeaderEpoch = -1, int32(b.metadata.Image().LeaderEpoch())-1
	topic.Partitions = append(topic.Partitions, p)
	p.Partition = 1
	topic.Partitions = append(topic.Partitions, p, p)
	req.Topics = append(req.Topics, topic)
	got := ask[*kmsg.ListOffsetsResponse](b.client(), req).Topics[0].Partitions
	if len(got) != 2 || got[0].ErrorCode != kerr.FencedLeaderEpoch.Code || got[1].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("%+v, want FENCED_LEADER_EPOCH, and INVALID_REQUEST once", got)
	}
}

// deleted asks to delete a partition's records before an offset: the log start offset, or the error's name.
func deleted(c *testClient, topic string, before int64) string {
	c.tb.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version = 2
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = topic
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = before
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	got := ask[*kmsg.DeleteRecordsResponse](c, req).Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		return kerr.TypedErrorForCode(got.ErrorCode).Message
	}
	return fmt.Sprint(got.LowWatermark)
}

func TestDeleteRecords(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	b.createTopic("compacted", 1, "cleanup.policy", "compact")
	if err := (testInternalTopic{b, group.Topic}).Ensure(b.ctx); err != nil {
		t.Fatal(err)
	}
	c := b.client()
	for range 3 {
		mustProduce(c, "t", 0, "a")
	}
	for _, tc := range []struct {
		topic  string
		before int64
		want   string
	}{
		{"t", 1, "1"},
		{"t", 4, kerr.OffsetOutOfRange.Message},
		{"t", -2, kerr.OffsetOutOfRange.Message},
		{"t", -1, "3"},
		{"nope", 0, kerr.UnknownTopicOrPartition.Message},
		{"compacted", 0, kerr.PolicyViolation.Message},
		{"__consumer_offsets", 0, kerr.InvalidTopicException.Message},
	} {
		if got := deleted(c, tc.topic, tc.before); got != tc.want {
			t.Errorf("%s before %d: %s, want %s", tc.topic, tc.before, got, tc.want)
		}
	}
	if got := listed(c, 11, "t", 0, -2); got != "3@-1" {
		t.Errorf("earliest is %s", got)
	}
	if got := ask[*kmsg.FetchResponse](c, fetchRequest(12, "t", base.TopicID{}, 0, 0)).Topics[0].Partitions[0]; got.ErrorCode != kerr.OffsetOutOfRange.Code {
		t.Errorf("fetch of what was deleted: code %d", got.ErrorCode)
	}
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	mustProduce(c, "t", 0, "a")
	current := int32(b.metadata.Image().LeaderEpoch())
	end := func(partition, known, epoch int32) string {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.Version, req.ReplicaID = 4, -1
		topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
		topic.Topic = "t"
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = partition, known, epoch
		topic.Partitions = append(topic.Partitions, p)
		req.Topics = append(req.Topics, topic)
		got := ask[*kmsg.OffsetForLeaderEpochResponse](c, req).Topics[0].Partitions[0]
		if got.ErrorCode != 0 {
			return kerr.TypedErrorForCode(got.ErrorCode).Message
		}
		return fmt.Sprintf("%d@%d", got.LeaderEpoch, got.EndOffset)
	}
	for want, got := range map[string]string{
		fmt.Sprintf("%d@1", current):         end(0, -1, current),
		"-1@-1":                              end(0, -1, current+1),
		kerr.UnknownLeaderEpoch.Message:      end(0, current+1, current),
		kerr.FencedLeaderEpoch.Message:       end(0, current-1, current),
		kerr.UnknownTopicOrPartition.Message: end(1, -1, current),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestAProducerTriesAgainWhenTheMetadataFails: a producer gives up for good at an error that is not retriable when it asks for an id.
func TestAProducerTriesAgainWhenTheMetadataFails(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.store.Fail(errors.New("the disk is gone"))
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version = 5
	got := ask[*kmsg.InitProducerIDResponse](b.client(), req)
	if err := kerr.ErrorForCode(got.ErrorCode); !kerr.IsRetriable(err) {
		t.Errorf("the answer is %v", err)
	}
	<-b.metadata.Failed()
	b.faults.take() // it says so
}

func TestInitProducerID(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	c := b.client()
	seen := map[int64]bool{}
	for range 5 {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.Version = 5
		got := ask[*kmsg.InitProducerIDResponse](c, req)
		if got.ErrorCode != 0 || got.ProducerEpoch != 0 || got.ProducerID < 0 || seen[got.ProducerID] {
			t.Errorf("%+v, want a new id with epoch 0", got)
		}
		seen[got.ProducerID] = true
	}
	for _, tc := range []struct {
		name   string
		change func(r *kmsg.InitProducerIDRequest)
		want   *kerr.Error
	}{
		{"an id without epoch", func(r *kmsg.InitProducerIDRequest) { r.ProducerID = 5 }, kerr.InvalidRequest},
		{"empty transactional id", func(r *kmsg.InitProducerIDRequest) { r.TransactionalID = kmsg.StringPtr("") }, kerr.InvalidRequest},
		{"timeout", func(r *kmsg.InitProducerIDRequest) {
			r.TransactionalID, r.TransactionTimeoutMillis = kmsg.StringPtr("x"), 901_000
		}, kerr.InvalidTransactionTimeout},
	} {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.Version = 5
		tc.change(req)
		if got := ask[*kmsg.InitProducerIDResponse](c, req); got.ErrorCode != tc.want.Code || got.ProducerID != -1 {
			t.Errorf("%s: %+v, want %s", tc.name, got, tc.want.Message)
		}
	}
}

func TestDescribeProducers(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	build := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: 7, Epoch: 2}})
	now := time.Now().UnixMilli() // old batches would let the producer expire
	build.Append(now, nil, []byte("a"))
	build.Append(now, nil, []byte("b"))
	if got := produced1(c, produceRequest(9, "t", base.TopicID{}, 0, build.Build(0))); got.ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
	req := kmsg.NewPtrDescribeProducersRequest()
	topic := kmsg.NewDescribeProducersRequestTopic()
	topic.Topic, topic.Partitions = "t", []int32{0, 1}
	req.Topics = append(req.Topics, topic)
	got := ask[*kmsg.DescribeProducersResponse](c, req).Topics[0].Partitions
	if got[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("unknown partition: %+v", got[1])
	}
	if len(got[0].ActiveProducers) != 1 {
		t.Fatalf("%+v, want one producer", got[0])
	}
	p := got[0].ActiveProducers[0]
	if p.ProducerID != 7 || p.ProducerEpoch != 2 || p.LastSequence != 1 || p.LastTimestamp != now || p.CurrentTxnStartOffset != -1 {
		t.Errorf("%+v", p)
	}
}

func TestDescribeTopicPartitionsPages(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("a", 3)
	b.createTopic("b", 1)
	c := b.client()
	page := func(limit int32, cursor string, partition int32, names ...string) string {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit = limit
		for _, name := range names {
			topic := kmsg.NewDescribeTopicPartitionsRequestTopic()
			topic.Topic = name
			req.Topics = append(req.Topics, topic)
		}
		if cursor != "" {
			req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: cursor, Partition: partition}
		}
		resp := ask[*kmsg.DescribeTopicPartitionsResponse](c, req)
		var parts []string
		for _, topic := range resp.Topics {
			if topic.ErrorCode != 0 {
				parts = append(parts, fmt.Sprintf("%s!%d", *topic.Topic, topic.ErrorCode))
			}
			for _, p := range topic.Partitions {
				parts = append(parts, fmt.Sprintf("%s%d", *topic.Topic, p.Partition))
			}
		}
		if resp.NextCursor != nil {
			parts = append(parts, fmt.Sprintf("next=%s%d", resp.NextCursor.Topic, resp.NextCursor.Partition))
		}
		return strings.Join(parts, " ")
	}
	for _, tc := range []struct{ got, want string }{
		{page(2, "", 0), "a0 a1 next=a2"},
		{page(2, "a", 2), "a2 b0"},
		{page(1, "a", 2), "a2 next=b0"},
		{page(1, "b", 0), "b0"},
		{page(0, "", 0), "a0 next=a1"},
		{page(100, "", 0, "b", "nope", "b", "a b"), "a b!17 b0 nope!3"},
		{page(100, "zzz", 0, "b"), "b!42"},
		{page(100, "b", -1, "b"), "b!42"},
		{page(100, "a", 99), "b0"},
		{page(100, "aa", 0), "b0"},
	} {
		if tc.got != tc.want {
			t.Errorf("%q, want %q", tc.got, tc.want)
		}
	}
}

func TestDescribeLogDirs(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 2)
	c := b.client()
	mustProduce(c, "t", 1, "a")
	for version := int16(1); version <= 5; version++ {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		req.Version = version
		dirs := ask[*kmsg.DescribeLogDirsResponse](c, req).Dirs
		if len(dirs) != 1 || len(dirs[0].Topics) != 1 || len(dirs[0].Topics[0].Partitions) != 2 || dirs[0].Topics[0].Partitions[1].Size == 0 {
			t.Errorf("v%d: %+v", version, dirs)
		}
		topic := kmsg.NewDescribeLogDirsRequestTopic()
		topic.Topic, topic.Partitions = "t", []int32{1, 1, 9}
		req.Topics = append(req.Topics, topic)
		topic.Topic = "nope"
		req.Topics = append(req.Topics, topic)
		dirs = ask[*kmsg.DescribeLogDirsResponse](c, req).Dirs
		if len(dirs[0].Topics) != 1 || len(dirs[0].Topics[0].Partitions) != 1 {
			t.Errorf("v%d: %+v, want partition 1 only", version, dirs)
		}
	}
}

func TestDescribeClusterEndpointTypes(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	c := b.client()
	for kind, want := range map[int8]int16{1: 0, 2: kerr.MismatchedEndpointType.Code, 9: kerr.UnsupportedEndpointType.Code} {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.Version, req.EndpointType = 2, kind
		got := ask[*kmsg.DescribeClusterResponse](c, req)
		if got.ErrorCode != want || (want == 0) != (got.ClusterID != "") {
			t.Errorf("endpoint type %d: %+v, want code %d", kind, got, want)
		}
	}
}
