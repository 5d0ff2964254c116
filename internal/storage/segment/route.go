package segment

import (
	"math"
	"sync"
)

// route is the way that blocks take from the disk.
type route int

const (
	direct   route = iota // past the page cache
	filling               // through the page cache, which keeps them
	resident              // through the page cache, if it has them
)

// lapse is how many times blocks are read directly, after the page cache was found to have dropped them, before they are put there again.
const lapse = 16

// sampleEvery is of how many blocks those are a sample whose reads end within the first extentBlocks: one in 15, where reads are that large.
const sampleEvery = 15 * extentBlocks

// pastReads says how the whole blocks of a segment were read so far, and so how they are read next. Who is the first to read them reads
// past the page cache: what is read once, as by a single consumer that catches up, costs the page cache nothing. The second puts a sample
// there. Who finds the sample puts the rest there, for all that come after: so a topic that many read, or one group after the other, costs
// the disk three reads. Where the page cache has no room for the sample until it is wanted again, no more than a sample is put there, once
// in a while: to fill it takes more of the processors than all else that is done for a fetch.
type pastReads struct {
	mu     sync.Mutex // guards the fields below
	counts []int8     // a byte for each block of 64 KiB: direct reads so far, below zero when more have to come; inPageCache if it was put there
	keeps  bool       // the page cache had what was put there, when last asked
}

const inPageCache = math.MaxInt8

// next notes that blocks are read now, and says by which route. Readers come to the first block of a read more than once, as what they
// wanted last ended within it: so the last decides.
func (r *pastReads) next(first, blocks int64) route {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := first + blocks - 1
	if missing := last + 1 - int64(len(r.counts)); missing > 0 {
		r.counts = append(r.counts, make([]int8, missing)...)
	}
	read := r.counts[first : last+1]
	switch n := read[blocks-1]; {
	case n == inPageCache:
		return resident
	case n > 0 && (r.keeps || last%sampleEvery < extentBlocks):
		for i := range read {
			read[i] = inPageCache
		}
		return filling
	}
	for i, n := range read {
		if n <= 0 {
			read[i]++
		}
	}
	return direct
}

// kept notes that the page cache has what was put there.
func (r *pastReads) kept() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keeps = true
}

// lapsed notes that the page cache has not got blocks any more that were put there: they are read directly now.
func (r *pastReads) lapsed(first, blocks int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keeps = false
	for i := range blocks {
		r.counts[first+i] = 2 - lapse // with the read that follows
	}
}
