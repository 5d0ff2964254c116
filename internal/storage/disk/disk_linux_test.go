package disk

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The room is blocks of the disk, and gone when it was given back.
func TestRoomIsBlocksOfTheDisk(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "room")
	f, err := Default().OpenDirect(name, DirectOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	blocks := func() int64 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	if err := f.Allocate(0, 1<<20); err != nil {
		t.Fatal(err)
	}
	if n := blocks(); n < 1<<20 {
		t.Errorf("%d bytes were taken", n)
	}
	if err := f.TrimRoom(); err != nil {
		t.Fatal(err)
	}
	if n := blocks(); n >= 1<<20 {
		t.Errorf("%d bytes are left", n)
	}
}

// What was written through the page cache is in it, until it is dropped.
func TestResidentIsWhatThePageCacheHas(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	const size = 1<<20 + 100
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Default().Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it is read only
	all, err := Resident(f, 0, size)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this kernel cannot tell what the page cache has: Linux can since 6.5")
	}
	if err != nil || !all {
		t.Fatalf("what was just written is there: %t, %v", all, err)
	}
	if all, err := Resident(f, size-10, 10); err != nil || !all {
		t.Errorf("the end is there: %t, %v", all, err)
	}

	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		return // drops nothing
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	if all, err := Resident(f, 0, size); err != nil || all {
		t.Errorf("what was dropped is there: %t, %v", all, err)
	}
}
