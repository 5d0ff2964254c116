package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
)

// TestTransactionsAnswerAsKafka has a conversation about transactions of both versions and compares each answer with the one that Apache
// Kafka 4.3.1 gave.
func TestTransactionsAnswerAsKafka(t *testing.T) {
	compareWithKafka(t, "testdata/golden/transactions-kafka-4.3.1.txt", (*conversation).transactions,
		difference{
			asked: "EndTxn: commit of a fenced producer", kafka: `"ErrorCode":48,`, ours: `"ErrorCode":90,`,
			why: "Kafka takes the epoch that InitProducerId raised for one that an end raised",
		},
		difference{
			asked: "EndTxn: abort of a fenced producer", kafka: `{"ErrorCode":0,"ProducerEpoch":6,"ProducerID":"producer end5"}`,
			ours: `{"ErrorCode":90,"ProducerEpoch":-1,"ProducerID":-1}`, why: "and so tells who was fenced the epoch of its successor",
		},
		difference{
			asked: "TxnOffsetCommit: unknown transactional id", kafka: `"ErrorCode":0,`, ours: `"ErrorCode":49,`,
			why: "Kafka does not ask again whose the producer is while it has offsets pending",
		},
		difference{asked: "TxnOffsetCommit: empty transactional id", kafka: `"ErrorCode":0,`, ours: `"ErrorCode":42,`, why: "likewise"},
		difference{
			asked: "Produce: second again", kafka: `"LogAppendTime":1000,`, ours: `"LogAppendTime":-1,`,
			why: "Kafka gives the time of a repeated batch as that of its append, though the topic keeps the producer's",
		},
	)
}

func (v *conversation) transactions(*testing.T) {
	v.begin("t")
	v.awaitTransactions()
	v.producerIDs()
	for version := range int16(6) {
		v.addedPartitions(version)
		v.addedOffsets(version)
		v.endings(version)
	}
	v.verifications()
	for version := range int16(6) {
		v.txnOffsets(version)
	}
	v.txnMembers()
	for _, version := range []int16{9, 11, 12, 13} {
		v.txnRecords(version)
	}
	v.txnMarkers()
	v.describedTransactions()
}

// awaitTransactions waits for the transaction coordinator, whose topic a real broker creates in the background.
func (v *conversation) awaitTransactions() {
	fc := kmsg.NewPtrFindCoordinatorRequest()
	fc.Version, fc.CoordinatorType, fc.CoordinatorKeys = 6, 1, []string{"awaited"}
	for ask[*kmsg.FindCoordinatorResponse](v.client, fc).Coordinators[0].ErrorCode != 0 {
		time.Sleep(100 * time.Millisecond)
	}
	for ask[*kmsg.InitProducerIDResponse](v.client, initProducer(5, "awaited")).ErrorCode != 0 {
		time.Sleep(100 * time.Millisecond)
	}
}

// txnProducer is a producer as its requests name it.
type txnProducer struct {
	txnID string
	id    int64
	epoch int16
}

// at is the producer with another epoch.
func (p txnProducer) at(epoch int16) txnProducer {
	p.epoch = epoch
	return p
}

// withID is the producer with another producer id.
func (p txnProducer) withID(id int64) txnProducer {
	p.id = id
	return p
}

// of is the producer under another transactional id.
func (p txnProducer) of(txnID string) txnProducer {
	p.txnID = txnID
	return p
}

// newProducer begins a transactional id without noting anything.
func (v *conversation) newProducer(txnID string) txnProducer {
	v.client.tb.Helper()
	resp := ask[*kmsg.InitProducerIDResponse](v.client, initProducer(5, txnID))
	if resp.ErrorCode != 0 {
		v.client.tb.Fatalf("no producer for %s: code %d", txnID, resp.ErrorCode)
	}
	v.nameProducer(float64(resp.ProducerID), txnID)
	return txnProducer{txnID, resp.ProducerID, resp.ProducerEpoch}
}

