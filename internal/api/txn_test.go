package api

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/record"
)

// txnClient is a transactional producer on one connection.
type txnClient struct {
	*testClient
	txnID string
	id    int64
	epoch int16
	seq   map[int32]int32
}

func newTxnClient(b *testBroker, txnID string) *txnClient {
	c := &txnClient{testClient: b.client(), txnID: txnID}
	c.init()
	return c
}

func (c *txnClient) init() {
	c.tb.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID, req.TransactionTimeoutMillis = 5, &c.txnID, 60_000
	for {
		resp := ask[*kmsg.InitProducerIDResponse](c.testClient, req)
		if resp.ErrorCode == kerr.ConcurrentTransactions.Code {
			time.Sleep(time.Millisecond) // as clients do
			continue
		}
		if resp.ErrorCode != 0 {
			c.tb.Fatalf("init %s: %v", c.txnID, kerr.TypedErrorForCode(resp.ErrorCode))
		}
		c.id, c.epoch, c.seq = resp.ProducerID, resp.ProducerEpoch, map[int32]int32{}
		return
	}
}

// produce sends one record and returns the code.
func (c *txnClient) produce(version int16, topic string, partition int32, value string) int16 {
	c.tb.Helper()
	b := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{
		ID: base.ProducerID(c.id), Epoch: base.ProducerEpoch(c.epoch), BaseSequence: c.seq[partition],
	}})
	b.Append(1000, nil, []byte(value))
	req := produceRequest(version, topic, base.TopicID{}, partition, b.Build(0))
	req.TransactionID = &c.txnID
	code := produced1(c.testClient, req).ErrorCode
	if code == 0 {
		c.seq[partition]++
	}
	return code
}

func (c *txnClient) add(version int16, topic string, partitions ...int32) int16 {
	c.tb.Helper()
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch = version, c.txnID, c.id, c.epoch
	t := kmsg.NewAddPartitionsToTxnRequestTopic()
	t.Topic, t.Partitions = topic, partitions
	req.Topics = append(req.Topics, t)
	return ask[*kmsg.AddPartitionsToTxnResponse](c.testClient, req).Topics[0].Partitions[0].ErrorCode
}

func (c *txnClient) end(version int16, commit bool) int16 {
	c.tb.Helper()
	req := kmsg.NewPtrEndTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = version, c.txnID, c.id, c.epoch, commit
	resp := ask[*kmsg.EndTxnResponse](c.testClient, req)
	if resp.ErrorCode == 0 && version >= 5 {
		c.id, c.epoch, c.seq = resp.ProducerID, resp.ProducerEpoch, map[int32]int32{}
	}
	return resp.ErrorCode
}

// completed waits until the markers of the transaction that ended last are written.
func (c *txnClient) completed() {
	c.tb.Helper()
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{c.txnID}
	for !strings.HasPrefix(ask[*kmsg.DescribeTransactionsResponse](c.testClient, req).TransactionStates[0].State, "Complete") {
		time.Sleep(time.Millisecond)
	}
}

func (c *txnClient) want(what string, code int16, want *kerr.Error) {
	c.tb.Helper()
	if want == nil && code != 0 || want != nil && code != want.Code {
		c.tb.Errorf("%s: %v, want %v", what, kerr.TypedErrorForCode(code), want)
	}
}

// committed waits until read_committed sees as much as there is, and returns the values that are not of aborted transactions.
func committedValues(c *testClient, topic string, partition int32) []string {
	c.tb.Helper()
	for {
		req := fetchRequest(12, topic, base.TopicID{}, partition, 0)
		req.IsolationLevel = 1
		p := ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions[0]
		if p.ErrorCode != 0 {
			c.tb.Fatalf("fetch: %v", kerr.TypedErrorForCode(p.ErrorCode))
		}
		if p.LastStableOffset < p.HighWatermark {
			time.Sleep(time.Millisecond) // the markers follow the answer to EndTxn
			continue
		}
		return withoutAborted(c, p)
	}
}

