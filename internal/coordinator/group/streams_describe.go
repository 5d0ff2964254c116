package group

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator/group/topology"
)

// DescribeStreamsGroup handles one group of StreamsGroupDescribe v0 (KIP-1071).
func (m *Machine) DescribeStreamsGroup(id string) kmsg.StreamsGroupDescribeResponseGroup {
	d := kmsg.NewStreamsGroupDescribeResponseGroup()
	d.Group = id
	g, refused := as[*streamsGroup](m, id, "streams")
	if refused != nil {
		d.ErrorCode, d.ErrorMessage = refused.Code.Code, &refused.Text
		return d
	}
	d.State, d.Epoch, d.AssignmentEpoch = g.stateName(), g.epoch, g.targetEpoch
	d.Topology = g.describedTopology()
	for _, id := range sortedKeys(g.members) {
		mb, target := g.members[id], g.target[id]
		dm := kmsg.NewStreamsGroupDescribeResponseGroupMember()
		dm.MemberID, dm.MemberEpoch, dm.InstanceID, dm.RackID, dm.TopologyEpoch = id, mb.epoch, mb.instance, mb.rack, mb.topologyEpoch
		dm.ClientID, dm.ClientHost, dm.ProcessID = mb.clientID, mb.clientHost, mb.process
		if mb.endpoint != nil {
			dm.UserEndpoint = &kmsg.StreamsGroupDescribeResponseGroupMemberUserEndpoint{Host: mb.endpoint.host, Port: mb.endpoint.port}
		}
		for _, k := range sortedKeys(mb.tags) {
			dm.ClientTags = append(dm.ClientTags, kmsg.StreamsGroupDescribeResponseGroupMemberClientTag{Key: k, Value: mb.tags[k]})
		}
		dm.Assignment.ActiveTasks = shownTasks(mb.assigned[activeTasks].list())
		dm.Assignment.StandbyTasks = shownTasks(mb.assigned[standbyTasks].list())
		dm.Assignment.WarmupTasks = shownTasks(mb.assigned[warmupTasks].list())
		dm.TargetAssignment.ActiveTasks = shownTasks(target.Active)
		dm.TargetAssignment.StandbyTasks = shownTasks(target.Standby)
		dm.TargetAssignment.WarmupTasks = shownTasks(target.Warmup)
		d.Members = append(d.Members, dm)
	}
	return d
}

// describedTopology shows the topology with the partitions that were worked out, or, where they are not, as members told it.
func (g *streamsGroup) describedTopology() *kmsg.StreamsGroupDescribeResponseGroupTopology {
	if g.topology == nil {
		return nil
	}
	d := kmsg.NewStreamsGroupDescribeResponseGroupTopology()
	d.Epoch, d.Subtopologies = g.topology.Epoch, []kmsg.StreamsGroupDescribeResponseGroupTopologySubtopology{}
	add := func(id string, sources, sinks []string, repartition, changelogs []kmsg.TopicInfo) {
		s := kmsg.NewStreamsGroupDescribeResponseGroupTopologySubtopology()
		s.SubtopologyID, s.SourceTopics, s.RepartitionSinkTopics = id, slices.Sorted(slices.Values(sources)), slices.Sorted(slices.Values(sinks))
		s.RepartitionSourceTopics, s.StateChangelogTopics = repartition, changelogs
		d.Subtopologies = append(d.Subtopologies, s)
	}
	if c := g.configured; c != nil && c.Status == topology.Ready {
		for i := range c.Subtopologies {
			s := &c.Subtopologies[i]
			add(s.ID, s.SourceTopics, s.RepartitionSinkTopics, describedConfigured(s.RepartitionSources), describedConfigured(s.Changelogs))
		}
		return &d
	}
	for _, s := range ordered(g.topology).Subtopologies {
		add(s.ID, s.SourceTopics, s.RepartitionSinkTopics, describedInternal(s.RepartitionSourceTopics), describedInternal(s.StateChangelogTopics))
	}
	return &d
}

func describedInternal(topics []topology.InternalTopic) []kmsg.TopicInfo {
	var list []kmsg.TopicInfo
	for _, t := range topics {
		list = append(list, describedTopic(t.Name, t.Partitions, t.ReplicationFactor, t.Configs))
	}
	return byName(list)
}

func describedConfigured(topics []topology.NewTopic) []kmsg.TopicInfo {
	var list []kmsg.TopicInfo
	for _, t := range topics {
		list = append(list, describedTopic(t.Name, t.Partitions, max(t.ReplicationFactor, 0), t.Configs))
	}
	return byName(list)
}

func describedTopic(name string, partitions int32, replicationFactor int16, configs []topology.Config) kmsg.TopicInfo {
	info := kmsg.NewTopicInfo()
	info.Topic, info.NumPartitions, info.ReplicationFactor = name, partitions, replicationFactor
	for _, c := range configs {
		kv := kmsg.NewTopicInfoConfig()
		kv.Key, kv.Value = c.Key, c.Value
		info.Configs = append(info.Configs, kv)
	}
	return info
}

func byName(list []kmsg.TopicInfo) []kmsg.TopicInfo {
	slices.SortStableFunc(list, func(a, b kmsg.TopicInfo) int { return cmp.Compare(a.Topic, b.Topic) })
	return list
}
