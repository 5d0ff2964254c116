package disk

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
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
