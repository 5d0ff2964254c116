package api

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/metadata"
)

// findTopic finds the topic that an offset is about, by id or by name; nil and the code to answer with where there is none.
func findTopic(image *metadata.Image, byID bool, name string, id base.TopicID) (*metadata.Topic, int16) {
	if byID {
		t, ok := image.TopicByID(id)
		if !ok {
			return nil, kerr.UnknownTopicID.Code
		}
		return t, 0
	}
	t, ok := image.Topic(name)
	if !ok {
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	return t, 0
}

func hasPartition(t *metadata.Topic, partition int32) bool {
	return partition >= 0 && int(partition) < len(t.Partitions)
}
