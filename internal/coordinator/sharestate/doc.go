// Package sharestate is the share coordinator (KIP-932): what has become of the records that share groups were given, for each group and
// partition (a share partition), in __share_group_state. Machine is the state machine of one partition of that topic, and Service, which
// implements share.Persister, the front door through which requests reach them all. The share partition of group G, topic id T and
// partition P lives where Kafka has it: in the partition that "G:T:P" hashes to. docs/formats/share.md has the records.
//
// # States
//
//	             Initialize                            Write, Read with a new leader epoch
//	not there ───────────────▶ initialized ────────────────────┐
//	    ▲                          │  ▲ │                       │ an update is recorded, or a whole
//	    │  Delete, or the topic    │  │ │ Initialize            │ snapshot after so many updates
//	    └──────────────────────────┘  └─┴───────────────────────┘
//
// Only Initialize changes the state epoch. A write with an older state epoch than the one that is there is fenced, and so is a read or
// write with an older leader epoch; -1 stands for none and is not checked. A start offset of -1 says that share.auto.offset.reset has not
// been asked yet.
//
// The batches of a write are laid over those that are there: where they overlap the one that was delivered more often wins, and of equals
// the later state (acknowledged over available, archived over acknowledged). What lies below the start offset is forgotten.
//
// # Records
//
// A snapshot is the whole state of a share partition; an update what one write changed. After
// share.coordinator.snapshot.update.records.per.snapshot updates the next write records a snapshot. The topic is not compacted: every
// prune interval what lies before the oldest snapshot of any share partition is deleted from the log (Machine.Needed), and a share
// partition whose snapshot is old is recorded once more, so that it does not hold the others' records back. No snapshots of whole
// partitions are kept beside the log: it is short enough to be read from its start.
//
// # Limits
//
// A share partition holds at most maxBatches batches. All share partitions of a broker share one budget of bytes (Config.MaxBytes): past it
// nothing is initialized and no write is taken that needs more memory than before, with an error that callers try again.
package sharestate
