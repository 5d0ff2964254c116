package api

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/record"
)

func TestProduceAnswersOffsetsAtEveryVersion(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 1)
	c := b.client()
	for version := int16(3); version <= 13; version++ {
		name := "t"
		if version >= 13 {
			name = ""
		}
		got := produced1(c, produceRequest(version, name, id, 0, batchOf(1000, "a", "b")))
		if want := int64(version-3) * 2; got.ErrorCode != 0 || got.BaseOffset != want || got.LogAppendTime != -1 {
			t.Errorf("v%d: %+v, want base offset %d", version, got, want)
		}
		if version >= 5 && got.LogStartOffset != 0 {
			t.Errorf("v%d: log start offset %d, want 0", version, got.LogStartOffset)
		}
	}
}

func TestProduceIsReadableOnceAnswered(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	mustProduce(c, "t", 0, "a", "b")
	if got := strings.Join(fetchAll(c, "t", 0, 0), " "); got != "0:a 1:b" {
		t.Errorf("records %q, want 0:a 1:b", got)
	}
}

func TestProduceRefusesPerPartition(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 1)
	b.createTopic("compacted", 1, "cleanup.policy", "compact")
	b.createTopic("small", 1, "max.message.bytes", "100")
	b.createTopic("recent", 1, "message.timestamp.before.max.ms", "1000")
	corrupt := batchOf(1000, "a")
	corrupt[len(corrupt)-1] ^= 1
	two := append(batchOf(1000, "a"), batchOf(1000, "b")...)
	transactional := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{ID: 1}})
	transactional.Append(1000, nil, []byte("a"))
	magic1 := batchOf(1000, "a")
	magic1[16] = 1
	cases := []struct {
		name    string
		topic   string
		part    int32
		records []byte
		want    *kerr.Error
	}{
		{"unknown topic", "nope", 0, batchOf(1000, "a"), kerr.UnknownTopicOrPartition},
		{"unknown partition", "t", 1, batchOf(1000, "a"), kerr.UnknownTopicOrPartition},
		{"negative partition", "t", -1, batchOf(1000, "a"), kerr.UnknownTopicOrPartition},
		{"wrong checksum", "t", 0, corrupt, kerr.CorruptMessage},
		{"two batches", "t", 0, two, kerr.InvalidRecord},
		{"no batch", "t", 0, []byte{}, kerr.InvalidRecord},
		{"null records", "t", 0, nil, kerr.InvalidRecord},
		{"old magic", "t", 0, magic1, kerr.InvalidRecord},
		{"transaction", "t", 0, transactional.Build(0), kerr.NotEnoughReplicas},
		{"no key", "compacted", 0, batchOf(1000, "a"), kerr.InvalidRecord},
		{"too large", "small", 0, batchOf(1000, strings.Repeat("x", 100)), kerr.MessageTooLarge},
		{"too old", "recent", 0, batchOf(1000, "a"), kerr.InvalidTimestamp},
	}
	c := b.client()
	for _, tc := range cases {
		req := produceRequest(12, tc.topic, id, tc.part, tc.records)
		req.TransactionID = kmsg.StringPtr("tx")
		got := produced1(c, req)
		if got.ErrorCode != tc.want.Code || got.BaseOffset != -1 {
			t.Errorf("%s: code %v, base offset %d, want %s and -1", tc.name, kerr.ErrorForCode(got.ErrorCode), got.BaseOffset, tc.want.Message)
		}
	}
	if got := produced1(c, produceRequest(12, "t", id, 0, transactional.Build(0))); got.ErrorCode != kerr.TransactionalIDAuthorizationFailed.Code {
		t.Errorf("transaction without id: code %d, want TRANSACTIONAL_ID_AUTHORIZATION_FAILED", got.ErrorCode)
	}
	if got := produced1(c, produceRequest(13, "", base.TopicID{1}, 0, batchOf(1000, "a"))); got.ErrorCode != kerr.UnknownTopicID.Code {
		t.Errorf("unknown topic id: code %d, want UNKNOWN_TOPIC_ID", got.ErrorCode)
	}
	if offsets := fetchAll(c, "t", 0, 0); len(offsets) != 0 {
		t.Errorf("refused records are there: %v", offsets)
	}
}

func TestOneBadPartitionDoesNotSpoilTheOthers(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 2)
	req := produceRequest(11, "t", base.TopicID{}, 0, batchOf(1000, "a"))
	bad := req.Topics[0].Partitions[0]
	bad.Partition, bad.Records = 9, batchOf(1000, "b")
	other := bad
	other.Partition = 1
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, bad, other)
	got := ask[*kmsg.ProduceResponse](b.client(), req).Topics[0].Partitions
	if got[0].ErrorCode != 0 || got[1].ErrorCode != kerr.UnknownTopicOrPartition.Code || got[2].ErrorCode != 0 {
		t.Errorf("codes %d %d %d, want 0 3 0", got[0].ErrorCode, got[1].ErrorCode, got[2].ErrorCode)
	}
}

