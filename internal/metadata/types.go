package metadata

import (
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// Topic is a topic. It is immutable; a change makes a new one.
type Topic struct {
	Name string
	ID   base.TopicID
	// Created is when the topic was created, in whole milliseconds.
	Created time.Time
	// Internal marks the topics that belong to the coordinators.
	Internal bool
	// Configs are the topic's own settings, not its defaults. It may be nil.
	Configs map[string]string
	// ReplicationFactor is the number of replicas of each partition.
	ReplicationFactor int16
	// Partitions by index. The slice may be shared between topics.
	Partitions []Partition

	modRevision int64
}

// Partition is where a partition is and who leads it.
type Partition struct {
	Leader      base.BrokerID
	LeaderEpoch base.LeaderEpoch
	Replicas    []base.BrokerID
	ISR         []base.BrokerID
}

// Broker is a registered broker.
type Broker struct {
	ID        base.BrokerID
	Rack      string // empty = none
	Endpoints []Endpoint
}

// Endpoint is an advertised listener.
type Endpoint struct {
	Name     string // the listener's name
	Host     string
	Port     int
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL
}

// ResourceType is what a configuration belongs to. The numbers are the protocol's (ConfigResource.Type).
type ResourceType int8

// The resources that carry settings. Those of a topic are part of the topic: see Topic.Configs.
const (
	ResourceTopic         ResourceType = 2
	ResourceBroker        ResourceType = 4
	ResourceClientMetrics ResourceType = 16
	ResourceGroup         ResourceType = 32
)

// Resource names something that carries settings. A broker's name is its id in decimal, or empty for the defaults of all
// brokers.
type Resource struct {
	Type ResourceType
	Name string
}

// Tombstone is what is kept of a deleted topic until nothing on disk names its id any more.
type Tombstone struct {
	ID         base.TopicID
	Name       string
	Partitions int32
	Deleted    time.Time
}
