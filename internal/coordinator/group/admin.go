package group

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// classicType is the type that groups of the classic protocol are listed with (KIP-848).
const classicType = "classic"

// ListGroups handles ListGroups v0–5 for one partition. v4 (KIP-518) filters by state, v5 (KIP-848) by type; both without regard
// to case, states also without regard to blanks around them; what no group is simply matches nothing.
func (m *Machine) ListGroups(req *kmsg.ListGroupsRequest) []kmsg.ListGroupsResponseGroup {
	if len(req.TypesFilter) > 0 && !slices.ContainsFunc(req.TypesFilter, func(t string) bool {
		return strings.EqualFold(t, classicType)
	}) {
		return nil
	}
	var listed []kmsg.ListGroupsResponseGroup
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		g := m.groups[id]
		if len(req.StatesFilter) > 0 && !slices.ContainsFunc(req.StatesFilter, func(s string) bool {
			return strings.EqualFold(strings.TrimSpace(s), g.state.String())
		}) {
			continue
		}
		l := kmsg.NewListGroupsResponseGroup()
		l.Group, l.ProtocolType, l.GroupState, l.GroupType = id, g.protocolType, g.state.String(), classicType
		listed = append(listed, l)
	}
	return listed
}

// DescribeGroup handles one group of DescribeGroups v0–6. A group that does not exist is Dead; v6 (KIP-1043) says
// GROUP_ID_NOT_FOUND as well.
func (m *Machine) DescribeGroup(version int16, id string) kmsg.DescribeGroupsResponseGroup {
	d := kmsg.NewDescribeGroupsResponseGroup()
	d.Group = id
	g := m.groups[id]
	if g == nil {
		d.State = deadName
		if version >= 6 {
			d.ErrorCode = kerr.GroupIDNotFound.Code
			d.ErrorMessage = ptr(fmt.Sprintf("Group %s not found.", id))
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
	case g.state != empty:
		return kerr.NonEmptyGroup
	}
	topics := m.offsets[id]
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		for _, p := range slices.Sorted(maps.Keys(topics[topic])) {
			fx.Append(offsetKey(id, topic, p), nil)
		}
	}
	m.entomb(fx, g)
	return nil
}

// entomb writes a group's tombstone. The clients whose first join is under way have to start again.
func (m *Machine) entomb(fx *coordinator.Effects, g *classicGroup) {
	fx.CancelTimer(joinTimer(g))
	fx.CancelTimer(syncTimer(g))
	for id := range g.pending {
		fx.CancelTimer(sessionTimer(g, id))
	}
	fx.Append(groupKey(g.id), nil)
}
