package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
	"github.com/ottlaio/ottla/internal/coordinator/group/topology"
)

// Types of the records of a streams group, as Apache Kafka 4.3 writes them; all values have version 0. See docs/formats/groups.md.
const (
	keyStreamsGroup          = 17
	keyStreamsMember         = 19
	keyStreamsTargetMetadata = 20
	keyStreamsTarget         = 21
	keyStreamsCurrent        = 22
	keyStreamsTopology       = 23
)

func streamsGroupKey(group string) []byte          { return appendKey(keyStreamsGroup, group) }
func streamsMemberKey(group, member string) []byte { return appendKey(keyStreamsMember, group, member) }
func streamsTargetMetadataKey(group string) []byte {
	return appendKey(keyStreamsTargetMetadata, group)
}
func streamsTargetKey(group, member string) []byte { return appendKey(keyStreamsTarget, group, member) }
func streamsCurrentKey(group, member string) []byte {
	return appendKey(keyStreamsCurrent, group, member)
}
func streamsTopologyKey(group string) []byte { return appendKey(keyStreamsTopology, group) }

func encodeStreamsGroup(epoch int32, hash int64, validated int32, configs map[string]string) []byte {
	b := kbin.AppendInt32(version0(), epoch)
	b = kbin.AppendInt64(b, hash)
	var fields [][]byte // by tag
	var tags []uint32
	if validated != noTopology {
		tags, fields = append(tags, 0), append(fields, kbin.AppendInt32(nil, validated))
	}
	tags, fields = append(tags, 1), append(fields, appendTexts(nil, configs))
	b = kbin.AppendUvarint(b, uint32(len(tags)))
	for i, tag := range tags {
		b = kbin.AppendUvarint(b, tag)
		b = kbin.AppendUvarint(b, uint32(len(fields[i])))
		b = append(b, fields[i]...)
	}
	return b
}

// appendTexts adds pairs of key and value, in order.
func appendTexts(b []byte, texts map[string]string) []byte {
	b = kbin.AppendCompactArrayLen(b, len(texts))
	for _, k := range sortedKeys(texts) {
		b = noTags(kbin.AppendCompactString(kbin.AppendCompactString(b, k), texts[k]))
	}
	return b
}

func encodeStreamsMember(m *streamsMember) []byte {
	b := kbin.AppendCompactNullableString(version0(), m.instance)
	b = kbin.AppendCompactNullableString(b, m.rack)
	b = kbin.AppendCompactString(b, m.clientID)
	b = kbin.AppendCompactString(b, m.clientHost)
	b = kbin.AppendInt32(b, m.rebalanceTimeout)
	b = kbin.AppendInt32(b, m.topologyEpoch)
	b = kbin.AppendCompactString(b, m.process)
	if m.endpoint == nil {
		b = kbin.AppendInt8(b, -1)
	} else {
		b = kbin.AppendCompactString(kbin.AppendInt8(b, 1), m.endpoint.host)
		b = noTags(kbin.AppendUint16(b, m.endpoint.port))
	}
	return noTags(appendTexts(b, m.tags))
}

func encodeTopology(t *topology.Topology) []byte {
	b := kbin.AppendInt32(version0(), t.Epoch)
	b = kbin.AppendCompactArrayLen(b, len(t.Subtopologies))
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		b = kbin.AppendCompactString(b, s.ID)
		b = appendStrings(b, s.SourceTopics)
		b = appendStrings(b, s.SourceTopicRegex)
		b = appendInternalTopics(b, s.StateChangelogTopics)
		b = appendStrings(b, s.RepartitionSinkTopics)
		b = appendInternalTopics(b, s.RepartitionSourceTopics)
		b = kbin.AppendCompactArrayLen(b, len(s.CopartitionGroups))
		for _, g := range s.CopartitionGroups {
			b = appendInt16s(b, g.SourceTopics)
			b = appendInt16s(b, g.SourceTopicRegex)
			b = noTags(appendInt16s(b, g.RepartitionSourceTopics))
		}
		b = noTags(b)
	}
	return noTags(b)
}

func appendStrings(b []byte, texts []string) []byte {
	b = kbin.AppendCompactArrayLen(b, len(texts))
	for _, s := range texts {
		b = kbin.AppendCompactString(b, s)
	}
	return b
}

func appendInt16s(b []byte, numbers []int16) []byte {
	b = kbin.AppendCompactArrayLen(b, len(numbers))
	for _, n := range numbers {
		b = kbin.AppendInt16(b, n)
	}
	return b
}

