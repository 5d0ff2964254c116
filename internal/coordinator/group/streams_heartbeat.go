package group

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/topology"
	"github.com/ottlaio/ottla/internal/plant"
)

// StreamsHeartbeat is the answer to a StreamsGroupHeartbeat, and the internal topics that the member's application lacks. They are to be
// created before the answer leaves, so that the next heartbeat finds them.
type StreamsHeartbeat struct {
	Response *kmsg.StreamsGroupHeartbeatResponse
	Create   []topology.NewTopic
}

// StreamsGroupHeartbeat handles StreamsGroupHeartbeat v0 (KIP-1071): the one request of the streams protocol. A member joins with epoch 0
// and its topology, reports with its epoch, and leaves with -1. What did not change since the last heartbeat is left out on both sides.
//
// As in Kafka 4.3 static members, regular expressions for source topics, warm-up tasks, task offsets and changes of a group's topology are
// INVALID_REQUEST. The names of the topics in a topology are the caller's to check.
func (m *Machine) StreamsGroupHeartbeat(fx *coordinator.Effects, client Client, req *kmsg.StreamsGroupHeartbeatRequest) StreamsHeartbeat {
	var answer StreamsHeartbeat
	refused := validateStreamsHeartbeat(req)
	if refused == nil {
		if req.MemberEpoch < joinEpoch {
			answer.Response, refused = m.streamsLeave(fx, req)
		} else {
			answer, refused = m.streamsReport(fx, client, req)
		}
	}
	if refused != nil {
		answer.Response = newStreamsResponse()
		answer.Response.ErrorCode, answer.Response.ErrorMessage = refused.Code.Code, &refused.Text
	}
	return answer
}

// newStreamsResponse is an answer whose status is empty, not null, as Kafka's is.
func newStreamsResponse() *kmsg.StreamsGroupHeartbeatResponse {
	resp := kmsg.NewPtrStreamsGroupHeartbeatResponse()
	resp.Status = []kmsg.StreamsGroupHeartbeatResponseStatus{}
	return resp
}

// validateStreamsHeartbeat checks a request by itself, in Kafka's order.
func validateStreamsHeartbeat(req *kmsg.StreamsGroupHeartbeatRequest) *Refusal {
	blank := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	joins := req.MemberEpoch == joinEpoch
	says := 0 // how many kinds of tasks
	for _, tasks := range [][]kmsg.TaskIDs{req.ActiveTasks, req.StandbyTasks, req.WarmupTasks} {
		if tasks != nil {
			says++
		}
	}
	var text string
	switch {
	case req.InstanceID != nil:
		text = "Static membership is not yet supported."
	case req.TaskOffsets != nil:
		text = "TaskOffsets are not supported yet."
	case req.TaskEndOffsets != nil:
		text = "TaskEndOffsets are not supported yet."
	case len(req.WarmupTasks) > 0:
		text = "WarmupTasks are not supported yet."
	case req.Topology != nil && hasSourceRegex(req.Topology):
		text = "Regular expressions for source topics are not supported yet."
	case blank(&req.MemberID):
		text = "MemberId can't be empty."
	case blank(&req.Group):
		text = "GroupId can't be empty."
	case blank(req.RackID):
		text = "RackId can't be empty."
	case max(len(req.Group), len(req.MemberID)) > maxName:
		text = "A name is too long."
	case joins && req.RebalanceTimeoutMillis == -1:
		text = "RebalanceTimeoutMs must be provided in first request."
	case joins && (req.ActiveTasks == nil || len(req.ActiveTasks) > 0):
		text = "ActiveTasks must be empty when (re-)joining."
	case joins && (req.StandbyTasks == nil || len(req.StandbyTasks) > 0):
		text = "StandbyTasks must be empty when (re-)joining."
	case joins && req.WarmupTasks == nil:
		text = "WarmupTasks must be empty when (re-)joining."
	case joins && req.Topology == nil:
		text = "Topology must be non-null when (re-)joining."
	case req.MemberEpoch == leaveStaticEpoch:
		text = "InstanceId can't be null."
	case req.MemberEpoch < leaveStaticEpoch:
		text = fmt.Sprintf("MemberEpoch is %d, but must be greater than or equal to -2.", req.MemberEpoch)
	case says > 0 && says < taskKinds:
		text = "If one task-type is non-null, all must be non-null."
	case !joins && req.Topology != nil:
		text = "Topology can only be provided when (re-)joining."
	default:
		return nil
	}
	return &Refusal{kerr.InvalidRequest, text}
}

