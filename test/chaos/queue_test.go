package chaos_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/test/chaos/history"
)

const (
	queueTopic      = "queue"
	queuePartitions = 3
	queueSenders    = 3
	// lateTopic has one partition, which is written as those of queueTopic are, and read by nobody until the end, as by a consumer that comes
	// late: what is lost of it nobody had polled before.
	lateTopic = "late"
)

// TestQueueHistories has clients send to and poll from a topic, by assignment, as groups of the classic and of the consumer protocol that
// commit, as one whose clients commit by themselves, and as a share group, while the broker is killed and stopped, and connections are cut,
// lose answers and are slow. What all of them saw is then held against itself: see package history for the anomalies.
//
// TIMES says how many faults there are, SEED replays their choice.
func TestQueueHistories(t *testing.T) {
	faults, seed := proof.Times(t, 12, 40, 4000), proof.Seed(t)
	row := proof.Start(t, "history-queue", "faults", seed)
	done := map[fault]int{}
	var acked, polled, accepted int64
	inFolders(t, faults, historyFaults, seed, func(t *testing.T, faults int, seed uint64) {
		q := strikeQueue(t, row, done, faults, seed)
		acked, polled, accepted = acked+q.history.acked.Load(), polled+q.history.polled.Load(), accepted+q.history.accepted.Load()
	})
	row.Note("%v; %d records acknowledged, %d polled, %d accepted", done, acked, polled, accepted)
}

// historyFaults is how many faults one history has at most.
const historyFaults = 200

// strikeQueue has faults strike a broker with a new folder, and judges the history of its clients.
func strikeQueue(t *testing.T, row *proof.Proof, done map[fault]int, faults int, seed uint64) *queue {
	t.Helper()
	ctx, cancel, f := startFaulty(t, row, done, faults, seed)
	defer cancel()
	q := startQueue(ctx, t, f.network.addr, seed)
	f.beforeKill = q.awaitAccepted
	f.strikes(ctx, t, faults, 60, q.awaitMore)
	q.finish(ctx, t, f.broker.output)
	return q
}

// faulty strikes a broker and the network before it.
type faulty struct {
	row     *proof.Proof // counts the faults
	broker  *process
	network *proxy
	random  *rand.Rand
	deck    []fault // yet to be drawn
	done    map[fault]int
	// beforeKill, unless nil, waits for what is the last to be back after a fault, and would never be there when the broker is killed.
	beforeKill func(context.Context) bool
}

// startFaulty starts a broker with a new folder behind a network that faults can strike, and returns the time that so many may take.
func startFaulty(t *testing.T, row *proof.Proof, done map[fault]int, faults int, seed uint64) (context.Context, context.CancelFunc, *faulty) {
	t.Helper()
	network := newProxy(t)
	f := &faulty{row: row, done: done, broker: newBehind(t, network), network: network, random: rand.New(rand.NewPCG(seed, 0))}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(faults)*(3*time.Second+f.broker.rest))
	if err := f.broker.start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	if err := f.broker.serving(ctx); err != nil {
		cancel()
		t.Fatal(err)
	}
	return ctx, cancel, f
}

type fault string

// deck is what is drawn from: ten faults have some of each kind.
var deck = []fault{"kill", "kill", "kill", "pause", "cut", "cut", "lost answers", "lost answers", "lost answers", "slow"}

// strikes does n faults, each after up to spacing more of what await waits for. It ends early when await or the test says so.
func (f *faulty) strikes(ctx context.Context, t *testing.T, n, spacing int, await func(context.Context, int) bool) {
	t.Helper()
	for range n {
		if !await(ctx, 1+f.random.IntN(spacing)) {
			return
		}
		f.strike(ctx, t)
		if t.Failed() {
			return
		}
		f.row.Tried(1)
	}
}

