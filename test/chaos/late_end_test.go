package chaos_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/test/chaos/history"
)

// TestLateEndsEndNothingElse catches the EndTxn of a producer on its way, has the producer go on, and delivers it then: to a producer
// that was between two transactions or in its next one, to a broker that was killed meanwhile or not, for clients before and since
// KIP-890. What the coordinator knows of the transactional id must be the same before and after, the next transaction must end as its
// producer asks, and the history of all must have no anomaly.
//
// One case is left out, see TestALateEndOfAnOldClientIsTakenForItsNextOne.
func TestLateEndsEndNothingElse(t *testing.T) {
	rounds, seed := proof.Times(t, 8, 28, 5000), proof.Seed(t)
	row := proof.Start(t, "late-end", "late EndTxn requests", seed)
	l, ctx := startLateEnds(t, seed, time.Duration(rounds)*5*time.Second)
	var deck []lateEnd
	done := map[string]int{}
	for n := range rounds {
		if len(deck) == 0 {
			deck = lateEnds()
			l.random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		drawn := deck[0]
		deck = deck[1:]
		if err := l.round(ctx, t, fmt.Sprintf("late-%d", n), drawn); err != nil {
			t.Errorf("%v: %v", drawn, err)
		}
		if t.Failed() {
			return
		}
		row.Tried(1)
		for _, word := range drawn.words() {
			done[word]++
		}
	}
	l.finish(ctx, t, l.broker.output)
	row.Note("%v; %d transactions committed, %d aborted", done, l.ends.committed.Load(), l.ends.aborted.Load())
}

// TestALateEndOfAnOldClientIsTakenForItsNextOne shows a limit of the protocol before KIP-890: all transactions of a producer have one epoch,
// so nothing tells a late EndTxn from that of the transaction that is open when it comes. Apache Kafka does the same. It takes a client that
// goes on with the same epoch, because it was answered; one that gave up has a new epoch, and is safe.
func TestALateEndOfAnOldClientIsTakenForItsNextOne(t *testing.T) {
	l, ctx := startLateEnds(t, proof.Seed(t), time.Minute)
	for _, then := range []after{isAnswered, asksAgain} {
		id := "old, " + string(then)
		client, err := l.client(id, true)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		first, err := l.begin(ctx, client, l.history.process())
		if err != nil {
			t.Fatal(err)
		}
		caught, err := l.end(ctx, client, first, lateEnd{old: true, then: then})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.begin(ctx, client, first.Process); err != nil {
			t.Fatal(err)
		}
		code, err := l.deliver(ctx, caught)
		if err := errors.Join(err, kerr.ErrorForCode(code)); err != nil {
			t.Errorf("%s: the late EndTxn is refused: %v", then, err)
		}
		if ended, err := l.settled(ctx, id); err != nil || !strings.HasPrefix(ended.State, "Complete") {
			t.Errorf("%s: the next transaction is %+v, %v", then, ended, err)
		}
	}
}

// lateEnd is one way in which an EndTxn can be late.
type lateEnd struct {
	old   bool  // the client is from before KIP-890: its EndTxn is below version 5
	then  after // what the client does meanwhile
	open  bool  // its next transaction is open when it comes
	crash bool  // the broker is killed meanwhile
}

// after is what a client does after its EndTxn was sent.
type after string

const (
	isAnswered after = "answered"    // the request came twice
	asksAgain  after = "asked again" // the library sends the request once more, by itself
	givesUp    after = "gave up"     // and goes on with an epoch of its own
	isReplaced after = "replaced"    // by a new client with the transactional id
)

// left says that the client has left the transaction without knowing its end.
func (e lateEnd) left() bool { return e.then == givesUp || e.then == isReplaced }

func (e lateEnd) words() []string {
	words := []string{string(e.then), map[bool]string{true: "v4", false: "v5"}[e.old]}
	if e.open {
		words = append(words, "in the next")
	}
	if e.crash {
		words = append(words, "killed")
	}
	return words
}

func (e lateEnd) String() string { return strings.Join(e.words(), ", ") }

// lateEnds are all ways but the one that the old protocol cannot tell from none.
func lateEnds() []lateEnd {
	var all []lateEnd
	for _, then := range []after{isAnswered, asksAgain, givesUp, isReplaced} {
		for bits := range 8 {
			e := lateEnd{old: bits&1 > 0, then: then, open: bits&2 > 0, crash: bits&4 > 0}
			if !e.old || !e.open || e.left() {
				all = append(all, e)
			}
		}
	}
	return all
}

// lateEndings is the workload.
type lateEndings struct {
	*transactions
	broker  *process
	network *proxy
	random  *rand.Rand
	admin   *kadm.Client
}

func startLateEnds(t *testing.T, seed uint64, more time.Duration) (*lateEndings, context.Context) {
	t.Helper()
	l := &lateEndings{network: newProxy(t), random: rand.New(rand.NewPCG(seed, 0))}
	l.broker = newBehind(t, l.network)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+more)
	t.Cleanup(cancel)
	if err := l.broker.start(); err != nil {
		t.Fatal(err)
	}
	if err := l.broker.serving(ctx); err != nil {
		t.Fatal(err)
	}
	var reading context.Context
	l.transactions, reading = newTransactions(ctx, t, l.network.addr)
	l.followers(reading, t)
	client, err := kgo.NewClient(impatient(l.network.addr)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	l.admin = kadm.NewClient(client)
	return l, ctx
}

func (l *lateEndings) client(id string, old bool) (*kgo.Client, error) {
	options := append(l.transactional(id), kgo.TransactionTimeout(5*time.Minute))
	if old {
		options = append(options, kgo.MaxVersions(kversion.V3_9_0()))
	}
	return kgo.NewClient(options...)
}

// round has a transaction whose EndTxn is late, and the next.
func (l *lateEndings) round(ctx context.Context, t *testing.T, id string, e lateEnd) error {
	client, err := l.client(id, e.old)
	if err != nil {
		return err
	}
	defer func() { client.Close() }()
	process := l.history.process()
	first, err := l.begin(ctx, client, process)
	if err != nil {
		return err
	}
	caught, err := l.end(ctx, client, first, e)
	if err != nil {
		return err
	}
	if e.then == isReplaced {
		client.Close()
		if client, err = l.client(id, e.old); err != nil {
			return err
		}
		process = l.history.process()
	}
	if _, _, err := client.ProducerID(ctx); err != nil { // a client that gave up has its new epoch from here on
		return err
	}
	var next *history.Op
	if e.open {
		if next, err = l.begin(ctx, client, process); err != nil {
			return err
		}
	}
	before, err := l.settled(ctx, id)
	if err != nil {
		return err
	}
	if e.crash && controlProgram() == "" { // which would take its time to be back
		l.broker.kill()
		if err := errors.Join(l.broker.start(), l.broker.serving(ctx)); err != nil {
			return err
		}
		if _, err := l.settled(ctx, id); err != nil {
			return err
		}
	}
	code, err := l.deliver(ctx, caught)
	if err != nil {
		return err
	}
	if refused := code != 0; refused != (e.left() || e.open) {
		t.Errorf("%v: the late EndTxn is answered with %v", e, kerr.TypedErrorForCode(code))
	}
	now, err := l.settled(ctx, id)
	if err != nil {
		return err
	}
	if now != before {
		t.Errorf("%v: the late EndTxn has made %+v of %+v", e, now, before)
	}
	if !e.open {
		next, err = l.begin(ctx, client, process)
	} else {
		err = l.send(ctx, client, next)
	}
	if err != nil {
		return err
	}
	commit := l.random.IntN(3) > 0
	if err := client.EndTransaction(ctx, l.asks(next, commit)); err != nil {
		return fmt.Errorf("end the next transaction: %w", err)
	}
	l.over(next, commit)
	return nil
}

// begin begins a transaction in all partitions.
func (l *lateEndings) begin(ctx context.Context, client *kgo.Client, process int) (*history.Op, error) {
	op := &history.Op{Process: process, Transaction: true, Start: l.history.now()}
	if err := client.BeginTransaction(); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return op, l.send(ctx, client, op)
}

func (l *lateEndings) send(ctx context.Context, client *kgo.Client, op *history.Op) error {
	var records []*kgo.Record
	for p := range int32(txnPartitions) {
		for _, topic := range []string{txnInput, txnOutput} {
			records = append(records, valued(topic, p, l.history.values.Add(1), 0))
		}
	}
	step, err := l.sent(ctx, client, records)
	op.Steps = append(op.Steps, step)
	return err
}

// asks notes which end a transaction is about to be asked for.
func (l *lateEndings) asks(op *history.Op, commit bool) kgo.TransactionEndTry {
	if commit {
		op.CommitStart = l.history.now()
	}
	return kgo.TransactionEndTry(commit)
}

// over notes how a transaction has ended.
func (l *lateEndings) over(op *history.Op, committed bool) {
	op.Outcome = history.OK
	if !committed {
		op.Outcome, op.CommitStart = history.Fail, 0
	}
	l.ended(*op)
}

// end has a client ask for the end of a transaction, catches the request, and lets the client do what it does then.
func (l *lateEndings) end(ctx context.Context, client *kgo.Client, op *history.Op, e lateEnd) ([]byte, error) {
	lost := map[after]int64{isAnswered: 0, asksAgain: 1, givesUp: math.MaxInt64, isReplaced: math.MaxInt64}[e.then]
	first := l.network.catches(int16(kmsg.EndTxn), lost)
	asking, stop := context.WithCancel(ctx)
	defer stop()
	commit := l.random.IntN(2) > 0
	answered := make(chan error, 1)
	end := l.asks(op, commit)
	go func() { answered <- client.EndTransaction(asking, end) }()
	var caught []byte
	select {
	case caught = <-first:
	case <-ctx.Done():
		return nil, fmt.Errorf("no EndTxn comes: %w", context.Cause(ctx))
	}
	if e.left() {
		stop()
	}
	err := <-answered
	l.network.catch.Store(nil)
	if version := requestVersion(caught); e.old != (version < 5) {
		return nil, fmt.Errorf("the client sends EndTxn of version %d", version)
	}
	switch {
	case !e.left() && err != nil:
		return nil, fmt.Errorf("end: %w", err)
	case e.left() && err == nil:
		return nil, errors.New("a lost EndTxn was answered")
	case e.then == givesUp:
		if err := client.EndTransaction(ctx, kgo.TryAbort); err != nil {
			return nil, fmt.Errorf("give up: %w", err)
		}
	}
	// The producer id is taken anew before the EndTxn comes, so a transaction that was left is aborted.
	l.over(op, commit && !e.left())
	return caught, nil
}

func requestVersion(frame []byte) int16 { return int16(binary.BigEndian.Uint16(frame[6:])) }

// deliver delivers an EndTxn that was caught, and returns the code that answers it.
func (l *lateEndings) deliver(ctx context.Context, caught []byte) (int16, error) {
	for {
		answer, err := l.network.deliver(ctx, caught)
		if err != nil {
			return 0, fmt.Errorf("deliver: %w", err)
		}
		resp := kmsg.NewPtrEndTxnResponse()
		resp.SetVersion(requestVersion(caught))
		header := 8 // length and correlation id
		if resp.IsFlexible() {
			header++ // no tags
		}
		if err := resp.ReadFrom(answer[header:]); err != nil {
			return 0, fmt.Errorf("the answer: %w", err)
		}
		if resp.ErrorCode != kerr.ConcurrentTransactions.Code {
			return resp.ErrorCode, nil
		}
	}
}

// known is what a coordinator knows of a transactional id.
type known struct {
	State      string
	ProducerID int64
	Epoch      int16
	Started    int64
	Partitions string
}

// settled waits until no transaction of id is just being ended, and returns what is known of it.
func (l *lateEndings) settled(ctx context.Context, id string) (known, error) {
	for {
		all, err := l.admin.DescribeTransactions(ctx, id)
		d, err2 := all.On(id, nil)
		err = errors.Join(err, err2, d.Err)
		if err == nil && !strings.HasPrefix(d.State, "Prepare") {
			var partitions []string
			d.Topics.Each(func(topic string, partition int32) { partitions = append(partitions, partitionName(topic, partition)) })
			slices.Sort(partitions)
			return known{d.State, d.ProducerID, d.ProducerEpoch, d.StartTimestamp, strings.Join(partitions, " ")}, nil
		}
		select {
		case <-ctx.Done():
			return known{}, fmt.Errorf("%s does not settle: %w", id, errors.Join(context.Cause(ctx), err))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
