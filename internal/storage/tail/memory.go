package tail

import (
	"bytes"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/ottlaio/ottla/internal/storage/hugepage"
)

// Sizes of slabs are smallestSlab << class.
const (
	smallestSlab = 4 << 10
	classes      = 9             // the largest has slabs of 1 MiB
	chunkBytes   = hugepage.Size // two of them
	// hugeClass is the first class whose chunks are in huge pages: its slabs are written to segments from where they are. Smaller slabs are for
	// partitions in which little waits, and a chunk of them takes no more memory than its slabs do.
	hugeClass = 6
)

func classSize(class int) int { return smallestSlab << class }

// classHolding returns the smallest class that holds n bytes, the largest class if none does.
func classHolding(n int64) int {
	for c := range classes - 1 {
		if n <= int64(classSize(c)) {
			return c
		}
	}
	return classes - 1
}

// classWithin returns the largest class of at most n bytes, the smallest class if none is.
func classWithin(n int64) int {
	for c := classes - 1; c > 0; c-- {
		if n >= int64(classSize(c)) {
			return c
		}
	}
	return 0
}

// slab is a part of a chunk that has one holder.
type slab struct {
	chunk *chunk
	index uint16
	class int8
}

func (s slab) size() int { return classSize(int(s.class)) }

func (s slab) bytes() []byte {
	at := int(s.index) * s.size()
	return s.chunk.memory.Bytes[at : at+s.size() : at+s.size()]
}

// bitmap has a bit for each slab of a chunk.
type bitmap [chunkBytes / smallestSlab / 64]uint64

func (b *bitmap) set(i uint16)      { b[i/64] |= 1 << (i % 64) }
func (b *bitmap) clear(i uint16)    { b[i/64] &^= 1 << (i % 64) }
func (b *bitmap) has(i uint16) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b *bitmap) first() (uint16, bool) {
	for w, word := range b {
		if word != 0 {
			return uint16(w*64 + bits.TrailingZeros64(word)), true
		}
	}
	return 0, false
}

// chunk is a mapping that is cut into slabs of one class.
type chunk struct {
	memory hugepage.Memory
	class  int8
	used   int    // slabs held
	warm   bitmap // free, and its pages may be resident
	cold   bitmap // free, its pages returned or never touched
	place  int    // index in memory.partial[class], -1 when every slab is held
}

// memory hands out slabs. It has no lock of its own: Pool.mu guards it.
type memory struct {
	limit   int64 // of idle
	idle    int64 // bytes of warm slabs
	poison  bool
	partial [classes][]*chunk // chunks with a free slab
}

func (m *memory) init(limit int64, poison bool) { m.limit, m.poison = limit, poison }

// take returns a free slab, warm ones first.
func (m *memory) take(class int) (slab, error) {
	list := m.partial[class]
	if len(list) == 0 {
		c, err := m.newChunk(class)
		if err != nil {
			return slab{}, err
		}
		m.insert(c)
		list = m.partial[class]
	}
	c := list[len(list)-1]
	s := slab{chunk: c, class: int8(class)}
	if i, ok := c.warm.first(); ok {
		c.warm.clear(i)
		s.index = i
		m.idle -= int64(s.size())
		if m.poison {
			check(s.bytes())
		}
	} else {
		s.index, _ = c.cold.first()
		c.cold.clear(s.index)
	}
	c.used++
	if c.used == len(c.memory.Bytes)/s.size() {
		m.remove(c)
	}
	return s, nil
}

// newChunk cuts a chunk that no class uses, from a wholly free chunk of another class or from the system.
func (m *memory) newChunk(class int) (*chunk, error) {
	c := m.stealFree()
	if c == nil {
		memory, err := hugepage.Map(chunkBytes)
		if err != nil {
			return nil, err
		}
		c = &chunk{memory: memory, place: -1}
	}
	if huge := class >= hugeClass; huge != (c.class >= hugeClass) {
		c.memory.Prefer(huge)
	}
	c.class = int8(class)
	warm := c.warm != bitmap{}
	c.warm, c.cold = bitmap{}, bitmap{}
	for i := range len(c.memory.Bytes) / classSize(class) {
		if warm {
			if m.poison {
				fill(slab{chunk: c, class: c.class, index: uint16(i)}.bytes()) // the pattern begins with each slab
			}
			c.warm.set(uint16(i))
		} else {
			c.cold.set(uint16(i))
		}
	}
	if warm {
		m.idle += chunkBytes
	}
	return c, nil
}

