package hugepage

import "golang.org/x/sys/unix"

func advise(mem []byte, huge bool) {
	advice := unix.MADV_NOHUGEPAGE
	if huge {
		advice = unix.MADV_HUGEPAGE
	}
	_ = unix.Madvise(mem, advice) // fails where the kernel was built without them
}
