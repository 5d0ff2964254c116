package group

import (
	"maps"
	"slices"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// CommitTopic is one topic of an offset commit, known by name and id.
type CommitTopic struct {
	Name       string
	ID         base.TopicID
	Partitions []kmsg.OffsetCommitRequestTopicPartition
}

// CommitOffsets handles OffsetCommit v2–10 for topics and partitions that exist. It returns the code of each partition, in order.
//
//   - A generation of -1 commits for a client that is no member, into a group without members: assign() consumers and admins.
//   - v2–4: an explicit retention time becomes an expiry in the record. v6 (KIP-320): leader epochs. v7 (KIP-345): instance ids.
//   - v9 (KIP-848): an unknown group is GROUP_ID_NOT_FOUND instead of ILLEGAL_GENERATION.
func (m *Machine) CommitOffsets(fx *coordinator.Effects, req *kmsg.OffsetCommitRequest, topics []CommitTopic) ([][]int16, *kerr.Error) {
	g := m.groups[req.Group]
	if err := m.validateCommit(g, req); err != nil {
		return nil, err
	}
	if g != nil && (g.state == stable || g.state == preparing) {
		m.session(fx, g, g.members[req.MemberID])
	}
	now := fx.Now.UnixMilli()
	codes := make([][]int16, len(topics))
	for i, t := range topics {
		codes[i] = make([]int16, len(t.Partitions))
		for j, p := range t.Partitions {
			c := committed{
				offset: base.Offset(p.Offset), leaderEpoch: base.LeaderEpoch(p.LeaderEpoch), metadata: deref(p.Metadata),
				at: now, expire: base.NoTimestamp, topicID: t.ID,
			}
			if req.Version < 6 {
				c.leaderEpoch = base.NoLeaderEpoch
			}
			if req.Version < 5 && req.RetentionTimeMillis != -1 {
				c.expire = now + req.RetentionTimeMillis
			}
			switch {
			case javaLength(c.metadata) > m.env.Config.OffsetMetadataMaxBytes:
				codes[i][j] = kerr.OffsetMetadataTooLarge.Code
			case m.env.Budget.full(c.size()):
				codes[i][j] = kerr.CoordinatorNotAvailable.Code
			default:
				fx.Append(offsetKey(req.Group, t.Name, p.Partition), encodeOffset(&c))
			}
		}
	}
	return codes, nil
}

// javaLength is java.lang.String.length: Kafka counts the metadata's size so.
func javaLength(s string) int {
	if len(s) == 0 {
		return 0
	}
	n := 0
	for _, c := range s {
		n += utf16.RuneLen(c)
	}
	return n
}

func (m *Machine) validateCommit(g *classicGroup, req *kmsg.OffsetCommitRequest) *kerr.Error {
	generation := req.Generation
	if g == nil {
		switch {
		case generation < 0:
			return nil
		case req.Version >= 9:
			return kerr.GroupIDNotFound
		default:
			return kerr.IllegalGeneration
		}
	}
	switch {
	case generation < 0 && g.state == empty:
		return nil
	case generation >= 0 || req.MemberID != "" || req.InstanceID != nil:
		if err := g.validate(req.MemberID, req.InstanceID); err != nil {
			return err
		}
		if generation != g.generation {
			return kerr.IllegalGeneration
		}
	default:
		return kerr.UnknownMemberID
	}
	if g.state == completing {
		return kerr.RebalanceInProgress
	}
	return nil
}

// FetchTopic asks for the offsets of some partitions of a topic, known by name and, where the topic exists, by id.
type FetchTopic struct {
	Name       string
	ID         base.TopicID
	Partitions []int32
}

// FetchedTopic holds offsets of one topic.
type FetchedTopic struct {
	Name       string
	Partitions []kmsg.OffsetFetchResponseGroupTopicPartition
}

// FetchOffsets handles one group of OffsetFetch v1–10: the offsets asked for, in order, -1 for those that are not there. An offset
// that was committed for a deleted topic of the same name is not there.
func (m *Machine) FetchOffsets(group string, topics []FetchTopic) []FetchedTopic {
	var have map[string]map[int32]committed
	if m.groups[group] != nil {
		have = m.offsets[group]
	}
	fetched := make([]FetchedTopic, len(topics))
	for i, t := range topics {
		fetched[i] = FetchedTopic{Name: t.Name, Partitions: make([]kmsg.OffsetFetchResponseGroupTopicPartition, len(t.Partitions))}
		for j, p := range t.Partitions {
			c, ok := have[t.Name][p]
			if ok && differentTopics(c.topicID, t.ID) {
				ok = false
			}
			fetched[i].Partitions[j] = fetchedOffset(p, c, ok)
		}
	}
	return fetched
}

// FetchAllOffsets handles one group of OffsetFetch v2–10 that names no topics: all offsets, by topic and partition.
func (m *Machine) FetchAllOffsets(group string) []FetchedTopic {
	if m.groups[group] == nil {
		return nil
	}
	var fetched []FetchedTopic
	have := m.offsets[group]
	for _, name := range slices.Sorted(maps.Keys(have)) {
		t := FetchedTopic{Name: name}
		id, _ := m.env.Topics.TopicID(name)
		for _, p := range slices.Sorted(maps.Keys(have[name])) {
			if c := have[name][p]; !differentTopics(c.topicID, id) {
				t.Partitions = append(t.Partitions, fetchedOffset(p, c, true))
			}
		}
		if len(t.Partitions) > 0 {
			fetched = append(fetched, t)
		}
	}
	return fetched
}

func fetchedOffset(partition int32, c committed, ok bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, -1, -1, ptr("")
	if ok {
		p.Offset, p.LeaderEpoch, p.Metadata = int64(c.offset), int32(c.leaderEpoch), ptr(c.metadata)
	}
	return p
}

// differentTopics reports whether two topics of one name are known not to be the same.
func differentTopics(a, b base.TopicID) bool { return !a.IsZero() && !b.IsZero() && a != b }

// DeleteTopic names partitions of a topic whose offsets are to be deleted.
type DeleteTopic struct {
	Name       string
	Partitions []int32
}

// DeleteOffsets handles OffsetDelete v0 for topics and partitions that exist (KIP-496). It returns the code of each topic's partitions.
func (m *Machine) DeleteOffsets(fx *coordinator.Effects, group string, topics []DeleteTopic) ([]int16, *kerr.Error) {
	g := m.groups[group]
	switch {
	case g == nil:
		return nil, kerr.GroupIDNotFound
	case g.state != empty && !g.consumers():
		return nil, kerr.NonEmptyGroup
	}
	codes := make([]int16, len(topics))
	for i, t := range topics {
		if g.subscribes(t.Name) {
			codes[i] = kerr.GroupSubscribedToTopic.Code
			continue
		}
		for _, p := range t.Partitions {
			if _, ok := m.offsets[group][t.Name][p]; ok {
				fx.Append(offsetKey(group, t.Name, p), nil)
			}
		}
	}
	return codes, nil
}
