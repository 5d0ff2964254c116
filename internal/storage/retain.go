package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// DeleteRecords moves the log start to before (to the high watermark if before is -1) and returns the log start as it is then.
// The move is durable once Engine.Wait has returned nil. ErrOffsetOutOfRange above the high watermark and below -1.
func (p *Partition) DeleteRecords(ctx context.Context, before base.Offset) (base.Offset, wal.Sequence, error) {
	start, group, err := p.moveLogStart(ctx, before)
	if err != nil {
		return 0, 0, fmt.Errorf("delete records of %v: %w", p, err)
	}
	if err := p.dropSegments(ctx, func(segmentFacts) bool { return false }); err != nil && !errors.Is(err, ErrNoSpace) {
		return 0, 0, fmt.Errorf("delete records of %v: %w", p, err)
	}
	return start, group, nil
}

func (p *Partition) moveLogStart(ctx context.Context, before base.Offset) (base.Offset, wal.Sequence, error) {
	if err := p.e.usable(); err != nil {
		return 0, 0, err
	}
	r, err := p.e.log.ReserveCarry(ctx, 0)
	if err != nil {
		return 0, 0, p.e.walError(err)
	}
	defer r.Cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return 0, 0, err
	}
	if before == -1 {
		before = p.hw
	}
	if before < 0 || before > p.hw {
		return 0, 0, fmt.Errorf("%w: %d, the high watermark is %d", ErrOffsetOutOfRange, before, p.hw)
	}
	if before <= p.logStart {
		return p.logStart, 0, nil
	}
	if plant.On(plant.UnloggedLogStart) {
		p.startAtLocked(before)
		return p.logStart, 0, nil
	}
	if before < p.hw && plant.On(plant.DeleteTooMany) {
		before++
	}
	group := p.e.log.Append(&r, wal.Entry{Kind: wal.LogStart, Partition: p.id, FirstOffset: before, LastOffset: p.end}, p.e)
	p.startAtLocked(before)
	return p.logStart, group, nil
}

// startAtLocked moves the log start.
func (p *Partition) startAtLocked(start base.Offset) {
	if start <= p.logStart {
		return
	}
	p.logStart = start
	p.epochs = p.epochs.truncateStart(start)
	p.changed = true
}

// Retain applies retention to every partition now, as the ticker does each Config.RetentionInterval.
func (e *Engine) Retain(ctx context.Context) error {
	for p := range e.Partitions() {
		if err := p.retain(ctx); err != nil && !retriable(err) && !errors.Is(err, ErrDeleted) {
			return fmt.Errorf("retention of %v: %w", p, err)
		}
	}
	return nil
}

// retain drops the segments that are too old or too many (cleanup.policy=delete), as Kafka's UnifiedLog.deleteOldSegments does.
func (p *Partition) retain(ctx context.Context) error {
	now := p.e.now()
	doomed := p.retention(now)
	// The active segment can be dropped once it is ended and another one begun.
	if rolled, err := p.rollIfDoomed(ctx, doomed); err != nil {
		return err
	} else if rolled {
		if err := p.flush(1); err != nil {
			return err
		}
	}
	return p.dropSegments(ctx, p.retention(now))
}

// segmentFacts is what retention may ask of a segment.
type segmentFacts struct {
	size         int64
	maxTimestamp int64
	total        int64 // bytes of it and all later segments
}

// retention is the rule of cleanup.policy=delete: by age and by size.
func (p *Partition) retention(now time.Time) func(segmentFacts) bool {
	c := p.Config()
	return func(s segmentFacts) bool {
		if !c.Delete {
			return false
		}
		tooOld := c.Retention >= 0 && s.maxTimestamp >= 0 && now.UnixMilli()-s.maxTimestamp > c.Retention.Milliseconds()
		tooMany := c.RetentionBytes >= 0 && s.total-c.RetentionBytes >= s.size
		if plant.On(plant.RetainTooLittle) {
			tooMany = c.RetentionBytes >= 0 && s.total > c.RetentionBytes
		}
		return tooOld || tooMany
	}
}

// factsLocked describes segment i.
func (p *Partition) factsLocked(i int) segmentFacts {
	s := p.segments[i]
	total := p.endPos - s.start
	if p.holes > 0 {
		for _, later := range p.segments[i:] {
			total -= later.hole
		}
	}
	return segmentFacts{size: s.dataEnd(p.segmentEndLocked(i)) - s.start, maxTimestamp: s.maxTimestamp, total: total}
}

