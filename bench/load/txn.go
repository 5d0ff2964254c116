package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
)

// Transactions is a load of transactional producers, each of which begins a transaction when its last one has been committed, and of
// consumers that read what is committed. A transaction writes one batch to each of a few partitions, all in one request, and is committed,
// as transaction.version=2 has it (KIP-890): the broker adds partitions by itself, and each transaction has an epoch of its own.
type Transactions struct {
	Partitions  []Partition
	Producers   int
	Touched     int // partitions that a transaction writes to
	Records     int // of each batch
	RecordBytes int
	Consumers   int // connections that consume
	Duration    time.Duration
}

// Committed is what a load of transactions did.
type Committed struct {
	Transactions int64
	Took         time.Duration
	// Latencies are those of every batch, from when its transaction began until a consumer that reads only what is committed had it.
	Latencies *Latencies
	// Deferred is how often a broker was still busy with a producer's former transaction, so that the client had to try again.
	Deferred int64
}

// Rate is in transactions per second.
func (c Committed) Rate() float64 { return float64(c.Transactions) / c.Took.Seconds() }

// deferredWait is how long Kafka's own producer waits then.
const deferredWait = 20 * time.Millisecond

// The versions of requests that belong to transaction.version=2.
const (
	txnProduceVersion = 12
	txnEndVersion     = 5
)

// txnTimeout is the one that producers ask for.
const txnTimeout = time.Minute

// runningTxns is a load of transactions that runs.
type runningTxns struct {
	Transactions
	value []byte
	begin time.Time

	committed, deferred, wanted, consumed atomic.Int64

	mu        sync.Mutex // guards the fields below
	begun     map[txnID]time.Time
	latencies *Latencies
}

// txnID tells the transactions of a load apart.
type txnID struct {
	pid   base.ProducerID
	epoch base.ProducerEpoch
}

// Run makes transactions and consumes what they write. The first error ends it.
func (l Transactions) Run(ctx context.Context, addr string) (Committed, error) {
	ends, err := EndOffsets(ctx, addr, l.Partitions)
	if err != nil {
		return Committed{}, err
	}
	r := &runningTxns{Transactions: l, value: make([]byte, max(1, l.RecordBytes-recordOverhead)), begun: map[txnID]time.Time{}, latencies: NewLatencies()}
	producers := make([]*txnProducer, l.Producers)
	for i := range producers { // before the time begins
		p, closeConn, err := r.producer(ctx, addr, i)
		if err != nil {
			return Committed{}, fmt.Errorf("transactional producer %d: %w", i, err)
		}
		defer closeConn()
		producers[i] = p
	}
	consume := Consume{Partitions: l.Partitions, From: ends, Connections: l.Consumers, Committed: true, received: r.received}
	result := Committed{Latencies: r.latencies}
	err = consume.during(ctx, addr, &r.consumed, &r.wanted, func(ctx context.Context) error {
		r.begin = time.Now()
		defer func() { result.Took = time.Since(r.begin) }()
		return r.produce(ctx, producers)
	})
	result.Transactions, result.Deferred = r.committed.Load(), r.deferred.Load()
	return result, err
}

