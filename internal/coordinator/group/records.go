package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/plant"
)

// Versions of the keys and values in __consumer_offsets, as Apache Kafka 4.3 writes them. See docs/formats/groups.md.
const (
	keyOffsetLegacy = 0 // a key's version says what kind of record it is
	keyOffset       = 1
	keyGroup        = 2

	valueOffset        = 4 // with the topic id
	valueOffsetExpires = 1 // with an explicit expiry, for OffsetCommit before v5
	valueGroup         = 3

	maxValueOffset = 4
	maxValueGroup  = 4
)

// errRecord marks a record that cannot be read.
var errRecord = errors.New("malformed group record")

func groupKey(group string) []byte {
	return (&kmsg.GroupMetadataKey{Version: keyGroup, Group: group}).AppendTo(nil)
}

func offsetKey(group, topic string, partition int32) []byte {
	return (&kmsg.OffsetCommitKey{Version: keyOffset, Group: group, Topic: topic, Partition: partition}).AppendTo(nil)
}

// encodeGroup is the value of the record that holds the group's hard state.
func encodeGroup(g *classicGroup) []byte {
	v := kmsg.NewGroupMetadataValue()
	v.Version = valueGroup
	v.ProtocolType = g.protocolType
	v.Generation = g.generation
	v.Protocol = g.protocol
	if g.leader != "" {
		v.Leader = &g.leader
	}
	v.CurrentStateTimestamp = g.since
	for _, mb := range g.order {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID, vm.InstanceID = mb.id, mb.instance
		vm.ClientID, vm.ClientHost = mb.clientID, mb.clientHost
		vm.RebalanceTimeoutMillis, vm.SessionTimeoutMillis = mb.rebalanceTimeout, mb.sessionTimeout
		vm.Subscription, vm.Assignment = orEmpty(mb.metadata(deref(g.protocol))), orEmpty(mb.assignment)
		v.Members = append(v.Members, vm)
	}
	return v.AppendTo(nil)
}

func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func encodeOffset(c *committed) []byte {
	v := kmsg.NewOffsetCommitValue()
	v.Version = valueOffset
	v.Offset, v.LeaderEpoch = int64(c.offset), int32(c.leaderEpoch)
	v.Metadata, v.CommitTimestamp = c.metadata, c.at
	v.ExpireTimestamp = c.expire
	v.TopicID = c.topicID
	if c.expire != base.NoTimestamp {
		v.Version = valueOffsetExpires
	}
	return v.AppendTo(nil)
}

// Replay implements coordinator.Machine.
func (m *Machine) Replay(r coordinator.Record) error {
	if r.Control {
		return m.replayMarker(r)
	}
	if len(r.Key) < 2 {
		return fmt.Errorf("%w: key of %d bytes", errRecord, len(r.Key))
	}
	t := int16(binary.BigEndian.Uint16(r.Key))
	if ok, err := m.replaySnapshotTxn(t, r); ok || err != nil {
		return err
	}
	if t < 0 || int(t) >= len(recordTypes) || recordTypes[t] == nil {
		return fmt.Errorf("%w: key version %d", coordinator.ErrUnknownRecord, t)
	}
	return recordTypes[t](m, r)
}

// recordTypes says how a record is replayed, by its type.
var recordTypes = [...]func(*Machine, coordinator.Record) error{
	keyOffsetLegacy: (*Machine).replayOffset,
	keyOffset:       (*Machine).replayOffset,
	keyGroup:        (*Machine).replayGroup,

	keyConsumerGroup:     consumerRecords.row(1, (*Machine).replayConsumerGroup),
	keyPartitionMetadata: consumerRecords.row(1, (*Machine).replayPartitionMetadata),
	keyConsumerMember:    consumerRecords.row(2, (*Machine).replayConsumerMember),
	keyTargetMetadata:    consumerRecords.row(1, (*Machine).replayTargetMetadata),
	keyTarget:            consumerRecords.row(2, (*Machine).replayTarget),
	keyCurrent:           consumerRecords.row(2, (*Machine).replayCurrent),
	keyRegex:             consumerRecords.row(2, (*Machine).replayRegex),

	keyShareMember:         shareRecords.row(2, (*Machine).replayShareMember),
	keyShareGroup:          shareRecords.row(1, (*Machine).replayShareGroup),
	keyShareTargetMetadata: shareRecords.row(1, (*Machine).replayShareTargetMetadata),
	keyShareTarget:         shareRecords.row(2, (*Machine).replayShareTarget),
	keyShareCurrent:        shareRecords.row(2, (*Machine).replayShareCurrent),
	keyShareState:          shareRecords.row(1, (*Machine).replayShareState),

	keyStreamsGroup:          streamsRecords.row(1, (*Machine).replayStreamsGroup),
	keyStreamsMember:         streamsRecords.row(2, (*Machine).replayStreamsMember),
	keyStreamsTargetMetadata: streamsRecords.row(1, (*Machine).replayStreamsTargetMetadata),
	keyStreamsTarget:         streamsRecords.row(2, (*Machine).replayStreamsTarget),
	keyStreamsCurrent:        streamsRecords.row(2, (*Machine).replayStreamsCurrent),
	keyStreamsTopology:       streamsRecords.row(1, (*Machine).replayStreamsTopology),
}

