// Package metadata keeps what the cluster agrees on: topics, brokers, settings, features and counters.
//
// # Parts
//
//	Store     a key-value store with revisions: Etcd, embedded in this process, or Memory
//	Image     everything at one revision, immutable; requests read it and never wait for the store
//	Metadata  follows the store with a watch, turns each revision into the next Image, and carries out changes
//
// # How a change goes
//
//	admin call ─ plan on the newest image ─▶ Txn{compares, ops} ─▶ Store.Commit (synced) ─▶ revision R
//	                                                                      │ watch
//	       returns ◀─ applied ≥ R ◀─ subscribers told ◀─ image swapped ◀──┘
//
// A transaction compares the revision of every key that its plan relied on, so a plan made on an old image changes nothing: it
// is made again on a newer one. All events of a revision are applied at once. An admin call returns when this broker's image has
// its change and all subscribers know of it: who made a change sees it.
//
// # What must hold
//
//   - A topic's key, its settings and its number of partitions are one value: there is no half of a topic.
//   - Topic ids and producer ids are never given twice, leader epochs only grow. A deleted topic leaves a tombstone in the same
//     transaction, so that whoever finds the id on disk can tell "deleted" from "lost".
//   - A value that is not what was written stops the broker, by name of its key: at start Open fails, later Failed is closed.
//     Nothing is skipped, because a topic that is skipped looks deleted.
//   - The store is never written with too little free space on its disk (see spaceGuard), and when etcd wants to end the process,
//     Failed is closed instead and the broker stops in order.
//
// Lock order: Metadata.turn, Metadata.applying, Metadata.mu. Callbacks run under applying, and must not make changes.
//
// The keys and values are described in docs/formats/metadata.md.
package metadata
