package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// joining is a JoinGroup request on its way through the machine.
type joining struct {
	*kmsg.JoinGroupRequest
	client    Client
	protocols []protocol
	call      *joinCall
}

// JoinGroup handles JoinGroup v0–9. The answer may come in a later event, when the join phase completes.
//
//   - v0 has no rebalance timeout: the session timeout stands for it.
//   - v4 (KIP-394): a new dynamic member gets MEMBER_ID_REQUIRED and its id, and joins again with it.
//   - v5 (KIP-345): static members by group.instance.id; a known one that comes back replaces its former self.
//   - v7 (KIP-559): protocol type and name in the answer. v8 (KIP-800): a reason, which is logged.
//   - v9: skipAssignment tells a static leader that came back that the assignment stands.
func (m *Machine) JoinGroup(fx *coordinator.Effects, client Client, req *kmsg.JoinGroupRequest, call *joinCall) {
	if req.Group == "" || len(req.Group) > maxName {
		call.Answer(fx, refuseJoin(req, req.MemberID, kerr.InvalidGroupID))
		return
	}
	c := &m.env.Config
	if t := millis(req.SessionTimeoutMillis); t < c.MinSessionTimeout || t > c.MaxSessionTimeout {
		call.Answer(fx, refuseJoin(req, req.MemberID, kerr.InvalidSessionTimeout))
		return
	}
	r := &joining{JoinGroupRequest: req, client: client, call: call}
	if req.Version < 1 {
		r.RebalanceTimeoutMillis = r.SessionTimeoutMillis
	}
	for _, p := range req.Protocols {
		r.protocols = append(r.protocols, protocol{p.Name, p.Metadata})
	}

	unknown := req.MemberID == ""
	g := m.classic(req.Group)
	switch other := m.groups[req.Group].(type) {
	case nil, *classicGroup:
	case *consumerGroup:
		if !other.isEmpty() {
			m.joinConsumer(fx, other, r)
			return
		}
		if unknown && !m.env.Budget.full(r.size()) {
			other.entomb(m, fx)
		}
	case *streamsGroup:
		if !other.isEmpty() {
			call.Answer(fx, refuseJoin(req, "", kerr.InconsistentGroupProtocol))
			return
		}
		if unknown && !m.env.Budget.full(r.size()) {
			other.entomb(m, fx)
		}
	default:
		call.Answer(fx, refuseJoin(req, "", kerr.InconsistentGroupProtocol))
		return
	}
	switch {
	case g == nil && !unknown:
		call.Answer(fx, refuseJoin(req, req.MemberID, kerr.UnknownMemberID))
		return
	case m.env.Budget.full(r.size()):
		call.Answer(fx, refuseJoin(req, req.MemberID, kerr.CoordinatorNotAvailable))
		return
	case g == nil:
		// A new group is recorded at once, whatever becomes of its first member.
		fx.Append(groupKey(req.Group), encodeGroup(newClassicGroup(req.Group, fx.Now.UnixMilli())))
		g = m.classic(req.Group)
	}
	switch {
	case !m.accepts(g, req.MemberID):
		m.remove(fx, g, req.MemberID)
		call.Answer(fx, refuseJoin(req, "", kerr.GroupMaxSizeReached))
	case unknown:
		m.joinNew(fx, g, r)
	default:
		m.joinKnown(fx, g, r)
	}
}

// size is about the memory that a new group with this one member takes.
func (r *joining) size() int64 {
	n := groupOverhead + memberOverhead + len(r.Group) + len(r.client.ID)
	for _, p := range r.protocols {
		n += protocolOverhead + len(p.name) + len(p.metadata)
	}
	return int64(n)
}

// accepts reports whether group.max.size leaves room for a member. While the group rebalances, the first to come are taken.
func (m *Machine) accepts(g *classicGroup, id string) bool {
	limit := m.env.Config.MaxSize
	mb := g.members[id]
	switch g.state {
	case empty:
		return true
	case preparing:
		return mb != nil && mb.join != nil || g.awaiting < limit
	default:
		return mb != nil || len(g.members) < limit
	}
}

// joinNew handles a client without a member id.
func (m *Machine) joinNew(fx *coordinator.Effects, g *classicGroup, r *joining) {
	if !g.supports(r.ProtocolType, r.protocols) {
		r.call.Answer(fx, refuseJoin(r.JoinGroupRequest, "", kerr.InconsistentGroupProtocol))
		return
	}
	if r.InstanceID != nil {
		id := *r.InstanceID + "-" + m.env.NewID()
		if known, ok := g.static[*r.InstanceID]; ok {
			m.replaceStatic(fx, g, r, g.members[known], id)
			return
		}
		m.join(fx, g, r, id)
		return
	}
	id := r.client.ID + "-" + m.env.NewID()
	if r.Version < 4 {
		m.join(fx, g, r, id)
		return
	}
	g.pending[id] = struct{}{}
	m.use(pendingOverhead)
	fx.SetTimer(sessionTimer(g, id), millis(r.SessionTimeoutMillis))
	r.call.Answer(fx, refuseJoin(r.JoinGroupRequest, id, kerr.MemberIDRequired))
}

