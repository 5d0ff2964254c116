package assignor

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
)

// maxRounds bounds how often all topics are evened out. A group of n topics that need it settles in far fewer.
const maxRounds = 16

// uniformUnlike is Uniform for members with different subscriptions. Partitions that nobody has go to whoever has least among the
// topic's subscribers; then topic by topic partitions move from those who have most to those who have least, until no topic moves any.
func uniformUnlike(g *Group) []Assignment {
	s := newSpreading(g)
	order := s.order()
	b := &balance{load: s.load}
	for _, t := range order {
		first := true
		for p, owner := range s.owned[t] {
			if owner != nobody {
				continue
			}
			if first {
				b.begin(s.subscribers[t])
				first = false
			}
			s.give(t, p, b.least())
		}
	}
	order = slices.DeleteFunc(order, func(t int) bool { return len(s.subscribers[t]) < 2 })
	s.even(b, order)
	return s.owned.assignments(g)
}

// spreading is an assignment in the making.
type spreading struct {
	group       *Group
	subscribers [][]int // by topic
	owned       owners
	load        []int // partitions of each member
}

func newSpreading(g *Group) *spreading {
	s := &spreading{group: g, subscribers: make([][]int, len(g.Topics)), owned: newOwners(g.Topics), load: make([]int, len(g.Members))}
	index := g.index()
	for i := range g.Members {
		m := &g.Members[i]
		for _, t := range m.Topics {
			s.subscribers[t] = append(s.subscribers[t], i)
		}
		for _, a := range m.Assigned {
			t, ok := index[a.Topic]
			if _, subscribes := slices.BinarySearch(m.Topics, t); !ok || !subscribes {
				continue
			}
			for _, p := range a.Partitions {
				if p < g.Topics[t].Partitions {
					s.give(t, int(p), i)
				}
			}
		}
	}
	return s
}

func (s *spreading) give(topic, partition, member int) {
	if former := s.owned[topic][partition]; former != nobody {
		s.load[former]--
	}
	s.owned[topic][partition] = member
	s.load[member]++
}

// order is the one in which topics are seen to: first those with most partitions for each subscriber, which leave the least choice.
func (s *spreading) order() []int {
	var topics []int
	for t := range s.group.Topics {
		if len(s.subscribers[t]) > 0 {
			topics = append(topics, t)
		}
	}
	share := func(t int) float64 { return float64(s.group.Topics[t].Partitions) / float64(len(s.subscribers[t])) }
	slices.SortFunc(topics, func(a, b int) int {
		return cmp.Or(cmp.Compare(share(b), share(a)), cmp.Compare(len(s.subscribers[a]), len(s.subscribers[b])),
			compareIDs(s.group.Topics[a].ID, s.group.Topics[b].ID))
	})
	return topics
}

// compareIDs orders ids as Kafka's Uuid does: as two signed numbers.
func compareIDs(a, b base.TopicID) int {
	half := func(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }
	return cmp.Or(cmp.Compare(half(a[:8]), half(b[:8])), cmp.Compare(half(a[8:]), half(b[8:])))
}

// even evens out one topic after the other, until it comes round to the one that moved last.
func (s *spreading) even(b *balance, topics []int) {
	last := -1
	for range maxRounds {
		for i, t := range topics {
			if i == last {
				return
			}
			if s.evenTopic(b, t) || last == -1 {
				last = i
			}
		}
	}
}

// evenTopic moves partitions of one topic between its subscribers. It reports whether it moved any.
func (s *spreading) evenTopic(b *balance, topic int) (moved bool) {
	if b.begin(s.subscribers[topic]) <= 1 {
		return false
	}
	has := map[int][]int{} // partitions by member, to be taken from the end
	for p, owner := range s.owned[topic] {
		has[owner] = append(has[owner], p)
	}
	for !b.even() {
		from := b.most()
		for from != nobody && len(has[from]) == 0 {
			b.skip() // it has most, but nothing of this topic
			from = b.most()
		}
		if from == nobody {
			break
		}
		partitions := has[from]
		has[from] = partitions[:len(partitions)-1]
		to := b.least()
		if b.even() {
			break
		}
		s.give(topic, partitions[len(partitions)-1], to)
		moved = true
	}
	return moved
}
