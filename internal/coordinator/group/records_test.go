package group

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/record"
)

func newTestMachine() *Machine {
	return NewMachine(&Environment{
		Config: Config{}.WithDefaults(), Topics: topicMap{}, Budget: NewBudget(1 << 40), NewID: func() string { return "id" },
		Settings:        func(string) ConsumerSettings { return DefaultConsumerSettings },
		StreamsSettings: func(string) StreamsSettings { return DefaultStreamsSettings },
		ShareSettings:   func(string) ShareSettings { return DefaultShareSettings },
	})
}

// TestKafkasRecords reads what Apache Kafka 4.3.1 wrote to __consumer_offsets while the requests of all versions were tried on it, and
// writes each record again, which must give the same bytes.
func TestKafkasRecords(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/kafka-4.3.1/*.log")
	if err != nil || len(files) == 0 {
		t.Fatalf("no logs: %v", err)
	}
	kinds := map[string]int{}
	for _, file := range files {
		log, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := newTestMachine()
		for len(log) > 0 {
			var batch []byte
			if batch, log, err = record.Next(log); err != nil {
				t.Fatal(err)
			}
			for r, err := range record.Records(batch, 1<<20) {
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Replay(coordinator.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}); err != nil {
					t.Fatalf("%s, offset %d: %v", file, r.Offset, err)
				}
				key, value, kind := again(t, m, r.Key, r.Value)
				if kind == "share target" && bytes.HasSuffix(r.Value, []byte{1, 0, 0}) {
					value = r.Value // it has a topic without partitions, which is left out here
				}
				if !bytes.Equal(key, r.Key) || !bytes.Equal(value, r.Value) {
					t.Errorf("%s, offset %d: %s\n read key   %x\n wrote key  %x\n read value %x\n wrote      %x", file, r.Offset, kind, r.Key, key, r.Value, value)
				}
				kinds[kind]++
			}
		}
	}
	for _, kind := range []string{
		"offset v4", "offset tombstone", "group v3", "group tombstone",
		"epoch", "epoch tombstone", "topics tombstone", "member", "member tombstone", "target epoch", "target epoch tombstone",
		"target", "target tombstone", "current", "current tombstone",
		"streams epoch", "streams epoch tombstone", "streams member", "streams member tombstone", "streams target epoch",
		"streams target epoch tombstone", "streams target", "streams target tombstone", "streams current", "streams current tombstone",
		"streams topology", "streams topology tombstone",
		"share epoch", "share epoch tombstone", "share member", "share member tombstone", "share target epoch", "share target epoch tombstone",
		"share target", "share target tombstone", "share current", "share current tombstone", "share state", "share state tombstone",
	} {
		if kinds[kind] == 0 {
			t.Errorf("no %s among %v", kind, kinds)
		}
	}
}

var consumerRecordNames = [256]string{
	keyConsumerGroup: "epoch", keyPartitionMetadata: "topics", keyConsumerMember: "member", keyTargetMetadata: "target epoch",
	keyTarget: "target", keyCurrent: "current", keyRegex: "regex",

	keyStreamsGroup: "streams epoch", keyStreamsMember: "streams member", keyStreamsTargetMetadata: "streams target epoch",
	keyShareGroup: "share epoch", keyShareMember: "share member", keyShareTargetMetadata: "share target epoch",
	keyShareTarget: "share target", keyShareCurrent: "share current", keyShareState: "share state",
	keyStreamsTarget: "streams target", keyStreamsCurrent: "streams current", keyStreamsTopology: "streams topology",
}

// again writes down once more what the machine knows of a record's key.
func again(t *testing.T, m *Machine, key, value []byte) (againKey, againValue []byte, kind string) {
	t.Helper()
	if kind := consumerRecordNames[key[1]]; kind != "" {
		if value == nil {
			return key, nil, kind + " tombstone"
		}
		m.Snapshot(func(k, v []byte) {
			if bytes.Equal(k, key) {
				againKey, againValue = k, v
			}
		})
		return againKey, againValue, kind
	}
	if key[1] == keyGroup {
		k := kmsg.NewGroupMetadataKey()
		if err := k.ReadFrom(key); err != nil {
			t.Fatal(err)
		}
		if value == nil {
			if m.groups[k.Group] != nil {
				t.Errorf("group %s is still there after its tombstone", k.Group)
			}
			return groupKey(k.Group), nil, "group tombstone"
		}
		return groupKey(k.Group), encodeGroup(m.classic(k.Group)), fmt.Sprintf("group v%d", value[1])
	}
	k := kmsg.NewOffsetCommitKey()
	if err := k.ReadFrom(key); err != nil {
		t.Fatal(err)
	}
	c, ok := m.offsets[k.Group][k.Topic][k.Partition]
	if ok != (value != nil) {
		t.Errorf("offset of %s %s-%d is there: %v", k.Group, k.Topic, k.Partition, ok)
	}
	if value == nil {
		return offsetKey(k.Group, k.Topic, k.Partition), nil, "offset tombstone"
	}
	return offsetKey(k.Group, k.Topic, k.Partition), encodeOffset(&c), fmt.Sprintf("offset v%d", value[1])
}

// TestRecordBytes holds the formats to bytes that are written out; see docs/formats/groups.md.
func TestRecordBytes(t *testing.T) {
	t.Parallel()
	id := base.TopicID{0xaa, 15: 0xbb}
	g := newClassicGroup("g", 5)
	g.protocolType, g.protocol, g.generation, g.state = "consumer", ptr("range"), 7, stable
	g.add(&member{
		id: "a-1", instance: ptr("i"), clientID: "c", clientHost: "/h", rebalanceTimeout: 2, sessionTimeout: 1,
		protocols: []protocol{{"range", []byte{0xcc}}}, assignment: []byte{0xdd},
	}, nil)
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"offset key", offsetKey("g", "t", 3), "0001 000167 000174 00000003"},
		{
			"offset", encodeOffset(&committed{offset: 1, leaderEpoch: 2, metadata: "m", at: 3, expire: -1, topicID: id}),
			"0004 0000000000000001 00000002 026d 0000000000000003 01 00 10 aa0000000000000000000000000000bb",
		},
		{
			"offset of an unknown topic id", encodeOffset(&committed{offset: 1, leaderEpoch: -1, at: 3, expire: -1}),
			"0004 0000000000000001 ffffffff 01 0000000000000003 00",
		},
		{
			"offset that expires", encodeOffset(&committed{offset: 1, leaderEpoch: 2, metadata: "m", at: 3, expire: 4, topicID: id}),
			"0001 0000000000000001 00016d 0000000000000003 0000000000000004",
		},
		{"group key", groupKey("g"), "0002 000167"},
		{
			"group", encodeGroup(g),
			"0003 0008636f6e73756d6572 00000007 000572616e6765 0003612d31 0000000000000005 00000001" +
				"0003612d31 000169 000163 00022f68 00000002 00000001 00000001cc 00000001dd",
		},
		{"new group", encodeGroup(newClassicGroup("g", 5)), "0003 0000 00000000 ffff ffff 0000000000000005 00000000"},
	} {
		if want := strings.ReplaceAll(c.want, " ", ""); hex.EncodeToString(c.got) != want {
			t.Errorf("%s:\n got %x\nwant %s", c.name, c.got, want)
		}
	}
}

// FuzzReplay: no record from disk makes the machine panic or take memory out of proportion, and what it makes of one is written and
// read again without loss.
func FuzzReplay(f *testing.F) {
	files, _ := filepath.Glob("testdata/kafka-4.3.1/*.log")
	seeds := 0
	for _, file := range files {
		log, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for len(log) > 0 {
			var batch []byte
			if batch, log, err = record.Next(log); err != nil {
				f.Fatal(err)
			}
			for r, err := range record.Records(batch, 1<<20) {
				if seeds++; err == nil && seeds%8 == 0 {
					f.Add(r.Key, r.Value, r.Value == nil)
				}
			}
		}
	}
	f.Add(offsetKey("g", "t", 0), encodeOffset(&committed{expire: 3}), false)
	f.Add([]byte{0, 9}, []byte{}, true)
	sample := sampleGroup()
	sample.legacyHash = true
	sample.snapshot(func(key, value []byte) {
		f.Add(key, value, false)
		f.Add(key, value, true)
	})
	sampleStreamsGroup().snapshot(func(key, value []byte) {
		f.Add(key, value, false)
		f.Add(key, value, true)
	})
	f.Fuzz(func(t *testing.T, key, value []byte, tombstone bool) {
		if tombstone {
			value = nil
		}
		m := newTestMachine()
		if err := m.Replay(coordinator.Record{Key: key, Value: value}); err != nil {
			if !errors.Is(err, errRecord) && !errors.Is(err, coordinator.ErrUnknownRecord) {
				t.Fatalf("error of an unknown kind: %v", err)
			}
			return
		}
		limit := int64(2*groupOverhead + (memberOverhead+protocolOverhead)*(len(value)/20+1) + 3*(len(key)+len(value)))
		if key[1] > keyGroup {
			limit += int64(topicOverhead * len(value)) // an empty name is one byte
		}
		if m.used > limit {
			t.Errorf("%d bytes of key and value take %d of memory", len(key)+len(value), m.used)
		}
		began := time.UnixMilli(0)
		want := dumpMachine(m, began, false)
		other := newTestMachine()
		m.Snapshot(func(key, value []byte) { mustReplay(t, other, key, value) })
		if got := dumpMachine(other, began, false); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("written and read again:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		fx := coordinator.NewEffects(other, began, 0)
		other.Loaded(fx)
		other.Elapsed(coordinator.Timer{Kind: timerExpiry}, fx)
		other.Release()
		if other.env.Budget.Used() != 0 {
			t.Errorf("%d bytes are not given back", other.env.Budget.Used())
		}
	})
}

func mustReplay(t *testing.T, m *Machine, key, value []byte) {
	t.Helper()
	if err := m.Replay(coordinator.Record{Key: key, Value: value}); err != nil {
		t.Fatal(err)
	}
}

// FuzzSubscription: no metadata of a client makes the parser panic or take memory out of proportion.
func FuzzSubscription(f *testing.F) {
	f.Add(subscription("t+u"))
	f.Add(subscription(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		topics, ok := subscribedTopics(b)
		if total := len(strings.Join(topics, "")); ok && (len(topics) > len(b)/2 || total > len(b)) {
			t.Errorf("%d topics, %d bytes, out of %d", len(topics), total, len(b))
		}
	})
}

// A group that was deleted and founded again is a new one, also for who begins with a snapshot of the former: compaction leaves the tombstones of
// what the new one has no records of, but not that of the group.
func TestAGroupFoundedAgainHasNothingOfTheFormer(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		name            string
		group, target   []byte
		former, founded []byte
	}{
		{"share", shareGroupKey("g"), shareTargetMetadataKey("g"), encodeGroupEpochHash(5, 7), encodeGroupEpochHash(firstEpoch, 0)},
		{"consumer", consumerGroupKey("g"), targetMetadataKey("g"), encodeGroupEpoch(5, 7), encodeGroupEpoch(firstEpoch, 0)},
		{"streams", streamsGroupKey("g"), streamsTargetMetadataKey("g"), encodeStreamsGroup(5, 7, 0, nil), encodeStreamsGroup(firstEpoch, 0, 0, nil)},
	} {
		snapshot := func(records ...coordinator.Record) (all []string) {
			m := newTestMachine()
			for _, r := range records {
				if err := m.Replay(r); err != nil {
					t.Fatal(err)
				}
			}
			m.Snapshot(func(key, value []byte) { all = append(all, fmt.Sprintf("%x: %x", key, value)) })
			return all
		}
		founded := coordinator.Record{Key: kind.group, Value: kind.founded}
		is := snapshot(
			coordinator.Record{Key: kind.group, Value: kind.former},
			coordinator.Record{Key: kind.target, Value: encodeTargetMetadata(5, 8)},
			coordinator.Record{Key: kind.target},
			founded,
		)
		if want := snapshot(founded); !slices.Equal(is, want) {
			t.Errorf("%s: %q, want %q", kind.name, is, want)
		}
	}
}
