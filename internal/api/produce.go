package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/wal"
	"github.com/ottlaio/ottla/internal/wire"
)

// Produce v3–13 (key 0)
//
//   - First phase: each partition's batch is validated against its topic's settings and appended, which gives it its offsets, so
//     that the batches of a connection are in the order in which they came. Second phase: one wait until all of them are durable.
//   - acks 1 and all (-1) are the same here: the answer leaves when the records are durable. acks 0 is not answered; a partition
//     that fails then closes the connection, as in Kafka. Other values are INVALID_REQUIRED_ACKS.
//   - The timeout bounds the wait of acks=all: REQUEST_TIMED_OUT means that the records may or may not stay, as in Kafka.
//   - A batch that was appended before (KIP-98) is answered with its first offset, once that append is durable.
//   - v7 allows zstd (KIP-110), v8 tells the records refused and why (KIP-467), v10 tells the current leader (KIP-951), v13 names
//     topics by id (KIP-516).
//
//   - The first batch of a transaction in a partition is appended only if the transaction coordinator knows of it (KIP-890); from v12 on the
//     coordinator is told so by this broker. Otherwise it is INVALID_TXN_STATE, or TRANSACTION_ABORTABLE (v11); while the producer's last
//     transaction is still ending, NOT_ENOUGH_REPLICAS, which clients try again. Where the request names no transactional id it is
//     TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
//
// Left out on purpose: Kafka lets a client named __admin_client write to internal topics; here nobody may.

// appendTimeout is longer than an append waits for room in the wal and the tail by itself: a client with more patience needs no timer.
const appendTimeout = 10 * time.Second

// zstdVersion is the first version of Produce that may carry zstd (KIP-110).
const zstdVersion = 7

func (a *API) produce(ctx context.Context, r *wire.Request) (wire.Pending, error) {
	p := producings.Get().(*producing)
	p.api, p.call = a, call{Request: r}
	if err := p.req.decode(r); err != nil {
		return nil, err
	}
	if patience := p.patience(); patience < appendTimeout {
		patient, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		ctx = patient
	}
	p.appendAll(ctx)
	r.Release() // the engine has copied the batches
	acks, failed, firstErr := p.req.acks, p.failed, p.firstErr
	if acks != 0 {
		return p, nil
	}
	p.recycle()
	if failed {
		return nil, fmt.Errorf("produce with acks=0 failed: %w", firstErr)
	}
	return wire.Ready(nil), nil
}

// appendAll appends the batches of a request and notes the answers of their partitions.
func (p *producing) appendAll(ctx context.Context) {
	view, now := p.api.view(), time.Now()
	p.resp.Version = p.req.version
	if p.req.transactional {
		p.verifyTxns(ctx, view)
	}
	partitions := p.req.partitions
	first := 0 // of the topic's partitions
	for i := range p.req.topics {
		asked := &p.req.topics[i]
		topic, err := view.produceTopic(p.req.version, asked)
		out := p.answerTopic(asked, topic)
		for j := range partitions[:asked.partitions] {
			part := &partitions[j]
			result := produced{err: err, logStart: -1}
			if err == nil {
				result = p.append(ctx, topic, first+j, now)
			}
			p.encode(out, part.index, topic, result)
			p.sequence = max(p.sequence, result.appended.Sequence)
		}
		partitions = partitions[asked.partitions:]
		first += asked.partitions
	}
}

// produceTopic finds the topic of a produce, which names it by id from v13 on.
func (v *view) produceTopic(version int16, asked *bodyTopic) (*topicView, error) {
	if version >= 13 {
		if t, ok := v.topicByID(asked.id); ok {
			return t, nil
		}
		return nil, errUnknownTopicID
	}
	if t, ok := v.topic(asked.nameOf()); ok {
		return t, nil
	}
	return nil, errUnknownPartition
}

// producing is one produce request and its answer. It is used again once the answer was written.
type producing struct {
	api      *API
	call     call
	req      produceBody // its topics and partitions only in the first phase
	resp     kmsg.ProduceResponse
	txns     []txnBatch   // by partition of the request, where it names a transactional id
	sequence wal.Sequence // the last commit group of any batch
	failed   bool
	firstErr error
	wire.Encoded
}

var producings = sync.Pool{New: func() any { return new(producing) }}

// Most of what a producing keeps for the next request: a client may send one with a million partitions.
const (
	keptProduceTopics     = 64
	keptProducePartitions = 1024
)