// settle waits until no transaction of the id is ending.
func (v *conversation) settle(txnID string) {
	for strings.HasPrefix(ask[*kmsg.DescribeTransactionsResponse](v.client, describeTxns(txnID)).TransactionStates[0].State, "Prepare") {
		time.Sleep(time.Millisecond)
	}
}

// nameProducers puts names in the place of producer ids, and leaves out when a transaction began.
func (v *conversation) nameProducers(tree any) {
	switch tree := tree.(type) {
	case map[string]any:
		if id, ok := tree["ProducerID"].(float64); ok && id >= 0 {
			tree["ProducerID"] = v.nameProducer(id, fmt.Sprint(len(v.producers)+1))
		}
		if at, ok := tree["StartTimestamp"].(float64); ok && at > 0 {
			tree["StartTimestamp"] = "then"
		}
		for _, field := range tree {
			v.nameProducers(field)
		}
	case []any:
		for _, e := range tree {
			v.nameProducers(e)
		}
	}
}

func (v *conversation) nameProducer(id float64, name string) string {
	if v.producers[id] == "" {
		v.producers[id] = "producer " + name
	}
	return v.producers[id]
}

func initProducer(version int16, txnID string, with ...func(*kmsg.InitProducerIDRequest)) *kmsg.InitProducerIDRequest {
	r := kmsg.NewPtrInitProducerIDRequest()
	r.Version, r.TransactionalID, r.TransactionTimeoutMillis = version, &txnID, 60_000
	for _, w := range with {
		w(r)
	}
	return r
}

// formerly names the producer id and epoch that the producer had (KIP-360).
func formerly(id int64, epoch int16) func(*kmsg.InitProducerIDRequest) {
	return func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = id, epoch }
}

func txnTimeout(millis int32) func(*kmsg.InitProducerIDRequest) {
	return func(r *kmsg.InitProducerIDRequest) { r.TransactionTimeoutMillis = millis }
}

func withoutTxnID(r *kmsg.InitProducerIDRequest) { r.TransactionalID = nil }

func (v *conversation) producerIDs() {
	for version := range int16(6) {
		id := fmt.Sprint("init", version)
		v.ask("no transactional id", initProducer(version, "", withoutTxnID))
		v.ask("no transactional id, timeout 0", initProducer(version, "", withoutTxnID, txnTimeout(0)))
		v.ask("empty transactional id", initProducer(version, ""))
		v.ask("timeout 0", initProducer(version, id, txnTimeout(0)))
		v.ask("timeout below 0", initProducer(version, id, txnTimeout(-1)))
		v.ask("timeout too large", initProducer(version, id, txnTimeout(900_001)))
		first := v.ask("new", initProducer(version, id)).(*kmsg.InitProducerIDResponse)
		p := txnProducer{id, first.ProducerID, first.ProducerEpoch}
		v.ask("again", initProducer(version, id))
		if version >= 3 {
			v.ask("no transactional id, of a former id", initProducer(version, "", withoutTxnID, formerly(p.id, 0)))
			v.ask("id without epoch", initProducer(version, id, formerly(p.id, -1)))
			v.ask("epoch without id", initProducer(version, id, formerly(-1, 3)))
			v.ask("bump", initProducer(version, id, formerly(p.id, 1)))
			v.ask("bump, again", initProducer(version, id, formerly(p.id, 1)))
			v.ask("epoch long gone", initProducer(version, id, formerly(p.id, 0)))
			v.ask("epoch to come", initProducer(version, id, formerly(p.id, 9)))
			v.ask("of another producer", initProducer(version, id, formerly(p.id+100_000, 2)))
			v.ask("new, of a former id", initProducer(version, id+"-new", formerly(p.id+100_000, 7)))
			v.ask("after bump", initProducer(version, id))
		}
		p = v.newProducer(id)
		v.ask("begun", addPartitions(3, p, "t", 0))
		if version >= 3 {
			v.ask("while open, fenced", initProducer(version, id, formerly(p.id, p.epoch-1)))
			v.settle(id)
			v.ask("aborted all the same", describeTxns(id))
			v.ask("fenced", initProducer(version, id, formerly(p.id, p.epoch-1)))
			v.ask("begun again", addPartitions(3, p.at(p.epoch+1), "t", 0))
		}
		v.ask("while open", initProducer(version, id))
		v.settle(id)
		v.ask("aborted", describeTxns(id))
		v.ask("after that", initProducer(version, id))
		v.ask("former", endTxn(4, p, true))
	}
	for _, version := range []int16{3, 5} { // of AddPartitionsToTxn: of both transaction versions
		id := fmt.Sprint("bumped", version)
		p := v.newProducer(id)
		v.ask("", addPartitions(version, p, "t", 0))
		v.ask("bump while open", initProducer(5, id, formerly(p.id, p.epoch)))
		v.settle(id)
		v.ask("aborted", describeTxns(id))
		v.ask("bump while open, again", initProducer(5, id, formerly(p.id, p.epoch)))
		v.ask("bump while open, once more", initProducer(5, id, formerly(p.id, p.epoch)))
		v.ask("fences", initProducer(5, id))
		v.ask("fenced", initProducer(5, id, formerly(p.id, p.epoch)))
	}
}

