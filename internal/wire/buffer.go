package wire

import (
	"math/bits"
	"sync"
)

// Buffers come in sizes of four steps per power of two, so that at most a fifth of one is unused.
const (
	minBufferBytes = 512
	maxPooledBytes = 4 << 20
	minBufferBits  = 9
)

// buffer is pooled memory. b has the length that was asked for; its capacity is the whole of what is held.
type buffer struct{ b []byte }

var bufferPools [4*(22-minBufferBits) + 1]sync.Pool

// bufferClass returns the size of the buffer that serves n bytes and its pool, -1 for none.
func bufferClass(n int) (size, pool int) {
	if n <= minBufferBytes {
		return minBufferBytes, 0
	}
	if n > maxPooledBytes {
		return n, -1
	}
	k := bits.Len(uint(n-1)) - 1 // 2^k < n <= 2^(k+1)
	step := 1 << (k - 2)
	steps := (n - 1<<k + step - 1) / step
	return 1<<k + steps*step, 4*(k-minBufferBits) + steps
}

// getBuffer returns a buffer of length n whose content is undefined.
func getBuffer(n int) *buffer {
	size, pool := bufferClass(n)
	if pool >= 0 {
		if v := bufferPools[pool].Get(); v != nil {
			buf := v.(*buffer)
			buf.b = buf.b[:n]
			return buf
		}
	}
	return &buffer{b: make([]byte, size)[:n]}
}

// putBuffer takes back a buffer that nobody uses any more.
func putBuffer(buf *buffer) {
	b := buf.b[:cap(buf.b)]
	if poisonBuffers {
		for i := range b {
			b[i] = 0xdb
		}
	}
	// A buffer that was grown by append can have any capacity: it goes to the pool of the size it still serves.
	size, pool := bufferClass(len(b))
	if pool < 0 {
		return
	}
	if size != len(b) {
		pool--
		if pool < 0 {
			return
		}
	}
	buf.b = b
	bufferPools[pool].Put(buf)
}

// poisonBuffers overwrites returned buffers, so that tests notice one that is still in use.
var poisonBuffers = false
