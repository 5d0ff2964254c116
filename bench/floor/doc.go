// Command floor does the least that a broker has to do for an acknowledged record, and nothing else: it takes produce requests off
// sockets, checks the CRC of each batch, writes a log in direct, synced groups, writes each partition's segment behind in direct writes of
// 1 MiB, and answers when the group is durable. It validates no record, keeps no index, serves no fetch and recovers nothing.
//
// It is the mark that the broker is held against on the same machine (docs/benchmarks.md). With --no-segments it leaves out the second
// write of every byte.
package main
