package group

import (
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// ShareReport is the outcome of a member's heartbeat: the answer, and what the share coordinator is to initialize before the partitions can
// be assigned.
type ShareReport struct {
	Response   *kmsg.ShareGroupHeartbeatResponse
	Initialize []SharePartition
}

// SharePartition is a partition of a topic as a share group consumes it, and the state that it is to begin with.
type SharePartition struct {
	Topic      base.TopicID
	Partition  int32
	StateEpoch int32
	Start      base.Offset
}

// ShareGroupHeartbeat handles ShareGroupHeartbeat v1 (KIP-932): the one request of members of share groups. A member joins with epoch 0,
// reports with its epoch, and leaves with -1. Partitions are assigned to as many members as the assignor sees fit, so nobody waits for
// others to give them back: a member goes to its target with its next heartbeat.
func (m *Machine) ShareGroupHeartbeat(fx *coordinator.Effects, client Client, req *kmsg.ShareGroupHeartbeatRequest) ShareReport {
	refused := validateShareHeartbeat(req)
	var report ShareReport
	if refused == nil {
		if req.MemberEpoch == leaveEpoch {
			report.Response, refused = m.shareLeave(fx, req)
		} else {
			report, refused = m.shareReport(fx, client, req)
		}
	}
	if refused != nil {
		report.Response = kmsg.NewPtrShareGroupHeartbeatResponse()
		report.Response.ErrorCode = refused.Code.Code
		if refused.Text != "" {
			report.Response.ErrorMessage = &refused.Text
		}
	}
	return report
}

func validateShareHeartbeat(req *kmsg.ShareGroupHeartbeatRequest) *Refusal {
	invalid := func(text string) *Refusal { return &Refusal{kerr.InvalidRequest, text} }
	blank := func(s string) bool { return strings.TrimSpace(s) == "" }
	switch {
	case req.MemberID == "":
		return invalid("")
	case blank(req.MemberID):
		return invalid("MemberId can't be empty.")
	case blank(req.GroupID):
		return invalid("GroupId can't be empty.")
	case req.RackID != nil && blank(*req.RackID):
		return invalid("RackId can't be empty.")
	case max(len(req.GroupID), len(req.MemberID)) > maxName:
		return invalid("A name is too long.")
	case req.MemberEpoch == joinEpoch && len(req.SubscribedTopicNames) == 0:
		return invalid("SubscribedTopicNames must be set in first request.")
	case req.MemberEpoch < leaveEpoch:
		return invalid("MemberEpoch is invalid.")
	}
	return nil
}

// shareReport handles the heartbeat of a member that joins or is there. Everything that can be refused is refused before anything is
// recorded.
func (m *Machine) shareReport(fx *coordinator.Effects, client Client, req *kmsg.ShareGroupHeartbeatRequest) (ShareReport, *Refusal) {
	joins := req.MemberEpoch == joinEpoch
	g, refused := m.findShareGroup(req.GroupID, joins)
	if refused != nil {
		return ShareReport{}, refused
	}
	former := g.members[req.MemberID]
	if refused := m.mayReport(g, former, req); refused != nil {
		return ShareReport{}, refused
	}
	next := g.copyMember(req.MemberID)
	next.clientID, next.clientHost = client.ID, client.Host
	if req.RackID != nil {
		next.rack = req.RackID
	}
	if req.SubscribedTopicNames != nil {
		next.topics = distinct(req.SubscribedTopicNames)
	}
	if refused := m.hasRoomForShare(former, next); refused != nil {
		return ShareReport{}, refused
	}

	if m.groups[g.id] == nil {
		m.found(g.id, g)
	}
	changed := former == nil || !slices.Equal(sortedNames(former.topics), sortedNames(next.topics))
	if former == nil || !former.sameMetadata(next) {
		fx.Append(shareMemberKey(g.id, next.id), encodeShareMember(next))
	}
	m.bumpShare(fx, g, changed || g.targetEpoch >= g.epoch && g.pending())
	m.retargetShare(fx, g)
	before := next.assigned
	mb := m.reconcileShare(fx, g, req.MemberID)
	m.shareSession(fx, g, mb.id)
	report := ShareReport{Initialize: m.initializeShare(fx, g)}

	resp := kmsg.NewPtrShareGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &mb.id, mb.epoch
	resp.HeartbeatIntervalMillis = int32(m.nextShareReport(fx, g).Milliseconds())
	if joins || req.SubscribedTopicNames != nil || !mb.assigned.Equal(before) {
		resp.Assignment = shownShareAssignment(mb.assigned)
	}
	report.Response = resp
	return report, nil
}

// findShareGroup returns the group of that name; for one that joins a new group where there is none yet.
func (m *Machine) findShareGroup(id string, joins bool) (*shareGroup, *Refusal) {
	switch found := m.groups[id].(type) {
	case *shareGroup:
		return found, nil
	case nil:
		if joins {
			return newShareGroup(id), nil
		}
		return nil, refuse(kerr.GroupIDNotFound, "Share group %s not found.", id)
	default:
		return nil, refuse(kerr.GroupIDNotFound, "Group %s is not a share group.", id)
	}
}

// mayReport finds out whether a heartbeat comes from a member, or from one that may become one. The epoch before is good too: the answer
// that told of the newer one was lost.
func (m *Machine) mayReport(g *shareGroup, former *shareMember, req *kmsg.ShareGroupHeartbeatRequest) *Refusal {
	limit := m.env.Config.ShareMaxSize
	switch {
	case former == nil && len(g.members) >= limit:
		return refuse(kerr.GroupMaxSizeReached, "The share group has reached its maximum capacity of %d members.", limit)
	case req.MemberEpoch == joinEpoch:
		return nil
	case former == nil:
		return noMember(g.id, req.MemberID)
	case req.MemberEpoch > former.epoch:
		return refuse(kerr.FencedMemberEpoch, "The share group member has a greater member epoch (%d) than the one known by the group coordinator (%d). "+
			"The member must abandon all its partitions and rejoin.", req.MemberEpoch, former.epoch)
	case req.MemberEpoch < former.epoch && req.MemberEpoch != former.previous:
		return refuse(kerr.FencedMemberEpoch, "The share group member has a smaller member epoch (%d) than the one known by the group coordinator (%d), "+
			"and it does not match the previous member epoch (%d). The member must abandon all its partitions and rejoin.",
			req.MemberEpoch, former.epoch, former.previous)
	}
	return nil
}

// hasRoomForShare reports whether a member can be taken in: whether there is memory for it, and whether it can be recorded.
func (m *Machine) hasRoomForShare(former, next *shareMember) *Refusal {
	grown := groupOverhead + next.size()
	if former != nil {
		grown = next.size() - former.size()
	}
	switch {
	case grown > 0 && m.env.Budget.full(grown):
		return refuse(kerr.CoordinatorNotAvailable, "The group coordinator has no memory for the member.")
	case next.size() > int64(m.env.Config.MaxRecordBytes)/2 && m.tooLong(next.id, encodeShareMember(next)):
		return refuse(kerr.UnknownServerError, "The member's subscription is too long to be recorded.")
	}
	return nil
}

// bumpShare raises the group's epoch where its members' subscriptions, the topics or what can be assigned changed.
func (m *Machine) bumpShare(fx *coordinator.Effects, g *shareGroup, changed bool) {
	image := m.env.Topics.Image()
	if !changed && g.checked == image.Version() {
		return
	}
	g.checked = image.Version()
	hash := topicsHash(image, sortedKeys(g.subscribed))
	if changed || hash != g.hash {
		fx.Append(shareGroupKey(g.id), encodeGroupEpochHash(g.epoch+1, hash))
		m.log("group has a new epoch", g.id, "epoch", g.epoch, "members", len(g.members))
	}
}

// retargetShare computes a new assignment where the group's epoch is ahead of it, but not more often than the group's settings say.
func (m *Machine) retargetShare(fx *coordinator.Effects, g *shareGroup) {
	if g.targetEpoch >= g.epoch || m.shareTargetDue(fx, g) > 0 {
		return
	}
	spec, topics := g.spec(m.env.Topics.Image())
	targets := assignor.Simple(spec, topics)
	if slices.ContainsFunc(targets, func(a assignor.Assignment) bool { return m.tooLong(g.id, encodeTarget(a)) }) {
		return
	}
	for i, a := range targets {
		id := spec.Members[i].ID
		if old, ok := g.target[id]; !ok || !old.Equal(a) {
			fx.Append(shareTargetKey(g.id, id), encodeTarget(a))
		}
	}
	fx.Append(shareTargetMetadataKey(g.id), encodeTargetMetadata(g.epoch, fx.Now.UnixMilli()))
	m.log("group has a new target assignment", g.id, "epoch", g.epoch, "members", len(g.members))
}

// shareTargetDue is how long the next target assignment has to wait. One that gives nobody anything, as the first one of a group does,
// need not last.
func (m *Machine) shareTargetDue(fx *coordinator.Effects, g *shareGroup) time.Duration {
	given := false
	for _, a := range g.target {
		given = given || len(a) > 0
	}
	if !given || g.targetAt == 0 {
		return 0
	}
	return time.UnixMilli(g.targetAt).Add(m.env.ShareSettings(g.id).AssignmentInterval).Sub(fx.Now)
}

// spec is the group as the assignor sees it: the partitions that can be assigned are those whose state is initialized.
func (g *shareGroup) spec(image TopicImage) (*assignor.Group, []assignor.SharedTopic) {
	spec := &assignor.Group{Alike: g.alike()}
	var topics []assignor.SharedTopic
	index := map[string]int{}
	for _, name := range sortedKeys(g.subscribed) {
		if t, ok := image.Topic(name); ok {
			index[name] = len(topics)
			shared := assignor.SharedTopic{ID: t.ID}
			for _, p := range g.state.initialized[t.ID].partitions {
				if p < t.Partitions {
					shared.Partitions = append(shared.Partitions, p)
				}
			}
			topics = append(topics, shared)
		}
	}
	for _, id := range sortedKeys(g.members) {
		mb := assignor.Member{ID: id, Assigned: g.target[id]}
		for _, name := range g.members[id].topics {
			if n, ok := index[name]; ok {
				mb.Topics = append(mb.Topics, n)
			}
		}
		spec.Members = append(spec.Members, mb)
	}
	return spec, topics
}

// reconcileShare brings a member to its target. What it does not subscribe to any more it loses even before that is computed.
func (m *Machine) reconcileShare(fx *coordinator.Effects, g *shareGroup, id string) *shareMember {
	mb := g.members[id]
	image := m.env.Topics.Image()
	var assigned assignor.Assignment
	for _, t := range g.target[id] {
		if info, ok := image.TopicByID(t.Topic); ok && slices.Contains(mb.topics, info.Name) {
			assigned = append(assigned, t)
		}
	}
	if mb.epoch == g.targetEpoch && mb.assigned.Equal(assigned) {
		return mb
	}
	next := g.copyMember(id)
	next.assigned = assigned
	if next.epoch != g.targetEpoch {
		next.previous, next.epoch = max(next.epoch, 0), g.targetEpoch
	}
	fx.Append(shareCurrentKey(g.id, id), encodeShareCurrent(next))
	return g.members[id]
}

// nextShareReport is how long a member may take until its next heartbeat: less than its interval while something is yet to be assigned.
func (m *Machine) nextShareReport(fx *coordinator.Effects, g *shareGroup) time.Duration {
	interval := m.env.ShareSettings(g.id).HeartbeatInterval
	switch {
	case g.targetEpoch < g.epoch:
		return min(max(m.shareTargetDue(fx, g), soonestReport), interval)
	case len(g.state.initializing) > 0:
		return min(soonestReport, interval)
	default:
		return interval
	}
}

// shareSession gives a member another session timeout to be heard of.
func (m *Machine) shareSession(fx *coordinator.Effects, g *shareGroup, member string) {
	fx.SetTimer(shareSessionTimer(g, member), m.env.ShareSettings(g.id).SessionTimeout)
}

// shareLeave handles the heartbeat of a member that leaves.
func (m *Machine) shareLeave(fx *coordinator.Effects, req *kmsg.ShareGroupHeartbeatRequest) (*kmsg.ShareGroupHeartbeatResponse, *Refusal) {
	g, refused := as[*shareGroup](m, req.GroupID, "share")
	if refused != nil {
		return nil, refused
	}
	if g.members[req.MemberID] == nil {
		return nil, noMember(g.id, req.MemberID)
	}
	m.log("a member leaves the group", g.id, "member", req.MemberID)
	m.removeShareMember(fx, g, req.MemberID)
	resp := kmsg.NewPtrShareGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &req.MemberID, req.MemberEpoch
	return resp, nil
}

// removeShareMember takes a member out of the group.
func (m *Machine) removeShareMember(fx *coordinator.Effects, g *shareGroup, id string) {
	fx.CancelTimer(shareSessionTimer(g, id))
	fx.Append(shareCurrentKey(g.id, id), nil)
	fx.Append(shareTargetKey(g.id, id), nil)
	fx.Append(shareMemberKey(g.id, id), nil)
	m.bumpShare(fx, g, true)
	if listener := m.env.ShareListener; listener != nil {
		group, empty := g.id, len(g.members) == 0
		fx.After(func() {
			listener.MemberLeft(group, id)
			if empty {
				listener.GroupEmpty(group)
			}
		})
	}
}

func shownShareAssignment(a assignor.Assignment) *kmsg.ShareGroupHeartbeatResponseAssignment {
	shown := kmsg.NewShareGroupHeartbeatResponseAssignment()
	for _, t := range a {
		tp := kmsg.NewShareGroupHeartbeatResponseAssignmentTopicPartition()
		tp.TopicID, tp.Partitions = t.Topic, t.Partitions
		shown.TopicPartitions = append(shown.TopicPartitions, tp)
	}
	return &shown
}
