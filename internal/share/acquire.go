package share

import (
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// Span is one batch of the log, as a read found it.
type Span struct {
	First, Last base.Offset
	// Hidden is set for what no member is to see: control batches, and for readers of committed records those that were aborted.
	Hidden bool
}

// Acquisition says what a member asks for.
type Acquisition struct {
	Member string
	// MaxRecords ends the acquisition; with Exact at that record, without it at the end of the record's batch (KIP-1206: share acquire
	// modes record_limit and batch_optimized).
	MaxRecords int64
	Exact      bool
	// BatchSize is the number of records after which a batch of acquired records ends, at the end of a batch of the log.
	BatchSize int64
	// Cramped is set where memory for share partitions is short: the window must not grow.
	Cramped bool
}

// AcquiredBatch is a run of records that a member has got.
type AcquiredBatch struct {
	First, Last   base.Offset
	DeliveryCount int16
}

// smallWindow may always be reached, however short memory is, so that every share partition makes progress.
const smallWindow = 100

// Acquire gives a member what is available among the spans, which a read from offset from found there, in order. Offsets from there to the
// end of the last span that belong to no span are gone from the log, and archived as hidden ones are. What the member gets is locked for
// it until the lock duration has passed.
//
// A record that has been delivered half as often as it may, or more, comes with ever fewer others and the last time alone, so that
// it takes no others with it if it is the one that no member can handle.
func (p *Partition) Acquire(now time.Time, s Settings, a Acquisition, from base.Offset, spans []Span) []AcquiredBatch {
	g := grant{p: p, s: s, a: a, until: now.Add(s.LockDuration)}
	if a.MaxRecords <= 0 || from > p.end {
		return nil
	}
	at := max(from, p.start)
	for _, span := range spans {
		if span.Last < at {
			continue
		}
		if span.First > at {
			if !g.hide(at, span.First-1) {
				break
			}
		}
		if at = max(at, span.First); span.Hidden {
			if !g.hide(at, span.Last) {
				break
			}
		} else if !g.take(at, span.Last) {
			break
		}
		at = span.Last + 1
	}
	p.advance()
	return g.got
}

// grant is an acquisition under way.
type grant struct {
	p     *Partition
	s     Settings
	a     Acquisition
	until time.Time
	got   []AcquiredBatch
	n     int64 // records in got
}

// hide archives offsets that no member is to see; false if the window cannot take them in.
func (g *grant) hide(first, last base.Offset) bool {
	p := g.p
	p.transform(first, min(last, p.end-1), func(r run) run {
		if r.state == Available {
			r.state = Archived
		}
		return r
	})
	if last < p.end {
		return true
	}
	room := g.room()
	if first = max(first, p.end); p.Window() == 0 {
		p.start, p.end = last+1, last+1
		return true
	}
	if !room {
		return false
	}
	p.push(run{first: first, last: last, state: Archived})
	return true
}

// room reports whether the window may grow, once what is finished has left it: what was hidden just now may have filled it. Only for who goes on
// at the window's end: it may begin later than before.
func (g *grant) room() bool {
	g.p.advance()
	n := g.p.Window()
	return n < g.s.MaxLocks && (!g.a.Cramped || n < smallWindow)
}

// take acquires what is available of a batch; false if that is the end.
func (g *grant) take(first, last base.Offset) bool {
	p := g.p
	for at := first; at <= last && at < p.end; {
		r := p.runs[p.find(at)]
		r.first, r.last = at, min(r.last, last)
		at = r.last + 1
		if r.state != Available {
			continue
		}
		take, suspect := g.suspects(r)
		if take == 0 || !g.lock(r.first, r.first+base.Offset(take)-1, r.deliveries+1) || suspect {
			return false
		}
	}
	if last >= p.end {
		if !g.room() {
			return false
		}
		if first = max(first, p.end); g.a.Exact {
			last = min(last, first+base.Offset(g.s.MaxLocks-p.Window())-1)
		}
		if !g.lock(first, last, 1) {
			return false
		}
	}
	return g.n < g.a.MaxRecords
}

// suspects says how much of an available run may be acquired, and whether that has to be all for this time.
func (g *grant) suspects(r run) (records int64, suspect bool) {
	threshold := max(2, (g.s.DeliveryLimit+1)/2)
	switch {
	case r.deliveries < threshold:
		return r.len(), false
	case g.n > 0:
		return 0, true
	case r.deliveries+1 >= g.s.DeliveryLimit:
		return 1, true
	}
	return max(1, r.len()>>(r.deliveries-threshold+1)), true
}

// lock acquires offsets that are available or lie at the window's end; false if the member has got all that it asked for.
func (g *grant) lock(first, last base.Offset, deliveries int16) bool {
	if g.a.Exact {
		last = min(last, first+base.Offset(g.a.MaxRecords-g.n)-1)
	}
	if last < first {
		return false
	}
	locked := run{first: first, last: last, state: Acquired, deliveries: deliveries, member: g.a.Member, lockedUntil: g.until}
	if first >= g.p.end {
		g.p.push(locked)
	} else {
		g.p.transform(first, last, func(run) run { return locked })
	}
	g.n += locked.len()
	if i := len(g.got) - 1; i >= 0 && g.got[i].Last+1 == first && g.got[i].DeliveryCount == deliveries && int64(g.got[i].Last-g.got[i].First)+1 < g.a.BatchSize {
		g.got[i].Last = last
	} else {
		g.got = append(g.got, AcquiredBatch{First: first, Last: last, DeliveryCount: deliveries})
	}
	return !g.a.Exact || g.n < g.a.MaxRecords
}
