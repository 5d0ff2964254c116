package storage

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ottlaio/ottla/internal/base"
)

// keyMap knows the newest offset of each key in a part of a log. Keys are told apart by 16 bytes of hash, as in Kafka, where it is MD5;
// here it is seeded anew for each map, so that nobody can make keys that collide. It is one piece of memory outside Go's heap, and not safe
// for concurrent use.
type keyMap struct {
	mem   []byte
	slots []keySlot
	seeds [2]maphash.Seed
	used  int
	most  int // of used
}

// keySlot is a key and where its newest record is. next 0 = the slot is free.
type keySlot struct {
	hi, lo uint64
	next   base.Offset // offset + 1
}

const keySlotBytes = int(unsafe.Sizeof(keySlot{}))

// newKeyMap returns a map for up to keys keys that takes at most budget bytes, of which the share load is filled at most.
func newKeyMap(keys, budget int64, load float64) (*keyMap, error) {
	slots := max(min(budget/int64(keySlotBytes), int64(float64(keys)/load)+1), 16)
	mem, err := unix.Mmap(-1, 0, int(slots)*keySlotBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for the keys of a compaction: %w", err)
	}
	m := &keyMap{mem: mem, most: int(float64(slots) * load), seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	m.slots = unsafe.Slice((*keySlot)(unsafe.Pointer(unsafe.SliceData(mem))), slots) // a mapping is aligned to a page
	return m, nil
}

// close gives the memory back.
func (m *keyMap) close() error {
	m.slots = nil
	return unix.Munmap(m.mem)
}

// find returns the slot of a key, or the free one where it would be.
func (m *keyMap) find(key []byte) (s *keySlot, hi, lo uint64) {
	hi, lo = maphash.Bytes(m.seeds[0], key), maphash.Bytes(m.seeds[1], key)
	at, _ := bits.Mul64(hi, uint64(len(m.slots)))
	for {
		s = &m.slots[at]
		if s.next == 0 || s.hi == hi && s.lo == lo {
			return s, hi, lo
		}
		if at++; at == uint64(len(m.slots)) {
			at = 0
		}
	}
}

// put notes a record of a key. It returns false if there is no room for another key.
func (m *keyMap) put(key []byte, offset base.Offset) bool {
	s, hi, lo := m.find(key)
	if s.next == 0 {
		if m.used >= m.most {
			return false
		}
		m.used++
		s.hi, s.lo = hi, lo
	}
	s.next = max(s.next, offset+1)
	return true
}

// newest is the offset of the newest record of a key, NoOffset if there is none.
func (m *keyMap) newest(key []byte) base.Offset {
	s, _, _ := m.find(key)
	return s.next - 1
}
