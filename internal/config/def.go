package config

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Type is the type of a setting's value; the numbers are DescribeConfigs'.
type Type uint8

// The types that settings have.
const (
	Boolean Type = iota + 1
	String
	Int
	Short
	Long
	Double
	List
	Class
	Password
)

// String is Kafka's name of the type.
func (t Type) String() string {
	return [...]string{"", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"}[t]
}

// UpdateMode says how a broker setting may change while the broker runs (KIP-226).
type UpdateMode uint8

// The update modes, as in Kafka's documentation of broker settings.
const (
	ReadOnly    UpdateMode = iota // needs a restart
	PerBroker                     // may be set for one broker
	ClusterWide                   // may be set for one broker, or as the default of all
)

// String is Kafka's name of the mode.
func (m UpdateMode) String() string { return [...]string{"read-only", "per-broker", "cluster-wide"}[m] }

// Effect says what this broker does with a setting.
type Effect uint8

// The effects of settings.
const (
	// Accepted settings are Kafka's; they are checked and shown, and change nothing here yet.
	Accepted Effect = iota
	// Effective settings change what the broker does.
	Effective
)

// Def defines one setting. Definitions are shared: nobody changes them.
type Def struct {
	// Name is Kafka's key, or one of Ottla's own with the prefix ottla.
	Name string
	Type Type
	// Default is the default as text; Null says that there is none.
	Default string
	Null    bool
	// Valid checks a value beyond its type; nil means that any value of the type will do.
	Valid Validator
	// Mode is how a broker setting may change at run time. Settings of other resources always may.
	Mode UpdateMode
	// Synonym is the broker setting that a topic's or a group's takes its default from.
	Synonym string
	// Sensitive values are never shown.
	Sensitive bool
	// Internal settings are accepted and not described.
	Internal bool
	Effect   Effect
	// Doc is a sentence or two for the documentation and for DescribeConfigs.
	Doc string
}

// ReadOnly reports whether DescribeConfigs marks a broker setting as read-only.
func (d *Def) ReadOnly() bool { return d.Mode == ReadOnly }

// Parse checks text as a value of the setting: type, then range. Errors are *InvalidError.
func (d *Def) Parse(text string) error {
	_, err := d.parse(text)
	return err
}

// parse returns text as bool, int64, float64, string or []string, by type.
func (d *Def) parse(text string) (any, error) {
	v, err := parseAs(d, text)
	if err != nil {
		return nil, err
	}
	if d.Valid != nil {
		if err := d.Valid.check(d.Name, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// InvalidError is a value that a setting cannot have. Text is what Kafka says of it.
type InvalidError struct{ Name, Text string }

// Error returns Text.
func (e *InvalidError) Error() string { return e.Text }

// invalid makes Kafka's most common text.
func invalid(name, value, reason string) *InvalidError {
	return &InvalidError{name, fmt.Sprintf("Invalid value %s for configuration %s: %s", value, name, reason)}
}

// table is an ordered set of definitions.
type table struct {
	defs   []*Def
	byName map[string]*Def
}

func newTable(parts ...[]Def) *table {
	t := &table{byName: map[string]*Def{}}
	for _, part := range parts {
		for i := range part {
			t.defs = append(t.defs, &part[i])
			t.byName[part[i].Name] = &part[i]
		}
	}
	slices.SortFunc(t.defs, func(a, b *Def) int { return strings.Compare(a.Name, b.Name) })
	return t
}

var (
	brokers = sync.OnceValue(func() *table {
		return newTable(serverTable, logTable, groupSettingsTable, metadataTable, remoteTable, securityTable, ottlaTable)
	})
	topics        = sync.OnceValue(func() *table { return newTable(topicTable) })
	groups        = sync.OnceValue(func() *table { return newTable(groupTable) })
	clientMetrics = sync.OnceValue(func() *table { return newTable(clientMetricsTable) })
)

// BrokerDefs returns the broker settings in order of name.
func BrokerDefs() []*Def { return slices.Clone(brokers().defs) }

// TopicDefs returns the topic settings in order of name.
func TopicDefs() []*Def { return slices.Clone(topics().defs) }

// GroupDefs returns the group settings in order of name.
func GroupDefs() []*Def { return slices.Clone(groups().defs) }

// ClientMetricsDefs returns the settings of client-metrics subscriptions (KIP-714) in order of name.
func ClientMetricsDefs() []*Def { return slices.Clone(clientMetrics().defs) }

// BrokerDef returns a broker setting, nil if there is none of that name.
func BrokerDef(name string) *Def { return brokers().byName[name] }

// TopicDef returns a topic setting, nil if there is none of that name.
func TopicDef(name string) *Def { return topics().byName[name] }

// GroupDef returns a group setting, nil if there is none of that name.
func GroupDef(name string) *Def { return groups().byName[name] }

// ClientMetricsDef returns a setting of client-metrics subscriptions, nil if there is none of that name.
func ClientMetricsDef(name string) *Def { return clientMetrics().byName[name] }
