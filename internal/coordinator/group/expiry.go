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
		if m.expireOffsets(fx, id, g) && g.isEmpty() && !m.hasPending(id) {
			g.entomb(m, fx)
		}
	}
}

// expireOffsets reports whether the group has no offsets left.
func (m *Machine) expireOffsets(fx *coordinator.Effects, group string, g group) bool {
	retention := m.env.Config.OffsetsRetention.Milliseconds()
	now := fx.Now.UnixMilli()
	since := g.retention()
	none := true
	topics := m.offsets[group]
	image := m.env.Topics.Image()
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		id := topicID(image, topic)
		subscribed := g.subscribes(topic)
		for _, p := range slices.Sorted(maps.Keys(topics[topic])) {
			c := topics[topic][p]
			expired := since != nil && !subscribed
			switch {
			case c.expire != base.NoTimestamp:
				expired = expired && now >= c.expire
			case expired:
				expired = now-since(&c) >= retention
			}
			if expired || differentTopics(c.topicID, id) {
				fx.Append(offsetKey(group, topic, p), nil)
			} else {
				none = false
			}
		}
	}
	return none
}

// TopicsDeleted removes the offsets committed for deleted topics. One of the same name may exist by now; its own offsets stay.
func (m *Machine) TopicsDeleted(fx *coordinator.Effects, names []string) {
	image := m.env.Topics.Image()
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		if g := m.share(id); g != nil {
			m.forgetShareTopics(fx, g)
		}
	}
	for _, group := range slices.Sorted(maps.Keys(m.offsets)) {
		for _, name := range names {
			t, exists := image.Topic(name)
			partitions := m.offsets[group][name]
			for _, p := range slices.Sorted(maps.Keys(partitions)) {
				if c := partitions[p]; !exists || c.topicID != t.ID {
					fx.Append(offsetKey(group, name, p), nil)
				}
			}
		}
	}
}
