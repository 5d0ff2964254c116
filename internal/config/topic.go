package config

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Unlimited is the value of a duration or size that has no bound (-1 in Kafka).
const Unlimited = -1

// TopicConfig holds the settings of one topic, typed. Durations beyond what time.Duration holds are its maximum.
type TopicConfig struct {
	CleanupDelete  bool // cleanup.policy contains delete
	CleanupCompact bool // cleanup.policy contains compact

	CompressionType      string // compression.type: producer, uncompressed, gzip, snappy, lz4 or zstd
	CompressionGzipLevel int    // compression.gzip.level
	CompressionLz4Level  int    // compression.lz4.level
	CompressionZstdLevel int    // compression.zstd.level

	DeleteRetention        time.Duration // delete.retention.ms
	FileDeleteDelay        time.Duration // file.delete.delay.ms
	FlushMessages          int64         // flush.messages
	FlushInterval          time.Duration // flush.ms
	IndexIntervalBytes     int           // index.interval.bytes
	MaxCompactionLag       time.Duration // max.compaction.lag.ms
	MaxMessageBytes        int           // max.message.bytes
	LogAppendTime          bool          // message.timestamp.type
	TimestampBeforeMax     time.Duration // message.timestamp.before.max.ms
	TimestampAfterMax      time.Duration // message.timestamp.after.max.ms
	MinCleanableDirtyRatio float64       // min.cleanable.dirty.ratio
	MinCompactionLag       time.Duration // min.compaction.lag.ms
	MinInsyncReplicas      int           // min.insync.replicas
	Preallocate            bool          // preallocate
	RetentionBytes         int64         // retention.bytes, Unlimited
	Retention              time.Duration // retention.ms, Unlimited
	SegmentBytes           int64         // segment.bytes
	SegmentIndexBytes      int64         // segment.index.bytes
	SegmentJitter          time.Duration // segment.jitter.ms
	SegmentAge             time.Duration // segment.ms
	UncleanLeaderElection  bool          // unclean.leader.election.enable
	RemoteStorage          bool          // remote.storage.enable

	// Values are all settings in order of name, as DescribeConfigs shows them. The slice is shared: nobody changes it.
	Values []Value
}

// topicBase is what a topic gets that sets nothing itself.
type topicBase struct {
	typed TopicConfig
	index map[string]int // of Values
}

func newTopicBase(v *values) *topicBase {
	t := &topicBase{index: map[string]int{}}
	for _, d := range topics().defs {
		if d.Internal {
			continue
		}
		value := inherited(v, d)
		t.index[d.Name] = len(t.typed.Values)
		t.typed.Values = append(t.typed.Values, value)
		t.typed.apply(d.Name, value.Value)
	}
	return t
}

// inherited returns a setting of a topic or group that it takes from the broker.
func inherited(v *values, d *Def) Value {
	value := Value{Def: d, Value: d.Default, Source: SourceDefault}
	if d.Synonym == "" {
		return value
	}
	if timeGroups[d.Synonym] != nil {
		value.Value = strconv.FormatInt(v.groupMillis(d.Synonym), 10)
	} else {
		text, _ := v.effective(d.Synonym)
		value.Value = canonical(d, text)
	}
	if value.Synonyms = v.synonyms(d.Synonym); len(value.Synonyms) > 0 {
		value.Source = value.Synonyms[0].Source
		value.Origin = v.static[value.Synonyms[0].Name].origin
	}
	return value
}

// override puts a resource's own value over an inherited one.
func override(value *Value, text string, source Source) {
	value.Value, value.Source, value.Origin = text, source, ""
	own := SynonymValue{Name: value.Def.Name, Value: text, Source: source}
	value.Synonyms = append([]SynonymValue{own}, value.Synonyms...)
}

