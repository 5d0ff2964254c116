package group

import (
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// sampleGroup is a consumer group with everything that records can say.
func sampleGroup() *consumerGroup {
	t, u := base.TopicID{0xaa, 15: 0xbb}, base.TopicID{0xcc, 15: 0xdd}
	g := newConsumerGroup("g")
	g.epoch, g.hash, g.targetEpoch, g.targetAt = 7, 9, 6, 5
	g.put(&consumerMember{
		id: "m", instance: ptr("i"), rack: ptr("r"), clientID: "c", clientHost: "/h", topics: []string{"t", "u"}, regex: "x.*", assignor: ptr("range"),
		rebalanceTimeout: 30000, classic: &classicMetadata{sessionTimeout: 10, protocols: []protocol{{"range", []byte{0xee}}}},
		epoch: 6, previous: 5, state: unrevoked,
		assigned: holding{{t, []int32{0, 2}, []int32{3, 6}}}, revoking: holding{{u, []int32{1}, []int32{4}}},
	})
	g.put(&consumerMember{id: "n", clientID: "c", clientHost: "/h", topics: []string{"t"}, rebalanceTimeout: 30000})
	g.target["m"] = assignor.Assignment{{Topic: t, Partitions: []int32{0, 2}}}
	g.target["n"] = nil
	g.resolve("x.*", &resolvedRegex{topics: []string{"x1", "x2"}, version: 3, at: 4})
	return g
}

// TestConsumerRecordBytes holds the formats to bytes that are written out; see docs/formats/groups.md.
func TestConsumerRecordBytes(t *testing.T) {
	t.Parallel()
	g := sampleGroup()
	aabb, ccdd := "aa0000000000000000000000000000bb", "cc0000000000000000000000000000dd"
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"epoch key", consumerGroupKey("g"), "0003 000167"},
		{"epoch", encodeConsumerGroup(g), "0000 00000007 01 00 08 0000000000000009"},
		{"epoch without topics", encodeGroupEpoch(7, 0), "0000 00000007 00"},
		{"member key", consumerMemberKey("g", "m"), "0005 000167 00016d"},
		{
			"classic member", encodeConsumerMember(g.members["m"]),
			"0000 0269 0272 0263 032f68 03 0274 0275 04782e2a 00007530 0672616e6765 01 00 10 01 0000000a 02 0672616e6765 02ee 00 00",
		},
		{"member", encodeConsumerMember(g.members["n"]), "0000 00 00 0263 032f68 02 0274 01 00007530 00 01 00 01 00"},
		{"target epoch key", targetMetadataKey("g"), "0006 000167"},
		{"target epoch", encodeTargetMetadata(6, 5), "0000 00000006 01 00 08 0000000000000005"},
		{"target epoch without time", encodeTargetMetadata(6, 0), "0000 00000006 00"},
		{"target key", targetKey("g", "m"), "0007 000167 00016d"},
		{"target", encodeTarget(g.target["m"]), "0000 02" + aabb + "03 00000000 00000002 00 00"},
		{"no target", encodeTarget(nil), "0000 01 00"},
		{"current key", currentKey("g", "m"), "0008 000167 00016d"},
		{
			"current", encodeCurrent(g.members["m"]), "0000 00000006 00000005 01 02" + aabb + "03 00000000 00000002 01 00 09 03 00000003 00000006" +
				"02" + ccdd + "02 00000001 01 00 05 02 00000004 00",
		},
		{"regex key", regexKey("g", "x"), "0010 000167 000178"},
		{"regex", encodeRegex(g.regexes["x.*"]), "0000 03 037831 037832 0000000000000003 0000000000000004 00"},
		{"partition metadata key", partitionMetadataKey("g"), "0004 000167"},
	} {
		if want := strings.ReplaceAll(c.want, " ", ""); hex.EncodeToString(c.got) != want {
			t.Errorf("%s:\n got %x\nwant %s", c.name, c.got, want)
		}
	}
}

// TestConsumerSnapshot: what is written down gives the same group again, with the same account of its memory, and goes without a rest.
func TestConsumerSnapshot(t *testing.T) {
	t.Parallel()
	g := sampleGroup()
	g.legacyHash = true
	m, again := newTestMachine(), newTestMachine()
	m.found("g", g)
	m.Snapshot(func(key, value []byte) { mustReplay(t, again, key, value) })
	if got, want := dumpConsumers(again, again.consumer("g")), dumpConsumers(m, g); !slices.Equal(got, want) {
		t.Errorf("read again:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !again.consumer("g").legacyHash || again.used != m.used || again.used != again.consumer("g").size() {
		t.Errorf("%d bytes, want %d", again.used, m.used)
	}
	fx := effectsOf(again)
	again.consumer("g").entomb(again, fx)
	if len(again.groups) != 0 || again.used != 0 {
		t.Errorf("after its tombstones there are %v, %d bytes", again.groups, again.used)
	}
}

// TestMembersWithoutProtocolAreRefused: the code that serves members of the classic protocol relies on them having one.
func TestMembersWithoutProtocolAreRefused(t *testing.T) {
	t.Parallel()
	mb := sampleGroup().copyMember("m")
	mb.classic = &classicMetadata{sessionTimeout: 10}
	r := coordinator.Record{Key: consumerMemberKey("g", "m"), Value: encodeConsumerMember(mb)}
	if err := newTestMachine().Replay(r); !errors.Is(err, errRecord) {
		t.Errorf("the error is %v", err)
	}
}

// hashedTopics is the image that the hashes below were taken of, in Java, with the library that Kafka uses.
type hashedTopics struct{ topicMap }

func (hashedTopics) Racks(_ TopicInfo, partition int32) []string {
	return [][]string{{"r1"}, {"r1", "r2"}}[partition]
}

func TestTopicsHashIsKafkas(t *testing.T) {
	t.Parallel()
	id := base.TopicID{1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18}
	image := hashedTopics{topicMap{"tö": TopicInfo{Name: "tö", ID: id, Partitions: 2}}}
	if got, _ := image.Topic("tö"); topicHash(image, got) != 0xc2908d8c0a383910 {
		t.Errorf("hash of the topic is %x", topicHash(image, got))
	}
	// Of testdata/kafka-4.3.1/consumers-3.log.
	kafkas := topicMap{"consumed": TopicInfo{Name: "consumed", Partitions: 2, ID: base.TopicID{
		0x54, 0x26, 0xdf, 0x4b, 0xc1, 0x8c, 0x42, 0x6b, 0xa0, 0xcb, 0x97, 0x0f, 0x04, 0x2e, 0x6c, 0xc4,
	}}}
	if got := uint64(topicsHash(kafkas, []string{"consumed"})); got != 0xad009b8df8a42478 {
		t.Errorf("hash of the group's topics is %x", got)
	}
	if topicsHash(image, []string{"nope"}) != 0 || topicsHash(image, nil) != 0 {
		t.Error("topics that are not there count")
	}
	two := hashedTopics{maps.Clone(image.topicMap)}
	two.topicMap["a"] = TopicInfo{Name: "a", ID: base.TopicID{1}, Partitions: 1}
	if topicsHash(two, []string{"tö", "a"}) != topicsHash(two, []string{"a", "tö", "nope"}) || topicsHash(two, []string{"a", "tö"}) == topicsHash(two, []string{"tö"}) {
		t.Error("the hash does not follow from the topics alone")
	}
}

func effectsOf(m *Machine) *coordinator.Effects {
	return coordinator.NewEffects(m, time.UnixMilli(0), 0)
}
