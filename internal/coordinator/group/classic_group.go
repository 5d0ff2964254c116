package group

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// classicGroup implements group.

func (g *classicGroup) kind() Kind { return Classic }

func (g *classicGroup) stateName() string { return g.state.String() }

func (g *classicGroup) protocolName() string { return g.protocolType }

func (g *classicGroup) isEmpty() bool { return g.state == empty }

func (g *classicGroup) size() int64 {
	n := groupOverhead + pendingOverhead*int64(len(g.pending))
	for _, mb := range g.order {
		n += mb.size()
	}
	return n
}

// resume gives every member a session from now on, whenever it was last heard of.
func (g *classicGroup) resume(m *Machine, fx *coordinator.Effects) {
	for _, mb := range g.order {
		m.session(fx, g, mb)
	}
	if len(g.members) > m.env.Config.MaxSize {
		m.prepareRebalance(fx, g, "the loaded group is over group.max.size")
	}
}

func (g *classicGroup) elapsed(m *Machine, fx *coordinator.Effects, t coordinator.Timer) {
	switch t.Kind {
	case timerSession:
		m.sessionElapsed(fx, g, t.Member)
	case timerJoin:
		m.joinElapsed(fx, g)
	case timerSync:
		m.syncElapsed(fx, g)
	}
}

// entomb has the clients whose first join is under way start again.
func (g *classicGroup) entomb(_ *Machine, fx *coordinator.Effects) {
	fx.CancelTimer(joinTimer(g))
	fx.CancelTimer(syncTimer(g))
	for id := range g.members {
		fx.CancelTimer(sessionTimer(g, id))
	}
	for id := range g.pending {
		fx.CancelTimer(sessionTimer(g, id))
	}
	fx.Append(groupKey(g.id), nil)
}

func (g *classicGroup) snapshot(emit func(key, value []byte)) {
	if g.recorded {
		emit(groupKey(g.id), encodeGroup(g))
	}
}

func (g *classicGroup) mayDeleteOffsets() *kerr.Error {
	if g.state != empty && !g.consumers() {
		return kerr.NonEmptyGroup
	}
	return nil
}

// retention counts from when the last member left an empty group, or else from each commit; offsets of a group with members expire only
// where it is known what the members subscribe to.
func (g *classicGroup) retention() func(*committed) int64 {
	switch {
	case g.protocolType != "" && g.state == empty && g.since != base.NoTimestamp:
		return func(*committed) int64 { return g.since }
	case g.protocolType == "", g.state == empty, g.consumers() && g.subscribed != nil && g.state == stable:
		return func(c *committed) int64 { return c.at }
	default:
		return nil
	}
}

func (g *classicGroup) mayCommit(by committer) (commitCheck, *kerr.Error) {
	switch {
	case by.epoch < 0 && g.state == empty:
		return nil, nil
	case by.epoch >= 0 || by.member != "" || by.instance != nil:
		if err := g.validate(by.member, by.instance); err != nil {
			return nil, err
		}
		if by.epoch != g.generation {
			return nil, kerr.IllegalGeneration
		}
	case !by.transactional:
		return nil, kerr.UnknownMemberID
	}
	if g.state == completing && !by.transactional {
		return nil, kerr.RebalanceInProgress
	}
	return nil, nil
}

func (g *classicGroup) mayFetch(fetcher) *kerr.Error { return nil }

func sessionTimer(g *classicGroup, member string) coordinator.Timer {
	return coordinator.Timer{Kind: timerSession, Group: g.id, Member: member}
}

func joinTimer(g *classicGroup) coordinator.Timer {
	return coordinator.Timer{Kind: timerJoin, Group: g.id}
}

func syncTimer(g *classicGroup) coordinator.Timer {
	return coordinator.Timer{Kind: timerSync, Group: g.id}
}

// session gives a member another session timeout to be heard of.
func (m *Machine) session(fx *coordinator.Effects, g *classicGroup, mb *member) {
	fx.SetTimer(sessionTimer(g, mb.id), millis(mb.sessionTimeout))
}

// Members are changed through the functions below, which keep account of their memory.

func (m *Machine) add(g *classicGroup, mb *member, join *joinCall) {
	if _, ok := g.pending[mb.id]; ok {
		m.use(-pendingOverhead)
	}
	g.add(mb, join)
	m.use(mb.size())
}

func (m *Machine) remove(fx *coordinator.Effects, g *classicGroup, id string) {
	if mb := g.members[id]; mb != nil {
		m.use(-mb.size())
	}
	if _, ok := g.pending[id]; ok {
		m.use(-pendingOverhead)
	}
	g.remove(id)
	fx.CancelTimer(sessionTimer(g, id))
}

func (m *Machine) update(g *classicGroup, mb *member, r *joining, join *joinCall) {
	m.use(-mb.size())
	g.update(mb, r.protocols, r.RebalanceTimeoutMillis, r.SessionTimeoutMillis, join)
	m.use(mb.size())
}

func (m *Machine) assign(mb *member, assignment []byte) {
	m.use(int64(len(assignment) - len(mb.assignment)))
	mb.assignment = assignment
}
