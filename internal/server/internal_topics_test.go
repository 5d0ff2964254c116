package server

import (
	"strings"
	"testing"

	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/metadata"
)

// Apache Kafka 4.3.1 starts with such a size, and then fails to create the topic: INVALID_CONFIG, with this text.
func TestCoordinatorsTopicsHaveSegmentsThatTopicsMayHave(t *testing.T) {
	m, err := metadata.Open(t.Context(), metadata.Options{Store: metadata.NewMemory(), BrokerID: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, tc := range []struct{ setting, topic string }{
		{"offsets.topic.segment.bytes", "__consumer_offsets"},
		{"transaction.state.log.segment.bytes", "__transaction_state"},
		{"share.coordinator.state.topic.segment.bytes", "__share_group_state"},
	} {
		ensure := func(bytes string) error {
			cfg, err := config.Load(config.Sources{Sets: []string{"log.dirs=/data", tc.setting + "=" + bytes}})
			if err != nil {
				t.Fatal(err)
			}
			topics := map[string]*internalTopic{}
			for _, topic := range []*internalTopic{offsetsTopic(cfg, m, nil), transactionTopic(cfg, m, nil), shareTopic(cfg, m, nil)} {
				topics[topic.name] = topic
			}
			return topics[tc.topic].Ensure(t.Context())
		}
		err := ensure("1048575")
		if err == nil || !strings.HasSuffix(err.Error(), "Invalid value 1048575 for configuration segment.bytes: Value must be at least 1048576") {
			t.Errorf("%s=1048575: %v", tc.setting, err)
		}
		if _, ok := m.Image().Topic(tc.topic); ok {
			t.Errorf("%s=1048575: %s was created", tc.setting, tc.topic)
		}
		if err := ensure("1048576"); err != nil {
			t.Errorf("%s=1048576: %v", tc.setting, err)
		}
		if topic, ok := m.Image().Topic(tc.topic); !ok || topic.Configs["segment.bytes"] != "1048576" {
			t.Errorf("%s=1048576: %s was not created so", tc.setting, tc.topic)
		}
	}
}
