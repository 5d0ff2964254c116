package tail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// start begins an Acquire and returns a channel with its result.
func start(ctx context.Context, p *Pool, n int) <-chan error {
	c := make(chan error, 1)
	go func() { c <- p.Acquire(ctx, n) }()
	return c
}

func waiting(c <-chan error) bool {
	synctest.Wait()
	select {
	case err := <-c:
		panic(fmt.Sprintf("Acquire returned %v, should wait", err))
	default:
		return true
	}
}

func TestPressureBeginsBeforeAnybodyWaits(t *testing.T) {
	t.Parallel()
	p := NewPool(800)
	defer p.Close()
	mustAcquire(t, p, 700)
	select {
	case <-p.Pressure():
		t.Error("pressure while an eighth is left")
	default:
	}
	mustAcquire(t, p, 1)
	select {
	case <-p.Pressure():
	default:
		t.Error("no pressure with less than an eighth left")
	}
	if p.Relieved() {
		t.Error("relieved with 701 of 800 in use")
	}
	p.Unacquire(101)
	if !p.Relieved() {
		t.Error("not relieved with a quarter left")
	}
	p.Unacquire(600)
}

func TestAcquireWaitsInOrderOfArrival(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1000)
		defer p.Close()
		mustAcquire(t, p, 900)
		first := start(t.Context(), p, 400)
		waiting(first)
		second := start(t.Context(), p, 10) // would fit, but came later
		waiting(second)
		if p.Waiting() != 2 {
			t.Errorf("Waiting = %d, want 2", p.Waiting())
		}
		select {
		case <-p.Pressure():
		default:
			t.Error("no pressure was signalled")
		}
		p.Unacquire(200)
		waiting(first)
		p.Unacquire(200)
		synctest.Wait()
		if err := <-first; err != nil {
			t.Errorf("first: %v", err)
		}
		if err := <-second; err != nil {
			t.Errorf("second: %v", err)
		}
		p.Unacquire(910)
		if p.InUse() != 0 {
			t.Errorf("InUse = %d", p.InUse())
		}
	})
}

func TestACancelledAcquireLetsTheNextOneIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1000)
		defer p.Close()
		mustAcquire(t, p, 600)
		cause := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		first := start(ctx, p, 450)
		waiting(first)
		second := start(t.Context(), p, 300)
		waiting(second)
		cancel(cause)
		synctest.Wait()
		if err := <-first; !errors.Is(err, cause) {
			t.Errorf("first: %v, want %v", err, cause)
		}
		if err := <-second; err != nil {
			t.Errorf("second: %v", err)
		}
		if p.InUse() != 900 {
			t.Errorf("InUse = %d, want 900", p.InUse())
		}
	})
}

func TestAcquireStopsAtItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1000)
		defer p.Close()
		mustAcquire(t, p, 1000)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := p.Acquire(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire: %v", err)
		}
	})
}

func TestARequestLargerThanTheBudgetIsLetThroughWhenHalfIsFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1000)
		defer p.Close()
		mustAcquire(t, p, 501)
		big := start(t.Context(), p, 5000)
		waiting(big)
		p.Unacquire(1)
		synctest.Wait()
		if err := <-big; err != nil {
			t.Errorf("big: %v", err)
		}
	})
}

func TestReleaseWakesWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(2 * smallestSlab)
		defer p.Close()
		tl := p.NewTail(0)
		mustAppend(t, tl, make([]byte, 2*smallestSlab))
		w := start(t.Context(), p, 100)
		waiting(w)
		tl.ReleaseTo(tl.End())
		synctest.Wait()
		if err := <-w; err != nil {
			t.Errorf("Acquire after the release: %v", err)
		}
	})
}

func TestCloseWakesWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(10)
		mustAcquire(t, p, 10)
		w := start(t.Context(), p, 1)
		waiting(w)
		p.Close()
		synctest.Wait()
		if err := <-w; !errors.Is(err, ErrClosed) {
			t.Errorf("waiter: %v", err)
		}
		if err := p.Acquire(t.Context(), 0); !errors.Is(err, ErrClosed) {
			t.Errorf("Acquire after Close: %v", err)
		}
	})
}

func TestUsingMoreThanWasReservedPanics(t *testing.T) {
	t.Parallel()
	p := NewPool(1000)
	mustAcquire(t, p, 3)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_, _ = p.NewTail(0).Append([]byte("four"))
}

// TestManyProducersStayWithinTheBudget lets more producers than fit run against one slow releaser and checks the bound and
// that nothing leaks.
func TestManyProducersStayWithinTheBudget(t *testing.T) {
	t.Parallel()
	const budget, tails, each = 1 << 20, 8, 400
	p := NewPool(budget)
	defer p.Close()
	var all []*Tail
	for range tails {
		all = append(all, p.NewTail(0))
	}
	var producers, releaser sync.WaitGroup
	stop := make(chan struct{})
	releaser.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-p.Pressure():
			}
			for _, tl := range all {
				tl.ReleaseTo(tl.End())
			}
		}
	})
	for i, tl := range all {
		producers.Go(func() {
			for j := range each {
				mustAppend(t, tl, make([]byte, 1+(i*7919+j*104729)%20_000))
				if n := p.InUse(); n > budget+4*tails*20_000 {
					t.Errorf("InUse = %d with a budget of %d", n, budget)
				}
			}
		})
	}
	producers.Wait()
	close(stop)
	releaser.Wait()
	for _, tl := range all {
		tl.Close()
	}
	if p.InUse() != 0 {
		t.Errorf("InUse = %d at the end", p.InUse())
	}
}
