// Package coordinator is the runtime that drives the state machines of all coordinators (groups now; share groups, streams groups and
// transactions later): for each partition of an internal topic that is led here it keeps one state, changes it in one event loop, and
// writes every change to the partition's log.
//
// # One partition
//
//	        first event           replayed
//	idle ───────────────▶ loading ────────▶ ready ──┐ events, timers
//	 ▲                      │ │               │ ▲   │
//	 │     a second later   │ └─▶ ErrLoading  │ └───┘
//	 └── failed ◀───────────┘     after 250 ms│
//	 ▲                                        │ an append failed, what was appended cannot become durable any more,
//	 └────────────────────────────────────────┘ the machine panicked, or the leadership moved (Drop)
//
// Nothing runs and nothing is held for a partition before its first event. The event loop is a goroutine that the runtime owns; Close
// ends it. A request becomes an event when Submit is called, which fixes its place among the others and never blocks. The loop takes
// all events that have queued up, hands each to the Machine, and appends the records of all of them as one batch (group commit).
//
// A Machine is a plain data structure: it has no lock, no clock, and does no I/O. What it wants done it says through Effects: records
// to append, answers to give, timers to set.
//
// # What holds
//
//   - A record is applied to the state when it is queued, by Machine.Replay, which is also what reads the log while loading. So the
//     state is always the one that the log gives, but for soft state: what a machine holds without recording it (members that are
//     joining, timers) and what is lost when the state is given up.
//   - Every answer carries the Token of the last batch appended before it, and Call.Wait returns it only once that is durable. This
//     holds for reads too, and for the first answers after a reload, which see what the former state appended.
//   - The loop never waits for durability: it goes on with the next events while earlier answers wait, each in its own caller.
//   - When an append fails or what was appended can not become durable, the state has run ahead of the log. It is given up as a whole:
//     calls that rest on it fail with ErrNotCoordinator, and the next event replays the log. Clients look for the coordinator again and
//     find this one.
//   - A record that Machine.Replay cannot read fails the load, loudly; one of an unknown type (ErrUnknownRecord) is skipped, as Kafka
//     does, so that a later version may add types.
//
// # Snapshots
//
// Loading begins with a snapshot of the state at an offset, where there is a good one, and goes on with the records after it. Maintain
// writes snapshots, from the log and not from the state that the event loop has, so that they hold nothing that is not recorded and
// nothing that could still be lost. What the log holds before a snapshot's offset is not needed for loading any more.
//
// Only the runtime appends to the topic. It knows the offset of each record before it is appended, and gives the state up if the log
// disagrees.
//
// # Example
//
// OffsetCommit: api calls group.Service.CommitOffsets, which Submits an event to the partition that the group's name hashes to. The
// loop calls group.Machine.CommitOffsets: it checks the generation, calls Effects.Append for each offset (the offset is in the state
// now), and answers. The loop appends the records of this and other events, with Token 42 say, and completes the calls with it. On the
// connection's writing goroutine Call.Wait waits until 42 is durable, and the answer goes out.
package coordinator
