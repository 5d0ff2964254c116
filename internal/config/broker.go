package config

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// AckWhen says when the answer to a produce may go out (ottla.ack.when).
type AckWhen string

// The values of ottla.ack.when.
const (
	AckSynced        AckWhen = "synced"         // once the records are on stable storage
	AckUnsafeWritten AckWhen = "unsafe-written" // once they are handed to the operating system
	AckUnsafeMemory  AckWhen = "unsafe-memory"  // once they are in the broker's memory
)

// Broker holds the settings of a broker: typed fields for what the broker uses, and every value with its origin.
// It is immutable and safe for concurrent use; WithDynamic returns a changed copy. Get one from Load or Default.
type Broker struct {
	NodeID  base.BrokerID // node.id, broker.id
	Rack    string        // broker.rack
	DataDir string        // log.dirs, log.dir

	Listeners  []Listener // at least one; in the order of the setting
	Advertised []Listener // of a listener without one: tell clients the address they reached us by

	// Connections and requests.
	SocketRequestMaxBytes        int            // socket.request.max.bytes
	ConnectionsMaxIdle           time.Duration  // connections.max.idle.ms, negative: never
	MaxConnections               int            // max.connections
	MaxConnectionsPerIP          int            // max.connections.per.ip, -1 where the setting is 0: none
	MaxConnectionsPerIPOverrides map[string]int // max.connections.per.ip.overrides, by address or host name
	MaxInFlightPerConnection     int            // ottla.connection.inflight.requests
	MaxBytesPerConnection        int64          // ottla.connection.inflight.bytes
	MaxRequestMemory             int64          // ottla.request.memory.bytes
	WriteTimeout                 time.Duration  // ottla.write.timeout.ms
	MessageMaxBytes              int            // message.max.bytes
	FetchMaxBytes                int            // fetch.max.bytes
	MaxRequestPartitionSizeLimit int            // max.request.partition.size.limit
	FetchSessionCacheSlots       int            // max.incremental.fetch.session.cache.slots

	// Topics.
	AutoCreateTopics         bool  // auto.create.topics.enable
	DeleteTopics             bool  // delete.topic.enable
	NumPartitions            int32 // num.partitions
	DefaultReplicationFactor int16 // default.replication.factor

	// Logs. What topics take from the broker comes from ResolveTopic.
	LogRetentionCheckInterval time.Duration // log.retention.check.interval.ms
	ProducerIDExpiration      time.Duration // producer.id.expiration.ms
	CleanerEnable             bool          // log.cleaner.enable
	CleanerThreads            int           // log.cleaner.threads
	CleanerDedupeBufferSize   int64         // log.cleaner.dedupe.buffer.size
	CleanerLoadFactor         float64       // log.cleaner.io.buffer.load.factor
	CleanerMaxBytesPerSecond  float64       // log.cleaner.io.max.bytes.per.second
	CleanerBackoff            time.Duration // log.cleaner.backoff.ms

	// Groups and offsets.
	OffsetsTopicPartitions        int32         // offsets.topic.num.partitions
	OffsetsTopicReplicationFactor int16         // offsets.topic.replication.factor
	OffsetsTopicSegmentBytes      int64         // offsets.topic.segment.bytes
	OffsetsTopicCompression       int           // offsets.topic.compression.codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd
	OffsetsRetention              time.Duration // offsets.retention.minutes
	OffsetsRetentionCheckInterval time.Duration // offsets.retention.check.interval.ms
	OffsetMetadataMaxBytes        int           // offset.metadata.max.bytes
	OffsetCommitTimeout           time.Duration // offsets.commit.timeout.ms
	GroupInitialRebalanceDelay    time.Duration // group.initial.rebalance.delay.ms
	GroupMinSessionTimeout        time.Duration // group.min.session.timeout.ms
	GroupMaxSessionTimeout        time.Duration // group.max.session.timeout.ms
	GroupMaxSize                  int           // group.max.size
	GroupProtocols                []string      // group.coordinator.rebalance.protocols, in lower case
	MaxShareSessions              int           // group.share.max.share.sessions

	// Consumer groups. What a group may set for itself comes from Consumer.
	ConsumerGroupAssignors    []string      // group.consumer.assignors, by name also where the class was given
	ConsumerGroupMaxSize      int           // group.consumer.max.size
	StreamsGroupMaxSize       int           // group.streams.max.size
	ConsumerGroupMigration    string        // group.consumer.migration.policy
	ConsumerGroupRegexRefresh time.Duration // group.consumer.regex.refresh.interval.ms

	// Share groups. What a group may set for itself comes from its own settings.
	ShareGroupMaxSize         int           // group.share.max.size
	ShareGroupInitializeRetry time.Duration // group.share.initialize.retry.interval.ms

	// Share coordinator.
	ShareTopicPartitions        int32         // share.coordinator.state.topic.num.partitions
	ShareTopicReplicationFactor int16         // share.coordinator.state.topic.replication.factor
	ShareTopicSegmentBytes      int64         // share.coordinator.state.topic.segment.bytes
	ShareTopicMinISR            int           // share.coordinator.state.topic.min.isr
	ShareUpdatesPerSnapshot     int           // share.coordinator.snapshot.update.records.per.snapshot
	SharePruneInterval          time.Duration // share.coordinator.state.topic.prune.interval.ms
	ShareColdInterval           time.Duration // share.coordinator.cold.partition.snapshot.interval.ms

	// Transactions.
	TransactionMaxTimeout             time.Duration // transaction.max.timeout.ms
	TransactionAbortInterval          time.Duration // transaction.abort.timed.out.transaction.cleanup.interval.ms
	TransactionalIDExpiration         time.Duration // transactional.id.expiration.ms
	TransactionalIDExpiryInterval     time.Duration // transaction.remove.expired.transaction.cleanup.interval.ms
	TransactionTopicPartitions        int32         // transaction.state.log.num.partitions
	TransactionTopicReplicationFactor int16         // transaction.state.log.replication.factor
	TransactionTopicSegmentBytes      int64         // transaction.state.log.segment.bytes

	// Storage, Ottla's own.
	AckWhen     AckWhen // ottla.ack.when
	WALMaxBytes int64   // ottla.wal.max.bytes
	TailBytes   int64   // ottla.tail.bytes
	MemoryLimit int64   // ottla.memory.limit.bytes; 0 = of the control group

	ScrubInterval       time.Duration // ottla.scrub.interval.hours, 0: never
	ScrubBytesPerSecond int64         // ottla.scrub.max.bytes.per.second

	values *values
}

