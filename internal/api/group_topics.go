package api

import (
	"iter"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/metadata"
)

// GroupTopics shows the metadata's topics to the group coordinator.
func GroupTopics(m *metadata.Metadata) group.Topics { return groupTopics{m} }

// TopicPartitions tells how many partitions a topic has, 0 where there is none.
func TopicPartitions(m *metadata.Metadata) func(base.TopicID) int32 {
	return func(id base.TopicID) int32 {
		t, ok := m.Image().TopicByID(id)
		if !ok {
			return 0
		}
		return int32(len(t.Partitions))
	}
}

type groupTopics struct{ metadata *metadata.Metadata }

// Image implements group.Topics.
func (g groupTopics) Image() group.TopicImage { return topicImage{g.metadata.Image()} }

// topicImage implements group.TopicImage.
type topicImage struct{ image *metadata.Image }

func (i topicImage) Version() int64 { return i.image.TopicsRevision() }

func (i topicImage) Topic(name string) (group.TopicInfo, bool) { return topicInfo(i.image.Topic(name)) }

func (i topicImage) TopicByID(id base.TopicID) (group.TopicInfo, bool) {
	return topicInfo(i.image.TopicByID(id))
}

func topicInfo(t *metadata.Topic, ok bool) (group.TopicInfo, bool) {
	if !ok {
		return group.TopicInfo{}, false
	}
	return group.TopicInfo{Name: t.Name, ID: t.ID, Partitions: int32(len(t.Partitions))}, true
}

func (i topicImage) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for t := range i.image.Topics() {
			if !yield(t.Name) {
				return
			}
		}
	}
}

func (i topicImage) Racks(t group.TopicInfo, partition int32) []string {
	topic, ok := i.image.TopicByID(t.ID)
	if !ok {
		return nil
	}
	var racks []string
	for _, replica := range topic.Partitions[partition].Replicas {
		if b, ok := i.image.Broker(replica); ok && b.Rack != "" {
			racks = append(racks, b.Rack)
		}
	}
	slices.Sort(racks)
	return slices.Compact(racks)
}
