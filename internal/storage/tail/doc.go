// Package tail keeps the newest bytes of every partition in memory outside the garbage collector's heap.
//
// A [Tail] is one partition's window [Start, End) of stream positions: bytes appended since the partition was opened. It is
// fed by appends, read by consumers that keep up and by the writer of segments, and released once a checkpoint (or a
// flushed segment) holds what it held. It knows neither batches nor segments.
//
// # Memory
//
// A [Pool] maps chunks of 2 MiB from the system and cuts each into slabs of one size class: 4, 8, 16 KiB and so on to half the
// chunk. Those of the three largest classes are in huge pages where the system has them. A tail takes a new slab when its last is
// full, of about half the size of what it already holds, so slabs grow with what arrives between two releases, and ten thousand
// partitions that trickle hold 4 KiB each. [Tail.Shrink] moves a little that is left in a large slab to a small one; a tail that is
// empty holds none.
//
// Bytes lie in memory as they will in the segment's blocks ([Tail.Align]), so that whole blocks are written from where they are
// ([Tail.View]).
//
//	chunk (mmap, 2 MiB)   [slab][slab][slab]...      one class per chunk, a bitmap of the free ones
//	tail                   slab → slab → slab        positions rise; the first and the last may be partly used
//
// A freed slab waits for its next user. Free memory that is still resident is bounded by idleBytes: beyond it, free slabs
// are returned with MADV_DONTNEED and free chunks with munmap. [Pool.Trim] returns all of it.
//
// # Budget
//
// [Pool.InUse] is what appends have reserved and not yet used, and every slab that a tail holds, whole. [Pool.Acquire]
// waits, first come first served, until its bytes fit. Append then never waits. It can push InUse past the budget only by
// the rounding of slabs: one slab for each tail, less than twice what that tail holds.
//
// # Safety
//
// Readers get copies made under the tail's lock. Only a [Tail.View] is the memory itself, for the writers of wal and segments, who
// know that it is not released before they have written it. With [Poison], and always under
// the race detector, a freed slab is overwritten and its pattern is checked when it is taken again, so that a use after
// free shows as garbage in a test and a write after free as a panic.
//
// Lock order: Tail.mu, then Pool.mu.
package tail
