package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// write makes a file of settings.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, s Sources) *Broker {
	t.Helper()
	b, err := Load(s)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return b
}

func TestDefaults(t *testing.T) {
	b := Default()
	if b.NodeID != 1 || b.DataDir != "data" || b.NumPartitions != 1 || !b.AutoCreateTopics || b.OffsetsTopicPartitions != 50 ||
		b.OffsetsTopicReplicationFactor != 1 || b.GroupInitialRebalanceDelay != 3*time.Second || b.AckWhen != AckSynced ||
		b.SocketRequestMaxBytes != 100<<20 || b.ConnectionsMaxIdle != 10*time.Minute || b.MessageMaxBytes != 1048588 {
		t.Errorf("defaults are %+v", b)
	}
	if len(b.Listeners) != 1 || b.Listeners[0].String() != "PLAINTEXT://127.0.0.1:9092" || len(b.Advertised) != 0 {
		t.Errorf("listeners are %v, advertised %v", b.Listeners, b.Advertised)
	}
	if w := b.Warnings(); len(w) > 0 {
		t.Errorf("the defaults have warnings: %q", w)
	}
}

// stockProperties are the settings of the server.properties that Kafka 4.3 comes with.
const stockProperties = `
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
#log.flush.interval.messages=10000
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
`

func TestStockServerPropertiesIsAccepted(t *testing.T) {
	b := load(t, Sources{File: write(t, "server.properties", stockProperties)})
	if b.DataDir != "/tmp/kraft-combined-logs" || len(b.Listeners) != 1 || b.Listeners[0].Address() != ":9092" ||
		len(b.Advertised) != 1 || b.Advertised[0].Host != "localhost" {
		t.Errorf("settings are %+v", b)
	}
	w := strings.Join(b.Warnings(), "\n")
	if !strings.Contains(w, "CONTROLLER://:9093 is not opened") || !strings.Contains(w, "num.io.threads, num.network.threads") || strings.Count(w, "\n") != 1 {
		t.Errorf("warnings are:\n%s", w)
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, "server.properties", "num.partitions=2\nlog.segment.bytes=2000000\nmessage.max.bytes=2\nfetch.max.bytes=2000\ngroup.max.size=2")
	b := load(t, Sources{
		File:    file,
		Environ: []string{"KAFKA_LOG_SEGMENT_BYTES=3000000", "KAFKA_MESSAGE_MAX_BYTES=3", "KAFKA_FETCH_MAX_BYTES=3000", "KAFKA_GROUP_MAX_SIZE=3", "OTTLA_MESSAGE_MAX_BYTES=4", "OTTLA_FETCH_MAX_BYTES=4000", "OTTLA_GROUP_MAX_SIZE=4", "OTTLA_ACK_WHEN=unsafe-memory", "PATH=/bin"},
		Flags:   map[string]string{"fetch.max.bytes": "5000", "group.max.size": "5"},
		Sets:    []string{"group.max.size=5", "group.max.size=6"},
	})
	c := ResolveTopic(nil, b)
	if b.NumPartitions != 2 || c.SegmentBytes != 3000000 || b.MessageMaxBytes != 4 || b.FetchMaxBytes != 5000 || b.GroupMaxSize != 6 || b.AckWhen != AckUnsafeMemory {
		t.Errorf("settings are %+v, segments of %d bytes", b, c.SegmentBytes)
	}
	for name, origin := range map[string]string{
		"num.partitions": "server.properties:1", "log.segment.bytes": "KAFKA_LOG_SEGMENT_BYTES", "message.max.bytes": "OTTLA_MESSAGE_MAX_BYTES",
		"fetch.max.bytes": "command line", "group.max.size": "--set", "num.io.threads": "",
	} {
		if v, _ := b.Value(name); v.Origin != origin {
			t.Errorf("%s comes from %q, want %q", name, v.Origin, origin)
		}
	}
}

func TestAssignorsMayBeGivenByKafkasClasses(t *testing.T) {
	b := load(t, Sources{Sets: []string{"group.consumer.assignors=org.apache.kafka.coordinator.group.assignor.RangeAssignor,uniform"}})
	if got := b.ConsumerGroupAssignors; !slices.Equal(got, []string{"range", "uniform"}) {
		t.Errorf("assignors are %q", got)
	}
	if v, _ := b.Value("group.consumer.assignors"); v.Value != "org.apache.kafka.coordinator.group.assignor.RangeAssignor,uniform" {
		t.Errorf("the setting is shown as %q", v.Value)
	}
}

