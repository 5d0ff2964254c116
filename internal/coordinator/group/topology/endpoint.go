package topology

// TopicPartitions are partitions of a topic, in the order of the tasks.
type TopicPartitions struct {
	Topic      string
	Partitions []int32
}

// EndpointPartitions are the topic partitions that tasks of one kind read, for StreamsGroupHeartbeatResponse.PartitionsByUserEndpoint: of
// each topic that a subtopology reads the partitions with the numbers of its tasks, as far as the topic has them. Subtopologies are in
// order, their topics sorted; tasks are by subtopology, and those of a subtopology that is not there are left out, as are topics that do
// not exist.
func EndpointPartitions(
	subtopologies []ConfiguredSubtopology, tasks map[string][]int32, partitions func(topic string) (int32, bool),
) []TopicPartitions {
	var out []TopicPartitions
	for i := range subtopologies {
		s := &subtopologies[i]
		numbers := tasks[s.ID]
		if len(numbers) == 0 {
			continue
		}
		names := s.SourceTopics
		for j := range s.RepartitionSources {
			names = append(names[:len(names):len(names)], s.RepartitionSources[j].Name)
		}
		for _, name := range sorted(names) {
			count, _ := partitions(name)
			var read []int32
			for _, n := range numbers {
				if n < count {
					read = append(read, n)
				}
			}
			if len(read) > 0 {
				out = append(out, TopicPartitions{name, read})
			}
		}
	}
	return out
}