func addPartitions(version int16, p txnProducer, topic string, partitions ...int32) *kmsg.AddPartitionsToTxnRequest {
	r := kmsg.NewPtrAddPartitionsToTxnRequest()
	r.Version, r.TransactionalID, r.ProducerID, r.ProducerEpoch = version, p.txnID, p.id, p.epoch
	r.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: partitions}}
	if version >= 4 {
		r.Transactions = append(r.Transactions, addition(p, false, topic, partitions...))
	}
	return r
}

// addition is one transaction of AddPartitionsToTxn v4 and later.
func addition(p txnProducer, verify bool, topic string, partitions ...int32) kmsg.AddPartitionsToTxnRequestTransaction {
	return kmsg.AddPartitionsToTxnRequestTransaction{
		TransactionalID: p.txnID, ProducerID: p.id, ProducerEpoch: p.epoch, VerifyOnly: verify,
		Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: topic, Partitions: partitions}},
	}
}

func additions(version int16, all ...kmsg.AddPartitionsToTxnRequestTransaction) *kmsg.AddPartitionsToTxnRequest {
	r := kmsg.NewPtrAddPartitionsToTxnRequest()
	r.Version, r.Transactions = version, all
	return r
}

func (v *conversation) addedPartitions(version int16) {
	id := fmt.Sprint("add", version)
	p := v.newProducer(id).at(0)
	v.ask("unknown topic", addPartitions(version, p, "nope", 0))
	v.ask("unknown partition", addPartitions(version, p, "t", 0, 7))
	v.ask("none", addPartitions(version, p, "t"))
	v.ask("nothing begun", describeTxns(id))
	v.ask("", addPartitions(version, p, "t", 0))
	v.ask("again", addPartitions(version, p, "t", 0))
	v.ask("another", addPartitions(version, p, "t", 0, 1))
	v.ask("epoch to come", addPartitions(version, p.at(5), "t", 0))
	v.ask("epoch below 0", addPartitions(version, p.at(-1), "t", 0))
	v.ask("another producer id", addPartitions(version, p.withID(p.id+100_000), "t", 0))
	v.ask("unknown transactional id", addPartitions(version, p.of("nobody"), "t", 0))
	v.ask("empty transactional id", addPartitions(version, p.of(""), "t", 0))
	v.ask("offsets", addPartitions(version, p, "__consumer_offsets", 0))
	v.ask("ongoing", describeTxns(id))
	v.ask("", endTxn(4, p, true))
	v.settle(id)
	v.ask("after the end", addPartitions(version, p, "t", 1))
	v.ask("fences", initProducer(5, id))
	v.settle(id)
	v.ask("fenced", addPartitions(version, p, "t", 0))
}

