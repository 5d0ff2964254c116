package storage

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// TimestampOffset is a record's place in time.
type TimestampOffset struct {
	Offset    base.Offset
	Timestamp int64 // ms
	Epoch     base.LeaderEpoch
}

// OffsetForTimestamp finds the first record whose timestamp is ts (in ms) or later, below the high watermark.
func (p *Partition) OffsetForTimestamp(ts int64) (at TimestampOffset, ok bool, err error) {
	for again := true; again; again = errors.Is(err, errSwapped) {
		at, ok, err = p.offsetForTimestamp(ts)
	}
	if err != nil {
		err = fmt.Errorf("look up timestamp %d in %v: %w", ts, p, err)
	}
	return at, ok, err
}

func (p *Partition) offsetForTimestamp(ts int64) (TimestampOffset, bool, error) {
	w, err := p.walkTime(ts)
	if err != nil || w == nil {
		return TimestampOffset{}, false, err
	}
	defer w.close()
	start := p.Offsets().LogStart
	for {
		h, pos, err := w.next()
		if errors.Is(err, io.EOF) {
			return TimestampOffset{}, false, w.cut()
		}
		if err != nil {
			return TimestampOffset{}, false, err
		}
		if h.MaxTimestamp < ts || h.LastOffset() < start {
			continue
		}
		batch, err := p.batchAt(place{pos, w.layout}, h)
		if err != nil {
			return TimestampOffset{}, false, err
		}
		offset, timestamp, found, err := record.FirstAtOrAfter(batch, ts, start, record.DefaultDecompressLimit)
		if err != nil {
			return TimestampOffset{}, false, err
		}
		if found {
			return TimestampOffset{Offset: offset, Timestamp: timestamp, Epoch: h.LeaderEpoch}, true, nil
		}
	}
}

// walkTime returns a walker from which the first batch with a timestamp of at least ts can be reached; nil if there is none.
func (p *Partition) walkTime(ts int64) (*walker, error) {
	p.mu.Lock()
	if err := p.usableLocked(); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	limit := p.hwPos
	var s *segmentRef
	var seg *segment.Segment
	for _, candidate := range p.segments {
		if candidate.maxTimestamp >= ts && candidate.start < limit {
			s, seg = candidate, candidate.seg
			break
		}
	}
	flushed := p.flushedPos
	layout, holes := p.layout, p.holes > 0
	gaps, closed := p.gapsLocked(base.NoOffset)
	p.mu.Unlock()
	if s == nil {
		return nil, nil
	}
	pos := s.start
	if seg != nil {
		inSegment, err := seg.LookupTime(ts)
		if err != nil {
			return nil, p.noteDamage(s, err)
		}
		pos += inSegment
	}
	if pos >= flushed { // not in the segment, so in the tail
		pos = p.skipByTime(max(pos, s.start), ts)
	}
	w := p.walkerAt(place{pos, layout}, limit, gaps, closed, holes)
	return &w, nil
}

// skipByTime goes on from pos over the entries of the tail's index that hold nothing as new as ts.
func (p *Partition) skipByTime(pos, ts int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	entries := p.index.entries
	i := sort.Search(len(entries), func(i int) bool { return entries[i].pos > pos }) - 1
	if i < 0 {
		return pos // flushed and forgotten since pos was found
	}
	for ; i < len(entries) && entries[i].maxTimestamp < ts; i++ {
	}
	if i < len(entries) {
		return max(pos, entries[i].pos)
	}
	return pos
}

// MaxTimestamp finds the record with the largest timestamp, the first of several (ListOffsets -3, KIP-734). ok is false for a log
// without timestamps.
func (p *Partition) MaxTimestamp() (at TimestampOffset, ok bool, err error) {
	for again := true; again; again = errors.Is(err, errSwapped) {
		at, ok, err = p.findMaxTimestamp()
	}
	if err != nil {
		err = fmt.Errorf("look up the largest timestamp of %v: %w", p, err)
	}
	return at, ok, err
}

func (p *Partition) findMaxTimestamp() (TimestampOffset, bool, error) {
	highest := p.durableMaxTimestamp()
	if highest == base.NoTimestamp {
		return TimestampOffset{}, false, nil
	}
	w, err := p.walkTime(highest)
	if err != nil || w == nil {
		return TimestampOffset{}, false, err
	}
	defer w.close()
	var best record.Header
	bestPos := int64(-1)
	for best.MaxTimestamp < highest || bestPos < 0 {
		h, pos, err := w.next()
		if errors.Is(err, io.EOF) {
			if err := w.cut(); err != nil {
				return TimestampOffset{}, false, err
			}
			break // retention or delete-records took it
		}
		if err != nil {
			return TimestampOffset{}, false, err
		}
		if h.RecordCount > 0 && (bestPos < 0 || h.MaxTimestamp > best.MaxTimestamp) { // compaction leaves batches without records
			best, bestPos = h, pos
		}
	}
	if bestPos < 0 || best.MaxTimestamp == base.NoTimestamp {
		return TimestampOffset{}, false, nil
	}
	batch, err := p.batchAt(place{bestPos, w.layout}, best)
	if err != nil {
		return TimestampOffset{}, false, err
	}
	offset, timestamp, err := record.OffsetOfMaxTimestamp(batch, record.DefaultDecompressLimit)
	if err != nil {
		return TimestampOffset{}, false, err
	}
	return TimestampOffset{Offset: offset, Timestamp: timestamp, Epoch: best.LeaderEpoch}, true, nil
}

// durableMaxTimestamp is the largest timestamp below the high watermark. Of the last batches before it, which may share an entry of the
// tail's index with batches that are not durable, the greatest is found by a look at each.
func (p *Partition) durableMaxTimestamp() int64 {
	p.mu.Lock()
	highest := base.NoTimestamp
	for i, s := range p.segments {
		switch {
		case p.segmentEndLocked(i) <= p.hwPos:
			highest = max(highest, s.maxTimestamp)
		case s.seg != nil: // all that is flushed is durable
			highest = max(highest, s.seg.Current().MaxTimestamp)
		}
	}
	w := &walker{p: p, pos: p.hwPos, limit: p.hwPos, stop: p.hwPos}
	for i, entry := range p.index.entries {
		if i+1 < len(p.index.entries) && p.index.entries[i+1].pos <= p.hwPos {
			highest = max(highest, entry.maxTimestamp)
		} else {
			w.pos = min(entry.pos, p.hwPos)
			break
		}
	}
	p.mu.Unlock()
	defer w.close()
	for {
		h, _, err := w.next()
		if err != nil { // the high watermark; or damage, which costs the caller's own walk
			return highest
		}
		highest = max(highest, h.MaxTimestamp)
	}
}

// batchAt reads the batch at a place, whose header is h.
func (p *Partition) batchAt(at place, h record.Header) ([]byte, error) {
	s := Slice{p: p, pos: at.pos, n: int64(h.Size()), first: h.BaseOffset, layout: at.layout}
	return s.Bytes()
}
