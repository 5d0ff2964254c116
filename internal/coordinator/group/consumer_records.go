package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// Types of the records of a consumer group, as Apache Kafka 4.3 writes them; all values have version 0. See docs/formats/groups.md.
const (
	keyConsumerGroup     = 3
	keyPartitionMetadata = 4 // only tombstones are written since 4.1
	keyConsumerMember    = 5
	keyTargetMetadata    = 6
	keyTarget            = 7
	keyCurrent           = 8
	keyRegex             = 16
)

func appendKey(recordType int16, names ...string) []byte {
	b := kbin.AppendInt16(nil, recordType)
	for _, n := range names {
		b = kbin.AppendString(b, n)
	}
	return b
}

func consumerGroupKey(group string) []byte     { return appendKey(keyConsumerGroup, group) }
func partitionMetadataKey(group string) []byte { return appendKey(keyPartitionMetadata, group) }
func consumerMemberKey(group, member string) []byte {
	return appendKey(keyConsumerMember, group, member)
}
func targetMetadataKey(group string) []byte  { return appendKey(keyTargetMetadata, group) }
func targetKey(group, member string) []byte  { return appendKey(keyTarget, group, member) }
func currentKey(group, member string) []byte { return appendKey(keyCurrent, group, member) }
func regexKey(group, regex string) []byte    { return appendKey(keyRegex, group, regex) }

// version0 begins a value.
func version0() []byte { return []byte{0, 0} }

// noTags ends a value, or a structure in it, without tagged fields.
func noTags(b []byte) []byte { return append(b, 0) }

// oneTag ends a value with one tagged field, of tag 0.
func oneTag(b, field []byte) []byte {
	b = append(b, 1, 0)
	b = kbin.AppendUvarint(b, uint32(len(field)))
	return append(b, field...)
}

func encodeConsumerGroup(g *consumerGroup) []byte { return encodeGroupEpoch(g.epoch, g.hash) }

func encodeGroupEpoch(epoch int32, hash int64) []byte {
	b := kbin.AppendInt32(version0(), epoch)
	if hash == 0 {
		return noTags(b)
	}
	return oneTag(b, kbin.AppendInt64(nil, hash))
}

func encodeConsumerMember(m *consumerMember) []byte {
	b := kbin.AppendCompactNullableString(version0(), m.instance)
	b = kbin.AppendCompactNullableString(b, m.rack)
	b = kbin.AppendCompactString(b, m.clientID)
	b = kbin.AppendCompactString(b, m.clientHost)
	b = kbin.AppendCompactArrayLen(b, len(m.topics))
	for _, t := range m.topics {
		b = kbin.AppendCompactString(b, t)
	}
	b = kbin.AppendCompactNullableString(b, &m.regex)
	b = kbin.AppendInt32(b, m.rebalanceTimeout)
	b = kbin.AppendCompactNullableString(b, m.assignor)
	if m.classic == nil {
		return oneTag(b, []byte{0}) // null, which Kafka writes down
	}
	c := []byte{1} // not null
	c = kbin.AppendInt32(c, m.classic.sessionTimeout)
	c = kbin.AppendCompactArrayLen(c, len(m.classic.protocols))
	for _, p := range m.classic.protocols {
		c = kbin.AppendCompactString(c, p.name)
		c = kbin.AppendCompactBytes(c, p.metadata)
		c = noTags(c)
	}
	return oneTag(b, noTags(c))
}

func encodeTargetMetadata(epoch int32, at int64) []byte {
	b := kbin.AppendInt32(version0(), epoch)
	if at == 0 {
		return noTags(b)
	}
	return oneTag(b, kbin.AppendInt64(nil, at))
}

// readTargetMetadata is the inverse of encodeTargetMetadata. After a tombstone they are those of a new group: compaction may have left no trace
// of the end of the former.
func readTargetMetadata(v *valueReader) (epoch int32, at int64) {
	if v == nil {
		return firstEpoch, 0
	}
	epoch = v.Int32()
	v.tags(func(field *valueReader) { at = field.Int64() })
	return epoch, at
}

