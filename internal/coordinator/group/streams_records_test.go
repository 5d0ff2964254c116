package group

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
	"github.com/ottlaio/ottla/internal/coordinator/group/topology"
)

// sampleStreamsGroup is a streams group with everything that records can say.
func sampleStreamsGroup() *streamsGroup {
	g := newStreamsGroup("g")
	g.epoch, g.hash, g.validated, g.configs, g.targetEpoch, g.targetAt = 7, 9, 4, map[string]string{"k": "v"}, 6, 5
	t := &topology.Topology{Epoch: 4, Subtopologies: []topology.Subtopology{{
		ID: "0", SourceTopics: []string{"t"}, RepartitionSinkTopics: []string{"r"},
		RepartitionSourceTopics: []topology.InternalTopic{{Name: "q", Partitions: 2, ReplicationFactor: 1}},
		StateChangelogTopics:    []topology.InternalTopic{{Name: "c", Configs: []topology.Config{{Key: "a", Value: "b"}}}},
		CopartitionGroups:       []topology.CopartitionGroup{{SourceTopics: []int16{0}, RepartitionSourceTopics: []int16{0}}},
	}}}
	g.setTopology(t, encodeTopology(t))
	g.put(&streamsMember{
		id: "m", instance: ptr("i"), rack: ptr("r"), clientID: "c", clientHost: "/h", rebalanceTimeout: 30000, topologyEpoch: 4, process: "p",
		endpoint: &streamsEndpoint{"h", 80}, tags: map[string]string{"k": "v"}, epoch: 6, previous: 5, state: unrevokedTasks,
		assigned: taskSet{{{"0", 0}: 3, {"0", 2}: 6}, {{"1", 1}: 0}, {}}, revoking: taskSet{{{"1", 0}: 4}, {}, {{"0", 1}: 0}},
	})
	g.put(&streamsMember{id: "n", rebalanceTimeout: 1, state: streamsStable, assigned: taskSet{{}, {}, {}}, revoking: taskSet{{}, {}, {}}})
	g.target["m"] = assignor.TaskAssignment{
		Active: assignor.Tasks{{Subtopology: "0", Partitions: []int32{0, 2}}}, Standby: assignor.Tasks{{Subtopology: "1", Partitions: []int32{1}}},
	}
	return g
}

// TestStreamsRecordBytes holds the formats to bytes that are written out; see docs/formats/groups.md.
func TestStreamsRecordBytes(t *testing.T) {
	t.Parallel()
	g := sampleStreamsGroup()
	target := g.target["m"]
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"epoch key", streamsGroupKey("g"), "0011 000167"},
		{"epoch", encodeStreamsGroup(7, 9, 4, g.configs), "0000 00000007 0000000000000009 02 00 04 00000004 01 06 02 026b 0276 00"},
		{"epoch of the example", encodeStreamsGroup(2, -0x56b2e0f3fd4c1709, 0, map[string]string{standbyReplicas: "0"}), "0000 00000002 a94d1f0c02b3e8f7 02 00 04 00000000 01 19 02 15 6e756d2e7374616e6462792e7265706c69636173 02 30 00"},
		{"epoch, not ready", encodeStreamsGroup(7, 0, noTopology, nil), "0000 00000007 0000000000000000 01 01 01 01"},
		{"member key", streamsMemberKey("g", "m"), "0013 000167 00016d"},
		{
			"member", encodeStreamsMember(g.members["m"]),
			"0000 0269 0272 0263 032f68 00007530 00000004 0270 01 0268 0050 00 02 026b 0276 00 00",
		},
		{"member without endpoint", encodeStreamsMember(g.members["n"]), "0000 00 00 01 01 00000001 00000000 01 ff 01 00"},
		{"target epoch key", streamsTargetMetadataKey("g"), "0014 000167"},
		{"target key", streamsTargetKey("g", "m"), "0015 000167 00016d"},
		{"target", encodeStreamsTarget(&target), "0000 02 0230 03 00000000 00000002 00 02 0231 02 00000001 00 01 00"},
		{"current key", streamsCurrentKey("g", "m"), "0016 000167 00016d"},
		{
			"current", encodeStreamsCurrent(g.members["m"]), "0000 00000006 00000005 02" +
				"02 0230 03 00000000 00000002 01 00 09 03 00000003 00000006" + "02 0231 02 00000001 00" + "01" +
				"02 0231 02 00000000 01 00 05 02 00000004" + "01" + "02 0230 02 00000001 00" + "00",
		},
		{"topology key", streamsTopologyKey("g"), "0017 000167"},
		{
			"topology", g.encoded, "0000 00000004 02 0230 02 0274 01" + "02 0263 00000000 0000 02 0261 0262 00 00" + "02 0272" +
				"02 0271 00000002 0001 01 00" + "02 02 0000 01 02 0000 00" + "00 00",
		},
	} {
		if want := strings.ReplaceAll(c.want, " ", ""); hex.EncodeToString(c.got) != want {
			t.Errorf("%s:\n got %x\nwant %s", c.name, c.got, want)
		}
	}
}

// TestStreamsSnapshot: what is written down gives the same group again, with the same account of its memory, and goes without a rest.
func TestStreamsSnapshot(t *testing.T) {
	t.Parallel()
	g := sampleStreamsGroup()
	m, again := newTestMachine(), newTestMachine()
	m.found("g", g)
	m.Snapshot(func(key, value []byte) { mustReplay(t, again, key, value) })
	if got, want := dumpStreams(again.streams("g")), dumpStreams(g); !slices.Equal(got, want) {
		t.Errorf("read again:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	read := again.streams("g")
	if string(read.encoded) != string(g.encoded) || string(encodeTopology(read.topology)) != string(g.encoded) {
		t.Errorf("the topology is %+v", read.topology)
	}
	if again.used != m.used || again.used != read.size() {
		t.Errorf("%d bytes, want %d", again.used, m.used)
	}
	read.entomb(again, effectsOf(again))
	if len(again.groups) != 0 || again.used != 0 {
		t.Errorf("after its tombstones there are %v, %d bytes", again.groups, again.used)
	}
}
