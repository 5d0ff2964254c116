package group

import (
	"bytes"
	"maps"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// holding is the partitions that a member has or has to give back, each with the epoch at which it was assigned (KIP-1251): by topic id,
// partitions in ascending order, none of the topics without partitions. It is not changed once it is made.
type holding []heldTopic

type heldTopic struct {
	topic      base.TopicID
	partitions []int32
	epochs     []int32 // of partitions
}

// of returns a topic's partitions.
func (h holding) of(topic base.TopicID) heldTopic {
	n, ok := slices.BinarySearchFunc(h, topic, func(t heldTopic, id base.TopicID) int { return bytes.Compare(t.topic[:], id[:]) })
	if !ok {
		return heldTopic{topic: topic}
	}
	return h[n]
}

// epoch is the one at which a partition was assigned; false where it is not held.
func (h holding) epoch(topic base.TopicID, partition int32) (int32, bool) {
	return h.of(topic).epoch(partition)
}

func (t heldTopic) epoch(partition int32) (int32, bool) {
	n, ok := slices.BinarySearch(t.partitions, partition)
	if !ok {
		return 0, false
	}
	return t.epochs[n], true
}

func (h holding) equal(o holding) bool {
	return slices.EqualFunc(h, o, func(a, b heldTopic) bool {
		return a.topic == b.topic && slices.Equal(a.partitions, b.partitions) && slices.Equal(a.epochs, b.epochs)
	})
}

func (h holding) count() int {
	n := 0
	for _, t := range h {
		n += len(t.partitions)
	}
	return n
}

// assignment is the partitions without their epochs.
func (h holding) assignment() assignor.Assignment {
	var a assignor.Assignment
	for _, t := range h {
		a = append(a, assignor.TopicPartitions{Topic: t.topic, Partitions: t.partitions})
	}
	return a
}

// hold is an assignment held since an epoch.
func hold(a assignor.Assignment, epoch int32) holding {
	var h holding
	for _, t := range a {
		h = append(h, heldTopic{t.Topic, t.Partitions, slices.Repeat([]int32{epoch}, len(t.Partitions))})
	}
	return h
}

// holder gathers a holding.
type holder map[base.TopicID]map[int32]int32

func (b holder) add(topic base.TopicID, partition, epoch int32) {
	partitions := b[topic]
	if partitions == nil {
		partitions = map[int32]int32{}
		b[topic] = partitions
	}
	partitions[partition] = epoch
}

func (b holder) addAll(h holding) {
	for _, t := range h {
		for i, p := range t.partitions {
			b.add(t.topic, p, t.epochs[i])
		}
	}
}

func (b holder) holding() holding {
	topics := slices.SortedFunc(maps.Keys(b), func(x, y base.TopicID) int { return bytes.Compare(x[:], y[:]) })
	h := make(holding, 0, len(topics))
	for _, topic := range topics {
		t := heldTopic{topic: topic, partitions: slices.Sorted(maps.Keys(b[topic]))}
		for _, p := range t.partitions {
			t.epochs = append(t.epochs, b[topic][p])
		}
		h = append(h, t)
	}
	return h
}
