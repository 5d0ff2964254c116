package chaos_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottlaio/ottla/internal/proof"
)

const (
	killTopic      = "killed"
	killPartitions = 6
	killProducers  = 4
)

// smallBroker has small segments and a small wal: rolls, checkpoints and recycled files happen within one run.
var smallBroker = []string{
	"log.segment.bytes=1048576", "ottla.wal.max.bytes=33554432", "num.partitions=6", "group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=1000",
}

// TestKillNineLosesNothing kills the real binary with SIGKILL under load from idempotent producers, a consumer group and topics that come
// and go, again and again on one data folder. Afterwards
//
//   - every acknowledged record is at its offset, in its producer's order, once;
//   - whatever a consumer was given is there too;
//   - no committed offset ever went back behind an acknowledged commit or beyond the log, and the group was given every record;
//   - a topic whose creation was acknowledged exists, one whose deletion was acknowledged does not.
//
// SEED replays the moments.
func TestKillNineLosesNothing(t *testing.T) {
	kills, seed := proof.Times(t, 50, 60, 3000), proof.Seed(t)
	row := proof.Start(t, "sigkill", "kills under load", seed)
	var s killed
	inFolders(t, kills, 100, seed, func(t *testing.T, kills int, seed uint64) { s.kill(t, row, kills, seed) })
	if t.Failed() {
		return
	}
	slices.Sort(s.restarts)
	row.Note("%d records acknowledged, %d consumed, %d commits, %d topics came and went; restarts took %d ms in the middle and %d ms at most",
		s.acked, s.consumed, s.commits, s.topics, s.restarts[len(s.restarts)/2].Milliseconds(), s.restarts[len(s.restarts)-1].Milliseconds())
}

// inFolders runs a proof of n tries as tests of most at most, each with a folder of its own and the seed after that of the one before:
// what a load leaves on disk and its clients remember is bounded.
func inFolders(t *testing.T, n, most int, seed uint64, run func(t *testing.T, n int, seed uint64)) {
	t.Helper()
	for ; n > 0 && !t.Failed(); n, seed = n-most, seed+1 {
		t.Run(fmt.Sprintf("SEED=%d", seed), func(t *testing.T) { run(t, min(n, most), seed) })
	}
}

// killed is what brokers did that were killed.
type killed struct {
	acked, commits   int64
	consumed, topics int
	restarts         []time.Duration
}

// kill starts a broker on a new folder and kills it so many times.
func (s *killed) kill(t *testing.T, row *proof.Proof, kills int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))

	broker := newProcess(t, smallBroker...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(kills)*3*time.Second)
	defer cancel()
	load := startLoad(ctx, t, broker, loadOptions{seed: seed})
	passing := startPassing(ctx, t, broker.addr, nil)

	for kill := range kills {
		// Most kills come under load, some after the group or the topics have got on, and some while the broker recovers from the one
		// before.
		switch k := random.IntN(10); {
		case k < 2:
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		case k < 5:
			awaitMore(ctx, t, "commits", load.group.commits.Load, load.group.grew, 1+random.IntN(3))
		case k < 6:
			awaitMore(ctx, t, "topics deleted", passing.gone.Load, passing.grew, 1)
		default:
			awaitMore(ctx, t, "records acknowledged", load.acked.count, load.acked.grew, 1+random.IntN(200))
		}
		out := broker.output
		broker.kill()
		if out.trouble() {
			t.Fatalf("before kill %d the broker had a problem of its own:\n%s", kill, out)
		}
		restart := time.Now()
		if err := broker.start(); err != nil {
			t.Fatal(err)
		}
		if random.IntN(5) > 0 || kill == 0 {
			if err := broker.serving(ctx); err != nil {
				t.Fatalf("after kill %d: %v", kill, err)
			}
			s.restarts = append(s.restarts, time.Since(restart))
		}
		if t.Failed() {
			t.Fatalf("at kill %d; the broker says:\n%s", kill, broker.output)
		}
		row.Tried(1)
	}
	if err := broker.serving(ctx); err != nil {
		t.Fatal(err)
	}
	topics := passing.finish(ctx, t)
	load.finish(ctx, t)
	if err := broker.stop(); err != nil {
		t.Errorf("the last stop, by SIGTERM: %v", err)
	}
	s.acked += load.acked.count()
	s.consumed += load.group.count()
	s.commits += load.group.commits.Load()
	s.topics += topics
}

func createTopic(ctx context.Context, t *testing.T, addr string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, killPartitions, 1, nil, killTopic); err != nil {
		t.Fatal(err)
	}
}

