package group

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/plant"
)

// The state of a group's partitions is kept by the share coordinator, in another topic. So what concerns both goes in steps: the group
// records what is to be done, the share coordinator is asked to do it, and the group records that it was done. A crash in between leaves
// partitions that are initialized again with the next heartbeat, or deleted again with the next request.

func (m *Machine) recordShareState(fx *coordinator.Effects, g *shareGroup, s shareState) {
	fx.Append(shareStateKey(g.id), encodeShareState(&s))
}

// initializeShare returns the partitions that members subscribe to and that are not initialized, and records that they will be. Those that
// somebody was asked for not long ago are left to him.
func (m *Machine) initializeShare(fx *coordinator.Effects, g *shareGroup) []SharePartition {
	image := m.env.Topics.Image()
	retry := fx.Now.Add(-m.env.Config.ShareInitializeRetry).UnixMilli()
	wanted := shareTopics{}
	var partitions []SharePartition
	for _, name := range sortedKeys(g.subscribed) {
		t, ok := image.Topic(name)
		if !ok {
			continue
		}
		topic := shareTopic{name: name}
		for p := range t.Partitions {
			if g.state.initialized.has(t.ID, p) || g.state.initializing.has(t.ID, p) && g.state.initializing[t.ID].at > retry {
				continue
			}
			topic.partitions = append(topic.partitions, p)
			partitions = append(partitions, SharePartition{Topic: t.ID, Partition: p, StateEpoch: g.epoch, Start: base.NoOffset})
		}
		if len(topic.partitions) > 0 {
			wanted[t.ID] = topic
		}
	}
	if len(wanted) == 0 || !m.beginInitializing(fx, g, wanted) {
		return nil
	}
	return partitions
}

// beginInitializing records that partitions will be initialized. It reports false where that would be too long to be recorded.
func (m *Machine) beginInitializing(fx *coordinator.Effects, g *shareGroup, topics shareTopics) bool {
	s := g.state
	s.initializing = s.initializing.with(topics)
	s.deleting = maps.Clone(s.deleting)
	maps.DeleteFunc(s.deleting, func(id base.TopicID, _ string) bool { return len(topics[id].partitions) > 0 })
	if m.tooLong(g.id, encodeShareState(&s)) || m.env.Budget.full(s.size()-g.state.size()) {
		return false
	}
	m.recordShareState(fx, g, s)
	return true
}

// byTopic gathers partitions by topic.
func (g *shareGroup) byTopic(partitions []SharePartition) shareTopics {
	topics := shareTopics{}
	for _, p := range partitions {
		t := topics[p.Topic]
		t.partitions = append(t.partitions, p.Partition)
		topics[p.Topic] = t
	}
	return topics
}

// ShareInitialized is told that the share coordinator has initialized partitions, or, where it has failed, that it has not. What was deleted
// meanwhile stays so.
func (m *Machine) ShareInitialized(fx *coordinator.Effects, id string, partitions []SharePartition, done bool) {
	g := m.share(id)
	if g == nil {
		return
	}
	told := g.byTopic(partitions)
	s := g.state
	rest := s.initializing.without(told)
	if done || plant.On(plant.ShareUnkept) {
		s.initialized = s.initialized.with(s.initializing.without(rest))
	}
	if len(rest) != len(s.initializing) || s.initializing.size() != rest.size() {
		s.initializing = rest
		m.recordShareState(fx, g, s)
	}
}

// ShareTopic is a topic and partitions of it, as a share group consumes them.
type ShareTopic struct {
	Name       string
	ID         base.TopicID
	Partitions []int32
}

// ShareOffsetTopics are the partitions whose state is initialized, by topic; none where there is no such share group.
func (m *Machine) ShareOffsetTopics(id string) []ShareTopic {
	g := m.share(id)
	if g == nil {
		return nil
	}
	var topics []ShareTopic
	for _, id := range g.state.initialized.ids() {
		t := g.state.initialized[id]
		topics = append(topics, ShareTopic{t.name, id, t.partitions})
	}
	slices.SortFunc(topics, func(a, b ShareTopic) int { return strings.Compare(a.Name, b.Name) })
	return topics
}

// ShareChange is the outcome of the first step of a request that changes the state of a share group's partitions: a reason to refuse it,
// or what the share coordinator is to do, and the answer for each topic once that is done.
type ShareChange struct {
	Refused    *Refusal
	Partitions []SharePartition
	Altered    []kmsg.AlterShareGroupOffsetsResponseTopic
	Deleted    []kmsg.DeleteShareGroupOffsetsResponseTopic
}

// Kafka's texts.
const (
	noSuchPartition = "This server does not host this topic-partition."
	noShareOffsets  = "There is no offset information to delete."
	groupNotEmpty   = "The group is not empty."
)

