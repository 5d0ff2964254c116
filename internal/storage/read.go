package storage

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// Upto says how far a read may go.
type Upto uint8

// The bounds of a read.
const (
	HighWatermark Upto = iota // durable records (read_uncommitted)
	LastStable                // durable records below every open transaction (read_committed)
	LogEnd                    // everything appended, durable or not (coordinators only)
)

// ReadOptions bound a read.
type ReadOptions struct {
	MaxBytes   int  // no more than this many bytes; a large read may end one or two index intervals earlier
	AtLeastOne bool // but the first batch whole, even if it is larger
	Upto       Upto
}

// worthIndexing is how many index intervals make a read large.
const worthIndexing = 128

// Read returns the batches from the one that holds offset from. At from equal to the bound or between it and the log end it
// returns an empty Slice; so it does when the first batch is larger than MaxBytes and AtLeastOne is not set.
//
// ErrOffsetOutOfRange below the log start or above the log end; *DamageError if the batch at from can not be read: a read
// that starts before a damaged range stops at its edge. ErrDeleted, ErrFailed, ErrClosed.
func (p *Partition) Read(from base.Offset, o ReadOptions) (Slice, error) {
	s, err := p.read(from, o)
	if err != nil {
		return Slice{}, fmt.Errorf("read %v at offset %d: %w", p, from, err)
	}
	return s, nil
}

func (p *Partition) read(from base.Offset, o ReadOptions) (Slice, error) {
	p.mu.Lock()
	if err := p.usableLocked(); err != nil {
		p.mu.Unlock()
		return Slice{}, err
	}
	bound, limit := p.hw, p.hwPos
	switch o.Upto {
	case LastStable:
		bound, limit = p.stableLocked()
	case LogEnd:
		bound, limit = p.end, p.endPos
	}
	logStart, end, interval := p.logStart, p.end, p.config.IndexInterval
	p.mu.Unlock()

	empty := Slice{p: p, first: from}
	switch {
	case from < logStart || from > end || from == end && o.Upto != LogEnd && plant.On(plant.EndOutOfRange):
		return Slice{}, fmt.Errorf("%w: the log holds %d to %d", ErrOffsetOutOfRange, logStart, end)
	case from >= bound:
		return empty, nil
	}
	w, first, pos, err := p.walkTo(from, limit)
	defer w.close()
	if errors.Is(err, io.EOF) {
		return empty, nil
	}
	if err != nil {
		return Slice{}, err
	}
	if plant.On(plant.SkippedRead) && o.Upto != LogEnd && from%4 == 1 {
		if h, at, err := w.next(); err == nil {
			first, pos = h, at
		}
	}
	if first.Size() > o.MaxBytes && !o.AtLeastOne {
		return empty, nil
	}
	s := Slice{p: p, pos: pos, n: int64(first.Size()), first: first.BaseOffset, layout: w.layout}
	if err := w.stopAtEdge(from, pos, max(int64(o.MaxBytes), s.n)+1); err != nil {
		return Slice{}, err
	}
	s.n = max(s.n, w.skipTo(pos+int64(o.MaxBytes))-pos)
	// Batches without an index entry may still fit. In a large read they are so few that they are not worth a look into the next block.
	if s.n > int64(o.MaxBytes/2) && w.stop > pos+int64(o.MaxBytes) && o.MaxBytes > worthIndexing*interval {
		return s, nil
	}
	for {
		h, pos, err := w.next()
		if err != nil { // the bound, the edge of a damaged range, or damage that the next read will report
			return s, nil
		}
		n := pos + int64(h.Size()) - s.pos
		if n > int64(o.MaxBytes) {
			return s, nil
		}
		s.n = n
	}
}

// walker reads the headers of the batches of a partition, one after another. It may go over damaged bodies whose headers are
// whole, as their blocks' checksums say, until stopAtEdge is called. It lives on the stack of who walks; only one copy of it may be used and closed.
type walker struct {
	p          *Partition
	pos, limit int64
	stop       int64 // edge of the next damaged range or hole, or limit
	layout     uint64
	holes      bool  // in the layout; then the next two are kept up
	dataEnd    int64 // where the bytes of the segment that holds pos end
	rangeEnd   int64 // where its range does
	gaps       []gap // ranges that were set aside
	buf        *[]byte
	bufPos     int64 // stream position of buf[0]
	bufLen     int
	ahead      bool // all that it goes over will be read
}

// walkBuffer is how much a walker reads at a time: many small batches, and of large ones not much more than their headers. What it
// reads of a segment is checked, and kept, by whole blocks.
const walkBuffer = 4 << 10

var walkBuffers = sync.Pool{New: func() any {
	b := make([]byte, walkBuffer)
	return &b
}}

// walkTo returns a walker that has just returned the batch that holds offset, or the first after it, and that batch. It begins again
// when compaction takes the segments from under it.
func (p *Partition) walkTo(offset base.Offset, limit int64) (walker, record.Header, int64, error) {
	for {
		w, err := p.walk(offset, limit)
		if err == nil {
			var h record.Header
			var pos int64
			if h, pos, err = w.find(offset); err == nil || !errors.Is(err, errSwapped) {
				return w, h, pos, err
			}
			w.close()
		}
		if !errors.Is(err, errSwapped) {
			return walker{}, record.Header{}, 0, err
		}
	}
}