// withoutAborted does what a consumer of committed records does with the list of aborted transactions.
func withoutAborted(c *testClient, p kmsg.FetchResponseTopicPartition) (values []string) {
	open := map[int64]bool{}
	for b := p.RecordBatches; len(b) > 0; {
		batch, rest, err := record.Next(b)
		if err != nil {
			c.tb.Fatal(err)
		}
		b = rest
		h, _ := record.ParseHeader(batch)
		id := int64(h.ProducerID)
		if h.Attributes.Control() {
			open[id] = false
			continue
		}
		if slices.ContainsFunc(p.AbortedTransactions, func(a kmsg.FetchResponseTopicPartitionAbortedTransaction) bool {
			return a.ProducerID == id && a.FirstOffset == int64(h.BaseOffset)
		}) {
			open[id] = true
		}
		for r, err := range record.Records(batch, 1<<20) {
			if err != nil {
				c.tb.Fatal(err)
			}
			if !open[id] {
				values = append(values, string(r.Value))
			}
		}
	}
	return values
}

func TestTransactionsOfBothProtocols(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name                      string
		produceVersion, endTxn    int16
		add                       int16 // version of AddPartitionsToTxn, -1: produce does it
		notAdded, afterwardsFence *kerr.Error
	}{
		{"KIP-98", 9, 4, 3, kerr.InvalidTxnState, nil},
		{"verified", 11, 4, 3, kerr.TransactionAbortable, nil},
		{"KIP-890", 12, 5, -1, nil, kerr.InvalidProducerEpoch},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t)
			b.createTopic("t", 2)
			c := newTxnClient(b, "x")
			begin := func() {
				if v.add >= 0 {
					c.want("add", c.add(v.add, "t", 0, 1), nil)
				}
			}
			if v.add >= 0 {
				c.want("produce before add", c.produce(v.produceVersion, "t", 0, "stray"), v.notAdded)
			}
			begin()
			c.want("produce", c.produce(v.produceVersion, "t", 0, "a"), nil)
			c.want("produce", c.produce(v.produceVersion, "t", 0, "b"), nil)
			c.want("produce", c.produce(v.produceVersion, "t", 1, "c"), nil)
			c.want("commit", c.end(v.endTxn, true), nil)
			c.completed() // until then an old client's record belongs to the transaction, as in Kafka
			if c.produce(v.produceVersion, "t", 0, "outside") == 0 && v.add >= 0 {
				t.Error("a record outside a transaction was taken")
			}
			if v.add < 0 { // it has begun the next one
				c.want("abort", c.end(v.endTxn, false), nil)
			}
			former := *c
			for v.add >= 0 && c.add(v.add, "t", 0, 1) == kerr.ConcurrentTransactions.Code {
				time.Sleep(time.Millisecond)
			}
			c.want("produce", c.produce(v.produceVersion, "t", 0, "aborted"), nil)
			c.want("abort", c.end(v.endTxn, false), nil)
			if got := fmt.Sprint(committedValues(c.testClient, "t", 0), committedValues(c.testClient, "t", 1)); got != "[a b] [c]" {
				t.Errorf("committed: %s", got)
			}
			if v.afterwardsFence != nil {
				c.want("produce with the former epoch", former.produce(v.produceVersion, "t", 0, "late"), v.afterwardsFence)
			}
			former.init() // somebody else with the same id
			c.want("produce of a fenced producer", c.produce(v.produceVersion, "t", 0, "fenced"), kerr.InvalidProducerEpoch)
			c.want("end of a fenced producer", c.end(v.endTxn, true), kerr.ProducerFenced)
		})
	}
}

