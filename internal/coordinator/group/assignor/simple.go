package assignor

import (
	"slices"

	"github.com/ottlaio/ottla/internal/base"
)

// SharedTopic is a topic and those of its partitions that can be assigned, ascending.
type SharedTopic struct {
	ID         base.TopicID
	Partitions []int32
}

// Simple is the assignor of share groups (KIP-932), where members share partitions: each partition goes to equally many members, so many
// that everybody has one, and each member gets equally many, give or take one. What members have stays with them as far as that allows. It
// returns the members' assignments in their order. g.Topics is not used: topics takes its place, by the same indexes.
//
// Where members subscribe to different topics each topic is shared out for itself.
func Simple(g *Group, topics []SharedTopic) []Assignment {
	has := make([]map[place]bool, len(g.Members))
	for m := range has {
		has[m] = map[place]bool{}
	}
	if g.Alike {
		everybody := make([]int, len(g.Members))
		for m := range everybody {
			everybody[m] = m
		}
		var all []int
		if len(g.Members) > 0 {
			all = g.Members[0].Topics
		}
		shareOut(g, topics, all, everybody, has)
	} else {
		for t := range topics {
			var subscribers []int
			for m := range g.Members {
				if slices.Contains(g.Members[m].Topics, t) {
					subscribers = append(subscribers, m)
				}
			}
			shareOut(g, topics, []int{t}, subscribers, has)
		}
	}
	out := make([]Assignment, len(g.Members))
	for m := range out {
		var a Assignment
		for p := range has[m] {
			a = append(a, TopicPartitions{Topic: topics[p.topic].ID, Partitions: []int32{p.partition}})
		}
		out[m] = Normal(a)
	}
	return out
}

// shareOut shares the partitions of some topics out among some members, and adds what they get to has.
func shareOut(g *Group, topics []SharedTopic, of, members []int, has []map[place]bool) {
	var places []place
	for _, t := range of {
		for _, p := range topics[t].Partitions {
			places = append(places, place{t, p})
		}
	}
	if len(places) == 0 || len(members) == 0 {
		return
	}
	s := &sharing{sharers: (len(members) + len(places) - 1) / len(places), held: map[place]int{}}
	total, n := s.sharers*len(places), len(members)
	for i, m := range members {
		s.members = append(s.members, sharer{has: map[place]bool{}, want: ceilDiv(total*(i+1), n) - ceilDiv(total*i, n)})
		for _, p := range places {
			if slices.Contains(g.Members[m].Assigned.Of(topics[p.topic].ID), p.partition) {
				s.give(&s.members[i], p)
			}
		}
	}
	s.takeBack(places)
	for _, p := range places {
		for i := range s.members {
			if m := &s.members[i]; s.held[p] < s.sharers && len(m.has) < m.want && !m.has[p] {
				s.give(m, p)
			}
		}
	}
	for i, m := range members {
		for p := range s.members[i].has {
			has[m][p] = true
		}
	}
}

// sharing is some partitions on their way to members.
type sharing struct {
	sharers int           // that each partition should have
	held    map[place]int // by how many
	members []sharer
}

type sharer struct {
	has  map[place]bool
	want int // how many it should have
}

func (s *sharing) give(m *sharer, p place) {
	m.has[p] = true
	s.held[p]++
}

func (s *sharing) take(m *sharer, p place) {
	delete(m.has, p)
	s.held[p]--
}

// takeBack takes from members what too many have, of those that have too much first, and then what they still have too much.
func (s *sharing) takeBack(places []place) {
	for _, overfilled := range []bool{true, false} {
		for _, p := range places {
			for i := range s.members {
				if m := &s.members[i]; s.held[p] > s.sharers && m.has[p] && (len(m.has) > m.want || !overfilled) {
					s.take(m, p)
				}
			}
		}
	}
	for i := range s.members {
		m := &s.members[i]
		for _, p := range places {
			if len(m.has) > m.want && m.has[p] {
				s.take(m, p)
			}
		}
	}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