// strike does one fault, drawn by chance, and waits until the broker serves again.
func (f *faulty) strike(ctx context.Context, t *testing.T) {
	t.Helper()
	if len(f.deck) == 0 {
		f.deck = slices.Clone(deck)
		f.random.Shuffle(len(f.deck), func(i, j int) { f.deck[i], f.deck[j] = f.deck[j], f.deck[i] })
	}
	drawn := f.deck[0]
	f.deck = f.deck[1:]
	f.done[drawn]++
	switch drawn {
	case "kill":
		if f.beforeKill != nil && !f.beforeKill(ctx) {
			t.Error("what is awaited before a kill does not come")
			return
		}
		out := f.broker.output
		f.broker.kill()
		if out.trouble() { // this is the last fault then; the history tells what came of it
			t.Errorf("the broker had a problem of its own before a kill:\n%s", out)
		}
		time.Sleep(f.broker.rest)
		if err := f.broker.start(); err != nil {
			t.Fatal(err)
		}
		if err := f.broker.serving(ctx); err != nil {
			t.Fatal(err)
		}
	case "pause":
		if err := f.broker.pause(time.Duration(50+f.random.IntN(400)) * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	case "cut":
		f.network.cut()
	case "lost answers":
		f.network.loseAnswers(1 + f.random.IntN(20))
	case "slow":
		f.network.delay.Store(int64(20 * time.Millisecond))
		time.Sleep(100 * time.Millisecond)
		f.network.delay.Store(0)
	}
}

// queue is the workload: senders, and readers of each form.
type queue struct {
	addr    string
	history *recorder
	stop    chan struct{} // ends the senders
	senders sync.WaitGroup
	leave   context.CancelFunc // ends the readers
	readers sync.WaitGroup
	groups  []string // which are given everything at the end
}

// impatient are the options of clients that are back soon after a fault. AlwaysRetryEOF: see produceUntil.
func impatient(addr string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(addr), kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }), kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.RequestRetries(1 << 30), kgo.AlwaysRetryEOF(), kgo.DialTimeout(time.Second), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
}

func startQueue(ctx context.Context, t *testing.T, addr string, seed uint64) *queue {
	t.Helper()
	q, reading := newQueue(ctx, t, addr)
	q.groups = []string{committing, committingConsumers, sharing}
	q.beginAtStart(ctx, t)
	for id := range queueSenders {
		random := rand.New(rand.NewPCG(seed, uint64(id+1)))
		q.senders.Go(func() { q.send(ctx, t, random) })
	}
	for id := range 2 {
		random := rand.New(rand.NewPCG(seed, uint64(id+100)))
		q.readers.Go(func() { q.assigned(reading, t, random) })
	}
	for id := range 2 {
		for kind, group := range []string{committing, committingConsumers} {
			random := rand.New(rand.NewPCG(seed, uint64(id+200+10*kind)))
			q.readers.Go(func() { q.subscribed(reading, t, group, random) })
		}
		random := rand.New(rand.NewPCG(seed, uint64(id+220)))
		q.readers.Go(func() { q.shared(reading, t, random) })
	}
	q.readers.Go(func() { q.subscribed(reading, t, autoCommitting, rand.New(rand.NewPCG(seed, 300))) })
	return q
}

