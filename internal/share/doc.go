// Package share holds the share partitions of a broker (KIP-932): which records of a partition are with which member of a share group,
// which are finished, and which are to be delivered again. Partition is the state of one, without locks, clock or I/O; Held is one that is
// loaded, and persists what changes; Manager holds all of them, and the share sessions of members.
//
// # States of a record
//
//	state         what happens                                                          becomes
//	Available     a member acquires it; records that were never looked at are available Acquired
//	Available     it is a control batch, of an aborted transaction, or gone from the log Archived
//	Acquired      Renew: the lock lasts a whole duration again                          Acquired
//	Acquired      Accept                                                                Acknowledged
//	Acquired      Reject, or Gap: there is no such record                               Archived
//	Acquired      Release, the lock's time is over, or the member's session ends        Available, after the last delivery Archived
//	Acquired      it is gone from the log                                               Archived
//	Acknowledged  nothing more: it is finished                                          -
//	Archived      nothing more: it is finished                                          -
//
// The delivery count goes up with each acquisition, and a record is delivered share.delivery.count.limit times at most. A lock lasts
// share.record.lock.duration.ms. An acquired record is gone at once, without a word to its member, when the log no longer has it.
//
// What is known lies in a window of offsets, from the start, the first record that is not finished, to the end, the first that was never
// looked at. The start moves past what is finished. The window holds share.partition.max.record.locks offsets and one batch at most; when it is
// full nobody gets anything new until its first records are finished.
//
// # States of a share partition
//
//	           first use: Held.Load               a change cannot be persisted, or the topic is deleted
//	not there ───────────────────────▶ loaded ──────────────────────────────────────────────────────────▶ not loaded
//	    ▲                               │  ▲                                                                │
//	    └───────────────────────────────┘  └────────────────────────────────────────────────────────────────┘
//	      no session names it and no         the next use
//	      member has any of its records
//
// Loading reads what was persisted under the broker's leader epoch, which fences former leaders; where the start is undecided
// share.auto.offset.reset decides it, and that is durable before anything is delivered. Every state but Acquired is persisted, in the order
// of the changes (Persister.Write). Members are answered once it is durable. Locks are not persisted: after a restart what was acquired is
// available, with the delivery count that it had before. If a write fails then the state is given up as a whole, since it has run ahead.
//
// # Share sessions
//
// A member has one session: the partitions that it fetches, so that requests name changes only. Its epoch goes up by one with each request, from 1
// behind the first one to 2³¹-1 and on from 1.
//
//	state       request or event                                             becomes
//	no session  epoch 0, without acknowledgements                            open
//	no session  any other epoch: SHARE_SESSION_NOT_FOUND                     no session
//	open        the epoch that is expected                                   open
//	open        another epoch: INVALID_SHARE_SESSION_EPOCH                   open, unchanged
//	open        epoch 0: it begins anew, and the member keeps its records    open
//	open        epoch -1                                                     no session
//	open        the connection that began it is closed                       no session
//	open        the member left or was removed, or the group became empty    no session
//
// When a session ends all that its member has is released, in every partition that the session ever named.
//
// # Limits
//
// group.share.max.share.sessions sessions, which name maxSessionPartitions partitions together: SHARE_SESSION_LIMIT_REACHED. The windows of all share
// partitions hold Config.MaxWindow offsets; past that none grows beyond smallWindow offsets, so that each makes progress.
package share
