package topology

import (
	"maps"
	"slices"
)

// Topology is what members say of their application (StreamsGroupHeartbeat.Topology, StreamsGroupTopologyValue). It is not changed once
// a group has it.
type Topology struct {
	Epoch         int32
	Subtopologies []Subtopology
}

// Subtopology is one part of it.
type Subtopology struct {
	ID                      string
	SourceTopics            []string
	SourceTopicRegex        []string
	StateChangelogTopics    []InternalTopic
	RepartitionSinkTopics   []string
	RepartitionSourceTopics []InternalTopic
	CopartitionGroups       []CopartitionGroup
}

// InternalTopic is a topic that the broker creates for the application.
type InternalTopic struct {
	Name              string
	Partitions        int32 // 0: to be worked out
	ReplicationFactor int16 // 0: the broker's default
	Configs           []Config
}

// Config is a setting of a topic.
type Config struct{ Key, Value string }

// CopartitionGroup names topics that must have the same number of partitions, as indexes into the lists of the subtopology.
type CopartitionGroup struct {
	SourceTopics, SourceTopicRegex, RepartitionSourceTopics []int16
}

// Topics are the names of the topics that the topology refers to, sorted, without duplicates: what the metadata hash of its group is made
// of (Kafka: StreamsTopology.requiredTopics). Sink topics are among them as somebody's repartition source topics.
func (t *Topology) Topics() []string {
	names := map[string]struct{}{}
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		for name := range s.reads {
			names[name] = struct{}{}
		}
		for j := range s.StateChangelogTopics {
			names[s.StateChangelogTopics[j].Name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// reads yields the names of the topics that the subtopology reads.
func (s *Subtopology) reads(yield func(string) bool) {
	for _, name := range s.SourceTopics {
		if !yield(name) {
			return
		}
	}
	for i := range s.RepartitionSourceTopics {
		if !yield(s.RepartitionSourceTopics[i].Name) {
			return
		}
	}
}

// copartitioned returns the names of a copartition group, sorted, without duplicates.
func (s *Subtopology) copartitioned(g *CopartitionGroup) []string {
	var names []string
	for _, i := range g.SourceTopics {
		names = append(names, s.SourceTopics[i])
	}
	for _, i := range g.RepartitionSourceTopics {
		names = append(names, s.RepartitionSourceTopics[i].Name)
	}
	return sorted(names)
}

// byID returns the subtopologies in the order of their ids.
func (t *Topology) byID() []*Subtopology {
	out := make([]*Subtopology, len(t.Subtopologies))
	for i := range t.Subtopologies {
		out[i] = &t.Subtopologies[i]
	}
	slices.SortStableFunc(out, compareIDs)
	return out
}
