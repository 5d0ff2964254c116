package txn

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/coordtest"
	"github.com/ottlaio/ottla/internal/proof"
)

// The fault model: appends to the coordinator's log are refused, or become durable late; markers are late, or are refused after any of the
// partitions of a transaction; the process dies at any moment, and of what was not durable by then in the one write-ahead log, which holds
// the coordinator's records and those of the partitions in one order, any prefix survives; state is given up and replayed at any moment;
// requests to end a transaction come again long after. Clients are of transaction version 0 and 2, two with each transactional id.
// Whatever happens:
//
//   - all records of a transaction have the same end, and in the end they have one, by the timeout if nobody asks for it;
//   - a commit or abort that was answered stays what it is, and nothing is committed whose commit was not asked for;
//   - no partition refuses a marker, since none comes from an older epoch than what it is to end;
//   - the epoch of a transactional id never goes back, and nobody with an older one adds to a transaction;
//   - replaying the log gives the state that the coordinator has, its memory is what it says and within its budget, and transactional ids
//     that nobody uses are forgotten.

const (
	historySteps   = 250
	dataPartitions = 4
)

// TestHistories tries random histories. A seed that fails is printed in the test's name.
func TestHistories(t *testing.T) {
	t.Parallel()
	histories, first := uint64(proof.Times(t, 60, 3000, 150_000)), proof.Seed(t)
	row := proof.Start(t, "coordinator-transactions", "histories in simulated time", first)
	var crashes, commits, aborts atomic.Int64
	for worker := range uint64(runtime.GOMAXPROCS(0)) {
		t.Run(fmt.Sprintf("worker=%d", worker), func(t *testing.T) {
			t.Parallel()
			for seed := first + worker; seed < first+histories; seed += uint64(runtime.GOMAXPROCS(0)) {
				if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
					rnd := rand.New(rand.NewPCG(seed, 5))
					synctest.Test(t, func(t *testing.T) {
						h := history(t, rnd.IntN)
						crashes.Add(h.crashes)
						commits.Add(h.commits)
						aborts.Add(h.aborts)
					})
				}) {
					row.Lost(1)
					return
				}
				row.Tried(1)
			}
		})
	}
	t.Cleanup(func() {
		row.Note("of %d steps each, with %d crashes between two steps, %d commits, %d aborts", historySteps, crashes.Load(), commits.Load(), aborts.Load())
	})
}

// entry is a record of a transaction or a marker, in the log of a partition.
type entry struct {
	partition int32
	by        base.ProducerID
	epoch     base.ProducerEpoch
	of        *attempt // nil: a marker
	marker    Marker
	batches   int  // of the coordinator that come before it in the write-ahead log
	at        int  // among the entries
	lost      bool // in a crash
}

// attempt is a transaction as its client knows it.
type attempt struct {
	name        string
	asked, told string // how it was to end, and how it did: "commit", "abort", or "" if nothing is known
}

// historyClient is a transactional producer with one request under way at most.
type historyClient struct {
	id       string
	producer Producer
	version  int16
	lives    int // how often it started
	busy     bool
	current  *attempt
	added    map[int32]bool // partitions of current
	written  []*entry       // of current
	spoilt   bool           // a write to current failed: it cannot commit
}

func (c *historyClient) restart() {
	*c = historyClient{id: c.id, lives: c.lives + 1, version: c.version, producer: nobody(c.id)}
}

func (c *historyClient) begin(p Producer) {
	c.producer, c.current, c.added, c.written, c.spoilt = p, nil, map[int32]bool{}, nil, false
}

func nobody(id string) Producer {
	return Producer{TransactionalID: id, ID: base.NoProducerID, Epoch: base.NoProducerEpoch}
}

// ending is a request to end a transaction, to be sent again.
type ending struct {
	producer Producer
	commit   bool
	version  int16
}

// historian runs a history and holds it to the rules.
type historian struct {
	*runner
	pick func(n int) int

	clients  []*historyClient
	attempts int
	endings  []ending
	told     map[string]int64 // by transactional id: the greatest rank that anybody was told of

	commits, aborts int64

	// runner.mu guards the fields below too, and topic.
	crashes  int64
	entries  []*entry
	held     bool
	durable  int           // entries
	dead     bool          // the process
	late     time.Duration // of markers
	allowed  int           // markers until they are refused; negative: any number
	requests int
	answers  []historyAnswer
	problems []string
}

// historyAnswer is what to do with the answer to a request.
type historyAnswer struct {
	request int
	then    func()
}

