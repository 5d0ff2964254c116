package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// Heartbeat handles Heartbeat v0–4: a member is alive, and learns whether it has to join again.
func (m *Machine) Heartbeat(fx *coordinator.Effects, req *kmsg.HeartbeatRequest) *kmsg.HeartbeatResponse {
	resp := kmsg.NewPtrHeartbeatResponse()
	if g := m.consumer(req.Group); g != nil {
		if err := m.heartbeatConsumer(fx, g, req); err != nil {
			resp.ErrorCode = err.Code
		}
		return resp
	}
	g := m.classic(req.Group)
	switch {
	case req.Group == "":
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return resp
	case g == nil:
		resp.ErrorCode = kerr.UnknownMemberID.Code
		return resp
	}
	if err := g.validate(req.MemberID, req.InstanceID); err != nil {
		resp.ErrorCode = err.Code
		return resp
	}
	if req.Generation != g.generation {
		resp.ErrorCode = kerr.IllegalGeneration.Code
		return resp
	}
	m.session(fx, g, g.members[req.MemberID])
	if g.state == preparing {
		resp.ErrorCode = kerr.RebalanceInProgress.Code
	}
	return resp
}

// LeaveGroup handles LeaveGroup v0–5.
//
//   - v3 (KIP-345): several members at once, static ones by instance id alone. v5 (KIP-800): reasons.
func (m *Machine) LeaveGroup(fx *coordinator.Effects, req *kmsg.LeaveGroupRequest) *kmsg.LeaveGroupResponse {
	resp := kmsg.NewPtrLeaveGroupResponse()
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return resp
	}
	members := req.Members
	if req.Version < 3 {
		members = []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}}
	}
	var codes []*kerr.Error
	if g := m.consumer(req.Group); g != nil {
		codes = m.leaveConsumer(fx, g, members)
	}
	g := m.classic(req.Group)
	left := 0
	for i, leaving := range members {
		answer := kmsg.NewLeaveGroupResponseMember()
		answer.MemberID, answer.InstanceID = leaving.MemberID, leaving.InstanceID
		err := kerr.UnknownMemberID
		switch {
		case codes != nil:
			err = codes[i]
		case g != nil:
			err = m.leave(fx, g, leaving)
		}
		if err != nil {
			answer.ErrorCode = err.Code
		} else {
			left++
		}
		resp.Members = append(resp.Members, answer)
	}
	if codes == nil && left > 0 {
		switch g.state {
		case stable, completing:
			m.prepareRebalance(fx, g, "members left")
		case preparing:
			m.completeIfAllJoined(fx, g)
		}
	}
	if req.Version < 3 {
		resp.ErrorCode, resp.Members = resp.Members[0].ErrorCode, nil
	}
	return resp
}

// leave takes one member out of the group.
func (m *Machine) leave(fx *coordinator.Effects, g *classicGroup, leaving kmsg.LeaveGroupRequestMember) *kerr.Error {
	id := leaving.MemberID
	if id == "" {
		if leaving.InstanceID == nil {
			return kerr.UnknownMemberID
		}
		known, ok := g.static[*leaving.InstanceID]
		if !ok {
			return kerr.UnknownMemberID
		}
		id = known
	} else if _, ok := g.pending[id]; ok {
		m.remove(fx, g, id)
		return nil
	} else if err := g.validate(id, leaving.InstanceID); err != nil {
		return err
	}
	m.log("a member leaves the group", g.id, "member", id, "reason", text(leaving.Reason))
	m.expel(fx, g, g.members[id])
	return nil
}