func TestOffsetsOfATransaction(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := newTxnClient(b, "x")
	commit := func(version int16, offset int64, metadata string) int16 {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.Version, req.TransactionalID, req.Group = version, c.txnID, "g"
		req.ProducerID, req.ProducerEpoch, req.Generation = c.id, c.epoch, -1
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		topic.Topic = "t"
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Offset, p.Metadata = offset, &metadata
		topic.Partitions = append(topic.Partitions, p)
		req.Topics = append(req.Topics, topic)
		return ask[*kmsg.TxnOffsetCommitResponse](c.testClient, req).Topics[0].Partitions[0].ErrorCode
	}
	fetch := func() (int64, int16) {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version, req.RequireStable = 8, true
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = "g"
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic, topic.Partitions = "t", []int32{0}
		g.Topics = append(g.Topics, topic)
		req.Groups = append(req.Groups, g)
		p := ask[*kmsg.OffsetFetchResponse](c.testClient, req).Groups[0].Topics[0].Partitions[0]
		return p.Offset, p.ErrorCode
	}
	c.want("commit without AddOffsetsToTxn, v3", commit(3, 1, ""), kerr.InvalidTxnState)
	c.want("commit without AddOffsetsToTxn, v4", commit(4, 1, ""), kerr.TransactionAbortable)
	c.want("too much metadata", commit(5, 1, string(make([]byte, 5000))), kerr.OffsetMetadataTooLarge)
	c.want("commit", commit(5, 7, "m"), nil)
	if _, code := fetch(); code != kerr.UnstableOffsetCommit.Code {
		t.Errorf("a pending offset: %v, want UNSTABLE_OFFSET_COMMIT", kerr.TypedErrorForCode(code))
	}
	late := c.epoch
	c.want("end", c.end(5, true), nil)
	for {
		offset, code := fetch()
		if code == 0 {
			if offset != 7 {
				t.Errorf("committed offset %d, want 7", offset)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	now := c.epoch
	c.epoch = late
	c.want("late commit", commit(5, 99, ""), kerr.InvalidProducerEpoch)
	c.epoch = now
	c.want("abort", c.end(5, false), nil)
	if offset, code := fetch(); offset != 7 || code != 0 {
		t.Errorf("offset %d, %v after an abort", offset, kerr.TypedErrorForCode(code))
	}
}

func TestTransactionsAreDescribedListedAndAborted(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := newTxnClient(b, "x")
	c.want("produce", c.produce(12, "t", 0, "a"), nil)
	describe := kmsg.NewPtrDescribeTransactionsRequest()
	describe.TransactionalIDs = []string{"x", "nobody", ""}
	states := ask[*kmsg.DescribeTransactionsResponse](c.testClient, describe).TransactionStates
	if x := states[0]; x.ErrorCode != 0 || x.State != "Ongoing" || x.ProducerID != c.id || x.TimeoutMillis != 60_000 || len(x.Topics) != 1 || x.Topics[0].Topic != "t" {
		t.Errorf("described: %+v", x)
	}
	c.want("unknown", states[1].ErrorCode, kerr.TransactionalIDNotFound)
	c.want("empty", states[2].ErrorCode, kerr.InvalidRequest)
	list := func(change func(*kmsg.ListTransactionsRequest)) string {
		req := kmsg.NewPtrListTransactionsRequest()
		req.Version, req.DurationFilterMillis = 2, -1
		change(req)
		resp := ask[*kmsg.ListTransactionsResponse](c.testClient, req)
		if resp.ErrorCode != 0 {
			return kerr.TypedErrorForCode(resp.ErrorCode).Message
		}
		s := fmt.Sprint(resp.UnknownStateFilters)
		for _, x := range resp.TransactionStates {
			s += " " + x.TransactionalID + ":" + x.TransactionState
		}
		return s
	}
	for _, tc := range []struct {
		change func(*kmsg.ListTransactionsRequest)
		want   string
	}{
		{func(*kmsg.ListTransactionsRequest) {}, "[] x:Ongoing"},
		{func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"Empty", "Odd"} }, "[Odd]"},
		{func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{c.id} }, "[] x:Ongoing"},
		{func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 3_600_000 }, "[]"},
		{func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("[a-z]") }, "[] x:Ongoing"},
		{func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("y.*") }, "[]"},
		{func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("[") }, "INVALID_REGULAR_EXPRESSION"},
	} {
		if got := list(tc.change); got != tc.want {
			t.Errorf("list: %q, want %q", got, tc.want)
		}
	}
	markers := kmsg.NewPtrWriteTxnMarkersRequest()
	markers.Version = 2
	mark := func(epoch int16, version int8, topic string, partition int32) int16 {
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.TransactionVersion, m.CoordinatorEpoch = c.id, epoch, version, 1<<30
		mt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		mt.Topic, mt.Partitions = topic, []int32{partition}
		m.Topics = append(m.Topics, mt)
		markers.Markers = []kmsg.WriteTxnMarkersRequestMarker{m}
		return ask[*kmsg.WriteTxnMarkersResponse](c.testClient, markers).Markers[0].Topics[0].Partitions[0].ErrorCode
	}
	c.want("marker of the same epoch, version 2", mark(c.epoch, 2, "t", 0), kerr.InvalidProducerEpoch)
	c.want("marker for a partition that is not there", mark(c.epoch, 0, "t", 5), kerr.UnknownTopicOrPartition)
	c.want("marker", mark(c.epoch, 0, "t", 0), nil)
	if got := committedValues(c.testClient, "t", 0); len(got) != 0 {
		t.Errorf("committed: %q", got)
	}
	if err := (testInternalTopic{b, group.Topic}).Ensure(b.ctx); err != nil {
		t.Fatal(err)
	}
	c.want("marker for offsets", mark(c.epoch, 0, group.Topic, 0), nil)
}

