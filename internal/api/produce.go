package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
// Left out on purpose: transactions. A batch with the transactional bit gets INVALID_TXN_STATE, as from a broker that knows no
// transaction of its producer, or TRANSACTIONAL_ID_AUTHORIZATION_FAILED where the request names none. Kafka lets a client named __admin_client write to internal topics; here nobody may.

// appendTimeout is longer than an append waits for room in the wal and the tail by itself: a client with more patience needs no timer.
const appendTimeout = 10 * time.Second

// zstdVersion is the first version of Produce that may carry zstd (KIP-110).
const zstdVersion = 7

func (a *API) produce(ctx context.Context, c *call, req *kmsg.ProduceRequest) (wire.Pending, error) {
	p := &producing{api: a, call: c, req: req, resp: answer[kmsg.ProduceResponse](req)}
	if patience := p.patience(); patience < appendTimeout {
		patient, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		ctx = patient
	}

	view, now := a.view(), time.Now()
	p.resp.Topics = make([]kmsg.ProduceResponseTopic, 0, len(req.Topics))
	for i := range req.Topics {
		asked := &req.Topics[i]
		topic, err := view.produceTopic(req.Version, asked)
		out := kmsg.ProduceResponseTopic{Topic: strings.Clone(asked.Topic), TopicID: asked.TopicID}
		out.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(asked.Partitions))
		for j := range asked.Partitions {
			part := &asked.Partitions[j]
			result := produced{err: err, logStart: -1}
			if err == nil {
				result = p.append(ctx, topic, part, now)
			}
			out.Partitions[j] = p.encode(part.Partition, topic, result)
			p.sequence = max(p.sequence, result.appended.Sequence)
		}
		p.resp.Topics = append(p.resp.Topics, out)
	}
	c.Release() // the engine has copied the batches
	p.req = nil
	if p.failed && req.Acks == 0 {
		return nil, fmt.Errorf("produce with acks=0 failed: %w", p.firstErr)
	}
	if req.Acks == 0 {
		return wire.Ready(nil), nil
	}
	p.acks, p.timeout = req.Acks, time.Duration(max(req.TimeoutMillis, 0))*time.Millisecond
	return p, nil
}

// produceTopic finds the topic of a produce, which names it by id from v13 on.
func (v *view) produceTopic(version int16, asked *kmsg.ProduceRequestTopic) (*topicView, error) {
	if version >= 13 {
		if t, ok := v.topicByID(asked.TopicID); ok {
			return t, nil
		}
		return nil, errUnknownTopicID
	}
	if t, ok := v.topic(asked.Topic); ok {
		return t, nil
	}
	return nil, errUnknownPartition
}

// producing is one produce request between its two phases.
type producing struct {
	api      *API
	call     *call
	req      *kmsg.ProduceRequest // nil after the first phase
	resp     *kmsg.ProduceResponse
	sequence wal.Sequence // the last commit group of any batch
	acks     int16
	timeout  time.Duration
	failed   bool
	firstErr error
}

// produced is what became of one partition's records.
type produced struct {
	appended     storage.Appended
	logStart     base.Offset
	err          error
	recordErrors []record.RecordError
}

// patience is how long the request may wait for room.
func (p *producing) patience() time.Duration {
	if p.req.Acks == -1 && p.req.TimeoutMillis > 0 {
		return time.Duration(p.req.TimeoutMillis) * time.Millisecond
	}
	return appendTimeout
}

// append validates and orders the records of one partition.
func (p *producing) append(ctx context.Context, topic *topicView, asked *kmsg.ProduceRequestTopicPartition, now time.Time) produced {
	if p.req.Acks < -1 || p.req.Acks > 1 {
		return produced{err: errInvalidRequiredAcks, logStart: -1}
	}
	partition, place, err := topic.partition(asked.Partition)
	if err != nil {
		return produced{err: err, logStart: -1}
	}
	if topic.topic.Internal {
		return produced{err: errInternalTopic, logStart: -1}
	}
	if p.req.Version < zstdVersion && usesZstd(asked.Records) {
		return produced{err: errZstdTooEarly, logStart: -1}
	}
	if p.req.Acks == -1 && len(place.ISR) < min(topic.config.MinInsyncReplicas, len(place.Replicas)) {
		return produced{err: errNotEnoughReplicas, logStart: -1}
	}
	valid, err := record.Validate(asked.Records, validateOptions(topic, asked.Partition, now))
	if err != nil {
		return produced{err: err, recordErrors: valid.RecordErrors, logStart: logStartFor(err, partition)}
	}
	if valid.Header.Attributes.Transactional() {
		err := errNoTransaction
		if p.req.TransactionID == nil {
			err = errNoTransactionalID
		}
		return produced{err: err, logStart: -1}
	}
	appended, err := partition.Append(ctx, valid.Batch, valid.Header, storage.AppendOptions{
		OffsetOfMax:   valid.OffsetOfMaxTimestamp,
		ExpectedEpoch: base.NoLeaderEpoch,
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

// encode is the answer for one partition as far as the first phase knows it.
func (p *producing) encode(partition int32, topic *topicView, r produced) kmsg.ProduceResponseTopicPartition {
	out := kmsg.NewProduceResponseTopicPartition()
	out.Partition = partition
	if r.err == nil {
		out.BaseOffset = int64(r.appended.Base)
		out.LogStartOffset = int64(r.logStart)
		if topic.config.LogAppendTime {
			out.LogAppendTime = r.appended.AppendTime
		}
		return out
	}
	p.fail(r.err)
	out.ErrorCode = p.api.codeOf(p.call, r.err)
	out.BaseOffset, out.LogStartOffset = -1, int64(r.logStart)
	var fault *record.Error
	if errors.As(r.err, &fault) && len(r.recordErrors) > 0 {
		out.ErrorMessage = kmsg.StringPtr(fault.Message)
	}
	for _, re := range r.recordErrors {
		e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
		e.RelativeOffset, e.ErrorMessage = re.BatchIndex, kmsg.StringPtr(re.Message)
		out.ErrorRecords = append(out.ErrorRecords, e)
	}
	if out.ErrorCode == kerr.NotLeaderForPartition.Code && topic != nil {
		p.nameLeader(&out, topic)
	}
	return out
}

// nameLeader tells the client where to go instead (KIP-951, v10).
func (p *producing) nameLeader(out *kmsg.ProduceResponseTopicPartition, topic *topicView) {
	if p.req.Version < 10 || out.Partition < 0 || int(out.Partition) >= len(topic.topic.Partitions) {
		return
	}
	place := &topic.topic.Partitions[out.Partition]
	out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = int32(place.Leader), int32(place.LeaderEpoch)
	for _, known := range p.resp.Brokers {
		if known.NodeID == int32(place.Leader) {
			return
		}
	}
	if e, ok := p.api.endpointOf(p.call, place.Leader); ok {
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
	if !p.Ready() {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if p.acks == -1 && p.timeout > 0 {
			wait, cancel = context.WithTimeoutCause(ctx, p.timeout, errTimedOut)
		}
		err := p.api.engine.Wait(wait, p.sequence)
		if err != nil && errors.Is(context.Cause(wait), errTimedOut) && ctx.Err() == nil {
			err = errTimedOut
		}
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			p.undo(err)
		}
	}
	return wire.Message(p.resp), nil
}

// undo turns what was appended, but cannot be known to be durable, into errors.
func (p *producing) undo(err error) {
	code := p.api.codeOf(p.call, err)
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
