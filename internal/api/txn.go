package api

import (
	"context"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/wire"
)

// AddPartitionsToTxn v0–5 (key 24), AddOffsetsToTxn v0–4 (25), EndTxn v0–5 (26): a producer's transaction.
//
//   - The requests are judged by the transactional id's state machine: see the methods of txn.Machine.
//   - AddPartitionsToTxn is all or nothing: where a partition does not exist the others are OPERATION_NOT_ATTEMPTED. v4, which brokers send,
//     takes several transactions and internal topics, and may ask only whether the partitions are part of them (KIP-890); then each partition
//     has its own answer. Clients get TOPIC_AUTHORIZATION_FAILED for internal topics.
//   - v2 of each says PRODUCER_FENCED where earlier ones say INVALID_PRODUCER_EPOCH.
//   - EndTxn v5 tells the producer's epoch from now on, which a transaction of version 2 has raised (KIP-890). The answer leaves when the
//     decision is durable; the markers follow.

// transactionVersion2 is the transaction version of clients that know KIP-890: records begin a transaction, every end raises the epoch.
const transactionVersion2 = 2

// fencedCode is the code of a refusal for a version that may or may not know PRODUCER_FENCED.
func (a *API) fencedCode(c *call, known bool, err error) int16 {
	code := a.codeOf(c, err)
	if code == kerr.ProducerFenced.Code && !known {
		return kerr.InvalidProducerEpoch.Code
	}
	return code
}

func (a *API) addPartitionsToTxn(_ context.Context, c *call, req *kmsg.AddPartitionsToTxnRequest) (wire.Pending, error) {
	if req.Version >= 4 {
		return a.addPartitionsToTxns(c, req)
	}
	resp := answer[kmsg.AddPartitionsToTxnResponse](req)
	adding := a.startAdding(producerOf(req.TransactionalID, req.ProducerID, req.ProducerEpoch), txnTopics(req.Topics), false, 0)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		codes := adding.wait(ctx, func(err error) int16 { return a.fencedCode(c, req.Version >= 2, err) })
		for i, t := range req.Topics {
			out := kmsg.NewAddPartitionsToTxnResponseTopic()
			out.Topic = t.Topic
			for j, p := range t.Partitions {
				part := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				part.Partition, part.ErrorCode = p, codes[i][j]
				out.Partitions = append(out.Partitions, part)
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp, nil
	})
}

func (a *API) addPartitionsToTxns(c *call, req *kmsg.AddPartitionsToTxnRequest) (wire.Pending, error) {
	resp := answer[kmsg.AddPartitionsToTxnResponse](req)
	all := make([]*addingPartitions, len(req.Transactions))
	for i := range req.Transactions {
		t := &req.Transactions[i]
		all[i] = a.startAdding(producerOf(t.TransactionalID, t.ProducerID, t.ProducerEpoch), txnTopics(t.Topics), t.VerifyOnly, transactionVersion2)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		for i := range req.Transactions {
			t := &req.Transactions[i]
			out := kmsg.NewAddPartitionsToTxnResponseTransaction()
			out.TransactionalID = t.TransactionalID
			codes := all[i].wait(ctx, func(err error) int16 { return a.codeOf(c, err) })
			for j, asked := range t.Topics {
				topic := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
				topic.Topic = asked.Topic
				for k, p := range asked.Partitions {
					part := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
					part.Partition, part.ErrorCode = p, codes[j][k]
					topic.Partitions = append(topic.Partitions, part)
				}
				out.Topics = append(out.Topics, topic)
			}
			resp.Transactions = append(resp.Transactions, out)
		}
		return resp, nil
	})
}

func producerOf(transactionalID string, id int64, epoch int16) txn.Producer {
	return txn.Producer{TransactionalID: transactionalID, ID: base.ProducerID(id), Epoch: base.ProducerEpoch(epoch)}
}

// txnTopic names partitions of a topic.
type txnTopic struct {
	name       string
	partitions []int32
}

func txnTopics[T kmsg.AddPartitionsToTxnRequestTopic | kmsg.AddPartitionsToTxnRequestTransactionTopic](asked []T) []txnTopic {
	topics := make([]txnTopic, len(asked))
	for i := range asked {
		t := kmsg.AddPartitionsToTxnRequestTopic(asked[i])
		topics[i] = txnTopic{t.Topic, t.Partitions}
	}
	return topics
}

// addingPartitions is one transaction of an AddPartitionsToTxn on its way.
type addingPartitions struct {
	topics   []txnTopic
	refused  error // of the whole
	bad      map[base.TopicPartition]*kerr.Error
	added    *coordinator.Call[*kerr.Error]
	verified *coordinator.Call[txn.Verified]
}

