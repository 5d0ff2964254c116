package chaos_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	killGroup     = "readers"
	killConsumers = 2
)

// load is what keeps a broker busy: producers, and a group of consumers that commits what it was given.
type load struct {
	addr      string
	acked     *ledger
	group     *groupLedger
	stop      chan struct{} // ends the producers
	producers sync.WaitGroup
	leave     chan struct{} // ends the consumers
	consumers sync.WaitGroup
	abandon   func() // ends all of them at once, whatever they wait for
}

// loadOptions say how much a load does. The zero value is as much as it can.
type loadOptions struct {
	seed  uint64
	pace  time.Duration // between two records of a producer
	clock func() int64  // read at each acknowledgment
}

// startLoad starts a broker and its load, which lives through whatever becomes of the broker.
func startLoad(ctx context.Context, t *testing.T, broker *process, o loadOptions) *load {
	t.Helper()
	if err := broker.start(); err != nil {
		t.Fatal(err)
	}
	if err := broker.serving(ctx); err != nil {
		t.Fatal(err)
	}
	createTopic(ctx, t, broker.addr)
	ctx, cancel := context.WithCancel(ctx)
	l := &load{addr: broker.addr, acked: newLedger(o.clock), group: newGroupLedger(o.clock), stop: make(chan struct{}), leave: make(chan struct{})}
	l.abandon = func() {
		cancel()
		l.producers.Wait()
		l.consumers.Wait()
	}
	t.Cleanup(l.abandon)
	for id := range killProducers {
		l.producers.Go(func() { produceUntil(ctx, t, l.stop, l.addr, id, o, l.acked) })
	}
	for range killConsumers {
		l.consumers.Go(func() { consumeUntil(ctx, t, l.leave, l.addr, l.group) })
	}
	l.consumers.Go(func() { l.group.watch(ctx, t, l.leave, l.addr) })
	return l
}

// finish ends the load and compares what its clients saw with what is there.
func (l *load) finish(ctx context.Context, t *testing.T) {
	t.Helper()
	close(l.stop)
	l.producers.Wait()
	if t.Failed() {
		close(l.leave)
		l.consumers.Wait()
		return
	}
	there := check(ctx, t, l.addr, l.acked)
	l.group.awaitAll(ctx, t, len(there))
	close(l.leave)
	l.consumers.Wait()
	l.group.check(ctx, t, l.addr, there)
}

// groupLedger holds what the group was given and what it committed.
type groupLedger struct {
	mu        sync.Mutex // guards the fields below
	given     map[place]string
	committed map[int32]int64 // highest offset whose commit was acknowledged
	moments   []committedAt
	clock     func() int64 // nil for none
	commits   atomic.Int64
	grew      chan struct{}
}

// committedAt is an acknowledged commit, and when that was by the clock.
type committedAt struct {
	place
	moment int64
}

func newGroupLedger(clock func() int64) *groupLedger {
	return &groupLedger{given: map[place]string{}, committed: map[int32]int64{}, clock: clock, grew: make(chan struct{}, 1)}
}

func (g *groupLedger) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.given)
}

// give notes what a consumer was given. A record given twice, which a restart may do, is the same both times.
func (g *groupLedger) give(t *testing.T, records []*kgo.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range records {
		at, name := place{r.Partition, r.Offset}, nameOf(r.Value)
		if before, ok := g.given[at]; ok && before != name {
			t.Errorf("partition %d offset %d was %q for one consumer and is %q for another", r.Partition, r.Offset, before, name)
		}
		g.given[at] = name
	}
	wake(g.grew)
}

// wake puts a token into a channel of capacity one.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (g *groupLedger) commit(records []*kgo.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range records {
		g.committed[r.Partition] = max(g.committed[r.Partition], r.Offset+1)
	}
	if g.clock != nil {
		now := g.clock()
		for p, o := range g.committed {
			g.moments = append(g.moments, committedAt{place{p, o}, now})
		}
	}
	g.commits.Add(1)
	wake(g.grew)
}

func (g *groupLedger) acknowledged() map[int32]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := map[int32]int64{}
	for p, o := range g.committed {
		c[p] = o
	}
	return c
}

func (g *groupLedger) awaitAll(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for g.count() < n {
		select {
		case <-g.grew:
		case <-ctx.Done():
			t.Fatalf("the group was given %d records of %d: %v", g.count(), n, context.Cause(ctx))
		}
	}
}

// compare looks at the committed offsets that the broker has now. The commits acknowledged by now must be among them; where the group
// stands beyond them, an answer was lost.
func (g *groupLedger) compare(ctx context.Context, t *testing.T, admin *kadm.Client) error {
	acknowledged := g.acknowledged()
	offsets, err := admin.FetchOffsets(ctx, killGroup)
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, killTopic)
	if err != nil {
		return err
	}
	if err := ends.Error(); err != nil {
		return err
	}
	for partition, least := range acknowledged {
		o, ok := offsets.Lookup(killTopic, partition)
		if ok && o.Err != nil {
			return o.Err
		}
		if !ok || o.At < least {
			t.Errorf("partition %d: the commit of offset %d was acknowledged, the broker has %d", partition, least, o.At)
		}
		if end, ok := ends.Lookup(killTopic, partition); !ok || o.At > end.Offset {
			t.Errorf("partition %d: offset %d is committed, the log ends at %d", partition, o.At, end.Offset)
		}
	}
	return nil
}

