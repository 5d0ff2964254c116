package group

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
	"github.com/ottlaio/ottla/internal/coordinator/group/topology"
)

// topologyOf is the topology that a member tells of.
func topologyOf(told *kmsg.StreamsGroupHeartbeatRequestTopology) *topology.Topology {
	internal := func(told []kmsg.TopicInfo) []topology.InternalTopic {
		list := make([]topology.InternalTopic, len(told))
		for i := range told {
			t := &told[i]
			list[i] = topology.InternalTopic{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor}
			for _, c := range t.Configs {
				list[i].Configs = append(list[i].Configs, topology.Config{Key: c.Key, Value: c.Value})
			}
		}
		return list
	}
	t := &topology.Topology{Epoch: told.Epoch}
	for i := range told.Subtopologies {
		from := &told.Subtopologies[i]
		s := topology.Subtopology{
			ID: from.SubtopologyID, SourceTopics: from.SourceTopics, SourceTopicRegex: from.SourceTopicRegex,
			StateChangelogTopics: internal(from.StateChangelogTopics), RepartitionSinkTopics: from.RepartitionSinkTopics,
			RepartitionSourceTopics: internal(from.RepartitionSourceTopics),
		}
		for _, g := range from.CopartitionGroups {
			s.CopartitionGroups = append(s.CopartitionGroups, topology.CopartitionGroup{
				SourceTopics: g.SourceTopics, SourceTopicRegex: g.SourceTopicRegex, RepartitionSourceTopics: g.RepartitionSourceTopics,
			})
		}
		t.Subtopologies = append(t.Subtopologies, s)
	}
	return t
}

func hasSourceRegex(told *kmsg.StreamsGroupHeartbeatRequestTopology) bool {
	return slices.ContainsFunc(told.Subtopologies, func(s kmsg.StreamsGroupHeartbeatRequestTopologySubtopology) bool { return len(s.SourceTopicRegex) > 0 })
}

// ordered is a topology with its subtopologies in the order of their ids, in which two that are the same have the same record.
func ordered(t *topology.Topology) *topology.Topology {
	return &topology.Topology{Epoch: t.Epoch, Subtopologies: slices.SortedStableFunc(slices.Values(t.Subtopologies), func(a, b topology.Subtopology) int {
		return cmp.Compare(a.ID, b.ID)
	})}
}

// partitionsOf tells how many partitions a topic has.
func partitionsOf(image TopicImage) func(string) (int32, bool) {
	return func(name string) (int32, bool) {
		t, ok := image.Topic(name)
		return t.Partitions, ok
	}
}

// ownedTasks are the tasks that a member says it has; nil: it does not say.
func ownedTasks(req *kmsg.StreamsGroupHeartbeatRequest) *taskSet {
	if req.ActiveTasks == nil || req.StandbyTasks == nil || req.WarmupTasks == nil {
		return nil
	}
	var owned taskSet
	for kind, tasks := range [taskKinds][]kmsg.TaskIDs{activeTasks: req.ActiveTasks, standbyTasks: req.StandbyTasks, warmupTasks: req.WarmupTasks} {
		owned[kind] = heldTasks{}
		for _, s := range tasks {
			for _, p := range s.Partitions {
				owned[kind][task{s.SubtopologyID, p}] = 0
			}
		}
	}
	return &owned
}

// shownTasks are tasks as answers have them; an empty list is not null, which would say that nothing changed.
func shownTasks(tasks assignor.Tasks) []kmsg.TaskIDs {
	shown := make([]kmsg.TaskIDs, 0, len(tasks))
	for _, s := range tasks {
		ids := kmsg.NewTaskIDs()
		ids.SubtopologyID, ids.Partitions = s.Subtopology, s.Partitions
		shown = append(shown, ids)
	}
	return shown
}

// endpoints tells where the partitions of all tasks can be queried; last is the member that comes last, as in Kafka.
func (g *streamsGroup) endpoints(image TopicImage, last *streamsMember) []kmsg.StreamsGroupHeartbeatResponsePartitionsByUserEndpoint {
	all := []kmsg.StreamsGroupHeartbeatResponsePartitionsByUserEndpoint{}
	tell := func(mb *streamsMember) {
		if mb.endpoint == nil || g.configured.Subtopologies == nil {
			return
		}
		e := kmsg.NewStreamsGroupHeartbeatResponsePartitionsByUserEndpoint()
		e.UserEndpoint.Host, e.UserEndpoint.Port = mb.endpoint.host, mb.endpoint.port
		for _, t := range g.partitions(image, mb.assigned[activeTasks]) {
			e.ActivePartitions = append(e.ActivePartitions,
				kmsg.StreamsGroupHeartbeatResponsePartitionsByUserEndpointActivePartition{Topic: t.Topic, Partitions: t.Partitions})
		}
		for _, t := range g.partitions(image, mb.assigned[standbyTasks]) {
			e.StandbyPartitions = append(e.StandbyPartitions,
				kmsg.StreamsGroupHeartbeatResponsePartitionsByUserEndpointStandbyPartition{Topic: t.Topic, Partitions: t.Partitions})
		}
		all = append(all, e)
	}
	for _, id := range sortedKeys(g.members) {
		if id != last.id {
			tell(g.members[id])
		}
	}
	tell(last)
	return all
}

// partitions are those that the topology's topics have for some tasks.
func (g *streamsGroup) partitions(image TopicImage, held heldTasks) []topology.TopicPartitions {
	tasks := map[string][]int32{}
	for _, s := range held.list() {
		tasks[s.Subtopology] = s.Partitions
	}
	return topology.EndpointPartitions(g.configured.Subtopologies, tasks, partitionsOf(image))
}