func TestClientsMarkersDoNotFillTheMemoryForGroups(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	if err := (testInternalTopic{b, group.Topic}).Ensure(b.ctx); err != nil {
		t.Fatal(err)
	}
	full, err := group.New(group.Config{MaxBytes: 1}, group.Deps{Topic: testInternalTopic{b, group.Topic}, Topics: GroupTopics(b.metadata), Logger: slog.New(&b.faults)})
	if err != nil {
		t.Fatal(err)
	}
	b.api.markers.Groups = full
	client := b.client()
	mark := func(topic string) int16 {
		return ask[*kmsg.WriteTxnMarkersResponse](client, markers(1, txnProducer{id: 77}, true, 0, 0, topic, 0)).Markers[0].Topics[0].Partitions[0].ErrorCode
	}
	if got := mark(group.Topic); got != kerr.CoordinatorNotAvailable.Code {
		t.Errorf("a marker for offsets while there is no memory: %v", kerr.ErrorForCode(got))
	}
	if got := mark("t"); got != 0 {
		t.Errorf("a marker for another topic: %v", kerr.ErrorForCode(got))
	}
	if err := full.Close(); err != nil {
		t.Error(err)
	}
}

func TestAddPartitionsIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := newTxnClient(b, "x")
	c.want("one does not exist", c.add(3, "t", 0, 7), kerr.OperationNotAttempted)
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version = 5
	for _, verify := range []bool{true, false, true} {
		x := kmsg.NewAddPartitionsToTxnRequestTransaction()
		x.TransactionalID, x.ProducerID, x.ProducerEpoch, x.VerifyOnly = "x", c.id, c.epoch, verify
		topic := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
		topic.Topic, topic.Partitions = "t", []int32{0}
		x.Topics = append(x.Topics, topic)
		req.Transactions = append(req.Transactions, x)
	}
	var codes []int16
	for _, x := range ask[*kmsg.AddPartitionsToTxnResponse](c.testClient, req).Transactions {
		codes = append(codes, x.Topics[0].Partitions[0].ErrorCode)
	}
	if want := []int16{kerr.TransactionAbortable.Code, 0, 0}; !slices.Equal(codes, want) {
		t.Errorf("verify, add, verify: %v, want %v", codes, want)
	}
}
