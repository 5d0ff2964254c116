package load

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Timeouts of members, as consumers have them unless they are configured.
const (
	sessionTimeout   = 45 * time.Second
	rebalanceTimeout = 5 * time.Minute
)

// The names of the classic protocol in which a leader deals partitions out.
var (
	classicType     = "consumer"
	classicAssignor = "range"
)

// classicMember speaks the classic protocol: it gives up what it holds before each rebalance.
type classicMember struct {
	*member
	id         string
	generation int32
	joined     bool
}

func (m *classicMember) step() error {
	if !m.joined {
		return m.join()
	}
	return m.beat()
}

// join joins the group and takes part in its rebalance. It has to be tried again while m.joined is false.
func (m *classicMember) join() error {
	m.holds(m.member, 0)
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = 9, m.Group, m.id, classicType
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(sessionTimeout.Milliseconds()), int32(rebalanceTimeout.Milliseconds())
	metadata := kmsg.NewConsumerMemberMetadata()
	metadata.Version, metadata.Topics = 1, []string{m.Topic}
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = classicAssignor, metadata.AppendTo(nil)
	req.Protocols = append(req.Protocols, protocol)
	var resp kmsg.JoinGroupResponse
	if err := m.ask(req, &resp); err != nil {
		return err
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case errors.Is(err, kerr.MemberIDRequired):
		m.id = resp.MemberID
		return nil
	case retryJoin(err):
		return nil
	case err != nil:
		return fmt.Errorf("join group: %w", err)
	}
	m.id, m.generation = resp.MemberID, resp.Generation
	return m.sync(&resp)
}

// retryJoin reports whether an error only says that another rebalance came between.
func retryJoin(err error) bool {
	return errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration)
}

// sync deals out, if the member is the leader, and takes what it gets.
func (m *classicMember) sync(joined *kmsg.JoinGroupResponse) error {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation, req.ProtocolType, req.Protocol = 5, m.Group, m.id, m.generation, &classicType, &classicAssignor
	if joined.LeaderID == m.id {
		req.GroupAssignment = m.assign(joined.Members)
	}
	var resp kmsg.SyncGroupResponse
	if err := m.ask(req, &resp); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); retryJoin(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("sync group: %w", err)
	}
	var assigned kmsg.ConsumerMemberAssignment
	if err := assigned.ReadFrom(resp.MemberAssignment); err != nil {
		return err
	}
	m.joined = true
	n := 0
	for _, t := range assigned.Topics {
		n += len(t.Partitions)
	}
	m.holds(m.member, n)
	return nil
}

// assign gives each member every n-th partition.
func (m *classicMember) assign(members []kmsg.JoinGroupResponseMember) []kmsg.SyncGroupRequestGroupAssignment {
	all := make([]kmsg.SyncGroupRequestGroupAssignment, len(members))
	for i, to := range members {
		topic := kmsg.NewConsumerMemberAssignmentTopic()
		topic.Topic = m.Topic
		for p := i; p < m.Partitions; p += len(members) {
			topic.Partitions = append(topic.Partitions, int32(p))
		}
		assignment := kmsg.NewConsumerMemberAssignment()
		assignment.Version, assignment.Topics = 1, append(assignment.Topics, topic)
		all[i] = kmsg.NewSyncGroupRequestGroupAssignment()
		all[i].MemberID, all[i].MemberAssignment = to.MemberID, assignment.AppendTo(nil)
	}
	return all
}

func (m *classicMember) beat() error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 4, m.Group, m.id, m.generation
	var resp kmsg.HeartbeatResponse
	if err := m.heartbeat(func() error { return m.ask(req, &resp) }); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); retryJoin(err) {
		m.joined = false
	} else if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return nil
}

func (m *classicMember) leave() error {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 5, m.Group
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = m.id
	req.Members = append(req.Members, one)
	var resp kmsg.LeaveGroupResponse
	if err := m.ask(req, &resp); err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}
