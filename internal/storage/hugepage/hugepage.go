// Package hugepage maps memory outside of Go's heap that can lie in huge pages. The kernel finds and holds few of them for a direct read or
// write where it needs hundreds of small ones, and the disk gets it in fewer pieces.
package hugepage

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Size is that of a huge page in bytes, on x86-64, and on arm64 with pages of 4 KiB.
const Size = 2 << 20

// Memory is a mapping of its own. It takes no memory until it is written to.
type Memory struct {
	// Bytes begin at a multiple of Size, and are zeros at first.
	Bytes  []byte
	mapped []byte
}

// Map maps size bytes of small pages.
func Map(size int) (Memory, error) {
	// The kernel mostly puts such a mapping where a huge page begins, and beside the one before it, so that it counts them as one.
	if m, err := mapAligned(size, size); err != nil || m.Bytes != nil {
		return m, err
	}
	return mapAligned(size, size+Size)
}

// mapAligned maps room bytes, and unmaps them again if they do not hold size bytes that begin where they should.
func mapAligned(size, room int) (Memory, error) {
	mapped, err := unix.Mmap(-1, 0, room, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return Memory{}, fmt.Errorf("map %d bytes: %w", room, err)
	}
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(mapped)))) & (Size - 1)
	m := Memory{mapped: mapped}
	if skip+size > room {
		m.Unmap()
		return Memory{}, nil
	}
	m.Bytes = mapped[skip : skip+size : skip+size]
	return m, nil
}

// Prefer asks for huge pages from now on, or for small ones; pages that are there stay as they are. Where the system has no huge pages all
// works the same, only slower.
func (m Memory) Prefer(huge bool) { advise(m.Bytes, huge) }

// Unmap gives the memory back. Bytes must not be used after it.
func (m Memory) Unmap() {
	if err := unix.Munmap(m.mapped); err != nil {
		panic(fmt.Sprintf("hugepage: unmap: %v", err)) // only a wrong address can make it fail
	}
}
