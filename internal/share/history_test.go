package share

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/proof"
)

// TestHistories has members of a share group fetch, acknowledge, go and stay silent at random, over a log that grows and loses records,
// with crashes between any two steps, and holds what they saw against what must be.
//
// Fault model: a crash loses the share partition and of the writes to the persister any number of the newest, in order. An acknowledgement
// counts as answered once its write is durable.
//
// What must hold: a record that was finished with an answer is never delivered again; one that is locked goes to nobody else; delivery
// counts go up by one with each delivery, and after a crash from what was durable; nobody gets what is hidden or gone; in the end every
// record was finished, or delivered as often as it may be; the window is bounded, and its runs cover it without overlap.
func TestHistories(t *testing.T) {
	t.Parallel()
	seed := proof.Seed(t)
	p := proof.Start(t, "share-records", "steps", seed)
	for i := range proof.Times(t, 40, 300, 30_000) {
		h := newHistorian(t, seed+uint64(i))
		for range 300 {
			h.step()
			p.Tried(1)
		}
		h.drain()
		if t.Failed() {
			p.Lost(1)
			return
		}
	}
}

// told is what is known of a record from its deliveries.
type told struct {
	finished   bool // and whoever did was told so
	givenUp    bool // delivered as often as it may be, and that is durable
	finishing  bool // said by its member, and not answered yet
	deliveries int16
	sure       int16 // deliveries that are durable
	holder     string
	until      time.Time
}

// historian acts as all members of a group and as its persister.
type historian struct {
	t        *testing.T
	seed     uint64
	rng      *rand.Rand
	now      time.Time
	settings Settings
	log      []Span
	logStart base.Offset
	end      base.Offset // of the log
	p        *Partition
	durable  Persisted
	writes   []pendingWrite
	records  map[base.Offset]*told
	givesUp  []base.Offset // since the last write
	trace    []string
}

// pendingWrite is a write on its way, and what is true once it is durable.
type pendingWrite struct {
	Persisted
	finishes []base.Offset
	givesUp  []base.Offset
}

func newHistorian(t *testing.T, seed uint64) *historian {
	rng := rand.New(rand.NewPCG(seed, 1))
	h := &historian{t: t, seed: seed, rng: rng, now: time.Unix(0, 0), records: map[base.Offset]*told{}, settings: Settings{
		LockDuration: 30 * time.Second, DeliveryLimit: int16(2 + rng.IntN(5)), MaxLocks: int64(5 + rng.IntN(60)), Renewable: true,
	}}
	h.load()
	return h
}

func (h *historian) failf(format string, args ...any) {
	h.t.Helper()
	last := h.trace[max(0, len(h.trace)-60):]
	h.t.Fatalf("SEED=%d: %s\nlimit %d, locks %d, persisted %+v\nwindow %d to %d: %+v\n%s", h.seed, fmt.Sprintf(format, args...), h.settings.DeliveryLimit, h.settings.MaxLocks,
		h.durable, h.p.start, h.p.end, h.p.runs, strings.Join(last, "\n"))
}

