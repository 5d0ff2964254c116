package api

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
)

// Versions of Produce that change what transactions are (KIP-890).
const (
	abortableVersion = 11 // knows TRANSACTION_ABORTABLE
	implicitVersion  = 12 // records begin the transaction in their partition
)

// How long a request that finds the producer's last transaction still ending waits for its end, as Kafka's brokers do
// (add.partitions.to.txn.retry.backoff.max.ms): clients would only ask again.
const (
	concurrentWait  = 100 * time.Millisecond
	concurrentPause = 2 * time.Millisecond
)

// txnBatch is what must be known of one partition's batch before it can be appended in a transaction.
type txnBatch struct {
	verified storage.Verification
	err      error
}

// verifyTxns asks the transaction coordinator about the batches of a request that begin a transaction in their partitions: once for all. It
// blocks the connection meanwhile, so that its requests stay in order.
func (p *producing) verifyTxns(ctx context.Context, view *view) {
	p.txns = make([]txnBatch, len(p.req.partitions))
	producer := txn.Producer{TransactionalID: p.req.transactionalID, ID: base.NoProducerID}
	var ask []base.TopicPartition
	var at []int // of ask's partitions in p.txns
	first := 0
	for i := range p.req.topics {
		asked := &p.req.topics[i]
		topic, err := view.produceTopic(p.req.version, asked)
		for j := first; err == nil && j < first+asked.partitions; j++ {
			h, ok := txnHeader(p.req.partitions[j].records)
			partition, _, err := topic.partition(p.req.partitions[j].index)
			if !ok || err != nil {
				continue // append says what is wrong
			}
			if producer.ID == base.NoProducerID {
				producer.ID, producer.Epoch = h.ProducerID, h.ProducerEpoch
			} else if producer.ID != h.ProducerID || producer.Epoch != h.ProducerEpoch {
				p.refuseTxns(errTwoProducers)
				return
			}
			verified, known := partition.Verify(h, p.req.version >= implicitVersion)
			if !known {
				p.txns[j].verified = verified
				ask, at = append(ask, base.TopicPartition{Topic: topic.topic.Name, Partition: p.req.partitions[j].index}), append(at, j)
			}
		}
		first += asked.partitions
	}
	if len(ask) == 0 {
		return
	}
	if producer.TransactionalID == "" {
		p.refuseTxns(errEmptyTransactionalID)
		return
	}
	var codes []error
	var err error
	if p.req.version >= implicitVersion {
		err = p.api.addToTxn(ctx, producer, ask)
	} else {
		codes, err = p.api.verifyTxn(ctx, producer, ask)
	}
	for i, j := range at {
		if err == nil && codes != nil {
			p.txns[j].err = unverified(codes[i], p.req.version >= abortableVersion)
		} else {
			p.txns[j].err = unverified(err, p.req.version >= abortableVersion)
		}
	}
}

var errTwoProducers = refuse(kerr.InvalidProducerIDMapping, "Transactional records contained more than one producer ID")

func (p *producing) refuseTxns(err error) {
	for i := range p.txns {
		p.txns[i].err = err
	}
}

// txnHeader is the header of a batch of a transaction; ok is false for any other.
func txnHeader(records []byte) (h record.Header, ok bool) {
	h, err := record.ParseHeader(records)
	return h, err == nil && h.Attributes.Transactional() && h.HasProducer()
}

// addToTxn adds partitions to a transaction of version 2. It waits out the end of the producer's last one, but not for durability: what
// follows is appended behind.
func (a *API) addToTxn(ctx context.Context, p txn.Producer, partitions []base.TopicPartition) error {
	deadline := time.Now().Add(concurrentWait)
	for {
		code, err := a.txns.AddPartitions(p, partitions, transactionVersion2).Applied(ctx)
		if err != nil || code != kerr.ConcurrentTransactions || time.Now().After(deadline) {
			return codeErr(code, err)
		}
		pause := time.NewTimer(concurrentPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

// verifyTxn asks whether partitions are part of a transaction, and returns what is wrong with each.
func (a *API) verifyTxn(ctx context.Context, p txn.Producer, partitions []base.TopicPartition) ([]error, error) {
	v, err := a.txns.Verify(p, partitions).Applied(ctx)
	if err := codeErr(v.Code, err); err != nil {
		return nil, err
	}
	codes := make([]error, len(partitions))
	for i, code := range v.Partitions {
		codes[i] = codeErr(code, nil)
	}
	return codes, nil
}

// unverified is the error for a client whose transaction the coordinator refused.
func unverified(err error, knowsAbortable bool) error {
	var r *refusal
	switch {
	case err == nil:
		return nil
	case busy(err):
		return errTxnBusy
	case errors.As(err, &r) && r.code == kerr.ProducerFenced:
		return errTxnFenced
	case errors.As(err, &r) && r.code == kerr.TransactionAbortable && !knowsAbortable:
		return errNoTransaction
	}
	return err
}

var (
	errTxnBusy   = refuse(kerr.NotEnoughReplicas, "Unable to verify the partition has been added to the transaction.")
	errTxnFenced = refuse(kerr.InvalidProducerEpoch, "The producer's epoch is not that of its transactional id.")
)
