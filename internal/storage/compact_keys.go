package storage

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ottlaio/ottla/internal/base"
)

// keyMap knows the newest offset of each key in a part of a log. Keys are told apart by 12 bytes of hash, seeded anew for each map, so that
// nobody can make keys that collide; that any two of ten million do has a probability of 10⁻¹⁵. (Kafka takes 16 bytes, of MD5.) It is one
// piece of memory outside Go's heap, and not safe for concurrent use.
//
// Nearly every look into it misses the processor's caches. Whoever has many keys to look for, as a batch has, calls warm with all of them
// before, so that the processor waits for many of them at once.
type keyMap struct {
	mem   []byte
	slots []keySlot
	seeds [2]maphash.Seed
	first base.Offset // that was put
	used  int
	most  int // of used
}

// keySlot is a key and where its newest record is. next 0 = the slot is free.
type keySlot struct {
	hi   uint64
	lo   uint32
	next uint32 // offset + 1, counted from keyMap.first
}

// keyHash stands for a key.
type keyHash struct {
	hi uint64
	lo uint32
}

const keySlotBytes = int(unsafe.Sizeof(keySlot{}))

// newKeyMap returns a map for up to keys keys that takes at most budget bytes, of which the share load is filled at most.
func newKeyMap(keys, budget int64, load float64) (*keyMap, error) {
	slots := max(min(budget/int64(keySlotBytes), int64(float64(keys)/load)+1), 16)
	mem, err := unix.Mmap(-1, 0, int(slots)*keySlotBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for the keys of a compaction: %w", err)
	}
	adviseHuge(mem)
	m := &keyMap{
		mem: mem, most: int(float64(slots) * load), seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
	m.slots = unsafe.Slice((*keySlot)(unsafe.Pointer(unsafe.SliceData(mem))), slots) // a mapping is aligned to a page
	return m, nil
}

// close gives the memory back.
func (m *keyMap) close() error {
	m.slots = nil
	return unix.Munmap(m.mem)
}

func (m *keyMap) hash(key []byte) keyHash {
	return keyHash{maphash.Bytes(m.seeds[0], key), uint32(maphash.Bytes(m.seeds[1], key))}
}

// place is where a key is looked for first.
func (m *keyMap) place(h keyHash) uint64 {
	at, _ := bits.Mul64(h.hi, uint64(len(m.slots)))
	return at
}

// warm brings what is looked at for these keys into the processor's caches.
//
//go:noinline
func (m *keyMap) warm(keys []keyHash) (sum uint32) {
	for _, h := range keys {
		sum += m.slots[m.place(h)].next
	}
	return sum // or the compiler leaves the loop out
}

// find returns the slot of a key, or the free one where it would be.
func (m *keyMap) find(h keyHash) *keySlot {
	for at := m.place(h); ; {
		s := &m.slots[at]
		if s.next == 0 || s.hi == h.hi && s.lo == h.lo {
			return s
		}
		if at++; at == uint64(len(m.slots)) {
			at = 0
		}
	}
}

// put notes a record of a key. The first one that is put has the lowest offset. It returns false if there is no room for another key, or
// for an offset so far from the first.
func (m *keyMap) put(h keyHash, offset base.Offset) bool {
	if m.used == 0 {
		m.first = offset
	}
	next := int64(offset-m.first) + 1
	if next > math.MaxUint32 {
		return false
	}
	s := m.find(h)
	if s.next == 0 {
		if m.used >= m.most {
			return false
		}
		m.used++
		s.hi, s.lo = h.hi, h.lo
	}
	s.next = max(s.next, uint32(next))
	return true
}

// newest is the offset of the newest record of a key, NoOffset if there is none.
func (m *keyMap) newest(h keyHash) base.Offset {
	if s := m.find(h); s.next > 0 {
		return m.first + base.Offset(s.next) - 1
	}
	return base.NoOffset
}