// verifications asks about transactions without changing them (KIP-890). A request about none is not there: Kafka never answers it.
func (v *conversation) verifications() {
	p, q := v.newProducer("verified"), v.newProducer("unverified")
	v.ask("", addPartitions(3, p, "t", 0))
	for version := int16(4); version <= 5; version++ {
		v.ask("of the transaction", additions(version, addition(p, true, "t", 0)))
		v.ask("one is not", additions(version, addition(p, true, "t", 0, 1)))
		v.ask("unknown partition", additions(version, addition(p, true, "t", 0, 7)))
		v.ask("epoch to come", additions(version, addition(p.at(7), true, "t", 0)))
		v.ask("another producer id", additions(version, addition(p.withID(p.id+100_000), true, "t", 0)))
		v.ask("unknown transactional id", additions(version, addition(p.of("nobody"), true, "t", 0)))
		v.ask("empty transactional id", additions(version, addition(p.of(""), true, "t", 0)))
		v.ask("nothing begun", additions(version, addition(q, true, "t", 0)))
		v.ask("several", additions(version, addition(p, true, "t", 0), addition(q, true, "t", 0)))
	}
	v.ask("", endTxn(4, p, false))
	v.settle("verified")
	v.ask("aborted", additions(5, addition(p, true, "t", 0)))
}

func addOffsets(version int16, p txnProducer, group string) *kmsg.AddOffsetsToTxnRequest {
	r := kmsg.NewPtrAddOffsetsToTxnRequest()
	r.Version, r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Group = version, p.txnID, p.id, p.epoch, group
	return r
}

func (v *conversation) addedOffsets(version int16) {
	version = min(version, 4)
	id := fmt.Sprint("offsets", version)
	p := v.newProducer(id)
	v.ask("", addOffsets(version, p, "group"))
	v.ask("again", addOffsets(version, p, "group"))
	v.ask("empty group id", addOffsets(version, p, ""))
	v.ask("epoch to come", addOffsets(version, p.at(7), "group"))
	v.ask("another producer id", addOffsets(version, p.withID(p.id+100_000), "group"))
	v.ask("unknown transactional id", addOffsets(version, p.of("nobody"), "group"))
	v.ask("empty transactional id", addOffsets(version, p.of(""), "group"))
	v.ask("", endTxn(4, p, false))
	v.settle(id)
	v.newProducer(id)
	v.ask("fenced", addOffsets(version, p, "group"))
}

func endTxn(version int16, p txnProducer, commit bool) *kmsg.EndTxnRequest {
	r := kmsg.NewPtrEndTxnRequest()
	r.Version, r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Commit = version, p.txnID, p.id, p.epoch, commit
	return r
}

// endings ends transactions, and asks for ends that there cannot be.
func (v *conversation) endings(version int16) {
	id := fmt.Sprint("end", version)
	p := v.newProducer(id)
	end := func(label string, p txnProducer, commit bool) txnProducer {
		resp := v.ask(label, endTxn(version, p, commit)).(*kmsg.EndTxnResponse)
		v.settle(id)
		if version >= 5 && resp.ErrorCode == 0 {
			return txnProducer{p.txnID, resp.ProducerID, resp.ProducerEpoch}
		}
		return p
	}
	end("empty transactional id", p.of(""), true)
	end("unknown transactional id", p.of("nobody"), true)
	end("another producer id", p.withID(p.id+100_000), true)
	end("epoch to come", p.at(7), true)
	end("commit of nothing", p, true)
	p = end("abort of nothing", p, false)
	for _, commit := range []bool{true, false} {
		v.ask("", addPartitions(3, p, "t", 0))
		end("epoch to come", p.at(p.epoch+1), commit)
		end("epoch long gone", p.at(p.epoch-1), commit)
		next := end("", p, commit)
		v.ask("ended", describeTxns(id))
		end("again", p, commit)
		end("the other way", p, !commit)
		if next != p {
			end("commit of nothing, next epoch", next, true)
			next = end("abort of nothing, next epoch", next, false)
			end("next but one epoch", next.at(next.epoch+1), commit)
		}
		p = next
	}
	v.ask("", addPartitions(3, p, "t", 0))
	v.ask("fences", initProducer(5, id))
	v.settle(id)
	end("commit of a fenced producer", p, true)
	end("abort of a fenced producer", p, false)
	v.ask("new", initProducer(5, id))
	end("commit of a fenced producer", p, true)
	end("abort of a fenced producer", p, false)
	v.ask("in the end", describeTxns(id))
}