// ResolveTopic returns the settings of a topic: its own over the broker's dynamic and static ones over the defaults.
// Values in topic that do not parse are ignored (they were checked when they were set).
func ResolveTopic(topic map[string]string, broker *Broker) TopicConfig {
	t := broker.values.topics()
	c := t.typed
	cloned := false
	for name, text := range topic {
		i, ok := t.index[name]
		if !ok {
			continue
		}
		parsed, err := c.Values[i].Def.parse(text)
		if err != nil {
			continue
		}
		if !cloned {
			c.Values, cloned = slices.Clone(c.Values), true
		}
		override(&c.Values[i], format(parsed), SourceDynamicTopic)
		c.apply(name, c.Values[i].Value)
	}
	if text, ok := topic[internalSegmentBytes]; ok {
		if parsed, err := TopicDef(internalSegmentBytes).parse(text); err == nil {
			c.SegmentBytes = parsed.(int64)
		}
	}
	return c
}

// internalSegmentBytes goes before segment.bytes, and may be less than a segment has at the least. It is for tests, as in Kafka.
const internalSegmentBytes = "internal.segment.bytes"

// apply sets the typed field of a setting, whose text is valid.
func (c *TopicConfig) apply(name, text string) {
	parsed, err := TopicDef(name).parse(text)
	if err != nil {
		panic(fmt.Sprintf("config: %s has the invalid value %q: %v", name, text, err))
	}
	number, _ := parsed.(int64)
	switch name {
	case "cleanup.policy":
		words := parsed.([]string)
		c.CleanupDelete, c.CleanupCompact = slices.Contains(words, "delete"), slices.Contains(words, "compact")
	case "compression.type":
		c.CompressionType = text
	case "compression.gzip.level":
		c.CompressionGzipLevel = int(number)
	case "compression.lz4.level":
		c.CompressionLz4Level = int(number)
	case "compression.zstd.level":
		c.CompressionZstdLevel = int(number)
	case "delete.retention.ms":
		c.DeleteRetention = Millis(number)
	case "file.delete.delay.ms":
		c.FileDeleteDelay = Millis(number)
	case "flush.messages":
		c.FlushMessages = number
	case "flush.ms":
		c.FlushInterval = Millis(number)
	case "index.interval.bytes":
		c.IndexIntervalBytes = int(number)
	case "max.compaction.lag.ms":
		c.MaxCompactionLag = Millis(number)
	case "max.message.bytes":
		c.MaxMessageBytes = int(number)
	case "message.timestamp.type":
		c.LogAppendTime = text == "LogAppendTime"
	case "message.timestamp.before.max.ms":
		c.TimestampBeforeMax = Millis(number)
	case "message.timestamp.after.max.ms":
		c.TimestampAfterMax = Millis(number)
	case "min.cleanable.dirty.ratio":
		c.MinCleanableDirtyRatio = parsed.(float64)
	case "min.compaction.lag.ms":
		c.MinCompactionLag = Millis(number)
	case "min.insync.replicas":
		c.MinInsyncReplicas = int(number)
	case "preallocate":
		c.Preallocate = parsed.(bool)
	case "retention.bytes":
		c.RetentionBytes = max(number, Unlimited)
	case "retention.ms":
		if c.Retention = Millis(number); number < 0 {
			c.Retention = Unlimited
		}
	case "segment.bytes":
		c.SegmentBytes = number
	case "segment.index.bytes":
		c.SegmentIndexBytes = number
	case "segment.jitter.ms":
		c.SegmentJitter = Millis(number)
	case "segment.ms":
		c.SegmentAge = Millis(number)
	case "unclean.leader.election.enable":
		c.UncleanLeaderElection = parsed.(bool)
	case "remote.storage.enable":
		c.RemoteStorage = parsed.(bool)
	}
}

// ValidateTopic checks the settings of a topic one by one and together. The error is an *InvalidError with Kafka's text.
func ValidateTopic(topic map[string]string, broker *Broker) error {
	names := sortedKeys(topic)
	for _, name := range names {
		if TopicDef(name) == nil {
			return &InvalidError{name, "Unknown topic config name: " + name}
		}
	}
	for _, name := range names {
		if err := TopicDef(name).Parse(topic[name]); err != nil {
			return err
		}
	}
	c := ResolveTopic(topic, broker)
	if c.MinCompactionLag > c.MaxCompactionLag {
		return &InvalidError{"min.compaction.lag.ms", fmt.Sprintf("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)",
			c.MinCompactionLag.Milliseconds(), c.MaxCompactionLag.Milliseconds())}
	}
	if c.RemoteStorage {
		return &InvalidError{"remote.storage.enable", "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."}
	}
	return nil
}