// streamsReport handles the heartbeat of a member that joins or is there. Everything that can be refused is refused before anything is
// recorded.
func (m *Machine) streamsReport(fx *coordinator.Effects, client Client, req *kmsg.StreamsGroupHeartbeatRequest) (StreamsHeartbeat, *Refusal) {
	joins := req.MemberEpoch == joinEpoch
	g, refused := m.findStreamsGroup(req.Group, joins)
	if refused != nil {
		return StreamsHeartbeat{}, refused
	}
	owned := ownedTasks(req)
	former := g.members[req.MemberID]
	switch {
	case joins:
		if limit := m.env.Config.StreamsMaxSize; len(g.members) >= limit {
			return StreamsHeartbeat{}, refuse(kerr.GroupMaxSizeReached, "The streams group has reached its maximum capacity of %d members.", limit)
		}
	case former == nil:
		return StreamsHeartbeat{}, noMember(g.id, req.MemberID)
	default:
		if refused := former.checkEpoch(req.MemberEpoch, owned); refused != nil {
			return StreamsHeartbeat{}, refused
		}
	}
	next := g.copyMember(req.MemberID)
	next.update(client, req)
	n, refused := m.examine(g, req)
	if refused == nil {
		refused = n.checkTasks(owned)
	}
	if refused == nil {
		refused = m.hasStreamsRoom(g, next, n)
	}
	if refused != nil {
		return StreamsHeartbeat{}, refused
	}

	if old := m.classic(req.Group); old != nil {
		old.entomb(m, fx) // without members
	}
	if m.streams(req.Group) == nil {
		m.found(req.Group, g)
	}
	wasEmpty := len(g.members) == 0
	changed := former == nil || !former.sameMetadata(next)
	if changed {
		fx.Append(streamsMemberKey(g.id, next.id), encodeStreamsMember(next))
	}
	m.bumpStreams(fx, g, n, changed)
	if delay := m.env.StreamsSettings(g.id).InitialDelay; wasEmpty && delay > 0 {
		g.delayed = true
		fx.StartTimer(streamsDelayTimer(g), delay)
	}
	delayed := m.retargetStreams(fx, g)
	before := g.members[next.id].assigned
	mb := m.reconcileTasks(fx, g, next.id, owned)
	fx.SetTimer(streamsSessionTimer(g, mb.id), m.env.StreamsSettings(g.id).SessionTimeout)
	if req.ShutdownApplication && g.shutdown == "" {
		m.log("a member asks for the whole application to end", g.id, "member", mb.id)
		g.shutdown = mb.id
	}

	resp := newStreamsResponse()
	resp.MemberID, resp.MemberEpoch = mb.id, mb.epoch
	resp.HeartbeatIntervalMillis = int32(m.nextStreamsReport(fx, g, mb).Milliseconds())
	changed = joins || !before.equal(&mb.assigned)
	unaware := owned != nil && !owned.covers(&mb.assigned) // the answer that told it was lost
	if changed || unaware {
		resp.ActiveTasks, resp.StandbyTasks, resp.WarmupTasks = shownTasks(mb.assigned[activeTasks].list()),
			shownTasks(mb.assigned[standbyTasks].list()), shownTasks(mb.assigned[warmupTasks].list())
	}
	if changed && mb.endpoint != nil {
		g.endpointEpoch++
	}
	if resp.EndpointInformationEpoch = g.endpointEpoch; g.endpointEpoch != req.EndpointInformationEpoch {
		resp.PartitionsByUserEndpoint = g.endpoints(m.env.Topics.Image(), mb)
	}
	g.tellStatus(resp, mb, delayed)
	return StreamsHeartbeat{resp, g.configured.Create}, nil
}

// findStreamsGroup returns the group of that name; for one that joins a new group where there is none yet, or a classic one without
// members.
func (m *Machine) findStreamsGroup(id string, joins bool) (*streamsGroup, *Refusal) {
	switch found := m.groups[id].(type) {
	case *streamsGroup:
		return found, nil
	case nil:
		if !joins {
			return nil, refuse(kerr.GroupIDNotFound, "Streams group %s not found.", id)
		}
		return newStreamsGroup(id), nil
	case *classicGroup:
		if joins && found.isEmpty() {
			return newStreamsGroup(id), nil
		}
	}
	return nil, refuse(kerr.GroupIDNotFound, "Group %s is not a streams group.", id)
}

// checkEpoch fences a member whose epoch is not its own. The epoch before is good while the member does not have more than it was given:
// the answer that told it of the newer one was lost.
func (m *streamsMember) checkEpoch(epoch int32, owned *taskSet) *Refusal {
	const text = "The streams group member has a %s member epoch (%d) than the one known by the group coordinator (%d). " +
		"The member must abandon all its partitions and rejoin."
	switch {
	case epoch > m.epoch:
		return refuse(kerr.FencedMemberEpoch, text, "greater", epoch, m.epoch)
	case epoch < m.epoch && (epoch != m.previous || owned == nil || !m.assigned.covers(owned)):
		return refuse(kerr.FencedMemberEpoch, text, "smaller", epoch, m.epoch)
	case m.state == unknownTasksState && (owned == nil || owned.count() > 0):
		return refuse(kerr.FencedMemberEpoch, "The streams group member is in a unknown state. The member must abandon all its tasks and rejoin.")
	}
	return nil
}