// recycle makes p ready for another request. Nobody may use it afterwards.
func (p *producing) recycle() {
	if len(p.req.topics) > keptProduceTopics || len(p.req.partitions) > keptProducePartitions {
		return
	}
	clear(p.req.topics)
	clear(p.req.partitions)
	for i := range p.resp.Topics {
		t := &p.resp.Topics[i]
		clear(t.Partitions)
		*t = kmsg.ProduceResponseTopic{Partitions: t.Partitions[:0]}
	}
	*p = producing{
		req:  produceBody{topics: p.req.topics[:0], partitions: p.req.partitions[:0]},
		resp: kmsg.ProduceResponse{Topics: p.resp.Topics[:0]},
	}
	producings.Put(p)
}

// Forgets implements wire.Forgetter.
func (p *producing) Forgets() {}

// produced is what became of one partition's records.
type produced struct {
	appended     storage.Appended
	logStart     base.Offset
	err          error
	recordErrors []record.RecordError
}

// patience is how long the request may wait for room.
func (p *producing) patience() time.Duration {
	if p.req.acks == -1 && p.req.timeoutMillis > 0 {
		return time.Duration(p.req.timeoutMillis) * time.Millisecond
	}
	return appendTimeout
}

// append validates and orders the records of the request's partition i.
func (p *producing) append(ctx context.Context, topic *topicView, i int, now time.Time) produced {
	asked := &p.req.partitions[i]
	if p.req.acks < -1 || p.req.acks > 1 {
		return produced{err: errInvalidRequiredAcks, logStart: -1}
	}
	partition, place, err := topic.partition(asked.index)
	if err != nil {
		return produced{err: err, logStart: -1}
	}
	if topic.topic.Internal {
		return produced{err: errInternalTopic, logStart: -1}
	}
	if p.req.version < zstdVersion && usesZstd(asked.records) {
		return produced{err: errZstdTooEarly, logStart: -1}
	}
	if p.req.acks == -1 && len(place.ISR) < min(topic.config.MinInsyncReplicas, len(place.Replicas)) {
		return produced{err: errNotEnoughReplicas, logStart: -1}
	}
	valid, err := record.Validate(asked.records, validateOptions(topic, asked.index, now))
	if err != nil {
		return produced{err: err, recordErrors: valid.RecordErrors, logStart: logStartFor(err, partition)}
	}
	var begun txnBatch
	if valid.Header.Attributes.Transactional() {
		begun.err = errNoTransactionalID
		if p.req.transactional {
			begun = p.txns[i]
		}
		if begun.err != nil {
			return produced{err: begun.err, logStart: -1}
		}
	}
	appended, err := partition.Append(ctx, valid.Batch, valid.Header, storage.AppendOptions{
		OffsetOfMax:   valid.OffsetOfMaxTimestamp,
		ExpectedEpoch: base.NoLeaderEpoch,
		Verified:      begun.verified,
	})
	if err != nil {
		return produced{err: err, logStart: logStartFor(err, partition)}
	}
	return produced{appended: appended, logStart: appended.LogStart}
}

// logStartFor is the log start offset that goes with an error: Kafka tells it where the log itself refused the records.
func logStartFor(err error, p *storage.Partition) base.Offset {
	switch {
	case errors.Is(err, record.ErrTooLarge), errors.Is(err, record.ErrCorrupt), errors.Is(err, storage.ErrFailed),
		errors.Is(err, storage.ErrNoSpace), errors.Is(err, storage.ErrDeleted), errors.Is(err, storage.ErrClosed):
		return -1
	}
	return p.Offsets().LogStart
}

// usesZstd looks at the attributes of the first batch.
func usesZstd(records []byte) bool {
	h, err := record.ParseHeader(records)
	return err == nil && h.Attributes.Codec() == record.Zstd
}

func validateOptions(t *topicView, partition int32, now time.Time) record.ValidateOptions {
	return record.ValidateOptions{
		Partition:       base.TopicPartition{Topic: t.topic.Name, Partition: partition},
		MaxMessageBytes: t.config.MaxMessageBytes,
		Compression:     compressionTarget(&t.config),
		LogAppendTime:   t.config.LogAppendTime,
		Now:             now,
		MaxBefore:       t.config.TimestampBeforeMax,
		MaxAfter:        t.config.TimestampAfterMax,
		RequireKeys:     t.config.CleanupCompact,
	}
}

// compressionTarget reads compression.type and the levels.
func compressionTarget(c *config.TopicConfig) record.CompressionTarget {
	switch c.CompressionType {
	case "uncompressed":
		return record.CompressionTarget{Fixed: true, Codec: record.None}
	case "gzip":
		return record.CompressionTarget{Fixed: true, Codec: record.Gzip, Level: c.CompressionGzipLevel}
	case "snappy":
		return record.CompressionTarget{Fixed: true, Codec: record.Snappy}
	case "lz4":
		return record.CompressionTarget{Fixed: true, Codec: record.Lz4, Level: c.CompressionLz4Level}
	case "zstd":
		return record.CompressionTarget{Fixed: true, Codec: record.Zstd, Level: c.CompressionZstdLevel}
	}
	return record.CompressionTarget{} // producer
}

