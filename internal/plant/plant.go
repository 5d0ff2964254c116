// Package plant holds bugs that are planted on purpose, to see that the proofs catch them: a proof that passes with a bug planted
// proves nothing.
//
// The places are in the paths that production takes, each a call of On. A build with the tag `plant` has the bug that OTTLA_PLANT
// names. In every other build On is a constant false that the compiler removes together with what depends on it: the binary holds
// no trace. test/prove/planted.go says which proof catches which bug.
package plant

// Bug is the name of a planted bug, as OTTLA_PLANT has it.
type Bug string

// The bugs. Each comment says what goes wrong.
const (
	// AckEarly tells committers and waiters that a group is durable before it is written.
	AckEarly Bug = "ack-early"
	// SkipWALSync writes groups without syncing them.
	SkipWALSync Bug = "skip-wal-sync"
	// SkipWALFolderSync leaves the name of a new wal file unsynced.
	SkipWALFolderSync Bug = "skip-wal-folder-sync"
	// RecycledGroup takes a group that an earlier life of a wal file left for a new one.
	RecycledGroup Bug = "recycled-group"
	// NoRunCRC does not check the bytes of entries in replay.
	NoRunCRC Bug = "no-run-crc"
	// DamageIsTorn takes damage to what was durable in the wal for a torn end, and cuts it silently.
	DamageIsTorn Bug = "damage-is-torn"
	// SkipSegmentSync lets a checkpoint count on segment files that were not synced.
	SkipSegmentSync Bug = "skip-segment-sync"
	// NoBlockCRC does not check what is read from a segment.
	NoBlockCRC Bug = "no-block-crc"
	// NoCarry rewrites the ragged end of a segment without having it in the wal.
	NoCarry Bug = "no-carry"
	// BodyUnsynced acknowledges batches whose bodies were written to their segments and not synced.
	BodyUnsynced Bug = "body-unsynced"
	// BodyUnchecked believes in replay that the body of a batch is what was written.
	BodyUnchecked Bug = "body-unchecked"
	// BodyElsewhere writes the body of a batch one block behind its place.
	BodyElsewhere Bug = "body-elsewhere"
	// BodyRewritten writes bodies that replay has found, and the wal counts on, once more in their place.
	BodyRewritten Bug = "body-rewritten"
	// RunGap leaves out what lies between the bodies of a run, which nobody else writes.
	RunGap Bug = "run-gap"
	// RunEndShort writes no more than the first body of a run.
	RunEndShort Bug = "run-end-short"
	// ReleaseEarly gives wal files free when a checkpoint begins, before it is durable.
	ReleaseEarly Bug = "release-early"
	// SkipCheckpointFolderSync leaves the checkpoint's rename unsynced.
	SkipCheckpointFolderSync Bug = "skip-checkpoint-folder-sync"
	// ReplayTooLate lets a checkpoint forget that batches still wait in the wal.
	ReplayTooLate Bug = "replay-too-late"
	// NoProducerReplay does not rebuild the producer state in replay.
	NoProducerReplay Bug = "no-producer-replay"
	// ProducersOfNow stores the producer state of now in a checkpoint, not that of the flushed offset.
	ProducersOfNow Bug = "producers-of-now"
	// DuplicateEarly answers a duplicate at once, though the original is not durable yet.
	DuplicateEarly Bug = "duplicate-early"
	// VisibleEarly shows batches to readers before they are durable.
	VisibleEarly Bug = "visible-early"
	// EpochOffByOne begins a leader epoch one offset too late.
	EpochOffByOne Bug = "epoch-off-by-one"
	// LostEpochs forgets the leader epochs that the checkpoint holds.
	LostEpochs Bug = "lost-epochs"
	// LostLogStart does not replay moves of the log start.
	LostLogStart Bug = "lost-log-start"
	// NoCarryReplay does not replay what was copied forward in the wal.
	NoCarryReplay Bug = "no-carry-replay"
	// SkipCheckpointSync renames a checkpoint into place that was not synced.
	SkipCheckpointSync Bug = "skip-checkpoint-sync"
	// NoCheckpointCRC believes any checkpoint.
	NoCheckpointCRC Bug = "no-checkpoint-crc"
	// SkipSyncAll lets a checkpoint count on a sync of everything that was not made.
	SkipSyncAll Bug = "skip-sync-all"
	// SkipSegmentFolderSync leaves the names of a new segment's files unsynced.
	SkipSegmentFolderSync Bug = "skip-segment-folder-sync"
	// UnlinkEarly unlinks segments that a checkpoint still lists.
	UnlinkEarly Bug = "unlink-early"
	// RetainTooLittle drops a segment that retention.bytes still covers.
	RetainTooLittle Bug = "retain-too-little"
	// UnloggedLogStart answers delete-records without logging it.
	UnloggedLogStart Bug = "unlogged-log-start"
	// DeleteTooMany deletes one record more than it was asked to.
	DeleteTooMany Bug = "delete-too-many"
	// UnstampedEpoch leaves the client's leader epoch in a batch.
	UnstampedEpoch Bug = "unstamped-epoch"
	// AcceptDuplicates does not look at the sequences of idempotent producers.
	AcceptDuplicates Bug = "accept-duplicates"
	// IndexTooFar finds the batch behind the one that was looked for.
	IndexTooFar Bug = "index-too-far"
	// ListEndShort lists an end offset before the end.
	ListEndShort Bug = "list-end-short"
	// AnswerEarly answers from a coordinator's state that is not durable yet.
	AnswerEarly Bug = "answer-early"
	// KeepRefusedState keeps a coordinator's state whose records were not appended.
	KeepRefusedState Bug = "keep-refused-state"
	// SnapshotOneLate goes on one record too late behind a coordinator's snapshot.
	SnapshotOneLate Bug = "snapshot-one-late"
	// FirstOffsetWins keeps the first offset that a group has committed.
	FirstOffsetWins Bug = "first-offset-wins"
	// ShareStateUnfenced takes a write to a share partition from before its last initialization.
	ShareStateUnfenced Bug = "share-state-unfenced"
	// ShareUnkept assigns partitions of a share group though the share coordinator does not keep their state.
	ShareUnkept Bug = "share-unkept"
	// ShareStartForgotten lets a share partition that is loaded begin at offset 0.
	ShareStartForgotten Bug = "share-start-forgotten"
	// NothingForMembers tells members of the consumer protocol that nothing is committed for their group.
	NothingForMembers Bug = "nothing-for-members"
	// PruneSnapshot deletes the oldest record of a coordinator's log that is still needed.
	PruneSnapshot Bug = "prune-snapshot"
	// NoTombstone deletes a topic without leaving its tombstone.
	NoTombstone Bug = "no-tombstone"
	// AnswerBeforeImage answers a change of the metadata before this broker's image has it.
	AnswerBeforeImage Bug = "answer-before-image"
	// TrustCounts believes the counts in a request before its bytes are there.
	TrustCounts Bug = "trust-counts"
	// NoDecompressLimit decompresses a batch whatever it becomes.
	NoDecompressLimit Bug = "no-decompress-limit"
	// FrameMemoryKept never gives back the memory that was granted to a frame.
	FrameMemoryKept Bug = "frame-memory-kept"
	// DuplicateElsewhere answers a duplicate with the place of an older batch of the producer.
	DuplicateElsewhere Bug = "duplicate-elsewhere"
	// DuplicateOneOff answers a duplicate with the offset after its own.
	DuplicateOneOff Bug = "duplicate-one-off"
	// GapInReplay leaves batches out in replay, as if they had been compacted away.
	GapInReplay Bug = "gap-in-replay"
	// LaggingHighWatermark keeps the newest batches from readers though they are durable.
	LaggingHighWatermark Bug = "lagging-high-watermark"
	// SkippedRead begins some reads a batch late.
	SkippedRead Bug = "skipped-read"
	// EndOutOfRange takes the end of a log for an offset that is not in it, so that consumers begin anew.
	EndOutOfRange Bug = "end-out-of-range"
	// HideAborts does not tell consumers which transactions were aborted.
	HideAborts Bug = "hide-aborts"
	// ReadOpen gives records of open transactions to those who read committed ones.
	ReadOpen Bug = "read-open"
	// TornEnd aborts a transaction in some of its partitions though it commits.
	TornEnd Bug = "torn-end"
	// DropNewest lets compaction drop the newest record of some keys.
	DropNewest Bug = "drop-newest"
	// TombstoneEarly lets compaction drop tombstones and markers before their time.
	TombstoneEarly Bug = "tombstone-early"
	// CleanedTooFar takes what a round of compaction has not looked at for clean.
	CleanedTooFar Bug = "cleaned-too-far"
	// SwapNotLogged compacts segments without a word of it in the wal.
	SwapNotLogged Bug = "swap-not-logged"
	// TaskTwice gives a task of a streams group to a member before its former one has given it back.
	TaskTwice Bug = "task-twice"
	// LeaverUnnoticed does not assign the tasks of a member that left a streams group.
	LeaverUnnoticed Bug = "leaver-unnoticed"
	// AcceptForgotten does not persist which records of a share group were accepted.
	AcceptForgotten Bug = "accept-forgotten"
	// EternalLock leaves the records of a share group for ever with a member that does not report.
	EternalLock Bug = "eternal-lock"
	// DeliveryUncounted forgets how often a record was delivered when it comes back.
	DeliveryUncounted Bug = "delivery-uncounted"
	// ShareAckEarly answers an acknowledgement of a share group's records before it is durable.
	ShareAckEarly Bug = "share-ack-early"
	// LoadShort loads a coordinator's state from what readers of committed records see of its log.
	LoadShort Bug = "load-short"
	// AckNotOwned lets a member acknowledge what another has.
	AckNotOwned Bug = "ack-not-owned"
	// EpochKept ends transactions without raising the producer's epoch.
	EpochKept Bug = "epoch-kept"
	// AbortDecided lets a producer that starts abort a transaction whose commit is decided.
	AbortDecided Bug = "abort-decided"
	// EndForgotten does not carry out the ends of transactions that were decided before the coordinator's state was loaded.
	EndForgotten Bug = "end-forgotten"
	// EndedTwice carries the end of a transaction out once more if the coordinator's state is loaded meanwhile.
	EndedTwice Bug = "ended-twice"
	// MarkerOfFormerEpoch writes markers with the epoch of the records that they end.
	MarkerOfFormerEpoch Bug = "marker-of-former-epoch"
	// MarkerGivenUp takes a marker that its partition refused for written.
	MarkerGivenUp Bug = "marker-given-up"
	// LateEndTaken takes a request to end a transaction that comes from one before.
	LateEndTaken Bug = "late-end-taken"
	// NotFenced gives a producer that starts the epoch of the one before it.
	NotFenced Bug = "not-fenced"
	// LaggardUnfenced aborts a transaction that took too long, or that a successor finds open, without fencing its producer.
	LaggardUnfenced Bug = "laggard-unfenced"
	// GenerationKept begins a rebalance of a classic group without a new generation.
	GenerationKept Bug = "generation-kept"
	// PartitionTwice gives a partition to a member of a consumer group before its former one has given it back.
	PartitionTwice Bug = "partition-twice"
	// SilenceGivesBack takes it that a member of a consumer group has given back its partitions if it does not say which it has.
	SilenceGivesBack Bug = "silence-gives-back"
	// LeaverKeeps does not assign the partitions of a member that left a consumer group.
	LeaverKeeps Bug = "leaver-keeps"
	// TargetOfLeaver leaves the target assignment of a member that left a consumer group.
	TargetOfLeaver Bug = "target-of-leaver"
	// TargetLost leaves the target assignments of a consumer group out of snapshots.
	TargetLost Bug = "target-lost"
	// EpochAhead has the epoch of a consumer group one too high in snapshots.
	EpochAhead Bug = "epoch-ahead"
	// StaticUnfenced takes the heartbeat of a static member that was replaced for one of its successor.
	StaticUnfenced Bug = "static-unfenced"
	// LastStableEarly takes a transaction for ended before its marker is durable.
	LastStableEarly Bug = "last-stable-early"
	// AbortNotIndexed flushes a marker without an entry in the index of aborted transactions.
	AbortNotIndexed Bug = "abort-not-indexed"
	// OpenForgotten forgets the open transactions that a checkpoint holds.
	OpenForgotten Bug = "open-forgotten"
)

