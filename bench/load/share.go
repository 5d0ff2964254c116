package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/record"
)

// Share is a load of one share group (KIP-932) that reads all that a topic has. Its members accept every record that they get, and say so
// with their next fetch, as Kafka's share consumer does that acknowledges implicitly.
type Share struct {
	Partitions []Partition // of one topic
	Group      string      // a new one
	Members    int
	MaxRecords int // that a member gets at once, and the end of the last one's batch (max.poll.records)
}

// Shared is what a share group did.
type Shared struct {
	Records int64 // delivered and accepted, each once
	Bytes   int64 // of the batches that they came in
	// Took is from when every member knew its partitions until the last record was delivered.
	Took time.Duration
}

// MBps is in 10⁶ bytes per second.
func (s Shared) MBps() float64 { return float64(s.Bytes) / 1e6 / s.Took.Seconds() }

const (
	shareVersion = 2
	// shareAssignPause is between two heartbeats while a group's assignment is not there yet.
	shareAssignPause = 5 * time.Millisecond
)

// Epochs of share sessions.
const (
	firstShareEpoch = 0
	finalShareEpoch = -1
)

// ErrDeliveredTwice is of a share group whose members got more records than there are, though none was given back.
var ErrDeliveredTwice = errors.New("records were delivered more than once")

// sharing is a share group at work.
type sharing struct {
	Share
	all            int64 // records of the topic
	records, bytes atomic.Int64
	finished       chan struct{} // closed when all are delivered
}