// answerTopic adds a topic to the answer.
func (p *producing) answerTopic(asked *bodyTopic, topic *topicView) *kmsg.ProduceResponseTopic {
	n := len(p.resp.Topics)
	if n < cap(p.resp.Topics) {
		p.resp.Topics = p.resp.Topics[:n+1] // with the memory for its partitions
	} else {
		p.resp.Topics = append(p.resp.Topics, kmsg.ProduceResponseTopic{})
	}
	out := &p.resp.Topics[n]
	out.TopicID = asked.id
	switch {
	case topic != nil && asked.name != nil:
		out.Topic = topic.topic.Name
	default:
		out.Topic = string(asked.name)
	}
	return out
}

// encode adds one partition to the answer, as far as the first phase knows it.
func (p *producing) encode(to *kmsg.ProduceResponseTopic, partition int32, topic *topicView, r produced) {
	to.Partitions = append(to.Partitions, kmsg.NewProduceResponseTopicPartition())
	out := &to.Partitions[len(to.Partitions)-1]
	out.Partition = partition
	if r.err == nil {
		out.BaseOffset = int64(r.appended.Base)
		out.LogStartOffset = int64(r.logStart)
		if topic.config.LogAppendTime {
			out.LogAppendTime = r.appended.AppendTime
		}
		return
	}
	p.fail(r.err)
	out.ErrorCode = p.api.codeOf(&p.call, r.err)
	out.BaseOffset, out.LogStartOffset = -1, int64(r.logStart)
	var fault *record.Error
	if errors.As(r.err, &fault) && len(r.recordErrors) > 0 {
		out.ErrorMessage = kmsg.StringPtr(fault.Message)
	}
	if errors.Is(r.err, errNoTransaction) || errors.Is(r.err, errTxnBusy) || errors.Is(r.err, errTwoProducers) { // Kafka says so in words
		out.ErrorMessage = messageOf(r.err)
	}
	for _, re := range r.recordErrors {
		e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
		e.RelativeOffset, e.ErrorMessage = re.BatchIndex, kmsg.StringPtr(re.Message)
		out.ErrorRecords = append(out.ErrorRecords, e)
	}
	if out.ErrorCode == kerr.NotLeaderForPartition.Code && topic != nil {
		p.nameLeader(out, topic)
	}
}

// nameLeader tells the client where to go instead (KIP-951, v10).
func (p *producing) nameLeader(out *kmsg.ProduceResponseTopicPartition, topic *topicView) {
	if p.req.version < 10 || out.Partition < 0 || int(out.Partition) >= len(topic.topic.Partitions) {
		return
	}
	place := &topic.topic.Partitions[out.Partition]
	out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = int32(place.Leader), int32(place.LeaderEpoch)
	for _, known := range p.resp.Brokers {
		if known.NodeID == int32(place.Leader) {
			return
		}
	}
	if e, ok := p.api.endpointOf(&p.call, place.Leader); ok {
		b := kmsg.NewProduceResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = int32(e.id), e.host, e.port, e.rack
		p.resp.Brokers = append(p.resp.Brokers, b)
	}
}

func (p *producing) fail(err error) {
	if !p.failed {
		p.failed, p.firstErr = true, err
	}
}

// Ready implements wire.Prober: the answers that one commit group lets go leave together.
func (p *producing) Ready() bool { return p.api.engine.Durable(p.sequence) }

// Wait implements wire.Pending: it waits until every batch of the request is durable, and answers.
func (p *producing) Wait(ctx context.Context) (wire.Answer, error) {
	if p.Ready() {
		return p, nil
	}
	patience := time.Duration(0)
	if p.req.acks == -1 {
		patience = time.Duration(max(p.req.timeoutMillis, 0)) * time.Millisecond
	}
	err := p.api.engine.WaitFor(ctx, p.sequence, patience)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		p.undo(err)
	}
	return p, nil
}

// BodySize implements wire.Answer.
func (p *producing) BodySize() int { return p.Encode(p.appendAnswer) }

// WriteBody implements wire.Answer.
func (p *producing) WriteBody(w io.Writer) error {
	err := p.Encoded.WriteBody(w)
	p.recycle()
	return err
}

// undo turns what was appended, but cannot be known to be durable, into errors.
func (p *producing) undo(err error) {
	p.fail(err)
	code := p.api.codeOf(&p.call, err)
	for i := range p.resp.Topics {
		parts := p.resp.Topics[i].Partitions
		for j := range parts {
			if parts[j].ErrorCode == 0 {
				parts[j].ErrorCode = code
				parts[j].BaseOffset, parts[j].LogAppendTime, parts[j].LogStartOffset = -1, -1, -1
			}
		}
	}
}