// Bugs lists all of them.
var Bugs = []Bug{
	AckEarly, SkipWALSync, SkipWALFolderSync, RecycledGroup, NoRunCRC, DamageIsTorn, SkipSegmentSync, NoBlockCRC, NoCarry,
	BodyUnsynced, BodyUnchecked, BodyElsewhere, BodyRewritten, RunGap, RunEndShort, ReleaseEarly,
	SkipCheckpointFolderSync, ReplayTooLate, NoProducerReplay, ProducersOfNow, DuplicateEarly, VisibleEarly, EpochOffByOne, LostEpochs,
	LostLogStart, NoCarryReplay, SkipCheckpointSync, NoCheckpointCRC, SkipSegmentFolderSync, SkipSyncAll, UnlinkEarly, RetainTooLittle,
	UnloggedLogStart, DeleteTooMany, UnstampedEpoch, AcceptDuplicates, IndexTooFar, ListEndShort, AnswerEarly, KeepRefusedState,
	SnapshotOneLate, FirstOffsetWins, NoTombstone, AnswerBeforeImage, TrustCounts, NoDecompressLimit, FrameMemoryKept,
	ShareStartForgotten, NothingForMembers,
	DuplicateElsewhere, DuplicateOneOff, GapInReplay, LaggingHighWatermark, SkippedRead, EndOutOfRange, HideAborts, ReadOpen, TornEnd,
	DropNewest, TombstoneEarly, CleanedTooFar, SwapNotLogged, TaskTwice, LeaverUnnoticed,
	ShareStateUnfenced, PruneSnapshot, ShareUnkept,
	AcceptForgotten, EternalLock, DeliveryUncounted, AckNotOwned, ShareAckEarly, LoadShort,
	EpochKept, AbortDecided, EndForgotten, EndedTwice, MarkerOfFormerEpoch, MarkerGivenUp, LateEndTaken, NotFenced, LaggardUnfenced,
	GenerationKept, PartitionTwice, SilenceGivesBack, LeaverKeeps, TargetOfLeaver, TargetLost, EpochAhead, StaticUnfenced,
	LastStableEarly, AbortNotIndexed, OpenForgotten,
}
