package topology

import "container/heap"

// spread decides the partition counts of the repartition topics, of subtopologies in the order of their ids.
//
// Kafka goes through all subtopologies again and again. A subtopology that reads any topic with a known count decides then and there,
// with what is known by then, the counts of the topics that it writes. The order is kept here, but each subtopology is looked at once:
// when the first of its topics is known, in this round if it is yet to come, or else in the next one.
func spread(subtopologies []*Subtopology, existing func(topic string) (int32, bool)) (map[string]int32, error) {
	decided := map[string]int32{}
	readers := map[string][]int{} // by repartition topic: who reads it
	for i, s := range subtopologies {
		for j := range s.RepartitionSourceTopics {
			topic := &s.RepartitionSourceTopics[j]
			readers[topic.Name] = append(readers[topic.Name], i)
			if topic.Partitions != 0 {
				decided[topic.Name] = topic.Partitions
			}
		}
	}

	var due visits
	planned := make([]bool, len(subtopologies))
	plan := func(round, subtopology int) {
		if !planned[subtopology] {
			planned[subtopology] = true
			heap.Push(&due, visit{round, subtopology})
		}
	}
	for i, s := range subtopologies {
		if _, ok := s.widest(decided, existing); ok {
			plan(0, i)
		}
	}
	for len(due) > 0 {
		v := heap.Pop(&due).(visit)
		s := subtopologies[v.subtopology]
		n, _ := s.widest(decided, existing)
		for _, sink := range s.RepartitionSinkTopics {
			if _, ok := decided[sink]; ok {
				continue
			}
			decided[sink] = n
			for _, reader := range readers[sink] {
				round := v.round
				if reader <= v.subtopology {
					round++
				}
				plan(round, reader)
			}
		}
	}

	for _, s := range subtopologies {
		for _, sink := range s.RepartitionSinkTopics {
			if _, ok := decided[sink]; !ok {
				return nil, refuse(ErrInvalidTopology, "Failed to compute number of partitions for all repartition topics. "+
					"There may be loops in the topology that cannot be resolved.")
			}
		}
	}
	for topic := range readers {
		if _, ok := decided[topic]; !ok {
			return nil, refuse(ErrInvalidTopology, "Failed to compute number of partitions for all repartition topics, "+
				"because a repartition source topic is never used as a sink topic.")
		}
	}
	return decided, nil
}

// widest returns the largest partition count that is known among the topics that the subtopology reads. That of a repartition topic is
// what has been decided, even if it exists with another.
func (s *Subtopology) widest(decided map[string]int32, existing func(topic string) (int32, bool)) (most int32, known bool) {
	for i := range s.RepartitionSourceTopics {
		if n, ok := decided[s.RepartitionSourceTopics[i].Name]; ok {
			most, known = max(most, n), true
		}
	}
	for _, name := range s.SourceTopics {
		if n, ok := existing(name); ok {
			most, known = max(most, n), true
		}
	}
	return most, known
}

// visits is a heap of the subtopologies that are to be looked at, the next one first.
type visits []visit

type visit struct{ round, subtopology int }

func (v visits) Len() int { return len(v) }
func (v visits) Less(i, j int) bool {
	if v[i].round != v[j].round {
		return v[i].round < v[j].round
	}
	return v[i].subtopology < v[j].subtopology
}
func (v visits) Swap(i, j int) { v[i], v[j] = v[j], v[i] }
func (v *visits) Push(x any)   { *v = append(*v, x.(visit)) }
func (v *visits) Pop() any {
	last := (*v)[len(*v)-1]
	*v = (*v)[:len(*v)-1]
	return last
}
