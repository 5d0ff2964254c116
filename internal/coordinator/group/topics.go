package group

import (
	"iter"

	"github.com/ottlaio/ottla/internal/base"
)

// Topics tells the coordinator which topics exist. It is safe for concurrent use and does not block.
type Topics interface {
	// Image returns all topics as they are now.
	Image() TopicImage
}

// TopicImage is all topics at one moment; it does not change.
type TopicImage interface {
	// Version grows with every topic that is created, changed or deleted.
	Version() int64
	Topic(name string) (TopicInfo, bool)
	TopicByID(id base.TopicID) (TopicInfo, bool)
	// Names yields the names of all topics, sorted.
	Names() iter.Seq[string]
	// Racks are those that have a replica of a partition, sorted; none where brokers have no racks.
	Racks(t TopicInfo, partition int32) []string
}

// TopicInfo is one topic.
type TopicInfo struct {
	Name       string
	ID         base.TopicID
	Partitions int32
}

// topicID is the id of the topic of that name, zero where there is none.
func topicID(image TopicImage, name string) base.TopicID {
	t, _ := image.Topic(name)
	return t.ID
}
