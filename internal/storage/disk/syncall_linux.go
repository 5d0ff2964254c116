package disk

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// SyncAll is syncfs(2), on the file systems that are known to end it with a flush of the disk's cache, and on kernels that tell its
// errors (5.8 and later).
func (linuxFS) SyncAll(dir string) error {
	if !syncfsTellsErrors() {
		return errors.ErrUnsupported
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is a folder
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
	default: // XFS may leave the disk's cache as it is when its log has nothing new; FUSE does not ask the other side
		return errors.ErrUnsupported
	}
	for {
		err := unix.Syncfs(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "syncfs", Path: dir, Err: err}
		}
	}
}

var syncfsTellsErrors = sync.OnceValue(func() bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false
	}
	return kernelAtLeast(unix.ByteSliceToString(name.Release[:]), 5, 8)
})

// kernelAtLeast compares the release of a kernel, as uname tells it, with a version.
func kernelAtLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a > major || a == major && b >= minor
}
