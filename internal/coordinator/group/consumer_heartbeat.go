package group

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
	"github.com/ottlaio/ottla/internal/plant"
)

// maxName is the longest name that a record's key can hold.
const maxName = 1<<15 - 1

// ConsumerGroupHeartbeat handles ConsumerGroupHeartbeat v0–1 (KIP-848): the one request of the consumer protocol. A member joins with
// epoch 0, reports with its epoch, leaves with -1, or, a static one that comes back, with -2. What did not change since the last
// heartbeat is left out on both sides.
//
//   - v1: a pattern (RE2) instead of names, matched here; the member id is the client's own.
func (m *Machine) ConsumerGroupHeartbeat(fx *coordinator.Effects, client Client, req *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	refused := m.validateHeartbeat(req)
	var resp *kmsg.ConsumerGroupHeartbeatResponse
	if refused == nil {
		if req.MemberEpoch < joinEpoch {
			resp, refused = m.consumerLeave(fx, req)
		} else {
			resp, refused = m.consumerReport(fx, client, req)
		}
	}
	if refused != nil {
		resp = kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.ErrorCode = refused.Code.Code
		if refused.Text != "" {
			resp.ErrorMessage = &refused.Text
		}
	}
	return resp
}

// validateHeartbeat checks a request by itself.
func (m *Machine) validateHeartbeat(req *kmsg.ConsumerGroupHeartbeatRequest) *Refusal {
	blank := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	invalid := func(text string) *Refusal { return &Refusal{kerr.InvalidRequest, text} }
	switch {
	case (req.Version >= 1 || req.MemberEpoch > joinEpoch || req.MemberEpoch == leaveEpoch) && blank(&req.MemberID):
		return invalid("MemberId can't be empty.")
	case blank(&req.Group):
		return invalid("GroupId can't be empty.")
	case blank(req.InstanceID):
		return invalid("InstanceId can't be empty.")
	case blank(req.RackID):
		return invalid("RackId can't be empty.")
	case max(len(req.Group), len(req.MemberID), len(deref(req.SubscribedTopicRegex))) > maxName:
		return invalid("A name is too long.")
	}
	switch {
	case req.MemberEpoch == joinEpoch && req.RebalanceTimeoutMillis == -1:
		return invalid("RebalanceTimeoutMs must be provided in first request.")
	case req.MemberEpoch == joinEpoch && (req.Topics == nil || len(req.Topics) > 0):
		return invalid("TopicPartitions must be empty when (re-)joining.")
	case req.MemberEpoch == joinEpoch && req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
		return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	case req.MemberEpoch == leaveStaticEpoch && req.InstanceID == nil:
		return invalid("InstanceId can't be null.")
	case req.MemberEpoch < leaveStaticEpoch:
		return invalid("MemberEpoch is invalid.")
	}
	if known := m.env.Config.Assignors; req.ServerAssignor != nil && !slices.Contains(known, *req.ServerAssignor) {
		return refuse(kerr.UnsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.", *req.ServerAssignor, strings.Join(known, ", "))
	}
	return nil
}

// joiner is who sends a request to a consumer group, in either protocol, and what was found of it there.
type joiner struct {
	id       string
	instance *string
	former   *consumerMember // with this id; nil: it is new
	replaces *consumerMember // static member with another id, whose place it takes
}

// consumerReport handles the heartbeat of a member that joins or is there. Everything that can be refused is refused before anything
// is recorded.
func (m *Machine) consumerReport(fx *coordinator.Effects, client Client, req *kmsg.ConsumerGroupHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, *Refusal) {
	joins := req.MemberEpoch == joinEpoch
	g, upgrade, refused := m.findConsumerGroup(req.Group, joins)
	if refused != nil {
		return nil, refused
	}
	j, refused := m.findMember(g, req, joins)
	if refused != nil {
		return nil, refused
	}
	next := consumerMemberOf(j)
	next.update(client, req)
	if next.regex != "" && g.regexMembers[next.regex] == 0 {
		if _, err := compileRegex(next.regex); err != nil {
			return nil, invalidRegex(next.regex, err)
		}
	}
	if refused := m.hasRoom(j, next); refused != nil {
		return nil, refused
	}

	if upgrade != nil {
		m.upgrade(fx, upgrade, g)
	} else if old := m.classic(req.Group); old != nil {
		old.entomb(m, fx) // without members
	}
	if found := m.consumer(req.Group); found != nil {
		g = found
	} else {
		m.found(req.Group, g)
	}
	changed := m.subscribeMember(fx, g, j, next)
	m.bump(fx, g, changed)
	m.retarget(fx, g)
	before := g.members[j.id].assigned
	mb := m.reconcile(fx, g, j.id, changed, ownedPartitions(req.Topics))
	m.consumerSession(fx, g, mb)

	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &mb.id, mb.epoch
	resp.HeartbeatIntervalMillis = int32(m.nextReport(fx, g, mb).Milliseconds())
	full := req.RebalanceTimeoutMillis != -1 && (req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil) && req.Topics != nil
	if joins || full || !mb.assigned.equal(before) {
		resp.Assignment = shownAssignment(mb.assigned)
	}
	return resp, nil
}

// A member that waits for something is asked to report again sooner than consumer.heartbeat.interval.ms.
const (
	soonestReport = 100 * time.Millisecond // when the next target assignment can be computed, but not sooner than this
	waitingReport = time.Second            // while others have its partitions
)

// nextReport is how long a member may take until its next heartbeat.
func (m *Machine) nextReport(fx *coordinator.Effects, g *consumerGroup, mb *consumerMember) time.Duration {
	settings := m.settings(g.id)
	switch {
	case g.targetEpoch < g.epoch:
		due := time.UnixMilli(g.targetAt).Add(settings.AssignmentInterval).Sub(fx.Now)
		return min(max(due, soonestReport), settings.HeartbeatInterval)
	case mb.state == unreleased:
		return min(waitingReport, settings.HeartbeatInterval)
	default:
		return settings.HeartbeatInterval
	}
}

// findConsumerGroup returns the group of that name; for one that joins a new group where there is none yet or one without members, and
// for a classic group that can be upgraded what it will be, together with what it is.
func (m *Machine) findConsumerGroup(id string, joins bool) (g *consumerGroup, upgrade *classicGroup, refused *Refusal) {
	switch found := m.groups[id].(type) {
	case *consumerGroup:
		return found, nil, nil
	case nil:
		if !joins {
			return nil, nil, refuse(kerr.GroupIDNotFound, "Consumer group %s not found.", id)
		}
		return newConsumerGroup(id), nil, nil
	case *classicGroup:
		switch {
		case !joins:
		case found.isEmpty():
			return newConsumerGroup(id), nil, nil
		default:
			g, refused := m.upgraded(found)
			return g, found, refused
		}
	}
	return nil, nil, refuse(kerr.GroupIDNotFound, "Group %s is not a consumer group.", id)
}

// findMember finds out whether a heartbeat comes from a member, or from one that may become one.
func (m *Machine) findMember(g *consumerGroup, req *kmsg.ConsumerGroupHeartbeatRequest, joins bool) (joiner, *Refusal) {
	j := joiner{id: req.MemberID, instance: req.InstanceID}
	if refused := m.tooLarge(g, j.id); refused != nil {
		return j, refused
	}
	if j.id == "" {
		j.id = m.env.NewID()
	}
	if j.instance == nil {
		if j.former = g.members[j.id]; j.former == nil && !joins {
			return j, noMember(g.id, j.id)
		}
		return j, j.former.checkEpoch(req)
	}
	there := g.members[g.static[*j.instance]]
	if joins {
		switch {
		case there == nil:
			j.former = g.members[j.id]
		case there.classic == nil && there.epoch != leaveStaticEpoch:
			return j, refuse(kerr.UnreleasedInstanceID, "Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.",
				j.id, *j.instance, there.id)
		default:
			j.replaces = there
		}
		return j, nil
	}
	if there != nil && plant.On(plant.StaticUnfenced) {
		j.id = there.id
	}
	if refused := g.checkInstance(there, j.id, *j.instance); refused != nil {
		return j, refused
	}
	j.former = there
	return j, there.checkEpoch(req)
}

func (m *Machine) tooLarge(g *consumerGroup, id string) *Refusal {
	if limit := m.env.Config.ConsumerMaxSize; len(g.members) >= limit && g.members[id] == nil {
		return refuse(kerr.GroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", limit)
	}
	return nil
}

// checkInstance holds a member that names its instance id to be the one that has it.
func (g *consumerGroup) checkInstance(there *consumerMember, id, instance string) *Refusal {
	switch {
	case there == nil:
		return refuse(kerr.UnknownMemberID, "Instance id %s is unknown.", instance)
	case there.id != id:
		return refuse(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", id, instance, there.id)
	}
	return nil
}

// checkEpoch fences a member whose epoch is not its own. The epoch before is good while the member does not have more than it was given:
// the answer that told it of the newer one was lost.
func (m *consumerMember) checkEpoch(req *kmsg.ConsumerGroupHeartbeatRequest) *Refusal {
	const text = "The consumer group member has a %s member epoch (%d) than the one known by the group coordinator (%d). " +
		"The member must abandon all its partitions and rejoin."
	switch {
	case m == nil || req.MemberEpoch == joinEpoch:
	case req.MemberEpoch > m.epoch:
		return refuse(kerr.FencedMemberEpoch, text, "greater", req.MemberEpoch, m.epoch)
	case req.MemberEpoch < m.epoch && (req.MemberEpoch != m.previous || req.Topics == nil || !m.assigned.covers(req.Topics)):
		return refuse(kerr.FencedMemberEpoch, text, "smaller", req.MemberEpoch, m.epoch)
	case m.state == unknownMember && (req.Topics == nil || len(req.Topics) > 0):
		return refuse(kerr.FencedMemberEpoch, "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.")
	}
	return nil
}

func (h holding) covers(topics []kmsg.ConsumerGroupHeartbeatRequestTopic) bool {
	for _, t := range topics {
		has := h.of(t.TopicID)
		for _, p := range t.Partitions {
			if _, ok := has.epoch(p); !ok {
				return false
			}
		}
	}
	return true
}

// consumerMemberOf is a copy of what a joiner was before, for what it is next.
func consumerMemberOf(j joiner) *consumerMember {
	next := newConsumerMember(j.id)
	switch {
	case j.former != nil:
		*next = *j.former
	case j.replaces != nil:
		*next = *j.replaces
		next.id, next.epoch, next.previous = j.id, 0, 0
	}
	return next
}

// update takes over what a heartbeat says of a member.
func (m *consumerMember) update(client Client, req *kmsg.ConsumerGroupHeartbeatRequest) {
	m.clientID, m.clientHost, m.classic = client.ID, client.Host, nil
	if req.InstanceID != nil {
		m.instance = req.InstanceID
	}
	if req.RackID != nil {
		m.rack = req.RackID
	}
	if req.RebalanceTimeoutMillis != -1 {
		m.rebalanceTimeout = req.RebalanceTimeoutMillis
	}
	if req.ServerAssignor != nil {
		m.assignor = req.ServerAssignor
	}
	if req.SubscribedTopicNames != nil {
		m.topics = sortedNames(req.SubscribedTopicNames)
	}
	if req.SubscribedTopicRegex != nil {
		m.regex = *req.SubscribedTopicRegex
	}
}

func sortedNames(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// subscribeMember records what is new of a member, and what its pattern matches. It reports whether the member's subscription changed.
func (m *Machine) subscribeMember(fx *coordinator.Effects, g *consumerGroup, j joiner, next *consumerMember) (changed bool) {
	before := newConsumerMember(j.id)
	switch {
	case j.former != nil:
		before = g.members[j.id]
	case j.replaces != nil:
		before = g.members[j.replaces.id]
		m.replaceMember(fx, g, before, next)
	}
	changed = !slices.Equal(before.topics, next.topics) || before.regex != next.regex
	if g.members[j.id] == nil || !g.members[j.id].sameMetadata(next) {
		fx.Append(consumerMemberKey(g.id, next.id), encodeConsumerMember(next))
	}
	m.forgetRegex(fx, g, before.regex)
	return m.refreshRegexes(fx, g) || changed
}

// replaceMember lets a static member that came back take the place of its former self, with its assignment.
func (m *Machine) replaceMember(fx *coordinator.Effects, g *consumerGroup, former, next *consumerMember) {
	target := g.target[former.id]
	m.removeMember(fx, g, former.id)
	fx.Append(consumerMemberKey(g.id, next.id), encodeConsumerMember(next))
	fx.Append(targetKey(g.id, next.id), encodeTarget(target))
	fx.Append(currentKey(g.id, next.id), encodeCurrent(next))
}

// removeMember takes a member out of the group.
func (m *Machine) removeMember(fx *coordinator.Effects, g *consumerGroup, id string) {
	g.cancelTimers(fx, id)
	fx.Append(currentKey(g.id, id), nil)
	if !plant.On(plant.TargetOfLeaver) {
		fx.Append(targetKey(g.id, id), nil)
	}
	fx.Append(consumerMemberKey(g.id, id), nil)
}

// bump raises the group's epoch where its members' subscriptions or the topics changed. The topics are looked at once for each change.
func (m *Machine) bump(fx *coordinator.Effects, g *consumerGroup, changed bool) {
	image := m.env.Topics.Image()
	if !changed && g.checked == image.Version() {
		return
	}
	g.checked = image.Version()
	hash := topicsHash(image, g.topicNames())
	if changed || hash != g.hash {
		fx.Append(consumerGroupKey(g.id), encodeGroupEpoch(g.epoch+1, hash))
		m.log("group has a new epoch", g.id, "epoch", g.epoch, "members", len(g.members))
	}
	if g.legacyHash {
		fx.Append(partitionMetadataKey(g.id), nil)
	}
}

func (g *consumerGroup) topicNames() []string {
	names := make([]string, 0, len(g.subscribed))
	for t := range g.subscribed {
		names = append(names, t)
	}
	return names
}

// retarget computes a new assignment where the group's epoch is ahead of it, but not more often than the group's settings say.
func (m *Machine) retarget(fx *coordinator.Effects, g *consumerGroup) {
	if g.targetEpoch >= g.epoch {
		return
	}
	now := fx.Now.UnixMilli()
	if interval := m.settings(g.id).AssignmentInterval.Milliseconds(); g.targetAt != 0 && now < g.targetAt+interval {
		return
	}
	name := g.assignorName(m.env.Config.Assignors[0])
	spec := g.spec(m.env.Topics.Image())
	targets := assignor.ByName[name](spec)
	if slices.ContainsFunc(targets, func(a assignor.Assignment) bool { return m.tooLong(g.id, encodeTarget(a)) }) {
		return
	}
	for i, a := range targets {
		id := spec.Members[i].ID
		if old, ok := g.target[id]; !ok || !old.Equal(a) {
			fx.Append(targetKey(g.id, id), encodeTarget(a))
		}
	}
	fx.Append(targetMetadataKey(g.id), encodeTargetMetadata(g.epoch, now))
	m.log("group has a new target assignment", g.id, "epoch", g.epoch, "assignor", name, "members", len(g.members))
}

// spec is the group as assignors see it.
func (g *consumerGroup) spec(image TopicImage) *assignor.Group {
	spec := &assignor.Group{Alike: g.alike()}
	for _, name := range g.topicNames() {
		if t, ok := image.Topic(name); ok {
			spec.Topics = append(spec.Topics, assignor.Topic{ID: t.ID, Partitions: t.Partitions})
		}
	}
	slices.SortFunc(spec.Topics, func(a, b assignor.Topic) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	index := make(map[base.TopicID]int, len(spec.Topics))
	for i, t := range spec.Topics {
		index[t.ID] = i
	}
	cache := map[string][]int{} // members that subscribe alike share one list
	for _, id := range sortedKeys(g.members) {
		mb := g.members[id]
		key := strings.Join(mb.topics, "\x00") + "\x00\x00" + mb.regex
		topics, ok := cache[key]
		if !ok {
			for _, name := range g.topicsOf(mb) {
				if t, ok := image.Topic(name); ok {
					topics = append(topics, index[t.ID])
				}
			}
			slices.Sort(topics)
			cache[key] = topics
		}
		spec.Members = append(spec.Members, assignor.Member{ID: id, Instance: mb.instance, Topics: topics, Assigned: g.target[id]})
	}
	return spec
}

// hasRoom reports whether a member can be taken in: whether there is memory for it, and whether it can be recorded.
func (m *Machine) hasRoom(j joiner, next *consumerMember) *Refusal {
	grown := groupOverhead + next.size()
	if j.former != nil {
		grown = next.size() - j.former.size()
	}
	switch {
	case grown > 0 && m.env.Budget.full(grown):
		return refuse(kerr.CoordinatorNotAvailable, "The group coordinator has no memory for the member.")
	case next.size() > int64(m.env.Config.MaxRecordBytes)/2 && m.tooLong(next.id, encodeConsumerMember(next)):
		return refuse(kerr.UnknownServerError, "The member's subscription is too long to be recorded.")
	}
	return nil
}

// tooLong reports whether a record would be larger than the internal topic's records may be.
func (m *Machine) tooLong(group string, value []byte) bool {
	const key = 2*maxName + 128 // at most, with the record's own fields
	if limit := m.env.Config.MaxRecordBytes; len(value) > limit-min(key, limit/4) {
		m.log("a record is larger than it may be, and left out", group, "bytes", len(value), "limit", limit)
		return true
	}
	return false
}

// consumerSession gives a member another session timeout to be heard of.
func (m *Machine) consumerSession(fx *coordinator.Effects, g *consumerGroup, mb *consumerMember) {
	timeout := m.settings(g.id).SessionTimeout
	if mb.classic != nil {
		timeout = millis(mb.classic.sessionTimeout)
	}
	fx.SetTimer(consumerSessionTimer(g, mb.id), timeout)
}

// consumerLeave handles the heartbeat of a member that leaves.
func (m *Machine) consumerLeave(fx *coordinator.Effects, req *kmsg.ConsumerGroupHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, *Refusal) {
	g, refused := as[*consumerGroup](m, req.Group, "consumer")
	if refused != nil {
		return nil, refused
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &req.MemberID, req.MemberEpoch
	mb := g.members[req.MemberID]
	if req.InstanceID == nil {
		if mb == nil {
			return nil, noMember(g.id, req.MemberID)
		}
	} else {
		mb = g.members[g.static[*req.InstanceID]]
		if refused := g.checkInstance(mb, req.MemberID, *req.InstanceID); refused != nil {
			return nil, refused
		}
		if req.MemberEpoch == leaveStaticEpoch {
			away := g.copyMember(mb.id)
			away.epoch, away.revoking, away.assigned = leaveStaticEpoch, nil, hold(mb.assigned.assignment(), 0)
			fx.Append(currentKey(g.id, mb.id), encodeCurrent(away))
			return resp, nil
		}
	}
	m.log("a member leaves the group", g.id, "member", mb.id)
	m.fence(fx, g, []*consumerMember{mb})
	return resp, nil
}

// fence takes members out of the group. Where only members of the classic protocol are left, the group becomes a classic one.
func (m *Machine) fence(fx *coordinator.Effects, g *consumerGroup, members []*consumerMember) {
	if len(members) == 0 {
		return
	}
	if m.mayDowngrade(g, members) && m.downgrade(fx, g, members, true) {
		return
	}
	for _, mb := range members {
		m.removeMember(fx, g, mb.id)
	}
	for _, mb := range members {
		m.forgetRegex(fx, g, mb.regex)
	}
	m.bump(fx, g, !plant.On(plant.LeaverKeeps))
}

func ownedPartitions(topics []kmsg.ConsumerGroupHeartbeatRequestTopic) *holder {
	if topics == nil {
		return nil
	}
	owned := holder{}
	for _, t := range topics {
		for _, p := range t.Partitions {
			owned.add(t.TopicID, p, 0)
		}
	}
	return &owned
}

func shownAssignment(h holding) *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	a.Topics = make([]kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic, 0, len(h))
	for _, t := range h {
		at := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		at.TopicID, at.Partitions = t.topic, t.partitions
		a.Topics = append(a.Topics, at)
	}
	return &a
}