// Default returns the settings of a broker that was told nothing.
func Default() *Broker {
	b, err := newBroker(newValues(map[string]staticValue{}))
	if err != nil {
		panic("config: the defaults are invalid: " + err.Error())
	}
	return b
}

// newBroker fills the typed fields and checks what concerns several settings. The error is *Problems.
func newBroker(v *values) (*Broker, error) {
	p := &Problems{}
	b := &Broker{values: v}
	b.fill()
	b.DataDir = dataDir(v, p)
	b.fillConnections(p)
	l := resolveListeners(v, p)
	b.Listeners, b.Advertised = l.listeners, l.advertised
	v.notes = append(v.notes, l.notes...)
	b.checkTogether(p)
	if len(p.List) > 0 {
		return nil, p
	}
	return b, nil
}

// fill sets the fields that are one setting each.
func (b *Broker) fill() {
	v := b.values
	b.NodeID = base.BrokerID(v.int("node.id"))
	b.Rack = v.string("broker.rack")
	b.SocketRequestMaxBytes = int(v.int("socket.request.max.bytes"))
	b.ConnectionsMaxIdle = v.millis("connections.max.idle.ms")
	b.MaxConnections = int(v.int("max.connections"))
	b.MaxInFlightPerConnection = int(v.int("ottla.connection.inflight.requests"))
	b.MaxBytesPerConnection = v.int("ottla.connection.inflight.bytes")
	b.MaxRequestMemory = v.int("ottla.request.memory.bytes")
	b.WriteTimeout = v.millis("ottla.write.timeout.ms")
	b.MessageMaxBytes = int(v.int("message.max.bytes"))
	b.FetchMaxBytes = int(v.int("fetch.max.bytes"))
	b.MaxRequestPartitionSizeLimit = int(v.int("max.request.partition.size.limit"))
	b.FetchSessionCacheSlots = int(v.int("max.incremental.fetch.session.cache.slots"))
	b.AutoCreateTopics = v.bool("auto.create.topics.enable")
	b.DeleteTopics = v.bool("delete.topic.enable")
	b.NumPartitions = int32(v.int("num.partitions"))
	b.DefaultReplicationFactor = int16(v.int("default.replication.factor"))
	b.LogRetentionCheckInterval = v.millis("log.retention.check.interval.ms")
	b.ProducerIDExpiration = v.millis("producer.id.expiration.ms")
	b.CleanerEnable = v.bool("log.cleaner.enable")
	b.CleanerThreads = int(v.int("log.cleaner.threads"))
	b.CleanerDedupeBufferSize = v.int("log.cleaner.dedupe.buffer.size")
	b.CleanerLoadFactor = v.double("log.cleaner.io.buffer.load.factor")
	b.CleanerMaxBytesPerSecond = v.double("log.cleaner.io.max.bytes.per.second")
	b.CleanerBackoff = v.millis("log.cleaner.backoff.ms")
	b.OffsetsTopicPartitions = int32(v.int("offsets.topic.num.partitions"))
	b.OffsetsTopicReplicationFactor = int16(v.int("offsets.topic.replication.factor"))
	b.OffsetsTopicSegmentBytes = v.int("offsets.topic.segment.bytes")
	b.OffsetsTopicCompression = int(v.int("offsets.topic.compression.codec"))
	b.OffsetsRetention = Millis(v.int("offsets.retention.minutes") * minuteMillis)
	b.OffsetsRetentionCheckInterval = v.millis("offsets.retention.check.interval.ms")
	b.OffsetMetadataMaxBytes = int(v.int("offset.metadata.max.bytes"))
	b.OffsetCommitTimeout = v.millis("offsets.commit.timeout.ms")
	b.GroupInitialRebalanceDelay = v.millis("group.initial.rebalance.delay.ms")
	b.GroupMinSessionTimeout = v.millis("group.min.session.timeout.ms")
	b.GroupMaxSessionTimeout = v.millis("group.max.session.timeout.ms")
	b.GroupMaxSize = int(v.int("group.max.size"))
	b.MaxShareSessions = int(v.int("group.share.max.share.sessions"))
	b.GroupProtocols = nil // not the list of the settings that these are made from
	for _, p := range v.words("group.coordinator.rebalance.protocols") {
		b.GroupProtocols = append(b.GroupProtocols, strings.ToLower(p))
	}
	b.ConsumerGroupAssignors = v.words("group.consumer.assignors")
	for i, name := range b.ConsumerGroupAssignors {
		b.ConsumerGroupAssignors[i] = cmp.Or(assignorClasses[name], name)
	}
	b.ConsumerGroupMaxSize = int(v.int("group.consumer.max.size"))
	b.StreamsGroupMaxSize = int(v.int("group.streams.max.size"))
	b.ConsumerGroupMigration = v.string("group.consumer.migration.policy")
	b.ConsumerGroupRegexRefresh = v.millis("group.consumer.regex.refresh.interval.ms")
	b.ShareGroupMaxSize = int(v.int("group.share.max.size"))
	b.ShareGroupInitializeRetry = v.millis("group.share.initialize.retry.interval.ms")
	b.ShareTopicPartitions = int32(v.int("share.coordinator.state.topic.num.partitions"))
	b.ShareTopicReplicationFactor = int16(v.int("share.coordinator.state.topic.replication.factor"))
	b.ShareTopicSegmentBytes = v.int("share.coordinator.state.topic.segment.bytes")
	b.ShareTopicMinISR = int(v.int("share.coordinator.state.topic.min.isr"))
	b.ShareUpdatesPerSnapshot = int(v.int("share.coordinator.snapshot.update.records.per.snapshot"))
	b.SharePruneInterval = v.millis("share.coordinator.state.topic.prune.interval.ms")
	b.ShareColdInterval = v.millis("share.coordinator.cold.partition.snapshot.interval.ms")
	b.TransactionMaxTimeout = v.millis("transaction.max.timeout.ms")
	b.TransactionAbortInterval = v.millis("transaction.abort.timed.out.transaction.cleanup.interval.ms")
	b.TransactionalIDExpiration = v.millis("transactional.id.expiration.ms")
	b.TransactionalIDExpiryInterval = v.millis("transaction.remove.expired.transaction.cleanup.interval.ms")
	b.TransactionTopicPartitions = int32(v.int("transaction.state.log.num.partitions"))
	b.TransactionTopicReplicationFactor = int16(v.int("transaction.state.log.replication.factor"))
	b.TransactionTopicSegmentBytes = v.int("transaction.state.log.segment.bytes")
	b.AckWhen = AckWhen(v.string("ottla.ack.when"))
	b.WALMaxBytes = v.int("ottla.wal.max.bytes")
	b.TailBytes = v.int("ottla.tail.bytes")
	b.MemoryLimit = v.int("ottla.memory.limit.bytes")
	b.ScrubInterval = time.Duration(v.int("ottla.scrub.interval.hours")) * time.Hour
	b.ScrubBytesPerSecond = v.int("ottla.scrub.max.bytes.per.second")
}