// produce has all producers work until the time is over.
func (r *runningTxns) produce(ctx context.Context, producers []*txnProducer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, p := range producers {
		wg.Go(func() {
			for time.Since(r.begin) < r.Duration && ctx.Err() == nil {
				if err := p.transact(ctx); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// received is told of what a consumer reads: data of transactions and their markers.
func (r *runningTxns) received(_ Partition, h record.Header, at time.Time) {
	if h.Attributes.Control() {
		return
	}
	r.mu.Lock()
	begun, ok := r.begun[txnID{h.ProducerID, h.ProducerEpoch}]
	if ok {
		r.latencies.Record(at.Sub(begun))
	}
	r.mu.Unlock()
	if ok { // else it was written by a former load
		r.consumed.Add(1)
	}
}

// txnProducer is one transactional producer with a connection of its own.
type txnProducer struct {
	*runningTxns
	*client
	name string
	txnID
	next int // partition, counted on from transaction to transaction
}

// producer connects and takes the transactional id over. The connection ends with ctx.
func (r *runningTxns) producer(ctx context.Context, addr string, number int) (*txnProducer, func(), error) {
	p := &txnProducer{runningTxns: r, name: fmt.Sprintf("bench-%d", number), next: number * r.Touched}
	if err := waitCoordinator(ctx, addr, txnCoordinator, p.name); err != nil {
		return nil, nil, err
	}
	c, closeConn, err := open(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	p.client = c
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = 5, &p.name, int32(txnTimeout.Milliseconds()), -1, -1
	for {
		var resp kmsg.InitProducerIDResponse
		err = p.ask(req, &resp)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil {
			p.txnID = txnID{base.ProducerID(resp.ProducerID), base.ProducerEpoch(resp.ProducerEpoch)}
			return p, closeConn, nil
		}
		if !kerr.IsRetriable(err) || ctx.Err() != nil {
			closeConn()
			return nil, nil, errors.Join(context.Cause(ctx), err)
		}
		time.Sleep(retryEvery)
	}
}

// transact makes one transaction.
func (p *txnProducer) transact(ctx context.Context) error {
	begun := time.Now()
	p.mu.Lock()
	p.begun[p.txnID] = begun
	p.mu.Unlock()
	p.wanted.Add(int64(p.Touched))
	batch := p.batch()
	left := make([]Partition, p.Touched)
	for i := range left {
		left[i] = p.Partitions[p.next%len(p.Partitions)]
		p.next++
	}
	for {
		var err error
		if left, err = p.write(left, batch); err != nil || len(left) == 0 {
			if err != nil {
				return err
			}
			break
		}
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	for {
		done, err := p.commit()
		if err != nil {
			return err
		}
		if done {
			p.committed.Add(1)
			return nil
		}
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
}

// wait waits until a request that was deferred may be tried again.
func (p *txnProducer) wait(ctx context.Context) error {
	p.deferred.Add(1)
	select {
	case <-time.After(deferredWait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// batch is what each partition gets. The sequence starts anew with the epoch, which is new in each transaction.
func (p *txnProducer) batch() []byte {
	b := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{ID: p.pid, Epoch: p.epoch}})
	now := time.Now().UnixMilli()
	for range p.Records {
		b.Append(now, nil, p.value)
	}
	return b.Build(0)
}

// write sends the batch to each partition, and returns those for which it has to be sent again.
func (p *txnProducer) write(to []Partition, batch []byte) (left []Partition, err error) {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.TransactionID, req.Acks, req.TimeoutMillis = txnProduceVersion, &p.name, -1, 30000
	for _, to := range to {
		one := produceRequest(to, batch).Topics[0]
		if n := len(req.Topics); n > 0 && req.Topics[n-1].Topic == to.Topic {
			req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, one.Partitions...)
		} else {
			req.Topics = append(req.Topics, one)
		}
	}
	var resp kmsg.ProduceResponse
	if err := p.ask(req, &resp); err != nil {
		return nil, err
	}
	answered := 0
	for _, t := range resp.Topics {
		for _, partition := range t.Partitions {
			answered++
			switch err := kerr.ErrorForCode(partition.ErrorCode); {
			case errors.Is(err, kerr.ConcurrentTransactions):
				left = append(left, Partition{t.Topic, partition.Partition})
			case err != nil:
				return nil, fmt.Errorf("produce to %s-%d in a transaction: %w", t.Topic, partition.Partition, err)
			}
		}
	}
	if answered != len(to) {
		return nil, fmt.Errorf("%w: %d of %d partitions are in it", errAnswer, answered, len(to))
	}
	return left, nil
}

// commit ends the transaction and takes the epoch of the next one. It returns false if that has to be tried again.
func (p *txnProducer) commit() (done bool, err error) {
	req := kmsg.NewPtrEndTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = txnEndVersion, p.name, int64(p.pid), int16(p.epoch), true
	var resp kmsg.EndTxnResponse
	if err := p.ask(req, &resp); err != nil {
		return false, err
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case errors.Is(err, kerr.ConcurrentTransactions):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("commit a transaction: %w", err)
	}
	p.txnID = txnID{base.ProducerID(resp.ProducerID), base.ProducerEpoch(resp.ProducerEpoch)}
	return true, nil
}
