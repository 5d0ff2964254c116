package record

import (
	"errors"
	"runtime"
	"sync"
)

// smallInflated is what an honest batch decompresses to at most; what is larger waits for one of few places.
const smallInflated = 8 << 20

// largeInflations is how many large batches are in memory at once, in the whole process. Without a bound, as many bombs as there are
// connections would each take DecompressLimit.
const largeInflations = 2

// A place is held from decompression to the end of validation, which only computes: as many places as processors cost no throughput.
// Large batches have places of their own, so that bombs do not hold up anybody else.
var (
	smallPlaces = make(chan struct{}, runtime.GOMAXPROCS(0))
	largePlaces = make(chan struct{}, largeInflations)
)

// largeScratch keeps the memory of large batches while they come one after the other; the garbage collector takes it soon after.
var largeScratch = sync.Pool{New: func() any { return new(scratch) }}

// inflate decompresses the records of a batch into s or into a memory of its own, and calls use with them, waiting for a place first.
// Errors: those of Decompress and of use.
func inflate(codec Codec, s *scratch, packed []byte, limit int, use func(body []byte) error) error {
	attempt := func(s *scratch, limit int) error {
		body, err := Decompress(codec, s.b[:0], packed, limit)
		s.b = body
		if err != nil {
			return err
		}
		return use(body)
	}
	err := func() error {
		smallPlaces <- struct{}{}
		defer func() { <-smallPlaces }()
		return attempt(s, min(limit, smallInflated))
	}()
	if limit <= smallInflated || !errors.Is(err, errDecompressLimit) {
		return err
	}
	largePlaces <- struct{}{}
	defer func() { <-largePlaces }()
	large := largeScratch.Get().(*scratch)
	defer largeScratch.Put(large)
	if cap(large.b) < limit {
		large.b = make([]byte, 0, limit) // at once: growing step by step would leave twice as much to the garbage collector
	}
	return attempt(large, limit)
}