func TestRefusedRecordsAreNamed(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1, "cleanup.policy", "compact")
	build := record.NewBuilder(record.BuilderOptions{})
	build.Append(1000, []byte("k"), []byte("v"))
	build.Append(1000, nil, []byte("v"))
	got := produced1(b.client(), produceRequest(8, "t", base.TopicID{}, 0, build.Build(0)))
	if got.ErrorCode != kerr.InvalidRecord.Code || len(got.ErrorRecords) != 1 || got.ErrorRecords[0].RelativeOffset != 1 {
		t.Fatalf("%+v, want INVALID_RECORD naming record 1", got)
	}
	if got.ErrorMessage == nil || got.ErrorRecords[0].ErrorMessage == nil {
		t.Error("no error message")
	}
}

func TestAcks(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	for _, acks := range []int16{2, -2} {
		req := produceRequest(9, "t", base.TopicID{}, 0, batchOf(1000, "a"))
		req.Acks = acks
		if got := produced1(c, req); got.ErrorCode != kerr.InvalidRequiredAcks.Code {
			t.Errorf("acks %d: code %d, want INVALID_REQUIRED_ACKS", acks, got.ErrorCode)
		}
	}
	none := produceRequest(9, "t", base.TopicID{}, 0, batchOf(1000, "unanswered"))
	none.Acks = 0
	c.send(none)
	leader := produceRequest(9, "t", base.TopicID{}, 0, batchOf(1000, "answered"))
	leader.Acks = 1
	if got := produced1(c, leader); got.ErrorCode != 0 || got.BaseOffset != 1 {
		t.Errorf("acks 1 after acks 0: %+v, want base offset 1", got)
	}
	none.Topics[0].Topic = "nope"
	c.closedBy(none)
}

func TestPipelinedProducesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	var sent []*kmsg.ProduceRequest
	done := make(chan struct{})
	for range 50 {
		sent = append(sent, produceRequest(9, "t", base.TopicID{}, 0, batchOf(1000, "a")))
	}
	go func() {
		defer close(done)
		for _, req := range sent {
			c.send(req)
		}
	}()
	for i, req := range sent {
		if got := answered[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0]; got.BaseOffset != int64(i) {
			t.Fatalf("answer %d has base offset %d", i, got.BaseOffset)
		}
	}
	<-done
}

func TestDuplicateIsAnsweredWithItsFirstOffset(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	batch := func(sequence int32) []byte {
		build := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: 7, BaseSequence: sequence}})
		build.Append(1000, nil, []byte("a"))
		return build.Build(0)
	}
	for _, step := range []struct {
		sequence int32
		code     int16
		offset   int64
	}{{0, 0, 0}, {1, 0, 1}, {0, 0, 0}, {1, 0, 1}, {3, kerr.OutOfOrderSequenceNumber.Code, -1}, {2, 0, 2}} {
		got := produced1(c, produceRequest(9, "t", base.TopicID{}, 0, batch(step.sequence)))
		if got.ErrorCode != step.code || got.BaseOffset != step.offset {
			t.Errorf("sequence %d: code %d, offset %d, want %d and %d", step.sequence, got.ErrorCode, got.BaseOffset, step.code, step.offset)
		}
	}
}

func TestLogAppendTimeIsAnswered(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1, "message.timestamp.type", "LogAppendTime")
	before := time.Now().UnixMilli()
	got := produced1(b.client(), produceRequest(9, "t", base.TopicID{}, 0, batchOf(1000, "a")))
	if got.ErrorCode != 0 || got.LogAppendTime < before || got.LogAppendTime > time.Now().UnixMilli() {
		t.Errorf("%+v, want the time of the append", got)
	}
}

func TestInternalTopicsAreNotForClients(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	if err := (testInternalTopic{b, group.Topic}).Ensure(b.ctx); err != nil {
		t.Fatal(err)
	}
	got := produced1(b.client(), produceRequest(9, "__consumer_offsets", base.TopicID{}, 0, batchOf(1000, "a")))
	if got.ErrorCode != kerr.InvalidTopicException.Code {
		t.Errorf("code %d, want INVALID_TOPIC_EXCEPTION", got.ErrorCode)
	}
}

func TestZstdNeedsVersion7(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	build := record.NewBuilder(record.BuilderOptions{Codec: record.Zstd})
	build.Append(1000, nil, []byte("a"))
	c := b.client()
	if got := produced1(c, produceRequest(6, "t", base.TopicID{}, 0, build.Build(0))); got.ErrorCode != kerr.UnsupportedCompressionType.Code {
		t.Errorf("v6: code %d, want UNSUPPORTED_COMPRESSION_TYPE", got.ErrorCode)
	}
	if got := produced1(c, produceRequest(7, "t", base.TopicID{}, 0, build.Build(0))); got.ErrorCode != 0 {
		t.Errorf("v7: code %d", got.ErrorCode)
	}
}

func TestBatchOfTwoBillionRecordsIsRefused(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	batch := batchOf(1000, "a")
	binary.BigEndian.PutUint32(batch[57:], 1<<31-1)
	binary.BigEndian.PutUint32(batch[23:], 1<<31-2)
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
	if got := produced1(b.client(), produceRequest(9, "t", base.TopicID{}, 0, batch)); got.ErrorCode == 0 {
		t.Error("it was accepted")
	}
}
