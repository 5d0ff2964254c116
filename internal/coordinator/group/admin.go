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

// DeleteGroup handles one group of DeleteGroups v0–2 (KIP-229): only a group without members goes, with its offsets.
func (m *Machine) DeleteGroup(fx *coordinator.Effects, id string) *kerr.Error {
	g := m.groups[id]
	switch {
	case g == nil:
		return kerr.GroupIDNotFound
	case !g.isEmpty():
		return kerr.NonEmptyGroup
	}
	topics := m.offsets[id]
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		for _, p := range slices.Sorted(maps.Keys(topics[topic])) {
			fx.Append(offsetKey(id, topic, p), nil)
		}
	}
	g.entomb(m, fx)
	return nil
}
