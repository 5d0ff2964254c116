package segment

import (
	"fmt"
	"slices"

	"github.com/ottlaio/ottla/internal/storage/hugepage"
)

const (
	// arenaExtents is more than are kept, and so many that they fill huge pages: 17 of them.
	arenaExtents = 32
	arenaBytes   = arenaExtents * extentSize
)

// arena is memory for some large extents, in huge pages: direct reads into those are cheaper and faster.
type arena struct {
	memory hugepage.Memory
	free   [][]byte // buffers of extentSize
}

// arenas is the memory of large extents. It has no lock of its own: extents.mu guards it.
type arenas struct {
	all  []*arena
	free int // buffers
}

// take returns a buffer of extentSize, of the oldest arena that has one, so that the others come to an end.
func (x *arenas) take() ([]byte, *arena) {
	i := slices.IndexFunc(x.all, func(a *arena) bool { return len(a.free) > 0 })
	if i < 0 {
		i = len(x.all)
		x.all = append(x.all, newArena())
		x.free += arenaExtents
	}
	x.free--
	a := x.all[i]
	last := len(a.free) - 1
	b := a.free[last]
	a.free = a.free[:last]
	return b, a
}

// give takes a buffer back. It lets go of an arena that is not in use when the others have enough.
func (x *arenas) give(b []byte, a *arena) {
	a.free = append(a.free, b[:extentSize])
	x.free++
	if len(a.free) == arenaExtents && x.free >= arenaExtents+arenaExtents/2 {
		x.trim()
	}
}

// trim lets go of all arenas that are not in use.
func (x *arenas) trim() {
	x.all = slices.DeleteFunc(x.all, func(a *arena) bool {
		if len(a.free) < arenaExtents {
			return false
		}
		x.free -= arenaExtents
		a.memory.Unmap()
		return true
	})
}

func newArena() *arena {
	memory, err := hugepage.Map(arenaBytes)
	if err != nil {
		panic(fmt.Sprintf("segment: %v", err)) // as when Go's heap can not grow
	}
	memory.Prefer(true)
	a := &arena{memory: memory}
	for i := range arenaExtents {
		at := i * extentSize
		a.free = append(a.free, memory.Bytes[at:at+extentSize:at+extentSize])
	}
	return a
}
