package topology

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxTasks limits the tasks of a group: every assignment goes through all of them. Kafka has no such limit.
const MaxTasks = 100_000

// Status is a code of StreamsGroupHeartbeatResponse.Status.
type Status int8

// What members are told of their group. Configure sets three of them.
const (
	Ready                        Status = -1 // nothing to tell; not on the wire
	StaleTopology                Status = 0
	MissingSourceTopics          Status = 1
	IncorrectlyPartitionedTopics Status = 2
	MissingInternalTopics        Status = 3
	ShutdownApplication          Status = 4
	AssignmentDelayed            Status = 5
)

// Configured is what a topology needs. It is not changed once it is made.
type Configured struct {
	Status  Status // Ready or the first problem
	Message string // what the problem is, for the member; in Kafka's words
	// Subtopologies by id. There are none unless the status is Ready or MissingInternalTopics.
	Subtopologies []ConfiguredSubtopology
	// Create are the internal topics that are missing, by name.
	Create []NewTopic
}

// ConfiguredSubtopology is a subtopology whose partition counts have been worked out.
type ConfiguredSubtopology struct {
	ID                             string
	Tasks                          int32
	SourceTopics                   []string // sorted, as the sink topics
	RepartitionSinkTopics          []string
	RepartitionSources, Changelogs []NewTopic // by name
}

// Stateful reports whether the subtopology keeps state: only then are there standby tasks.
func (s *ConfiguredSubtopology) Stateful() bool { return len(s.Changelogs) > 0 }

// NewTopic is an internal topic as it is to be created.
type NewTopic struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16 // -1: the broker's default (as Kafka's CreatableTopic)
	Configs           []Config
}

// problem is what keeps a topology from being configured.
type problem struct {
	status Status
	text   string
}

func (p *problem) Error() string { return p.text }

func misfit(format string, args ...any) error {
	return &problem{IncorrectlyPartitionedTopics, fmt.Sprintf(format, args...)}
}

// Configure works out what the topology needs. The function partitions gives the partition count of a topic that exists. A topology that
// Validate refuses, which only a record written by others can hold, is IncorrectlyPartitionedTopics.
func Configure(t *Topology, partitions func(topic string) (int32, bool)) Configured {
	c := Configured{Status: Ready}
	err := c.configure(t, partitions)
	if err == nil {
		return c
	}
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{IncorrectlyPartitionedTopics, err.Error()}
	}
	return Configured{Status: p.status, Message: p.text}
}

func (c *Configured) configure(t *Topology, existing func(topic string) (int32, bool)) error {
	if err := t.Validate(); err != nil {
		return err
	}
	subtopologies := t.byID()
	if err := sourcesExist(subtopologies, existing); err != nil {
		return err
	}
	decided, err := spread(subtopologies, existing)
	if err != nil {
		return err
	}
	known := &counts{existing, decided}
	if err := copartition(subtopologies, known); err != nil {
		return err
	}
	tasks := int64(0)
	for _, s := range subtopologies {
		n := s.tasks(known)
		if tasks += int64(n); tasks > MaxTasks {
			return misfit("The topology has more than %d tasks.", MaxTasks)
		}
		c.Subtopologies = append(c.Subtopologies, s.configured(n, decided))
	}
	if c.Create, err = missing(c.Subtopologies, existing); err != nil {
		return err
	}
	if len(c.Create) > 0 {
		names := make([]string, len(c.Create))
		for i := range c.Create {
			names[i] = c.Create[i].Name
		}
		c.Status, c.Message = MissingInternalTopics, "Internal topics are missing: "+some(names)
	}
	return nil
}

func sourcesExist(subtopologies []*Subtopology, existing func(topic string) (int32, bool)) error {
	var gone []string
	for _, s := range subtopologies {
		for _, name := range s.SourceTopics {
			if _, ok := existing(name); !ok {
				gone = append(gone, name)
			}
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.Sort(gone)
	return &problem{MissingSourceTopics, "Source topics " + some(slices.Compact(gone)) + " are missing."}
}

// counts are the partition counts of topics: those that exist, and what has been decided for internal topics.
type counts struct {
	existing func(topic string) (int32, bool)
	decided  map[string]int32
}

// of returns the count of a topic; one that exists has the count that it has. Once spread is done all topics have one.
func (c *counts) of(topic string) int32 {
	if n, ok := c.existing(topic); ok {
		return n
	}
	return c.decided[topic]
}

// tasks is how many partitions the widest topic has that the subtopology reads.
func (s *Subtopology) tasks(known *counts) int32 {
	n := int32(0)
	for name := range s.reads {
		n = max(n, known.of(name))
	}
	return n
}

// configured fills in the partition counts of the internal topics: a repartition topic has what the subtopology itself has fixed, or else
// what was decided.
func (s *Subtopology) configured(tasks int32, decided map[string]int32) ConfiguredSubtopology {
	c := ConfiguredSubtopology{
		ID:                    s.ID,
		Tasks:                 tasks,
		SourceTopics:          sorted(s.SourceTopics),
		RepartitionSinkTopics: sorted(s.RepartitionSinkTopics),
	}
	for i := range s.RepartitionSourceTopics {
		topic := &s.RepartitionSourceTopics[i]
		n := topic.Partitions
		if n == 0 {
			n = decided[topic.Name]
		}
		c.RepartitionSources = append(c.RepartitionSources, topic.create(n))
	}
	for i := range s.StateChangelogTopics {
		c.Changelogs = append(c.Changelogs, s.StateChangelogTopics[i].create(tasks))
	}
	byName(c.RepartitionSources)
	byName(c.Changelogs)
	return c
}

func (t *InternalTopic) create(partitions int32) NewTopic {
	replication := t.ReplicationFactor
	if replication == 0 {
		replication = -1
	}
	return NewTopic{Name: t.Name, Partitions: partitions, ReplicationFactor: replication, Configs: t.Configs}
}

// missing returns the internal topics that do not exist, and refuses those that exist with another partition count.
func missing(subtopologies []ConfiguredSubtopology, existing func(topic string) (int32, bool)) ([]NewTopic, error) {
	wanted := map[string]NewTopic{}
	for i := range subtopologies {
		for _, list := range [][]NewTopic{subtopologies[i].RepartitionSources, subtopologies[i].Changelogs} {
			for _, topic := range list {
				wanted[topic.Name] = topic
			}
		}
	}
	var create []NewTopic
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		topic := wanted[name]
		n, ok := existing(name)
		if !ok {
			create = append(create, topic)
		} else if n != topic.Partitions {
			return nil, misfit("Existing topic %s has different number of partitions: expected %d, found %d", name, topic.Partitions, n)
		}
	}
	return create, nil
}

func byName(topics []NewTopic) {
	slices.SortFunc(topics, func(a, b NewTopic) int { return strings.Compare(a.Name, b.Name) })
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// some names the first three topics and counts the others.
func some(names []string) string {
	const shown = 3
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d additional topics", strings.Join(names[:shown], ", "), len(names)-shown)
}