// txnCommit commits an offset of partition 0 of t.
func txnCommit(version int16, p txnProducer, group string, with ...func(*kmsg.TxnOffsetCommitRequest)) *kmsg.TxnOffsetCommitRequest {
	r := kmsg.NewPtrTxnOffsetCommitRequest()
	r.Version, r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Group, r.Generation = version, p.txnID, p.id, p.epoch, group, -1
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Offset, part.Metadata = 7, kmsg.StringPtr("m")
	r.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{part}}}
	for _, w := range with {
		w(r)
	}
	return r
}

func withMetadata(text *string) func(*kmsg.TxnOffsetCommitRequest) {
	return func(r *kmsg.TxnOffsetCommitRequest) { r.Topics[0].Partitions[0].Metadata = text }
}

func byMember(member string, generation int32, instance *string) func(*kmsg.TxnOffsetCommitRequest) {
	return func(r *kmsg.TxnOffsetCommitRequest) {
		r.MemberID, r.Generation, r.InstanceID = member, generation, instance
	}
}

func andPartition(topic string, partition int32) func(*kmsg.TxnOffsetCommitRequest) {
	return func(r *kmsg.TxnOffsetCommitRequest) {
		part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset, part.Metadata = partition, 8, kmsg.StringPtr("m")
		if topic == r.Topics[0].Topic {
			r.Topics[0].Partitions = append(r.Topics[0].Partitions, part)
			return
		}
		r.Topics = append(r.Topics, kmsg.TxnOffsetCommitRequestTopic{Topic: topic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{part}})
	}
}

// txnOffsets commits offsets in a transaction for nobody in particular.
func (v *conversation) txnOffsets(version int16) {
	id, group := fmt.Sprint("commits", version), fmt.Sprint("g", version)
	p := v.newProducer(id)
	if version < 5 {
		v.ask("not added", txnCommit(version, p, group))
		v.ask("", addOffsets(3, p, group))
	}
	v.ask("", txnCommit(version, p, group))
	v.ask("pending", v.fetch(8, group, "t", 0))
	stable := v.fetch(8, group, "t", 0)
	stable.RequireStable = true
	v.ask("pending, stable wanted", stable)
	v.ask("unknown topic and partition", txnCommit(version, p, group, andPartition("nope", 0), andPartition("t", 7)))
	v.ask("large metadata", txnCommit(version, p, group, withMetadata(kmsg.StringPtr(strings.Repeat("x", 4097))), andPartition("t", 1)))
	v.ask("no topics", txnCommit(version, p, group, func(r *kmsg.TxnOffsetCommitRequest) { r.Topics = nil }))
	v.ask("empty group id", txnCommit(version, p, ""))
	v.ask("epoch to come", txnCommit(version, p.at(7), group))
	v.ask("another producer id", txnCommit(version, p.withID(p.id+100_000), group))
	v.ask("unknown transactional id", txnCommit(version, p.of("nobody"), group))
	v.ask("empty transactional id", txnCommit(version, p.of(""), group))
	v.ask("null metadata", txnCommit(version, p, group, withMetadata(nil)))
	v.ask("a group that is not there, of a member", txnCommit(version, p, group+"-other", byMember("x", 3, nil)))
	v.ask("", endTxn(4, p, true))
	v.settle(id)
	v.ask("committed", v.fetch(8, group, "t", 0))
	v.ask("deleted", deleteRequest(2, group))
	v.newProducer(id)
	v.ask("fenced", txnCommit(version, p, group))
}

