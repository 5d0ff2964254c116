// Package storage is the partition log: append, read, retention, checkpoints and recovery, over one write-ahead log for all
// partitions of a broker.
//
// # The way of a batch
//
//	reserve        room in the tail's budget and in the wal; here, and only here, an append waits
//	order          under Partition.mu: producer sequences, a roll if one is due, offset and leader epoch, then wal and tail
//	make durable   the wal writes and syncs the group that holds it; Engine.Wait returns
//	make visible   Engine.Committed, on the wal's goroutine: the high watermark moves, watchers are woken once
//	               (long runs of a partition go past the wal, but for short entries: place.go)
//	flush          behind: blocks of about a MiB from the tail to the partition's segment
//	checkpoint     behind: what is flushed is synced and written down, and the wal may forget it
//
// A batch that has been ordered happens. Replay of the wal repeats what was ordered and decides nothing: rolls, moves of the
// log start and dropped segments are entries of their own.
//
// # Positions
//
// A partition's bytes are found by stream position: the sizes of its segments and of the tail, added up from the oldest
// segment at Open. Segments begin at positions, a Slice is a position and a length, the tail is a window of positions:
//
//	          flushedPos       hwPos      endPos
//	segments ------|             |           |
//	          tail |--- durable -|- pending -|       (the tail keeps a little of what is flushed, for consumers that keep up)
//
// Every byte before flushedPos is in a segment, and only durable bytes get there. flushedPos is always a batch boundary.
// tailIndex finds batches in the tail, the segments' own indexes in the segments; both are sparse, and a walker goes on from
// there by batch headers.
//
// # Transactions
//
// A transaction begins in a partition with its first batch and ends with a marker (Partition.AppendMarker). producerTable knows what is
// open, as a function of the log. Readers of committed records stop at the last stable offset (Partition.stableLocked): the first offset of
// the oldest transaction that is open, or whose marker is not durable. Which transactions were aborted is kept in Partition.aborted until
// the marker is flushed, then in the transaction index of its segment; Partition.Aborted asks both. A client's batch begins a
// transaction only with a Verification: whoever appends has asked the transaction coordinator, and no marker came in between.
//
// # Compaction
//
// cleaner.go decides which partition is due, compact.go makes a round, compact_swap.go puts what it wrote in the place of what was there.
// A round touches only sealed segments that a checkpoint lists. It writes new ones beside them, synced, logs the swap, and makes it:
// see layout.go for readers that are under way. The old files are dropped segments like those of retention. A round that ends anywhere,
// by a crash too, leaves either the old segments in the log or the new ones, and files that the next round removes.
//
// # Checkpoints
//
// The file checkpoint (docs/formats/checkpoint.md) holds, for each partition, its state as of flushedPos: the segments, the
// producers (Partition.flushed, not Partition.producers), and From, the oldest group of the wal that it still needs. The order:
//
//  1. Note the next group. All that is logged from now on lies at or after it, so captures need not be of one moment.
//  2. If the wal is filling, free its oldest groups: flush partitions that have much in them, copy forward (wal.Carry) what is
//     little, and wait until the copies are durable.
//  3. Sync segments, indexes, sidecars and folders; capture each partition.
//  4. Write the checkpoint by temporary file, sync, rename, folder sync.
//  5. Release the wal before the oldest group needed; rename the folders of deleted partitions; unlink what is no longer listed.
//
// The last block of a segment that a checkpoint covers (Partition.covered) is rewritten only once its old bytes are in the live
// wal: see carryRagged. During replay there is no wal to append to, and the checkpoint file itself takes the bytes.
//
// # Recovery
//
// Open reads the checkpoint and replays the wal from its From into the tail, flushing as it goes where the tail's budget is less.
// It reads no segment. Entries before a partition's own From are skipped. Of a group equal to From an entry may lie past the log
// end: then a copy of what comes before it follows in the same group. Topics that the metadata does not know are dropped if it
// has their tombstone; otherwise their entries go to set-aside/, their folders stay, and Engine.Damage names them.
//
// # Failures
//
// A write or sync that failed ends the engine: Engine.Failed is closed, appends, waits and reads get ErrFailed, and the folder
// must be opened again. A full disk is no failure as long as no sync was left in doubt: flushes and checkpoints are put off, and
// appends get ErrNoSpace once the wal or the tail is full. Damage costs the range that it hit: a DamageError for reads that touch
// it, and everything else goes on. Known ranges are remembered in the file damage (docs/formats/damage.md) until they read right again or
// leave the log. A range that an operator has given up is a gap: readers go on behind it, as behind compacted records.
//
// # Goroutines
//
// Each engine has two flushers, one that writes checkpoints, one for what the clock asks for (idle flushes, retention, retries), one
// that flushes more when appends wait for memory, one that writes down damage, and one that watches the wal; Close waits for all of them. A partition has none.
//
// # Locks
//
// In the order in which they are taken:
//
//	Engine.checkpointMu   one checkpoint at a time
//	Partition.flushMu     what writes to the partition's files; held across I/O
//	Engine.damageMu       one write of the list of damaged ranges at a time; held across I/O
//	Engine.wakeMu         making a group visible
//	Engine.mu             the tables of partitions; not held while a Partition's lock is taken
//	Watcher.mu
//	Partition.mu          the partition's state; never held across I/O
//	Engine.commitMu, flusher.mu, stalledList.mu, unlinkList.mu, folderClaims.mu, and those of wal and tail: leaves
package storage
