package group

import (
	"maps"
	"slices"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/plant"
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
	if err := m.mayCommit(req, topics); err != nil {
		return nil, err
	}
	if g := m.classic(req.Group); g != nil && (g.state == stable || g.state == preparing) {
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

// mayCommit is the reason to refuse a commit as a whole.
func (m *Machine) mayCommit(req *kmsg.OffsetCommitRequest, topics []CommitTopic) *kerr.Error {
	return m.allowed(req.Group, committer{member: req.MemberID, instance: req.InstanceID, epoch: req.Generation, version: req.Version}, topics)
}

// allowed is the reason to refuse a commit, of a transaction or not, as a whole.
func (m *Machine) allowed(group string, by committer, topics []CommitTopic) *kerr.Error {
	g := m.groups[group]
	switch {
	case len(group) > maxName:
		return kerr.InvalidGroupID
	case g == nil && by.epoch < 0:
		return nil
	case g == nil && by.version >= 9:
		return kerr.GroupIDNotFound
	case g == nil:
		return kerr.IllegalGeneration
	}
	check, err := g.mayCommit(by)
	if err != nil || check == nil {
		return err
	}
	for _, t := range topics {
		for _, p := range t.Partitions {
			if err := check(t.Name, t.ID, p.Partition); err != nil {
				return err
			}
		}
	}
	return nil
}

// FetchTopic asks for the offsets of some partitions of a topic, known by name and, where the topic exists, by id.
type FetchTopic struct {
	Name       string
	ID         base.TopicID
	Partitions []int32
}

// Fetched is the outcome of fetching the offsets of a group: a code for the whole, or its topics.
type Fetched struct {
	Code   *kerr.Error
	Topics []FetchedTopic
}

// FetchedTopic holds offsets of one topic.
type FetchedTopic struct {
	Name       string
	Partitions []kmsg.OffsetFetchResponseGroupTopicPartition
}

// FetchOffsets handles one group of OffsetFetch v1–10: the offsets asked for, in order, -1 for those that are not there. An offset
// that was committed for a deleted topic of the same name is not there. v9 (KIP-848) says which member asks, and its epoch; -1: none.
// With stable set (v7, KIP-447) one that a transaction has pending is UNSTABLE_OFFSET_COMMIT.
func (m *Machine) FetchOffsets(group string, member *string, epoch int32, topics []FetchTopic, stable bool) Fetched {
	have, err := m.fetchable(group, member, epoch)
	if err != nil {
		return Fetched{Code: err}
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
			m.markUnstable(&fetched[i].Partitions[j], offsetID{group, t.Name, p}, stable)
		}
	}
	return Fetched{Topics: fetched}
}

// fetchable are the offsets of a group, none where it does not exist.
func (m *Machine) fetchable(group string, member *string, epoch int32) (map[string]map[int32]committed, *kerr.Error) {
	g := m.groups[group]
	if g == nil || member != nil && plant.On(plant.NothingForMembers) {
		return nil, nil
	}
	if err := g.mayFetch(fetcher{member: member, epoch: epoch}); err != nil {
		return nil, err
	}
	return m.offsets[group], nil
}

// FetchAllOffsets handles one group of OffsetFetch v2–10 that names no topics: all offsets, by topic and partition.
func (m *Machine) FetchAllOffsets(group string, member *string, epoch int32, stable bool) Fetched {
	have, err := m.fetchable(group, member, epoch)
	if err != nil {
		return Fetched{Code: err}
	}
	var fetched []FetchedTopic
	image := m.env.Topics.Image()
	for _, name := range slices.Sorted(maps.Keys(have)) {
		t := FetchedTopic{Name: name}
		id := topicID(image, name)
		for _, p := range slices.Sorted(maps.Keys(have[name])) {
			if c := have[name][p]; !differentTopics(c.topicID, id) {
				t.Partitions = append(t.Partitions, fetchedOffset(p, c, true))
				m.markUnstable(&t.Partitions[len(t.Partitions)-1], offsetID{group, name, p}, stable)
			}
		}
		if len(t.Partitions) > 0 {
			fetched = append(fetched, t)
		}
	}
	return Fetched{Topics: fetched}
}

// markUnstable makes the answer for one partition a refusal, where the client wants a stable offset and a transaction has one pending.
func (m *Machine) markUnstable(p *kmsg.OffsetFetchResponseGroupTopicPartition, id offsetID, stable bool) {
	if stable && m.unstable[id] > 0 {
		*p = fetchedOffset(p.Partition, committed{}, false)
		p.ErrorCode = kerr.UnstableOffsetCommit.Code
	}
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
	if g == nil {
		return nil, kerr.GroupIDNotFound
	}
	if err := g.mayDeleteOffsets(); err != nil {
		return nil, err
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
