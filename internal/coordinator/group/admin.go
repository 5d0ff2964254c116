package group

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// ListGroups handles ListGroups v0–5 for one partition. v4 (KIP-518) filters by state, v5 (KIP-848) by type; both without regard
// to case, states also without regard to blanks around them, and underscores: Kafka lists groups that are NotReady for "not_ready" only.
// What no group is simply matches nothing.
func (m *Machine) ListGroups(req *kmsg.ListGroupsRequest) []kmsg.ListGroupsResponseGroup {
	among := func(filter []string, name string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, name) })
	}
	states := make([]string, len(req.StatesFilter))
	for i, s := range req.StatesFilter {
		states[i] = strings.ReplaceAll(strings.TrimSpace(s), "_", "")
	}
	var listed []kmsg.ListGroupsResponseGroup
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		g := m.groups[id]
		l := kmsg.NewListGroupsResponseGroup()
		l.Group, l.ProtocolType, l.GroupState, l.GroupType = id, g.protocolName(), g.stateName(), string(g.kind())
		if !among(states, l.GroupState) || !among(req.TypesFilter, l.GroupType) {
			continue
		}
		listed = append(listed, l)
	}
	return listed
}

// DescribeGroup handles one group of DescribeGroups v0–6. A group that does not exist, or is not a classic one, is Dead; v6 (KIP-1043)
// says GROUP_ID_NOT_FOUND as well.
func (m *Machine) DescribeGroup(version int16, id string) kmsg.DescribeGroupsResponseGroup {
	d := kmsg.NewDescribeGroupsResponseGroup()
	d.Group = id
	g, refused := as[*classicGroup](m, id, "classic")
	if refused != nil {
		d.State = deadName
		if version >= 6 {
			d.ErrorCode, d.ErrorMessage = refused.Code.Code, &refused.Text
		}
		return d
	}
	d.State, d.ProtocolType = g.state.String(), g.protocolType
	if g.state == stable {
		d.Protocol = deref(g.protocol)
	}
	for _, mb := range g.order {
		dm := kmsg.NewDescribeGroupsResponseGroupMember()
		dm.MemberID, dm.InstanceID = mb.id, mb.instance
		dm.ClientID, dm.ClientHost = mb.clientID, mb.clientHost
		dm.MemberAssignment = mb.assignment
		if g.state == stable {
			dm.ProtocolMetadata = mb.metadata(d.Protocol)
		}
		d.Members = append(d.Members, dm)
	}
	return d
}

// Deletion is the outcome of deleting a group: a reason not to, or that it was deleted. Where there are partitions it was not yet: the
// share coordinator has to forget them first.
type Deletion struct {
	Code       *kerr.Error
	Partitions []SharePartition
}

// DeleteGroup handles one group of DeleteGroups v0–2 (KIP-229): only a group without members goes, with its offsets. forgotten says that the
// share coordinator has forgotten the group's partitions.
func (m *Machine) DeleteGroup(fx *coordinator.Effects, id string, forgotten bool) Deletion {
	g := m.groups[id]
	switch {
	case g == nil:
		return Deletion{Code: kerr.GroupIDNotFound}
	case !g.isEmpty():
		return Deletion{Code: kerr.NonEmptyGroup}
	}
	if g := m.share(id); g != nil && !forgotten {
		if partitions := m.beginDeletingShare(fx, g); len(partitions) > 0 {
			return Deletion{Partitions: partitions}
		}
	}
	topics := m.offsets[id]
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		for _, p := range slices.Sorted(maps.Keys(topics[topic])) {
			fx.Append(offsetKey(id, topic, p), nil)
		}
	}
	g.entomb(m, fx)
	return Deletion{}
}
