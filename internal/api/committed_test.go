package api

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
)

// appendTxn appends a record of a transaction to the engine itself, as if its coordinator knew of it.
func (b *testBroker) appendTxn(id base.TopicID, producer base.ProducerID, sequence int32, timestamp int64) {
	b.tb.Helper()
	p := b.partition(id)
	builder := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: producer, BaseSequence: sequence}, Transactional: true})
	builder.Append(timestamp, nil, []byte("of a transaction"))
	batch := builder.Build(0)
	h, err := record.ParseHeader(batch)
	if err != nil {
		b.tb.Fatal(err)
	}
	v, _ := p.Verify(h, true)
	b.settle(p.Append(b.ctx, batch, h, storage.AppendOptions{Verified: v}))
}

func (b *testBroker) endTxn(id base.TopicID, m storage.Marker, timestamp int64) {
	b.tb.Helper()
	b.settle(b.partition(id).AppendMarker(b.ctx, m, timestamp))
}

func (b *testBroker) partition(id base.TopicID) *storage.Partition {
	b.tb.Helper()
	p, ok := b.engine.Partition(base.TopicIDPartition{ID: id})
	if !ok {
		b.tb.Fatalf("partition 0 of %v is not there", id)
	}
	return p
}

func (b *testBroker) settle(at storage.Appended, err error) {
	b.tb.Helper()
	if err == nil {
		err = b.engine.Wait(b.ctx, at.Sequence)
	}
	if err != nil {
		b.tb.Fatal(err)
	}
}

func TestReadCommittedLeavesOutWhatIsOpenAndNamesWhatWasAborted(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	id := b.createTopic("t", 1)
	c := b.client()
	b.appendTxn(id, 1, 0, 1000)
	b.appendTxn(id, 2, 0, 2000)
	b.endTxn(id, storage.Marker{ProducerID: 1, ProducerEpoch: 1, TransactionVersion: 2}, 3000)
	// 0: of 1, aborted; 1: of 2, open; 2: the marker
	for _, version := range []int16{4, 11, 12, 18} {
		req := fetchRequest(version, "t", id, 0, 0)
		req.IsolationLevel = 1
		p := ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions[0]
		if got := fmt.Sprint(recordsOf(t, p.RecordBatches)); got != "[0:of a transaction]" || p.HighWatermark != 3 || p.LastStableOffset != 1 {
			t.Errorf("v%d: committed records %s, high watermark %d, last stable offset %d", version, got, p.HighWatermark, p.LastStableOffset)
		}
		if len(p.AbortedTransactions) != 1 || p.AbortedTransactions[0].ProducerID != 1 || p.AbortedTransactions[0].FirstOffset != 0 {
			t.Errorf("v%d: aborted %+v", version, p.AbortedTransactions)
		}
		req = fetchRequest(version, "t", id, 0, 0)
		p = ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions[0]
		if got := recordsOf(t, p.RecordBatches); len(got) != 3 || p.AbortedTransactions != nil {
			t.Errorf("v%d: all records %q, aborted %v", version, got, p.AbortedTransactions)
		}
	}
	for timestamp, want := range map[int64]int64{-1: 1, -3: -1, 1000: 0, 1500: -1} {
		req := kmsg.NewPtrListOffsetsRequest()
		req.Version, req.IsolationLevel = 7, 1
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic = "t"
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp = timestamp
		topic.Partitions = append(topic.Partitions, p)
		req.Topics = append(req.Topics, topic)
		if got := ask[*kmsg.ListOffsetsResponse](c, req).Topics[0].Partitions[0]; got.ErrorCode != 0 || got.Offset != want {
			t.Errorf("committed offset for %d: %d, code %d; want %d", timestamp, got.Offset, got.ErrorCode, want)
		}
	}
}