func encodeTarget(a assignor.Assignment) []byte {
	b := kbin.AppendCompactArrayLen(version0(), len(a))
	for _, t := range a {
		b = kbin.AppendUuid(b, t.Topic)
		b = appendInt32s(b, t.Partitions)
		b = noTags(b)
	}
	return noTags(b)
}

func encodeCurrent(m *consumerMember) []byte {
	b := kbin.AppendInt32(version0(), m.epoch)
	b = kbin.AppendInt32(b, m.previous)
	b = kbin.AppendInt8(b, int8(m.state))
	for _, h := range []holding{m.assigned, m.revoking} {
		b = kbin.AppendCompactArrayLen(b, len(h))
		for _, t := range h {
			b = kbin.AppendUuid(b, t.topic)
			b = appendInt32s(b, t.partitions)
			b = oneTag(b, appendInt32s(nil, t.epochs))
		}
	}
	return noTags(b)
}

func encodeRegex(r resolvedRegex) []byte {
	b := kbin.AppendCompactArrayLen(version0(), len(r.topics))
	for _, t := range r.topics {
		b = kbin.AppendCompactString(b, t)
	}
	b = kbin.AppendInt64(b, r.version)
	return noTags(kbin.AppendInt64(b, r.at))
}

// encodeNoPartitionMetadata stands for what Kafka 4.0 wrote of a group's topics, none of which is used.
func encodeNoPartitionMetadata() []byte { return noTags(kbin.AppendCompactArrayLen(version0(), 0)) }

func appendInt32s(b []byte, numbers []int32) []byte {
	b = kbin.AppendCompactArrayLen(b, len(numbers))
	for _, n := range numbers {
		b = kbin.AppendInt32(b, n)
	}
	return b
}

// The records are read by the functions below. They allocate as bytes are there, not as lengths say.

// valueReader reads a record's value.
type valueReader struct{ kbin.Reader }

// list reads the elements of an array.
func (r *valueReader) list(element func()) {
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		element()
	}
}

// spoil makes the record one that cannot be read.
func (r *valueReader) spoil() { r.Span(len(r.Src) + 1) }

func (r *valueReader) int32s() []int32 {
	var numbers []int32
	r.list(func() { numbers = append(numbers, r.Int32()) })
	return numbers
}

// tags reads the tagged fields that end a structure; tag 0 is the one that is known.
func (r *valueReader) tags(zero func(field *valueReader)) {
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		tag := r.Uvarint()
		field := valueReader{kbin.Reader{Src: r.Span(int(r.Uvarint()))}}
		if tag == 0 && zero != nil && r.Ok() {
			zero(&field)
			if !field.Ok() {
				r.spoil()
			}
		}
	}
}

func (m *Machine) replayConsumerGroup(g *consumerGroup, r groupRecord) {
	if r.value == nil {
		m.dissolve(g.id)
		return
	}
	g.epoch, g.hash = r.value.Int32(), 0
	r.value.tags(func(field *valueReader) { g.hash = field.Int64() })
}

func (m *Machine) replayPartitionMetadata(g *consumerGroup, r groupRecord) {
	g.legacyHash = r.value != nil
	if r.value != nil {
		r.value.Span(len(r.value.Src))
	}
}