// Run has the group read the topic from its beginning to its end. The first error ends it.
func (l Share) Run(ctx context.Context, addr string) (Shared, error) {
	if err := waitCoordinator(ctx, addr, groupCoordinator, l.Group); err != nil {
		return Shared{}, err
	}
	if err := Set(ctx, addr, Group(l.Group), map[string]string{"share.auto.offset.reset": "earliest", "share.assignment.interval.ms": "0"}); err != nil {
		return Shared{}, err
	}
	ends, err := EndOffsets(ctx, addr, l.Partitions)
	if err != nil {
		return Shared{}, err
	}
	g := &sharing{Share: l, finished: make(chan struct{})}
	for _, end := range ends {
		g.all += end
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	members := make([]*shareMember, l.Members)
	for i := range members {
		c, closeConn, err := open(ctx, addr)
		if err != nil {
			return Shared{}, err
		}
		defer closeConn()
		members[i] = &shareMember{sharing: g, client: c, id: newMemberID()}
	}
	if err := g.assign(ctx, members); err != nil {
		return Shared{}, errors.Join(context.Cause(ctx), err)
	}
	var wg sync.WaitGroup
	begin := time.Now()
	for i, m := range members {
		wg.Go(func() {
			if err := m.read(); err != nil {
				cancel(fmt.Errorf("member %d of %d: %w", i, l.Members, err))
			}
		})
	}
	select {
	case <-g.finished:
	case <-ctx.Done():
	}
	took := time.Since(begin)
	wg.Wait()
	if g.records.Load() > g.all {
		cancel(fmt.Errorf("%w: %d of %d", ErrDeliveredTwice, g.records.Load(), g.all))
	}
	return Shared{Records: g.records.Load(), Bytes: g.bytes.Load(), Took: took}, context.Cause(ctx)
}

// assign has all members join, and heartbeat until every one has partitions and each partition has a member.
func (g *sharing) assign(ctx context.Context, members []*shareMember) error {
	for {
		assigned, settled := map[int32]bool{}, true
		for _, m := range members {
			if err := m.heartbeat(); err != nil {
				return err
			}
			for _, p := range m.partitions {
				assigned[p] = true
			}
			settled = settled && len(m.partitions) > 0 && m.epoch == members[0].epoch
		}
		if settled && len(assigned) == len(g.Partitions) {
			return nil
		}
		select {
		case <-time.After(shareAssignPause):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d partitions were assigned", len(assigned), len(g.Partitions))
		}
	}
}

// shareMember is one member. It is used by one goroutine at a time.
type shareMember struct {
	*sharing
	*client
	id         string
	epoch      int32 // of the member; 0 = it joins with its next heartbeat
	due        time.Time
	topic      [16]byte
	partitions []int32

	fetches int32 // made, which is the epoch of the share session
	acks    []kmsg.ShareFetchRequestTopicPartition
}

func (m *shareMember) heartbeat() error {
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.Version, req.GroupID, req.MemberID, req.MemberEpoch = 1, m.Group, m.id, m.epoch
	if m.epoch == 0 {
		req.SubscribedTopicNames = []string{m.Partitions[0].Topic}
	}
	var resp kmsg.ShareGroupHeartbeatResponse
	if err := m.ask(req, &resp); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	m.epoch, m.due = resp.MemberEpoch, time.Now().Add(time.Duration(resp.HeartbeatIntervalMillis)*time.Millisecond)
	if resp.Assignment == nil {
		return nil
	}
	if m.fetches > 0 {
		return fmt.Errorf("%w: the assignment changes though no member joins or leaves", errAnswer)
	}
	m.partitions = nil
	for _, t := range resp.Assignment.TopicPartitions {
		m.topic, m.partitions = t.TopicID, append(m.partitions, t.Partitions...)
	}
	return nil
}

// read fetches until everything is delivered, and leaves.
func (m *shareMember) read() error {
	for {
		if err := m.fetch(); err != nil {
			return err
		}
		select {
		case <-m.finished:
			return m.leave()
		default:
		}
		if time.Now().After(m.due) {
			if err := m.heartbeat(); err != nil {
				return err
			}
		}
	}
}

// fetch acknowledges what the last one has brought and asks for more.
func (m *shareMember) fetch() error {
	req := kmsg.NewPtrShareFetchRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = shareVersion, &m.Group, &m.id, m.fetches
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(fetchMaxWait.Milliseconds()), 1, fetchMaxBytes
	req.MaxRecords, req.BatchSize = int32(m.MaxRecords), int32(m.MaxRecords)
	if m.fetches == firstShareEpoch {
		for _, p := range m.partitions {
			partition := kmsg.NewShareFetchRequestTopicPartition()
			partition.Partition = p
			m.acks = append(m.acks, partition)
		}
	}
	req.Topics = m.takeAcks()
	var resp kmsg.ShareFetchResponse
	if err := m.ask(req, &resp); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("share fetch: %w", err)
	}
	m.fetches++
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if err := m.take(&resp.Topics[i].Partitions[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeAcks is what the member has to say of its partitions.
func (m *shareMember) takeAcks() []kmsg.ShareFetchRequestTopic {
	if len(m.acks) == 0 {
		return nil
	}
	topic := kmsg.NewShareFetchRequestTopic()
	topic.TopicID, topic.Partitions = m.topic, m.acks
	m.acks = nil
	return []kmsg.ShareFetchRequestTopic{topic}
}

// take counts what a partition has brought, and accepts it.
func (m *shareMember) take(p *kmsg.ShareFetchResponseTopicPartition) error {
	if err := errors.Join(kerr.ErrorForCode(p.ErrorCode), kerr.ErrorForCode(p.AcknowledgeErrorCode)); err != nil {
		return fmt.Errorf("share fetch of partition %d: %w", p.Partition, err)
	}
	if len(p.AcquiredRecords) == 0 {
		return nil
	}
	for rest := p.Records; len(rest) > 0; {
		h, err := record.ParseHeader(rest)
		if err != nil || h.Size() > len(rest) {
			return errors.Join(errAnswer, err)
		}
		rest = rest[h.Size():]
	}
	m.bytes.Add(int64(len(p.Records)))
	ack, n := kmsg.NewShareFetchRequestTopicPartition(), int64(0)
	ack.Partition = p.Partition
	for _, a := range p.AcquiredRecords {
		batch := kmsg.NewShareFetchRequestTopicPartitionAcknowledgementBatch()
		batch.FirstOffset, batch.LastOffset, batch.AcknowledgeTypes = a.FirstOffset, a.LastOffset, []int8{accept}
		ack.AcknowledgementBatches = append(ack.AcknowledgementBatches, batch)
		n += a.LastOffset - a.FirstOffset + 1
	}
	m.acks = append(m.acks, ack)
	if now := m.records.Add(n); now >= m.all && now-n < m.all {
		close(m.finished)
	}
	return nil
}

// accept is what a member says of records that it has processed.
const accept = 1

// leave accepts what is left and ends the member's session and membership.
func (m *shareMember) leave() error {
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = shareVersion, &m.Group, &m.id, finalShareEpoch
	for _, t := range m.takeAcks() {
		topic := kmsg.NewShareAcknowledgeRequestTopic()
		topic.TopicID = t.TopicID
		for _, p := range t.Partitions {
			partition := kmsg.NewShareAcknowledgeRequestTopicPartition()
			partition.Partition = p.Partition
			for _, b := range p.AcknowledgementBatches {
				partition.AcknowledgementBatches = append(partition.AcknowledgementBatches, kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch(b))
			}
			topic.Partitions = append(topic.Partitions, partition)
		}
		req.Topics = append(req.Topics, topic)
	}
	var resp kmsg.ShareAcknowledgeResponse
	if err := m.ask(req, &resp); err != nil {
		return err
	}
	err := kerr.ErrorForCode(resp.ErrorCode)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	if err != nil {
		return fmt.Errorf("share acknowledge: %w", err)
	}
	m.epoch = leavingEpoch
	return m.heartbeat()
}
