package load

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumerMember speaks the protocol of KIP-848: it holds what the broker's last answer gave it, and says so in its next heartbeat.
type consumerMember struct {
	*member
	id    string
	epoch int32 // 0 = it joins with its next heartbeat
	held  []kmsg.ConsumerGroupHeartbeatRequestTopic
	// changed says that the broker does not know yet that the member holds what it was given.
	changed bool
}

// leavingEpoch is that of a member's last heartbeat.
const leavingEpoch = -1

func newConsumerMember(m *member) *consumerMember {
	return &consumerMember{member: m, id: newMemberID()}
}

// newMemberID is an id as Kafka's clients make them.
func newMemberID() string {
	var id [16]byte
	for i := range id {
		id[i] = byte(rand.Uint32())
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

func (m *consumerMember) step() error {
	req := m.request(m.epoch)
	if m.epoch == 0 {
		req.SubscribedTopicNames, req.RebalanceTimeoutMillis = []string{m.Topic}, int32(rebalanceTimeout.Milliseconds())
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	} else if m.changed {
		req.Topics = m.held
	}
	var resp kmsg.ConsumerGroupHeartbeatResponse
	if err := m.heartbeat(func() error { return m.ask(req, &resp) }); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	m.epoch, m.changed = resp.MemberEpoch, resp.Assignment != nil
	if !m.changed {
		return nil
	}
	m.held = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	n := 0
	for _, t := range resp.Assignment.Topics {
		topic := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		topic.TopicID, topic.Partitions = t.TopicID, t.Partitions
		m.held = append(m.held, topic)
		n += len(t.Partitions)
	}
	m.holds(m.member, n)
	return nil
}

func (m *consumerMember) request(epoch int32) *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = 1, m.Group, m.id, epoch, -1
	return req
}

func (m *consumerMember) leave() error {
	var resp kmsg.ConsumerGroupHeartbeatResponse
	if err := m.ask(m.request(leavingEpoch), &resp); err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}