// rank orders what a transactional id was told, as producer ids are given out in order.
func rank(id base.ProducerID, epoch base.ProducerEpoch) int64 { return int64(id)<<16 + int64(epoch) }

// history runs one.
func history(t *testing.T, pick func(n int) int) *historian {
	h := &historian{runner: &runner{t: t, topic: coordtest.NewTopic(1), next: 1000}, pick: pick, told: map[string]int64{}, allowed: -1}
	h.runner.to = h
	h.cfg = Config{Expiration: time.Hour, ExpiryInterval: 10 * time.Minute, MaxBytes: []int64{0, 2300}[pick(2)]}
	h.start()
	defer func() { h.stop() }()
	for _, id := range []string{"x", "x", "y", "y", "z"} {
		c := &historyClient{id: id}
		c.restart()
		h.clients = append(h.clients, c)
	}
	deadly := []int{0, 0, 5, 20}[pick(4)] // percent of the steps after which the process dies
	for range historySteps {
		h.step()
		if h.pick(100) < deadly {
			h.powerFails()
		}
		h.settle()
	}
	h.rest()
	h.powerFails()
	h.rest()
	time.Sleep(h.cfg.Expiration + 2*h.cfg.ExpiryInterval)
	h.look(func(m *Machine) {
		if len(m.txns) > 0 || m.used != 0 {
			h.failf("%d transactional ids did not expire, and take %d bytes", len(m.txns), m.used)
		}
	})
	h.settle()
	return h
}

// settle waits for what goes on without time passing, takes the answers, and ends the history where a rule is broken.
func (h *historian) settle() {
	synctest.Wait()
	h.mu.Lock()
	answers := h.answers
	h.answers = nil
	h.mu.Unlock()
	slices.SortFunc(answers, func(a, b historyAnswer) int { return cmp.Compare(a.request, b.request) })
	for _, a := range answers {
		a.then()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checkEndsLocked(false)
	if len(h.problems) > 0 {
		h.t.Fatal(strings.Join(h.problems, "\n"))
	}
}

func (h *historian) failf(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failLocked(format, args...)
}

func (h *historian) failLocked(format string, args ...any) {
	h.problems = append(h.problems, fmt.Sprintf(format, args...))
}

// ask sends a request beside the history; what it returns is called by settle.
func (h *historian) ask(send func(ctx context.Context) (then func())) {
	request, ctx := h.requests, h.t.Context()
	h.requests++
	go func() {
		then := send(ctx)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.answers = append(h.answers, historyAnswer{request, then})
	}()
}

func (h *historian) step() {
	switch n := h.pick(100); {
	case n < 62:
		h.act(h.clients[h.pick(len(h.clients))])
	case n < 66:
		h.repeat()
	case n < 74:
		time.Sleep([]time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second, 11 * time.Second}[h.pick(4)])
	case n < 75:
		h.rest()
	case n < 78:
		h.hold(true)
	case n < 83:
		h.hold(false)
	case n < 84:
		h.topic.Of(0).Refuse(1)
	case n < 86:
		h.service.Drop(0)
	case n < 89:
		h.with(func() { h.allowed = h.pick(3) })
	case n < 93:
		h.with(func() { h.allowed = -1 })
	case n < 95:
		h.with(func() { h.late = []time.Duration{0, time.Millisecond, time.Second}[h.pick(3)] })
	case n < 96:
		h.exhaust(h.clients[h.pick(len(h.clients))].id)
	case n < 98:
		h.powerFails()
	default:
		h.checkReplay()
	}
}

func (h *historian) with(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// hold keeps what is appended from now on from becoming durable, or no longer.
func (h *historian) hold(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held = on; on {
		h.topic.Of(0).Hold()
		return
	}
	h.topic.Of(0).Release()
	h.durable = len(h.entries)
}

// rest lets everything come to an end: then no transaction is open.
func (h *historian) rest() {
	h.hold(false)
	h.topic.Of(0).Refuse(0)
	h.with(func() { h.allowed, h.late = -1, 0 })
	h.settle()
	time.Sleep(75 * time.Second) // the longest timeout, and the interval at which it is looked at
	h.settle()
	h.look(func(m *Machine) {
		for id, x := range m.txns {
			if !x.resting() {
				h.failf("%s is %s, long after its timeout", id, x.state)
			}
		}
	})
	h.settle()
	h.with(func() { h.checkEndsLocked(true) })
	h.checkReplay()
	h.settle()
}

// look asks the machine something.
func (h *historian) look(f func(m *Machine)) {
	call := coordinator.Submit(h.service.runtime, 0, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) {
		f(m)
		c.Answer(fx, struct{}{})
	})
	h.ask(func(ctx context.Context) func() {
		_, _ = call.Wait(ctx) // what is found is in problems
		return func() {}
	})
}