// startAdding queues one transaction of an AddPartitionsToTxn.
func (a *API) startAdding(p txn.Producer, topics []txnTopic, verifyOnly bool, version int16) *addingPartitions {
	w := &addingPartitions{topics: topics, bad: map[base.TopicPartition]*kerr.Error{}}
	if p.TransactionalID == "" {
		w.refused = errEmptyTransactionalID
		return w
	}
	view := a.view()
	var partitions []base.TopicPartition
	for _, t := range topics {
		topic, _ := view.topic(t.name)
		barred := topic != nil && topic.topic.Internal && version < transactionVersion2 && !verifyOnly
		for _, index := range t.partitions {
			at := base.TopicPartition{Topic: t.name, Partition: index}
			switch _, err := view.partition(t.name, index); {
			case barred:
				w.bad[at] = kerr.TopicAuthorizationFailed
			case err != nil:
				w.bad[at] = kerr.UnknownTopicOrPartition
			}
			partitions = append(partitions, at)
		}
	}
	switch {
	case len(w.bad) > 0:
	case verifyOnly:
		w.verified = a.txns.Verify(p, partitions)
	default:
		w.added = a.txns.AddPartitions(p, partitions, version)
	}
	return w
}

// wait returns the code of each partition of each topic.
func (w *addingPartitions) wait(ctx context.Context, codeOf func(error) int16) [][]int16 {
	var verified txn.Verified
	err := w.refused
	switch {
	case w.added != nil:
		code, failed := w.added.Wait(ctx)
		err = codeErr(code, failed)
	case w.verified != nil:
		var failed error
		verified, failed = w.verified.Wait(ctx)
		err = codeErr(verified.Code, failed)
	}
	all := int16(0)
	if err != nil {
		all = codeOf(err)
	}
	codes := make([][]int16, len(w.topics))
	n := 0
	for i, t := range w.topics {
		codes[i] = make([]int16, len(t.partitions))
		for j, index := range t.partitions {
			switch bad := w.bad[base.TopicPartition{Topic: t.name, Partition: index}]; {
			case bad != nil:
				codes[i][j] = bad.Code
			case len(w.bad) > 0:
				codes[i][j] = kerr.OperationNotAttempted.Code
			case all == 0 && w.verified != nil && verified.Partitions[n] != nil:
				codes[i][j] = verified.Partitions[n].Code
			default:
				codes[i][j] = all
			}
			n++
		}
	}
	return codes
}

func (a *API) addOffsetsToTxn(_ context.Context, c *call, req *kmsg.AddOffsetsToTxnRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.AddOffsetsToTxnResponse](req)
		p := producerOf(req.TransactionalID, req.ProducerID, req.ProducerEpoch)
		if err := a.addGroup(ctx, p, req.Group, 0); err != nil {
			resp.ErrorCode = a.fencedCode(c, req.Version >= 2, err)
		}
		return resp, nil
	})
}

// addGroup adds the partition of a group's offsets to a transaction.
func (a *API) addGroup(ctx context.Context, p txn.Producer, group string, version int16) error {
	at, err := a.groupPartition(ctx, p, group)
	if err != nil {
		return err
	}
	code, err := a.txns.AddPartitions(p, []base.TopicPartition{at}, version).Wait(ctx)
	return codeErr(code, err)
}

// groupPartition is where the offsets of a group are.
func (a *API) groupPartition(ctx context.Context, p txn.Producer, id string) (base.TopicPartition, error) {
	if p.TransactionalID == "" {
		return base.TopicPartition{}, errEmptyTransactionalID
	}
	if err := a.groups.Ensure(ctx); err != nil {
		a.logger.Warn("the group coordinator's topic could not be created", "err", err)
		return base.TopicPartition{}, errNoCoordinator
	}
	return base.TopicPartition{Topic: group.Topic, Partition: a.groups.PartitionFor(id)}, nil
}

var errNoGroup = refuse(kerr.InvalidGroupID, "The group id is empty.")

func (a *API) endTxn(_ context.Context, c *call, req *kmsg.EndTxnRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.EndTxnResponse](req)
		resp.ProducerID, resp.ProducerEpoch = -1, -1
		version := int16(0)
		if req.Version >= 5 {
			version = transactionVersion2
		}
		err := errEmptyTransactionalID
		var o txn.Outcome
		if req.TransactionalID != "" {
			o, err = a.txns.EndTxn(ctx, producerOf(req.TransactionalID, req.ProducerID, req.ProducerEpoch), req.Commit, version)
			err = codeErr(o.Code, err)
		}
		if err != nil {
			resp.ErrorCode = a.fencedCode(c, req.Version >= 2, err)
			return resp, nil
		}
		resp.ProducerID, resp.ProducerEpoch = int64(o.ID), int16(o.Epoch)
		return resp, nil
	})
}

// DescribeTransactions v0 (key 65), ListTransactions v0–2 (66): KIP-664.
//
//   - Partitions are sorted. An id that nobody knows is TRANSACTIONAL_ID_NOT_FOUND.
//   - States that do not exist are named in the answer, and match nothing. v1 filters by duration (KIP-994), v2 by a pattern for the whole
//     transactional id (KIP-1152), INVALID_REGULAR_EXPRESSION where it is none.