// joinKnown handles a client that names its member id.
func (m *Machine) joinKnown(fx *coordinator.Effects, g *classicGroup, r *joining) {
	id := r.MemberID
	if !g.supports(r.ProtocolType, r.protocols) {
		r.call.Answer(fx, refuseJoin(r.JoinGroupRequest, id, kerr.InconsistentGroupProtocol))
		return
	}
	if _, ok := g.pending[id]; ok {
		if r.InstanceID != nil {
			// Ids are given out to dynamic members only. Kafka fails on this one.
			r.call.Answer(fx, refuseJoin(r.JoinGroupRequest, id, kerr.UnknownServerError))
			return
		}
		m.join(fx, g, r, id)
		return
	}
	if err := g.validate(id, r.InstanceID); err != nil {
		r.call.Answer(fx, refuseJoin(r.JoinGroupRequest, id, err))
		return
	}
	mb := g.members[id]
	same := mb.offers(r.protocols)
	switch {
	case g.state == preparing,
		g.state == completing && !same,
		g.state == stable && (!same || g.leader == id):
		// In stable the leader asks for a new assignment by joining again.
		m.rejoin(fx, g, r, mb)
	case g.state == completing:
		// The answer to the member's join was lost.
		r.call.Answer(fx, g.joined(r.Version, mb, g.leader == id))
	case g.state == stable:
		r.call.Answer(fx, g.joined(r.Version, mb, false))
	default:
		r.call.Answer(fx, refuseJoin(r.JoinGroupRequest, id, kerr.UnknownMemberID))
	}
}

// join adds a new member.
func (m *Machine) join(fx *coordinator.Effects, g *classicGroup, r *joining, id string) {
	if g.state == preparing && g.previous == empty {
		g.newMember = true
	}
	if len(g.members) == 0 {
		g.protocolType = r.ProtocolType
	}
	mb := &member{
		id: id, instance: r.InstanceID, clientID: r.client.ID, clientHost: r.client.Host,
		rebalanceTimeout: r.RebalanceTimeoutMillis, sessionTimeout: r.SessionTimeoutMillis,
		protocols: r.protocols, fresh: true,
	}
	m.add(g, mb, r.call)
	fx.SetTimer(sessionTimer(g, id), newMemberJoinTimeout)
	m.rebalanceOrComplete(fx, g, "a member joins", "member", id, "reason", text(r.Reason))
}

// rejoin takes a member's join into the join phase, which it starts where none is on.
func (m *Machine) rejoin(fx *coordinator.Effects, g *classicGroup, r *joining, mb *member) {
	if former := mb.join; former != nil && former != r.call {
		// The client asked again, on another connection say. Only the newest request is answered by the join phase.
		former.Answer(fx, refuseJoin(r.JoinGroupRequest, mb.id, kerr.RebalanceInProgress))
	}
	m.update(g, mb, r, r.call)
	m.rebalanceOrComplete(fx, g, "a member joins again", "member", mb.id, "reason", text(r.Reason))
}

// replaceStatic lets a static member that came back without its id take the place of its former self, under a new id. While the
// group is stable and its protocol stays, that does not rebalance it.
func (m *Machine) replaceStatic(fx *coordinator.Effects, g *classicGroup, r *joining, mb *member, id string) {
	former, formerLeader := mb.id, g.leader
	if mb.join != nil {
		mb.join.Answer(fx, refuseJoin(noJoin, former, kerr.FencedInstanceID))
		mb.join = nil
		g.awaiting--
	}
	if mb.sync != nil {
		mb.sync.Answer(fx, refuseSync(kerr.FencedInstanceID))
		mb.sync = nil
	}
	fx.CancelTimer(sessionTimer(g, former))
	m.use(-mb.size())
	g.rename(mb, id)
	m.use(mb.size())
	mb.fresh = false
	m.session(fx, g, mb)
	m.update(g, mb, r, r.call)
	switch g.state {
	case stable:
		if g.protocol == nil || g.choose() != *g.protocol {
			m.rebalanceOrComplete(fx, g, "a static member came back and changes the protocol", "member", id, "reason", text(r.Reason))
			return
		}
		m.record(fx, g)
		mb.join = nil
		g.awaiting--
		leads := g.leader == id
		resp := g.joined(r.Version, mb, leads && r.Version >= 9)
		if r.Version >= 9 {
			resp.SkipAssignment = leads
		} else {
			// Older clients cannot be told to skip the assignment, so a leader that came back must not learn that it leads.
			resp.LeaderID = formerLeader
		}
		r.call.Answer(fx, resp)
	case completing:
		m.prepareRebalance(fx, g, "a static member came back", "member", id, "reason", text(r.Reason))
	default:
		m.completeIfAllJoined(fx, g)
	}
}

// validate finds out whether a request comes from a member of the group.
func (g *classicGroup) validate(id string, instance *string) *kerr.Error {
	if instance != nil {
		switch known, ok := g.static[*instance]; {
		case !ok:
			return kerr.UnknownMemberID
		case known != id:
			return kerr.FencedInstanceID
		}
	}
	if g.members[id] == nil {
		return kerr.UnknownMemberID
	}
	return nil
}

// joined is the answer to a member whose join phase is complete; the leader learns of all members.
func (g *classicGroup) joined(version int16, mb *member, all bool) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = version
	resp.Generation = g.generation
	if g.protocolType != "" {
		resp.ProtocolType = ptr(g.protocolType)
	}
	resp.Protocol = g.protocol
	resp.LeaderID = g.leader
	resp.MemberID = mb.id
	if all {
		for _, o := range g.order {
			om := kmsg.NewJoinGroupResponseMember()
			om.MemberID, om.InstanceID, om.ProtocolMetadata = o.id, o.instance, o.metadata(deref(g.protocol))
			resp.Members = append(resp.Members, om)
		}
	}
	return resp
}

func refuseJoin(req *kmsg.JoinGroupRequest, id string, code *kerr.Error) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = req.Version
	resp.ErrorCode = code.Code
	resp.Generation = -1
	resp.MemberID = id
	return resp
}

// noJoin stands for the request of an answer whose version is set later.
var noJoin = &kmsg.JoinGroupRequest{}

func ptr[T any](v T) *T { return &v }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func text(reason *string) string {
	if reason == nil || *reason == "" {
		return "not provided"
	}
	return *reason
}
