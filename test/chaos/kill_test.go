package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	killTopic      = "killed"
	killPartitions = 6
	killProducers  = 4
)

// TestKillNineLosesNothing kills the real binary with SIGKILL under load from idempotent producers, again and again on one data folder,
// and then finds every acknowledged record at its offset, in its producer's order, once. KILLS says how often (default 50), SEED
// replays the moments.
func TestKillNineLosesNothing(t *testing.T) {
	kills := 50
	if s := os.Getenv("KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("KILLS=%q is not a number", s)
		}
		kills = n
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("SEED=%q is not a number", s)
		}
		seed = n
	}
	t.Logf("SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	// Small segments and a small wal: rolls, checkpoints and recycled files happen within one run.
	broker := newProcess(t, "log.segment.bytes=1048576", "ottla.wal.max.bytes=33554432", "num.partitions=6", "group.initial.rebalance.delay.ms=0")
	if err := broker.start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(kills)*3*time.Second)
	defer cancel()
	if err := broker.serving(ctx); err != nil {
		t.Fatal(err)
	}
	createTopic(ctx, t, broker.addr)

	acked := newLedger()
	var producers sync.WaitGroup
	stop := make(chan struct{})
	for id := range killProducers {
		producers.Go(func() { produceUntil(ctx, t, stop, broker.addr, id, rand.New(rand.NewPCG(seed, uint64(id+1))), acked) })
	}
	began, slowest := time.Now(), time.Duration(0)
	for kill := range kills {
		// Most kills come under load; some come while the broker recovers from the one before.
		if random.IntN(5) > 0 {
			acked.awaitMore(ctx, t, 1+random.IntN(200))
		} else {
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		}
		output := broker.kill()
		if strings.Contains(output, "level=ERROR") || strings.Contains(output, "panic") {
			t.Fatalf("before kill %d the broker had a problem of its own:\n%s", kill, output)
		}
		restart := time.Now()
		if err := broker.start(); err != nil {
			t.Fatal(err)
		}
		if random.IntN(5) > 0 {
			if err := broker.serving(ctx); err != nil {
				t.Fatalf("after kill %d: %v", kill, err)
			}
			slowest = max(slowest, time.Since(restart))
		}
	}
	if err := broker.serving(ctx); err != nil {
		t.Fatal(err)
	}
	close(stop)
	producers.Wait()
	if t.Failed() {
		return
	}
	check(ctx, t, broker.addr, acked)
	if err := broker.stop(); err != nil {
		t.Errorf("the last stop, by SIGTERM: %v", err)
	}
	t.Logf("%d kills in %.0f s, %d records acknowledged, slowest restart %d ms", kills, time.Since(began).Seconds(), acked.count(), slowest.Milliseconds())
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

// produceUntil sends numbered records with an idempotent producer that lives through the kills, and notes what was acknowledged.
func produceUntil(ctx context.Context, t *testing.T, stop <-chan struct{}, addr string, id int, random *rand.Rand, acked *ledger) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(killTopic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }), kgo.MetadataMinAge(10*time.Millisecond),
		kgo.RecordRetries(1<<30), kgo.RequestRetries(1<<30), kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(500),
		kgo.ProducerBatchMaxBytes(256<<10), kgo.UnknownTopicRetries(-1), kgo.ProducerBatchCompression(kgo.NoCompression()))
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
		default:
		}
		value := fmt.Sprintf("%d:%d:%s", id, n, padding[:random.IntN(len(padding))])
		record := &kgo.Record{Partition: int32(random.IntN(killPartitions)), Value: []byte(value)}
		client.Produce(ctx, record, func(r *kgo.Record, err error) {
			if err != nil {
				t.Errorf("producer %d: %v", id, err)
				return
			}
			acked.add(place{r.Partition, r.Offset}, string(r.Value))
		})
	}
}

type place struct {
	partition int32
	offset    int64
}

// ledger holds what was acknowledged.
type ledger struct {
	mu      sync.Mutex
	records map[place]string
	total   atomic.Int64
	grew    chan struct{}
}

func newLedger() *ledger {
	return &ledger{records: map[place]string{}, grew: make(chan struct{}, 1)}
}

func (l *ledger) add(at place, value string) {
	l.mu.Lock()
	l.records[at] = value
	l.mu.Unlock()
	l.total.Add(1)
	select {
	case l.grew <- struct{}{}:
	default:
	}
}

func (l *ledger) count() int64 { return l.total.Load() }

func (l *ledger) awaitMore(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for goal := l.count() + int64(n); l.count() < goal; {
		select {
		case <-l.grew:
		case <-ctx.Done():
			t.Fatalf("only %d records were acknowledged: %v", l.count(), ctx.Err())
		}
	}
}

// check reads everything back: what was acknowledged is there at its offset; offsets are dense; each producer's records come in order,
// each once, acknowledged or not.
func check(ctx context.Context, t *testing.T, addr string, acked *ledger) {
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
}
