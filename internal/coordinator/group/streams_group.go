package group

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// streamsGroup implements group.

func (g *streamsGroup) kind() Kind { return Streams }

// stateName is worked out when it is asked for: by the topology, the epochs, and how far the members have come.
func (g *streamsGroup) stateName() string {
	switch {
	case len(g.members) == 0:
		return "Empty"
	case g.topology == nil || g.topology.Epoch != g.validated:
		return "NotReady"
	case g.epoch > g.targetEpoch:
		return "Assigning"
	}
	for _, mb := range g.members {
		if !mb.reconciledTo(g.targetEpoch) {
			return "Reconciling"
		}
	}
	return "Stable"
}

func (g *streamsGroup) protocolName() string { return string(Streams) }

func (g *streamsGroup) isEmpty() bool { return len(g.members) == 0 }

func (g *streamsGroup) size() int64 {
	n := groupOverhead + g.topologySize()
	for _, mb := range g.members {
		n += mb.size()
	}
	for id, a := range g.target {
		n += taskTargetSize(id, &a)
	}
	return n
}

func taskTargetSize(member string, a *assignor.TaskAssignment) int64 {
	return int64(targetOverhead + len(member) + taskOverhead*(a.Active.Count()+a.Standby.Count()+a.Warmup.Count()))
}

// resume gives every member a session from now on, whenever it was last heard of. A group that waited for more members waits no longer.
func (g *streamsGroup) resume(m *Machine, fx *coordinator.Effects) {
	for _, id := range sortedKeys(g.members) {
		fx.SetTimer(streamsSessionTimer(g, id), m.env.StreamsSettings(g.id).SessionTimeout)
		if mb := g.members[id]; mb.state == unrevokedTasks {
			fx.SetTimer(streamsRebalanceTimer(g, id), millis(mb.rebalanceTimeout))
		}
	}
}

func (g *streamsGroup) elapsed(m *Machine, fx *coordinator.Effects, t coordinator.Timer) {
	if t.Kind == timerDelay {
		if g.delayed = false; len(g.members) > 0 && g.configured != nil {
			m.retargetStreams(fx, g)
		}
		return
	}
	mb := g.members[t.Member]
	if mb == nil || t.Kind == timerRebalance && mb.state != unrevokedTasks {
		return
	}
	why := "its session ended"
	if t.Kind == timerRebalance {
		why = "it did not give its tasks back in time"
	}
	m.log("a member is out", g.id, "member", mb.id, "why", why)
	m.removeStreamsMember(fx, g, mb.id)
}

// entomb writes the tombstones in Kafka's order.
func (g *streamsGroup) entomb(_ *Machine, fx *coordinator.Effects) {
	members := sortedKeys(g.members)
	for _, id := range members {
		g.cancelTimers(fx, id)
		fx.Append(streamsCurrentKey(g.id, id), nil)
	}
	for _, id := range sortedKeys(g.target) {
		fx.Append(streamsTargetKey(g.id, id), nil)
	}
	fx.CancelTimer(streamsDelayTimer(g))
	fx.Append(streamsTargetMetadataKey(g.id), nil)
	for _, id := range members {
		fx.Append(streamsMemberKey(g.id, id), nil)
	}
	fx.Append(streamsGroupKey(g.id), nil)
	fx.Append(streamsTopologyKey(g.id), nil)
}

func (g *streamsGroup) cancelTimers(fx *coordinator.Effects, member string) {
	fx.CancelTimer(streamsSessionTimer(g, member))
	fx.CancelTimer(streamsRebalanceTimer(g, member))
}

func (g *streamsGroup) snapshot(emit func(key, value []byte)) {
	members := sortedKeys(g.members)
	emit(streamsGroupKey(g.id), encodeStreamsGroup(g.epoch, g.hash, g.validated, g.configs))
	if g.topology != nil {
		emit(streamsTopologyKey(g.id), g.encoded)
	}
	for _, id := range members {
		emit(streamsMemberKey(g.id, id), encodeStreamsMember(g.members[id]))
	}
	for _, id := range sortedKeys(g.target) {
		a := g.target[id]
		emit(streamsTargetKey(g.id, id), encodeStreamsTarget(&a))
	}
	emit(streamsTargetMetadataKey(g.id), encodeTargetMetadata(g.targetEpoch, g.targetAt))
	for _, id := range members {
		emit(streamsCurrentKey(g.id, id), encodeStreamsCurrent(g.members[id]))
	}
}

func (g *streamsGroup) subscribes(topic string) bool {
	_, ok := g.sources[topic]
	return ok && len(g.members) > 0
}

func (g *streamsGroup) mayDeleteOffsets() *kerr.Error { return nil }

func (g *streamsGroup) retention() func(*committed) int64 {
	return func(c *committed) int64 { return c.at }
}

// mayCommit allows what it does in consumer groups, see consumerGroup.mayCommit; a partition belongs to the task of the subtopology that
// reads its topic.
func (g *streamsGroup) mayCommit(by committer) (commitCheck, *kerr.Error) {
	if by.epoch < 0 && len(g.members) == 0 {
		return nil, nil
	}
	if by.transactional && by.epoch < 0 && by.member == "" && by.instance == nil {
		return nil, nil // a transaction need not say who commits (KIP-447)
	}
	mb := g.members[by.member]
	switch {
	case mb == nil:
		return nil, kerr.UnknownMemberID
	case by.version < 9 && !by.transactional:
		return nil, kerr.UnsupportedVersion
	case by.epoch == mb.epoch:
		return nil, nil
	case by.epoch > mb.epoch || g.topology == nil:
		return nil, kerr.StaleMemberEpoch
	}
	return func(topic string, _ base.TopicID, partition int32) *kerr.Error {
		subtopology, ok := g.sources[topic]
		t := task{subtopology, partition}
		since, held := mb.assigned[activeTasks][t]
		if !held {
			since, held = mb.revoking[activeTasks][t]
		}
		if !ok || !held || by.epoch < since {
			return kerr.StaleMemberEpoch
		}
		return nil
	}, nil
}

func (g *streamsGroup) mayFetch(by fetcher) *kerr.Error {
	if by.member == nil && by.epoch < 0 {
		return nil
	}
	mb := g.members[deref(by.member)]
	switch {
	case mb == nil:
		return kerr.UnknownMemberID
	case by.epoch != mb.epoch:
		return kerr.StaleMemberEpoch
	}
	return nil
}
