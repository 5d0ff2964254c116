package storage

import "golang.org/x/sys/unix"

// adviseHuge has the kernel back memory that is read at random by huge pages, if it does that at all: else most looks miss the TLB too.
func adviseHuge(mem []byte) { _ = unix.Madvise(mem, unix.MADV_HUGEPAGE) }
