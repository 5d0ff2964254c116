package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// swap is what a round has done to a group of segments. Without old ones it has found nothing to change.
type swap struct {
	old   []dirtySegment
	fresh []*segment.Segment // sealed and synced
	// cleanedTo is the end of the cleaned part of the log from then on, NoOffset = as before.
	cleanedTo base.Offset
	forgotten base.Offset
}

// errOvertaken says that segments of a round are no longer part of the log, or that damage was found in them.
var errOvertaken = errors.New("the segments have changed meanwhile")

// logSwap logs a swap and makes it, both under the partition's lock. The new files are durable already; the old ones go once a checkpoint
// no longer lists them.
func (p *Partition) logSwap(ctx context.Context, s swap) error {
	if len(s.old) == 0 && s.cleanedTo == base.NoOffset && s.forgotten <= p.Forgotten() {
		return nil
	}
	payload := swapPayload{cleanedTo: s.cleanedTo, forgotten: s.forgotten}
	for _, d := range s.old {
		payload.old = append(payload.old, d.base)
	}
	for _, f := range s.fresh {
		payload.fresh = append(payload.fresh, f.State())
	}
	r, err := p.e.log.ReserveCarry(ctx, len(payload.appendTo(nil)))
	if err != nil {
		return p.e.walError(err)
	}
	defer r.Cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return err
	}
	i, first, last := 0, p.logStart, p.end
	if len(s.old) > 0 {
		i = slices.Index(p.segments, s.old[0].segmentRef)
		j := i + len(s.old)
		if i < 0 || j > p.flushing || p.segments[j-1] != s.old[len(s.old)-1].segmentRef || p.damagedBeforeLocked(p.segments[j].start) {
			return errOvertaken
		}
		first, last = s.old[0].base, p.segments[j].base-1
	}
	payload.number = p.cleaner.swaps + 1
	if !plant.On(plant.SwapNotLogged) {
		p.e.log.Append(&r, wal.Entry{
			Kind: wal.SegmentsSwapped, Partition: p.id, FirstOffset: first, LastOffset: last, Data: payload.appendTo(nil),
		}, p.e)
	}
	p.swapLocked(i, payload, s.fresh)
	return nil
}

// swapLocked does what payload says, segment number i being the first of those that go.
func (p *Partition) swapLocked(i int, payload swapPayload, fresh []*segment.Segment) {
	p.cleaner.swaps = payload.number
	p.cleaner.cleanedTo = max(p.cleaner.cleanedTo, payload.cleanedTo)
	p.cleaner.forgotten = max(p.cleaner.forgotten, payload.forgotten)
	if len(payload.old) > 0 {
		p.replaceLocked(i, i+len(payload.old), fresh)
	}
	p.changed = true
}

// damagedBeforeLocked reports whether damage is known before a stream position.
func (p *Partition) damagedBeforeLocked(pos int64) bool {
	return len(p.damage) > 0 && p.damage[0].from < pos
}

// applySwap repeats a swap. One that the checkpoint knows already has a number that is not new.
func (r *recovery) applySwap(p *Partition, data []byte) error {
	s, err := parseSwap(data)
	if err != nil {
		return err
	}
	if s.number <= p.cleaner.swaps {
		return nil
	}
	i := 0
	if len(s.old) > 0 {
		i = slices.IndexFunc(p.segments, func(ref *segmentRef) bool { return ref.base == s.old[0] })
		for k, b := range s.old {
			if i < 0 || i+k >= p.flushing || p.segments[i+k].base != b {
				// Only with a damaged wal. The old files are there as long as the list holds them.
				r.e.cfg.Logger.Error("a compaction can not be repeated; the segments stay as they were", "topic", p.topic, "partition", p.id.Partition, "offset", b)
				p.cleaner.swaps = s.number
				return nil
			}
		}
	}
	var fresh []*segment.Segment
	for _, st := range s.fresh {
		seg, err := segment.OpenSealed(p.segmentOptions(st.Base), st)
		if err != nil {
			return err
		}
		fresh = append(fresh, seg)
	}
	p.swapLocked(i, s, fresh)
	return nil
}

// Forgotten is the offset before which compaction has removed tombstones or transaction markers: whoever has state of the log as of an
// offset before it may not know of deletions that came later, and has to read it from the start.
func (p *Partition) Forgotten() base.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cleaner.forgotten
}

// createCompacted makes a segment in the first place that no segment of the same base is in, or may still be.
func (p *Partition) createCompacted(first base.Offset) (*segment.Segment, error) {
	o := p.segmentOptions(first)
	p.flushMu.Lock() // so that a deleted partition's folder is not made again
	defer p.flushMu.Unlock()
	var taken [256]bool
	p.mu.Lock()
	for _, s := range p.segments {
		if s.base == first && s.seg != nil {
			taken[s.seg.Current().Place] = true
		}
	}
	for _, d := range p.dropped {
		if d.state.Base == first {
			taken[d.state.Place] = true
		}
	}
	err := p.usableLocked()
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	at := slices.Index(taken[:], false)
	if at < 0 {
		return nil, errOvertaken // not before the former ones are unlinked
	}
	o.Place = uint8(at)
	if o.Place > 0 {
		dir := p.e.cfg.FS.PathJoin(p.dir(), segment.PlaceFolder(o.Place))
		if err := p.e.cfg.FS.MkdirAll(dir, 0o755); err != nil {
			return nil, compactWrite{err}
		}
		if err := disk.SyncDir(p.e.cfg.FS, p.dir()); err != nil {
			return nil, compactWrite{err}
		}
	}
	return segment.Create(o), nil
}

// sweepStrays removes files of segments that the log does not have: what a round has left that came to no end.
func (p *Partition) sweepStrays() error {
	p.flushMu.Lock()
	defer p.flushMu.Unlock()
	type file struct {
		base  base.Offset
		place uint8
	}
	known := map[file]bool{}
	p.mu.Lock()
	for _, s := range p.segments {
		if s.seg != nil {
			known[file{s.base, s.seg.Current().Place}] = true
		}
	}
	for _, d := range p.dropped {
		known[file{d.state.Base, d.state.Place}] = true
	}
	sealed, err := p.segments[p.flushing].base, p.usableLocked()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	fs := p.e.cfg.FS
	sweep := func(dir string, place uint8) error {
		names, err := fs.List(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			b, suffix, ok := segment.ParseFileName(name)
			if !ok || suffix == ".snapshot" || b >= sealed || known[file{b, place}] {
				continue
			}
			if err := fs.Remove(fs.PathJoin(dir, name)); err != nil {
				return fmt.Errorf("unlink what a compaction has left: %w", err)
			}
		}
		return nil
	}
	if err := sweep(p.dir(), 0); err != nil {
		return err
	}
	names, err := fs.List(p.dir())
	if err != nil {
		return err
	}
	for _, name := range names {
		if place, ok := segment.ParsePlaceFolder(name); ok {
			if err := sweep(fs.PathJoin(p.dir(), name), place); err != nil {
				return err
			}
		}
	}
	return nil
}