func (m *Machine) replayConsumerMember(g *consumerGroup, r groupRecord) {
	if r.value == nil {
		m.dropMember(g, r.name)
		return
	}
	mb := g.copyMember(r.name)
	v := r.value
	mb.instance, mb.rack = v.CompactNullableString(), v.CompactNullableString()
	mb.clientID, mb.clientHost = v.CompactString(), v.CompactString()
	mb.topics = nil
	v.list(func() { mb.topics = append(mb.topics, v.CompactString()) })
	slices.Sort(mb.topics)
	mb.topics = slices.Compact(mb.topics)
	mb.regex = deref(v.CompactNullableString())
	mb.rebalanceTimeout = v.Int32()
	mb.assignor = v.CompactNullableString()
	mb.classic = nil
	v.tags(func(field *valueReader) {
		if field.Int8() <= 0 {
			return // null
		}
		mb.classic = &classicMetadata{sessionTimeout: field.Int32()}
		field.list(func() {
			p := protocol{name: field.CompactString(), metadata: slices.Clone(field.CompactBytes())}
			field.tags(nil)
			mb.classic.protocols = append(mb.classic.protocols, p)
		})
		field.tags(nil)
		if len(mb.classic.protocols) == 0 {
			field.spoil() // nobody joins without one
		}
	})
	m.putMember(g, mb)
}

func (m *Machine) replayTargetMetadata(g *consumerGroup, r groupRecord) {
	g.targetEpoch, g.targetAt = readTargetMetadata(r.value)
}

func (m *Machine) replayTarget(g *consumerGroup, r groupRecord) {
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

func readAssignment(v *valueReader) assignor.Assignment {
	var a assignor.Assignment
	v.list(func() {
		a = append(a, assignor.TopicPartitions{Topic: v.Uuid(), Partitions: v.int32s()})
		v.tags(nil)
	})
	return assignor.Normal(a)
}

func (m *Machine) replayCurrent(g *consumerGroup, r groupRecord) {
	if r.value == nil {
		if g.members[r.name] == nil {
			return
		}
		mb := g.copyMember(r.name)
		mb.epoch, mb.previous, mb.assigned, mb.revoking = -1, -1, nil, nil
		m.putMember(g, mb)
		return
	}
	mb := g.copyMember(r.name)
	v := r.value
	mb.epoch, mb.previous = v.Int32(), v.Int32()
	mb.state = memberState(v.Int8())
	if mb.state < reconciled || mb.state > unreleased {
		mb.state = unknownMember
	}
	mb.assigned, mb.revoking = readHolding(v, mb.epoch), readHolding(v, mb.epoch)
	v.tags(nil)
	m.putMember(g, mb)
}

// readHolding reads partitions with their epochs. Those that Kafka before 4.3 wrote have none: the member's stands for them.
func readHolding(r *valueReader, epoch int32) holding {
	b := holder{}
	r.list(func() {
		topic, partitions := base.TopicID(r.Uuid()), r.int32s()
		var epochs []int32
		r.tags(func(field *valueReader) { epochs = field.int32s() })
		for i, p := range partitions {
			e := max(epoch, 0)
			if len(epochs) == len(partitions) {
				e = epochs[i]
			}
			b.add(topic, p, e)
		}
	})
	return b.holding()
}

func (m *Machine) replayRegex(g *consumerGroup, r groupRecord) {
	if old, ok := g.regexes[r.name]; ok {
		m.use(-old.size(r.name))
	}
	if r.value == nil {
		g.resolve(r.name, nil)
		return
	}
	var found resolvedRegex
	r.value.list(func() { found.topics = append(found.topics, r.value.CompactString()) })
	found.version, found.at = r.value.Int64(), r.value.Int64()
	r.value.tags(nil)
	slices.Sort(found.topics)
	found.topics = slices.Compact(found.topics)
	g.resolve(r.name, &found)
	m.use(found.size(r.name))
}

// copyMember is a copy of a member, or a new one.
func (g *consumerGroup) copyMember(id string) *consumerMember {
	if mb := g.members[id]; mb != nil {
		c := *mb
		return &c
	}
	return newConsumerMember(id)
}

// putMember and dropMember change members and keep account of their memory.

func (m *Machine) putMember(g *consumerGroup, mb *consumerMember) {
	if old := g.members[mb.id]; old != nil {
		m.use(-old.size())
	}
	g.put(mb)
	m.use(mb.size())
}

func (m *Machine) dropMember(g *consumerGroup, id string) {
	if old := g.members[id]; old != nil {
		m.use(-old.size())
		g.drop(id)
	}
}