// update takes over what a heartbeat says of a member.
func (m *streamsMember) update(client Client, req *kmsg.StreamsGroupHeartbeatRequest) {
	m.clientID, m.clientHost = client.ID, client.Host
	if req.RackID != nil {
		m.rack = req.RackID
	}
	if req.RebalanceTimeoutMillis != -1 {
		m.rebalanceTimeout = req.RebalanceTimeoutMillis
	}
	if req.Topology != nil {
		m.topologyEpoch = req.Topology.Epoch
	}
	if req.ProcessID != nil {
		m.process = *req.ProcessID
	}
	if req.UserEndpoint != nil {
		m.endpoint = &streamsEndpoint{req.UserEndpoint.Host, req.UserEndpoint.Port}
	}
	if req.ClientTags != nil {
		m.tags = make(map[string]string, len(req.ClientTags))
		for _, t := range req.ClientTags {
			m.tags[t.Key] = t.Value
		}
	}
}

// needs is what a group's topology needs of the topics, as a heartbeat finds it.
type needs struct {
	topology   *topology.Topology
	encoded    []byte // of a topology that is new; nil: it is the group's
	hash       int64
	configured *topology.Configured
	version    int64 // of the topics
}

// examine finds out what topology the group has with a heartbeat and what it needs. The topics are looked at once for each change.
func (m *Machine) examine(g *streamsGroup, req *kmsg.StreamsGroupHeartbeatRequest) (needs, *Refusal) {
	image := m.env.Topics.Image()
	n := needs{topology: g.topology, hash: g.hash, configured: g.configured, version: image.Version()}
	if req.Topology != nil {
		told := topologyOf(req.Topology)
		if err := told.Validate(); err != nil {
			code := kerr.StreamsInvalidTopology
			if errors.Is(err, topology.ErrInvalidRequest) {
				code = kerr.InvalidRequest
			}
			return n, refuse(code, "%s", err)
		}
		switch {
		case g.topology == nil:
			n.topology, n.encoded, n.configured = told, encodeTopology(told), nil
			if m.tooLong(g.id, n.encoded) {
				return n, refuse(kerr.StreamsInvalidTopology, "The topology is too long to be recorded.")
			}
		case g.topology.Epoch > told.Epoch: // a member that is not up to date: it is told so
		case !bytes.Equal(encodeTopology(ordered(told)), encodeTopology(ordered(g.topology))):
			return n, refuse(kerr.InvalidRequest, "Topology updates are not supported yet.")
		}
	}
	if n.topology == nil {
		return n, refuse(kerr.UnknownServerError, "The group has no topology.")
	}
	if n.configured != nil && g.checked == n.version {
		return n, nil
	}
	hash := topicsHash(image, n.topology.Topics())
	if n.configured == nil || hash != n.hash {
		c := topology.Configure(n.topology, partitionsOf(image))
		n.configured = &c
	}
	n.hash = hash
	return n, nil
}

// validated is the epoch of the topology, where all of its topics are there.
func (n *needs) validated() int32 {
	if n.configured.Status != topology.Ready {
		return noTopology
	}
	return n.topology.Epoch
}

// checkTasks refuses tasks that there are not.
func (n *needs) checkTasks(owned *taskSet) *Refusal {
	if owned == nil || n.configured.Status != topology.Ready {
		return nil
	}
	count := map[string]int32{}
	for i := range n.configured.Subtopologies {
		count[n.configured.Subtopologies[i].ID] = n.configured.Subtopologies[i].Tasks
	}
	for _, tasks := range owned {
		for _, s := range tasks.list() {
			limit, ok := count[s.Subtopology]
			if !ok {
				return refuse(kerr.InvalidRequest, "Subtopology %s does not exist in the topology.", s.Subtopology)
			}
			for _, p := range s.Partitions {
				if p < 0 || p >= limit {
					return refuse(kerr.InvalidRequest, "Task %d for subtopology %s is invalid. Number of tasks for this subtopology: %d", p, s.Subtopology, limit)
				}
			}
		}
	}
	return nil
}

// hasStreamsRoom reports whether a member can be taken in: whether there is memory for it, and whether it can be recorded.
func (m *Machine) hasStreamsRoom(g *streamsGroup, next *streamsMember, n needs) *Refusal {
	grown := groupOverhead + next.size() + 4*int64(len(n.encoded))
	if former := g.members[next.id]; former != nil {
		grown = next.size() - former.size()
	}
	switch {
	case grown > 0 && m.env.Budget.full(grown):
		return refuse(kerr.CoordinatorNotAvailable, "The group coordinator has no memory for the member.")
	case next.size() > int64(m.env.Config.MaxRecordBytes)/2 && m.tooLong(next.id, encodeStreamsMember(next)):
		return refuse(kerr.UnknownServerError, "What the member says of itself is too long to be recorded.")
	}
	return nil
}

