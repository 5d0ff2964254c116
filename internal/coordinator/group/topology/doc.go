// Package topology works out what a Kafka Streams application needs from the broker (KIP-1071): from the subtopologies that a member of a
// streams group sends and the partition counts of the topics that exist, the number of tasks of each subtopology and the internal topics
// that are still to be created, or what is in the way.
//
// A subtopology is a part of the application whose tasks are independent of each other: task n reads partition n of every topic that the
// subtopology reads, so it has as many tasks as the widest of these topics has partitions. Its topics are
//
//	source topics              written by others; must exist
//	repartition source topics  internal topics that it reads and some subtopology writes
//	repartition sink topics    internal topics that it writes
//	changelog topics           internal topics that its state is kept in: as many partitions as it has tasks
//
// Configure goes about it in this order, as Apache Kafka 4.3 does:
//
//  1. Source topics must exist: MissingSourceTopics.
//  2. Repartition topics get the number of partitions that the application has fixed, or else that of the widest topic that their writer
//     reads (spread). Writers whose input is not known yet wait for it; two that wait for each other make the topology invalid.
//  3. Topics of a copartition group, which are joined, must have the same number of partitions (copartition): those of the source topics
//     among them if there are any, or else what is fixed, or else the most. Otherwise: IncorrectlyPartitionedTopics.
//  4. Changelogs get the number of tasks.
//  5. Internal topics that exist must have the number that came out: IncorrectlyPartitionedTopics. Those that do not are to be created:
//     MissingInternalTopics.
//
// Everything is a pure function of its arguments, in the order of the subtopologies' ids where Kafka takes the order of a hash table. Work
// grows with the size of the topology (its names, and the indexes in its copartition groups) times a logarithm, not with partitions, and
// not with the length of chains of repartition topics. testdata/kafka-4.3.1.txt holds what Kafka's own classes made of many topologies.
//
// It differs from Kafka where a group would cost without bound, or where Kafka fails halfway: MaxBytes and MaxTasks; what is wrong with a
// topology whatever topics there are is refused at once (Validate), even while its source topics are missing; and EndpointPartitions
// names no partitions that do not exist.
package topology
