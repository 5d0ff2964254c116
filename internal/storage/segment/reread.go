package segment

import "sync"

// readOnce says which whole blocks of a segment were read from the disk already: who reads them again takes them from the page cache, and
// leaves them there for the next. So a topic that many read, or one group after the other, costs the disk two reads, and what is read
// once, as by a single consumer that catches up, costs the page cache nothing.
type readOnce struct {
	mu   sync.Mutex // guards bits
	bits []uint64   // one for each block
}

// mark notes that blocks are read now and reports whether the last of them was read before. Readers come to the first block of a read more
// than once: what they wanted last ended within it.
func (r *readOnce) mark(first, blocks int64) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := first + blocks - 1
	if missing := last/64 + 1 - int64(len(r.bits)); missing > 0 {
		r.bits = append(r.bits, make([]uint64, missing)...)
	}
	again = r.bits[last/64]&(1<<(last%64)) != 0
	for n := first; n <= last; n++ {
		r.bits[n/64] |= 1 << (n % 64)
	}
	return again
}
