// Package group is the group coordinator: the state machines of classic groups, of consumer groups (KIP-848), of share groups (KIP-932) and of streams groups
// (KIP-1071), as Apache Kafka 4.3 has them, with the offsets that groups commit, and Service, the front door through which requests reach the state machines of all partitions of
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
// # States of a consumer group
//
// The members of a consumer group send one request, ConsumerGroupHeartbeat, and the group assigns by itself. Three epochs say how far
// things are; all of them only go up:
//
//	group epoch       goes up when members, their subscriptions or the topics change
//	assignment epoch  group epoch for which the target assignment was computed
//	member epoch      assignment epoch that a member has come to
//
//	Empty        no members
//	Assigning    the group epoch is ahead of the assignment epoch: the next heartbeat computes a target, but not within
//	             consumer.assignment.interval.ms of the last one
//	Reconciling  some member has not come to its target
//	Stable       all have
//
//	from         to                       when
//	not there    Assigning                the first member joins
//	any          Assigning                a member comes, goes or changes what it subscribes to, or the topics change, and members are left
//	Assigning    Reconciling or Stable    a heartbeat computes the target
//	Reconciling  Stable                   the last member has come to its target
//	any          Empty                    the last member leaves, or is fenced
//	Empty        not there                DeleteGroups, or no offsets are left
//
// A member is reconciled, or on its way to its target (memberState):
//
//	from         to                       when
//	new          reconciled or unreleased it joins
//	reconciled   unrevoked                its target lacks what it has
//	reconciled   unreleased               some of its target is with others
//	unrevoked    reconciled or unreleased it says that it is without what it has to give back
//	unrevoked    fenced                   its rebalance timeout runs out first
//	unreleased   reconciled               what it waits for is free
//	unreleased   unrevoked                a new target lacks what it has
//	any          not there                it leaves with epoch -1, or its session ends
//
// A heartbeat brings its member one step nearer to its target, see Machine.reconcile. What a member has to give back is
// taken off it first, and a partition goes to its next owner only once its former one has said that it is without it.
//
// Timers: a session per member; a rebalance timeout per member that has something to give back. Members are fenced when either runs out.
// Static members leave with epoch -2 and keep their place and partitions until their session ends.
//
// Patterns (RE2) are matched with the names of topics here, see refreshRegexes. Changes of topics are noticed at the next heartbeat of
// any member, by the topics' version; no work is done for groups that nobody sends a heartbeat to.
//
// # States of a streams group
//
// The members of a streams group are the threads of a Kafka Streams application. They send one request, StreamsGroupHeartbeat, and what is
// assigned is tasks: a task is one partition of all topics that a subtopology of the application reads. The epochs are those of a
// consumer group, and one more of the topology, which the first member brings and which stays as long as the group.
//
//	Empty        no members
//	NotReady     the topology lacks topics, or they have numbers of partitions that do not fit: nothing is assigned
//	Assigning    the group epoch is ahead of the assignment epoch: the next heartbeat computes a target, but not within
//	             streams.assignment.interval.ms of the last one, and not within streams.initial.rebalance.delay.ms of the first member
//	Reconciling  some member has not come to its target
//	Stable       all have
//
// They follow one another as those of a consumer group do, but that a change of the topics or the first member may lead to NotReady, and from there a
// change of the topics to Assigning. The states of members are those of a consumer group's.
//
// What a topology needs of the topics is worked out by package topology, whenever the topics change: see Machine.examine. Internal topics that
// are missing go out with the answer, to be created (StreamsHeartbeat.Create); the next heartbeat finds them, and the group gets a new epoch.
// Tasks are assigned by assignor.Sticky. A heartbeat brings its member one step nearer to its target, see Machine.reconcileTasks: what it has
// to give back is taken off it first, and a task goes to its next member only when it is free. An active task is with one member at a
// time; and of a task's state a process has one copy at a time, for its members share a folder, so a standby task has to be given
// back before another member of the same process, or the same member, gets the active one.
//
// Timers: a session per member; a rebalance timeout per member that has something to give back; the wait of a group that was empty for
// more members. Members are fenced when one of the first two runs out.
//
// Soft are, beside the timers, what is told of endpoints and their epoch, and that a member asked for the whole application to
// shut down: all members are told so until the group is empty.
//
// Static members, warm-up tasks, task offsets, patterns of source topics, and changes of a topology are refused, as in Kafka 4.3. A group
// changes its kind only while it has no members: an empty classic group becomes a streams group, and the other way round.
//
// # States of a share group
//
// The members of a share group (KIP-932) share partitions: several may have the same one, and which of its records each gets is the business of
// package share. They send one request, ShareGroupHeartbeat. The epochs are those of a consumer group, but nobody waits for anybody: a
// member comes to its target with its next heartbeat, see Machine.reconcileShare.
//
//	Empty   no members
//	Stable  there are members
//
//	from                to         when
//	not there or Empty  Stable     a member joins
//	not there           Empty      offsets are altered
//	Stable              Empty      the last member leaves, or its session ends
//	Empty               not there  DeleteGroups
//
// A partition is assigned only once the share coordinator keeps its state, which goes in steps:
//
//	       a member subscribes            ShareInitialized            DeleteShareGroupOffsets,
//	none ─────────────────────▶ initializing ─────────────▶ initialized ─────────────────────▶ deleting ─────────────▶ none
//	       or offsets are altered   │  ▲                                     DeleteGroups               ShareDeleted
//	                                └──┘ it failed, or nothing was heard of it for
//	                                     group.share.initialize.retry.interval.ms: the next heartbeat asks again
//
// The answer to a heartbeat says what to initialize (ShareReport); a group with partitions that were initialized and not assigned yet gets a
// new epoch with the next heartbeat, to which its members are asked sooner. share.assignment.interval.ms does not hold an assignment back
// that follows one of nothing.
//
// Timers: a session per member. ShareListener is told of each member that goes and of each group that becomes empty.
//
// A share group has no committed offsets. It never changes its kind, and goes only when it is deleted.
//
// # From one protocol to the other
//
// A consumer group can have members that speak the classic protocol, see consumer_classic.go. A classic group of consumers becomes a
// consumer group when the first member joins in that protocol (upgrade), and a consumer group becomes a classic one when the last member
// of its own protocol leaves or is replaced (downgrade); group.consumer.migration.policy says which of it is allowed. Groups without
// members change their kind freely, and keep their offsets. A crash in between two records of a change may leave a group without some or
// all of its members, which then join again as if their sessions had ended; offsets are not touched.
//
// # Hard and soft state
//
// Everything of a consumer group is recorded, but for its timers; of a streams group likewise, but for what is told above, and of a share group. Of a classic group recorded are: each group when it is new, when it becomes stable, when it becomes empty, when a static member comes back, and when it
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
// hold too: group.max.size, group.consumer.max.size, group.streams.max.size, group.share.max.size, offset.metadata.max.bytes, and the largest record, which bounds what one member of
// a consumer group subscribes to, what a pattern may match, and an assignment.
//
// # Where it differs from Kafka on purpose
//
//   - A member that joins or syncs again while its former request still waits gets REBALANCE_IN_PROGRESS for the former one; Kafka
//     never answers that. Nor does it answer the sync of a member that is removed while it waits; here it is UNKNOWN_MEMBER_ID.
//   - Offsets of a deleted topic are not there even before they are removed: they carry their topic's id.
//   - New leaders are taken in the order in which members joined, where Kafka takes any.
//   - A new pattern is matched in the heartbeat that brings it, and its topics are assigned with its answer; Kafka matches it in the
//     background, and a later heartbeat brings the assignment.
//   - A member that waits for its assignment, or for partitions of others, is told a shorter heartbeat interval than the group's, so that
//     a group settles in seconds whatever its interval; see nextReport.
//   - Members and topics are gone through in the order of their ids, where Kafka takes the order of a hash table: which of several
//     members gets one partition more may differ.
//   - A member of a streams group that says it lacks a task which is its own is told again; Kafka tells it only when something changes, so
//     where an answer was lost the task is nobody's until then.
//   - In an answer about a streams group whose source topics are missing there are no endpoints; Kafka answers UNKNOWN_SERVER_ERROR.
//   - What was altered or deleted for a share group stays deleted if both meet; Kafka takes what is initialized later for initialized.
//   - A member whose subscription or assignment is larger than a record may be is refused, or keeps what it has.
package group
