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
	base   int64        // position whose address would be aligned: see Align
	pieces []piece      // in order of position, without gaps, from at or before start to at or after end
	closed bool
}

// Alignment is that of the addresses of positions: see Tail.Align.
const Alignment = smallestSlab

// piece is a slab, or a part of one, and the stream positions of its bytes.
type piece struct {
	slab  slab
	skip  int   // unused bytes at the slab's beginning
	pos   int64 // of the first byte
	limit int64 // of the byte after the last that fits
}

// from is the piece's memory from pos on.
func (p piece) from(pos int64) []byte {
	return p.slab.bytes()[p.skip+int(pos-p.pos) : p.skip+int(p.limit-p.pos)]
}

// NewTail returns an empty tail whose first byte will be at stream position start. It holds no slab until the first Append.
func (p *Pool) NewTail(start int64) *Tail { return &Tail{pool: p, start: start, end: start} }

// Align has the bytes from End on placed so that the address of each is congruent to its distance from base modulo Alignment. So a file whose
// first byte is at base can be written straight from the tail: see View. Initially base is 0.
func (t *Tail) Align(base int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.base == base {
		return
	}
	t.base = base
	if n := len(t.pieces); n > 0 {
		t.pieces[n-1].limit = t.end // the rest of the slab has the old alignment
	}
	for n := len(t.pieces); n > 0 && t.pieces[n-1].pos >= t.end; n = len(t.pieces) { // nothing is in it
		t.pool.give(t.pieces[n-1].slab)
		t.pieces = t.pieces[:n-1]
	}
}

// skipAt is how many bytes of a slab come before position pos.
func (t *Tail) skipAt(pos int64) int { return int(pos-t.base) & (Alignment - 1) }

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
		n := copy(t.pieces[at].from(t.end), b)
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
		limit = t.pieces[len(t.pieces)-1].limit
	}
	for end := t.end + int64(n); limit < end; limit = t.pieces[len(t.pieces)-1].limit {
		skip := t.skipAt(limit)
		s, err := t.pool.take(max(classHolding(int64(skip)+end-limit), classWithin((t.end-t.start)/2)))
		if err != nil {
			return fmt.Errorf("tail: map a slab: %w", err)
		}
		t.pieces = append(t.pieces, piece{slab: s, skip: skip, pos: limit, limit: limit + int64(s.size()-skip)})
	}
	return nil
}

// findLocked returns the index of the piece that holds pos, len(pieces) when pos is past all of them.
func (t *Tail) findLocked(pos int64) int {
	return sort.Search(len(t.pieces), func(i int) bool { return pos < t.pieces[i].limit })
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
		n += copy(dst[n:], t.pieces[at].from(pos+int64(n)))
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
}

// View returns the memory that holds position pos, up to n bytes of it: what one slab holds. It is nil at or past End, and for bytes
// that were released, though some before Start may still be there.
//
// It stays what it is until the bytes from pos on are released, or Shrink or Close is called: the caller sees to it that they are not.
func (t *Tail) View(pos, n int64) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	at := t.findLocked(pos)
	if pos >= t.end || at == len(t.pieces) || pos < t.pieces[at].pos {
		return nil
	}
	n = min(n, t.end-pos, t.pieces[at].limit-pos)
	return t.pieces[at].from(pos)[:n:n]
}

// Shrink moves a small remainder out of a large slab, so that it costs no more than twice its size (or the smallest slab).
// Nobody may hold a View.
func (t *Tail) Shrink() {
	t.mu.Lock()
	defer t.mu.Unlock()
	live := t.end - t.start
	skip := t.skipAt(t.start)
	class := classHolding(int64(skip) + live)
	if len(t.pieces) != 1 || int(t.pieces[0].slab.class) <= class {
		return
	}
	old := t.pieces[0]
	s, err := t.pool.take(class)
	if err != nil {
		return // a matter of thrift only
	}
	p := piece{slab: s, skip: skip, pos: t.start, limit: t.start + int64(s.size()-skip)}
	copy(p.from(t.start), old.from(t.start)[:live])
	t.pieces[0] = p
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

// Held returns how much of Pool.InUse is the tail's: the whole size of its slabs.
func (t *Tail) Held() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	held := 0
	for _, p := range t.pieces {
		held += p.slab.size()
	}
	return int64(held)
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