// AlterShareOffsets handles AlterShareGroupOffsets v0 (KIP-932), its first step: a group without members begins anew at the given offsets.
// A group that does not exist is founded. ShareInitialized is the last step.
func (m *Machine) AlterShareOffsets(fx *coordinator.Effects, req *kmsg.AlterShareGroupOffsetsRequest) ShareChange {
	g := newShareGroup(req.GroupID)
	if m.groups[req.GroupID] != nil {
		var refused *Refusal
		if g, refused = as[*shareGroup](m, req.GroupID, "share"); refused != nil {
			return ShareChange{Refused: refused}
		}
	}
	if len(g.members) > 0 {
		return ShareChange{Refused: &Refusal{kerr.NonEmptyGroup, groupNotEmpty}}
	}
	image := m.env.Topics.Image()
	var c ShareChange
	wanted := shareTopics{}
	for _, t := range req.Topics {
		info, exists := image.Topic(t.Topic)
		answer := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		answer.Topic, answer.TopicID = t.Topic, info.ID
		topic := shareTopic{name: t.Topic}
		for _, p := range t.Partitions {
			ap := kmsg.NewAlterShareGroupOffsetsResponseTopicPartition()
			ap.Partition = p.Partition
			if !exists || p.Partition < 0 || p.Partition >= info.Partitions {
				ap.ErrorCode, ap.ErrorMessage = kerr.UnknownTopicOrPartition.Code, ptr(noSuchPartition)
			} else {
				topic.partitions = append(topic.partitions, p.Partition)
				c.Partitions = append(c.Partitions, SharePartition{info.ID, p.Partition, g.epoch, base.Offset(p.StartOffset)})
			}
			answer.Partitions = append(answer.Partitions, ap)
		}
		if len(topic.partitions) > 0 {
			wanted = wanted.with(shareTopics{info.ID: topic})
		}
		c.Altered = append(c.Altered, answer)
	}
	if m.groups[g.id] == nil {
		if m.env.Budget.full(groupOverhead) {
			return ShareChange{Refused: &Refusal{Code: kerr.CoordinatorNotAvailable}}
		}
		fx.Append(shareGroupKey(g.id), encodeGroupEpochHash(g.epoch, 0))
		g = m.share(g.id)
	}
	if len(wanted) > 0 && !m.beginInitializing(fx, g, wanted) {
		return ShareChange{Refused: &Refusal{Code: kerr.CoordinatorNotAvailable}}
	}
	return c
}

// DeleteShareOffsets handles DeleteShareGroupOffsets v0 (KIP-932), its first step: topics of a group without members. ShareDeleted is the
// last step.
func (m *Machine) DeleteShareOffsets(fx *coordinator.Effects, req *kmsg.DeleteShareGroupOffsetsRequest) ShareChange {
	g, refused := as[*shareGroup](m, req.GroupID, "share")
	switch {
	case refused != nil:
		return ShareChange{Refused: refused}
	case len(g.members) > 0:
		return ShareChange{Refused: &Refusal{kerr.NonEmptyGroup, groupNotEmpty}}
	}
	image := m.env.Topics.Image()
	var c ShareChange
	deleting := map[base.TopicID]string{}
	for _, t := range req.Topics {
		info, exists := image.Topic(t.Topic)
		answer := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
		answer.Topic = t.Topic
		partitions := g.stateOf(info)
		switch {
		case !exists:
			answer.ErrorCode, answer.ErrorMessage = kerr.UnknownTopicOrPartition.Code, ptr(noSuchPartition)
		case len(partitions) == 0:
			answer.ErrorCode, answer.ErrorMessage = kerr.UnknownTopicOrPartition.Code, ptr(noShareOffsets)
		default:
			answer.TopicID = info.ID
			deleting[info.ID] = t.Topic
			c.Partitions = append(c.Partitions, partitions...)
		}
		c.Deleted = append(c.Deleted, answer)
	}
	m.beginDeleting(fx, g, deleting)
	return c
}

// stateOf are the partitions of a topic of which the share coordinator may keep something.
func (g *shareGroup) stateOf(t TopicInfo) []SharePartition {
	_, deleting := g.state.deleting[t.ID]
	var partitions []SharePartition
	for p := range t.Partitions {
		if deleting || g.state.initialized.has(t.ID, p) || g.state.initializing.has(t.ID, p) {
			partitions = append(partitions, SharePartition{Topic: t.ID, Partition: p})
		}
	}
	return partitions
}

func (m *Machine) beginDeleting(fx *coordinator.Effects, g *shareGroup, topics map[base.TopicID]string) {
	s := shareState{initializing: maps.Clone(g.state.initializing), initialized: maps.Clone(g.state.initialized), deleting: maps.Clone(g.state.deleting)}
	for id, name := range topics {
		delete(s.initializing, id)
		delete(s.initialized, id)
		if s.deleting == nil {
			s.deleting = map[base.TopicID]string{}
		}
		s.deleting[id] = name
	}
	if len(topics) > 0 {
		m.recordShareState(fx, g, s)
	}
}

// ShareDeleted is told that the share coordinator has forgotten the partitions of topics.
func (m *Machine) ShareDeleted(fx *coordinator.Effects, id string, topics []base.TopicID) {
	g := m.share(id)
	if g == nil {
		return
	}
	s := g.state
	s.deleting = maps.Clone(s.deleting)
	for _, id := range topics {
		delete(s.deleting, id)
	}
	if len(s.deleting) < len(g.state.deleting) {
		m.recordShareState(fx, g, s)
	}
}

// beginDeletingShare is the first step of deleting a share group without members: it returns what the share coordinator has to forget
// before the group goes.
func (m *Machine) beginDeletingShare(fx *coordinator.Effects, g *shareGroup) []SharePartition {
	image := m.env.Topics.Image()
	topics := map[base.TopicID]string{}
	var partitions []SharePartition
	for _, of := range []shareTopics{g.state.initializing, g.state.initialized} {
		for id, t := range of {
			topics[id] = t.name
		}
	}
	maps.Copy(topics, g.state.deleting)
	for _, id := range sortedIDs(topics) {
		if info, ok := image.TopicByID(id); ok {
			partitions = append(partitions, g.stateOf(info)...)
		}
	}
	m.beginDeleting(fx, g, topics)
	return partitions
}
