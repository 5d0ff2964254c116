package record

import "sync"

// maxPooledBytes is the largest buffer that goes back to the pool. There are as many in use as inflate has small places.
const maxPooledBytes = smallInflated

// scratch is pooled memory for records that are only looked at.
type scratch struct{ b []byte }

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

func getScratch() *scratch { return scratchPool.Get().(*scratch) }

func (s *scratch) put() {
	if cap(s.b) > maxPooledBytes {
		return
	}
	scratchPool.Put(s)
}

// grow returns b with room for at least n more bytes. It at least doubles, so that growing piece by piece is linear.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	g := make([]byte, len(b), max(len(b)+n, 2*cap(b)))
	copy(g, b)
	return g
}
