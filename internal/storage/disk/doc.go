// Package disk is the file system seam of the storage engine: pebble's vfs, extended by files that are written past the page cache.
//
// # Why past the page cache
//
// Every byte of the broker is written twice, to the wal and to a segment, and read back mostly from memory of our own. New pages of
// the page cache cost more than a CPU second per GB; direct writes from recycled buffers cost a tenth of that, and their latency does
// not depend on what else is being written back.
//
// # What a direct file promises
//
// A DirectFile opened with Synced makes each write durable before it returns: O_DIRECT|O_DSYNC on Linux, with the alignment from
// STATX_DIOALIGN (4096 bytes where the kernel does not say). Where O_DIRECT is refused the same code writes through the page cache and
// calls fdatasync, and Direct reports false so that the owner can say so. Other systems write and fsync. The rules of alignment are
// checked on all of them, so that a test in memory finds a misaligned write.
//
// A write or sync that failed leaves the range in an unknown state. Nothing here retries one.
//
// # Faults
//
// Wrap gives any vfs a direct twin made of that vfs's own writes and syncs, so errorfs injects errors into direct writes as into all
// others. Package crashfs is a file system in memory that remembers what was synced and makes images of what a power loss could leave.
package disk
