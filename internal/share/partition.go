package share

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
)

// Settings are those of a share group, as they are now.
type Settings struct {
	// LockDuration is how long a record stays with the member that got it (share.record.lock.duration.ms).
	LockDuration time.Duration
	// DeliveryLimit is how often a record is delivered before it is given up (share.delivery.count.limit).
	DeliveryLimit int16
	// MaxLocks bounds the offsets between the start and the end of a share partition (share.partition.max.record.locks).
	MaxLocks int64
	// Renewable allows members to extend the lock of a record (share.renew.acknowledge.enable, KIP-1222).
	Renewable bool
}

// Partition is the state of a share partition: what is known of each offset from its start to its end. What lies before the start is
// finished, and what lies from the end on was never looked at. It is a plain data structure: no locks, no clock, no I/O. Whoever calls it
// passes the time, calls Elapse before anything that depends on locks, and takes what is to be persisted with TakeWrite after each
// call that may change something.
type Partition struct {
	stateEpoch  int32
	leaderEpoch base.LeaderEpoch

	start, end base.Offset // of the window: start belongs to it, end does not
	runs       []run       // covers the window without gap or overlap, in order

	written base.Offset  // the start that was last handed to TakeWrite
	changed []StateBatch // since then
}

// run is consecutive offsets of which the same is known.
type run struct {
	first, last base.Offset
	state       State
	deliveries  int16
	member      string    // with which an acquired one is
	lockedUntil time.Time // an acquired one
}

func (r run) len() int64 { return int64(r.last-r.first) + 1 }

// finished reports that the run needs nothing more.
func (r run) finished() bool { return r.state == Acknowledged || r.state == Archived }

// same reports whether two runs differ in their offsets alone.
func (r run) same(o run) bool {
	r.first, r.last = o.first, o.last
	return r == o
}

// NewPartition returns the share partition that was persisted, whose start must have been decided. ErrInvalidState.
func NewPartition(from Persisted) (*Partition, error) {
	if plant.On(plant.ShareStartForgotten) {
		from.Start = 0
	}
	p := &Partition{stateEpoch: from.StateEpoch, leaderEpoch: from.LeaderEpoch, start: from.Start, end: from.Start, written: from.Start}
	if from.Start < 0 {
		return nil, fmt.Errorf("%w: it starts at %d", ErrInvalidState, from.Start)
	}
	for _, b := range from.Batches {
		if b.First < p.end || b.Last < b.First || b.State != Available && b.State != Acknowledged && b.State != Archived {
			return nil, fmt.Errorf("%w: offsets %d to %d in state %d, after %d", ErrInvalidState, b.First, b.Last, b.State, p.end)
		}
		if b.First > p.end {
			p.push(run{first: p.end, last: b.First - 1, state: Available})
		}
		p.push(run{first: b.First, last: b.Last, state: b.State, deliveries: b.DeliveryCount})
	}
	p.advance()
	return p, nil
}

// Start is the first offset that is not finished.
func (p *Partition) Start() base.Offset { return p.start }

// Window is how many offsets lie between start and end: what the share partition costs in memory, at most.
func (p *Partition) Window() int64 { return int64(p.end - p.start) }

// Next is the offset at which there is something to read for a member; false if the window is full and nothing in it is available.
func (p *Partition) Next(s Settings) (base.Offset, bool) {
	for i := range p.runs {
		if p.runs[i].state == Available {
			return p.runs[i].first, true
		}
	}
	return p.end, p.Window() < s.MaxLocks
}

// NextTimeout is when the first lock ends; false if nothing is locked.
func (p *Partition) NextTimeout() (at time.Time, ok bool) {
	for i := range p.runs {
		if r := &p.runs[i]; r.state == Acquired && (!ok || r.lockedUntil.Before(at)) {
			at, ok = r.lockedUntil, true
		}
	}
	return at, ok
}

// Elapse ends the locks whose time is over: their records are available again, or archived if they have been delivered often enough.
func (p *Partition) Elapse(now time.Time, s Settings) {
	p.transform(p.start, p.end-1, func(r run) run {
		if r.state == Acquired && !r.lockedUntil.After(now) && !plant.On(plant.EternalLock) {
			return released(r, s)
		}
		return r
	})
	p.advance()
}

// Release gives back what is with a member.
func (p *Partition) Release(member string, s Settings) {
	p.transform(p.start, p.end-1, func(r run) run {
		if r.state == Acquired && r.member == member {
			return released(r, s)
		}
		return r
	})
	p.advance()
}

