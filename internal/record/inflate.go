package record

import (
	"errors"
	"runtime"
	"sync"
	"weak"

	"github.com/ottlaio/ottla/internal/plant"
)

// smallInflated is what an honest batch decompresses to at most; what is larger waits for the large place. Every decompression of the process
// takes place in memory of that size, one for each processor, or in the one large memory, of DefaultDecompressLimit. Without such a bound, as
// many bombs as there are connections would each take that much.
const smallInflated = 8 << 20

// A place is held from decompression to the end of its use, which only computes: as many places as processors cost no throughput.
// Large batches have one of their own, so that bombs do not hold up anybody else. It is one, because it holds a processor and not a disk: it does
// more than half a GB a second.
var (
	smallPlaces = make(chan struct{}, runtime.GOMAXPROCS(0))
	largePlace  sync.Mutex // guards largeScratch
)

// largeScratch is the memory of large batches while they come one after the other. The garbage collector takes it when it finds it unused: no
// second is allocated before the first is known to be garbage.
var largeScratch weak.Pointer[scratch]

// inflate decompresses the records of a batch into s or into a memory of its own, and calls use with them, waiting for a place first.
// Errors: those of Decompress and of use.
func inflate(codec Codec, s *scratch, packed []byte, limit int, use func(body []byte) error) error {
	return inPlaces(limit, func(limit int, large bool) error {
		if large {
			s = largeScratch.Value()
			if s == nil {
				s = new(scratch)
				largeScratch = weak.Make(s)
			}
			if cap(s.b) < limit {
				s.b = make([]byte, 0, limit) // at once: growing step by step would leave twice as much to the garbage collector
			}
		}
		body, err := Decompress(codec, s.b[:0], packed, limit)
		s.b = body
		if err != nil {
			return err
		}
		return use(body)
	})
}

// inflateOwn is inflate into memory that nobody uses again.
func inflateOwn(codec Codec, packed []byte, limit int, use func(body []byte) error) error {
	return inPlaces(limit, func(limit int, _ bool) error {
		body, err := Decompress(codec, nil, packed, limit)
		if err != nil {
			return err
		}
		return use(body)
	})
}

// inPlaces calls attempt in a small place, and again in a large one if that was too small.
func inPlaces(limit int, attempt func(limit int, large bool) error) error {
	if plant.On(plant.NoDecompressLimit) {
		return attempt(1<<40, false)
	}
	err := func() error {
		smallPlaces <- struct{}{}
		defer func() { <-smallPlaces }()
		return attempt(min(limit, smallInflated), false)
	}()
	if limit <= smallInflated || !errors.Is(err, errDecompressLimit) {
		return err
	}
	largePlace.Lock()
	defer largePlace.Unlock()
	return attempt(limit, true)
}