func (m *Machine) replayOffset(r coordinator.Record) error {
	id, c, err := parseOffset(r.Key, r.Value)
	switch {
	case err != nil:
		return err
	case r.Transactional:
		m.replayPending(r, id, c)
	case c == nil:
		m.dropOffset(id.group, id.topic, id.partition)
	default:
		if old, ok := m.offsets[id.group][id.topic][id.partition]; ok && plant.On(plant.FirstOffsetWins) {
			c = &old
		}
		m.supersede(id, r.Offset)
		m.setOffset(id, *c)
	}
	return nil
}

// parseOffset reads the record of an offset; nil for a tombstone.
func parseOffset(key, value []byte) (offsetID, *committed, error) {
	k := kmsg.NewOffsetCommitKey()
	if err := k.ReadFrom(key); err != nil {
		return offsetID{}, nil, fmt.Errorf("%w: offset key: %w", errRecord, err)
	}
	id := offsetID{k.Group, k.Topic, k.Partition}
	if value == nil {
		return id, nil, nil
	}
	version, err := valueVersion(value, maxValueOffset)
	if err != nil {
		return id, nil, fmt.Errorf("%w: offset value: %w", errRecord, err)
	}
	v := kmsg.NewOffsetCommitValue()
	v.LeaderEpoch = int32(base.NoLeaderEpoch)
	v.ExpireTimestamp = base.NoTimestamp
	if err := v.ReadFrom(value); err != nil {
		return id, nil, fmt.Errorf("%w: offset value: %w", errRecord, err)
	}
	c := &committed{
		offset: base.Offset(v.Offset), leaderEpoch: base.LeaderEpoch(v.LeaderEpoch), metadata: v.Metadata,
		at: v.CommitTimestamp, expire: base.NoTimestamp, topicID: v.TopicID,
	}
	if version == valueOffsetExpires {
		c.expire = v.ExpireTimestamp
	}
	if version < 3 {
		c.leaderEpoch = base.NoLeaderEpoch
	}
	return id, c, nil
}

func (m *Machine) replayGroup(r coordinator.Record) error {
	k := kmsg.NewGroupMetadataKey()
	if err := k.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("%w: group key: %w", errRecord, err)
	}
	if r.Value == nil {
		if g := m.classic(k.Group); g != nil {
			m.dissolve(k.Group)
		}
		return nil
	}
	if _, err := valueVersion(r.Value, maxValueGroup); err != nil {
		return fmt.Errorf("%w: group value: %w", errRecord, err)
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(r.Value); err != nil {
		return fmt.Errorf("%w: group value: %w", errRecord, err)
	}
	g := m.classic(k.Group)
	if g == nil {
		if m.groups[k.Group] != nil {
			return fmt.Errorf("%w: group %s is not a classic group", errRecord, k.Group)
		}
		g = newClassicGroup(k.Group, v.CurrentStateTimestamp)
		m.found(k.Group, g)
	}
	for _, mb := range g.order {
		m.use(-mb.size())
	}
	g.restore(&v)
	for _, mb := range g.order {
		m.use(mb.size())
	}
	return nil
}