// watch compares again and again.
func (g *groupLedger) watch(ctx context.Context, t *testing.T, leave <-chan struct{}, addr string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RequestRetries(2), kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }))
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for {
		select {
		case <-leave:
			return
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
			bounded, cancel := context.WithTimeout(ctx, 2*time.Second)
			_ = g.compare(bounded, t, admin) // the broker may be down
			cancel()
		}
	}
}

// check looks once more at the end: everything that was given is there, everything that is there was given.
func (g *groupLedger) check(ctx context.Context, t *testing.T, addr string, there map[place]string) {
	t.Helper()
	g.mu.Lock()
	for at, name := range g.given {
		if there[at] != name {
			t.Errorf("partition %d offset %d: a consumer was given %q, the log holds %q", at.partition, at.offset, name, there[at])
		}
	}
	for at := range there {
		if _, ok := g.given[at]; !ok {
			t.Errorf("partition %d offset %d was given to no consumer", at.partition, at.offset)
		}
	}
	g.mu.Unlock()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := g.compare(ctx, t, kadm.NewClient(client)); err != nil {
		t.Errorf("committed offsets at the end: %v", err)
	}
}

// consumeUntil reads as a member of the group and commits after each poll.
func consumeUntil(ctx context.Context, t *testing.T, leave <-chan struct{}, addr string, g *groupLedger) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(killTopic), kgo.ConsumerGroup(killGroup), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.SessionTimeout(2*time.Second), kgo.HeartbeatInterval(200*time.Millisecond), kgo.MetadataMinAge(10*time.Millisecond), kgo.AlwaysRetryEOF(),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }))
	if err != nil {
		t.Error(err)
		return
	}
	defer client.CloseAllowingRebalance()
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-leave:
			cancel()
		case <-ctx.Done():
		}
	})
	defer watcher.Wait()
	defer cancel()
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 2000)
		records := fetches.Records()
		g.give(t, records)
		if len(records) > 0 {
			bounded, stop := context.WithTimeout(ctx, 3*time.Second)
			if err := client.CommitRecords(bounded, records...); err == nil {
				g.commit(records)
			}
			stop()
		}
		client.AllowRebalance()
	}
}

// passing creates topics and deletes most of them again.
type passing struct {
	addr string
	stop chan struct{}
	done sync.WaitGroup

	clock   func() int64     // 0 at all times if nil
	made    map[string]int64 // never to be deleted; when that was acknowledged, by the clock
	deleted map[string]int64 // when that was acknowledged
	gone    atomic.Int64     // how many
	grew    chan struct{}

	// losses counts losses of power, each before it happens. What was answered once one had begun does not count as acknowledged: an fdatasync
	// that is under way while ext4 is shut down succeeds, though what it wrote into a block for the first time is not there afterwards. etcd's
	// log has such blocks. (No such answer was ever seen of records: the blocks of our wal are written when it is made.)
	losses atomic.Int64
}

func startPassing(ctx context.Context, t *testing.T, addr string, clock func() int64) *passing {
	if clock == nil {
		clock = func() int64 { return 0 }
	}
	p := &passing{addr: addr, stop: make(chan struct{}), clock: clock, made: map[string]int64{}, deleted: map[string]int64{}, grew: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(func() {
		cancel()
		p.done.Wait()
	})
	p.done.Go(func() { p.run(ctx, t) })
	return p
}

func (p *passing) run(ctx context.Context, t *testing.T) {
	client, err := kgo.NewClient(kgo.SeedBrokers(p.addr), kgo.RequestRetries(2), kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }),
		kgo.MetadataMinAge(10*time.Millisecond), kgo.AlwaysRetryEOF(), kgo.DisableIdempotentWrite()) // which would wait for a broker that is gone for good
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return
		case <-ctx.Done():
			return
		case <-time.After(30 * time.Millisecond):
		}
		name := fmt.Sprintf("passing-%d", n)
		losses := p.losses.Load()
		bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
		created, err := admin.CreateTopic(bounded, 2, 1, nil, name)
		if err == nil && created.Err == nil {
			client.ProduceSync(bounded, &kgo.Record{Topic: name, Value: []byte(strings.Repeat("p", 2000))})
			if n%5 == 0 {
				if p.losses.Load() == losses {
					p.made[name] = p.clock()
				}
			} else if gone, err := admin.DeleteTopic(bounded, name); err == nil && gone.Err == nil && p.losses.Load() == losses {
				p.deleted[name] = p.clock()
				p.gone.Add(1)
				wake(p.grew)
			}
		}
		cancel()
	}
}

// finish compares the topics that there are with those that there should be, and returns how many were deleted.
func (p *passing) finish(ctx context.Context, t *testing.T) int {
	t.Helper()
	close(p.stop)
	p.done.Wait()
	p.compare(ctx, t, p.addr)
	return len(p.deleted)
}

// compare looks at the topics that a broker has.
func (p *passing) compare(ctx context.Context, t *testing.T, addr string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AlwaysRetryEOF())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name := range p.made {
		if !topics.Has(name) {
			t.Errorf("the creation of topic %s was acknowledged, and it is gone", name)
		}
	}
	for name := range p.deleted {
		if topics.Has(name) {
			t.Errorf("the deletion of topic %s was acknowledged, and it is there", name)
		}
	}
}