// txnMembers commits offsets in transactions as members of groups of all kinds.
func (v *conversation) txnMembers() {
	m := v.ask("classic", join(9, "classic", "", kmsg.StringPtr("i"), "range")).(*kmsg.JoinGroupResponse).MemberID
	v.ask("classic", syncRequest(5, "classic", m, 1, kmsg.StringPtr("i"), m))
	v.ask("consumer", v.report("consumer", "a", 0))
	p := v.newProducer("members")
	for version := int16(2); version <= 5; version++ {
		if version < 5 {
			v.ask("", addOffsets(3, p, "classic"))
			v.ask("", addOffsets(3, p, "consumer"))
		}
		v.ask("classic: no member", txnCommit(version, p, "classic"))
		v.ask("classic: member", txnCommit(version, p, "classic", byMember(m, 1, kmsg.StringPtr("i"))))
		v.ask("classic: member without instance id", txnCommit(version, p, "classic", byMember(m, 1, nil)))
		v.ask("classic: generation long gone", txnCommit(version, p, "classic", byMember(m, 0, kmsg.StringPtr("i"))))
		v.ask("classic: generation to come", txnCommit(version, p, "classic", byMember(m, 2, kmsg.StringPtr("i"))))
		v.ask("classic: unknown member", txnCommit(version, p, "classic", byMember("x", 1, nil)))
		v.ask("classic: unknown instance id", txnCommit(version, p, "classic", byMember(m, 1, kmsg.StringPtr("j"))))
		v.ask("classic: fenced instance id", txnCommit(version, p, "classic", byMember("x", 1, kmsg.StringPtr("i"))))
		v.ask("classic: generation without member", txnCommit(version, p, "classic", byMember("", 1, nil)))
		v.ask("classic: member without generation", txnCommit(version, p, "classic", byMember(m, -1, nil)))
		v.ask("consumer: no member", txnCommit(version, p, "consumer"))
		v.ask("consumer: member", txnCommit(version, p, "consumer", byMember("a", 2, nil)))
		v.ask("consumer: epoch long gone", txnCommit(version, p, "consumer", byMember("a", 1, nil)))
		v.ask("consumer: epoch to come", txnCommit(version, p, "consumer", byMember("a", 3, nil)))
		v.ask("consumer: unknown member", txnCommit(version, p, "consumer", byMember("x", 2, nil)))
	}
	v.ask("", endTxn(4, p, false))
	v.settle("members")
}

// txnRecord is a batch of one record of a transaction.
func txnRecord(p txnProducer, sequence int32, transactional bool) []byte {
	b := record.NewBuilder(record.BuilderOptions{Transactional: transactional, Producer: &record.Producer{
		ID: base.ProducerID(p.id), Epoch: base.ProducerEpoch(p.epoch), BaseSequence: sequence,
	}})
	b.Append(1000, nil, []byte("v"))
	return b.Build(0)
}

func (v *conversation) txnProduce(version int16, p txnProducer, partition, sequence int32) *kmsg.ProduceRequest {
	r := produceRequest(version, v.topic, v.topicID, partition, txnRecord(p, sequence, true))
	r.TransactionID = &p.txnID
	return r
}