func appendInternalTopics(b []byte, topics []topology.InternalTopic) []byte {
	b = kbin.AppendCompactArrayLen(b, len(topics))
	for i := range topics {
		t := &topics[i]
		b = kbin.AppendCompactString(b, t.Name)
		b = kbin.AppendInt32(b, t.Partitions)
		b = kbin.AppendInt16(b, t.ReplicationFactor)
		b = kbin.AppendCompactArrayLen(b, len(t.Configs))
		for _, c := range t.Configs {
			b = noTags(kbin.AppendCompactString(kbin.AppendCompactString(b, c.Key), c.Value))
		}
		b = noTags(b)
	}
	return b
}

func encodeStreamsTarget(a *assignor.TaskAssignment) []byte {
	b := version0()
	for _, tasks := range lists(a) {
		b = kbin.AppendCompactArrayLen(b, len(tasks))
		for _, s := range tasks {
			b = noTags(appendInt32s(kbin.AppendCompactString(b, s.Subtopology), s.Partitions))
		}
	}
	return noTags(b)
}

func encodeStreamsCurrent(m *streamsMember) []byte {
	b := kbin.AppendInt32(version0(), m.epoch)
	b = kbin.AppendInt32(b, m.previous)
	b = kbin.AppendInt8(b, int8(m.state))
	for _, set := range []*taskSet{&m.assigned, &m.revoking} {
		for kind, held := range set {
			tasks := held.list()
			b = kbin.AppendCompactArrayLen(b, len(tasks))
			for _, s := range tasks {
				b = appendInt32s(kbin.AppendCompactString(b, s.Subtopology), s.Partitions)
				if kind != activeTasks {
					b = noTags(b)
					continue
				}
				epochs := make([]int32, len(s.Partitions))
				for i, p := range s.Partitions {
					epochs[i] = held[task{s.Subtopology, p}]
				}
				b = oneTag(b, appendInt32s(nil, epochs))
			}
		}
	}
	return noTags(b)
}

func (m *Machine) replayStreamsGroup(g *streamsGroup, r groupRecord) {
	if r.value == nil {
		m.dissolve(g.id)
		return
	}
	v := r.value
	g.epoch, g.hash, g.validated = v.Int32(), v.Int64(), noTopology
	g.configs = map[string]string{}
	for n := v.Uvarint(); n > 0 && v.Ok(); n-- {
		tag := v.Uvarint()
		field := valueReader{kbin.Reader{Src: v.Span(int(v.Uvarint()))}}
		switch tag {
		case 0:
			g.validated = field.Int32()
		case 1:
			g.configs = readTexts(&field)
		}
		if !field.Ok() {
			v.spoil()
		}
	}
}

func readTexts(r *valueReader) map[string]string {
	texts := map[string]string{}
	r.list(func() {
		key := r.CompactString()
		texts[key] = r.CompactString()
		r.tags(nil)
	})
	return texts
}

func (m *Machine) replayStreamsTopology(g *streamsGroup, r groupRecord) {
	m.use(-g.topologySize())
	if r.value == nil {
		g.setTopology(nil, nil)
		return
	}
	encoded := slices.Concat(version0(), r.value.Src)
	v := r.value
	t := &topology.Topology{Epoch: v.Int32()}
	v.list(func() {
		s := topology.Subtopology{ID: v.CompactString(), SourceTopics: v.strings(), SourceTopicRegex: v.strings()}
		s.StateChangelogTopics = v.internalTopics()
		s.RepartitionSinkTopics = v.strings()
		s.RepartitionSourceTopics = v.internalTopics()
		v.list(func() {
			s.CopartitionGroups = append(s.CopartitionGroups, topology.CopartitionGroup{
				SourceTopics: v.int16s(), SourceTopicRegex: v.int16s(), RepartitionSourceTopics: v.int16s(),
			})
			v.tags(nil)
		})
		v.tags(nil)
		t.Subtopologies = append(t.Subtopologies, s)
	})
	v.tags(nil)
	g.setTopology(t, encoded)
	m.use(g.topologySize())
}

func (r *valueReader) strings() []string {
	var texts []string
	r.list(func() { texts = append(texts, r.CompactString()) })
	return texts
}

func (r *valueReader) int16s() []int16 {
	var numbers []int16
	r.list(func() { numbers = append(numbers, r.Int16()) })
	return numbers
}