// produceUntil sends numbered records with an idempotent producer that lives through the kills, and notes what was acknowledged. AlwaysRetryEOF:
// else the client takes a connection that ends before its first answer for a broker that wants TLS or SASL, and gives up.
func produceUntil(ctx context.Context, t *testing.T, stop <-chan struct{}, addr string, id int, o loadOptions, acked *ledger) {
	random := rand.New(rand.NewPCG(o.seed, uint64(id+1)))
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(killTopic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }), kgo.MetadataMinAge(10*time.Millisecond),
		kgo.RecordRetries(1<<30), kgo.RequestRetries(1<<30), kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(500),
		kgo.ProducerBatchMaxBytes(256<<10), kgo.UnknownTopicRetries(-1), kgo.AlwaysRetryEOF(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	padding := strings.Repeat("x", 8<<10)
	for n := 0; ; n++ {
		select {
		case <-stop:
			if err := client.Flush(ctx); err != nil {
				t.Errorf("producer %d: flush: %v", id, err)
			}
			return
		case <-ctx.Done():
			return
		case <-time.After(o.pace):
		}
		value := fmt.Sprintf("%d:%d:%s", id, n, padding[:random.IntN(len(padding))])
		record := &kgo.Record{Partition: int32(random.IntN(killPartitions)), Value: []byte(value)}
		client.Produce(ctx, record, func(r *kgo.Record, err error) {
			if ctx.Err() != nil {
				return // the test is over
			}
			if err != nil {
				t.Errorf("producer %d: %v", id, err)
				return
			}
			if before, ok := acked.add(place{r.Partition, r.Offset}, string(r.Value)); ok {
				t.Errorf("partition %d offset %d was acknowledged for %.20q and for %.20q", r.Partition, r.Offset, before, r.Value)
			}
		})
	}
}

type place struct {
	partition int32
	offset    int64
}

// ledger holds what was acknowledged.
type ledger struct {
	mu      sync.Mutex // guards the fields below
	records map[place]string
	moments map[place]int64 // when, by the clock
	clock   func() int64    // nil for none
	total   atomic.Int64
	grew    chan struct{}
}

func newLedger(clock func() int64) *ledger {
	return &ledger{records: map[place]string{}, moments: map[place]int64{}, clock: clock, grew: make(chan struct{}, 1)}
}

// add notes an acknowledged record. If another one was acknowledged at that place before, add returns it.
func (l *ledger) add(at place, value string) (before string, used bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, used = l.records[at]
	l.records[at] = value
	if l.clock != nil {
		l.moments[at] = l.clock()
	}
	l.total.Add(1)
	wake(l.grew)
	return before, used
}

func (l *ledger) count() int64 { return l.total.Load() }

// awaitMore waits until count has grown by n. grew gets a token when it may have.
func awaitMore(ctx context.Context, t *testing.T, what string, count func() int64, grew <-chan struct{}, n int) {
	t.Helper()
	for goal := count() + int64(n); count() < goal; {
		select {
		case <-grew:
		case <-ctx.Done():
			t.Fatalf("%s: only %d: %v", what, count(), context.Cause(ctx))
		}
	}
}

// check reads everything back: what was acknowledged is there at its offset; offsets are dense; each producer's records come in order,
// each once, acknowledged or not. It returns what is there.
func check(ctx context.Context, t *testing.T, addr string, acked *ledger) map[place]string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(killTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, killTopic)
	if err != nil {
		t.Fatal(err)
	}
	left := int64(0)
	next := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	last := map[[2]int]int{} // producer and partition → the number last seen
	found := 0
	there := map[place]string{}
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil && !kerr.IsRetriable(err) {
			t.Fatal(err)
		}
		for _, e := range fetches.Errors() {
			t.Fatalf("partition %d: %v", e.Partition, e.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			if r.Offset != next[r.Partition] {
				t.Fatalf("partition %d: offset %d follows %d", r.Partition, r.Offset, next[r.Partition]-1)
			}
			next[r.Partition]++
			there[place{r.Partition, r.Offset}] = nameOf(r.Value)
			if want, ok := acked.records[place{r.Partition, r.Offset}]; ok {
				found++
				if want != string(r.Value) {
					t.Errorf("partition %d offset %d holds %.20q, acknowledged was %.20q", r.Partition, r.Offset, r.Value, want)
				}
			}
			fields := strings.SplitN(string(r.Value), ":", 3)
			id, err1 := strconv.Atoi(fields[0])
			n, err2 := strconv.Atoi(fields[1])
			if err1 != nil || err2 != nil {
				t.Fatalf("partition %d offset %d: not a record of ours: %.40q", r.Partition, r.Offset, r.Value)
			}
			key := [2]int{id, int(r.Partition)}
			if before, ok := last[key]; ok && n <= before {
				t.Errorf("partition %d offset %d: producer %d's record %d comes after its record %d", r.Partition, r.Offset, id, n, before)
			}
			last[key] = n
		})
	}
	if found != len(acked.records) {
		t.Errorf("%d acknowledged records are missing", len(acked.records)-found)
	}
	return there
}

// nameOf is a record's producer and number, without the padding.
func nameOf(value []byte) string { return string(value[:max(0, bytes.LastIndexByte(value, ':'))]) }
