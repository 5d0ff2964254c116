package segment

import (
	"bytes"
	"testing"
	"unsafe"

	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

func TestArenasGrowAndGoAgain(t *testing.T) {
	t.Parallel()
	var x arenas
	type buffer struct {
		b  []byte
		of *arena
	}
	var held []buffer
	take := func() {
		b, of := x.take()
		if len(b) != extentSize || cap(b) != extentSize || uintptr(unsafe.Pointer(&b[0]))%minAlignment != 0 {
			t.Fatalf("a buffer of %d bytes, capacity %d, at %p", len(b), cap(b), b)
		}
		n := byte(len(held))
		b[0], b[extentSize-1] = n, n
		held = append(held, buffer{b, of})
	}
	give := func() {
		last := held[len(held)-1]
		if n := byte(len(held) - 1); last.b[0] != n || last.b[extentSize-1] != n {
			t.Fatalf("buffer %d was written by another: %d, %d", n, last.b[0], last.b[extentSize-1])
		}
		held = held[:len(held)-1]
		x.give(last.b[:10], last.of)
	}
	for range 2*arenaExtents + 1 {
		take()
	}
	if len(x.all) != 3 {
		t.Fatalf("%d arenas", len(x.all))
	}
	for range 2 { // an arena more or less is not mapped and unmapped again and again
		give()
		if len(x.all) != 3 {
			t.Fatalf("%d arenas", len(x.all))
		}
		take()
	}
	for len(held) > 0 {
		give()
	}
	if len(x.all) > 1 || x.free != len(x.all)*arenaExtents {
		t.Fatalf("%d arenas with %d buffers are left", len(x.all), x.free)
	}
	x.trim()
	if len(x.all) != 0 || x.free != 0 {
		t.Fatalf("%d arenas with %d buffers are left", len(x.all), x.free)
	}
}

// What Trim lets go of is no longer the process's, and reading goes on after it.
func TestTrimGivesTheMemoryOfExtentsBack(t *testing.T) {
	t.Parallel()
	o := in(t, crashfs.New(), "/t-0", 0)
	st, data, _ := sealed(t, o, 4, 3*extentSize)
	s, err := OpenSealed(o, st)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got := make([]byte, len(data))
		if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: %v", len(got), err)
		}
		large := &o.Files.extents.large
		if len(large.all) != 1 {
			t.Fatalf("%d arenas", len(large.all))
		}
		o.Files.Trim()
		if len(large.all) != 0 || o.Files.extents.live != 0 {
			t.Fatalf("%d arenas, %d bytes of extents", len(large.all), o.Files.extents.live)
		}
	}
}
