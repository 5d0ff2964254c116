// Package segment writes and reads the segments of a partition: files in Kafka's own on-disk format, and one sidecar of ours.
//
// A [Segment] is the same type while it is active (written) and once it is sealed. It is written behind, from the tail, and opened
// from a [State] out of the checkpoint without reading anything. docs/formats/segment.md gives every file byte by byte:
//
//	00000000000000000500.log         record batches, one after the other
//	00000000000000000500.index       (offset, position) of some batches
//	00000000000000000500.timeindex   (timestamp, offset) of the greatest timestamp at the same moments
//	00000000000000000500.txnindex    aborted transactions, if there were any
//	00000000000000000500.crc         CRC32C of each 64 KiB of the log; ours
//	00000000000000000700.snapshot    producers, as they were at the next segment's base offset
//	leader-epoch-checkpoint          the epochs of the partition and where they start
//	partition.metadata               the topic's id
//
// # Writing
//
// Only batches that can never be taken back are written, so the files are a function of the sequence of batches: after a crash
// replay writes the same bytes to the same places, however it cuts them into writes, and nothing has to be cut off first.
//
//	0                     aligned                Size()
//	|--- whole blocks ------|---- ragged end -------|
//	  Write: direct           in memory; written by Sync, exactly, through the page cache
//
// When more comes, the block of the ragged end is written again, directly, with the same bytes at its start. Only Sync writes through
// the page cache, and it syncs before it returns: a direct write never meets a dirty page, and the kernel drops the clean one.
// A checkpoint that counts on the ragged end must have it in the live wal before that block is written again: see
// [Segment.RaggedBytes] and [Segment.RestoreRagged].
//
// Bodies, whole blocks of batches further on, may be written first: see place.go.
//
// A write or sync that failed leaves the files in an unknown state: the segment refuses all later ones.
//
// # Reading
//
// Whatever is read from a file is checked before it is used. Blocks of the log against the sidecar (the last, partial one against
// the state); sidecar and indexes as a whole against the state when they are first used, then page by page. A bad block is a
// [DamageError] for reads that touch it and for no other. A bad index is made anew in memory from the log, a bad sidecar likewise if
// the log proves to be whole, and both are reported. A bad transaction index is an error of whoever needs it: its transactions may have
// begun in earlier segments.
//
// Reads of the log go past the page cache too, through a bounded cache of verified extents. A short read that goes on where a cached
// block ends brings a whole MiB; any other only the blocks that it needs. What was read before, and is in no extent any more, is read
// through the page cache: see pastReads. It is checked as well, and if it is not what was written the disk is asked.
//
// # Locks
//
// Segment.mu, ledger.mu, extents.mu and FileCache.mu are leaves: none is held while another is taken, and none across I/O.
package segment
