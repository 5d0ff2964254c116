// Package group is the group coordinator: the state machine of classic consumer groups, as Apache Kafka 4.3 has it, with the offsets
// that groups commit, and Service, the front door through which requests reach the state machines of all partitions of
// __consumer_offsets. A group lives in the partition that its name hashes to. docs/formats/groups.md has the records.
//
// # Kinds of groups
//
// A Machine holds groups of all kinds under one name space, and the offsets of all of them. What it needs of every group, for listing,
// deleting, expiry and offsets, is the interface group; a kind adds a type that implements it, its requests as methods of Machine, and
// rows in recordTypes. A group of one kind that is addressed as another is not found (see as).
//
// # States of a classic group
//
//	                 a member joins
//	    ┌─────────┐ ─────────────────────────────▶ ┌───────────────────┐ ◀──────────────────┐
//	───▶│  Empty  │                                │ PreparingRebalance│                    │ a member joins, leaves, changes what
//	    └─────────┘ ◀───────────────────────────── └───────────────────┘ ◀─────────┐        │ it offers, or its session ends; the
//	         │        the join phase ends and          │ the join phase ends       │        │ leader joins again
//	         │        nobody is left (recorded)        ▼ with members              │        │
//	         │                                     ┌───────────────────┐           │        │
//	         │                                     │CompletingRebalance│ ──────────┘        │
//	         │                                     └───────────────────┘  (as from Stable, or the sync phase takes too long)
//	         │                                         │ the leader syncs with the assignment (recorded)
//	         ▼                                         ▼                                    │
//	  deleted: DeleteGroups, or no              ┌───────────────────┐                       │
//	  offsets are left (recorded)               │      Stable       │ ──────────────────────┘
//	  "Dead" to who asks for it                 └───────────────────┘
//
// Join phase: each member joins (again), its request waits. It ends when all known members have joined and no member id that was given
// out is missing; or after the longest rebalance timeout of any member, without the dynamic members that did not come. The first one of
// an empty group lasts group.initial.rebalance.delay.ms instead, and as long again while new members come, up to the rebalance timeout.
// At its end the generation goes up, the protocol that all offer and most prefer is chosen, all are answered, and the leader (who joined
// first) learns of all members.
//
// Sync phase: each member asks for its assignment and waits until the leader brings it. Members that did not ask within the rebalance
// timeout are out.
//
// Timers: a session per member, moved by everything that is heard of it; it does not run out while the member waits for the group. One
// of the join phase and one of the sync phase per group. One for the expiry of offsets.
//
// Static members (KIP-345) are known by group.instance.id: the one that comes back without a member id takes the place of its former
// self, which is fenced, and while the group is stable and its protocol stays nobody else notices.
//
// # Hard and soft state
//
// Recorded are: each group when it is new, when it becomes stable, when it becomes empty, when a static member comes back, and when it
// is deleted; and each offset. All else is soft. After a reload a group is as it was when it was last recorded, stable or empty, and
// each of its members has one session timeout to be heard of; members that were joining join again, as their clients do after
// NOT_COORDINATOR.
//
// An answer leaves only once all records of the state that it saw are durable (see package coordinator), so the assignment is known to
// nobody before it is recorded.
//
// # Limits
//
// All groups of a broker share one budget of bytes (Config.MaxBytes): past it new members, assignments and offsets are refused with
// COORDINATOR_NOT_AVAILABLE, which clients try again; heartbeats, fetches and everything that frees memory go on. Kafka's own limits
// hold too: group.max.size, offset.metadata.max.bytes, and the largest record for an assignment.
//
// # Where it differs from Kafka on purpose
//
//   - A member that joins or syncs again while its former request still waits gets REBALANCE_IN_PROGRESS for the former one; Kafka
//     never answers that. Nor does it answer the sync of a member that is removed while it waits; here it is UNKNOWN_MEMBER_ID.
//   - Offsets of a deleted topic are not there even before they are removed: they carry their topic's id.
//   - New leaders are taken in the order in which members joined, where Kafka takes any.
package group