// rollIfDoomed ends the active segment if retention would drop all segments, this one included.
func (p *Partition) rollIfDoomed(ctx context.Context, doomed func(segmentFacts) bool) (bool, error) {
	p.mu.Lock()
	all := p.allDoomedLocked(doomed)
	p.mu.Unlock()
	if !all {
		return false, nil
	}
	r, err := p.e.log.ReserveCarry(ctx, 0)
	if err != nil {
		return false, p.e.walError(err)
	}
	defer r.Cancel()
	group, err := func() (wal.Sequence, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if err := p.usableLocked(); err != nil {
			return 0, err
		}
		if !p.allDoomedLocked(doomed) {
			return 0, nil
		}
		group := p.e.log.Append(&r, wal.Entry{Kind: wal.Roll, Partition: p.id, FirstOffset: p.end, LastOffset: p.end}, p.e)
		p.rollLocked(group)
		return group, nil
	}()
	if err != nil || group == 0 {
		return false, err
	}
	return true, p.e.Wait(ctx, group)
}

// allDoomedLocked reports whether retention would drop every segment, the active one included, which holds durable records.
func (p *Partition) allDoomedLocked(doomed func(segmentFacts) bool) bool {
	if p.deleted || p.endPos == p.activeLocked().start || p.hwPos < p.endPos {
		return false
	}
	for i := range p.segments {
		if !doomed(p.factsLocked(i)) {
			return false
		}
	}
	return true
}

// dropSegments takes the oldest segments out of the log, as long as doomed says so or the log start lies beyond them. Only
// segments that are sealed and wholly below the high watermark can go.
func (p *Partition) dropSegments(ctx context.Context, doomed func(segmentFacts) bool) error {
	most := p.droppable(doomed)
	if most == 0 {
		return nil
	}
	start, err := p.e.log.ReserveCarry(ctx, 0)
	if err != nil {
		return p.e.walError(err)
	}
	defer start.Cancel()
	list, err := p.e.log.ReserveCarry(ctx, 8*most)
	if err != nil {
		return p.e.walError(err)
	}
	defer list.Cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return err
	}
	n := min(most, p.droppableLocked(doomed))
	if n == 0 {
		return nil
	}
	bases := make([]base.Offset, n)
	for i, s := range p.segments[:n] {
		bases[i] = s.base
	}
	next := p.segments[n].base
	if next > p.logStart {
		p.e.log.Append(&start, wal.Entry{Kind: wal.LogStart, Partition: p.id, FirstOffset: next, LastOffset: p.end}, p.e)
		p.startAtLocked(next)
	}
	p.e.log.Append(&list, wal.Entry{
		Kind: wal.SegmentsDeleted, Partition: p.id, FirstOffset: bases[0], LastOffset: next - 1, Data: appendSegmentBases(nil, bases),
	}, p.e)
	p.dropLocked(n)
	return nil
}

func (p *Partition) droppable(doomed func(segmentFacts) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.droppableLocked(doomed)
}

// droppableLocked counts the oldest segments that may go.
func (p *Partition) droppableLocked(doomed func(segmentFacts) bool) int {
	n := 0
	for n < p.flushing && n+1 < len(p.segments) {
		next := p.segments[n+1].base
		if next > p.hw || next > p.logStart && !doomed(p.factsLocked(n)) {
			break
		}
		n++
	}
	return n
}

// dropLocked takes the oldest n segments, all sealed, out of the log.
func (p *Partition) dropLocked(n int) {
	due := p.e.now().Add(p.config.FileDeleteDelay)
	for _, s := range p.segments[:n] {
		p.holes -= s.hole
		if s.seg != nil && plant.On(plant.UnlinkEarly) {
			_ = s.seg.Remove()
		}
		if s.seg != nil {
			p.dropped = append(p.dropped, &droppedSegment{seg: s.seg, state: s.seg.State(), due: due})
		}
	}
	p.segments = append([]*segmentRef(nil), p.segments[n:]...)
	p.flushing -= n
	start := p.segments[0].start
	if len(p.damage) > 0 {
		p.e.keepDamage()
	}
	p.damage = slices.DeleteFunc(p.damage, func(d damagedRange) bool { return d.to <= start && d.from < start })
	p.changed = true
}