// txnRecords produces with and without transactions. Each version has a topic of its own, so that offsets say something.
func (v *conversation) txnRecords(version int16) {
	former, formerID := v.topic, v.topicID
	defer func() { v.topic, v.topicID = former, formerID }()
	v.begin(fmt.Sprint("produced", version))
	v.awaitLeaders()
	id := fmt.Sprint("produce", version)
	p := v.newProducer(id)
	add := func() {
		if version < 12 {
			v.ask("", addPartitions(3, p, v.topic, 0))
		}
	}
	v.ask("outside a transaction", v.txnProduce(min(version, 11), p, 0, 0))
	add()
	v.ask("first", v.txnProduce(version, p, 0, 0))
	v.ask("second", v.txnProduce(version, p, 0, 1))
	v.ask("second again", v.txnProduce(version, p, 0, 1))
	v.ask("one is missing", v.txnProduce(version, p, 0, 5))
	v.ask("not added", v.txnProduce(min(version, 11), p, 1, 0))
	v.ask("of another's transactional id", v.txnProduce(version, p.of("verified"), 0, 2))
	v.ask("of another's transactional id, in a new partition", v.txnProduce(version, p.of("verified"), 1, 0))
	v.ask("another producer id", v.txnProduce(version, p.withID(p.id+100_000), 0, 0))
	v.ask("unknown transactional id", v.txnProduce(version, p.of("nobody"), 1, 0))
	v.ask("empty transactional id", v.txnProduce(version, p.of(""), 1, 0))
	none := v.txnProduce(version, p, 0, 2)
	none.TransactionID = nil
	v.ask("no transactional id", none)
	two := v.txnProduce(version, p, 0, 2)
	other := v.txnProduce(version, p.withID(p.id+100_000), 1, 0)
	two.Topics[0].Partitions = append(two.Topics[0].Partitions, other.Topics[0].Partitions...)
	v.ask("of two producers", two)
	plain := v.txnProduce(version, p, 1, 0)
	plain.Topics[0].Partitions[0].Records = txnRecord(p, 0, false)
	v.ask("records of no transaction, in a new partition", plain)
	plain = v.txnProduce(version, p, 0, 3)
	plain.Topics[0].Partitions[0].Records = txnRecord(p, 3, false)
	v.ask("records of no transaction, in one that has one", plain)
	unknown := v.txnProduce(version, p, 7, 0)
	v.ask("unknown partition", unknown)
	v.ask("epoch to come", v.txnProduce(version, p.at(p.epoch+5), 0, 4)) // at last: a real broker takes none of the epoch's sequences after that
	v.ask("epoch to come, in a new partition", v.txnProduce(version, p.at(p.epoch+5), 1, 1))
	v.ask("", describeTxns(id))
	end := endTxn(4, p, true)
	if version >= 12 {
		end.Version = 5
	}
	ended := v.ask("", end).(*kmsg.EndTxnResponse)
	v.settle(id)
	v.ask("late", v.txnProduce(version, p, 0, 4))
	if version >= 12 {
		p.epoch = ended.ProducerEpoch
		v.ask("next", v.txnProduce(version, p, 0, 0))
	}
	v.newSettled(id)
	v.ask("fenced", v.txnProduce(version, p, 0, 5))
	v.ask("fenced, in a new partition", v.txnProduce(version, p, 1, 1))
}

// awaitLeaders waits until the topic's partitions are led, which a real broker does not wait for when it creates them.
func (v *conversation) awaitLeaders() {
	for p := range int32(2) {
		r := kmsg.NewPtrListOffsetsRequest()
		r.Version, r.ReplicaID = 7, -1
		r.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: v.topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Partition: p, CurrentLeaderEpoch: -1, Timestamp: -1}}}}
		for ask[*kmsg.ListOffsetsResponse](v.client, r).Topics[0].Partitions[0].ErrorCode != 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// newSettled fences the producer of a transactional id.
func (v *conversation) newSettled(txnID string) txnProducer {
	ask[*kmsg.InitProducerIDResponse](v.client, initProducer(5, txnID))
	v.settle(txnID)
	return v.newProducer(txnID)
}

func markers(version int16, p txnProducer, commit bool, coordinatorEpoch int32, txnVersion int8, topic string, partitions ...int32) *kmsg.WriteTxnMarkersRequest {
	r := kmsg.NewPtrWriteTxnMarkersRequest()
	r.Version = version
	r.Markers = []kmsg.WriteTxnMarkersRequestMarker{{
		ProducerID: p.id, ProducerEpoch: p.epoch, Committed: commit, CoordinatorEpoch: coordinatorEpoch, TransactionVersion: txnVersion,
		Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: topic, Partitions: partitions}},
	}}
	return r
}