// dataDir returns the one data folder.
func dataDir(v *values, p *Problems) string {
	key := "log.dirs"
	dirs := v.words(key)
	if !v.isSet(key) {
		key = "log.dir"
		dirs = v.words(key)
	}
	if len(dirs) != 1 {
		p.add(v, key, fmt.Sprintf("exactly one data folder is possible, not %d", len(dirs)))
		return ""
	}
	return dirs[0]
}

// fillConnections sets the limits per address.
func (b *Broker) fillConnections(p *Problems) {
	v := b.values
	overrides, err := parseOverrides(v.string("max.connections.per.ip.overrides"))
	if err != nil {
		p.add(v, "max.connections.per.ip.overrides", err.Error())
	}
	b.MaxConnectionsPerIPOverrides = overrides
	b.MaxConnectionsPerIP = int(v.int("max.connections.per.ip"))
	if b.MaxConnectionsPerIP == 0 {
		b.MaxConnectionsPerIP = -1
		if len(overrides) == 0 {
			p.add(v, "max.connections.per.ip", "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.")
		}
	}
}

// parseOverrides reads host:limit,host:limit.
func parseOverrides(text string) (map[string]int, error) {
	overrides := map[string]int{}
	for _, part := range splitList(text) {
		host, limit, ok := cutLast(part, ":")
		n, err := strconv.Atoi(trim(limit))
		if !ok || err != nil || n < 0 {
			return nil, fmt.Errorf("%q is not host:limit", part)
		}
		overrides[trim(host)] = n
	}
	return overrides, nil
}

