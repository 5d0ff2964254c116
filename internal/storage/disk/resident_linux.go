package disk

import (
	"errors"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// resident asks cachestat(2), which Linux has since 6.5. A read with RWF_NOWAIT would not do: it has the kernel read ahead what is missing.
func resident(fd uintptr, off, n int64) (bool, error) {
	if fd == vfs.InvalidFd {
		return false, errors.ErrUnsupported
	}
	page := int64(os.Getpagesize())
	first, end := off/page, (off+n+page-1)/page
	var st unix.Cachestat_t
	err := unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &st, 0)
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM):
		return false, errors.ErrUnsupported
	case err != nil:
		return false, os.NewSyscallError("cachestat", err)
	}
	return int64(st.Cache) == end-first, nil
}
