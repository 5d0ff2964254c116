package storage

import (
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// Compaction replaces segments by smaller ones, so that what lies at a stream position changes. Layouts are numbered therefore:
// Partition.layout rises with each swap. Whoever keeps a position keeps the layout that it is of, and finds the bytes of that layout, in
// segments that were replaced, for as long as their files are there.
//
//	before   |-- a ------|-- b ------|-- c ------|-- active ...
//	after    |-- a+b ---|   hole     |-- c ------|-- active ...
//
// New segments begin where the first that they replace began, and what they do not fill is a hole, over which walkers jump and in which
// no slice begins. Where they need more than those had, because a batch can grow, everything before them moves to the left.

// retired is a segment that was at a place in the layouts before `layout`.
type retired struct {
	ref    *segmentRef
	end    int64 // of its range
	layout uint64
	until  time.Time // nobody is told to wait longer for it
}

// dataEnd is where the bytes of a segment end whose range ends at end.
func (s *segmentRef) dataEnd(end int64) int64 { return end - s.hole }

// refAtLocked finds the segment that held pos in a layout, and the end of its range. ok is false if that is not known any more, or the
// segment was deleted.
func (p *Partition) refAtLocked(pos int64, layout uint64) (ref *segmentRef, end int64, ok bool) {
	if layout != p.layout {
		if layout < p.forgotten {
			return nil, 0, false
		}
		for _, r := range p.retired { // oldest first
			if r.layout > layout && r.ref.start <= pos && pos < r.end {
				return r.ref, r.end, true
			}
		}
	}
	i := p.segmentAtLocked(pos)
	if i < 0 {
		return nil, 0, false
	}
	return p.segments[i], p.segmentEndLocked(i), true
}

// nextHoleLocked is where the first hole after a place begins, or limit.
func (p *Partition) nextHoleLocked(at place, limit int64) int64 {
	for at.pos < limit {
		ref, end, ok := p.refAtLocked(at.pos, at.layout)
		switch {
		case !ok && at.pos < p.segments[0].start: // deleted; the tail may hold it
			at.pos = p.segments[0].start
			continue
		case !ok:
			return at.pos
		case ref.hole > 0:
			return min(limit, ref.dataEnd(end))
		}
		at.pos = end
	}
	return limit
}

// refsFromLocked lists the segments of a layout from the one that held pos on. The list is good while the lock is held.
func (p *Partition) refsFromLocked(pos int64, layout uint64) (refs []*segmentRef, ok bool) {
	if layout == p.layout {
		return p.segments[max(p.segmentAtLocked(pos), 0):], true
	}
	for last := p.activeLocked(); len(refs) == 0 || refs[len(refs)-1] != last; {
		ref, end, ok := p.refAtLocked(pos, layout)
		if !ok {
			return nil, false
		}
		refs, pos = append(refs, ref), end
	}
	return refs, true
}

// forgetRetiredLocked lets go of segments that nobody should need any more.
func (p *Partition) forgetRetiredLocked(now time.Time) {
	p.retired = slices.DeleteFunc(p.retired, func(r retired) bool {
		if r.until.After(now) {
			return false
		}
		p.forgotten = max(p.forgotten, r.layout)
		return true
	})
}

// inLogLocked reports whether a segment is part of the log.
func (p *Partition) inLogLocked(s *segmentRef) bool {
	i := p.segmentAtLocked(s.start)
	return !p.deleted && i >= 0 && p.segments[i] == s
}

// replaceLocked puts segs, sealed and in order, in the place of the segments from number i up to number j, all sealed too. It is part of a
// swap that was logged.
func (p *Partition) replaceLocked(i, j int, segs []*segment.Segment) {
	p.layout++
	now := p.e.now()
	p.forgetRetiredLocked(now)
	until := now.Add(max(p.config.FileDeleteDelay, minRetired))
	start, end := p.segments[i].start, p.segments[j].start
	size := int64(0)
	for _, s := range segs {
		size += s.Size()
	}
	grown := max(0, size-(end-start))
	replaced := append([]*segmentRef(nil), p.segments[i:j]...)
	segments := make([]*segmentRef, 0, len(p.segments)+len(segs)+1)
	for k, s := range p.segments[:j] {
		if k >= i || grown > 0 {
			p.retired = append(p.retired, retired{s, p.segments[k+1].start, p.layout, until})
		}
		if k < i && grown > 0 {
			moved := *s
			moved.start -= grown
			s = &moved
		}
		if k < i {
			segments = append(segments, s)
		}
	}
	pos := start - grown
	for _, s := range segs {
		ref := newSealedRef(s, pos)
		segments = append(segments, ref)
		pos += s.Size()
	}
	if len(segs) == 0 {
		segments = append(segments, newSegmentRef(replaced[0].base, pos))
	}
	for _, s := range replaced {
		p.holes -= s.hole
		if s.seg != nil {
			p.dropped = append(p.dropped, &droppedSegment{seg: s.seg, state: s.seg.State(), due: until})
		}
	}
	last := segments[len(segments)-1]
	last.hole = end - pos
	p.holes += last.hole
	p.flushing += len(segments) - j
	p.segments = append(segments, p.segments[j:]...)
	p.index.dropBefore(end, p.segments[len(segments)].base)
	if end == p.endPos {
		p.index.clear()
	}
	p.tail.ReleaseTo(end) // what it holds before is of the former layout
	p.changed = true
}

// minRetired is how long a replaced segment is kept for readers that are under way, whatever file.delete.delay.ms says.
const minRetired = time.Second

// newSealedRef is a sealed segment at a stream position.
func newSealedRef(s *segment.Segment, start int64) *segmentRef {
	st := s.State()
	ref := newSegmentRef(st.Base, start)
	ref.seg = s
	ref.firstTimestamp, ref.maxTimestamp = st.FirstTimestamp, st.MaxTimestamp
	ref.indexEntries, ref.sinceIndex = int(st.Index.Entries), int(st.SinceIndex)
	return ref
}

// sealedEmpty is the state of a segment of which compaction has left nothing.
func sealedEmpty(first base.Offset) segment.State {
	st := segment.Create(segment.Options{Base: first}).State()
	st.Sealed = true
	return st
}
