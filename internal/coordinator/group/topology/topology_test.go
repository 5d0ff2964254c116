package topology

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// wordCount is the topology of the word count that every introduction to Kafka Streams begins with, as a member sends it.
func wordCount() *Topology {
	return &Topology{Epoch: 1, Subtopologies: []Subtopology{
		{ID: "1", RepartitionSourceTopics: []InternalTopic{{Name: "app-counts-repartition", Configs: []Config{{"cleanup.policy", "delete"}}}},
			StateChangelogTopics: []InternalTopic{{Name: "app-counts-changelog", ReplicationFactor: 2, Configs: []Config{{"cleanup.policy", "compact"}}}},
			CopartitionGroups:    []CopartitionGroup{{RepartitionSourceTopics: []int16{0}}}},
		{ID: "0", SourceTopics: []string{"lines"}, RepartitionSinkTopics: []string{"app-counts-repartition"}},
	}}
}

func TestConfigureWordCount(t *testing.T) {
	t.Parallel()
	repartition := NewTopic{"app-counts-repartition", 3, -1, []Config{{"cleanup.policy", "delete"}}}
	changelog := NewTopic{"app-counts-changelog", 3, 2, []Config{{"cleanup.policy", "compact"}}}
	existing := existingTopics{"lines": 3}
	got := Configure(wordCount(), existing.of)
	want := Configured{
		Status:  MissingInternalTopics,
		Message: "Internal topics are missing: app-counts-changelog, app-counts-repartition",
		Subtopologies: []ConfiguredSubtopology{
			{ID: "0", Tasks: 3, SourceTopics: []string{"lines"}, RepartitionSinkTopics: []string{"app-counts-repartition"}},
			{ID: "1", Tasks: 3, RepartitionSources: []NewTopic{repartition}, Changelogs: []NewTopic{changelog}},
		},
		Create: []NewTopic{changelog, repartition},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.Subtopologies[0].Stateful() || !got.Subtopologies[1].Stateful() {
		t.Error("only the second keeps state")
	}

	existing["app-counts-changelog"], existing["app-counts-repartition"] = 3, 3
	got = Configure(wordCount(), existing.of)
	want.Status, want.Message, want.Create = Ready, "", nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("with its topics there: got %+v\nwant %+v", got, want)
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	got, want := wordCount().Topics(), []string{"app-counts-changelog", "app-counts-repartition", "lines"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestConfigure tells the rules one by one, in the notation of testdata/Golden.java.
func TestConfigure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, existing, topology, want string }{
		{"counts go down a chain whatever its order", "A:5", "0//Z/Y:0// 1//Y/X:0// 2/A/X///",
			"3;Internal topics are missing: X, Y;0/5/Y:5/ 1/5/X:5/ 2/5//;X:5,Y:5"},
		{"the widest source decides", "A:2,B:7", "0/A,B/X//K/ 1///X:0//",
			"3;Internal topics are missing: K, X;0/7//K:7 1/7/X:7/;K:7,X:7"},
		{"a fixed count stands", "A:2", "0/A/X/// 1///X:6/K/",
			"3;Internal topics are missing: K, X;0/2// 1/6/X:6/K:6;K:6,X:6"},
		{"more than three are counted", "A:1", "0/A///F,D,E,B,C/",
			"3;Internal topics are missing: B, C, D and 2 additional topics;0/1//B:1,C:1,D:1,E:1,F:1;B:1,C:1,D:1,E:1,F:1"},
		{"joined with a source topic", "A:4,B:8", "0/A/X/// 1/B//X:0//0-0",
			"3;Internal topics are missing: X;0/4// 1/8/X:8/;X:8"},
		{"joined with each other", "A:4,B:8", "0/A/X/// 1/B/Y/// 2///X:0,Y:0//-0.1",
			"3;Internal topics are missing: X, Y;0/4// 1/8// 2/8/X:8,Y:8/;X:8,Y:8"},
		{"fixed against a source topic", "A:4", "0/A/X/// 1/A//X:3//0-0",
			"2;Number of partitions [3] of repartition topic [X] doesn't match number of partitions [4] of the source topic.;;"},
		{"fixed against each other", "A:4", "0/A/X,Y/// 1///X:3,Y:2//-0.1",
			"2;Following topics do not have the same number of partitions: [{X=3, Y=2}];;"},
		{"sources that differ", "A:4,B:3", "0/B,A////0.1-",
			"2;Following topics do not have the same number of partitions: [{A=4, B=3}];;"},
		{"an internal topic that exists otherwise", "A:4,K:3", "0/A///K/",
			"2;Existing topic K has different number of partitions: expected 4, found 3;;"},
		{"missing sources", "B:1", "0/E,D,C,B,A//// 1/A////",
			"1;Source topics A, C, D and 1 additional topics are missing.;;"},
		{"too many tasks", "A:30000", "0/A//// 1/A//// 2/A//// 3/A////", "2;The topology has more than 100000 tasks.;;"},
		{"written by others: a loop", "A:1", "0//X/Y:0// 1//Y/X:0//",
			"2;Failed to compute number of partitions for all repartition topics. There may be loops in the topology that cannot be resolved.;;"},
		{"written by others: nothing to read", "A:1", "0/////", "2;No source topics found for subtopology 0;;"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			top := parseTopology(t, c.topology)
			got := Configure(top, parseCounts(t, c.existing).of)
			if s := printConfigured(&got); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	fixedChangelog, negative, regex, stale := wordCount(), wordCount(), wordCount(), wordCount()
	fixedChangelog.Subtopologies[0].StateChangelogTopics[0].Partitions = 3
	negative.Subtopologies[0].RepartitionSourceTopics[0].Partitions = -1
	regex.Subtopologies[1].CopartitionGroups = []CopartitionGroup{{SourceTopicRegex: []int16{0}}}
	stale.Epoch = -1
	for _, c := range []struct {
		topology *Topology
		kind     error
		text     string
	}{
		{wordCount(), nil, ""},
		{&Topology{}, nil, ""},
		{fixedChangelog, ErrInvalidTopology, "Changelog topic app-counts-changelog must have an undefined partition count, but it is set to 3."},
		{negative, ErrInvalidTopology, "Repartition topic app-counts-repartition must have a positive partition count, but it is set to -1."},
		{regex, ErrInvalidRequest, "A copartition group of subtopology 0 refers to topic 0 of 0."},
		{stale, ErrInvalidRequest, "Topology epoch must be non-negative."},
		{parseTopology(t, "0/"+strings.Repeat("x", MaxBytes)+"////"), ErrInvalidTopology, "The topology is larger than 1048576 bytes."},
		{parseTopology(t, "0/A//// 0/B////"), ErrInvalidRequest, "Subtopology 0 is there twice."},
		{parseTopology(t, "0/A///K,K/"), ErrInvalidRequest, "Topic K is there twice in subtopology 0."},
		{parseTopology(t, "0/A////-0"), ErrInvalidRequest, "A copartition group of subtopology 0 refers to topic 0 of 0."},
		{parseTopology(t, "0/A////1-"), ErrInvalidRequest, "A copartition group of subtopology 0 refers to topic 1 of 1."},
		{parseTopology(t, "0/////"), ErrInvalidTopology, "No source topics found for subtopology 0"},
		{parseTopology(t, "0//X/X:0//"), ErrInvalidTopology, "Failed to compute number of partitions for all repartition topics. " +
			"There may be loops in the topology that cannot be resolved."},
		{parseTopology(t, "0///X:0//"), ErrInvalidTopology, "Failed to compute number of partitions for all repartition topics, " +
			"because a repartition source topic is never used as a sink topic."},
	} {
		err := c.topology.Validate()
		if !errors.Is(err, c.kind) || err != nil && err.Error() != c.text {
			t.Errorf("got  %v\nwant %s", err, c.text)
		}
	}
}

func TestEndpointPartitions(t *testing.T) {
	t.Parallel()
	configured := Configure(parseTopology(t, "0/B,A/X/// 1/C//X:0//"), existingTopics{"A": 4, "B": 2, "C": 1, "X": 4}.of)
	if configured.Status != Ready {
		t.Fatal(configured)
	}
	got := EndpointPartitions(configured.Subtopologies, map[string][]int32{"0": {1, 3}, "1": {2}, "9": {0}},
		existingTopics{"A": 4, "B": 2, "X": 4}.of)
	want := []TopicPartitions{{"A", []int32{1, 3}}, {"B", []int32{1}}, {"X", []int32{2}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestConfigureLongChain: repartition topics in the worst order, each subtopology waiting for the next.
func TestConfigureLongChain(t *testing.T) {
	t.Parallel()
	const length = 10_000
	top := &Topology{}
	for i := range length {
		s := Subtopology{ID: fmt.Sprintf("%05d", i), CopartitionGroups: []CopartitionGroup{{RepartitionSourceTopics: []int16{0, 0}}}}
		if i < length-1 {
			s.RepartitionSourceTopics = []InternalTopic{{Name: fmt.Sprint(i + 1)}}
		} else {
			s.SourceTopics, s.CopartitionGroups = []string{"in"}, nil
		}
		s.RepartitionSinkTopics = []string{fmt.Sprint(i)}
		top.Subtopologies = append(top.Subtopologies, s)
	}
	if err := top.Validate(); err != nil {
		t.Fatal(err)
	}
	got := Configure(top, existingTopics{"in": 8}.of)
	if got.Status != MissingInternalTopics || len(got.Create) != length-1 || got.Create[0].Partitions != 8 {
		t.Errorf("got %d, %s", got.Status, got.Message)
	}
}