// txnMarkers writes markers in the place of the coordinator, which is fenced by that: so these transactions are not ended.
func (v *conversation) txnMarkers() {
	for version := int16(1); version <= 2; version++ {
		id := fmt.Sprint("marked", version)
		v.newProducer(id)
		p := v.newProducer(id)
		v.ask("", addPartitions(3, p, "t", 0))
		v.ask("", v.txnProduce(9, p, 0, 0))
		v.ask("unknown partitions", markers(version, p, false, 9, 0, "t", 7))
		v.ask("unknown topic", markers(version, p, false, 9, 0, "nope", 0))
		v.ask("no partitions", markers(version, p, false, 9, 0, "t"))
		none := markers(version, p, false, 9, 0, "t")
		none.Markers = nil
		v.ask("none", none)
		v.ask("epoch long gone", markers(version, p.at(0), false, 9, 0, "t", 0))
		if version >= 2 {
			v.ask("the epoch of the records, version 2", markers(version, p, false, 9, 2, "t", 0))
		}
		v.ask("", markers(version, p, false, 9, 0, "t", 0))
		v.ask("again", markers(version, p, false, 9, 0, "t", 0))
		v.ask("older coordinator", markers(version, p, false, 8, 0, "t", 0))
		v.ask("later epoch", markers(version, p.at(p.epoch+1), false, 9, 0, "t", 0))
		v.ask("epoch long gone", markers(version, p, false, 9, 0, "t", 0))
		v.ask("of a producer that was never there", markers(version, p.withID(p.id+100_000), true, 9, 0, "t", 1))
	}
}

func describeTxns(ids ...string) *kmsg.DescribeTransactionsRequest {
	r := kmsg.NewPtrDescribeTransactionsRequest()
	r.TransactionalIDs = ids
	return r
}

func (v *conversation) describedTransactions() {
	p := v.newProducer("open-a")
	v.ask("", addPartitions(3, p, "t", 0, 1))
	q := v.newProducer("open-b")
	v.ask("", addOffsets(3, q, "group"))
	v.ask("", describeTxns("open-a", "open-b", "nobody", "", "open-a"))
	v.ask("none", describeTxns())
	list := func(label string, version int16, with func(*kmsg.ListTransactionsRequest)) {
		r := kmsg.NewPtrListTransactionsRequest()
		r.Version, r.DurationFilterMillis = version, -1
		with(r)
		v.ask(label, r)
	}
	for version := range int16(3) {
		list("all", version, func(*kmsg.ListTransactionsRequest) {})
		for _, states := range [][]string{{"Ongoing"}, {"ongoing"}, {"Empty", "Odd"}, {"Odd", "", "Odd"}, {"Dead", "PrepareEpochFence", "PrepareCommit", "PrepareAbort"}, {"CompleteAbort"}, {""}} {
			list(fmt.Sprintf("%q", states), version, func(r *kmsg.ListTransactionsRequest) { r.StateFilters = states })
		}
		list("of one producer", version, func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{p.id} })
		list("of two and none", version, func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{p.id, q.id, -1, 1 << 40} })
		list("of one producer in another state", version, func(r *kmsg.ListTransactionsRequest) {
			r.ProducerIDFilters, r.StateFilters = []int64{p.id}, []string{"Empty"}
		})
		if version >= 1 {
			list("open for an hour", version, func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 3_600_000 })
			list("duration below -1", version, func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = -5 })
		}
		if version >= 2 {
			for _, pattern := range []string{"open-.", "open", ".*pen-a", "", "(open-a|init0)", "[", "a{1001}", `\p{Lu}.*`, "(?i)OPEN-A", `open-\Qa\E`} {
				list(fmt.Sprintf("%q", pattern), version, func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = &pattern })
			}
		}
	}
	v.ask("", endTxn(4, p, true))
	v.settle("open-a")
}
