package assignor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

// TestSimpleSharesEvenly: whatever members had, of topics that all subscribe to each partition has a member, no partition has many more than
// another, no member has more than its share, and what is balanced already stays as it is.
func TestSimpleSharesEvenly(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		g := &Group{Alike: true}
		topics := []SharedTopic{{ID: base.TopicID{1}}, {ID: base.TopicID{2}}}
		for i := range topics {
			for p := range rnd.Int32N(6) {
				topics[i].Partitions = append(topics[i].Partitions, p)
			}
		}
		for m := range 1 + rnd.IntN(8) {
			a := Assignment{}
			for _, topic := range []base.TopicID{{1}, {2}, {3}} { // {3} is not subscribed to any more
				for p := range int32(7) { // the last may not be assignable
					if rnd.IntN(3) == 0 {
						a = append(a, TopicPartitions{topic, []int32{p}})
					}
				}
			}
			g.Members = append(g.Members, Member{ID: fmt.Sprint(m), Topics: []int{0, 1}, Assigned: Normal(a)})
		}
		got := Simple(g, topics)
		places := len(topics[0].Partitions) + len(topics[1].Partitions)
		held := map[string]int{}
		most := 0
		for m, a := range got {
			most = max(most, a.Count())
			for _, tp := range a {
				at := slices.IndexFunc(topics, func(t SharedTopic) bool { return t.ID == tp.Topic })
				for _, p := range tp.Partitions {
					if at < 0 || !slices.Contains(topics[at].Partitions, p) {
						t.Fatalf("seed %d: member %d has %v-%d, which is not to be had", seed, m, tp.Topic, p)
					}
					held[fmt.Sprint(at, p)]++
				}
			}
		}
		if places == 0 {
			continue
		}
		sharers := ceilDiv(len(g.Members), places)
		if len(held) != places {
			t.Errorf("seed %d: %d partitions have a member, want %d", seed, len(held), places)
		}
		for p, n := range held {
			if n > sharers {
				t.Errorf("seed %d: %d members have %s, want %d at most", seed, n, p, sharers)
			}
		}
		if most > ceilDiv(sharers*places, len(g.Members)) {
			t.Errorf("seed %d: a member has %d partitions", seed, most)
		}
		for m := range g.Members {
			g.Members[m].Assigned = got[m]
		}
		if again := Simple(g, topics); !slices.EqualFunc(got, again, Assignment.Equal) {
			t.Errorf("seed %d: once more it is\n%v, was\n%v", seed, again, got)
		}
	}
}

// TestSimpleSharesEachTopicAmongItsSubscribers: of members that subscribe to different topics.
func TestSimpleSharesEachTopicAmongItsSubscribers(t *testing.T) {
	t.Parallel()
	topics := []SharedTopic{{base.TopicID{1}, []int32{0, 1, 2, 3}}, {base.TopicID{2}, []int32{0, 1}}}
	g := &Group{Members: []Member{{ID: "a", Topics: []int{0}}, {ID: "b", Topics: []int{1}}, {ID: "c", Topics: []int{0, 1}}, {ID: "d"}}}
	want := []Assignment{
		{{base.TopicID{1}, []int32{0, 1}}}, {{base.TopicID{2}, []int32{0}}},
		{{base.TopicID{1}, []int32{2, 3}}, {base.TopicID{2}, []int32{1}}}, nil,
	}
	if got := Simple(g, topics); !slices.EqualFunc(got, want, Assignment.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
}