func TestSettingsOfGroupsAreHeldToTheirBounds(t *testing.T) {
	for _, tc := range []struct {
		sets []string
		want string
	}{
		{[]string{"group.consumer.session.timeout.ms=10000"}, "group.consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms"},
		{[]string{"group.share.heartbeat.interval.ms=20000"}, "group.share.heartbeat.interval.ms must be less than or equal to group.share.max.heartbeat.interval.ms"},
		{[]string{"group.streams.num.standby.replicas=3"}, "group.streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas"},
		{[]string{"group.streams.min.session.timeout.ms=5000", "group.streams.session.timeout.ms=5000"}, "group.streams.heartbeat.interval.ms must be less than group.streams.session.timeout.ms"},
		{
			[]string{"group.share.min.session.timeout.ms=50000", "group.share.session.timeout.ms=50000", "group.share.max.session.timeout.ms=49000"},
			"group.share.max.session.timeout.ms must be greater than or equal to group.share.min.session.timeout.ms\n" +
				"--set: group.share.session.timeout.ms must be less than or equal to group.share.max.session.timeout.ms",
		},
		{[]string{"group.share.assignors=simple,other"}, "group.share.assignors must contain exactly one assignor, but found 2"},
		{[]string{"group.consumer.assignors=uniform,sticky"}, `--set: group.consumer.assignors: there is no consumer group assignor "sticky", only range and uniform`},
		{[]string{"group.share.assignors=range"}, `--set: group.share.assignors: there is no share group assignor "range", only simple`},
	} {
		_, err := Load(Sources{Sets: tc.sets})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.sets, err, tc.want)
		}
	}
}

func TestProblemsAreAllReportedWithPlaceAndSuggestion(t *testing.T) {
	file := write(t, "my.properties", "# first line\nlog.retention.msec=5\n\nnum.partitions=zero\nretention.ms=7\nlog.dirs=/a,/b\n")
	_, err := Load(Sources{File: file, Environ: []string{"OTTLA_TAIL_BITES=7", "KAFKA_NUM_PARTITION=7", "KAFKA_HEAP_OPTS=-Xmx1g"}, Sets: []string{"broken", "listeners=SSL://:9092"}})
	var p *Problems
	if !errors.As(err, &p) {
		t.Fatalf("err is %v", err)
	}
	want := []string{
		`my.properties:2: unknown setting "log.retention.msec", did you mean "log.retention.ms"?`,
		`my.properties:4: Invalid value zero for configuration num.partitions: Not a number of type INT`,
		`my.properties:5: unknown setting "retention.ms", did you mean "log.retention.ms"?`,
		`OTTLA_TAIL_BITES: unknown setting "ottla.tail.bites", did you mean "ottla.tail.bytes"?`,
		`--set: broken: want key=value`,
		`my.properties:6: log.dirs: exactly one data folder is possible, not 2`,
		`--set: listeners: listener SSL wants SSL, which this version does not have: only PLAINTEXT can be opened`,
	}
	got := strings.Split(err.Error(), "\n")
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, w) }) {
			t.Errorf("missing: %s", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d problems, want %d:\n%s", len(got), len(want), err)
	}
}

func TestUnknownKafkaVariablesOnlyWarn(t *testing.T) {
	b := load(t, Sources{Environ: []string{"KAFKA_BROKERS=a:1", "KAFKA_HEAP_OPTS=-Xmx1g", "KAFKA_NUM_PARTITION=7", "KAFKA_CONTROLLER_QUORUM_VOTERS=1@a:9093"}})
	w := b.Warnings()
	if len(w) != 3 || !strings.Contains(w[0], "KAFKA_BROKERS") || !strings.Contains(w[1], `did you mean "num.partitions"`) || !strings.Contains(w[2], "controller.quorum.voters") {
		t.Errorf("warnings are %q", w)
	}
}

