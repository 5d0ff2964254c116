package topology

import (
	"cmp"
	"errors"
	"fmt"
)

// MaxBytes limits what a topology takes in memory, roughly: its strings, and overhead for each thing in it. The record that keeps a
// topology has to fit into a batch of __consumer_offsets, for which Kafka's own limit is the same 1 MiB.
const MaxBytes = 1 << 20

// overhead is what an element of a list counts beside its strings.
const overhead = 16

// ErrInvalidTopology is Kafka's STREAMS_INVALID_TOPOLOGY: the application has to be changed.
var ErrInvalidTopology = errors.New("invalid topology")

// ErrInvalidRequest is Kafka's INVALID_REQUEST: no client of Kafka's sends such a topology.
var ErrInvalidRequest = errors.New("invalid request")

// Validate reports what is wrong with a topology whatever topics there are: an error that is ErrInvalidTopology or ErrInvalidRequest and
// whose text is meant for the member. Names of topics are not looked at.
func (t *Topology) Validate() error {
	if t.bytes() > MaxBytes {
		return refuse(ErrInvalidTopology, "The topology is larger than %d bytes.", MaxBytes)
	}
	if t.Epoch < 0 {
		return refuse(ErrInvalidRequest, "Topology epoch must be non-negative.")
	}
	ids := make(map[string]bool, len(t.Subtopologies))
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		if ids[s.ID] {
			return refuse(ErrInvalidRequest, "Subtopology %s is there twice.", s.ID)
		}
		ids[s.ID] = true
		if err := s.validate(); err != nil {
			return err
		}
	}
	// With any source topics there at all spread decides whether all repartition topics can be worked out.
	if _, err := spread(t.byID(), func(string) (int32, bool) { return 1, true }); err != nil {
		return err
	}
	for i := range t.Subtopologies {
		if s := &t.Subtopologies[i]; len(s.SourceTopics)+len(s.RepartitionSourceTopics) == 0 {
			return refuse(ErrInvalidTopology, "No source topics found for subtopology %s", s.ID)
		}
	}
	return nil
}

func (s *Subtopology) validate() error {
	for i := range s.StateChangelogTopics {
		if n := s.StateChangelogTopics[i].Partitions; n != 0 {
			return refuse(ErrInvalidTopology, "Changelog topic %s must have an undefined partition count, but it is set to %d.",
				s.StateChangelogTopics[i].Name, n)
		}
	}
	for i := range s.RepartitionSourceTopics {
		if n := s.RepartitionSourceTopics[i].Partitions; n < 0 {
			return refuse(ErrInvalidTopology, "Repartition topic %s must have a positive partition count, but it is set to %d.",
				s.RepartitionSourceTopics[i].Name, n)
		}
	}
	internal := make(map[string]bool, len(s.RepartitionSourceTopics)+len(s.StateChangelogTopics))
	for _, list := range [][]InternalTopic{s.RepartitionSourceTopics, s.StateChangelogTopics} {
		for i := range list {
			if internal[list[i].Name] {
				return refuse(ErrInvalidRequest, "Topic %s is there twice in subtopology %s.", list[i].Name, s.ID)
			}
			internal[list[i].Name] = true
		}
	}
	for i := range s.CopartitionGroups {
		g := &s.CopartitionGroups[i]
		for _, list := range []struct {
			indexes []int16
			topics  int
		}{
			{g.SourceTopics, len(s.SourceTopics)},
			{g.SourceTopicRegex, len(s.SourceTopicRegex)},
			{g.RepartitionSourceTopics, len(s.RepartitionSourceTopics)},
		} {
			for _, n := range list.indexes {
				if n < 0 || int(n) >= list.topics {
					return refuse(ErrInvalidRequest, "A copartition group of subtopology %s refers to topic %d of %d.", s.ID, n, list.topics)
				}
			}
		}
	}
	return nil
}

// bytes estimates what the topology takes.
func (t *Topology) bytes() int {
	n := 0
	texts := func(list []string) {
		for _, s := range list {
			n += overhead + len(s)
		}
	}
	internal := func(list []InternalTopic) {
		for i := range list {
			n += overhead + len(list[i].Name)
			for _, c := range list[i].Configs {
				n += overhead + len(c.Key) + len(c.Value)
			}
		}
	}
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		n += overhead + len(s.ID)
		texts(s.SourceTopics)
		texts(s.SourceTopicRegex)
		texts(s.RepartitionSinkTopics)
		internal(s.StateChangelogTopics)
		internal(s.RepartitionSourceTopics)
		for j := range s.CopartitionGroups {
			g := &s.CopartitionGroups[j]
			n += overhead + 2*(len(g.SourceTopics)+len(g.SourceTopicRegex)+len(g.RepartitionSourceTopics))
		}
	}
	return n
}

// refusal is an error with a text of Kafka's, which does not begin with a name of the error.
type refusal struct {
	kind error
	text string
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind: kind, text: fmt.Sprintf(format, args...)}
}

func compareIDs(a, b *Subtopology) int { return cmp.Compare(a.ID, b.ID) }
