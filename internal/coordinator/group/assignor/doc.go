// Package assignor holds the server-side assignors of consumer groups (KIP-848) and of streams groups (KIP-1071): pure functions that
// spread partitions or tasks over members.
//
//	uniform   every member gets as many partitions as any other, give or take one, and keeps what it has as far as that allows
//	range     of each topic every member gets a run of neighbouring partitions, so that equal partitions of topics meet
//	sticky    of streams groups: every task is active once, with standby tasks in other processes, close to where its state is (Sticky)
//
// The results are those of Apache Kafka 4.3 for the same order of members: testdata/kafka-4.3.1.txt holds what Kafka's own classes made
// of many groups, and Golden.java beside it asks them again; kafka-4.3.1-tasks.txt and GoldenTasks.java are the same for tasks. Where
// Kafka goes through members, topics and processes in the order of a hash table, ours is the order of their ids. As in Kafka 4.3 racks
// are not looked at.
//
// A group whose members all subscribe to the same topics costs time in proportion to members and partitions together.
package assignor