// errSwapped says that a segment was replaced by compaction, and is not to be had any more.
var errSwapped = errors.New("the segment was compacted meanwhile")

// walk returns a walker that begins at some batch at or before offset. limit is the stream position of a batch boundary.
func (p *Partition) walk(offset base.Offset, limit int64) (walker, error) {
	p.mu.Lock()
	d, damaged := p.damageAtLocked(offset)
	gaps, closed := p.gapsLocked(offset)
	layout, holes := p.layout, p.holes > 0
	at, inTail := p.index.floorOffset(offset)
	at.pos = max(at.pos, p.segments[0].start) // what the index knows before it was deleted, and the tail may have let it go
	var s *segmentRef
	var seg *segment.Segment
	if !inTail {
		i := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].base > offset })
		if i == 0 {
			p.mu.Unlock()
			return walker{}, fmt.Errorf("%w: no segment holds it", ErrOffsetOutOfRange)
		}
		s = p.segments[i-1]
		seg = s.seg
	}
	p.mu.Unlock()
	if damaged {
		return walker{}, &DamageError{d}
	}
	pos := at.pos
	if !inTail {
		pos = s.start
		if seg != nil {
			inSegment, err := seg.Lookup(offset)
			if err != nil {
				return walker{}, p.noteDamage(s, err)
			}
			pos += inSegment
		}
	}
	return p.walkerAt(place{pos, layout}, limit, gaps, closed, holes), nil
}

// walkerAt returns a walker that goes over gaps and holes, and stops where the first of the closed ranges before it begins. It knows no segment yet: positions may be negative, so zeros would name a range.
func (p *Partition) walkerAt(at place, limit int64, gaps, closed []gap, holes bool) walker {
	stop := limit
	for _, c := range closed {
		if c.to > at.pos {
			stop = min(max(c.from, at.pos), limit)
			break
		}
	}
	return walker{p: p, pos: at.pos, limit: limit, stop: stop, gaps: gaps, layout: at.layout, holes: holes, dataEnd: at.pos, rangeEnd: at.pos}
}

// stopAtEdge makes the walker stop at the first damaged range or hole after pos, where the batch that it has just returned begins.
// If that batch itself is damaged it returns a *DamageError for offset. Holes are looked for as far as the caller will go.
func (w *walker) stopAtEdge(offset base.Offset, pos, far int64) error {
	w.p.mu.Lock()
	w.stop = w.p.edgeLocked(pos, w.limit)
	if w.holes {
		w.stop = w.p.nextHoleLocked(place{pos, w.layout}, min(w.stop, pos+far))
	}
	w.p.mu.Unlock()
	if w.stop < w.pos {
		return w.p.damageFrom(offset, w.stop)
	}
	return nil
}

// cut is why a walk ended with io.EOF before its limit: a *DamageError. It is nil at the limit.
func (w *walker) cut() error {
	if w.stop == w.limit {
		return nil
	}
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	for _, d := range w.p.damage {
		if d.to > w.pos && !d.aside {
			return &DamageError{d.damage}
		}
	}
	return errSwapped // deleted or given up meanwhile
}

// find goes on to the batch that holds offset, or to the first after it where compaction or damage has left a gap. io.EOF if a gap
// reaches to the limit.
func (w *walker) find(offset base.Offset) (record.Header, int64, error) {
	for {
		h, pos, err := w.next()
		switch {
		case errors.Is(err, io.EOF):
			if found := w.p.damageFrom(offset, w.pos); found != nil {
				err = found
			}
			return h, 0, err
		case err != nil:
			return h, 0, err
		case h.LastOffset() >= offset:
			return h, pos, nil
		}
	}
}

// next returns the next batch's header and stream position. io.EOF at the limit and at the edge of a damaged range; a
// *DamageError if the header can not be read.
func (w *walker) next() (record.Header, int64, error) {
	for _, g := range w.gaps {
		if g.from <= w.pos && w.pos < g.to && w.pos < w.stop {
			w.pos = g.to
		}
	}
	if w.holes {
		if err := w.overHoles(); err != nil {
			return record.Header{}, w.pos, err
		}
	}
	if w.pos >= w.stop {
		return record.Header{}, w.pos, io.EOF
	}
	raw, err := w.peek()
	if err != nil {
		return record.Header{}, w.pos, err
	}
	h, err := record.ParseHeader(raw)
	if err != nil {
		return record.Header{}, w.pos, w.bad(record.HeaderSize, err)
	}
	end := w.pos + int64(h.Size())
	if end > w.stop {
		if end > w.limit {
			return h, w.pos, w.bad(record.HeaderSize, errors.New("the batch's length does not fit the log"))
		}
		return h, w.pos, io.EOF
	}
	pos := w.pos
	w.pos = end
	return h, pos, nil
}

