// Package txn is the transaction coordinator: the state machine of transactional ids, as Apache Kafka 4.3 has it (KIP-98, KIP-360,
// KIP-890), and Service, the front door through which requests reach the state machines of all partitions of __transaction_state. A
// transactional id lives in the partition that it hashes to. The records are Kafka's TransactionLogKey and TransactionLogValue.
//
// # States of a transactional id
//
//	              AddPartitions, AddOffsets,        EndTxn(commit)
//	┌───────┐     or a produce (version 2)     ┌─────────┐ ──────────▶ ┌───────────────┐ markers   ┌────────────────┐
//	│ Empty │ ────────────────────────────────▶│ Ongoing │             │ PrepareCommit │ ────────▶ │ CompleteCommit │
//	└───────┘                                  └─────────┘             └───────────────┘ written   └────────────────┘
//	  ▲   │ EndTxn(abort), version 2             │    ▲ as from Empty                                  │
//	  │   └──────────────────────────────┐       │    └───────────────────────────────────────────────┤
//	  │                                  ▼       ▼ EndTxn(abort), InitProducerId, timeout             │
//	  │                                ┌──────────────┐ markers   ┌───────────────┐                   │
//	  │                                │ PrepareAbort │ ────────▶ │ CompleteAbort │ (as CompleteCommit)
//	  │                                └──────────────┘ written   └───────────────┘                   │
//	  └──────────────────────── InitProducerId: the epoch goes up ───────────────────────────────────┘
//
// What leads out of Empty leads out of the two Complete states as well. Every arrow is one record. A transactional id that nobody used for transactional.id.expiration.ms is forgotten, unless a transaction is
// under way.
//
// Kafka's state PrepareEpochFence and its pending states do not exist: a record is applied when it is queued, so no request meets a
// transition that is half done. Answers wait until the records are durable (see package coordinator).
//
// # Epochs
//
// InitProducerId raises the epoch and so fences the former producer of the id. With transaction version 2 every end of a transaction
// raises it too, before the markers are written: a marker's epoch is above that of the records that it ends, so that a request or a marker
// that is late or repeated never meets a later transaction. An abort that the producer has not asked for (a timeout, InitProducerId while one
// is open) raises it with either version, which fences whoever goes on as if nothing had happened; a producer that tells InitProducerId
// the epoch it had goes on with the next (KIP-360, KIP-588). An id whose epochs are used up (32766) goes on with a new producer id. Which version a transaction
// has is told by the client's requests: EndTxn v5, Produce v12, TxnOffsetCommit v5 and later are of version 2.
//
// # Markers
//
// The Prepare record decides; from then on the end happens. Once it is in the log (Effects.After) the service writes a marker into each
// partition of the transaction (Markers), and then tells the machine, which records the Complete state. All of them are in one write-ahead
// log, in this order, so none of this waits for durability, and what survives a crash is a prefix. Loading a Prepare state writes the
// markers again: partitions take one that is repeated. For one transactional id only one such job runs at a time, and it is over only once the
// Complete state is in the log: without KIP-890 a marker that comes later would end the next transaction.
//
// For the same reason a produce that begins a transaction in a partition waits until that is in the log of the coordinator, not until it is
// durable: the records come after it.
//
// # Timers
//
// Every transaction.abort.timed.out.transaction.cleanup.interval.ms those that are open longer than their timeout are aborted. Every
// transaction.remove.expired.transaction.cleanup.interval.ms those that have expired are forgotten.
//
// # Limits
//
// All transactional ids of a broker share one budget of bytes (Config.MaxBytes): past it new ids and partitions are refused with
// COORDINATOR_NOT_AVAILABLE, which clients try again. A transaction lasts transaction.max.timeout.ms at most.
//
// # Where it differs from Kafka on purpose
//
//   - EndTxn v5 of who was fenced out of a transaction of the former version is PRODUCER_FENCED. Kafka takes it for a retry, whatever raised
//     the epoch, and may tell it the epoch of its successor.
//   - TxnOffsetCommit asks each time whether the producer is that of the transactional id. Kafka does not while the producer has offsets
//     pending.
//   - AddPartitionsToTxn v4 about no transaction at all is answered; Kafka never does.
package txn