func (r *valueReader) internalTopics() []topology.InternalTopic {
	var topics []topology.InternalTopic
	r.list(func() {
		t := topology.InternalTopic{Name: r.CompactString(), Partitions: r.Int32(), ReplicationFactor: r.Int16()}
		r.list(func() {
			t.Configs = append(t.Configs, topology.Config{Key: r.CompactString(), Value: r.CompactString()})
			r.tags(nil)
		})
		r.tags(nil)
		topics = append(topics, t)
	})
	return topics
}

func (m *Machine) replayStreamsMember(g *streamsGroup, r groupRecord) {
	if r.value == nil {
		if old := g.members[r.name]; old != nil {
			m.use(-old.size())
			g.drop(r.name)
		}
		return
	}
	mb := g.copyMember(r.name)
	v := r.value
	mb.instance, mb.rack = v.CompactNullableString(), v.CompactNullableString()
	mb.clientID, mb.clientHost = v.CompactString(), v.CompactString()
	mb.rebalanceTimeout, mb.topologyEpoch, mb.process = v.Int32(), v.Int32(), v.CompactString()
	if mb.endpoint = nil; v.Int8() > 0 {
		mb.endpoint = &streamsEndpoint{v.CompactString(), v.Uint16()}
		v.tags(nil)
	}
	mb.tags = readTexts(v)
	v.tags(nil)
	m.putStreamsMember(g, mb)
}

func (m *Machine) replayStreamsTargetMetadata(g *streamsGroup, r groupRecord) {
	g.targetEpoch, g.targetAt = readTargetMetadata(r.value)
}

func (m *Machine) replayStreamsTarget(g *streamsGroup, r groupRecord) {
	if old, ok := g.target[r.name]; ok {
		m.use(-taskTargetSize(r.name, &old))
		delete(g.target, r.name)
	}
	if r.value == nil {
		return
	}
	tasks := func() assignor.Tasks {
		var list assignor.Tasks
		r.value.list(func() {
			list = append(list, assignor.SubtopologyTasks{Subtopology: r.value.CompactString(), Partitions: r.value.int32s()})
			r.value.tags(nil)
		})
		return assignor.NormalTasks(list)
	}
	a := assignor.TaskAssignment{Active: tasks(), Standby: tasks(), Warmup: tasks()}
	r.value.tags(nil)
	g.target[r.name] = a
	m.use(taskTargetSize(r.name, &a))
}

func (m *Machine) replayStreamsCurrent(g *streamsGroup, r groupRecord) {
	if r.value == nil {
		if g.members[r.name] == nil {
			return
		}
		mb := g.copyMember(r.name)
		mb.epoch, mb.previous, mb.assigned, mb.revoking = -1, -1, taskSet{}, taskSet{}
		m.putStreamsMember(g, mb)
		return
	}
	mb := g.copyMember(r.name)
	v := r.value
	mb.epoch, mb.previous = v.Int32(), v.Int32()
	mb.state = streamsState(v.Int8())
	if mb.state < streamsStable || mb.state > unreleasedTasks {
		mb.state = unknownTasksState
	}
	for _, set := range []*taskSet{&mb.assigned, &mb.revoking} {
		for kind := range set {
			set[kind] = readTasks(v, kind, max(mb.epoch, 0))
		}
	}
	v.tags(nil)
	m.putStreamsMember(g, mb)
}

// readTasks reads tasks, active ones with their epochs. Those that Kafka before 4.3 wrote have none: the member's stands for them.
func readTasks(r *valueReader, kind int, epoch int32) heldTasks {
	held := heldTasks{}
	r.list(func() {
		subtopology, partitions := r.CompactString(), r.int32s()
		var epochs []int32
		r.tags(func(field *valueReader) { epochs = field.int32s() })
		for i, p := range partitions {
			switch {
			case kind != activeTasks:
				held[task{subtopology, p}] = 0
			case len(epochs) == len(partitions):
				held[task{subtopology, p}] = epochs[i]
			default:
				held[task{subtopology, p}] = epoch
			}
		}
	})
	return held
}

// putStreamsMember changes a member and keeps account of its memory.
func (m *Machine) putStreamsMember(g *streamsGroup, mb *streamsMember) {
	if old := g.members[mb.id]; old != nil {
		m.use(-old.size())
	}
	g.put(mb)
	m.use(mb.size())
}