func (h *historian) did(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

func (h *historian) member() string { return string(rune('a' + h.rng.IntN(3))) }

func (h *historian) of(o base.Offset) *told {
	if h.records[o] == nil {
		h.records[o] = &told{}
	}
	return h.records[o]
}

// load begins a life of the share partition from what is durable.
func (h *historian) load() {
	p, err := NewPartition(h.durable)
	if err != nil {
		h.t.Fatal(err)
	}
	h.p = p
}

func (h *historian) step() {
	h.elapse()
	switch n := h.rng.IntN(100); {
	case n < 20:
		h.grow()
	case n < 45:
		h.acquire(h.member(), int64(1+h.rng.IntN(20)), h.rng.IntN(2) == 0)
	case n < 75:
		h.acknowledge(h.member())
	case n < 80:
		h.release(h.member())
	case n < 88:
		h.now = h.now.Add(time.Duration(h.rng.IntN(20)) * time.Second)
		h.elapse()
	case n < 94:
		h.sync(len(h.writes))
	case n < 97:
		h.crash()
	default:
		if h.logStart < h.end {
			h.logStart += base.Offset(h.rng.Int64N(min(8, int64(h.end-h.logStart)+1)))
			h.did("log start %d", h.logStart)
			h.p.LogStart(h.logStart)
			h.take(nil)
		}
	}
	h.check()
}

// grow appends a batch, after a gap sometimes.
func (h *historian) grow() {
	if h.rng.IntN(6) == 0 {
		h.end += base.Offset(h.rng.IntN(4))
	}
	s := Span{First: h.end, Last: h.end + base.Offset(h.rng.IntN(10)), Hidden: h.rng.IntN(6) == 0}
	h.log, h.end = append(h.log, s), s.Last+1
	h.did("log %+v", s)
}

func (h *historian) elapse() {
	h.p.Elapse(h.now, h.settings)
	for o, r := range h.records {
		if r.holder != "" && !r.until.After(h.now) {
			h.back(o)
		}
	}
	h.take(nil)
}

// back takes a record from its holder, who has not finished it.
func (h *historian) back(o base.Offset) {
	r := h.records[o]
	if r.holder = ""; r.deliveries >= h.settings.DeliveryLimit {
		h.givesUp = append(h.givesUp, o)
	}
}

// take queues what has to be persisted.
func (h *historian) take(finishes []base.Offset) {
	if w, ok := h.p.TakeWrite(); ok {
		h.writes = append(h.writes, pendingWrite{w, finishes, h.givesUp})
	} else if len(finishes) > 0 {
		h.failf("%v were finished without a write", finishes)
	}
	h.givesUp = nil
}

// sync makes n writes durable, and answers.
func (h *historian) sync(n int) {
	for _, w := range h.writes[:n] {
		h.durable = merge(h.durable, w.Persisted)
		for _, o := range w.finishes {
			h.of(o).finished = true
		}
		for _, o := range w.givesUp {
			h.of(o).givenUp = true
		}
		for _, b := range w.Batches {
			for o := b.First; o <= b.Last; o++ {
				h.of(o).sure = max(h.of(o).sure, b.DeliveryCount)
			}
		}
	}
	h.writes = h.writes[n:]
}

func (h *historian) crash() {
	h.sync(h.rng.IntN(len(h.writes) + 1))
	h.did("crash: %d writes lost, from %+v", len(h.writes), h.durable)
	h.writes = nil
	h.load()
	for _, r := range h.records {
		r.holder, r.finishing, r.deliveries = "", false, r.sure
	}
}

func (h *historian) acquire(member string, records int64, exact bool) bool {
	h.p.LogStart(h.logStart)
	h.take(nil)
	from, ok := h.p.Next(h.settings)
	if !ok {
		return false
	}
	var spans []Span
	for _, s := range h.log {
		if s.Last >= max(from, h.logStart) {
			spans = append(spans, s)
		}
	}
	got := h.p.Acquire(h.now, h.settings, Acquisition{Member: member, MaxRecords: records, Exact: exact, BatchSize: int64(1 + h.rng.IntN(9))}, from, spans)
	h.did("%s acquires %d exact %v from %d: %v", member, records, exact, from, got)
	h.take(nil)
	n := int64(0)
	for _, b := range got {
		for o := b.First; o <= b.Last; o++ {
			n++
			h.deliver(member, o, b.DeliveryCount)
		}
	}
	if exact && n > records {
		h.failf("%s got %d records and asked for %d", member, n, records)
	}
	return n > 0
}

// deliver checks one delivery.
func (h *historian) deliver(member string, o base.Offset, count int16) {
	r := h.of(o)
	switch {
	case r.finished || r.finishing || r.givenUp:
		h.failf("%d is delivered to %s though it is finished", o, member)
	case r.holder != "":
		h.failf("%d is delivered to %s while %s has it", o, member, r.holder)
	case count != r.deliveries+1 || count > h.settings.DeliveryLimit:
		h.failf("%d is delivered with count %d after %d deliveries", o, count, r.deliveries)
	case !h.visible(o):
		h.failf("%d is delivered, which nobody is to see", o)
	}
	r.deliveries, r.holder, r.until = count, member, h.now.Add(h.settings.LockDuration)
}

func (h *historian) visible(o base.Offset) bool {
	if o < h.logStart {
		return false
	}
	for _, s := range h.log {
		if s.First <= o && o <= s.Last {
			return !s.Hidden
		}
	}
	return false
}

// acknowledge says something of some of what a member has, or of what it has not.
func (h *historian) acknowledge(member string) {
	var batches []AckBatch
	good := true
	for o := h.p.start - 2; o < h.p.end; o++ {
		own := h.records[o] != nil && h.records[o].holder == member && o >= h.p.start
		if !own && h.rng.IntN(200) > 0 || h.rng.IntN(4) == 0 || o < 0 {
			continue
		}
		b := AckBatch{First: o, Last: o, Types: []AckType{AckType(h.rng.IntN(5))}}
		for b.Last+1 < h.p.end && h.rng.IntN(3) > 0 && h.records[b.Last+1] != nil && h.records[b.Last+1].holder == member {
			if b.Last++; len(b.Types) > 1 || h.rng.IntN(2) == 0 {
				for len(b.Types) < int(b.Last-b.First)+1 {
					b.Types = append(b.Types, AckType(h.rng.IntN(5)))
				}
			}
		}
		if len(b.Types) > 1 && len(b.Types) != int(b.Last-b.First)+1 {
			b.Types = b.Types[:1]
		}
		for at := max(b.First, h.p.start); at <= b.Last; at++ {
			good = good && h.records[at] != nil && h.records[at].holder == member
		}
		batches = append(batches, b)
		o = b.Last
	}
	if err := CheckAcks(batches, true); err != nil {
		h.failf("%v: %v", batches, err)
	}
	start := h.p.start
	err := h.p.Acknowledge(h.now, h.settings, member, batches)
	h.did("%s acknowledges %v: %v", member, batches, err)
	if good != (err == nil) {
		h.failf("%s acknowledges %v: %v", member, batches, err)
	}
	if err != nil {
		if w, ok := h.p.TakeWrite(); ok {
			h.failf("refused, and yet written: %+v", w)
		}
		return
	}
	var finishes []base.Offset
	for _, b := range batches {
		for o := max(b.First, start); o <= b.Last; o++ {
			r := h.of(o)
			switch b.at(o) {
			case Renew:
				r.until = h.now.Add(h.settings.LockDuration)
			case Release:
				h.back(o)
			default:
				r.finishing, r.holder = true, ""
				finishes = append(finishes, o)
			}
		}
	}
	h.take(finishes)
}

func (h *historian) release(member string) {
	h.did("%s goes", member)
	h.p.Release(member, h.settings)
	for o, r := range h.records {
		if r.holder == member {
			h.back(o)
		}
	}
	h.take(nil)
}

// check looks at the window.
func (h *historian) check() {
	at, largest := h.p.start, int64(10+4)
	for i, r := range h.p.runs {
		if r.first != at || r.last < r.first || i > 0 && h.p.runs[i-1].same(r) || i == 0 && r.finished() {
			h.failf("run %d of %+v", i, h.p.runs)
		}
		if (r.state == Acquired) != (r.member != "") {
			h.failf("run %+v", r)
		}
		at = r.last + 1
	}
	if at != h.p.end || h.p.Window() > h.settings.MaxLocks+largest {
		h.failf("the window is %d to %d, its runs end at %d, %d may be locked", h.p.start, h.p.end, at, h.settings.MaxLocks)
	}
}

// drain has a last member process all that is left.
func (h *historian) drain() {
	h.did("drain")
	h.now = h.now.Add(time.Hour)
	h.elapse()
	for h.acquire("z", 100, false) {
		var batches []AckBatch
		for o := h.p.start; o < h.p.end; o++ {
			if h.records[o] != nil && h.records[o].holder == "z" {
				batches = append(batches, AckBatch{First: o, Last: o, Types: []AckType{Accept}})
			}
		}
		if err := h.p.Acknowledge(h.now, h.settings, "z", batches); err != nil {
			h.failf("drain: %v", err)
		}
		var finishes []base.Offset
		for _, b := range batches {
			h.of(b.First).finishing, h.of(b.First).holder = true, ""
			finishes = append(finishes, b.First)
		}
		h.take(finishes)
	}
	h.sync(len(h.writes))
	for o := range h.end {
		if r := h.of(o); h.visible(o) && !r.finished && !r.givenUp {
			h.failf("%d was delivered %d times and never finished", o, r.deliveries)
		}
	}
	if h.p.Window() != 0 {
		h.failf("the window is not empty at the end")
	}
}
