// Package history checks what clients of a broker saw: what was sent, acknowledged, polled and committed, under whatever faults.
//
// A history is a list of operations in the order in which they ended, each with the process (one client, which does one thing at a
// time) that did it. Every value is sent at most once, so a value names the send that wrote it. From all offsets that sends were
// acknowledged with and that polls returned, Check rebuilds each partition's log, and holds every operation against it. The anomalies
// have the names that Jepsen's tests of Kafka gave them, where these have one:
//
//	inconsistent-offsets   one offset of a partition held two values
//	duplicate              one value stands at two offsets
//	lost-write             acknowledged, below something that was polled, and polled by nobody
//	unseen                 acknowledged, and not polled by the end of a history whose last polls reached the end of every log; or not
//	                       given to a group that was given everything
//	aborted-read           polled, though its transaction was aborted or its send refused
//	precommitted-read      polled before its transaction asked for its commit, or within that transaction
//	torn-transaction       of one transaction, some was seen and some was not, its group's offsets included
//	poll-skip              a process polled on, over records that it could have read
//	nonmonotonic-poll      a process polled a record again, or an earlier one
//	nonmonotonic-send      a later send of a process got an earlier offset
//	int-poll-skip, int-nonmonotonic-poll, int-nonmonotonic-send
//	                       the same within one operation: a poll, or the polls and sends of a transaction
//	lost-commit            after an offset was committed for a group, the group began below it
//	lost-accept            after a record was accepted for a share group, it was delivered to the group again
//
// What is delivered to members of a share group comes in no order and may come again, and says nothing of what others should have polled.
//
// The polls of a history are of consumers with isolation.level=read_committed; where no transactions are used this makes no difference.
// A process whose partitions or positions changed by a rebalance, a seek or a new client says so (Op.Moved), and its next poll is not
// held against its last one.
//
// Several operations of an unknown outcome (Info) are no anomaly by themselves: what they wrote may be there or not, but a
// transaction must be there as a whole or not at all.
package history
