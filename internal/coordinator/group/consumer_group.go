package group

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
	"github.com/ottlaio/ottla/internal/plant"
)

// consumerGroup implements group.

func (g *consumerGroup) kind() Kind { return Consumer }

// stateName is worked out when it is asked for: by the epochs, and by how far the members have come.
func (g *consumerGroup) stateName() string {
	switch {
	case len(g.members) == 0:
		return "Empty"
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

func (g *consumerGroup) protocolName() string { return consumerProtocol }

func (g *consumerGroup) isEmpty() bool { return len(g.members) == 0 }

func (g *consumerGroup) size() int64 {
	n := int64(groupOverhead)
	for _, mb := range g.members {
		n += mb.size()
	}
	for id, a := range g.target {
		n += targetSize(id, a)
	}
	for regex, r := range g.regexes {
		n += r.size(regex)
	}
	return n
}

func targetSize(member string, a assignor.Assignment) int64 {
	return int64(targetOverhead + len(member) + partitionOverhead*a.Count())
}

func (r resolvedRegex) size(regex string) int64 {
	n := targetOverhead + len(regex)
	for _, t := range r.topics {
		n += topicOverhead + len(t)
	}
	return int64(n)
}

// resume gives every member a session from now on, whenever it was last heard of.
func (g *consumerGroup) resume(m *Machine, fx *coordinator.Effects) {
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		mb := g.members[id]
		m.consumerSession(fx, g, mb)
		if mb.state == unrevoked && mb.classic == nil {
			fx.SetTimer(rebalanceTimer(g, id), millis(mb.rebalanceTimeout))
		}
	}
}

func (g *consumerGroup) elapsed(m *Machine, fx *coordinator.Effects, t coordinator.Timer) {
	mb := g.members[t.Member]
	if mb == nil {
		return
	}
	var why string
	switch t.Kind {
	case timerSession:
		why = "its session ended"
	case timerRebalance:
		if mb.state != unrevoked {
			return
		}
		why = "it did not give its partitions back in time"
	case timerClassicJoin:
		why = "it did not join again in time"
	case timerClassicSync:
		why = "it did not sync in time"
	}
	m.log("a member is out", g.id, "member", mb.id, "why", why)
	m.fence(fx, g, []*consumerMember{mb})
}

// entomb writes the tombstones in Kafka's order.
func (g *consumerGroup) entomb(_ *Machine, fx *coordinator.Effects) {
	members := slices.Sorted(maps.Keys(g.members))
	for _, id := range members {
		g.cancelTimers(fx, id)
		fx.Append(currentKey(g.id, id), nil)
	}
	for _, id := range slices.Sorted(maps.Keys(g.target)) {
		fx.Append(targetKey(g.id, id), nil)
	}
	fx.Append(targetMetadataKey(g.id), nil)
	for _, id := range members {
		fx.Append(consumerMemberKey(g.id, id), nil)
	}
	for _, regex := range slices.Sorted(maps.Keys(g.regexes)) {
		fx.Append(regexKey(g.id, regex), nil)
	}
	fx.Append(partitionMetadataKey(g.id), nil)
	fx.Append(consumerGroupKey(g.id), nil)
}

func (g *consumerGroup) cancelTimers(fx *coordinator.Effects, member string) {
	fx.CancelTimer(consumerSessionTimer(g, member))
	fx.CancelTimer(rebalanceTimer(g, member))
	fx.CancelTimer(classicJoinTimer(g, member))
	fx.CancelTimer(classicSyncTimer(g, member))
}

func (g *consumerGroup) snapshot(emit func(key, value []byte)) {
	members := slices.Sorted(maps.Keys(g.members))
	epoch := g.epoch
	if plant.On(plant.EpochAhead) {
		epoch++
	}
	emit(consumerGroupKey(g.id), encodeGroupEpoch(epoch, g.hash))
	for _, id := range members {
		emit(consumerMemberKey(g.id, id), encodeConsumerMember(g.members[id]))
	}
	for _, regex := range slices.Sorted(maps.Keys(g.regexes)) {
		emit(regexKey(g.id, regex), encodeRegex(g.regexes[regex]))
	}
	for _, id := range slices.Sorted(maps.Keys(g.target)) {
		if !plant.On(plant.TargetLost) {
			emit(targetKey(g.id, id), encodeTarget(g.target[id]))
		}
	}
	emit(targetMetadataKey(g.id), encodeTargetMetadata(g.targetEpoch, g.targetAt))
	for _, id := range members {
		emit(currentKey(g.id, id), encodeCurrent(g.members[id]))
	}
	if g.legacyHash {
		emit(partitionMetadataKey(g.id), encodeNoPartitionMetadata())
	}
}

func (g *consumerGroup) subscribes(topic string) bool {
	_, ok := g.subscribed[topic]
	return ok
}

func (g *consumerGroup) mayDeleteOffsets() *kerr.Error { return nil }

func (g *consumerGroup) retention() func(*committed) int64 {
	return func(c *committed) int64 { return c.at }
}

// mayCommit allows a member whose epoch is not the newest to commit what was assigned to it at that epoch or before (KIP-1251), so that
// a commit on its way is not lost when the epoch goes up. A transaction may commit without saying for which member.
func (g *consumerGroup) mayCommit(by committer) (commitCheck, *kerr.Error) {
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
	case mb.classic == nil && by.version < 9 && !by.transactional:
		return nil, kerr.UnsupportedVersion
	case by.epoch == mb.epoch:
		return nil, nil
	case by.epoch > mb.epoch:
		return nil, mb.staleEpoch()
	}
	return func(_ string, topic base.TopicID, partition int32) *kerr.Error {
		since, ok := mb.assigned.epoch(topic, partition)
		if !ok {
			since, ok = mb.revoking.epoch(topic, partition)
		}
		if !ok || by.epoch < since {
			return mb.staleEpoch()
		}
		return nil
	}, nil
}

func (g *consumerGroup) mayFetch(by fetcher) *kerr.Error {
	if by.member == nil && by.epoch < 0 {
		return nil
	}
	mb := g.members[deref(by.member)]
	switch {
	case mb == nil:
		return kerr.UnknownMemberID
	case by.epoch != mb.epoch:
		return mb.staleEpoch()
	}
	return nil
}

// staleEpoch is the code for an epoch that is not the member's, in the words of its protocol.
func (m *consumerMember) staleEpoch() *kerr.Error {
	if m.classic != nil {
		return kerr.IllegalGeneration
	}
	return kerr.StaleMemberEpoch
}
