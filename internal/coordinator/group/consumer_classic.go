package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// A consumer group may have members that speak the classic protocol, while an application is brought over from one to the other. They
// join and sync as ever, but nobody of them leads: the coordinator assigns. Their generation is their member epoch. When their target
// changes, a heartbeat tells them REBALANCE_IN_PROGRESS; they join again, saying what they still have, and have the rebalance timeout
// for it.

// joinConsumer handles JoinGroup for a consumer group.
func (m *Machine) joinConsumer(fx *coordinator.Effects, g *consumerGroup, r *joining) {
	refused := func(id string, code *kerr.Error) { r.call.Answer(fx, refuseJoin(r.JoinGroupRequest, id, code)) }
	id, unknown := r.MemberID, r.MemberID == ""
	if unknown {
		id = m.env.NewID()
	}
	switch {
	case m.env.Config.Migration == MigrationDisabled:
		refused("", kerr.InconsistentGroupProtocol)
		return
	case len(id) > maxName:
		refused("", kerr.UnknownMemberID)
		return
	case m.tooLarge(g, id) != nil:
		refused("", kerr.GroupMaxSizeReached)
		return
	case !g.supports(r.ProtocolType, r.protocols):
		refused("", kerr.InconsistentGroupProtocol)
		return
	case unknown && r.InstanceID == nil && r.Version >= 4:
		refused(id, kerr.MemberIDRequired)
		return
	}
	j, err := g.findClassic(id, r.InstanceID, unknown)
	if err != nil {
		refused("", err)
		return
	}
	s, ok := parseSubscription(r.protocols[0].metadata)
	if !ok {
		refused("", kerr.UnknownServerError)
		return
	}
	next := consumerMemberOf(j)
	next.clientID, next.clientHost, next.regex = r.client.ID, r.client.Host, ""
	next.topics = sortedNames(s.topics)
	next.rebalanceTimeout = r.RebalanceTimeoutMillis
	next.classic = &classicMetadata{sessionTimeout: r.SessionTimeoutMillis, protocols: r.protocols}
	if r.InstanceID != nil {
		next.instance = r.InstanceID
	}
	if s.rack != nil {
		next.rack = s.rack
	}
	if refusal := m.hasRoom(j, next); refusal != nil {
		refused("", refusal.Code)
		return
	}

	// The last member of the consumer protocol may be the one that this one replaces.
	downgrade := j.replaces != nil && m.mayDowngrade(g, []*consumerMember{j.replaces})
	changed := m.subscribeMember(fx, g, j, next)
	m.bump(fx, g, changed)
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = r.Version
	resp.ProtocolType, resp.Protocol = ptr(consumerProtocol), &r.protocols[0].name
	resp.MemberID = id
	owned := s.ownedOf(m.env.Topics.Image())
	if downgrade {
		behind := g.targetEpoch < g.epoch
		mb := g.members[id]
		if !behind {
			mb = m.reconcile(fx, g, id, changed, owned)
		}
		resp.Generation = mb.epoch
		if m.downgrade(fx, g, nil, behind) {
			r.call.Answer(fx, resp)
			return
		}
	}
	m.retarget(fx, g)
	mb := m.reconcile(fx, g, id, changed, owned)
	resp.Generation = mb.epoch
	fx.CancelTimer(classicJoinTimer(g, id))
	fx.SetTimer(classicSyncTimer(g, id), millis(mb.rebalanceTimeout))
	m.consumerSession(fx, g, mb)
	r.call.Answer(fx, resp)
}

// supports reports whether a member that offers protocols of the classic kind could be part of the group: one of them must be offered
// by all other members of that kind.
func (g *consumerGroup) supports(protocolType string, protocols []protocol) bool {
	if protocolType != consumerProtocol || len(protocols) == 0 {
		return false
	}
	return g.isEmpty() || slices.ContainsFunc(protocols, func(p protocol) bool { return g.classicProtocols[p.name] == g.classicMembers })
}

// findClassic finds out who joins in the classic protocol.
func (g *consumerGroup) findClassic(id string, instance *string, unknown bool) (joiner, *kerr.Error) {
	j := joiner{id: id, instance: instance}
	if instance == nil {
		j.former = g.members[id]
		return j, nil
	}
	there := g.members[g.static[*instance]]
	switch {
	case !unknown:
		if refused := g.checkInstance(there, id, *instance); refused != nil {
			return j, refused.Code
		}
		j.former = there
	case there != nil:
		j.replaces = there
	}
	return j, nil
}

