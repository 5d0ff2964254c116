package assignor

import (
	"cmp"
	"slices"
	"strings"
)

// Tasks are tasks of a streams group by subtopology: subtopologies ascending, none of them without partitions, partitions ascending. They
// are not changed once they are made.
type Tasks []SubtopologyTasks

// SubtopologyTasks are some tasks of one subtopology, each of which is for one partition.
type SubtopologyTasks struct {
	Subtopology string
	Partitions  []int32
}

// TaskAssignment is what one member of a streams group gets.
type TaskAssignment struct{ Active, Standby, Warmup Tasks }

// NormalTasks brings tasks that came from elsewhere into order: subtopologies sorted and merged, partitions sorted, nothing twice. It
// changes t.
func NormalTasks(t Tasks) Tasks {
	slices.SortStableFunc(t, func(x, y SubtopologyTasks) int { return cmp.Compare(x.Subtopology, y.Subtopology) })
	var out Tasks
	for _, s := range t {
		if n := len(out); n > 0 && out[n-1].Subtopology == s.Subtopology {
			out[n-1].Partitions = append(out[n-1].Partitions, s.Partitions...)
		} else if len(s.Partitions) > 0 {
			out = append(out, s)
		}
	}
	for i := range out {
		slices.Sort(out[i].Partitions)
		out[i].Partitions = slices.Compact(out[i].Partitions)
	}
	return out
}

// Of returns the partitions of a subtopology.
func (t Tasks) Of(subtopology string) []int32 {
	n, ok := slices.BinarySearchFunc(t, subtopology, func(s SubtopologyTasks, id string) int { return strings.Compare(s.Subtopology, id) })
	if !ok {
		return nil
	}
	return t[n].Partitions
}

// Has reports whether a task is among them.
func (t Tasks) Has(subtopology string, partition int32) bool {
	_, ok := slices.BinarySearch(t.Of(subtopology), partition)
	return ok
}

// Equal reports whether both hold the same tasks.
func (t Tasks) Equal(o Tasks) bool {
	return slices.EqualFunc(t, o, func(x, y SubtopologyTasks) bool {
		return x.Subtopology == y.Subtopology && slices.Equal(x.Partitions, y.Partitions)
	})
}

// Count is the number of tasks.
func (t Tasks) Count() int {
	n := 0
	for _, s := range t {
		n += len(s.Partitions)
	}
	return n
}
