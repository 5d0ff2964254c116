package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// describe writes a value as kafka-configs does.
func describe(v Value) string {
	shown := func(text string, null bool) string {
		if null {
			return "null"
		}
		return text
	}
	var synonyms []string
	for _, s := range v.Synonyms {
		synonyms = append(synonyms, fmt.Sprintf("%s:%s=%s", s.Source, s.Name, shown(s.Value, s.Null)))
	}
	return fmt.Sprintf("%s=%s sensitive=%v synonyms={%s}", v.Def.Name, shown(v.Value, v.Null), v.Def.Sensitive, strings.Join(synonyms, ", "))
}

// oursDiffer are the defaults that are not Kafka's; docs/configuration.md says why.
var oursDiffer = []string{"log.dir", "metric.reporters"}

func TestBrokerIsDescribedAsKafkas(t *testing.T) {
	text, err := os.ReadFile("testdata/brokers.txt")
	if err != nil {
		t.Fatal(err)
	}
	b := Default()
	n := 0
	for line := range strings.Lines(string(text)) {
		name, _, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || slices.Contains(oursDiffer, name) {
			continue
		}
		v, ok := b.Value(name)
		if !ok {
			t.Errorf("there is no setting %s", name)
			continue
		}
		if n++; describe(v) != strings.TrimSpace(line) {
			t.Errorf("described as\n     %s\nwant %s", describe(v), line)
		}
	}
	if n < 300 {
		t.Errorf("only %d settings were compared", n)
	}
}

