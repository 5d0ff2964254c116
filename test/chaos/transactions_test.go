package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/test/chaos/history"
)

const (
	txnInput      = "txn-input"
	txnOutput     = "txn-output"
	txnPartitions = 2
	txnSenders    = 2
	txnProcessors = 2
	txnGroup      = "processors"
)

// TestTransactionHistories has producers commit and abort transactions over several partitions, and a group that polls, sends and commits
// offsets in one transaction, under the faults of TestQueueHistories, and consumers that read committed records. What all of them saw is
// held against itself.
func TestTransactionHistories(t *testing.T) {
	faults, seed := proof.Times(t, 10, 30, 4000), proof.Seed(t)
	row := proof.Start(t, "history-transactions", "faults", seed)
	done := map[fault]int{}
	var committed, aborted, unknown, acked, polled int64
	inFolders(t, faults, historyFaults, seed, func(t *testing.T, faults int, seed uint64) {
		w := strikeTransactions(t, row, done, faults, seed)
		committed, aborted, unknown = committed+w.ends.committed.Load(), aborted+w.ends.aborted.Load(), unknown+w.ends.unknown.Load()
		acked, polled = acked+w.history.acked.Load(), polled+w.history.polled.Load()
	})
	row.Note("%v; %d transactions committed, %d aborted, %d of unknown end; %d records acknowledged, %d polled", done, committed, aborted, unknown, acked, polled)
}

// strikeTransactions has faults strike a broker with a new folder, and judges the history of its clients.
func strikeTransactions(t *testing.T, row *proof.Proof, done map[fault]int, faults int, seed uint64) *transactions {
	t.Helper()
	ctx, cancel, f := startFaulty(t, row, done, faults, seed)
	defer cancel()
	w := startTransactions(ctx, t, f.network.addr, seed)
	f.strikes(ctx, t, faults, 30, w.awaitMore)
	w.finish(ctx, t, f.broker.output)
	return w
}

// transactions is the workload. It is a queue in whatever it does without transactions.
type transactions struct {
	queue
	ends struct{ committed, aborted, unknown atomic.Int64 }
}

func startTransactions(ctx context.Context, t *testing.T, addr string, seed uint64) *transactions {
	t.Helper()
	w, reading := newTransactions(ctx, t, addr)
	w.followers(reading, t)
	for id := range txnSenders {
		random := rand.New(rand.NewPCG(seed, uint64(id+1)))
		w.senders.Go(func() { w.sendAll(ctx, t, fmt.Sprintf("sender-%d", id), random) })
	}
	for id := range txnProcessors {
		random := rand.New(rand.NewPCG(seed, uint64(id+100)))
		w.senders.Go(func() { w.processAll(ctx, t, fmt.Sprintf("processor-%d", id), random) })
	}
	return w
}