// exhaust has a transactional id come to the end of its epochs.
func (h *historian) exhaust(id string) {
	call := coordinator.Submit(h.service.runtime, 0, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) {
		if x := m.txns[id]; x != nil && x.resting() {
			n := x.next(fx.Now.UnixMilli())
			n.epoch = max(n.epoch, 1<<15-5)
			m.record(fx, n)
		}
		c.Answer(fx, struct{}{})
	})
	h.ask(func(ctx context.Context) func() {
		_, _ = call.Wait(ctx) // nobody counts on it
		return func() {}
	})
}

// powerFails ends the process in the middle of whatever it does. What is left of the write-ahead log is a prefix.
func (h *historian) powerFails() {
	h.topic.Of(0).Break() // nobody is answered after the moment that Crash takes
	h.with(func() { h.dead = true })
	h.stop()
	h.mu.Lock()
	h.crashes++
	h.topic = h.topic.Crash(func(n int) int { return h.pick(n + 1) })
	batches, kept := h.topic.Of(0).Batches(), h.durable
	for kept < len(h.entries) && (h.entries[kept].batches < batches || h.entries[kept].batches == batches && h.pick(2) == 0) {
		kept++
	}
	for _, e := range h.entries[kept:] {
		e.lost = true
	}
	h.entries, h.durable = h.entries[:kept], kept
	h.held, h.dead = false, false
	h.mu.Unlock()
	h.start()
}

// act has a client do what a client may do next.
func (h *historian) act(c *historyClient) {
	switch {
	case c.busy || h.pick(30) == 0:
		if h.pick(12) == 0 {
			c.restart()
		}
	case c.producer.ID == base.NoProducerID:
		c.version = []int16{0, epochBumps}[h.pick(2)]
		h.init(c)
	case c.current != nil && c.current.asked != "":
		h.end(c, c.current.asked == "commit") // again: it is not known how it went
	case h.pick(25) == 0:
		h.init(c)
	case c.current != nil && h.pick(3) == 0:
		if h.acknowledged(c) {
			h.end(c, !c.spoilt && h.pick(3) > 0)
		}
	case c.current == nil && c.version >= epochBumps && h.pick(10) == 0:
		h.end(c, false) // of a transaction in which nothing was written
	default:
		h.write(c, int32(h.pick(dataPartitions)))
	}
}

// reply hands the client the answer to its request, unless it has started anew since.
func (h *historian) reply(c *historyClient, send func(ctx context.Context) (then func())) {
	c.busy = true
	life := c.lives
	h.ask(func(ctx context.Context) func() {
		then := send(ctx)
		return func() {
			if c.lives == life {
				c.busy = false
				then()
			}
		}
	})
}

// hear takes note of the epoch in an answer.
func (h *historian) hear(id string, before int64, o Outcome) {
	got := rank(o.ID, o.Epoch)
	if got < before {
		h.failf("%s was told %d/%d, after %d/%d", id, o.ID, o.Epoch, before>>16, before&0xffff)
	}
	h.told[id] = max(h.told[id], got)
}

// refusal holds the code of an answer to those that can be.
func (h *historian) refusal(c *historyClient, code *kerr.Error, may ...*kerr.Error) {
	switch {
	case code == kerr.ConcurrentTransactions, code == kerr.CoordinatorNotAvailable: // again later
	case slices.Contains(may, code):
		c.restart()
	default:
		h.failf("%s: %s", c.id, code.Message)
	}
}

func (h *historian) init(c *historyClient) {
	before, p, service := h.told[c.id], c.producer, h.service
	timeout := []int32{5_000, 60_000}[h.pick(2)]
	h.reply(c, func(ctx context.Context) func() {
		o, err := service.InitProducerID(ctx, p, timeout)
		return func() {
			switch {
			case err != nil:
			case o.Code != nil:
				h.refusal(c, o.Code, kerr.ProducerFenced)
			default:
				if p.ID == base.NoProducerID && rank(o.ID, o.Epoch) <= before {
					h.failf("%s was told %d/%d, which somebody has", c.id, o.ID, o.Epoch)
				}
				h.hear(c.id, before, o)
				c.begin(Producer{TransactionalID: c.id, ID: o.ID, Epoch: o.Epoch})
			}
		}
	})
}