func TestSynonymsOfLayers(t *testing.T) {
	b := load(t, Sources{Sets: []string{"log.retention.hours=10", "message.max.bytes=1000000", "ssl.key.password=secret"}})
	b, err := b.WithDynamic(map[string]string{"log.retention.ms": "7777"}, map[string]string{"log.retention.ms": "8888", "message.max.bytes": "2000000", "no.such.key": "5"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"log.retention.ms":    "log.retention.ms=8888 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:log.retention.ms=8888, DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=7777, STATIC_BROKER_CONFIG:log.retention.hours=10, DEFAULT_CONFIG:log.retention.hours=168}",
		"log.retention.hours": "log.retention.hours=10 sensitive=false synonyms={STATIC_BROKER_CONFIG:log.retention.hours=10, DEFAULT_CONFIG:log.retention.hours=168}",
		"message.max.bytes":   "message.max.bytes=2000000 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:message.max.bytes=2000000, STATIC_BROKER_CONFIG:message.max.bytes=1000000, DEFAULT_CONFIG:message.max.bytes=1048588}",
		"ssl.key.password":    "ssl.key.password=null sensitive=true synonyms={STATIC_BROKER_CONFIG:ssl.key.password=null}",
		"broker.rack":         "broker.rack=null sensitive=false synonyms={}",
	} {
		if v, _ := b.Value(name); describe(v) != want {
			t.Errorf("described as\n     %s\nwant %s", describe(v), want)
		}
	}
	topic := ResolveTopic(map[string]string{"retention.ms": "1000", "cleanup.policy": " compact, delete"}, b)
	if topic.Retention != time.Second || !topic.CleanupCompact || !topic.CleanupDelete || topic.MaxMessageBytes != 2000000 {
		t.Errorf("topic settings are %+v", topic)
	}
	want := map[string]string{
		"retention.ms":      "retention.ms=1000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=1000, DYNAMIC_BROKER_CONFIG:log.retention.ms=8888, DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=7777, STATIC_BROKER_CONFIG:log.retention.hours=10, DEFAULT_CONFIG:log.retention.hours=168}",
		"cleanup.policy":    "cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, DEFAULT_CONFIG:log.cleanup.policy=delete}",
		"max.message.bytes": "max.message.bytes=2000000 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:message.max.bytes=2000000, STATIC_BROKER_CONFIG:message.max.bytes=1000000, DEFAULT_CONFIG:message.max.bytes=1048588}",
		"flush.ms":          "flush.ms=9223372036854775807 sensitive=false synonyms={}",
		"segment.ms":        "segment.ms=604800000 sensitive=false synonyms={}",
		"segment.bytes":     "segment.bytes=1073741824 sensitive=false synonyms={DEFAULT_CONFIG:log.segment.bytes=1073741824}",
	}
	for _, v := range topic.Values {
		if w, ok := want[v.Def.Name]; ok && describe(v) != w {
			t.Errorf("described as\n     %s\nwant %s", describe(v), w)
		}
	}
	if len(topic.Values) != 33 {
		t.Errorf("a topic has %d settings, want 33", len(topic.Values))
	}
	// What one topic sets must not show in another.
	if other := ResolveTopic(nil, b); other.Retention != 8888*time.Millisecond || other.CleanupCompact {
		t.Errorf("settings of another topic are %+v", other)
	}
}

// TestInternalSegmentBytes: it goes before segment.bytes, as in Kafka, and may be smaller.
func TestInternalSegmentBytes(t *testing.T) {
	for want, topic := range map[int64]map[string]string{
		2000:    {"internal.segment.bytes": "2000", "segment.bytes": "2097152"},
		2097152: {"internal.segment.bytes": "x", "segment.bytes": "2097152"},
		1 << 30: {"segment.bytes": "2000"},
	} {
		if got := ResolveTopic(topic, Default()).SegmentBytes; got != want {
			t.Errorf("%v: segments of %d bytes, want %d", topic, got, want)
		}
	}
}

func TestTopicDefaults(t *testing.T) {
	c := ResolveTopic(nil, Default())
	if !c.CleanupDelete || c.CleanupCompact || c.Retention != 7*24*time.Hour || c.RetentionBytes != Unlimited || c.SegmentBytes != 1<<30 ||
		c.SegmentAge != 7*24*time.Hour || c.SegmentJitter != 0 || c.MaxMessageBytes != 1048588 || c.CompressionType != "producer" ||
		c.TimestampAfterMax != time.Hour || c.TimestampBeforeMax != 1<<63-1 || c.LogAppendTime || c.MinInsyncReplicas != 1 || c.IndexIntervalBytes != 4096 {
		t.Errorf("topic defaults are %+v", c)
	}
	b := load(t, Sources{Sets: []string{"log.retention.minutes=-1", "log.roll.jitter.hours=2"}})
	if c := ResolveTopic(nil, b); c.Retention != Unlimited || c.SegmentJitter != 2*time.Hour {
		t.Errorf("retention is %v, jitter %v", c.Retention, c.SegmentJitter)
	}
}

func TestValidateTopic(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"no.such", "1", "Unknown topic config name: no.such"},
		{"segment.bytes", "abc", "Invalid value abc for configuration segment.bytes: Not a number of type INT"},
		{"min.compaction.lag.ms", "9223372036854775807", ""},
		{"remote.storage.enable", "true", "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."},
		{"cleanup.policy", "", ""},
		{"retention.ms", "-1", ""},
	}
	for _, tt := range tests {
		err := ValidateTopic(map[string]string{tt.name: tt.value}, Default())
		if text := fmt.Sprint(err); text != tt.want && (tt.want != "" || err != nil) {
			t.Errorf("%s=%s gives %v, want %q", tt.name, tt.value, err, tt.want)
		}
	}
	err := ValidateTopic(map[string]string{"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"}, Default())
	if fmt.Sprint(err) != "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)" {
		t.Errorf("err is %v", err)
	}
}

func TestValidateGroupAndClientMetrics(t *testing.T) {
	group := func(settings map[string]string) error { return ValidateGroup(settings, Default()) }
	tests := []struct {
		check    func(map[string]string) error
		settings map[string]string
		want     string
	}{
		{group, map[string]string{"consumer.session.timeout.ms": "1"}, "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms"},
		{group, map[string]string{"share.record.lock.duration.ms": "90000"}, "share.record.lock.duration.ms must be less than or equal to group.share.max.record.lock.duration.ms"},
		{group, map[string]string{"streams.num.standby.replicas": "3"}, "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas"},
		{group, map[string]string{"foo": "1"}, "Unknown group config name: foo"},
		{group, map[string]string{"consumer.session.timeout.ms": "46000"}, "<nil>"},
		{ValidateClientMetrics, map[string]string{"interval.ms": "1"}, "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)"},
		{ValidateClientMetrics, map[string]string{"match": "foo=bar"}, "Illegal client matching pattern: foo=bar"},
		{ValidateClientMetrics, map[string]string{"match": "client_id=b*ar", "metrics": "a"}, "<nil>"},
		{ValidateClientMetrics, map[string]string{"foo": "1"}, "Unknown client metrics configuration: foo"},
	}
	for _, tt := range tests {
		if err := tt.check(tt.settings); fmt.Sprint(err) != tt.want {
			t.Errorf("%v gives %v, want %s", tt.settings, err, tt.want)
		}
	}
	values := ResolveGroup(map[string]string{"consumer.session.timeout.ms": "46000"}, Default())
	want := "consumer.session.timeout.ms=46000 sensitive=false synonyms={DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=46000, DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000}"
	if len(values) != 17 || describe(values[2]) != want {
		t.Errorf("%d values, the third is\n     %s\nwant %s", len(values), describe(values[2]), want)
	}
	metrics := ResolveClientMetrics(map[string]string{"interval.ms": "100"})
	if len(metrics) != 3 || describe(metrics[0]) != "interval.ms=100 sensitive=false synonyms={DYNAMIC_CLIENT_METRICS_CONFIG:interval.ms=100}" {
		t.Errorf("client metrics are %v", metrics)
	}
}

