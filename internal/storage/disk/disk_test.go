package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// fileSystems are all that must keep the contract of DirectFile.
func fileSystems(t *testing.T) map[string]struct {
	fs  FS
	dir string
} {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	all := map[string]struct {
		fs  FS
		dir string
	}{
		"default": {Default(), t.TempDir()},
		"memory":  {Wrap(mem), "/d"},
		"wrapped": {Wrap(vfs.Default), t.TempDir()},
	}
	if dir, err := os.MkdirTemp("/dev/shm", "ottla-disk-test"); err == nil { // tmpfs on Linux
		t.Cleanup(func() { os.RemoveAll(dir) })
		all["tmpfs"] = struct {
			fs  FS
			dir string
		}{Default(), dir}
	}
	return all
}

func TestDirectFileKeepsItsContract(t *testing.T) {
	t.Parallel()
	for name, c := range fileSystems(t) {
		for _, synced := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/synced=%t", name, synced), func(t *testing.T) {
				testDirectFile(t, c.fs, c.fs.PathJoin(c.dir, fmt.Sprintf("f-%t", synced)), synced)
			})
		}
	}
}

func testDirectFile(t *testing.T, fs FS, name string, synced bool) {
	if _, err := fs.OpenDirect(name, DirectOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("open of a missing file: %v, want ErrNotExist", err)
	}
	f, err := fs.OpenDirect(name, DirectOptions{Synced: synced, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	align := f.Alignment()
	if align < MinAlignment || align&(align-1) != 0 {
		t.Fatalf("alignment is %d", align)
	}
	want := AlignedBuffer(5*align, align)
	for i := range want {
		want[i] = byte(i * 31)
	}
	for _, at := range []int{3, 4, 0, 1, 2} { // out of order
		if n, err := f.WriteAt(want[at*align:(at+1)*align], int64(at*align)); err != nil || n != align {
			t.Fatalf("write at %d: %d, %v", at*align, n, err)
		}
	}
	if err := f.SyncData(); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Size(); err != nil || n != int64(len(want)) {
		t.Fatalf("size %d, %v", n, err)
	}
	for _, m := range []struct {
		b   []byte
		off int64
	}{{want[1 : align+1], 0}, {want[:align-1], 0}, {want[:align], 1}, {want[:align], -int64(align)}} {
		if _, err := f.WriteAt(m.b, m.off); !errors.Is(err, ErrMisaligned) {
			t.Fatalf("misaligned write of %d bytes at %d: %v, want ErrMisaligned", len(m.b), m.off, err)
		}
	}
	readEverywhere(t, f, want)
	copy(want[2*align:], AlignedBuffer(3*align, align)) // what is written twice ends as it was written last
	pieces := [][]byte{want[align : 2*align], want[3*align : 5*align], want[:align]}
	if err := WriteVec(f, pieces, int64(align)); err != nil {
		t.Fatal(err)
	}
	if err := WriteVec(f, [][]byte{want[:align], want[1 : align+1]}, 0); !errors.Is(err, ErrMisaligned) {
		t.Fatalf("misaligned write of two pieces: %v, want ErrMisaligned", err)
	}
	gathered := slices.Concat(want[:align], pieces[0], pieces[1], pieces[2])
	copy(want, gathered)
	readEverywhere(t, f, want)
	// A ragged end, as a file that was cut has it.
	closeFile(t, f)
	ragged := want[:4*align+100]
	if err := fs.Truncate(name, int64(len(ragged))); err != nil {
		t.Fatal(err)
	}
	if f, err = fs.OpenDirect(name, DirectOptions{}); err != nil {
		t.Fatal(err)
	}
	readEverywhere(t, f, ragged)
	closeFile(t, f)
	if err := fs.Truncate(name, int64(len(want))); err != nil { // extended by zeros
		t.Fatal(err)
	}
	if f, err = fs.OpenDirect(name, DirectOptions{}); err != nil {
		t.Fatal(err)
	}
	readEverywhere(t, f, append(bytes.Clone(ragged), make([]byte, len(want)-len(ragged))...))
	closeFile(t, f)
}

func closeFile(t *testing.T, f DirectFile) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func readEverywhere(t *testing.T, f DirectFile, want []byte) {
	t.Helper()
	align := f.Alignment()
	for _, off := range []int{0, 1, 511, 512, align - 1, align, align + 7, len(want) - align, len(want) - 1, len(want), len(want) + align} {
		for _, size := range []int{0, 1, 100, align - 1, align, align + 1, 2 * align, 3*align + 5, len(want), len(want) + 10, 20 * align} {
			for _, skew := range []int{0, 1} {
				buf := AlignedBuffer(size+skew, align)[skew:]
				n, err := f.ReadAt(buf, int64(off))
				expect := want[min(off, len(want)):min(off+size, len(want))]
				if n != len(expect) || !bytes.Equal(buf[:n], expect) {
					t.Fatalf("read of %d at %d (skew %d): %d bytes, want %d; %v", size, off, skew, n, len(expect), err)
				}
				if n < size && !errors.Is(err, io.EOF) || n == size && err != nil && !errors.Is(err, io.EOF) {
					t.Fatalf("read of %d at %d (skew %d): %v", size, off, skew, err)
				}
			}
		}
	}
}

func TestAlignedBufferIsAlignedAndOfItsSize(t *testing.T) {
	t.Parallel()
	for _, align := range []int{1, 512, 4096, 64 << 10} {
		for _, size := range []int{0, 1, 4096, 100000} {
			b := AlignedBuffer(size, align)
			if len(b) != size || cap(b) != size {
				t.Fatalf("AlignedBuffer(%d, %d) has length %d and capacity %d", size, align, len(b), cap(b))
			}
			if size > 0 && uintptr(unsafe.Pointer(&b[0]))%uintptr(align) != 0 {
				t.Fatalf("AlignedBuffer(%d, %d) is at %p", size, align, &b[0])
			}
		}
	}
}

// TestErrorsAreInjectedIntoDirectWrites shows that errorfs sees the writes and syncs of direct files.
func TestErrorsAreInjectedIntoDirectWrites(t *testing.T) {
	t.Parallel()
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWriteAt, errorfs.OpFileSyncData} {
		fs := Wrap(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == kind {
				return syscall.ENOSPC
			}
			return nil
		})))
		f, err := fs.OpenDirect("f", DirectOptions{Synced: true, Create: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(AlignedBuffer(MinAlignment, MinAlignment), 0)
		if !IsNoSpace(err) {
			t.Fatalf("write with kind %v failing: %v, want ENOSPC", kind, err)
		}
	}
}