// classicMember finds the member of the classic protocol that sent a request.
func (g *consumerGroup) classicMember(id string, instance *string) (*consumerMember, *kerr.Error) {
	mb := g.members[id]
	if instance != nil {
		mb = g.members[g.static[*instance]]
		if refused := g.checkInstance(mb, id, *instance); refused != nil {
			return nil, refused.Code
		}
	}
	if mb == nil || mb.classic == nil {
		return nil, kerr.UnknownMemberID
	}
	return mb, nil
}

// syncConsumer handles SyncGroup for a consumer group.
func (m *Machine) syncConsumer(fx *coordinator.Effects, g *consumerGroup, req *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	mb, err := g.classicMember(req.MemberID, req.InstanceID)
	switch {
	case err != nil:
		return refuseSync(err)
	case req.Generation != mb.epoch:
		return refuseSync(kerr.IllegalGeneration)
	case differ(req.ProtocolType, ptr(consumerProtocol)) || differ(req.Protocol, &mb.classic.protocols[0].name):
		return refuseSync(kerr.InconsistentGroupProtocol)
	case g.targetEpoch > mb.epoch && mb.state != unrevoked:
		fx.StartTimer(classicJoinTimer(g, mb.id), millis(mb.rebalanceTimeout))
		return refuseSync(kerr.RebalanceInProgress)
	}
	fx.CancelTimer(classicSyncTimer(g, mb.id))
	m.consumerSession(fx, g, mb)
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ProtocolType, resp.Protocol = req.ProtocolType, req.Protocol
	resp.MemberAssignment = mb.classic.assignment(m.env.Topics.Image(), mb.assigned)
	return resp
}

// assignment is what a member of the classic protocol is told of its assignment.
func (c *classicMetadata) assignment(image TopicImage, h holding) []byte {
	s, _ := parseSubscription(c.protocols[0].metadata)
	return appendAssignment(image, s.version, h.assignment())
}

// heartbeatConsumer handles Heartbeat for a consumer group.
func (m *Machine) heartbeatConsumer(fx *coordinator.Effects, g *consumerGroup, req *kmsg.HeartbeatRequest) *kerr.Error {
	mb, err := g.classicMember(req.MemberID, req.InstanceID)
	switch {
	case err != nil:
		return err
	case req.Generation != mb.epoch:
		return kerr.IllegalGeneration
	}
	m.consumerSession(fx, g, mb)
	if mb.epoch < g.targetEpoch || mb.state == unrevoked || mb.state == unreleased && !g.waits(mb) {
		fx.StartTimer(classicJoinTimer(g, mb.id), millis(mb.rebalanceTimeout))
		return kerr.RebalanceInProgress
	}
	return nil
}

// waits reports whether a partition of a member's target is still with another.
func (g *consumerGroup) waits(mb *consumerMember) bool {
	for _, t := range g.target[mb.id] {
		has := mb.assigned.of(t.Topic)
		for _, p := range t.Partitions {
			if _, ok := has.epoch(p); !ok && g.owned(t.Topic, p) {
				return true
			}
		}
	}
	return false
}

// leaveConsumer handles LeaveGroup for a consumer group: of members of both protocols, as an administrator may ask it for them. It
// returns a code for each.
func (m *Machine) leaveConsumer(fx *coordinator.Effects, g *consumerGroup, leaving []kmsg.LeaveGroupRequestMember) []*kerr.Error {
	codes := make([]*kerr.Error, len(leaving))
	var gone []*consumerMember
	for i, l := range leaving {
		mb := g.members[l.MemberID]
		if l.InstanceID != nil {
			mb = g.members[g.static[*l.InstanceID]]
			if mb != nil && l.MemberID != "" && mb.id != l.MemberID {
				codes[i] = kerr.FencedInstanceID
				continue
			}
		}
		if mb == nil {
			codes[i] = kerr.UnknownMemberID
			continue
		}
		if !slices.Contains(gone, mb) {
			gone = append(gone, mb)
		}
		m.log("a member leaves the group", g.id, "member", mb.id, "reason", text(l.Reason))
	}
	m.fence(fx, g, gone)
	return codes
}
