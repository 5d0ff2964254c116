package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// checkpointShare is the part of the wal that may fill between two checkpoints: a quarter leaves room for a slow one.
const checkpointShare = 4

// kickCheckpoint asks for a checkpoint soon.
func (e *Engine) kickCheckpoint() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// checkpointIfLarge asks for a checkpoint when enough of the wal has filled since the last.
func (e *Engine) checkpointIfLarge() {
	e.dirty.Store(true)
	if e.log.LiveBytes()+e.placed.Load() >= e.trigger.Load() {
		e.kickCheckpoint()
	}
}

// Checkpoint writes a checkpoint now.
func (e *Engine) Checkpoint(ctx context.Context) error {
	if err := e.usable(); err != nil {
		return err
	}
	return e.checkpoint(ctx)
}

// checkpoint makes everything flushed durable, writes down where each partition stands, and lets the wal reuse what no
// partition needs any more. The order is the point: see doc.go.
func (e *Engine) checkpoint(ctx context.Context) error {
	e.checkpointMu.Lock()
	defer e.checkpointMu.Unlock()
	e.trigger.Store(math.MaxInt64) // what fills meanwhile is no reason for another right after this one
	defer func() {
		e.trigger.Store(max(e.cfg.WALMaxBytes/checkpointShare, e.log.LiveBytes()+e.cfg.WALMaxBytes/(2*checkpointShare)))
	}()
	e.dirty.Store(false)
	// Whatever is logged from here on has at least this sequence, so that replay from it misses no move made while the
	// partitions are captured one after another.
	next := e.log.Durable() + 1
	placed := e.placed.Load()
	if plant.On(plant.ReleaseEarly) {
		_ = e.log.Release(next)
	}
	partitions := e.snapshot()
	carried, err := e.freeOldest(partitions, next)
	if err != nil {
		return err
	}
	// A copy replaces its original as soon as a checkpoint names its group.
	if err := e.walError(e.log.Wait(ctx, carried)); err != nil {
		return err
	}
	file := &checkpointFile{From: next}
	captured, err := e.captureAll(partitions, next)
	if err != nil {
		e.abandonCapture(captured)
		return err
	}
	removals := e.completeCheckpoint(file, captured)
	if oldest := e.log.OldestLive(); file.From < e.released {
		panic(fmt.Sprintf("storage: a checkpoint needs group %d, groups before %d were released (oldest live: %d)", file.From, e.released, oldest))
	}
	if err := writeCheckpoint(e.cfg.FS, e.cfg.Dir, file); err != nil {
		e.abandonCapture(captured)
		return err
	}
	if err := e.log.Release(file.From); err != nil {
		return e.walError(err)
	}
	e.previous, e.released = next, file.From
	e.placed.Add(-placed)
	for _, c := range captured {
		c.p.checkpointedTo(c.sealed)
		if err := c.p.cutStrewn(c.flushed); err != nil {
			return err
		}
	}
	e.dropListed(captured, removals)
	return nil
}

// capture is what a checkpoint takes of a partition.
type capture struct {
	p       *Partition
	encoded []byte       // its record; nil = there is nothing to remember
	needed  wal.Sequence // oldest group that it needs, where waits
	waits   bool         // something of it is only in the wal
	dropped []*droppedSegment
	sealed  base.Offset // end of its sealed segments
	flushed base.Offset // end of what is in segments

	unsynced *segment.Segment // written out and not synced, nil if there is nothing
}

// capture brings p's files up to its flushed offset and writes down its state as of it. A partition that has not changed gives what it
// gave last time. The files are durable when it returns, unless together is set: then syncTogether has to follow.
func (p *Partition) capture(next wal.Sequence, together bool) (*capture, error) {
	p.flushMu.Lock()
	defer p.flushMu.Unlock()
	c := &capture{p: p}
	switch {
	case p.unsynced && together:
		c.unsynced = p.flushedSegment()
		if err := c.unsynced.WriteOut(); err != nil {
			return nil, err
		}
	case p.unsynced:
		if err := p.flushedSegment().Sync(); err != nil {
			return nil, err
		}
		p.unsynced = false
	}
	p.flushed.sweep()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed {
		p.encoded = p.encodeLocked(next)
		seg := p.segments[p.flushing].seg
		p.covered = seg != nil
		p.changed = false
		if seg != nil && p.flushedPos == p.endPos && p.e.now().Sub(p.lastAppend) >= p.e.cfg.IdleFlush {
			seg.Shrink() // ten thousand idle partitions keep nothing that can be read again
		}
	}
	c.encoded, c.dropped, c.sealed = p.encoded, slices.Clone(p.dropped), p.segments[p.flushing].base
	c.needed, c.waits = p.neededLocked()
	c.flushed = p.flushedEnd
	return c, nil
}