func TestWrapKeepsWhatIsAlreadyWhole(t *testing.T) {
	t.Parallel()
	fs := Default()
	if Wrap(fs) != fs {
		t.Fatal("Wrap wrapped an FS")
	}
}

func BenchmarkSyncedWrite(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			f, err := Default().OpenDirect(b.TempDir()+"/f", DirectOptions{Synced: true, Create: true})
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			const file = 64 << 20
			zeros := AlignedBuffer(1<<20, f.Alignment())
			for off := int64(0); off < file; off += 1 << 20 {
				if _, err := f.WriteAt(zeros, off); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			off := int64(0)
			for b.Loop() {
				if _, err := f.WriteAt(zeros[:size], off%file); err != nil {
					b.Fatal(err)
				}
				off += int64(size)
			}
		})
	}
}

// Room that is taken changes nothing that can be read, and what comes to it is there; it can be given back.
func TestRoomIsTakenBeyondTheEnd(t *testing.T) {
	t.Parallel()
	for name, c := range fileSystems(t) {
		t.Run(name, func(t *testing.T) {
			f, err := c.fs.OpenDirect(c.fs.PathJoin(c.dir, "room"), DirectOptions{Create: true})
			if err != nil {
				t.Fatal(err)
			}
			defer closeFile(t, f)
			block := AlignedBuffer(f.Alignment(), f.Alignment())
			block[0] = 7
			size := func(want int) {
				t.Helper()
				if n, err := f.Size(); err != nil || n != int64(want) {
					t.Errorf("the size is %d, %v; want %d", n, err, want)
				}
			}
			if _, err := f.WriteAt(block, 0); err != nil {
				t.Fatal(err)
			}
			if err := f.Allocate(0, 1<<20); errors.Is(err, errors.ErrUnsupported) {
				t.Skip("no room can be taken here")
			} else if err != nil {
				t.Fatal(err)
			}
			size(len(block))
			if _, err := f.WriteAt(block, int64(4*len(block))); err != nil {
				t.Fatal(err)
			}
			size(5 * len(block))
			if err := f.TrimRoom(); err != nil {
				t.Fatal(err)
			}
			size(5 * len(block))
			got := make([]byte, 5*len(block))
			if _, err := f.ReadAt(got, 0); err != nil || got[0] != 7 || got[len(block)] != 0 || got[4*len(block)] != 7 {
				t.Errorf("read: %v", err)
			}
		})
	}
}
