package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// EndToEnd measures the time from when a record was due to be sent until a consumer has it. Both are in this process, so one clock
// counts.
type EndToEnd struct {
	Produce Produce
	// Consumers is the number of connections that consume.
	Consumers int
	// OneAtATime waits for each record to be consumed before it sends the next. Produce needs one connection then.
	OneAtATime bool
}

// drainTimeout is how long what was sent last may take to be consumed.
const drainTimeout = 30 * time.Second

// sentTimes remembers when the batches of one partition were due. One connection writes to a partition, so they arrive in their order.
type sentTimes struct {
	mu    sync.Mutex // guards the fields below
	first int64      // offset of due[0]
	due   []time.Time
}

// Run sends and consumes, and returns the latencies of batches.
func (l EndToEnd) Run(ctx context.Context, addr string) (*Latencies, error) {
	ends, err := EndOffsets(ctx, addr, l.Produce.Partitions)
	if err != nil {
		return nil, err
	}
	if len(l.Produce.Partitions) < l.Produce.Connections {
		return nil, fmt.Errorf("%d connections for %d partitions: batches of one partition would come in any order", l.Produce.Connections, len(l.Produce.Partitions))
	}
	times := make(map[Partition]*sentTimes, len(ends))
	for p, end := range ends {
		times[p] = &sentTimes{first: end}
	}
	var (
		mu        sync.Mutex // guards latencies
		latencies = NewLatencies()
		wanted    atomic.Int64
		seen      = make(chan struct{}, 1) // one was consumed
		consumed  atomic.Int64
	)
	sending, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	if l.OneAtATime {
		l.Produce.Connections, l.Produce.InFlight = 1, 1
	}
	l.Produce.sending = func(p Partition, due time.Time) {
		if l.OneAtATime {
			select {
			case <-seen:
			case <-sending.Done():
			}
			due = time.Now()
		}
		wanted.Add(1)
		t := times[p]
		t.mu.Lock()
		defer t.mu.Unlock()
		t.due = append(t.due, due)
	}
	seen <- struct{}{}
	consume := Consume{Partitions: l.Produce.Partitions, From: ends, Connections: l.Consumers}
	consume.received = func(p Partition, first, _ int64, at time.Time) {
		t := times[p]
		t.mu.Lock()
		due := t.due[(first-t.first)/int64(l.Produce.Batch.Records)]
		t.mu.Unlock()
		mu.Lock()
		latencies.Record(at.Sub(due))
		mu.Unlock()
		consumed.Add(1)
		if l.OneAtATime {
			seen <- struct{}{}
		}
	}

	consuming, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan error, 1)
	go func() {
		_, err := consume.Run(consuming, addr)
		done <- err
	}()
	failed := make(chan error, 1)
	go func() { // a consumer that fails ends the producer too
		err := <-done
		if err != nil {
			abort(err)
		}
		failed <- err
	}()
	_, err = l.Produce.Run(sending, addr)
	for deadline := time.Now().Add(drainTimeout); err == nil && consumed.Load() < wanted.Load() && sending.Err() == nil; {
		if time.Now().After(deadline) {
			err = fmt.Errorf("only %d of %d batches were consumed", consumed.Load(), wanted.Load())
		}
		time.Sleep(time.Millisecond)
	}
	stop(nil)
	if consumeErr := <-failed; err == nil {
		err = consumeErr
	}
	return latencies, err
}
