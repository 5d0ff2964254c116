package topology

import (
	"fmt"
	"strings"
)

// copartition sees to it that the topics of each copartition group have the same number of partitions: repartition topics whose count the
// application has not fixed get that of the others. Groups are taken one after the other, and what one decides holds for the next.
func copartition(subtopologies []*Subtopology, known *counts) error {
	internal := internalTopics(subtopologies, known)
	for _, s := range subtopologies {
		for i := range s.CopartitionGroups {
			var external, repartition []string
			for _, name := range s.copartitioned(&s.CopartitionGroups[i]) {
				if _, ok := internal.fixed[name]; ok {
					repartition = append(repartition, name)
				} else {
					external = append(external, name)
				}
			}
			if len(external)+len(repartition) == 0 {
				continue
			}
			n, err := common(external, repartition, internal, known)
			if err != nil {
				return err
			}
			for _, name := range repartition {
				if has := known.of(name); internal.fixed[name] && has != n {
					return misfit("Number of partitions [%d] of repartition topic [%s] doesn't match number of partitions [%d] of the source topic.",
						has, name, n)
				}
				known.decided[name] = n
			}
		}
	}
	return nil
}

// common returns the partition count that the topics of one copartition group are to have.
func common(external, repartition []string, internal repartitionTopics, known *counts) (int32, error) {
	if len(external) > 0 {
		n := known.of(external[0])
		for _, name := range external {
			if known.of(name) != n {
				return 0, unequal(external, known)
			}
		}
		return n, nil
	}
	switch internal.fixedCounts {
	case 0:
		n := int32(0)
		for _, name := range repartition {
			n = max(n, known.of(name))
		}
		return n, nil
	case 1:
		return internal.fixedCount, nil
	default:
		// As in Kafka: all fixed topics of the topology have to agree here, be they in this group or not.
		return 0, unequal(repartition, known)
	}
}

// repartitionTopics says which repartition topics there are, and whether the application has fixed their partition counts.
type repartitionTopics struct {
	fixed       map[string]bool
	fixedCounts int // 0, 1, or 2 for more than one
	fixedCount  int32
}

func internalTopics(subtopologies []*Subtopology, known *counts) repartitionTopics {
	r := repartitionTopics{fixed: map[string]bool{}}
	for _, s := range subtopologies {
		for i := range s.RepartitionSourceTopics {
			topic := &s.RepartitionSourceTopics[i]
			r.fixed[topic.Name] = r.fixed[topic.Name] || topic.Partitions != 0
			if topic.Partitions == 0 {
				continue
			}
			n := known.of(topic.Name)
			if r.fixedCounts == 0 {
				r.fixedCounts, r.fixedCount = 1, n
			} else if n != r.fixedCount {
				r.fixedCounts = 2
			}
		}
	}
	return r
}

// unequal tells the partition counts of topics that should have the same, as Java prints a map.
func unequal(topics []string, known *counts) error {
	list := make([]string, len(topics))
	for i, name := range topics {
		list[i] = fmt.Sprintf("%s=%d", name, known.of(name))
	}
	return misfit("Following topics do not have the same number of partitions: [{%s}]", strings.Join(list, ", "))
}
