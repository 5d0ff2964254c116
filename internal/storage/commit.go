package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// expectCommitLocked notes, before p's entries go to the wal, that p wants to hear of its groups. p.mu is held.
func (e *Engine) expectCommitLocked(p *Partition) {
	if p.listed {
		return
	}
	p.listed = true
	e.waitingIn.Add(1)
	e.commitMu.Lock()
	e.uncommitted = append(e.uncommitted, p)
	e.commitMu.Unlock()
}

// Committed implements wal.Committer: it makes a durable group visible. High watermarks move first, then the watchers of all
// the partitions that moved are woken, each once. It runs on the wal's goroutine and does not block on I/O.
func (e *Engine) Committed(group wal.Sequence) {
	e.wakeMu.Lock()
	defer e.wakeMu.Unlock()
	e.committed.Store(uint64(group))
	e.commitMu.Lock()
	listed := e.uncommitted
	e.uncommitted = e.committing[:0]
	e.commitMu.Unlock()

	e.wake++
	waiting := 0
	for _, p := range listed {
		if e.commitPartition(p, group) {
			listed[waiting] = p
			waiting++
		}
	}
	e.commitMu.Lock()
	e.uncommitted = append(e.uncommitted, listed[:waiting]...)
	e.commitMu.Unlock()
	clear(listed)
	e.committing = listed[:0]

	for i, w := range e.waking {
		w.signal()
		e.waking[i] = nil
	}
	e.waking = e.waking[:0]
	if e.pool.Waiting() > 0 {
		e.wantRelief() // what is durable now can be flushed
	}
	e.checkpointIfLarge()
}

// commitPartition moves p's high watermark to what group made durable. It reports whether later groups hold more of p.
func (e *Engine) commitPartition(p *Partition, group wal.Sequence) (more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := 0
	for done < len(p.commits) && p.commits[done].group <= group {
		done++
	}
	if done > 0 && plant.On(plant.LaggingHighWatermark) {
		done--
	}
	if done > 0 {
		last := p.commits[done-1]
		e.waiting.Add(p.hwPos - last.pos)
		p.commits = p.commits[:copy(p.commits, p.commits[done:])]
		if p.hw != last.end {
			for w := range p.watchers {
				if w.wake != e.wake {
					w.wake = e.wake
					e.waking = append(e.waking, w)
				}
			}
		}
		p.hw, p.hwPos = last.end, last.pos
		if len(p.ended) > 0 {
			p.settleTxnsLocked()
		}
		p.queueFlushLocked()
	}
	if p.listed = len(p.commits) > 0; !p.listed {
		e.waitingIn.Add(-1)
	}
	return p.listed
}

// Durable reports whether the commit group seq is known to be durable and visible, so that Wait(seq) would not wait. With
// wal.UnsafeMemory, where a group goes on growing after it was acknowledged, nothing is known.
func (e *Engine) Durable(seq wal.Sequence) bool {
	return seq == 0 || e.cfg.AckMode != wal.UnsafeMemory && seq <= e.durable()
}

// Wait returns nil once the commit group seq is durable and visible. ErrFailed if it never will be.
// A sequence of 0 is durable at once.
func (e *Engine) Wait(ctx context.Context, seq wal.Sequence) error { return e.WaitFor(ctx, seq, 0) }

// WaitFor is Wait, and returns context.DeadlineExceeded if that takes longer than patience. 0 stands for any time.
func (e *Engine) WaitFor(ctx context.Context, seq wal.Sequence, patience time.Duration) error {
	if err := e.Err(); err != nil {
		return err
	}
	if seq == 0 {
		return nil
	}
	if err := e.walError(e.log.WaitFor(ctx, seq, patience)); err != nil {
		return fmt.Errorf("wait for commit group %d: %w", seq, err)
	}
	return nil
}