// assignorClasses are the names of Kafka's own assignors of consumer groups by their class, which the setting may give too.
var assignorClasses = map[string]string{
	"org.apache.kafka.coordinator.group.assignor.UniformAssignor": "uniform",
	"org.apache.kafka.coordinator.group.assignor.RangeAssignor":   "range",
}

// shareAssignorClasses are those of share groups.
var shareAssignorClasses = map[string]string{"org.apache.kafka.coordinator.group.assignor.SimpleAssignor": "simple"}

// checkTogether reports settings that contradict each other, and what would not be kept.
func (b *Broker) checkTogether(p *Problems) {
	v := b.values
	for _, name := range []string{"log.retention.ms", "log.retention.minutes", "log.retention.hours"} {
		if value, ok := v.parsed(name).(int64); ok && value == 0 {
			p.add(v, name, name+" must be unlimited (-1) or, equal or greater than 1")
		}
	}
	if b.GroupMinSessionTimeout > b.GroupMaxSessionTimeout {
		p.add(v, "group.min.session.timeout.ms", "group.min.session.timeout.ms must not be above group.max.session.timeout.ms")
	}
	b.checkGroupDefaults(p)
	if b.OffsetsTopicCompression < 0 || b.OffsetsTopicCompression > 4 {
		p.add(v, "offsets.topic.compression.codec", fmt.Sprintf("offsets.topic.compression.codec: unknown compression type id: %d", b.OffsetsTopicCompression))
	}
	if b.MaxRequestMemory < int64(b.SocketRequestMaxBytes) {
		p.add(v, "ottla.request.memory.bytes", "ottla.request.memory.bytes must not be below socket.request.max.bytes")
	}
	if int64(b.MessageMaxBytes) > b.WALMaxBytes/4 {
		p.add(v, "message.max.bytes", "message.max.bytes must not be above a quarter of ottla.wal.max.bytes")
	}
	if v.string("authorizer.class.name") != "" {
		p.add(v, "authorizer.class.name", "authorizer.class.name: this version has no authorizer, and would let everybody in")
	}
}

