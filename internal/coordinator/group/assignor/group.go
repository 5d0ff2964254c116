package assignor

import (
	"slices"

	"github.com/ottlaio/ottla/internal/base"
)

// Group is what is to be assigned.
type Group struct {
	// Topics are all that any member subscribes to, by id.
	Topics []Topic
	// Members in the order in which they are served.
	Members []Member
	// Alike says that all members subscribe to the same topics.
	Alike bool
}

// Topic is a topic and the number of its partitions.
type Topic struct {
	ID         base.TopicID
	Partitions int32
}

// Member is a member of the group.
type Member struct {
	ID       string
	Instance *string
	// Topics are the indexes of those that the member subscribes to, ascending. Members may share one slice.
	Topics []int
	// Assigned is what it was given last.
	Assigned Assignment
}

// Assignor makes a new assignment for each member of a group, in the members' order. It changes nothing in the group.
type Assignor func(g *Group) []Assignment

// ByName are the assignors that there are.
var ByName = map[string]Assignor{"uniform": Uniform, "range": Range}

// index finds topics by id.
func (g *Group) index() map[base.TopicID]int {
	index := make(map[base.TopicID]int, len(g.Topics))
	for i, t := range g.Topics {
		index[t.ID] = i
	}
	return index
}

// owners is who has each partition, by topic and partition: the index of a member, or nobody.
type owners [][]int

const nobody = -1

func newOwners(topics []Topic) owners {
	o := make(owners, len(topics))
	for i, t := range topics {
		o[i] = slices.Repeat([]int{nobody}, int(t.Partitions))
	}
	return o
}

// assignments is what the owners have.
func (o owners) assignments(g *Group) []Assignment {
	out := make([]Assignment, len(g.Members))
	for topic, partitions := range o {
		id := g.Topics[topic].ID
		for p, member := range partitions {
			if member == nobody {
				continue
			}
			a := out[member]
			if len(a) == 0 || a[len(a)-1].Topic != id {
				a = append(a, TopicPartitions{Topic: id})
			}
			last := &a[len(a)-1]
			last.Partitions = append(last.Partitions, int32(p))
			out[member] = a
		}
	}
	return out
}
