// Package wal is the broker's write-ahead log: one log for all partitions, so that one synced write makes the batches of thousands of
// partitions durable. Whatever changes a partition is an entry of it, in order; what an entry means is the engine's affair.
//
// # The path of an entry
//
//	Reserve ─▶ Append ─▶ filling group ─▶ queue ─▶ writer: place, write, sync ─▶ Committed ─▶ Wait returns
//	   ▲                                             │
//	   └────────────── room ◀── keeper ◀── Release ◀─┘ checkpoint
//
// Reserve grants room before offsets are assigned: a full wal or disk refuses the append and has changed nothing. Append copies the
// entry into the filling commit group under a short lock. The writer writes one group at a time; what was appended meanwhile is the
// next one, so groups grow with the load. Where the disk is so fast that a stream of batches makes thousands of small groups in a second, the
// writer pauses for up to a millisecond between them (see pacer); a lone producer is never held back. After a few idle milliseconds the
// writer leaves a mark in the file `newest`.
//
// # Files
//
// docs/formats/wal.md describes the bytes. Files are numbered and named by 20 digits and ".wal". Each is filled with zeros and synced
// before it is used, so that writing a group allocates nothing, changes no metadata of the file system and cannot run out of space.
// Every Open makes a small file of its own; an old one is never appended to. The keeper, the wal's second goroutine, prepares larger
// ones behind the writer, in small writes with rests between them unless a file is needed soon, and gives released ones a new number
// and salt. States of a file:
//
//	prepared ──header written──▶ current ──full──▶ live ──all groups released──▶ spare ──renamed──▶ prepared
//	                                                                          └─▶ dead ──▶ removed
//
// # Crash rules
//
//   - What an entry stands for and the wal does not hold (Entry.Body) is durable before the group is written.
//   - A group begins at a fresh block and no block is written twice, so a torn write harms only what was never acknowledged.
//   - The header of a file is written when the file is put to use and everything before it is durable. It names the file before it and
//     where that one ends: whatever lies behind that end, such as a cut group, is never read again.
//   - A copy of that header, in the file `newest`, is durable before the first group: a newest file that has become zeros, or is gone, is
//     not taken for one that was never used.
//   - The header of a group names the newest group that was durable when it was written.
//   - A group is bad if its header, table or entries do not match their CRC, or if it does not carry the file's salt and number, its own
//     position and the next sequence. What an earlier life of the file left is therefore never taken for new.
//   - A bad group that something later proves to have been durable is damage: a later group in the same file whose header says so,
//     the header of a later file, or the mark. Without a proof it is the torn end and is cut. With IdleMark at its default the newest group
//     lacks a proof for some milliseconds; a clean Close always leaves one.
//   - What was replayed is synced again, and the header of the new file is durable, before Open returns.
//   - A group that cannot be written ends the wal: nothing is retried, nothing later is acknowledged. That a file cannot be prepared
//     because the disk is full only makes Reserve return ErrFull.
//
// Damage to bytes that are no longer needed, before `from`, is logged and else ignored. One thing cannot be told from a wal that was
// never longer: that its newest files were removed, and `newest` too. Open returns ErrBeyond if `from` shows it.
//
// # Memory
//
// Three group buffers are kept and used again. Reservations and groups that are not yet written are bounded by PendingBytes; recovery
// holds two windows of 1 MiB, or of one group, which is never larger than its file.
//
// # Example
//
//	l, err := wal.Open(ctx, wal.Config{FS: disk.Default(), Dir: dir}, from, replay)
//	r, err := l.Reserve(ctx, len(batch))        // may wait; ErrFull is retriable
//	seq := l.Append(&r, wal.Entry{Kind: wal.Batches, Partition: id, FirstOffset: 10, LastOffset: 19, Data: batch}, partition)
//	err = l.Wait(ctx, seq)                      // nil: the batch is on stable storage
//	err = l.Release(checkpointed)               // groups before it may go
package wal
