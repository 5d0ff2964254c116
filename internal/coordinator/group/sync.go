package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// SyncGroup handles SyncGroup v0–5: the leader brings the assignment, which is recorded; everybody else waits for it.
//
//   - v3 (KIP-345): group.instance.id. v5 (KIP-559): protocol type and name are required and checked.
func (m *Machine) SyncGroup(fx *coordinator.Effects, req *kmsg.SyncGroupRequest, call *syncCall) {
	if req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) {
		call.Answer(fx, refuseSync(kerr.InconsistentGroupProtocol))
		return
	}
	if req.Group == "" {
		call.Answer(fx, refuseSync(kerr.InvalidGroupID))
		return
	}
	if g := m.consumer(req.Group); g != nil {
		call.Answer(fx, m.syncConsumer(fx, g, req))
		return
	}
	g := m.classic(req.Group)
	if g == nil || g.state == empty {
		call.Answer(fx, refuseSync(kerr.UnknownMemberID))
		return
	}
	if err := g.validate(req.MemberID, req.InstanceID); err != nil {
		call.Answer(fx, refuseSync(err))
		return
	}
	mb := g.members[req.MemberID]
	switch {
	case req.Generation != g.generation:
		call.Answer(fx, refuseSync(kerr.IllegalGeneration))
	case differ(req.ProtocolType, ptr(g.protocolType)) || differ(req.Protocol, g.protocol):
		call.Answer(fx, refuseSync(kerr.InconsistentGroupProtocol))
	case g.state == preparing:
		call.Answer(fx, refuseSync(kerr.RebalanceInProgress))
	case g.state == stable:
		m.hasSynced(fx, g, mb)
		call.Answer(fx, g.synced(mb))
	default:
		mb.sync.Answer(fx, refuseSync(kerr.RebalanceInProgress)) // the client asked again
		mb.sync = call
		m.hasSynced(fx, g, mb)
		if g.leader == mb.id {
			m.assignAll(fx, g, req.GroupAssignment)
		}
	}
}

// hasSynced notes that a member has synced; the timer is over once all have.
func (m *Machine) hasSynced(fx *coordinator.Effects, g *classicGroup, mb *member) {
	delete(g.pendingSync, mb.id)
	if len(g.pendingSync) == 0 {
		fx.CancelTimer(syncTimer(g))
	}
}

// assignAll records the leader's assignment, which makes the group stable.
func (m *Machine) assignAll(fx *coordinator.Effects, g *classicGroup, assignments []kmsg.SyncGroupRequestGroupAssignment) {
	by := make(map[string][]byte, len(assignments))
	grown := int64(0)
	for _, a := range assignments {
		by[a.MemberID] = a.MemberAssignment
		grown += int64(len(a.MemberAssignment))
	}
	if m.env.Budget.full(grown) {
		m.revokeAssignments(fx, g, kerr.CoordinatorNotAvailable)
		m.prepareRebalance(fx, g, "no memory for the assignment")
		return
	}
	for _, mb := range g.order {
		m.assign(mb, by[mb.id])
	}
	g.enter(stable, fx.Now.UnixMilli())
	value := encodeGroup(g)
	if len(value) > m.env.Config.MaxRecordBytes {
		m.log("group's metadata is larger than a record may be", g.id, "bytes", len(value), "limit", m.env.Config.MaxRecordBytes)
		g.enter(completing, fx.Now.UnixMilli())
		m.revokeAssignments(fx, g, kerr.UnknownServerError)
		m.prepareRebalance(fx, g, "the assignment is too large to be recorded")
		return
	}
	fx.Append(groupKey(g.id), value)
	m.answerSyncs(fx, g, nil)
}

// synced is the answer to a member whose group is stable.
func (g *classicGroup) synced(mb *member) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	if g.protocolType != "" {
		resp.ProtocolType = ptr(g.protocolType)
	}
	resp.Protocol = g.protocol
	resp.MemberAssignment = mb.assignment
	return resp
}

func refuseSync(code *kerr.Error) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode = code.Code
	return resp
}

// differ reports whether two optional names are both there and not the same.
func differ(a, b *string) bool { return a != nil && b != nil && *a != *b }