// write adds a partition to the client's transaction and a record to the partition.
func (h *historian) write(c *historyClient, partition int32) {
	if c.current == nil {
		h.attempts++
		c.current = &attempt{name: fmt.Sprintf("%s-%d", c.id, h.attempts)}
	}
	before, p, of, adds := h.told[c.id], c.producer, c.current, c.version >= epochBumps || !c.added[partition]
	at := base.TopicPartition{Topic: "t", Partition: partition}
	h.mu.Lock()
	_, _, _, markers := h.producerLocked(partition, p.ID)
	h.mu.Unlock()
	var verified *coordinator.Call[Verified]
	var added *coordinator.Call[*kerr.Error]
	if adds {
		added = h.service.AddPartitions(p, []base.TopicPartition{at}, c.version)
	} else {
		verified = h.service.Verify(p, []base.TopicPartition{at})
	}
	appends := c.version >= epochBumps || !adds
	version, process := c.version, h.crashes
	h.reply(c, func(ctx context.Context) func() {
		var code *kerr.Error
		var err error
		var e *entry
		switch {
		case !adds:
			var v Verified
			if v, err = verified.Applied(ctx); err == nil {
				if code = v.Code; code == nil {
					code = v.Partitions[0]
				}
			}
		case appends:
			code, err = added.Applied(ctx)
		default:
			code, err = added.Wait(ctx)
		}
		if err == nil && code == nil && appends {
			e = h.append(&entry{partition: partition, by: p.ID, epoch: p.Epoch, of: of}, markers, process)
		}
		return func() {
			switch {
			case err != nil:
				c.spoilt = c.spoilt || appends
			case code != nil:
				if code == kerr.ConcurrentTransactions || code == kerr.CoordinatorNotAvailable {
					if c.spoilt = true; len(c.added) == 0 && version < epochBumps {
						c.current, c.spoilt = nil, false // nothing has begun
					}
				}
				h.refusal(c, code, kerr.ProducerFenced, kerr.InvalidProducerIDMapping, kerr.TransactionAbortable)
			case rank(p.ID, p.Epoch) < before:
				h.failf("%s adds to a transaction with %d/%d, after %d/%d", c.id, p.ID, p.Epoch, before>>16, before&0xffff)
			case appends && e == nil:
				c.spoilt = true
			case e != nil:
				c.written = append(c.written, e)
				c.added[partition] = true
			default:
				c.added[partition] = true
			}
		}
	})
}

// acknowledged reports whether all that the client has written is answered, as it is before it asks for the end.
func (h *historian) acknowledged(c *historyClient) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range c.written {
		c.spoilt = c.spoilt || e.lost
		if !e.lost && e.at >= h.durable {
			return false
		}
	}
	return true
}

func (h *historian) end(c *historyClient, commit bool) {
	of := c.current
	if of == nil {
		of = &attempt{}
	}
	of.asked = word(commit)
	before, asked, service := h.told[c.id], ending{c.producer, commit, c.version}, h.service
	h.endings = append(h.endings, asked)
	h.reply(c, func(ctx context.Context) func() {
		o, err := service.EndTxn(ctx, asked.producer, commit, asked.version)
		return func() {
			switch {
			case err != nil:
			case o.Code != nil:
				h.refusal(c, o.Code, kerr.ProducerFenced, kerr.InvalidProducerIDMapping, kerr.InvalidTxnState)
			default:
				h.hear(c.id, before, o)
				of.told = of.asked
				if commit {
					h.commits++
				} else {
					h.aborts++
				}
				c.begin(Producer{TransactionalID: c.id, ID: o.ID, Epoch: o.Epoch})
			}
		}
	})
}

func word(commit bool) string {
	if commit {
		return "commit"
	}
	return "abort"
}

// repeat sends a request to end a transaction that was sent before, as a network that is late may. The protocol before KIP-890 has
// nothing against one that comes in a later transaction of the same epoch, which is why there is KIP-890.
func (h *historian) repeat() {
	if len(h.endings) == 0 {
		return
	}
	e := h.endings[h.pick(len(h.endings))]
	id := e.producer.TransactionalID
	if e.version < epochBumps && h.told[id] <= rank(e.producer.ID, e.producer.Epoch) {
		return
	}
	before, service := h.told[id], h.service
	h.ask(func(ctx context.Context) func() {
		o, err := service.EndTxn(ctx, e.producer, e.commit, e.version)
		return func() {
			if err == nil && o.Code == nil {
				h.hear(id, before, o)
			}
		}
	})
}

