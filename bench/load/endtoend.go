package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ottlaio/ottla/internal/record"
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
	if l.OneAtATime {
		l.Produce.Connections, l.Produce.InFlight = 1, 1
	}
	seen <- struct{}{}
	consume := Consume{Partitions: l.Produce.Partitions, From: ends, Connections: l.Consumers}
	consume.received = func(p Partition, h record.Header, at time.Time) {
		t := times[p]
		t.mu.Lock()
		due := t.due[(int64(h.BaseOffset)-t.first)/int64(l.Produce.Batch.Records)]
		t.mu.Unlock()
		mu.Lock()
		latencies.Record(at.Sub(due))
		mu.Unlock()
		consumed.Add(1)
		if l.OneAtATime {
			seen <- struct{}{}
		}
	}
	err = consume.during(ctx, addr, &consumed, &wanted, func(ctx context.Context) error {
		l.Produce.sending = func(p Partition, due time.Time) {
			if l.OneAtATime {
				select {
				case <-seen:
				case <-ctx.Done():
				}
				due = time.Now()
			}
			wanted.Add(1)
			t := times[p]
			t.mu.Lock()
			defer t.mu.Unlock()
			t.due = append(t.due, due)
		}
		_, err := l.Produce.Run(ctx, addr)
		return err
	})
	return latencies, err
}

// during consumes while do produces, and then until all that is wanted was consumed. When either fails the other is ended.
func (l Consume) during(ctx context.Context, addr string, consumed, wanted *atomic.Int64, do func(ctx context.Context) error) error {
	producing, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	consuming, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	failed := make(chan error, 1)
	go func() {
		_, err := l.Run(consuming, addr)
		if err != nil {
			abort(err)
		}
		failed <- err
	}()
	err := do(producing)
	for deadline := time.Now().Add(drainTimeout); err == nil && consumed.Load() < wanted.Load() && producing.Err() == nil; {
		if time.Now().After(deadline) {
			err = fmt.Errorf("only %d of %d batches were consumed", consumed.Load(), wanted.Load())
		}
		time.Sleep(time.Millisecond)
	}
	stop(nil)
	if consumeErr := <-failed; err == nil {
		err = consumeErr
	}
	return err
}