// released is a run that a member does not have any more and has not finished.
func released(r run, s Settings) run {
	r.state, r.member, r.lockedUntil = Available, "", time.Time{}
	if r.deliveries >= s.DeliveryLimit {
		r.state = Archived
	}
	if plant.On(plant.DeliveryUncounted) {
		r.deliveries = 0
	}
	return r
}

// LogStart takes note of where the log begins: what lies before is gone, also from members that have it.
func (p *Partition) LogStart(at base.Offset) {
	if at <= p.start {
		return
	}
	p.transform(p.start, min(p.end, at)-1, func(r run) run {
		r.state, r.member, r.lockedUntil = Archived, "", time.Time{}
		return r
	})
	p.advance()
	if p.start < at { // the window lay below as a whole
		p.start, p.end, p.runs = at, at, nil
	}
}

// TakeWrite returns what has changed since it was last called and has to be persisted; false if nothing has.
func (p *Partition) TakeWrite() (Persisted, bool) {
	if len(p.changed) == 0 && p.start == p.written {
		return Persisted{}, false
	}
	w := Persisted{StateEpoch: p.stateEpoch, LeaderEpoch: p.leaderEpoch, Start: p.start, Batches: settle(p.changed, p.start)}
	for i := range p.runs {
		if p.runs[i].finished() {
			w.DeliveryCompleteCount += int32(p.runs[i].len())
		}
	}
	p.written, p.changed = p.start, nil
	return w, true
}

// settle puts changes in order, leaves out what lies before start, and joins what goes together. No offset changes twice between two
// writes.
func settle(changed []StateBatch, start base.Offset) []StateBatch {
	slices.SortFunc(changed, func(a, b StateBatch) int { return cmp.Compare(a.First, b.First) })
	var out []StateBatch
	for _, b := range changed {
		if b.First = max(b.First, start); b.Last < b.First || b.State == Acknowledged && plant.On(plant.AcceptForgotten) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].Last+1 == b.First && out[n-1].State == b.State && out[n-1].DeliveryCount == b.DeliveryCount {
			out[n-1].Last = b.Last
			continue
		}
		out = append(out, b)
	}
	return out
}

// push adds a run at the end of the window.
func (p *Partition) push(r run) {
	if r.first != p.end || r.last < r.first {
		panic(fmt.Sprintf("share: run %d to %d at the end %d", r.first, r.last, p.end))
	}
	p.end = r.last + 1
	if n := len(p.runs); n > 0 && p.runs[n-1].same(r) {
		p.runs[n-1].last = r.last
		return
	}
	p.runs = append(p.runs, r)
}

// find returns the index of the run that holds an offset of the window.
func (p *Partition) find(offset base.Offset) int {
	i, _ := slices.BinarySearchFunc(p.runs, offset, func(r run, at base.Offset) int {
		switch {
		case r.last < at:
			return -1
		case r.first > at:
			return 1
		}
		return 0
	})
	return i
}

// transform replaces what is known of the offsets from first to last, which lie in the window, and notes what has to be persisted of it.
// change gets a run, or the part of one that lies within the bounds, and keeps its offsets.
func (p *Partition) transform(first, last base.Offset, change func(run) run) {
	if first > last {
		return
	}
	from, to := p.find(first), p.find(last)
	var out []run
	add := func(r run) {
		if n := len(out); n > 0 && out[n-1].same(r) {
			out[n-1].last = r.last
			return
		}
		out = append(out, r)
	}
	if from > 0 { // it may join what comes before
		from--
	}
	if to+1 < len(p.runs) {
		to++
	}
	differs := false
	for _, r := range p.runs[from : to+1] {
		if r.first < first {
			before := r
			before.last = min(r.last, first-1)
			add(before)
		}
		if inner := r; r.last >= first && r.first <= last {
			inner.first, inner.last = max(r.first, first), min(r.last, last)
			next := change(inner)
			differs = differs || next != inner
			if next.state != Acquired && next != inner {
				p.changed = append(p.changed, StateBatch{First: next.first, Last: next.last, State: next.state, DeliveryCount: next.deliveries})
			}
			add(next)
		}
		if r.last > last {
			after := r
			after.first = max(r.first, last+1)
			add(after)
		}
	}
	if differs {
		p.runs = slices.Replace(p.runs, from, to+1, out...)
	}
}

// advance moves the start past what is finished.
func (p *Partition) advance() {
	n := 0
	for n < len(p.runs) && p.runs[n].finished() {
		p.start = p.runs[n].last + 1
		n++
	}
	p.runs = slices.Delete(p.runs, 0, n)
	if len(p.runs) == 0 {
		p.runs = nil // what a large window took is not kept
	}
}