func TestDynamic(t *testing.T) {
	b := Default()
	tests := []struct {
		settings  map[string]string
		perBroker bool
		want      string
	}{
		{map[string]string{"broker.id": "5"}, true, "Cannot update these configs dynamically: [broker.id]"},
		{map[string]string{"listeners": "PLAINTEXT://:9"}, false, "Cannot update these configs at default cluster level, broker id must be specified: [listeners]"},
		{map[string]string{"no.such.key": "5"}, true, "<nil>"},
		{map[string]string{"message.max.bytes": "abc"}, true, "Invalid value abc for configuration message.max.bytes: Not a number of type INT"},
		{map[string]string{"log.retention.ms": "5"}, false, "<nil>"},
	}
	for _, tt := range tests {
		if err := b.ValidateDynamic(tt.settings, tt.perBroker); fmt.Sprint(err) != tt.want {
			t.Errorf("%v gives %v, want %s", tt.settings, err, tt.want)
		}
	}
	changed, err := b.WithDynamic(map[string]string{"message.max.bytes": "5000", "log.segment.bytes": "x"}, map[string]string{"max.connections": "7", "node.id": "9"})
	if changed == nil || err == nil || !strings.Contains(err.Error(), "log.segment.bytes") {
		t.Fatalf("err is %v", err)
	}
	if changed.MessageMaxBytes != 5000 || changed.MaxConnections != 7 || changed.NodeID != 1 || ResolveTopic(nil, changed).MaxMessageBytes != 5000 {
		t.Errorf("settings are %+v", changed)
	}
	if b.MessageMaxBytes != 1048588 || ResolveTopic(nil, b).MaxMessageBytes != 1048588 {
		t.Error("the settings before have changed")
	}
}

func TestTableIsSound(t *testing.T) {
	for resource, defs := range map[string][]*Def{"broker": BrokerDefs(), "topic": TopicDefs(), "group": GroupDefs(), "client-metrics": ClientMetricsDefs()} {
		seen := map[string]bool{}
		for _, d := range defs {
			if seen[d.Name] {
				t.Errorf("%s setting %s is there twice", resource, d.Name)
			}
			seen[d.Name] = true
			if !d.Null {
				if err := d.Parse(d.Default); err != nil {
					t.Errorf("%s setting %s: its default: %v", resource, d.Name, err)
				} else if got := canonical(d, d.Default); got != d.Default {
					t.Errorf("%s setting %s: its default %q is shown as %q", resource, d.Name, d.Default, got)
				}
			}
			if d.Doc == "" || !strings.HasSuffix(d.Doc, ".") {
				t.Errorf("%s setting %s has no sentence of documentation", resource, d.Name)
			}
			if d.Synonym != "" && BrokerDef(d.Synonym) == nil {
				t.Errorf("%s setting %s has the unknown synonym %s", resource, d.Name, d.Synonym)
			}
			if d.Sensitive != (d.Type == Password) {
				t.Errorf("%s setting %s: only passwords are secret", resource, d.Name)
			}
			if strings.HasPrefix(d.Name, "ottla.") && d.Effect != Effective {
				t.Errorf("%s has no effect", d.Name)
			}
		}
	}
	if n := len(BrokerDefs()); n != 360+10 {
		t.Errorf("%d broker settings, want Kafka's 360 and 10 of our own", n)
	}
}

func BenchmarkResolveTopic(b *testing.B) {
	broker := Default()
	b.ReportAllocs()
	for b.Loop() {
		ResolveTopic(map[string]string{"retention.ms": "1000"}, broker)
	}
}