// bumpStreams records a new topology, and raises the group's epoch where a member, the topics or the assignor's settings changed.
func (m *Machine) bumpStreams(fx *coordinator.Effects, g *streamsGroup, n needs, changed bool) {
	if n.encoded != nil {
		fx.Append(streamsTopologyKey(g.id), n.encoded)
	}
	g.configured, g.checked = n.configured, n.version
	configs := m.assignorConfigs(g.id)
	if !changed && n.hash == g.hash && n.validated() == g.validated && maps.Equal(configs, g.configs) {
		return
	}
	fx.Append(streamsGroupKey(g.id), encodeStreamsGroup(g.epoch+1, n.hash, n.validated(), configs))
	m.log("group has a new epoch", g.id, "epoch", g.epoch, "members", len(g.members))
}

// standbyReplicas is the assignor's only setting, by the name that Kafka records it with.
const standbyReplicas = "num.standby.replicas"

func (m *Machine) assignorConfigs(group string) map[string]string {
	return map[string]string{standbyReplicas: strconv.Itoa(m.env.StreamsSettings(group).StandbyReplicas)}
}

// nextStreamsReport is how long a member may take until its next heartbeat. One that waits for something is asked to report sooner.
func (m *Machine) nextStreamsReport(fx *coordinator.Effects, g *streamsGroup, mb *streamsMember) time.Duration {
	settings := m.env.StreamsSettings(g.id)
	soon := settings.HeartbeatInterval
	switch {
	case g.delayed:
		soon = settings.InitialDelay
	case len(g.configured.Create) > 0:
		soon = soonestReport // they are being created
	case g.targetEpoch < g.epoch:
		soon = time.UnixMilli(g.targetAt).Add(settings.AssignmentInterval).Sub(fx.Now)
	case mb.state == unreleasedTasks:
		soon = waitingReport
	}
	return min(max(soon, soonestReport), settings.HeartbeatInterval)
}

// tellStatus tells a member of the state of its group.
func (g *streamsGroup) tellStatus(resp *kmsg.StreamsGroupHeartbeatResponse, mb *streamsMember, delayed string) {
	add := func(code topology.Status, detail string) {
		s := kmsg.NewStreamsGroupHeartbeatResponseStatus()
		s.StatusCode, s.StatusDetail = int8(code), detail
		resp.Status = append(resp.Status, s)
	}
	if mb.topologyEpoch < g.topology.Epoch {
		add(topology.StaleTopology, fmt.Sprintf("The member's topology epoch %d is behind the group's topology epoch %d.", mb.topologyEpoch, g.topology.Epoch))
	}
	if delayed != "" {
		add(topology.AssignmentDelayed, delayed)
	}
	if c := g.configured; c.Status != topology.Ready {
		add(c.Status, c.Message)
	}
	if g.shutdown != "" {
		add(topology.ShutdownApplication,
			fmt.Sprintf("Streams group member %s encountered a fatal error and requested a shutdown for the entire application.", g.shutdown))
	}
}

// streamsLeave handles the heartbeat of a member that leaves.
func (m *Machine) streamsLeave(fx *coordinator.Effects, req *kmsg.StreamsGroupHeartbeatRequest) (*kmsg.StreamsGroupHeartbeatResponse, *Refusal) {
	g, refused := as[*streamsGroup](m, req.Group, "streams")
	if refused != nil {
		return nil, refused
	}
	if g.members[req.MemberID] == nil {
		return nil, noMember(g.id, req.MemberID)
	}
	if req.ShutdownApplication && g.shutdown == "" {
		g.shutdown = req.MemberID
	}
	m.log("a member leaves the group", g.id, "member", req.MemberID)
	m.removeStreamsMember(fx, g, req.MemberID)
	resp := newStreamsResponse()
	resp.MemberID, resp.MemberEpoch = req.MemberID, req.MemberEpoch
	return resp, nil
}

// removeStreamsMember takes a member out of the group.
func (m *Machine) removeStreamsMember(fx *coordinator.Effects, g *streamsGroup, id string) {
	g.cancelTimers(fx, id)
	fx.Append(streamsCurrentKey(g.id, id), nil)
	fx.Append(streamsTargetKey(g.id, id), nil)
	fx.Append(streamsMemberKey(g.id, id), nil)
	if plant.On(plant.LeaverUnnoticed) {
		return
	}
	fx.Append(streamsGroupKey(g.id), encodeStreamsGroup(g.epoch+1, g.hash, g.validated, g.configs))
}