// bad notes that there is no batch at the walker's position. Of a former layout nothing needs to be remembered.
func (w *walker) bad(n int64, reason error) error {
	w.p.mu.Lock()
	current := w.layout == w.p.layout
	w.p.mu.Unlock()
	if !current {
		return errors.Join(errSwapped, reason)
	}
	return w.p.noteDamageAt(w.pos, n, reason)
}

// overHoles goes on to the next segment where the bytes of one end.
func (w *walker) overHoles() error {
	for w.pos < w.stop {
		if w.pos < w.dataEnd {
			return nil
		}
		if w.pos >= w.rangeEnd {
			w.p.mu.Lock()
			ref, end, ok := w.p.refAtLocked(w.pos, w.layout)
			start := w.p.segments[0].start
			w.p.mu.Unlock()
			switch {
			case ok:
				w.dataEnd, w.rangeEnd = ref.dataEnd(end), end
			case w.pos < start: // of a segment that was deleted, but the tail may hold it, and its index begins there
				w.dataEnd, w.rangeEnd = start, start
			default:
				return w.p.missingAt(w.pos)
			}
			continue
		}
		w.pos = w.rangeEnd
	}
	return nil
}

// peek returns the header bytes at pos.
func (w *walker) peek() ([]byte, error) {
	at := w.pos - w.bufPos
	if w.buf != nil && at >= 0 && at+record.HeaderSize <= int64(w.bufLen) {
		return (*w.buf)[at : at+record.HeaderSize], nil
	}
	if w.buf == nil {
		w.buf = walkBuffers.Get().(*[]byte)
	}
	w.bufPos, w.bufLen = w.pos, 0
	n, err := w.p.readSome((*w.buf), place{w.pos, w.layout}, record.HeaderSize, w.ahead)
	if err != nil {
		return nil, err
	}
	if n < record.HeaderSize {
		return nil, w.bad(int64(n), io.ErrUnexpectedEOF)
	}
	w.bufLen = n
	return (*w.buf)[:record.HeaderSize], nil
}

// skipTo jumps to the last batch at or before pos that an index knows, if that is further on, and returns where the walker is. The
// batches in between are not looked at: their bytes are checked when they are sent.
func (w *walker) skipTo(pos int64) int64 {
	p := w.p
	pos = min(pos, w.stop)
	p.mu.Lock()
	at, ok := p.index.floorPos(pos)
	var seg *segment.Segment
	var start int64
	if !ok {
		if ref, _, known := p.refAtLocked(pos, w.layout); known {
			seg, start = ref.seg, ref.start
		}
	}
	p.mu.Unlock()
	if !ok && seg != nil {
		// An index that can not be read costs a walk and no more; the next look-up of an offset reports it.
		if inSegment, err := seg.Boundary(pos - start); err == nil {
			at.pos, ok = start+inSegment, true
		}
	}
	if ok { // positions may be negative
		w.pos = max(w.pos, at.pos)
	}
	return w.pos
}

// close gives the walker's memory back.
func (w *walker) close() {
	if w.buf != nil {
		walkBuffers.Put(w.buf)
		w.buf = nil
	}
}

// readSome reads into b what lies at pos: at least `least` bytes where the log holds as many, and more where that costs
// little. It takes them from the tail, or from the segment if the tail has let them go. ahead says that the caller reads on from there.
func (p *Partition) readSome(b []byte, at place, least int, ahead bool) (int, error) {
	if n, ok := p.tail.ReadAt(b, at.pos); ok {
		return n, nil
	}
	s, seg, left, err := p.flushedAt(at)
	if err != nil {
		return 0, err
	}
	inSegment := at.pos - s.start
	want := min(int64(len(b)), left)
	// Whole blocks are checked, so a read ends where one does if it may.
	if toEdge := segment.BlockSize - inSegment%segment.BlockSize; toEdge >= int64(least) {
		want = min(want, toEdge)
	}
	read := seg.PeekAt
	if ahead {
		read = seg.ReadAt
	}
	n, err := read(b[:want], inSegment)
	if err != nil && !(errors.Is(err, io.EOF) && n > 0) {
		return 0, p.noteDamage(s, err)
	}
	return n, nil
}

// place is a stream position in one of the partition's layouts.
type place struct {
	pos    int64
	layout uint64
}

// missingAt is the error for a position that no segment has any more.
func (p *Partition) missingAt(pos int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return err
	}
	if pos >= p.segments[0].start {
		return errSwapped
	}
	return fmt.Errorf("%w: the segment was deleted", ErrOffsetOutOfRange)
}

// flushedAt finds the segment that holds a place, and how many of its flushed bytes are left from there.
func (p *Partition) flushedAt(at place) (s *segmentRef, seg *segment.Segment, left int64, err error) {
	p.mu.Lock()
	s, end, ok := p.refAtLocked(at.pos, at.layout)
	if !ok || p.deleted {
		p.mu.Unlock()
		return nil, nil, 0, p.missingAt(at.pos)
	}
	defer p.mu.Unlock()
	left = min(s.dataEnd(end), p.flushedPos) - at.pos
	if s.seg == nil || left <= 0 {
		return nil, nil, 0, io.ErrUnexpectedEOF
	}
	return s, s.seg, left, nil
}
