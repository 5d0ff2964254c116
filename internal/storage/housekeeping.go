package storage

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// flushWorkers is how many partitions are flushed at a time: one direct write keeps a disk busy, the second hides the
	// bookkeeping between writes.
	flushWorkers = 2
	// reliefWorkers is how many partitions are flushed at a time when memory runs short. Their pieces are smaller than a block.
	reliefWorkers = 4
	// reliefChunk is how many partitions get their folders at a time then.
	reliefChunk = 128
	// expiryInterval is the time between looks for expired producers (producer.id.expiration.check.interval.ms).
	expiryInterval = 10 * time.Minute
)

// now is the wall clock.
func (e *Engine) now() time.Time { return time.Now() }

// plentiful reports that there is memory enough for appends, however slowly the tails are flushed.
func (e *Engine) plentiful() bool { return e.pool.InUse() < e.pool.Budget()/4 }

// runFlusher flushes the partitions that are queued, one at a time among all flushers while memory is plentiful: partitions that fill at the
// same pace are queued together, and appends, which wait for the same disk, would meet all of them at once.
func (e *Engine) runFlusher() {
	for {
		p := e.flusher.take()
		if p == nil {
			select {
			case <-e.ctx.Done():
				return
			case <-e.flusher.ready:
			}
			continue
		}
		if e.ctx.Err() != nil {
			return
		}
		e.flushQueued(p)
	}
}

// flushQueued flushes a partition that was queued.
func (e *Engine) flushQueued(p *Partition) {
	if e.plentiful() {
		e.flushAlone <- struct{}{}
		defer func() { <-e.flushAlone }()
	}
	p.mu.Lock()
	p.queued = false
	p.mu.Unlock()
	e.flushed(p, p.flush(flushBlock))
}

// flushed looks at how the flush of p went. One that left no doubt is tried again soon; any other error ends the engine.
func (e *Engine) flushed(p *Partition, err error) {
	switch {
	case err == nil:
		e.fullTold.Store(false)
		e.diskFull.Store(false)
	case e.ctx.Err() != nil: // stopped or failed already
	case retriable(err):
		if !errors.Is(err, errFolderTaken) {
			e.diskFull.Store(true)
			if !e.fullTold.Swap(true) { // a checkpoint that succeeds in between says nothing about room for data
				e.cfg.Logger.Warn("no space to flush; records wait in the wal", "topic", p.topic, "partition", p.id.Partition, "err", err)
			}
		}
		e.stalled.add(p)
	default:
		e.fail(err)
	}
}

// stalledList holds partitions whose flush could not be done yet.
type stalledList struct {
	mu         sync.Mutex // guards partitions
	partitions []*Partition
}

func (s *stalledList) add(p *Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.partitions, p) {
		s.partitions = append(s.partitions, p)
	}
}

func (s *stalledList) take() []*Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.partitions
	s.partitions = nil
	return taken
}

// retryStalled queues the partitions whose flush could not be done.
func (e *Engine) retryStalled() {
	for _, p := range e.stalled.take() {
		p.mu.Lock()
		p.queueFlushLocked()
		p.mu.Unlock()
	}
}

// wantRelief asks runRelief to look.
func (e *Engine) wantRelief() {
	select {
	case e.relief <- struct{}{}:
	default:
	}
}

// runRelief flushes beyond whole blocks while appends wait for the tail's memory.
func (e *Engine) runRelief() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.pool.Pressure():
		case <-e.relief:
		}
		e.relieve()
	}
}

// runHousekeeping does what is done by the clock.
func (e *Engine) runHousekeeping() {
	tickers := []*time.Ticker{
		time.NewTicker(max(e.cfg.IdleFlush/2, time.Millisecond)), time.NewTicker(e.cfg.RetentionInterval),
		time.NewTicker(e.cfg.CheckpointInterval), time.NewTicker(expiryInterval), time.NewTicker(fullDiskWait),
	}
	defer func() {
		for _, t := range tickers {
			t.Stop()
		}
	}()
	for {
		select {
		case <-e.ctx.Done():
			return
		case now := <-tickers[0].C:
			e.flushIdle(now)
			e.unlinkDue(now)
		case <-tickers[1].C:
			if err := e.Retain(e.ctx); err != nil && e.ctx.Err() == nil {
				e.fail(err)
			}
		case <-tickers[2].C:
			if e.dirty.Load() {
				e.kickCheckpoint()
			}
		case <-tickers[3].C:
			e.sweepProducers()
		case <-tickers[4].C:
			if e.damageLate.Swap(false) {
				e.keepDamage()
			}
			if e.diskFull.Load() { // see whether there is room now
				e.retryStalled()
				e.kickCheckpoint()
				e.wantRelief()
			}
		}
	}
}

// flushIdle flushes the ends of partitions that got no append for a while, and gives their slabs back.
func (e *Engine) flushIdle(now time.Time) {
	for p := range e.Partitions() {
		p.mu.Lock()
		idle := now.Sub(p.lastAppend) >= e.cfg.IdleFlush && !p.deleted && (p.hwPos > p.flushedPos || len(p.index.entries) > 0 || p.hasRoomLocked())
		p.mu.Unlock()
		if !idle {
			continue
		}
		err := p.flush(1)
		if err == nil {
			err = p.trimRoom()
		}
		e.flushed(p, err)
		p.forgetFlushed()
	}
}

// relieve makes room in the tail's budget before appends have to wait for it: first what is flushed already is forgotten, then the
// partitions with most to flush are flushed, down to the last batch and several at a time, until there is room to spare.
func (e *Engine) relieve() {
	partitions := e.snapshot()
	waiting := make(map[*Partition]int64, len(partitions))
	for _, p := range partitions {
		p.forgetFlushed()
		p.shrinkTail()
		p.mu.Lock()
		waiting[p] = p.hwPos - p.flushedPos
		p.mu.Unlock()
	}
	slices.SortFunc(partitions, func(a, b *Partition) int { return cmp.Compare(waiting[b], waiting[a]) })
	for some := range slices.Chunk(partitions, reliefChunk) {
		if waiting[some[0]] == 0 || e.pool.Relieved() || e.ctx.Err() != nil {
			return
		}
		err := e.makeFolders(some)
		if err == nil {
			err = inParallel(reliefWorkers, some, func(p *Partition) error {
				if waiting[p] == 0 || e.pool.Relieved() {
					return nil
				}
				err := p.flush(1)
				e.flushed(p, err)
				p.forgetFlushed()
				if errors.Is(err, errFolderTaken) {
					err = nil
				}
				return err
			})
		} else {
			e.flushed(some[0], err)
		}
		if err != nil {
			return
		}
	}
}

// sweepProducers drops expired producers from memory.
func (e *Engine) sweepProducers() {
	for p := range e.Partitions() {
		p.mu.Lock()
		p.producers.sweep()
		p.mu.Unlock()
	}
}
