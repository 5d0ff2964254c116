package assignor

import (
	"bytes"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
)

// TopicPartitions are some partitions of one topic, in ascending order.
type TopicPartitions struct {
	Topic      base.TopicID
	Partitions []int32
}

// Assignment is what one member gets: by topic id, none of them without partitions. It is not changed once it is made.
type Assignment []TopicPartitions

// Of returns the partitions of a topic.
func (a Assignment) Of(topic base.TopicID) []int32 {
	n, ok := slices.BinarySearchFunc(a, topic, func(t TopicPartitions, id base.TopicID) int { return bytes.Compare(t.Topic[:], id[:]) })
	if !ok {
		return nil
	}
	return a[n].Partitions
}

// Equal reports whether two assignments hold the same partitions.
func (a Assignment) Equal(b Assignment) bool {
	return slices.EqualFunc(a, b, func(x, y TopicPartitions) bool {
		return x.Topic == y.Topic && slices.Equal(x.Partitions, y.Partitions)
	})
}

// Count is the number of partitions.
func (a Assignment) Count() int {
	n := 0
	for _, t := range a {
		n += len(t.Partitions)
	}
	return n
}

// Normal brings an assignment that came from elsewhere into order: topics sorted and merged, partitions sorted, nothing twice. It
// changes a.
func Normal(a Assignment) Assignment {
	slices.SortStableFunc(a, func(x, y TopicPartitions) int { return bytes.Compare(x.Topic[:], y.Topic[:]) })
	var out Assignment
	for _, t := range a {
		if n := len(out); n > 0 && out[n-1].Topic == t.Topic {
			out[n-1].Partitions = append(out[n-1].Partitions, t.Partitions...)
		} else if len(t.Partitions) > 0 {
			out = append(out, t)
		}
	}
	for i := range out {
		slices.Sort(out[i].Partitions)
		out[i].Partitions = slices.Compact(out[i].Partitions)
	}
	return out
}