// newQueue is the workload without any clients, and the context of those who read.
func newQueue(ctx context.Context, t *testing.T, addr string) (*queue, context.Context) {
	t.Helper()
	q := &queue{addr: addr, history: newRecorder(), stop: make(chan struct{})}
	client, err := kgo.NewClient(impatient(addr)...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	_, err = admin.CreateTopic(ctx, queuePartitions, 1, nil, queueTopic)
	_, lateErr := admin.CreateTopic(ctx, 1, 1, nil, lateTopic)
	if err = errors.Join(err, lateErr); err != nil {
		t.Fatal(err)
	}
	reading, leave := context.WithCancel(ctx)
	q.leave = leave
	t.Cleanup(func() {
		leave()
		q.readers.Wait()
	})
	return q, reading
}

// The groups: two commit after each poll, in the classic and in the consumer protocol (KIP-848), one leaves it to its clients.
const (
	committing          = "committing"
	committingConsumers = "committing-consumers"
	autoCommitting      = "auto-committing"
)

// awaitMore waits until n more records are acknowledged. false: that does not come, which the end of the workload will explain.
func (q *queue) awaitMore(ctx context.Context, n int) bool {
	return q.await(ctx, &q.history.acked, q.history.acked.Load()+int64(n))
}

// awaitAccepted waits until the share group has accepted more. false: that does not come.
func (q *queue) awaitAccepted(ctx context.Context) bool {
	return q.await(ctx, &q.history.accepted, q.history.accepted.Load()+1)
}

// await waits until a count of the history is at least goal. false: it did not get there in time.
func (q *queue) await(ctx context.Context, count *atomic.Int64, goal int64) bool {
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for count.Load() < goal {
		select {
		case <-q.history.grew:
		case <-bounded.Done():
			return false
		}
	}
	return true
}

// maxPadding makes records of up to this many bytes, so that segments roll within a run.
const maxPadding = 4 << 10

// send sends records until it is told to stop, by an idempotent producer with as much in flight as maxUnacknowledged allows. Each record is
// an operation.
func (q *queue) send(ctx context.Context, t *testing.T, random *rand.Rand) {
	client, err := kgo.NewClient(append(impatient(q.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordRetries(1<<30),
		kgo.UnknownTopicRetries(-1), kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(maxUnacknowledged()), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	process := q.history.process()
	for {
		select {
		case <-q.stop:
			bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if err := client.Flush(bounded); err != nil {
				t.Errorf("process %d: records are still not acknowledged: %v", process, err)
			}
			return
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(random.IntN(3)) * time.Millisecond):
		}
		start, value, topic, partition := q.history.now(), q.history.values.Add(1), queueTopic, int32(random.IntN(queuePartitions+1))
		if partition == queuePartitions {
			topic, partition = lateTopic, 0
		}
		client.Produce(ctx, valued(topic, partition, value, random.IntN(maxPadding)), func(r *kgo.Record, err error) {
			op := history.Op{Process: process, Start: start, Outcome: history.OK}
			sent := history.Record{Partition: partitionName(topic, partition), Offset: r.Offset, Value: value}
			if err != nil {
				op.Outcome, sent.Offset = history.Info, history.UnknownOffset
				t.Logf("process %d: send %d: %v", process, value, err)
			}
			op.Steps = []history.Step{{Action: history.Send, Records: []history.Record{sent}}}
			q.history.ended(op)
		})
	}
}

// maxPolled is how many records a poll returns at most.
const maxPolled = 500

// crashOdds is how many polls a reader lives, in the middle.
const crashOdds = 50

// assigned polls all partitions from their start, and now and then is a new client that does so.
func (q *queue) assigned(ctx context.Context, t *testing.T, random *rand.Rand) {
	offsets := map[int32]kgo.Offset{}
	for p := range int32(queuePartitions) {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	for ctx.Err() == nil {
		client, err := kgo.NewClient(append(impatient(q.addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{queueTopic: offsets}))...)
		if err != nil {
			t.Error(err)
			return
		}
		process := q.history.process()
		for first := true; ctx.Err() == nil && (first || random.IntN(crashOdds) > 0); first = false {
			q.poll(ctx, t, client, history.Op{Process: process, Start: q.history.now()})
		}
		client.Close()
	}
}

// poll polls once for op.
func (q *queue) poll(ctx context.Context, t *testing.T, client *kgo.Client, op history.Op) []*kgo.Record {
	return q.polled(ctx, t, history.Poll, client.PollRecords(ctx, maxPolled), op)
}

// polled notes op, whose action is to poll or to be delivered to, if a poll returned any records, and returns these.
func (q *queue) polled(ctx context.Context, t *testing.T, action history.Action, fetches kgo.Fetches, op history.Op) []*kgo.Record {
	for _, e := range fetches.Errors() {
		if ctx.Err() == nil && !kerr.IsRetriable(e.Err) {
			t.Logf("process %d: poll of partition %d: %v", op.Process, e.Partition, e.Err)
		}
	}
	records := fetches.Records()
	if len(records) == 0 {
		return nil
	}
	polled := history.Step{Action: action}
	for _, r := range records {
		s, err := seen(r)
		if err != nil {
			t.Error(err)
			continue
		}
		polled.Records = append(polled.Records, s)
	}
	op.Outcome, op.Steps = history.OK, []history.Step{polled}
	q.history.ended(op)
	return records
}

// subscribed polls as a member of a group, which commits after each poll or leaves it to its client, and now and then is a new client.
func (q *queue) subscribed(ctx context.Context, t *testing.T, group string, random *rand.Rand) {
	for ctx.Err() == nil && q.member(ctx, t, group, random) {
	}
}

// member is one life of a member. false: it could not begin.
func (q *queue) member(ctx context.Context, t *testing.T, group string, random *rand.Rand) bool {
	var moved atomic.Bool
	moves := func(context.Context, *kgo.Client, map[string][]int32) { moved.Store(true) }
	options := append(impatient(q.addr), kgo.ConsumeTopics(queueTopic), kgo.ConsumerGroup(group), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(moves), kgo.OnPartitionsRevoked(moves), kgo.OnPartitionsLost(moves),
		kgo.SessionTimeout(2*time.Second), kgo.HeartbeatInterval(100*time.Millisecond), kgo.AutoCommitInterval(100*time.Millisecond))
	if group != autoCommitting {
		options = append(options, kgo.DisableAutoCommit())
	}
	if group == committingConsumers {
		options = append(options, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())) // the uniform assignor of the broker
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		t.Error(err)
		return false
	}
	defer client.CloseAllowingRebalance()
	odds := crashOdds
	if group == committingConsumers {
		odds /= 5 // a broker that is back still knows these members and what they have: only new ones ask for what is committed
	}
	process := q.history.process()
	for first := true; ctx.Err() == nil && (first || random.IntN(odds) > 0); first = false {
		op := history.Op{Process: process, Group: group, Start: q.history.now()}
		fetches := client.PollRecords(ctx, maxPolled)
		op.Moved = fetches.NumRecords() > 0 && moved.Swap(false) // a poll without records is not noted
		records := q.polled(ctx, t, history.Poll, fetches, op)
		if len(records) > 0 && group != autoCommitting {
			q.commit(ctx, client, process, group, records)
		}
		client.AllowRebalance()
	}
	return true
}

// commit commits what was polled.
func (q *queue) commit(ctx context.Context, client *kgo.Client, process int, group string, records []*kgo.Record) {
	op := history.Op{Process: process, Group: group, Start: q.history.now(), Outcome: history.OK}
	next := map[int32]int64{}
	for _, r := range records {
		next[r.Partition] = r.Offset + 1
	}
	step := history.Step{Action: history.Commit}
	for partition, offset := range next {
		step.Records = append(step.Records, history.Record{Partition: partitionName(queueTopic, partition), Offset: offset})
	}
	op.Steps = []history.Step{step}
	bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := client.CommitRecords(bounded, records...); err != nil {
		op.Outcome = history.Info
	}
	q.history.ended(op)
}

// finish ends the workload, reads everything once more, and holds the history against itself.
func (q *queue) finish(ctx context.Context, t *testing.T, out *output) {
	t.Helper()
	close(q.stop)
	q.senders.Wait()
	all := q.readAll(ctx, t)
	if slices.Contains(q.groups, sharing) {
		q.awaitNoLag(ctx, t, sharing, shareLag)
	}
	q.leave()
	q.readers.Wait()
	var last sync.WaitGroup
	for _, group := range q.groups {
		if group != sharing {
			last.Go(func() { q.catchUp(ctx, t, group) })
		}
	}
	last.Wait()
	if out.trouble() {
		t.Errorf("the broker had a problem of its own:\n%s", out)
	}
	q.history.check(t, queueTopic, history.Options{PolledAll: all, Groups: q.groups, Ungrouped: []string{partitionName(lateTopic, 0)}})
}

// readAll polls until the end of every partition of both topics, and reports whether it got there.
func (q *queue) readAll(ctx context.Context, t *testing.T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	offsets := map[string]map[int32]kgo.Offset{queueTopic: {}, lateTopic: {0: kgo.NewOffset().AtStart()}}
	for p := range int32(queuePartitions) {
		offsets[queueTopic][p] = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(append(impatient(q.addr), kgo.ConsumePartitions(offsets))...)
	if err != nil {
		t.Error(err)
		return false
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, queueTopic, lateTopic)
	if err = errors.Join(err, ends.Error()); err != nil {
		t.Errorf("the ends of the logs: %v", err)
		return false
	}
	process, next := q.history.process(), map[string]int64{}
	for topic, partitions := range ends {
		for p, end := range partitions {
			for name := partitionName(topic, p); next[name] < end.Offset; {
				if ctx.Err() != nil {
					t.Errorf("the last polls got to offset %d of %s, which ends at %d", next[name], name, end.Offset)
					return false
				}
				for _, r := range q.poll(ctx, t, client, history.Op{Process: process, Start: q.history.now()}) {
					polled := partitionName(r.Topic, r.Partition)
					next[polled] = max(next[polled], r.Offset+1)
				}
			}
		}
	}
	return true
}

// catchUp has a last member of a group go on from what was committed, to the end.
func (q *queue) catchUp(ctx context.Context, t *testing.T, group string) {
	t.Helper()
	reading, leave := context.WithCancel(ctx)
	var reader sync.WaitGroup
	reader.Go(func() { q.subscribed(reading, t, group, rand.New(rand.NewPCG(1, 1))) })
	defer reader.Wait()
	defer leave()
	q.awaitNoLag(ctx, t, group, func(ctx context.Context, client *kgo.Client) (lag int64, err error) {
		admin := kadm.NewClient(client)
		committed, err := admin.FetchOffsets(ctx, group)
		ends, endsErr := admin.ListEndOffsets(ctx, queueTopic)
		ends.Each(func(end kadm.ListedOffset) {
			lag += end.Offset
			if c, ok := committed.Lookup(end.Topic, end.Partition); ok {
				lag -= max(c.At, 0)
			}
		})
		err = errors.Join(err, committed.Error(), endsErr, ends.Error())
		if group == committingConsumers { // and is it a group of the consumer protocol?
			described, describeErr := admin.DescribeConsumerGroups(ctx, group)
			err = errors.Join(err, describeErr, described.Error())
		}
		return lag, err
	})
}

// awaitNoLag waits until a group lags behind by no record.
func (q *queue) awaitNoLag(ctx context.Context, t *testing.T, group string, lagOf func(context.Context, *kgo.Client) (int64, error)) {
	t.Helper()
	client, err := kgo.NewClient(impatient(q.addr)...)
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	bounded, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		lag, err := lagOf(bounded, client)
		if err == nil && lag == 0 {
			return
		}
		select {
		case <-bounded.Done():
			t.Errorf("group %s does not finish every record: it lags behind by %d (%v)", group, lag, err)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}
