package api

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/wire"
)

// InitProducerId v0–5 (key 22), DescribeProducers v0 (key 61)
//
//   - A producer without transactional id gets an id that no producer had before, with epoch 0 (KIP-98). Ids come from blocks that the
//     metadata hands out.
//   - With a transactional id its coordinator answers: see txn.Machine.InitProducerID. v4 says PRODUCER_FENCED where earlier ones say
//     INVALID_PRODUCER_EPOCH.
//   - DescribeProducers tells what a partition knows of its idempotent and transactional producers (KIP-664).

// ProducerIDs hands out producer ids from the current block. It implements txn.ProducerIDs.
type ProducerIDs struct {
	metadata *metadata.Metadata

	mu   sync.Mutex // guards the fields below; held while a block is fetched, so that one request fetches it for all
	next base.ProducerID
	left int32
}

// NewProducerIDs returns one that takes its blocks from the metadata.
func NewProducerIDs(m *metadata.Metadata) *ProducerIDs { return &ProducerIDs{metadata: m} }

// NewProducerID returns a producer id that nobody has or had.
func (p *ProducerIDs) NewProducerID(ctx context.Context) (base.ProducerID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		first, count, err := p.metadata.AllocateProducerIDs(ctx)
		if err != nil {
			return base.NoProducerID, err
		}
		p.next, p.left = first, count
	}
	id := p.next
	p.next, p.left = p.next+1, p.left-1
	return id, nil
}

func (a *API) initProducerID(_ context.Context, c *call, req *kmsg.InitProducerIDRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.InitProducerIDResponse](req)
		resp.ProducerID, resp.ProducerEpoch = -1, -1
		var o txn.Outcome
		var err error
		switch {
		case (req.ProducerID < 0) != (req.ProducerEpoch < 0):
			err = errHalfProducer
		case req.TransactionalID == nil:
			o.ID, err = a.producerIDs.NewProducerID(ctx)
		case *req.TransactionalID == "":
			err = errEmptyTransactionalID
		default:
			p := producerOf(*req.TransactionalID, req.ProducerID, req.ProducerEpoch)
			o, err = a.txns.InitProducerID(ctx, p, req.TransactionTimeoutMillis)
			err = codeErr(o.Code, err)
		}
		if err != nil {
			resp.ErrorCode = a.fencedCode(c, req.Version >= 4, err)
			return resp, nil
		}
		resp.ProducerID, resp.ProducerEpoch = int64(o.ID), int16(o.Epoch)
		return resp, nil
	})
}

var (
	errHalfProducer         = refuse(kerr.InvalidRequest, "A producer id needs an epoch, and an epoch an id.")
	errEmptyTransactionalID = refuse(kerr.InvalidRequest, "The transactional id is empty.")
)

func (a *API) describeProducers(_ context.Context, c *call, req *kmsg.DescribeProducersRequest) (wire.Pending, error) {
	resp := answer[kmsg.DescribeProducersResponse](req)
	view := a.view()
	for i := range req.Topics {
		asked := &req.Topics[i]
		out := kmsg.NewDescribeProducersResponseTopic()
		out.Topic = asked.Topic
		for _, index := range asked.Partitions {
			out.Partitions = append(out.Partitions, a.describedProducers(c, view, asked.Topic, index))
		}
		resp.Topics = append(resp.Topics, out)
	}
	return reply(resp)
}

func (a *API) describedProducers(c *call, v *view, topic string, index int32) kmsg.DescribeProducersResponseTopicPartition {
	out := kmsg.NewDescribeProducersResponseTopicPartition()
	out.Partition = index
	p, err := v.partition(topic, index)
	if err != nil {
		out.ErrorCode, out.ErrorMessage = a.codeOf(c, err), messageOf(err)
		return out
	}
	for _, producer := range p.Producers() {
		state := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		state.ProducerID, state.ProducerEpoch = int64(producer.ID), int32(producer.Epoch)
		state.LastSequence, state.LastTimestamp = producer.LastSequence, producer.LastTimestamp
		state.CoordinatorEpoch = producer.CoordinatorEpoch
		state.CurrentTxnStartOffset = int64(producer.TxnStartOffset)
		out.ActiveProducers = append(out.ActiveProducers, state)
	}
	return out
}
