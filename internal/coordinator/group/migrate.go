package group

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// A group with members changes its protocol online: to that of consumer groups when the first member joins in it, and back when only
// members of the classic protocol are left. Generation and group epoch go on from each other, so what was assigned stays assigned.

// upgraded is the consumer group that a classic group would be.
func (m *Machine) upgraded(c *classicGroup) (*consumerGroup, *Refusal) {
	no := func(why string) (*consumerGroup, *Refusal) {
		return nil, refuse(kerr.GroupIDNotFound, "Cannot upgrade classic group %s to consumer group because %s.", c.id, why)
	}
	switch {
	case !m.env.Config.Migration.upgrades():
		return no("online upgrade is disabled")
	case !c.consumers():
		return no("the group does not use the consumer embedded protocol")
	case len(c.members) > m.env.Config.ConsumerMaxSize:
		return no("the group size exceeds the consumer group maximum size")
	}
	image := m.env.Topics.Image()
	g := newConsumerGroup(c.id)
	g.epoch, g.targetEpoch = c.generation, c.generation
	name := deref(c.protocol)
	if c.protocol == nil {
		name = c.choose() // it was not chosen yet
	}
	for _, old := range c.order {
		a, custom, ok := parseAssignment(image, old.assignment)
		s, readable := parseSubscription(old.metadata(name))
		switch {
		case !ok || !readable:
			return no("the embedded consumer protocol is malformed")
		case custom:
			return no("an unsupported custom assignor is in use. Please refer to the documentation or switch to a default assignor before re-attempting the upgrade")
		}
		mb := newConsumerMember(old.id)
		mb.epoch, mb.previous = c.generation, c.generation
		mb.instance, mb.rack, mb.clientID, mb.clientHost = old.instance, s.rack, old.clientID, old.clientHost
		mb.rebalanceTimeout, mb.topics, mb.assigned = old.rebalanceTimeout, sortedNames(s.topics), hold(a, c.generation)
		mb.classic = &classicMetadata{sessionTimeout: old.sessionTimeout, protocols: old.protocols}
		g.put(mb)
		g.target[mb.id] = a
	}
	g.hash = topicsHash(image, g.topicNames())
	return g, nil
}

// upgrade makes a classic group the consumer group g.
func (m *Machine) upgrade(fx *coordinator.Effects, c *classicGroup, g *consumerGroup) {
	for _, mb := range c.order {
		mb.join.Answer(fx, refuseJoin(noJoin, mb.id, kerr.RebalanceInProgress))
		mb.sync.Answer(fx, refuseSync(kerr.RebalanceInProgress))
	}
	c.entomb(m, fx)
	members := sortedKeys(g.members)
	for _, id := range members {
		fx.Append(consumerMemberKey(g.id, id), encodeConsumerMember(g.members[id]))
	}
	fx.Append(consumerGroupKey(g.id), encodeConsumerGroup(g))
	for _, id := range members {
		fx.Append(targetKey(g.id, id), encodeTarget(g.target[id]))
	}
	fx.Append(targetMetadataKey(g.id), encodeTargetMetadata(g.targetEpoch, 0))
	for _, id := range members {
		fx.Append(currentKey(g.id, id), encodeCurrent(g.members[id]))
		m.consumerSession(fx, g, g.members[id])
	}
	m.log("a classic group is a consumer group now", g.id, "members", len(members))
}

// mayDowngrade reports whether a consumer group becomes a classic one when some members go.
func (m *Machine) mayDowngrade(g *consumerGroup, going []*consumerMember) bool {
	classic := g.classicMembers
	for _, mb := range going {
		if mb.classic != nil {
			classic--
		}
	}
	left := len(g.members) - len(going)
	return left > 0 && classic == left && m.env.Config.Migration.downgrades() && left <= m.env.Config.MaxSize
}

// downgrade makes a consumer group a classic one, without some members; all others speak the classic protocol. It reports false, and
// leaves the group as it is, where the classic group would be too large to be recorded.
func (m *Machine) downgrade(fx *coordinator.Effects, g *consumerGroup, going []*consumerMember, rebalance bool) bool {
	image := m.env.Topics.Image()
	c := newClassicGroup(g.id, fx.Now.UnixMilli())
	c.protocolType, c.generation, c.state = consumerProtocol, g.epoch, stable
	for _, id := range sortedKeys(g.members) {
		mb := g.members[id]
		if slices.Contains(going, mb) {
			continue
		}
		c.add(&member{
			id: id, instance: mb.instance, clientID: mb.clientID, clientHost: mb.clientHost,
			rebalanceTimeout: mb.rebalanceTimeout, sessionTimeout: mb.classic.sessionTimeout, protocols: mb.classic.protocols,
		}, nil)
	}
	c.protocol = ptr(c.choose())
	for _, mb := range c.order {
		s, _ := parseSubscription(mb.metadata(*c.protocol))
		mb.assignment = appendAssignment(image, s.version, g.target[mb.id])
	}
	value := encodeGroup(c)
	if m.tooLong(g.id, value) {
		return false
	}
	g.entomb(m, fx)
	fx.Append(groupKey(g.id), value)
	restored := m.classic(g.id)
	for i, mb := range restored.order {
		m.use(-mb.size())
		restored.count(mb, -1)
		mb.protocols = c.order[i].protocols // all that it offers, of which the record has one
		restored.count(mb, 1)
		m.use(mb.size())
		m.session(fx, restored, mb)
	}
	m.log("a consumer group is a classic group now", g.id, "members", len(restored.order))
	if rebalance {
		m.prepareRebalance(fx, restored, "the group became a classic one")
	}
	return true
}