func (a *API) describeTransactions(_ context.Context, c *call, req *kmsg.DescribeTransactionsRequest) (wire.Pending, error) {
	calls := make([]*coordinator.Call[txn.Described], len(req.TransactionalIDs))
	for i, id := range req.TransactionalIDs {
		if id != "" {
			calls[i] = a.txns.Describe(id)
		}
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.DescribeTransactionsResponse](req)
		for i, id := range req.TransactionalIDs {
			out := kmsg.NewDescribeTransactionsResponseTransactionState()
			out.TransactionalID = id
			d, err := txn.Described{}, errEmptyTransactionalID
			if calls[i] != nil {
				d, err = calls[i].Wait(ctx)
			}
			switch {
			case err != nil:
				out.ErrorCode = a.codeOf(c, err)
			case !d.Found:
				out.ErrorCode = kerr.TransactionalIDNotFound.Code
			default:
				out.State, out.TimeoutMillis, out.StartTimestamp = d.State, d.Timeout, d.Started
				out.ProducerID, out.ProducerEpoch = int64(d.ProducerID), int16(d.Epoch)
				for _, p := range d.Partitions {
					n := len(out.Topics)
					if n == 0 || out.Topics[n-1].Topic != p.Topic {
						t := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
						t.Topic = p.Topic
						out.Topics = append(out.Topics, t)
						n++
					}
					out.Topics[n-1].Partitions = append(out.Topics[n-1].Partitions, p.Partition)
				}
			}
			resp.TransactionStates = append(resp.TransactionStates, out)
		}
		return resp, nil
	})
}

func (a *API) listTransactions(_ context.Context, c *call, req *kmsg.ListTransactionsRequest) (wire.Pending, error) {
	resp := answer[kmsg.ListTransactionsResponse](req)
	filter := txn.Filter{ProducerIDs: req.ProducerIDFilters, States: req.StateFilters, LongerThan: -1}
	if req.Version >= 1 {
		filter.LongerThan = req.DurationFilterMillis
	}
	for _, s := range req.StateFilters {
		if !txn.KnownState(s) && !slices.Contains(resp.UnknownStateFilters, s) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, s)
		}
	}
	if p := req.TransactionalIDPattern; p != nil && *p != "" {
		pattern, err := regexp.Compile("^(?:" + *p + ")$")
		if err != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			return reply(resp)
		}
		filter.IDs = pattern
	}
	calls := a.txns.List(filter)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		for _, call := range calls {
			list, err := call.Wait(ctx)
			if err != nil {
				resp.ErrorCode, resp.TransactionStates = a.codeOf(c, err), nil
				return resp, nil
			}
			for _, d := range list {
				out := kmsg.NewListTransactionsResponseTransactionState()
				out.TransactionalID, out.ProducerID, out.TransactionState = d.TransactionalID, int64(d.ProducerID), d.State
				resp.TransactionStates = append(resp.TransactionStates, out)
			}
		}
		return resp, nil
	})
}

// WriteTxnMarkers v1–2 (key 27): what transaction coordinators send, and admin clients to abort a transaction that hangs (KIP-664). A marker is
// fenced by producer epoch and coordinator epoch; v2 tells the transaction version, by which the fence is strict (KIP-1228).

func (a *API) writeTxnMarkers(ctx context.Context, c *call, req *kmsg.WriteTxnMarkersRequest) (wire.Pending, error) {
	resp := answer[kmsg.WriteTxnMarkersResponse](req)
	type waiting struct {
		code    *int16
		durable func(context.Context) error
	}
	var wait []waiting
	for i := range req.Markers {
		m := &req.Markers[i]
		out := kmsg.NewWriteTxnMarkersResponseMarker()
		out.ProducerID = m.ProducerID
		marker := txn.Marker{
			ProducerID: base.ProducerID(m.ProducerID), ProducerEpoch: base.ProducerEpoch(m.ProducerEpoch), Commit: m.Committed,
			CoordinatorEpoch: m.CoordinatorEpoch, TransactionVersion: int16(m.TransactionVersion),
		}
		for _, t := range m.Topics {
			if len(t.Partitions) == 0 {
				continue
			}
			topic := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			topic.Topic = t.Topic
			topic.Partitions = make([]kmsg.WriteTxnMarkersResponseMarkerTopicPartition, len(t.Partitions))
			for j, index := range t.Partitions {
				part := &topic.Partitions[j]
				part.Partition = index
				durable, err := a.markers.orderForClient(ctx, base.TopicPartition{Topic: t.Topic, Partition: index}, marker)
				if err != nil {
					part.ErrorCode = a.codeOf(c, err)
					continue
				}
				wait = append(wait, waiting{&part.ErrorCode, durable})
			}
			out.Topics = append(out.Topics, topic)
		}
		if len(out.Topics) > 0 { // Kafka does not answer for a marker that goes nowhere
			resp.Markers = append(resp.Markers, out)
		}
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		for _, w := range wait {
			if err := w.durable(ctx); err != nil {
				*w.code = a.codeOf(c, err)
			}
		}
		return resp, nil
	})
}
