// Package cli is what the client verbs of the command line do: topics, producing, consuming, groups, settings and the doctor. It speaks
// the public Kafka protocol and nothing else, so every verb works against Ottla and against any other Kafka.
//
// cmd/ottla turns flags into the option structs of this package; With opens a client and turns what can go wrong into an Error that says
// what to do next. Every verb writes its result to Streams.Out, as an aligned table or as JSON, and talks to people on Streams.Err.
//
// # Terms
//
//   - A position is where reading of one partition stands: the offset of the next record to print.
//   - A place (OffsetSpec) is what a user types for an offset: earliest, latest, a number, -10 for the last ten, @TIME.
//   - Time lag is the age of the oldest record that a group has not consumed, by that record's own timestamp.
package cli