// producerLocked is what a partition knows of a producer.
func (h *historian) producerLocked(partition int32, id base.ProducerID) (epoch base.ProducerEpoch, coordinatorEpoch int32, open bool, markers int) {
	epoch = base.NoProducerEpoch
	for _, e := range h.entries {
		if e.partition == partition && e.by == id {
			if epoch, open = e.epoch, e.of != nil; !open {
				markers++
				coordinatorEpoch = e.marker.CoordinatorEpoch
			}
		}
	}
	return epoch, coordinatorEpoch, open, markers
}

// append appends a record, unless its partition refuses it: it is of an older epoch, or its transaction may have ended meanwhile. process is
// the one that the request came to.
func (h *historian) append(e *entry, markers int, process int64) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	epoch, _, _, now := h.producerLocked(e.partition, e.by)
	if h.dead || process != h.crashes || e.epoch < epoch || now != markers {
		return nil
	}
	h.putLocked(e)
	return e
}

func (h *historian) putLocked(e *entry) {
	e.at, e.batches = len(h.entries), h.topic.Of(0).Batches()
	if h.entries = append(h.entries, e); !h.held {
		h.durable = len(h.entries)
	}
}

// WriteMarker implements Markers.
func (h *historian) WriteMarker(ctx context.Context, at base.TopicPartition, m Marker) error {
	h.mu.Lock()
	late := h.late
	h.mu.Unlock()
	select {
	case <-time.After(late):
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.dead || h.allowed == 0:
		return coordtest.ErrInjected
	case h.allowed > 0:
		h.allowed--
	}
	epoch, coordinatorEpoch, open, _ := h.producerLocked(at.Partition, m.ProducerID)
	if m.ProducerEpoch < epoch || m.ProducerEpoch == epoch && open && m.TransactionVersion >= epochBumps || m.CoordinatorEpoch < coordinatorEpoch {
		h.failLocked("the marker %+v comes to %v, where the producer's epoch is %d and that of the coordinator %d", m, at, epoch, coordinatorEpoch)
		return nil
	}
	h.putLocked(&entry{partition: at.Partition, by: m.ProducerID, epoch: m.ProducerEpoch, marker: m})
	return nil
}

// checkEndsLocked holds all transactions to their ends. all says that by now every one has an end.
func (h *historian) checkEndsLocked(all bool) {
	type place struct {
		partition int32
		by        base.ProducerID
	}
	next := map[place]*entry{} // the marker that comes next
	ends := map[*attempt]string{}
	for _, e := range slices.Backward(h.entries) {
		at := place{e.partition, e.by}
		if e.of == nil {
			next[at] = e
			continue
		}
		m := next[at]
		if m == nil {
			if all {
				h.failLocked("%s is still open in partition %d", e.of.name, e.partition)
			}
			continue
		}
		how := word(m.marker.Commit)
		if other, ok := ends[e.of]; ok && how != other {
			h.failLocked("%s has a %s and a %s", e.of.name, how, other)
		}
		ends[e.of] = how
	}
	for of, how := range ends {
		switch {
		case of.told != "" && of.told != how:
			h.failLocked("%s has a %s, though the answer was a %s", of.name, how, of.told)
		case how == "commit" && of.asked != how:
			h.failLocked("%s has a commit that nobody asked for", of.name)
		}
	}
}

// checkReplay compares the coordinator's state with what its log gives, and its account of its memory with what it holds.
func (h *historian) checkReplay() {
	log := h.topic.Of(0)
	h.look(func(m *Machine) {
		records, err := log.Records()
		if err != nil {
			h.failf("the log: %v", err)
			return
		}
		replayed := NewMachine(&Environment{Config: Config{}.WithDefaults()})
		for _, r := range records {
			if err := replayed.Replay(coordinator.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}); err != nil {
				h.failf("replay: %v", err)
				return
			}
		}
		var size int64
		state := map[string]transaction{}
		for id, x := range m.txns {
			n := *x
			n.lastEpoch = base.NoProducerEpoch // is not recorded
			state[id] = n
			size += x.size()
		}
		want := map[string]transaction{}
		for id, x := range replayed.txns {
			want[id] = *x
		}
		if !maps.EqualFunc(state, want, func(a, b transaction) bool { return reflect.DeepEqual(a, b) }) {
			h.failf("the coordinator has\n%v\nits log gives\n%v", state, want)
		}
		if limit := m.env.Config.MaxBytes; m.used != size || m.used != m.env.used.Load() || size > limit {
			h.failf("the state takes %d bytes, not %d, of %d", size, m.used, limit)
		}
	})
}
