// Package sharetest has a share.Persister in memory that loses power, for tests.
package sharetest

import (
	"context"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/share"
)

// Persister keeps the state of share partitions in memory. What is written is durable at once, unless Hold was called; then it is when Sync is
// called, and lost by Crash.
type Persister struct {
	// Initializing has share partitions that nobody initialized begin undecided.
	Initializing bool

	mu      sync.Mutex // guards the fields below
	now     map[share.Key]share.Persisted
	durable map[share.Key]share.Persisted
	held    bool
	waiting []*call
	failing error
	writes  int
}

// New returns a Persister that holds nothing.
func New() *Persister {
	return &Persister{now: map[share.Key]share.Persisted{}, durable: map[share.Key]share.Persisted{}}
}

// call is a request; it is one of A at a time.
type call struct {
	state share.Persisted
	err   error
	done  chan struct{}
}

type pending[A any] struct {
	*call
	answer func(share.Persisted) A
}

func (p pending[A]) Done() <-chan struct{} { return p.done }

func (p pending[A]) Wait(ctx context.Context) (A, error) {
	select {
	case <-p.done:
		return p.answer(p.state), p.err
	case <-ctx.Done():
		var none A
		return none, context.Cause(ctx)
	}
}

func nothing(share.Persisted) struct{}        { return struct{}{} }
func state(s share.Persisted) share.Persisted { return s }
func (p *Persister) change(k share.Key, f func(*share.Persisted) error) *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &call{done: make(chan struct{})}
	s, ok := p.now[k]
	switch {
	case p.failing != nil:
		c.err = p.failing
	case !ok && !p.Initializing:
		c.err = share.ErrNotInitialized
	default:
		if !ok {
			s = share.Persisted{Start: base.NoOffset, LeaderEpoch: base.NoLeaderEpoch}
		}
		if c.err = f(&s); c.err == nil {
			p.now[k] = s
		}
		c.state = s
	}
	p.waiting = append(p.waiting, c)
	if !p.held {
		p.syncLocked()
	}
	return c
}

// Initialize implements share.Persister.
func (p *Persister) Initialize(k share.Key, stateEpoch int32, start base.Offset) share.Pending[struct{}] {
	p.mu.Lock()
	if _, ok := p.now[k]; !ok {
		p.now[k] = share.Persisted{}
	}
	p.mu.Unlock()
	return pending[struct{}]{p.change(k, func(s *share.Persisted) error {
		if stateEpoch < s.StateEpoch {
			return share.ErrFencedStateEpoch
		}
		*s = share.Persisted{StateEpoch: stateEpoch, LeaderEpoch: base.NoLeaderEpoch, Start: start}
		return nil
	}), nothing}
}

// Read implements share.Persister.
func (p *Persister) Read(k share.Key, leaderEpoch base.LeaderEpoch) share.Pending[share.Persisted] {
	return pending[share.Persisted]{p.change(k, func(s *share.Persisted) error {
		if leaderEpoch < s.LeaderEpoch {
			return share.ErrFencedLeaderEpoch
		}
		s.LeaderEpoch = leaderEpoch
		return nil
	}), state}
}

// Write implements share.Persister.
func (p *Persister) Write(k share.Key, w share.Persisted) share.Pending[struct{}] {
	return pending[struct{}]{p.change(k, func(s *share.Persisted) error {
		switch {
		case w.StateEpoch < s.StateEpoch:
			return share.ErrFencedStateEpoch
		case w.LeaderEpoch < s.LeaderEpoch:
			return share.ErrFencedLeaderEpoch
		}
		p.writes++
		*s = Merge(*s, w)
		return nil
	}), nothing}
}

// Delete implements share.Persister.
func (p *Persister) Delete(k share.Key) share.Pending[struct{}] {
	c := p.change(k, func(*share.Persisted) error { return nil })
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.now, k)
	delete(p.durable, k)
	return pending[struct{}]{c, nothing}
}

// ReadSummary implements share.Persister.
func (p *Persister) ReadSummary(k share.Key, _ base.LeaderEpoch) share.Pending[share.Persisted] {
	return pending[share.Persisted]{p.change(k, func(*share.Persisted) error { return nil }), func(s share.Persisted) share.Persisted {
		s.Batches = nil
		return s
	}}
}

// Hold keeps everything from now on from being durable, until Sync.
func (p *Persister) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
}

// Sync makes all that was written durable, and answers.
func (p *Persister) Sync() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.syncLocked()
}

func (p *Persister) syncLocked() {
	for k, s := range p.now {
		p.durable[k] = s
	}
	for _, c := range p.waiting {
		close(c.done)
	}
	p.waiting = nil
}

// Crash loses what is not durable; those who wait for it wait for ever.
func (p *Persister) Crash() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.waiting = map[share.Key]share.Persisted{}, nil
	for k, s := range p.durable {
		p.now[k] = s
	}
}

// Fail has all requests fail with err from now on, none if it is nil.
func (p *Persister) Fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing = err
}

// State is what is persisted, durable or not, and how often was written in all.
func (p *Persister) State(k share.Key) (s share.Persisted, writes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now[k], p.writes
}

// Merge lays a write over a persisted state, offset by offset, as Kafka's share coordinator does: of two that tell of the same offset the
// one with more deliveries counts, then the one whose state is the later.
func Merge(state, w share.Persisted) share.Persisted {
	at := map[base.Offset]share.StateBatch{}
	end := base.Offset(0)
	for _, b := range append(append([]share.StateBatch(nil), state.Batches...), w.Batches...) {
		for o := b.First; o <= b.Last; o++ {
			old, ok := at[o]
			if !ok || b.DeliveryCount > old.DeliveryCount || b.DeliveryCount == old.DeliveryCount && b.State >= old.State {
				at[o] = share.StateBatch{First: o, Last: o, State: b.State, DeliveryCount: b.DeliveryCount}
			}
			end = max(end, o+1)
		}
	}
	if w.Start != base.NoOffset {
		state.Start = w.Start
	}
	state.DeliveryCompleteCount, state.Batches = w.DeliveryCompleteCount, nil
	for o := state.Start; o < end; o++ {
		b, ok := at[o]
		if !ok {
			continue
		}
		if n := len(state.Batches); n > 0 && state.Batches[n-1].Last+1 == o && state.Batches[n-1].State == b.State && state.Batches[n-1].DeliveryCount == b.DeliveryCount {
			state.Batches[n-1].Last = o
			continue
		}
		state.Batches = append(state.Batches, b)
	}
	return state
}
