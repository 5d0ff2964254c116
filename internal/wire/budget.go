package wire

import (
	"sync"
	"time"
)

// budget hands out bytes up to a limit and makes later takers wait, first come, first served.
//
// With overdraft, the taker at the head of the queue gets its bytes although the limit is reached, if no other owner
// has been granted that since: of any number of half-arrived frames that wait for each other's bytes, one can always
// be completed. What is out never exceeds limit plus what one owner takes.
type budget struct {
	limit     int64
	overdraft bool

	mu         sync.Mutex // guards the fields below
	used       int64
	overdrawer any // the owner that may exceed the limit, nil if there is none
	waiters    []*budgetWaiter
}

type budgetWaiter struct {
	owner   any
	bytes   int64
	granted chan struct{}
}

// take waits until n bytes are granted. It returns errBudgetWait after timeout and errBudgetEnded when one of the
// channels is closed first; then nothing was taken.
func (b *budget) take(owner any, n int64, timeout time.Duration, ended, draining <-chan struct{}) error {
	b.mu.Lock()
	if len(b.waiters) == 0 && b.fitsLocked(owner, n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := &budgetWaiter{owner: owner, bytes: n, granted: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.grantLocked()
	b.mu.Unlock()

	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var err error
	select {
	case <-w.granted:
		return nil
	case <-timer.C:
		err = errBudgetWait
	case <-ended:
		err = errBudgetEnded
	case <-draining:
		err = errBudgetEnded
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.waiters {
		if other == w {
			b.waiters = append(b.waiters[:i], b.waiters[i+1:]...)
			b.grantLocked()
			return err
		}
	}
	return nil // granted in the meantime
}

// give returns n bytes of owner; last says that the owner has none left.
func (b *budget) give(owner any, n int64, last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.used < 0 {
		panic("wire: budget gave back more than was taken")
	}
	if last && b.overdrawer == owner {
		b.overdrawer = nil
	}
	if len(b.waiters) > 0 {
		b.grantLocked()
	}
}

// crowded reports whether more than half of the limit is out.
func (b *budget) crowded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used > b.limit/2
}

// inUse returns how many bytes are out.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// fitsLocked reports whether owner may have n more bytes now, and claims the overdraft if that is what it takes.
func (b *budget) fitsLocked(owner any, n int64) bool {
	if b.used+n <= b.limit || b.overdrawer == owner && owner != nil {
		return true
	}
	if b.overdraft && b.overdrawer == nil {
		b.overdrawer = owner
		return true
	}
	return false
}

// grantLocked lets in as many waiters as fit, in order. The overdrawer is let in out of turn, else it would wait for
// those who wait for it.
func (b *budget) grantLocked() {
	for i, w := range b.waiters {
		if b.overdrawer != nil && w.owner == b.overdrawer {
			b.waiters = append(b.waiters[:i], b.waiters[i+1:]...)
			b.used += w.bytes
			close(w.granted)
			break
		}
	}
	for len(b.waiters) > 0 && b.fitsLocked(b.waiters[0].owner, b.waiters[0].bytes) {
		w := b.waiters[0]
		b.waiters = b.waiters[1:]
		b.used += w.bytes
		close(w.granted)
	}
}