// Warnings returns what an operator should know of the settings, one line each: those without effect, listeners that
// are not opened, variables that are not understood.
func (b *Broker) Warnings() []string {
	var idle []string
	for name := range b.values.static {
		if d := BrokerDef(name); d == nil || d.Effect == Accepted {
			idle = append(idle, name)
		}
	}
	slices.Sort(idle)
	warnings := slices.Clone(b.values.notes)
	if len(idle) > 0 {
		warnings = append(warnings, "these settings of Kafka have no effect here: "+strings.Join(idle, ", "))
	}
	if b.AckWhen != AckSynced {
		warnings = append(warnings, "ottla.ack.when="+string(b.AckWhen)+": acknowledged records can be lost when this machine fails")
	}
	return warnings
}

// Log writes Warnings to l.
func (b *Broker) Log(l *slog.Logger) {
	for _, w := range b.Warnings() {
		l.Warn("settings", slog.String("note", w))
	}
}

// WithDynamic returns a copy of b with the dynamic settings of the cluster's default and of this broker on top of the
// static ones. The error tells of settings that were left out because they cannot be set so; the copy is valid all
// the same.
func (b *Broker) WithDynamic(clusterDefault, broker map[string]string) (*Broker, error) {
	var errs []error
	keep := func(settings map[string]string, perBroker bool) map[string]string {
		kept := make(map[string]string, len(settings))
		for name, text := range settings {
			if d := BrokerDef(name); d == nil || d.Mode == ReadOnly || d.Mode == PerBroker && !perBroker {
				continue // of no effect, but harmless: Kafka takes settings that it does not know
			} else if err := d.Parse(text); err != nil {
				errs = append(errs, err)
				continue
			}
			kept[name] = text
		}
		return kept
	}
	next := *b
	next.values = b.values.withDynamic(keep(clusterDefault, false), keep(broker, true))
	next.fill()
	p := &Problems{}
	next.fillConnections(p)
	if len(p.List) > 0 {
		errs = append(errs, p)
	}
	return &next, errors.Join(errs...)
}

// ValidateDynamic checks settings that are to be set dynamically, for one broker or (perBroker false) as the default
// of the cluster. Settings that Kafka does not know are allowed, as there. The error's text is Kafka's.
func (b *Broker) ValidateDynamic(settings map[string]string, perBroker bool) error {
	var readOnly, perBrokerOnly []string
	names := sortedKeys(settings)
	for _, name := range names {
		switch d := BrokerDef(name); {
		case d == nil:
		case d.Mode == ReadOnly:
			readOnly = append(readOnly, name)
		case d.Mode == PerBroker && !perBroker:
			perBrokerOnly = append(perBrokerOnly, name)
		}
	}
	if len(readOnly) > 0 {
		return &InvalidError{readOnly[0], fmt.Sprintf("Cannot update these configs dynamically: [%s]", strings.Join(readOnly, ", "))}
	}
	if len(perBrokerOnly) > 0 {
		return &InvalidError{perBrokerOnly[0], fmt.Sprintf("Cannot update these configs at default cluster level, broker id must be specified: [%s]", strings.Join(perBrokerOnly, ", "))}
	}
	for _, name := range names {
		if d := BrokerDef(name); d != nil {
			if err := d.Parse(settings[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Value returns the setting of that name and where it comes from, false if there is no such setting.
func (b *Broker) Value(name string) (Value, bool) {
	d := BrokerDef(name)
	if d == nil {
		return Value{}, false
	}
	value := Value{Def: d, Source: SourceDefault, Synonyms: b.values.synonyms(name), Origin: b.values.static[name].origin}
	if len(value.Synonyms) > 0 {
		value.Source = value.Synonyms[0].Source
	}
	text, ok := b.values.effective(name)
	if value.Null = !ok || d.Sensitive; !value.Null {
		value.Value = canonical(d, text)
	}
	return value, true
}

// Values yields every described setting in order of name.
func (b *Broker) Values() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		for _, d := range brokers().defs {
			if d.Internal {
				continue
			}
			if v, _ := b.Value(d.Name); !yield(v) {
				return
			}
		}
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