// Snapshot implements coordinator.Snapshotter.
func (m *Machine) Snapshot(emit func(key, value []byte)) {
	defer m.snapshotTxns(emit)
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		m.groups[id].snapshot(emit)
	}
	for _, id := range slices.Sorted(maps.Keys(m.offsets)) {
		for _, topic := range slices.Sorted(maps.Keys(m.offsets[id])) {
			for _, p := range slices.Sorted(maps.Keys(m.offsets[id][topic])) {
				c := m.offsets[id][topic][p]
				emit(offsetKey(id, topic, p), encodeOffset(&c))
			}
		}
		if m.groups[id] == nil {
			emit(groupKey(id), nil) // offsets that outlived their group, which no broker leaves behind
		}
	}
}

// valueVersion reads the version that a value begins with.
func valueVersion(b []byte, highest int16) (int16, error) {
	if len(b) < 2 {
		return 0, fmt.Errorf("%d bytes", len(b))
	}
	version := int16(binary.BigEndian.Uint16(b))
	if version < 0 || version > highest {
		return 0, fmt.Errorf("version %d, want 0 to %d", version, highest)
	}
	return version, nil
}

// restore sets the group's hard state to that of a record, and keeps the soft state of members that stay.
func (g *classicGroup) restore(v *kmsg.GroupMetadataValue) {
	former, sync := g.members, g.pendingSync
	g.members, g.static, g.offered, g.order, g.awaiting = map[string]*member{}, map[string]string{}, map[string]int{}, nil, 0
	g.pendingSync = map[string]struct{}{}

	g.recorded = true
	g.state, g.since = stable, v.CurrentStateTimestamp
	if len(v.Members) == 0 {
		g.state = empty
	}
	g.protocolType, g.generation, g.protocol = v.ProtocolType, v.Generation, v.Protocol
	for i := range v.Members {
		vm := &v.Members[i]
		mb := former[vm.MemberID]
		if mb == nil {
			mb = &member{id: vm.MemberID}
		}
		if _, ok := g.members[mb.id]; ok {
			continue // listed twice, which no broker writes
		}
		mb.instance, mb.clientID, mb.clientHost = vm.InstanceID, vm.ClientID, vm.ClientHost
		mb.sessionTimeout, mb.rebalanceTimeout = vm.SessionTimeoutMillis, vm.RebalanceTimeoutMillis
		if mb.rebalanceTimeout == -1 {
			mb.rebalanceTimeout = mb.sessionTimeout
		}
		if string(mb.assignment) != string(vm.Assignment) {
			mb.assignment = bytes.Clone(vm.Assignment)
		}
		if name := deref(v.Protocol); string(mb.metadata(name)) != string(vm.Subscription) || len(mb.protocols) == 0 {
			mb.protocols = []protocol{{name, bytes.Clone(vm.Subscription)}}
		}
		g.add(mb, mb.join)
		if _, ok := sync[mb.id]; ok {
			g.pendingSync[mb.id] = struct{}{}
		}
	}
	g.leader = deref(v.Leader)
	g.subscribed = g.subscriptions()
}

// drop removes an offset from the nested maps.
func (m *Machine) dropOffset(group, topic string, partition int32) {
	topics := m.offsets[group]
	c, ok := topics[topic][partition]
	if !ok {
		return
	}
	m.use(-c.size())
	delete(topics[topic], partition)
	if len(topics[topic]) == 0 {
		delete(topics, topic)
	}
	if len(topics) == 0 {
		delete(m.offsets, group)
	}
}

// setOffset sets an offset; a group that does not exist is one by that: one without members.
func (m *Machine) setOffset(id offsetID, c committed) {
	group, topic, partition := id.group, id.topic, id.partition
	if m.groups[group] == nil {
		m.found(group, newClassicGroup(group, base.NoTimestamp))
	}
	topics := m.offsets[group]
	if topics == nil {
		topics = map[string]map[int32]committed{}
		m.offsets[group] = topics
	}
	partitions := topics[topic]
	if partitions == nil {
		partitions = map[int32]committed{}
		topics[topic] = partitions
	}
	if old, ok := partitions[partition]; ok {
		m.use(-old.size())
	}
	partitions[partition] = c
	m.use(c.size())
}

// record writes down the group's hard state.
func (m *Machine) record(fx *coordinator.Effects, g *classicGroup) {
	fx.Append(groupKey(g.id), encodeGroup(g))
}
