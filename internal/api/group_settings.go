package api

import (
	"sync/atomic"

	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/share"
)

// GroupSettings shows the settings of groups to the group coordinator: those of the group resource, over the broker's dynamic and static
// ones. It follows the metadata, and is safe for concurrent use.
type GroupSettings struct {
	metadata *metadata.Metadata
	broker   atomic.Pointer[config.Broker] // with its dynamic settings
}

// NewGroupSettings subscribes to the metadata.
func NewGroupSettings(cfg *config.Broker, m *metadata.Metadata) *GroupSettings {
	s := &GroupSettings{metadata: m}
	dynamic := func(image *metadata.Image) *config.Broker {
		// What does not parse was refused when it was set.
		b, _ := cfg.WithDynamic(image.Config(metadata.Resource{Type: metadata.ResourceBroker}), image.Config(ownResource(cfg)))
		return b
	}
	now := m.Subscribe(func(prev, next *metadata.Image) {
		if s.broker.Load() == nil || brokerConfigChanged(next.Diff(prev)) {
			s.broker.Store(dynamic(next))
		}
	})
	s.broker.CompareAndSwap(nil, dynamic(now)) // unless a newer one has come already
	return s
}

func (s *GroupSettings) of(name string) (own map[string]string, broker *config.Broker) {
	return s.metadata.Image().Config(metadata.Resource{Type: metadata.ResourceGroup, Name: name}), s.broker.Load()
}

// Consumer returns the settings of a consumer group.
func (s *GroupSettings) Consumer(name string) group.ConsumerSettings {
	own, b := s.of(name)
	return group.ConsumerSettings{
		SessionTimeout:     config.GroupMillis(own, b, "consumer.session.timeout.ms"),
		HeartbeatInterval:  config.GroupMillis(own, b, "consumer.heartbeat.interval.ms"),
		AssignmentInterval: config.GroupMillis(own, b, "consumer.assignment.interval.ms"),
	}
}

// ShareMembers returns the settings of a share group's membership.
func (s *GroupSettings) ShareMembers(name string) group.ShareSettings {
	own, b := s.of(name)
	return group.ShareSettings{
		SessionTimeout:     config.GroupMillis(own, b, "share.session.timeout.ms"),
		HeartbeatInterval:  config.GroupMillis(own, b, "share.heartbeat.interval.ms"),
		AssignmentInterval: config.GroupMillis(own, b, "share.assignment.interval.ms"),
	}
}

// Streams returns the settings of a streams group.
func (s *GroupSettings) Streams(name string) group.StreamsSettings {
	own, b := s.of(name)
	return group.StreamsSettings{
		SessionTimeout:     config.GroupMillis(own, b, "streams.session.timeout.ms"),
		HeartbeatInterval:  config.GroupMillis(own, b, "streams.heartbeat.interval.ms"),
		AssignmentInterval: config.GroupMillis(own, b, "streams.assignment.interval.ms"),
		InitialDelay:       config.GroupMillis(own, b, "streams.initial.rebalance.delay.ms"),
		StandbyReplicas:    int(config.GroupInt(own, b, "streams.num.standby.replicas")),
	}
}

// Share returns what a share group's settings say of its records.
func (s *GroupSettings) Share(name string) config.ShareGroup {
	return config.ResolveShareGroup(s.of(name))
}

// SharePartitions is Share as share partitions know it.
func (s *GroupSettings) SharePartitions(name string) share.Settings {
	g := s.Share(name)
	return share.Settings{LockDuration: g.RecordLockDuration, DeliveryLimit: g.DeliveryCountLimit, MaxLocks: g.MaxRecordLocks, Renewable: g.RenewAcknowledge}
}