// checkpointedTo notes that a durable checkpoint lists the segments before an offset as sealed.
func (p *Partition) checkpointedTo(sealed base.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleaner.checkpointed = sealed
}

func (p *Partition) markChanged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed = true
}

// encodeLocked is p's record, nil if there is nothing to remember. p.flushMu is held too.
func (p *Partition) encodeLocked(next wal.Sequence) []byte {
	if p.blankLocked() {
		return nil
	}
	r := partitionRecord{
		ID: p.id, Topic: p.topic, From: next, LogStart: p.logStart, FlushedEnd: p.flushedEnd,
		Epochs: p.epochs, Producers: p.flushed, CleanedTo: p.cleaner.cleanedTo, Forgotten: p.cleaner.forgotten, Swaps: p.cleaner.swaps,
	}
	if plant.On(plant.ProducersOfNow) {
		r.Producers = p.producers
	}
	if needed, ok := p.neededLocked(); ok && !plant.On(plant.ReplayTooLate) {
		r.From = needed
	}
	for _, s := range p.segments[:p.flushing] {
		if s.seg != nil {
			r.Sealed = append(r.Sealed, s.seg.State())
		} else {
			r.Sealed = append(r.Sealed, sealedEmpty(s.base))
		}
	}
	active := p.segments[p.flushing]
	if active.seg == nil {
		r.Active = segment.Create(segment.Options{Base: active.base}).State()
	} else {
		r.Active = active.seg.Current()
	}
	for _, d := range p.dropped {
		r.Dropped = append(r.Dropped, d.state)
	}
	for _, d := range p.damage {
		if i := p.segmentAtLocked(d.from); d.missing() && i >= 0 {
			s := p.segments[i]
			r.Missing = append(r.Missing, missingRecord{Segment: s.base, Pos: d.from - s.start, Damage: d.damage})
		}
	}
	return r.appendTo(nil)
}

// blankLocked reports that there is nothing to remember of p.
func (p *Partition) blankLocked() bool {
	return p.flushedEnd == 0 && p.flushedPos == 0 && len(p.segments) == 1 && p.segments[0].base == 0 && p.logStart == 0 &&
		len(p.dropped) == 0 && len(p.damage) == 0 && (len(p.epochs) == 0 || p.end == 0)
}

// completeCheckpoint fills file from what was captured. Partitions deleted meanwhile are left out; the removals that it lists
// instead are returned.
func (e *Engine) completeCheckpoint(file *checkpointFile, captured []*capture) []*pendingRemoval {
	e.mu.RLock()
	defer e.mu.RUnlock()
	gone := make(map[base.TopicIDPartition]bool, len(e.removals))
	for _, r := range e.removals {
		if !r.done {
			gone[r.ID] = true
			file.Removals = append(file.Removals, r.removal)
		}
	}
	for _, c := range captured {
		if gone[c.p.id] {
			continue
		}
		if c.encoded != nil {
			file.encoded = append(file.encoded, c.encoded)
		}
		if c.waits {
			file.From = min(file.From, c.needed)
		}
	}
	file.Partitions = e.orphans
	for id, until := range e.tombs {
		file.Tombs = append(file.Tombs, tomb{id, until})
	}
	slices.SortFunc(file.Tombs, func(a, b tomb) int { return strings.Compare(string(a.ID[:]), string(b.ID[:])) })
	file.HighestProducer = e.HighestProducerID()
	return slices.Clone(e.removals)
}

// abandonCapture makes the next checkpoint take everything anew.
func (e *Engine) abandonCapture(captured []*capture) {
	for _, c := range captured {
		c.p.markChanged()
	}
	e.dirty.Store(true)
}