// stealFree takes a chunk that has no holder out of the lists, nil if there is none. It comes either wholly warm or wholly
// cold, so that its slabs can be cut anew.
func (m *memory) stealFree() *chunk {
	for class := range classes {
		for _, c := range m.partial[class] {
			if c.used > 0 {
				continue
			}
			m.remove(c)
			cold := c.cold != bitmap{}
			m.forgetWarm(c)
			if cold {
				discard(c.memory.Bytes)
				c.warm = bitmap{}
			}
			return c
		}
	}
	return nil
}

// forgetWarm takes the warm slabs of c out of the count of idle bytes, but leaves its bitmap.
func (m *memory) forgetWarm(c *chunk) {
	for _, word := range c.warm {
		m.idle -= int64(bits.OnesCount64(word) * classSize(int(c.class)))
	}
}

// give takes a slab back. It stays resident while the bound allows.
func (m *memory) give(s slab) {
	c := s.chunk
	if c.warm.has(s.index) || c.cold.has(s.index) {
		panic(fmt.Sprintf("tail: slab %d of class %d freed twice", s.index, s.class))
	}
	c.used--
	if m.idle+int64(s.size()) <= m.limit {
		c.warm.set(s.index)
		m.idle += int64(s.size())
	} else {
		c.cold.set(s.index)
		if c.used > 0 {
			discard(s.bytes())
		}
	}
	if c.place < 0 {
		m.insert(c)
	}
	if c.used == 0 && c.cold.has(s.index) {
		m.unmap(c)
	}
}

// trim returns every free slab and chunk to the system.
func (m *memory) trim() {
	for class := range classes {
		for at := len(m.partial[class]) - 1; at >= 0; at-- {
			c := m.partial[class][at]
			if c.used == 0 {
				m.unmap(c)
				continue
			}
			for i, ok := c.warm.first(); ok; i, ok = c.warm.first() {
				s := slab{chunk: c, class: c.class, index: i}
				discard(s.bytes())
				c.warm.clear(i)
				c.cold.set(i)
				m.idle -= int64(s.size())
			}
		}
	}
}

// unmap gives a chunk without holders back to the system.
func (m *memory) unmap(c *chunk) {
	m.remove(c)
	m.forgetWarm(c)
	c.memory.Unmap()
	c.memory = hugepage.Memory{}
}

func (m *memory) insert(c *chunk) {
	c.place = len(m.partial[c.class])
	m.partial[c.class] = append(m.partial[c.class], c)
}

// remove takes c out of its list by moving the last one to its place.
func (m *memory) remove(c *chunk) {
	list := m.partial[c.class]
	last := list[len(list)-1]
	list[c.place], last.place = last, c.place
	list[len(list)-1] = nil
	m.partial[c.class] = list[:len(list)-1]
	c.place = -1
}

// discard lets the system take the pages of mem. Where it does not take them at once they stay a little longer: no harm.
func discard(mem []byte) {
	_ = unix.Madvise(mem, unix.MADV_DONTNEED) // fails only for a wrong address
}

// poisonPattern is what freed memory reads as; long enough that records do not hold it by chance.
var poisonPattern = []byte("\xdb\xfe\xe1\xdead slab")

func fill(mem []byte) {
	n := copy(mem, poisonPattern)
	for n < len(mem) {
		n += copy(mem[n:], mem[:n])
	}
}

func check(mem []byte) {
	if !bytes.HasPrefix(mem, poisonPattern) || !bytes.Equal(mem[len(poisonPattern):], mem[:len(mem)-len(poisonPattern)]) {
		panic("tail: a slab was written after it was freed")
	}
}