// newTransactions is the workload without any clients, and the context of those who read.
func newTransactions(ctx context.Context, t *testing.T, addr string) (*transactions, context.Context) {
	t.Helper()
	w := &transactions{queue: queue{addr: addr, history: newRecorder(), stop: make(chan struct{})}}
	client, err := kgo.NewClient(impatient(addr)...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, topic := range []string{txnInput, txnOutput} {
		if _, err := kadm.NewClient(client).CreateTopic(ctx, txnPartitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	reading, leave := context.WithCancel(ctx)
	w.leave = leave
	t.Cleanup(func() {
		leave()
		w.readers.Wait()
	})
	return w, reading
}

// followers starts consumers that read committed records of both topics.
func (w *transactions) followers(reading context.Context, t *testing.T) {
	for range 2 {
		w.readers.Go(func() { w.follow(reading, t, nil) })
	}
}

// stopping is a context that ends when the senders are told to stop.
func (w *transactions) stopping(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-w.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// transactional are the options of a client with a transactional id.
func (w *transactions) transactional(id string) []kgo.Opt {
	return append(impatient(w.addr), kgo.TransactionalID(id), kgo.TransactionTimeout(10*time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.UnknownTopicRetries(-1), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
}

// patience is how long a client may take for a step of a transaction, before it is given up for a new client of the same id.
const patience = 8 * time.Second

// ended notes how a transaction ended.
func (w *transactions) ended(op history.Op) {
	switch op.Outcome {
	case history.OK:
		w.ends.committed.Add(1)
	case history.Fail:
		w.ends.aborted.Add(1)
	default:
		w.ends.unknown.Add(1)
	}
	w.history.ended(op)
}

// sendAll sends transactions until it is told to stop. After an error a new client takes the transactional id over.
func (w *transactions) sendAll(ctx context.Context, t *testing.T, id string, random *rand.Rand) {
	stopping, cancel := w.stopping(ctx)
	defer cancel()
	for stopping.Err() == nil {
		client, err := kgo.NewClient(w.transactional(id)...)
		if err != nil {
			t.Error(err)
			return
		}
		process := w.history.process()
		for stopping.Err() == nil {
			if err := w.sendOne(ctx, client, process, random); err != nil {
				t.Logf("%s: %v", id, err)
				break
			}
		}
		client.Close()
	}
	w.abandon(ctx, t, id)
}

// abandon ends whatever transaction the last client of id may have left open.
func (w *transactions) abandon(ctx context.Context, t *testing.T, id string) {
	client, err := kgo.NewClient(w.transactional(id)...)
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, _, err := client.ProducerID(ctx); err != nil {
		t.Errorf("%s does not become free: %v", id, err)
	}
}

func (w *transactions) sendOne(ctx context.Context, client *kgo.Client, process int, random *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := client.BeginTransaction(); err != nil {
		return err
	}
	op := history.Op{Process: process, Transaction: true, Start: w.history.now(), Outcome: history.Fail}
	var records []*kgo.Record
	for range 1 + random.IntN(4) {
		topic := []string{txnInput, txnOutput}[random.IntN(2)]
		records = append(records, valued(topic, int32(random.IntN(txnPartitions)), w.history.values.Add(1), random.IntN(500)))
	}
	sent, err := w.sent(ctx, client, records)
	op.Steps = []history.Step{sent}
	time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond) // the transaction is open for others to see
	if err == nil && random.IntN(4) > 0 {
		op.CommitStart, op.Outcome = w.history.now(), history.Info
		if err = client.EndTransaction(ctx, kgo.TryCommit); err == nil {
			op.Outcome = history.OK
		}
	} else {
		err = errors.Join(err, client.EndTransaction(ctx, kgo.TryAbort))
	}
	w.ended(op)
	return err
}

// sent sends records within a transaction.
func (w *transactions) sent(ctx context.Context, client *kgo.Client, records []*kgo.Record) (history.Step, error) {
	step := history.Step{Action: history.Send}
	var all error
	for _, r := range client.ProduceSync(ctx, records...) {
		s, err := seen(r.Record)
		all = errors.Join(all, r.Err, err)
		if r.Err != nil {
			s.Offset = history.UnknownOffset
		}
		step.Records = append(step.Records, s)
	}
	return step, all
}

// processAll is a member of the group that makes output of input until it is told to stop.
func (w *transactions) processAll(ctx context.Context, t *testing.T, id string, random *rand.Rand) {
	stopping, cancel := w.stopping(ctx)
	defer cancel()
	for stopping.Err() == nil {
		var moved atomic.Bool
		moves := func(context.Context, *kgo.Client, map[string][]int32) { moved.Store(true) }
		session, err := kgo.NewGroupTransactSession(append(w.transactional(id), kgo.ConsumeTopics(txnInput), kgo.ConsumerGroup(txnGroup),
			kgo.OnPartitionsAssigned(moves), kgo.OnPartitionsRevoked(moves), kgo.OnPartitionsLost(moves),
			kgo.SessionTimeout(2*time.Second), kgo.HeartbeatInterval(100*time.Millisecond))...)
		if err != nil {
			t.Error(err)
			return
		}
		process := w.history.process()
		for first := true; stopping.Err() == nil && (first || random.IntN(crashOdds) > 0); first = false {
			if err := w.processOne(ctx, stopping, session, process, &moved); err != nil {
				t.Logf("%s: %v", id, err)
				break
			}
		}
		session.Close()
	}
	w.abandon(ctx, t, id)
}

func (w *transactions) processOne(ctx, stopping context.Context, session *kgo.GroupTransactSession, process int, moved *atomic.Bool) error {
	op := history.Op{Process: process, Transaction: true, Group: txnGroup, Start: w.history.now(), Outcome: history.Fail}
	fetches := session.PollRecords(stopping, 20)
	if fetches.NumRecords() == 0 {
		return nil
	}
	op.Moved = moved.Swap(false)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := session.Begin(); err != nil {
		return err
	}
	polled, committed := history.Step{Action: history.Poll}, history.Step{Action: history.Commit}
	next := map[int32]int64{}
	var output []*kgo.Record
	for _, r := range fetches.Records() {
		s, err := seen(r)
		if err != nil {
			return err
		}
		polled.Records = append(polled.Records, s)
		next[r.Partition] = r.Offset + 1
		output = append(output, valued(txnOutput, r.Partition, w.history.values.Add(1), 0))
	}
	for p, offset := range next {
		committed.Records = append(committed.Records, history.Record{Partition: partitionName(txnInput, p), Offset: offset})
	}
	sent, err := w.sent(ctx, session.Client(), output)
	op.Steps = []history.Step{polled, sent, committed}
	if err == nil {
		op.CommitStart, op.Outcome = w.history.now(), history.Info
	}
	done, endErr := session.End(ctx, kgo.TransactionEndTry(err == nil))
	switch {
	case done && endErr == nil:
		op.Outcome = history.OK
	case endErr == nil:
		op.Outcome = history.Fail
	}
	if op.Outcome != history.OK {
		moved.Store(true) // the session goes back to what is committed
	}
	w.ended(op)
	return errors.Join(err, endErr)
}

// follow polls both topics from their start, until ctx ends or until, unless nil, returns true for what was polled last.
func (w *transactions) follow(ctx context.Context, t *testing.T, until func(polled []*kgo.Record) bool) {
	partitions := map[string]map[int32]kgo.Offset{txnInput: {}, txnOutput: {}}
	for _, of := range partitions {
		for p := range int32(txnPartitions) {
			of[p] = kgo.NewOffset().AtStart()
		}
	}
	client, err := kgo.NewClient(append(impatient(w.addr), kgo.ConsumePartitions(partitions))...)
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	process := w.history.process()
	for ctx.Err() == nil {
		polled := w.poll(ctx, t, client, history.Op{Process: process, Start: w.history.now()})
		if until != nil && until(polled) {
			return
		}
	}
}

// finish ends the workload, reads everything once more, and holds the history against itself.
func (w *transactions) finish(ctx context.Context, t *testing.T, out *output) {
	t.Helper()
	close(w.stop)
	w.senders.Wait()
	all := w.readToEnd(ctx, t)
	w.leave()
	w.readers.Wait()
	if out.trouble() {
		t.Errorf("the broker had a problem of its own:\n%s", out)
	}
	w.history.check(t, "transactions", history.Options{PolledAll: all})
}

// readToEnd sends a last record to every partition, polls until all of them have come, and reports whether they did.
func (w *transactions) readToEnd(ctx context.Context, t *testing.T) bool {
	t.Helper()
	client, err := kgo.NewClient(append(impatient(w.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Error(err)
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	op := history.Op{Process: w.history.process(), Start: w.history.now(), Outcome: history.OK}
	var last []*kgo.Record
	for p := range int32(txnPartitions) {
		last = append(last, valued(txnInput, p, w.history.values.Add(1), 0), valued(txnOutput, p, w.history.values.Add(1), 0))
	}
	sent, err := w.sent(ctx, client, last)
	if err != nil {
		t.Errorf("the last records: %v", err)
		return false
	}
	op.Steps = []history.Step{sent}
	w.history.ended(op)
	awaited := map[history.Record]bool{}
	for _, r := range sent.Records {
		awaited[r] = true
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		w.follow(ctx, t, func(polled []*kgo.Record) bool {
			for _, r := range polled {
				if s, err := seen(r); err == nil {
					delete(awaited, s)
				}
			}
			return len(awaited) == 0
		})
	})
	reader.Wait()
	if len(awaited) > 0 {
		t.Errorf("the last polls did not return %d of the last records", len(awaited))
	}
	return len(awaited) == 0
}