// freeOldest flushes or copies forward what keeps the oldest groups of the wal from being released: those before the previous
// checkpoint, or, when the wal is nearly full, all. It returns the last group that holds a copy.
func (e *Engine) freeOldest(partitions []*Partition, next wal.Sequence) (carried wal.Sequence, err error) {
	horizon := e.previous
	if e.log.LiveBytes() > e.cfg.WALMaxBytes/4*3 {
		horizon = next
	} else if e.log.LiveBytes() < e.cfg.WALMaxBytes/checkpointShare {
		return 0, nil // nothing is short: blocks may go on filling
	}
	var old []*Partition
	for _, p := range partitions {
		if p.needsBefore(horizon) {
			old = append(old, p)
		}
	}
	if err := e.makeFolders(old); err != nil && !retriable(err) {
		return 0, err
	}
	var mu sync.Mutex // guards carried
	err = inParallel(reliefWorkers, old, func(p *Partition) error {
		group, err := p.freeBefore(horizon)
		if err != nil && !retriable(err) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		carried = max(carried, group)
		return nil
	})
	return carried, err
}

// freeBefore makes p independent of the wal before horizon: a large rest is flushed, a small one copied forward.
func (p *Partition) freeBefore(horizon wal.Sequence) (carried wal.Sequence, err error) {
	p.flushMu.Lock()
	defer p.flushMu.Unlock()
	if !p.needsBefore(horizon) {
		return 0, nil
	}
	if err := p.flushHeld(remainder); err != nil || !p.needsBefore(horizon) {
		return 0, err
	}
	carried, err = p.carryForward()
	if errors.Is(err, ErrNoSpace) {
		return 0, p.flushHeld(1) // where there is no room for copies, waiting for it would never end
	}
	return carried, err
}

func (p *Partition) needsBefore(horizon wal.Sequence) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	needed, ok := p.neededLocked()
	return ok && needed < horizon && !p.deleted
}

// carryForward logs what waits in the tail once more, so that the groups that hold it now can be released. p.flushMu is held.
func (p *Partition) carryForward() (wal.Sequence, error) {
	for range 4 {
		p.mu.Lock()
		size := p.endPos - p.flushedPos
		p.mu.Unlock()
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(p.e.ctx), fullDiskWait, wal.ErrFull)
		r, err := p.e.log.ReserveCarry(ctx, 1+int(size))
		cancel()
		if err != nil {
			return 0, p.e.walError(err)
		}
		group, ok, err := p.carryReserved(&r, size)
		if err != nil || ok {
			return group, err
		}
		r.Cancel()
	}
	return 0, nil // it is being appended to, so it will soon have a block to flush
}

// carryReserved is carryForward once there is room for size bytes; ok is false if the partition has grown meanwhile, or a roll
// stands between the bytes.
func (p *Partition) carryReserved(r *wal.Reservation, size int64) (group wal.Sequence, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleted || p.endPos-p.flushedPos != size || p.flushing+1 < len(p.segments) {
		return 0, false, nil
	}
	data := make([]byte, 1+size)
	data[0] = carryBatches
	if n, held := p.tail.ReadAt(data[1:], p.flushedPos); !held || n < int(size) {
		return 0, false, fmt.Errorf("%v: the tail lacks position %d", p, p.flushedPos)
	}
	first := p.flushedEnd
	if at, found := p.index.floorPos(p.flushedPos); found {
		first = max(first, at.offset)
	}
	group = p.e.log.Append(r, wal.Entry{
		Kind: wal.Carry, Partition: p.id, FirstOffset: first, LastOffset: p.end - 1, Data: data,
	}, nil)
	for i := range p.index.entries {
		p.index.entries[i].group = group
	}
	p.changed = true
	return group, true, nil
}

// runCheckpoints writes checkpoints when asked to.
func (e *Engine) runCheckpoints() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.kick:
		}
		err := e.checkpoint(e.ctx)
		switch {
		case err == nil:
			e.diskFull.Store(false)
			e.retryStalled()
		case e.ctx.Err() != nil:
			return
		case errors.Is(err, ErrNoSpace) || disk.IsNoSpace(err):
			if !e.diskFull.Swap(true) {
				e.cfg.Logger.Warn("no space for a checkpoint; it is put off", "err", err)
			}
		default:
			e.fail(fmt.Errorf("checkpoint: %w", err))
		}
	}
}