func TestVariableKeys(t *testing.T) {
	for name, want := range map[string]string{
		"LOG_RETENTION_MS": "log.retention.ms", "A__B": "a-b", "A___B_C": "a_b.c", "LISTENERS": "listeners",
	} {
		if got := variableKey(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestYAML(t *testing.T) {
	file := write(t, "ottla.yaml", `
log:
  retention.ms: 3600000
  segment: {bytes: 2000000}
  dir: /a
  dir.failure.timeout.ms: 5
listeners: [PLAINTEXT://:9092, "INSIDE://10.0.0.1:9093"]
listener.security.protocol.map: PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT
ottla.ack.when: unsafe-written
auto.create.topics.enable: false
`)
	b := load(t, Sources{File: file})
	c := ResolveTopic(nil, b)
	if c.Retention != time.Hour || c.SegmentBytes != 2000000 || b.DataDir != "/a" || len(b.Listeners) != 2 || b.Listeners[1].Name != "INSIDE" || b.AutoCreateTopics {
		t.Errorf("settings are %+v", b)
	}
	for text, want := range map[string]string{
		"log:\n  retention:\n    mss: 4": "ottla.yml:3: unknown setting \"log.retention.mss\"",
		"- a":                            "want a mapping",
		"a: [b":                          "ottla.yml: ",
		"num.partitions: [[1]]":          "plain values",
		"num.partitions: &x 1\nb: *x":    "aliases",
	} {
		if _, err := Load(Sources{File: write(t, "ottla.yml", text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %s", text, err, want)
		}
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := Load(Sources{File: "/nowhere/server.properties"}); err == nil || !strings.Contains(err.Error(), "/nowhere/server.properties") {
		t.Errorf("err is %v", err)
	}
}

func TestProperties(t *testing.T) {
	tests := []struct{ text, key, value string }{
		{"a=b", "a", "b"},
		{"a:b", "a", "b"},
		{"a b", "a", "b"},
		{"  a  =  b  ", "a", "b  "},
		{"a = b = c", "a", "b = c"},
		{"a", "a", ""},
		{"a\\=b=c", "a=b", "c"},
		{"a=b\\\n   c", "a", "bc"},
		{"a=b\\\\", "a", `b\`},
		{"a=\\u0041\\t\\n\\r\\f\\q", "a", "A\t\n\r\fq"},
		{"a=\\ud83d\\ude00", "a", "😀"},
		{"a=é", "a", "é"},
		{"# x\n! y\n\n a=b\r\n", "a", "b"},
		{"a=b\\", "a", "b"},
		{"a\tb", "a", "b"},
	}
	for _, tt := range tests {
		entries, err := parseProperties(tt.text)
		if err != nil || len(entries) != 1 || entries[0].key != tt.key || entries[0].value != tt.value {
			t.Errorf("%q is %v, %v; want %q=%q", tt.text, entries, err, tt.key, tt.value)
		}
	}
	for _, bad := range []string{"a=\\u12", "a=\\uzzzz", "a=\xff"} {
		if _, err := parseProperties(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzProperties(f *testing.F) {
	for _, s := range []string{stockProperties, "a=b\\\nc", "a\\u0041=b", "\\", "=\\u", "a=\\ud83d\\u"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseProperties(text)
		total, lines := 0, strings.Count(text, "\n")+strings.Count(text, "\r")+1
		for _, e := range entries {
			total += len(e.key) + len(e.value)
			if e.line < 1 || e.line > lines {
				t.Errorf("entry %v is in line %d of %d", e, e.line, lines)
			}
		}
		if total > len(text) {
			t.Errorf("%d bytes out of %d", total, len(text))
		}
		if err != nil {
			return
		}
		// What comes out can be written so that it is read again as it was.
		var b strings.Builder
		escape := strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\r", "\\r", "\t", "\\t", "\f", "\\f", "=", "\\=", ":", "\\:", " ", "\\ ", "#", "\\#", "!", "\\!")
		for _, e := range entries {
			b.WriteString(escape.Replace(e.key) + "=" + escape.Replace(e.value) + "\n")
		}
		again, err := parseProperties(b.String())
		if err != nil || len(again) != len(entries) {
			t.Fatalf("%q read again: %d entries for %d, %v", text, len(again), len(entries), err)
		}
		for i := range again {
			if again[i].key != entries[i].key || again[i].value != entries[i].value {
				t.Errorf("entry %v read again is %v", entries[i], again[i])
			}
		}
	})
}

func FuzzYAML(f *testing.F) {
	f.Add("log:\n  retention.ms: 1\nlisteners: [a, b]")
	f.Add("a: &x 1\nb: *x")
	f.Fuzz(func(t *testing.T, text string) { _, _ = parseYAML(text) })
}

func TestListeners(t *testing.T) {
	tests := []struct {
		name                  string
		settings              []string
		listeners, advertised string
		problem               string
	}{
		{name: "all interfaces", settings: []string{"listeners=PLAINTEXT://:9092"}, listeners: "PLAINTEXT://:9092"},
		{name: "IPv6", settings: []string{"listeners=PLAINTEXT://[::1]:9092"}, listeners: "PLAINTEXT://[::1]:9092"},
		{name: "free port", settings: []string{"listeners=PLAINTEXT://127.0.0.1:0"}, listeners: "PLAINTEXT://127.0.0.1:0"},
		{name: "name in lower case", settings: []string{"listeners=plaintext://0.0.0.0:1"}, listeners: "PLAINTEXT://0.0.0.0:1"},
		{name: "several with names", settings: []string{
			"listeners=IN://:9092,OUT://:9093", "listener.security.protocol.map=IN:PLAINTEXT,OUT:PLAINTEXT", "advertised.listeners=OUT://example.org:443",
		}, listeners: "IN://:9092 OUT://:9093", advertised: "OUT://example.org:443"},
		{name: "as an image is configured", settings: []string{
			"listeners=PLAINTEXT://0.0.0.0:9092,BROKER://0.0.0.0:9093,CONTROLLER://0.0.0.0:9094", "controller.listener.names=CONTROLLER",
			"listener.security.protocol.map=BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT", "inter.broker.listener.name=BROKER",
			"advertised.listeners=PLAINTEXT://localhost:49153,BROKER://172.17.0.2:9093",
		}, listeners: "PLAINTEXT://0.0.0.0:9092 BROKER://0.0.0.0:9093", advertised: "PLAINTEXT://localhost:49153 BROKER://172.17.0.2:9093"},
		{name: "no protocol", settings: []string{"listeners=IN://:9092"}, problem: "no security protocol"},
		{name: "unknown protocol", settings: []string{"listener.security.protocol.map=PLAINTEXT:HTTP"}, problem: "security protocol HTTP"},
		{name: "SASL", settings: []string{"listeners=SASL_PLAINTEXT://:9092"}, problem: "wants SASL_PLAINTEXT"},
		{name: "same name", settings: []string{"listeners=PLAINTEXT://:1,PLAINTEXT://:2"}, problem: "different name"},
		{name: "same port", settings: []string{"listeners=IN://:1,OUT://10.0.0.1:1", "listener.security.protocol.map=IN:PLAINTEXT,OUT:PLAINTEXT"}, problem: "different port"},
		{name: "same port on other hosts", settings: []string{"listeners=IN://10.0.0.2:1,OUT://10.0.0.1:1", "listener.security.protocol.map=IN:PLAINTEXT,OUT:PLAINTEXT"}, listeners: "IN://10.0.0.2:1 OUT://10.0.0.1:1"},
		{name: "no port", settings: []string{"listeners=PLAINTEXT://localhost"}, problem: "NAME://host:port"},
		{name: "port too large", settings: []string{"listeners=PLAINTEXT://:70000"}, problem: "between 0 and 65535"},
		{name: "advertised to nobody", settings: []string{"advertised.listeners=PLAINTEXT://0.0.0.0:9092"}, problem: "meta-address 0.0.0.0"},
		{name: "advertised without host", settings: []string{"advertised.listeners=PLAINTEXT://:9092"}, problem: "has no host"},
		{name: "advertised and not opened", settings: []string{"advertised.listeners=OUT://a:9092"}, problem: "OUT is not one of listeners"},
		{name: "only controllers", settings: []string{"listeners=CONTROLLER://:9093", "controller.listener.names=CONTROLLER"}, problem: "no listener is left"},
		{name: "empty", settings: []string{"listeners="}, problem: "must not be empty"},
	}
	join := func(all []Listener) string {
		var s []string
		for _, l := range all {
			s = append(s, l.String())
		}
		return strings.Join(s, " ")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Load(Sources{Sets: tt.settings})
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("err is %v, want only %q", err, tt.problem)
				}
				return
			}
			if err != nil || join(b.Listeners) != tt.listeners || join(b.Advertised) != tt.advertised {
				t.Errorf("listeners are %v, advertised %v, err %v", join(b.Listeners), join(b.Advertised), err)
			}
		})
	}
}

func TestSettingsThatContradict(t *testing.T) {
	tests := map[string][]string{
		"log.retention.ms must be unlimited":  {"log.retention.ms=0"},
		"must be the same":                    {"node.id=1", "broker.id=2"},
		"can be set to zero only":             {"max.connections.per.ip=0"},
		"is not host:limit":                   {"max.connections.per.ip.overrides=a"},
		"this version has no authorizer":      {"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"},
		"must not be above group.max.session": {"group.min.session.timeout.ms=2000000"},
		"a quarter of ottla.wal.max.bytes":    {"message.max.bytes=100000000", "ottla.wal.max.bytes=20000000"},
		"unknown compression type id: 9":      {"offsets.topic.compression.codec=9"},
	}
	for want, settings := range tests {
		if _, err := Load(Sources{Sets: settings}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %s", settings, err, want)
		}
	}
	b := load(t, Sources{Sets: []string{"broker.id=7", "max.connections.per.ip=0", "max.connections.per.ip.overrides=127.0.0.1:5, ::1:6"}})
	if b.NodeID != 7 || b.MaxConnectionsPerIP != -1 || b.MaxConnectionsPerIPOverrides["127.0.0.1"] != 5 || b.MaxConnectionsPerIPOverrides["::1"] != 6 {
		t.Errorf("settings are %+v", b)
	}
}
