package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/ottlaio/ottla/internal/base"
)

// Types of the records of a share group, as Apache Kafka 4.3 writes them; all values have version 0. See docs/formats/groups.md.
const (
	keyShareMember         = 10
	keyShareGroup          = 11
	keyShareTargetMetadata = 12
	keyShareTarget         = 13
	keyShareCurrent        = 14
	keyShareState          = 15
)

func shareMemberKey(group, member string) []byte  { return appendKey(keyShareMember, group, member) }
func shareGroupKey(group string) []byte           { return appendKey(keyShareGroup, group) }
func shareTargetMetadataKey(group string) []byte  { return appendKey(keyShareTargetMetadata, group) }
func shareTargetKey(group, member string) []byte  { return appendKey(keyShareTarget, group, member) }
func shareCurrentKey(group, member string) []byte { return appendKey(keyShareCurrent, group, member) }
func shareStateKey(group string) []byte           { return appendKey(keyShareState, group) }

// encodeGroupEpochHash is a group's epoch with the hash of its topics.
func encodeGroupEpochHash(epoch int32, hash int64) []byte {
	return noTags(kbin.AppendInt64(kbin.AppendInt32(version0(), epoch), hash))
}

func encodeShareMember(m *shareMember) []byte {
	b := kbin.AppendCompactNullableString(version0(), m.rack)
	b = kbin.AppendCompactString(b, m.clientID)
	b = kbin.AppendCompactString(b, m.clientHost)
	return noTags(appendStrings(b, m.topics))
}

func encodeShareCurrent(m *shareMember) []byte {
	b := kbin.AppendInt32(version0(), m.epoch)
	b = kbin.AppendInt32(b, m.previous)
	b = kbin.AppendInt8(b, 0) // the state: stable
	b = kbin.AppendCompactArrayLen(b, len(m.assigned))
	for _, t := range m.assigned {
		b = kbin.AppendUuid(b, t.Topic)
		b = noTags(appendInt32s(b, t.Partitions))
	}
	return noTags(b)
}

func encodeShareState(s *shareState) []byte {
	b := version0()
	for _, topics := range []shareTopics{s.initializing, s.initialized} {
		b = kbin.AppendCompactArrayLen(b, len(topics))
		for _, id := range topics.ids() {
			b = kbin.AppendUuid(b, id)
			b = kbin.AppendCompactString(b, topics[id].name)
			b = noTags(appendInt32s(b, topics[id].partitions))
		}
	}
	b = kbin.AppendCompactArrayLen(b, len(s.deleting))
	for _, id := range sortedIDs(s.deleting) {
		b = noTags(kbin.AppendCompactString(kbin.AppendUuid(b, id), s.deleting[id]))
	}
	return noTags(b)
}

func (m *Machine) replayShareGroup(g *shareGroup, r groupRecord) {
	if r.value == nil {
		m.dissolve(g.id)
		return
	}
	g.epoch, g.hash = r.value.Int32(), r.value.Int64()
	r.value.tags(nil)
}

func (m *Machine) replayShareMember(g *shareGroup, r groupRecord) {
	if r.value == nil {
		if old := g.members[r.name]; old != nil {
			m.use(-old.size())
			g.drop(r.name)
		}
		return
	}
	mb := g.copyMember(r.name)
	v := r.value
	mb.rack, mb.clientID, mb.clientHost = v.CompactNullableString(), v.CompactString(), v.CompactString()
	mb.topics = nil
	v.list(func() { mb.topics = append(mb.topics, v.CompactString()) })
	mb.topics = distinct(mb.topics)
	v.tags(nil)
	m.putShareMember(g, mb)
}

func (m *Machine) putShareMember(g *shareGroup, mb *shareMember) {
	if old := g.members[mb.id]; old != nil {
		m.use(-old.size())
	}
	g.put(mb)
	m.use(mb.size())
}

func (m *Machine) replayShareTargetMetadata(g *shareGroup, r groupRecord) {
	g.targetEpoch, g.targetAt = readTargetMetadata(r.value)
}

func (m *Machine) replayShareTarget(g *shareGroup, r groupRecord) {
	if old, ok := g.target[r.name]; ok {
		m.use(-targetSize(r.name, old))
		delete(g.target, r.name)
	}
	if r.value == nil {
		return
	}
	a := readAssignment(r.value)
	r.value.tags(nil)
	g.target[r.name] = a
	m.use(targetSize(r.name, a))
}

func (m *Machine) replayShareCurrent(g *shareGroup, r groupRecord) {
	if r.value == nil {
		if g.members[r.name] != nil {
			mb := g.copyMember(r.name)
			mb.epoch, mb.previous, mb.assigned = -1, -1, nil
			m.putShareMember(g, mb)
		}
		return
	}
	mb := g.copyMember(r.name)
	mb.epoch, mb.previous = r.value.Int32(), r.value.Int32()
	_ = r.value.Int8() // the state
	mb.assigned = readAssignment(r.value)
	r.value.tags(nil)
	m.putShareMember(g, mb)
}

func (m *Machine) replayShareState(g *shareGroup, r groupRecord) {
	var s shareState
	if v := r.value; v != nil {
		for _, topics := range []*shareTopics{&s.initializing, &s.initialized} {
			*topics = shareTopics{}
			v.list(func() {
				id, t := base.TopicID(v.Uuid()), shareTopic{name: v.CompactString(), at: r.at}
				t.partitions = slices.Compact(slices.Sorted(slices.Values(v.int32s())))
				v.tags(nil)
				(*topics)[id] = t
			})
		}
		s.deleting = map[base.TopicID]string{}
		v.list(func() {
			id := base.TopicID(v.Uuid())
			s.deleting[id] = v.CompactString()
			v.tags(nil)
		})
		v.tags(nil)
	}
	m.use(s.size() - g.state.size())
	g.state = s
}
