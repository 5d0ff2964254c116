package topology

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestConfigureAsKafka compares with what Apache Kafka 4.3.1 made of topologies; see testdata/Golden.java for the format.
func TestConfigureAsKafka(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/kafka-4.3.1.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		existing, top, want := parseCounts(t, fields[0]), parseTopology(t, fields[1]), fields[2]
		var got string
		if invalid := top.Validate(); invalid != nil {
			if !errors.Is(invalid, ErrInvalidTopology) {
				t.Errorf("%v\nof %s", invalid, line)
			}
			got = "INVALID;" + invalid.Error()
			if want[:2] == "1;" || want[:2] == "2;" {
				got = want // another problem hides it from Kafka
			}
		} else {
			configured := Configure(top, existing.of)
			got = printConfigured(&configured)
		}
		if got != want {
			t.Errorf("got  %s\nwant %s\nof   %s", got, want, line)
		}
		status, _, _ := strings.Cut(want, ";")
		seen[status]++
	}
	for _, status := range []string{"-1", "1", "2", "3", "INVALID"} {
		if seen[status] < 100 {
			t.Errorf("status %s seen %d times only", status, seen[status])
		}
	}
}

// existingTopics are the partition counts of topics.
type existingTopics map[string]int32

func (e existingTopics) of(topic string) (int32, bool) {
	n, ok := e[topic]
	return n, ok
}

func parseCounts(t *testing.T, s string) existingTopics {
	t.Helper()
	out := existingTopics{}
	for _, pair := range list(s, ",") {
		name, n, _ := strings.Cut(pair, ":")
		out[name] = number[int32](t, n)
	}
	return out
}

func parseTopology(t *testing.T, s string) *Topology {
	t.Helper()
	indexes := func(s string) (out []int16) {
		for _, n := range list(s, ".") {
			out = append(out, number[int16](t, n))
		}
		return out
	}
	top := &Topology{}
	for _, subtopology := range strings.Fields(s) {
		f := strings.Split(subtopology, "/")
		sub := Subtopology{ID: f[0], SourceTopics: list(f[1], ","), RepartitionSinkTopics: list(f[2], ",")}
		for _, topic := range list(f[3], ",") {
			name, n, _ := strings.Cut(topic, ":")
			sub.RepartitionSourceTopics = append(sub.RepartitionSourceTopics, InternalTopic{Name: name, Partitions: number[int32](t, n)})
		}
		for _, name := range list(f[4], ",") {
			sub.StateChangelogTopics = append(sub.StateChangelogTopics, InternalTopic{Name: name})
		}
		for _, group := range list(f[5], "+") {
			sources, repartition, _ := strings.Cut(group, "-")
			sub.CopartitionGroups = append(sub.CopartitionGroups,
				CopartitionGroup{SourceTopics: indexes(sources), RepartitionSourceTopics: indexes(repartition)})
		}
		top.Subtopologies = append(top.Subtopologies, sub)
	}
	return top
}

func list(s, separator string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, separator)
}

func number[T int16 | int32](t *testing.T, s string) T {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 16) // both types hold it
	if err != nil {
		t.Fatal(err)
	}
	return T(n)
}

func printConfigured(c *Configured) string {
	topics := func(list []NewTopic) string {
		var out []string
		for _, topic := range list {
			out = append(out, fmt.Sprintf("%s:%d", topic.Name, topic.Partitions))
		}
		return strings.Join(out, ",")
	}
	var subtopologies []string
	for _, s := range c.Subtopologies {
		subtopologies = append(subtopologies, fmt.Sprintf("%s/%d/%s/%s", s.ID, s.Tasks, topics(s.RepartitionSources), topics(s.Changelogs)))
	}
	return fmt.Sprintf("%d;%s;%s;%s", c.Status, c.Message, strings.Join(subtopologies, " "), topics(c.Create))
}
