package api

import (
	"sync/atomic"

	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/metadata"
)

// GroupSettings shows the settings of consumer groups to the group coordinator: those of the group resource, over the broker's dynamic
// and static ones. It follows the metadata.
func GroupSettings(cfg *config.Broker, m *metadata.Metadata) func(name string) group.ConsumerSettings {
	var broker atomic.Pointer[config.Broker]
	dynamic := func(image *metadata.Image) *config.Broker {
		// What does not parse was refused when it was set.
		b, _ := cfg.WithDynamic(image.Config(metadata.Resource{Type: metadata.ResourceBroker}), image.Config(ownResource(cfg)))
		return b
	}
	now := m.Subscribe(func(prev, next *metadata.Image) {
		if broker.Load() == nil || brokerConfigChanged(next.Diff(prev)) {
			broker.Store(dynamic(next))
		}
	})
	broker.CompareAndSwap(nil, dynamic(now)) // unless a newer one has come already
	return func(name string) group.ConsumerSettings {
		own := m.Image().Config(metadata.Resource{Type: metadata.ResourceGroup, Name: name})
		b := broker.Load()
		return group.ConsumerSettings{
			SessionTimeout:     config.GroupMillis(own, b, "consumer.session.timeout.ms"),
			HeartbeatInterval:  config.GroupMillis(own, b, "consumer.heartbeat.interval.ms"),
			AssignmentInterval: config.GroupMillis(own, b, "consumer.assignment.interval.ms"),
		}
	}
}
