package metadata

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ottlaio/ottla/internal/base"
)

// The keys. docs/formats/metadata.md has the table with their values.
const (
	keyCluster      = "cluster"
	keyFeatures     = "features"
	keyLeaderEpochs = "counters/leader-epochs"
	keyProducerIDs  = "counters/producer-ids"
	// keyTopicGuard is compared and written by every transaction that creates or deletes topics. So no two of them miss each
	// other's names (a.b and a_b are different keys, yet must not both exist), and a topic whose key was lost is missed.
	keyTopicGuard = "guards/topics"

	prefixTopics  = "topics/"
	prefixDeleted = "deleted/"
	prefixConfigs = "configs/"
	prefixBrokers = "brokers/"

	// defaultName stands for the empty name of a resource. It cannot be an escaped name.
	defaultName = "<default>"
)

var resourceTypeNames = map[ResourceType]string{
	ResourceBroker:        "broker",
	ResourceClientMetrics: "client-metrics",
	ResourceGroup:         "group",
	ResourceTopic:         "topic",
}

// String is the type's name as it stands in keys, "client-metrics" say.
func (t ResourceType) String() string {
	if name, ok := resourceTypeNames[t]; ok {
		return name
	}
	return "resource-type-" + strconv.Itoa(int(t))
}

func topicKey(name string) string         { return prefixTopics + escapeName(name) }
func tombstoneKey(id base.TopicID) string { return prefixDeleted + id.String() }
func brokerKey(id base.BrokerID) string   { return prefixBrokers + strconv.Itoa(int(id)) }

func configKey(r Resource) string {
	name := defaultName
	if r.Name != "" {
		name = escapeName(r.Name)
	}
	return prefixConfigs + r.Type.String() + "/" + name
}

// parseConfigKey reads what configKey wrote, without its prefix.
func parseConfigKey(rest string) (Resource, error) {
	kind, escaped, ok := strings.Cut(rest, "/")
	if !ok {
		return Resource{}, fmt.Errorf("no resource name")
	}
	for t, name := range resourceTypeNames {
		if name != kind || t == ResourceTopic { // a topic's settings are in the topic
			continue
		}
		if escaped == defaultName {
			return Resource{Type: t}, nil
		}
		name, err := unescapeName(escaped)
		if err == nil && name == "" {
			err = fmt.Errorf("empty name")
		}
		return Resource{Type: t, Name: name}, err
	}
	return Resource{}, fmt.Errorf("unknown resource type %q", kind)
}

func plainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// escapeName writes a name so that it holds only plain characters: any other byte becomes % and two upper-case hex digits.
func escapeName(name string) string {
	plain := true
	for i := 0; i < len(name) && plain; i++ {
		plain = plainByte(name[i])
	}
	if plain {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; plainByte(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// unescapeName reads exactly what escapeName writes.
func unescapeName(escaped string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		if c == '%' && i+2 < len(escaped) {
			n, err := strconv.ParseUint(escaped[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("bad escape in %q", escaped)
			}
			c, i = byte(n), i+2
		}
		b.WriteByte(c)
	}
	name := b.String()
	if escapeName(name) != escaped {
		return "", fmt.Errorf("%q is not how a name is escaped", escaped)
	}
	return name, nil
}
