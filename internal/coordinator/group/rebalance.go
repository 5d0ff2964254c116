package group

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// rebalanceOrComplete starts a join phase, or ends the one that is on where all members have joined.
func (m *Machine) rebalanceOrComplete(fx *coordinator.Effects, g *classicGroup, why string, args ...any) {
	if g.state == preparing {
		m.completeIfAllJoined(fx, g)
		return
	}
	m.prepareRebalance(fx, g, why, args...)
}

// completeIfAllJoined ends the join phase where nobody is missing; the first one of a group always waits for its timer.
func (m *Machine) completeIfAllJoined(fx *coordinator.Effects, g *classicGroup) {
	if g.state == preparing && g.previous != empty && g.allJoined() {
		m.completeJoin(fx, g)
	}
}

// prepareRebalance starts a join phase.
func (m *Machine) prepareRebalance(fx *coordinator.Effects, g *classicGroup, why string, args ...any) {
	if g.state == completing {
		m.revokeAssignments(fx, g, kerr.RebalanceInProgress)
	}
	clear(g.pendingSync)
	fx.CancelTimer(syncTimer(g))
	m.log("group rebalances", g.id, append([]any{"generation", g.generation, "from", g.state.String(), "why", why}, args...)...)

	if g.state == empty {
		delay := int32(m.env.Config.InitialRebalanceDelay.Milliseconds())
		g.initial, g.initialDelay = true, delay
		g.initialRemaining = max(g.rebalanceTimeoutMillis()-delay, 0)
		g.enter(preparing, fx.Now.UnixMilli())
		fx.SetTimer(joinTimer(g), millis(delay))
		return
	}
	g.enter(preparing, fx.Now.UnixMilli())
	if g.allJoined() {
		m.completeJoin(fx, g)
		return
	}
	m.awaitJoins(fx, g)
}

func (m *Machine) awaitJoins(fx *coordinator.Effects, g *classicGroup) {
	g.initial = false
	fx.SetTimer(joinTimer(g), millis(g.rebalanceTimeoutMillis()))
}

// joinElapsed ends the join phase without those who are missing. The first one of a group goes on while new members come, up to
// the rebalance timeout.
func (m *Machine) joinElapsed(fx *coordinator.Effects, g *classicGroup) {
	if g.initial && g.newMember && g.initialRemaining != 0 {
		g.newMember = false
		delay := min(int32(m.env.Config.InitialRebalanceDelay.Milliseconds()), g.initialRemaining)
		g.initialRemaining = max(g.initialRemaining-g.initialDelay, 0)
		g.initialDelay = delay
		fx.SetTimer(joinTimer(g), millis(delay))
		return
	}
	m.completeJoin(fx, g)
}

// completeJoin ends the join phase: dynamic members that did not join are out, the others learn of the new generation.
func (m *Machine) completeJoin(fx *coordinator.Effects, g *classicGroup) {
	fx.CancelTimer(joinTimer(g))
	g.initial, g.newMember = false, false
	for _, mb := range slices.Clone(g.order) {
		if mb.join == nil && mb.instance == nil {
			m.log("a member did not join in time and is out", g.id, "member", mb.id)
			m.remove(fx, g, mb.id)
		}
	}
	if !g.elect() && len(g.members) > 0 {
		// Static members only, and none of them is back: they keep their place until their sessions end.
		m.awaitJoins(fx, g)
		return
	}
	g.nextGeneration(fx.Now.UnixMilli())
	if g.state == empty {
		m.log("group is empty", g.id, "generation", g.generation)
		m.record(fx, g)
		return
	}
	m.log("group has a new generation", g.id, "generation", g.generation, "members", len(g.members), "protocol", *g.protocol)
	for _, mb := range g.order {
		if mb.join != nil {
			mb.join.Answer(fx, g.joined(0, mb, g.leader == mb.id))
			mb.join = nil
			g.awaiting--
		}
		m.session(fx, g, mb)
		mb.fresh = false
		g.pendingSync[mb.id] = struct{}{}
	}
	fx.SetTimer(syncTimer(g), millis(g.rebalanceTimeoutMillis()))
}

// syncElapsed removes the members that did not sync in time.
func (m *Machine) syncElapsed(fx *coordinator.Effects, g *classicGroup) {
	if g.state != completing && g.state != stable || len(g.pendingSync) == 0 {
		return
	}
	late := slices.Sorted(maps.Keys(g.pendingSync))
	for _, id := range late {
		m.remove(fx, g, id)
	}
	m.prepareRebalance(fx, g, "members did not sync in time", "members", late)
}

// sessionElapsed removes a member that was not heard of, unless it is the group that keeps it waiting.
func (m *Machine) sessionElapsed(fx *coordinator.Effects, g *classicGroup, id string) {
	if _, ok := g.pending[id]; ok {
		m.remove(fx, g, id)
		if g.state == preparing && g.allJoined() {
			m.completeJoin(fx, g)
		}
		return
	}
	mb := g.members[id]
	if mb == nil || mb.waits() {
		return
	}
	m.expel(fx, g, mb)
	switch {
	case g.state == stable || g.state == completing:
		m.prepareRebalance(fx, g, "a member's session ended", "member", id)
	case g.state == preparing && g.allJoined():
		m.completeJoin(fx, g)
	}
}

// expel takes a member out of the group and answers what it waits for.
func (m *Machine) expel(fx *coordinator.Effects, g *classicGroup, mb *member) {
	m.remove(fx, g, mb.id)
	mb.join.Answer(fx, refuseJoin(noJoin, "", kerr.UnknownMemberID))
	mb.sync.Answer(fx, refuseSync(kerr.UnknownMemberID))
	mb.join, mb.sync = nil, nil
}

// revokeAssignments takes back all assignments and answers the syncs that wait for them.
func (m *Machine) revokeAssignments(fx *coordinator.Effects, g *classicGroup, code *kerr.Error) {
	for _, mb := range g.order {
		m.assign(mb, nil)
	}
	m.answerSyncs(fx, g, code)
}

// answerSyncs answers the syncs that wait, with the assignments where there is no error.
func (m *Machine) answerSyncs(fx *coordinator.Effects, g *classicGroup, code *kerr.Error) {
	for _, mb := range g.order {
		if mb.sync == nil {
			continue
		}
		if code != nil {
			mb.sync.Answer(fx, refuseSync(code))
		} else {
			mb.sync.Answer(fx, g.synced(mb))
		}
		mb.sync = nil
		m.session(fx, g, mb)
	}
}
