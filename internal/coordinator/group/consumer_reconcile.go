package group

import (
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/plant"
)

// reconcile brings a member a step nearer to its target and returns it:
//
//	             it is to give something back
//	reconciled ──────────────────────────────────▶ unrevoked
//	  │    ▲                                        │    ▲
//	  │    │ it has all of its target               │    │ a new target takes more away
//	  │    └───────────────────◀────────────────────┤    │
//	  │    │ what it waits for is free              │    │
//	  └──▶ unreleased ◀─────────────────────────────┘    │
//	       some of its target is with others             │
//	         └───────────────────────────────────────────┘
//
// A partition is given to a member only once no other has it. The member's epoch goes up to that of the target when it has nothing left
// to give back. changed says that its subscription did; owned is what it says that it has, nil: it does not say.
func (m *Machine) reconcile(fx *coordinator.Effects, g *consumerGroup, id string, changed bool, owned *holder) *consumerMember {
	mb := g.members[id]
	if !changed && mb.reconciledTo(g.targetEpoch) {
		return mb
	}
	next := g.step(m.env.Topics.Image(), mb, changed, owned)
	if next == nil {
		return mb
	}
	value := encodeCurrent(next)
	if m.tooLong(g.id, value) {
		return mb
	}
	fx.Append(currentKey(g.id, id), value)
	mb = g.members[id]
	if mb.classic == nil {
		if mb.state == unrevoked {
			fx.SetTimer(rebalanceTimer(g, id), millis(mb.rebalanceTimeout))
		} else {
			fx.CancelTimer(rebalanceTimer(g, id))
		}
	}
	return mb
}

// step returns what a member becomes; nil: it stays as it is.
func (g *consumerGroup) step(image TopicImage, mb *consumerMember, changed bool, owned *holder) *consumerMember {
	var next *consumerMember
	switch mb.state {
	case reconciled:
		switch {
		case mb.epoch != g.targetEpoch:
			next = g.toTarget(image, mb, mb.epoch, owned)
		case changed:
			next = g.withoutUnsubscribed(image, mb, owned)
		}
	case unrevoked:
		switch {
		case !owned.any(mb.revoking):
			next = g.toTarget(image, mb, mb.epoch, owned)
		case changed:
			next = g.withoutUnsubscribed(image, mb, owned)
		}
	case unreleased:
		next = g.toTarget(image, mb, mb.epoch, owned)
	default:
		next = g.toTarget(image, mb, g.targetEpoch, owned)
	}
	if next == nil || next.epoch == mb.epoch && next.previous == mb.previous && next.state == mb.state &&
		next.assigned.equal(mb.assigned) && next.revoking.equal(mb.revoking) {
		return nil
	}
	return next
}

// any reports whether the member has any partition of h, or may have.
func (b *holder) any(h holding) bool {
	if b == nil {
		return !plant.On(plant.SilenceGivesBack)
	}
	for _, t := range h {
		for _, p := range t.partitions {
			if _, ok := (*b)[t.topic][p]; ok {
				return true
			}
		}
	}
	return false
}

// toTarget is the next step towards the target. epoch is the member's while it has something to give back.
func (g *consumerGroup) toTarget(image TopicImage, mb *consumerMember, epoch int32, owned *holder) *consumerMember {
	subscribed := g.subscribedIDs(image, mb)
	target := g.target[mb.id]
	assigned, revoking := holder{}, holder{}
	for _, t := range mb.assigned {
		wanted := target.Of(t.topic)
		if !subscribed[t.topic] {
			wanted = nil
		}
		for i, p := range t.partitions {
			if _, keep := slices.BinarySearch(wanted, p); keep {
				assigned.add(t.topic, p, t.epochs[i])
			} else {
				revoking.add(t.topic, p, t.epochs[i])
			}
		}
	}
	next := *mb
	next.previous = mb.epoch
	if give := revoking.holding(); len(give) > 0 && owned.any(give) {
		next.epoch, next.state, next.assigned, next.revoking = epoch, unrevoked, assigned.holding(), give
		return &next
	}
	next.epoch, next.state, next.revoking = g.targetEpoch, reconciled, nil
	for _, t := range target {
		if !subscribed[t.Topic] {
			continue
		}
		has, gives := mb.assigned.of(t.Topic), mb.revoking.of(t.Topic)
		for _, p := range t.Partitions {
			if _, ok := has.epoch(p); ok {
				continue
			}
			if _, ok := gives.epoch(p); !ok && g.owned(t.Topic, p) && !plant.On(plant.PartitionTwice) {
				next.state = unreleased
				continue
			}
			assigned.add(t.Topic, p, g.targetEpoch)
		}
	}
	next.assigned = assigned.holding()
	return &next
}

// withoutUnsubscribed takes away what the member does not subscribe to any more, before there is a new target.
func (g *consumerGroup) withoutUnsubscribed(image TopicImage, mb *consumerMember, owned *holder) *consumerMember {
	subscribed := g.subscribedIDs(image, mb)
	var assigned holding
	revoking := holder{}
	revoking.addAll(mb.revoking)
	for _, t := range mb.assigned {
		if subscribed[t.topic] {
			assigned = append(assigned, t)
		} else {
			revoking.addAll(holding{t})
		}
	}
	if len(assigned) == len(mb.assigned) {
		return nil
	}
	next := *mb
	next.previous, next.assigned = mb.epoch, assigned
	if give := revoking.holding(); owned.any(give) {
		next.state, next.revoking = unrevoked, give
	}
	return &next
}

func (g *consumerGroup) subscribedIDs(image TopicImage, mb *consumerMember) map[base.TopicID]bool {
	ids := map[base.TopicID]bool{}
	for _, name := range g.topicsOf(mb) {
		if t, ok := image.Topic(name); ok {
			ids[t.ID] = true
		}
	}
	return ids
}
