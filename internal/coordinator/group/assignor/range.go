package assignor

import (
	"cmp"
	"slices"
)

// Range gives each member a run of neighbouring partitions of each topic that it subscribes to. The members take their turns in the
// order of their instance ids, then, those without, of their member ids, so static members keep their partitions. The first ones get
// one partition more where the partitions do not divide.
func Range(g *Group) []Assignment {
	turns := make([]int, len(g.Members))
	for i := range turns {
		turns[i] = i
	}
	slices.SortStableFunc(turns, func(i, j int) int {
		a, b := &g.Members[i], &g.Members[j]
		switch {
		case a.Instance != nil && b.Instance != nil:
			return cmp.Compare(*a.Instance, *b.Instance)
		case a.Instance != nil:
			return -1
		case b.Instance != nil:
			return 1
		default:
			return cmp.Compare(a.ID, b.ID)
		}
	})

	// Of each topic: the members still to come, and the partitions already given out.
	left, given := make([]int32, len(g.Topics)), make([]int32, len(g.Topics))
	for i := range g.Members {
		for _, topic := range g.Members[i].Topics {
			left[topic]++
		}
	}
	out := make([]Assignment, len(g.Members))
	for _, i := range turns {
		for _, topic := range g.Members[i].Topics {
			from := given[topic]
			rest := g.Topics[topic].Partitions - from
			run := (rest + left[topic] - 1) / left[topic] // the larger runs come first
			left[topic]--
			if run == 0 {
				continue
			}
			given[topic] += run
			partitions := make([]int32, run)
			for p := range partitions {
				partitions[p] = from + int32(p)
			}
			out[i] = append(out[i], TopicPartitions{g.Topics[topic].ID, partitions})
		}
	}
	return out
}
