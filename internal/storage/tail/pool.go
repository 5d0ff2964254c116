package tail

import (
	"container/list"
	"context"
	"fmt"
	"sync"
)

// maxIdleBytes bounds the free memory that a pool keeps resident, whatever its budget.
const maxIdleBytes = 32 << 20

// Pool is the memory of all tails of a broker and its budget. Safe for concurrent use.
type Pool struct {
	budget   int64
	idle     int64 // bound of resident free memory
	poison   bool
	pressure chan struct{}

	mu       sync.Mutex // guards the fields below
	reserved int64      // acquired, not yet appended
	held     int64      // slabs of tails
	waiters  list.List  // of *waiter, oldest first
	closed   bool
	memory   memory
}

// waiter is an Acquire that has to wait. ready is closed when it was granted or the pool closed; granted tells which.
type waiter struct {
	bytes   int64
	ready   chan struct{}
	granted bool
}

// An Option changes how a pool works.
type Option func(*Pool)

// Poison makes the pool overwrite slabs when they are freed and check the pattern when they are taken again. For tests: it
// costs a pass over the memory each time. It is always on under the race detector.
func Poison() Option { return func(p *Pool) { p.poison = true } }

// NewPool returns a pool for at most budget bytes of slabs and reservations. No memory is taken yet.
func NewPool(budget int64, options ...Option) *Pool {
	if budget <= 0 {
		panic(fmt.Sprintf("tail: budget of %d bytes", budget))
	}
	p := &Pool{
		budget:   budget,
		idle:     min(budget/4, maxIdleBytes),
		poison:   raceEnabled,
		pressure: make(chan struct{}, 1),
	}
	for _, o := range options {
		o(p)
	}
	p.memory.init(p.idle, p.poison)
	return p
}

// Budget returns the bytes given to NewPool.
func (p *Pool) Budget() int64 { return p.budget }

// InUse returns the bytes that are reserved and the whole size of the slabs that tails hold. It is 0 when every tail has been
// released to its end and every reservation used or given back.
func (p *Pool) InUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reserved + p.held
}

// Resident returns the bytes of slabs held or kept for reuse: what the pool weighs in the process's memory, at most.
func (p *Pool) Resident() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held + p.memory.idle
}

// Pressure returns a channel that is signalled when little of the budget is left (less than an eighth), when an Acquire begins to wait
// and when bytes are appended while one waits, so that whoever flushes tails can go further than it otherwise would (remainders of less
// than a block, say), until Relieved. One signal may stand for many of these.
func (p *Pool) Pressure() <-chan struct{} { return p.pressure }

// Waiting returns how many calls of Acquire are waiting.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiters.Len()
}

// Relieved reports whether there is room to spare again: a quarter of the budget, and nobody waits.
func (p *Pool) Relieved() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiters.Len() == 0 && p.reserved+p.held <= p.budget/4*3
}

// Acquire reserves bytes of the budget. It waits, in order of arrival, until releases have made room. So that a batch larger
// than the budget is not refused for ever, one that needs more than half of it is let through as soon as no more than half is
// in use.
//
// Errors: ErrClosed, and ctx's cause; then nothing is reserved.
func (p *Pool) Acquire(ctx context.Context, bytes int) error {
	if bytes < 0 {
		panic(fmt.Sprintf("tail: acquire %d bytes", bytes))
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	if p.reserveLocked(int64(bytes)) {
		p.mu.Unlock()
		return nil
	}
	w := &waiter{bytes: int64(bytes), ready: make(chan struct{})}
	place := p.waiters.PushBack(w)
	p.signalLocked()
	p.mu.Unlock()

	select {
	case <-w.ready:
		if !w.granted {
			return ErrClosed
		}
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case w.granted: // just now: the caller will not use it
		p.reserved -= w.bytes
	case !p.closed:
		p.waiters.Remove(place)
	}
	p.grantLocked()
	return context.Cause(ctx)
}

// reserveLocked reserves bytes if nobody is first and there is room.
func (p *Pool) reserveLocked(bytes int64) bool {
	if p.waiters.Len() > 0 || !p.fitsLocked(bytes) {
		return false
	}
	p.reserved += bytes
	if p.reserved+p.held > p.budget/8*7 {
		p.signalLocked()
	}
	return true
}

func (p *Pool) fitsLocked(bytes int64) bool {
	used := p.reserved + p.held
	return used+bytes <= p.budget || bytes > p.budget/2 && used <= p.budget/2
}

// grantLocked wakes waiters from the oldest on, as far as there is room.
func (p *Pool) grantLocked() {
	for e := p.waiters.Front(); e != nil; e = p.waiters.Front() {
		w := e.Value.(*waiter)
		if !p.fitsLocked(w.bytes) {
			return
		}
		p.waiters.Remove(e)
		p.reserved += w.bytes
		w.granted = true
		close(w.ready)
	}
}

// Unacquire gives back bytes that Acquire reserved and no Append will consume.
func (p *Pool) Unacquire(bytes int) { p.consume(bytes) }

// consume takes bytes out of the reservations.
func (p *Pool) consume(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int64(bytes) > p.reserved {
		panic(fmt.Sprintf("tail: %d bytes used of %d reserved", bytes, p.reserved))
	}
	p.reserved -= int64(bytes)
	p.grantLocked()
	if p.waiters.Len() > 0 {
		p.signalLocked() // what was only reserved before can be flushed now
	}
}

func (p *Pool) signalLocked() {
	select {
	case p.pressure <- struct{}{}:
	default:
	}
}

// take returns a slab of a class for a tail to hold.
func (p *Pool) take(class int) (slab, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.memory.take(class)
	if err == nil {
		p.held += int64(s.size())
	}
	return s, err
}

// give takes a slab back from a tail.
func (p *Pool) give(s slab) {
	if p.poison {
		fill(s.bytes())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held -= int64(s.size())
	p.memory.give(s)
	if p.closed {
		p.memory.trim()
	}
	p.grantLocked()
}

// Trim returns all free memory to the system. Meant for quiet times: it costs a system call for each free run.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory.trim()
}

// Close lets waiting and later calls of Acquire fail with ErrClosed and returns free memory to the system; what tails still
// hold follows as they release it.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for e := p.waiters.Front(); e != nil; e = e.Next() {
		close(e.Value.(*waiter).ready)
	}
	p.waiters.Init()
	p.memory.trim()
}
