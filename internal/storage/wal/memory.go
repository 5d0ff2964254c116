package wal

import (
	"context"
	"errors"
	"time"
)

// acknowledge is a goroutine of UnsafeMemory: it tells committers of what was appended, whether or not it was written.
func (l *Log) acknowledge() {
	var told committerSet
	waits := map[Sequence]chan struct{}{}
	for range l.wakeA {
		l.mu.Lock()
		told, l.untold = l.untold, told
		waits, l.waits = l.waits, waits
		l.telling = true
		seq := l.filling.seq
		if len(l.filling.runs) == 0 {
			seq--
		}
		over, closed := l.err != nil, errors.Is(l.err, ErrClosed)
		l.mu.Unlock()
		if over && !closed {
			return // who waits sees that the wal is over
		}
		told.tell(seq)
		told.reset()
		l.durable.Store(uint64(seq))
		l.mu.Lock()
		l.telling = false
		l.mu.Unlock()
		for _, ch := range waits {
			close(ch)
		}
		clear(waits)
		if over {
			return
		}
	}
}

// waitTold waits until everything appended so far was told of. In UnsafeMemory entries may join a group that was already acknowledged,
// so the group's sequence says nothing.
func (l *Log) waitTold(ctx context.Context, late <-chan time.Time) error {
	l.mu.Lock()
	if !l.telling && len(l.untold.list) == 0 {
		l.mu.Unlock()
		return nil
	}
	if l.err != nil && !errors.Is(l.err, ErrClosed) {
		l.mu.Unlock()
		return l.err
	}
	ch := l.waitChannelLocked(0)
	l.mu.Unlock()
	signal(l.wakeA)
	select {
	case <-ch:
		return nil
	case <-l.failed:
		return l.Err()
	case <-late:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
