package tail

import (
	"errors"
	"fmt"
	"sort"
	"sync"
)

// ErrClosed is returned once the pool or the tail has been closed.
var ErrClosed = errors.New("tail: closed")

// copyPiece bounds how long one reader holds the lock: a piece of this size takes some ten microseconds to copy.
const copyPiece = 128 << 10

// Tail holds one partition's newest bytes by stream position. Append is for one goroutine at a time; every other method may
// be called by any goroutine at any time.
type Tail struct {
	pool *Pool

	mu     sync.RWMutex // guards the fields below
	start  int64        // position of the oldest readable byte
	end    int64        // position after the newest
	pieces []piece      // in order of position, without gaps, from at or before start to at or after end
	closed bool
}

// piece is a slab and the stream position of its first byte.
type piece struct {
	slab slab
	pos  int64
}

func (p piece) limit() int64 { return p.pos + int64(p.slab.size()) }

// NewTail returns an empty tail whose first byte will be at stream position start. It holds no slab until the first Append.
func (p *Pool) NewTail(start int64) *Tail { return &Tail{pool: p, start: start, end: start} }

// Append copies b to the end and returns the position of its first byte. It consumes len(b) bytes that the caller has
// reserved with Pool.Acquire, never blocks, and keeps no reference to b.
//
// Errors: ErrClosed, and the system's when it has no memory to map; then nothing was appended and nothing consumed.
func (t *Tail) Append(b []byte) (pos int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, ErrClosed
	}
	pos = t.end
	if err := t.growLocked(len(b)); err != nil {
		return 0, err
	}
	for at := t.findLocked(pos); len(b) > 0; at++ {
		p := t.pieces[at]
		n := copy(p.slab.bytes()[t.end-p.pos:], b)
		t.end += int64(n)
		b = b[n:]
	}
	t.pool.consume(int(t.end - pos))
	return pos, nil
}

// growLocked adds slabs until n more bytes fit. On error it leaves what it took: an empty piece is used by the next Append
// or goes with the next release.
func (t *Tail) growLocked(n int) error {
	limit := t.end
	if len(t.pieces) > 0 {
		limit = t.pieces[len(t.pieces)-1].limit()
	}
	for need := t.end + int64(n) - limit; need > 0; {
		s, err := t.pool.take(max(classHolding(need), classWithin((t.end-t.start)/2)))
		if err != nil {
			return fmt.Errorf("tail: map a slab: %w", err)
		}
		t.pieces = append(t.pieces, piece{slab: s, pos: limit})
		limit += int64(s.size())
		need -= int64(s.size())
	}
	return nil
}

// findLocked returns the index of the piece that holds pos, len(pieces) when pos is past all of them.
func (t *Tail) findLocked(pos int64) int {
	return sort.Search(len(t.pieces), func(i int) bool { return pos < t.pieces[i].limit() })
}

// ReadAt copies bytes from pos on into dst and returns how many: fewer than len(dst) at End, or when a release overtakes a
// long read, 0 at or past End. ok is false, and nothing is copied, when pos lies before Start: the caller finds those bytes in
// a segment.
func (t *Tail) ReadAt(dst []byte, pos int64) (n int, ok bool) {
	for first := true; ; first = false {
		m, ok := t.readPiece(dst[n:min(len(dst), n+copyPiece)], pos+int64(n))
		n += m
		if !ok || m == 0 || n == len(dst) {
			return n, ok || !first
		}
	}
}

func (t *Tail) readPiece(dst []byte, pos int64) (n int, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if pos < t.start {
		return 0, false
	}
	if pos >= t.end {
		return 0, true
	}
	dst = dst[:min(int64(len(dst)), t.end-pos)]
	for at := t.findLocked(pos); n < len(dst); at++ {
		p := t.pieces[at]
		n += copy(dst[n:], p.slab.bytes()[pos+int64(n)-p.pos:])
	}
	return n, true
}

// ReleaseTo forgets the bytes before pos and gives slabs that hold no others back to the pool. A pos at or before Start does
// nothing; one past End panics, for nobody can know those bytes to be safe elsewhere.
func (t *Tail) ReleaseTo(pos int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if pos > t.end {
		panic(fmt.Sprintf("tail: release to %d past end %d", pos, t.end))
	}
	if pos <= t.start {
		return
	}
	t.start = pos
	free := t.findLocked(pos)
	if pos == t.end {
		free = len(t.pieces) // what remains is room only: an idle tail holds no slab
	}
	for _, p := range t.pieces[:free] {
		t.pool.give(p.slab)
	}
	if free == len(t.pieces) {
		t.pieces = nil
		return
	}
	kept := copy(t.pieces, t.pieces[free:])
	clear(t.pieces[kept:])
	t.pieces = t.pieces[:kept]
	t.shrinkLocked()
}

// shrinkLocked moves a small remainder out of a large slab, so that what a partition leaves behind when it stops costs no more
// than four times its size (or the smallest slab).
func (t *Tail) shrinkLocked() {
	live := t.end - t.start
	if len(t.pieces) != 1 || int(t.pieces[0].slab.class) <= classHolding(live) {
		return
	}
	old := t.pieces[0]
	s, err := t.pool.take(classHolding(live))
	if err != nil {
		return // a matter of thrift only
	}
	copy(s.bytes(), old.slab.bytes()[t.start-old.pos:t.end-old.pos])
	t.pieces[0] = piece{slab: s, pos: t.start}
	t.pool.give(old.slab)
}

// Start returns the position of the oldest byte held; it equals End when the tail is empty.
func (t *Tail) Start() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.start
}

// End returns the position after the newest byte.
func (t *Tail) End() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.end
}

// Close releases everything. Afterwards Append fails with ErrClosed and ReadAt finds nothing.
func (t *Tail) Close() {
	t.ReleaseTo(t.End())
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pieces {
		t.pool.give(p.slab)
	}
	t.pieces, t.start, t.closed = nil, t.end, true
}
