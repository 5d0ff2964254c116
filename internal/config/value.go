package config

// Source says where a value comes from; the numbers are DescribeConfigs' (KIP-226).
type Source int8

// The sources.
const (
	SourceUnknown              Source = 0
	SourceDynamicTopic         Source = 1
	SourceDynamicBroker        Source = 2
	SourceDynamicDefaultBroker Source = 3
	SourceStaticBroker         Source = 4
	SourceDefault              Source = 5
	SourceDynamicBrokerLogger  Source = 6
	SourceDynamicClientMetrics Source = 7
	SourceDynamicGroup         Source = 8
)

// String is Kafka's name of the source.
func (s Source) String() string {
	names := [...]string{
		"UNKNOWN", "DYNAMIC_TOPIC_CONFIG", "DYNAMIC_BROKER_CONFIG", "DYNAMIC_DEFAULT_BROKER_CONFIG", "STATIC_BROKER_CONFIG",
		"DEFAULT_CONFIG", "DYNAMIC_BROKER_LOGGER_CONFIG", "DYNAMIC_CLIENT_METRICS_CONFIG", "DYNAMIC_GROUP_CONFIG",
	}
	if s < 0 || int(s) >= len(names) {
		return names[0]
	}
	return names[s]
}

// Value is one setting as DescribeConfigs shows it.
type Value struct {
	Def    *Def
	Value  string // empty for a secret
	Null   bool   // there is no value, or it is a secret
	Source Source
	// Synonyms are all the places that give the setting a value, the one in force first. The slice is shared.
	Synonyms []SynonymValue
	// Origin is where a static value was read: "server.properties:12", "KAFKA_LOG_RETENTION_MS", "--set"; or empty.
	Origin string
}

// SynonymValue is one place that gives a setting a value.
type SynonymValue struct {
	Name   string
	Value  string
	Null   bool
	Source Source
}
