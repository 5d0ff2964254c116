package group

import (
	"maps"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// expire removes offsets that nobody has needed for offsets.retention.minutes, and groups that have none left (KIP-211):
//
//   - of a group without members: counted from when the last one left, or from each commit where there never was one;
//   - of a stable consumer group: counted from each commit, for topics that no member subscribes to;
//   - of any other group: never.
//
// An expiry that a commit before v5 asked for stands instead of the retention. Offsets of a topic that was deleted and made anew
// since they were committed go too.
func (m *Machine) expire(fx *coordinator.Effects) {
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		g := m.groups[id]
		if m.expireOffsets(fx, g) && g.state == empty {
			m.entomb(fx, g)
		}
	}
}

// expireOffsets reports whether the group has no offsets left.
func (m *Machine) expireOffsets(fx *coordinator.Effects, g *classicGroup) bool {
	retention := m.env.Config.OffsetsRetention.Milliseconds()
	now := fx.Now.UnixMilli()
	from := func(c *committed) int64 { return c.at }
	may := true
	if g.protocolType != "" {
		switch {
		case g.state == empty && g.since != base.NoTimestamp:
			from = func(*committed) int64 { return g.since }
		case g.state == empty:
		case g.consumers() && g.subscribed != nil && g.state == stable:
		default:
			may = false
		}
	}
	none := true
	topics := m.offsets[g.id]
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		id, _ := m.env.Topics.TopicID(topic)
		subscribed := g.subscribes(topic)
		for _, p := range slices.Sorted(maps.Keys(topics[topic])) {
			c := topics[topic][p]
			expired := now-from(&c) >= retention
			if c.expire != base.NoTimestamp {
				expired = now >= c.expire
			}
			if may && !subscribed && expired || differentTopics(c.topicID, id) {
				fx.Append(offsetKey(g.id, topic, p), nil)
			} else {
				none = false
			}
		}
	}
	return none
}

// TopicsDeleted removes the offsets committed for deleted topics. One of the same name may exist by now; its own offsets stay.
func (m *Machine) TopicsDeleted(fx *coordinator.Effects, names []string) {
	for _, group := range slices.Sorted(maps.Keys(m.offsets)) {
		for _, name := range names {
			id, exists := m.env.Topics.TopicID(name)
			partitions := m.offsets[group][name]
			for _, p := range slices.Sorted(maps.Keys(partitions)) {
				if c := partitions[p]; !exists || c.topicID != id {
					fx.Append(offsetKey(group, name, p), nil)
				}
			}
		}
	}
}
