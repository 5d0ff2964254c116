package assignor

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

// TestAssignAsKafka compares with what Apache Kafka 4.3.1 assigned; see testdata/Golden.java.
func TestAssignAsKafka(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/kafka-4.3.1.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name, g, want := parseGolden(t, strings.Fields(line))
		before := fmt.Sprint(*g)
		got := ByName[name](g)
		for i := range g.Members {
			if !got[i].Equal(want[i]) {
				t.Errorf("%s gets %v, want %v, of\n%s", g.Members[i].ID, got[i], want[i], line)
			}
		}
		if fmt.Sprint(*g) != before {
			t.Errorf("the group was changed: %s", line)
		}
		seen[strings.Join(strings.Fields(line)[:2], " ")]++
	}
	if len(seen) != 4 || seen["uniform heterogeneous"] < 100 {
		t.Errorf("only %v", seen)
	}
}

func parseGolden(t *testing.T, fields []string) (name string, g *Group, want []Assignment) {
	t.Helper()
	number := func(s string) int32 {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return int32(n)
	}
	id := func(s string) base.TopicID { return base.TopicID{15: byte(number(s))} }
	assignment := func(s string) Assignment {
		var a Assignment
		for _, topic := range strings.FieldsFunc(s, func(r rune) bool { return r == '+' }) {
			name, partitions, _ := strings.Cut(topic, ":")
			tp := TopicPartitions{Topic: id(name)}
			for _, p := range strings.Split(partitions, ".") {
				tp.Partitions = append(tp.Partitions, number(p))
			}
			a = append(a, tp)
		}
		return a
	}
	g = &Group{Alike: fields[1] == "homogeneous"}
	for _, topic := range strings.Split(fields[2], ",") {
		name, n, _ := strings.Cut(topic, ":")
		g.Topics = append(g.Topics, Topic{id(name), number(n)})
	}
	results := false
	for _, f := range fields[3:] {
		parts := strings.Split(f, "/")
		switch {
		case f == "->":
			results = true
		case results:
			want = append(want, assignment(parts[1]))
		default:
			m := Member{ID: parts[0], Assigned: assignment(parts[3])}
			if parts[1] != "" {
				m.Instance = &parts[1]
			}
			for _, topic := range strings.FieldsFunc(parts[2], func(r rune) bool { return r == '+' }) {
				m.Topics = append(m.Topics, slices.IndexFunc(g.Topics, func(t Topic) bool { return t.ID == id(topic) }))
			}
			g.Members = append(g.Members, m)
		}
	}
	return fields[0], g, want
}

// TestEveryPartitionOnce holds both assignors to what matters most, on random groups with assignments that are wrong in every way.
func TestEveryPartitionOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		g := randomGroup(rnd)
		for name, assign := range ByName {
			for round := range 3 {
				got := assign(g)
				if err := check(g, got); err != "" {
					t.Fatalf("seed %d, %s, round %d: %s\n%+v\n%v", seed, name, round, err, g, got)
				}
				again := assign(g)
				for i := range got {
					if !got[i].Equal(again[i]) {
						t.Fatalf("seed %d, %s: not the same twice", seed, name)
					}
					g.Members[i].Assigned = got[i]
				}
			}
		}
	}
}

func randomGroup(rnd *rand.Rand) *Group {
	g := &Group{}
	for i := range 1 + rnd.IntN(5) {
		g.Topics = append(g.Topics, Topic{base.TopicID{15: byte(i + 1)}, int32(1 + rnd.IntN(10))})
	}
	for i := range 1 + rnd.IntN(12) {
		m := Member{ID: fmt.Sprintf("m%02d", i)}
		for t := range g.Topics {
			if rnd.IntN(4) > 0 {
				m.Topics = append(m.Topics, t)
			}
		}
		for range rnd.IntN(6) {
			m.Assigned = append(m.Assigned, TopicPartitions{base.TopicID{15: byte(rnd.IntN(8))}, []int32{int32(rnd.IntN(14)), int32(rnd.IntN(14))}})
		}
		m.Assigned = Normal(m.Assigned)
		g.Members = append(g.Members, m)
	}
	if rnd.IntN(2) == 0 {
		for i := range g.Members {
			g.Members[i].Topics = g.Members[0].Topics
		}
		g.Alike = true
	}
	return g
}

// check returns what is wrong with an assignment.
func check(g *Group, got []Assignment) string {
	owner := map[string]int{}
	for i, a := range got {
		for n, tp := range a {
			if n > 0 && bytes.Compare(a[n-1].Topic[:], tp.Topic[:]) >= 0 || len(tp.Partitions) == 0 {
				return "topics out of order"
			}
			t := slices.IndexFunc(g.Topics, func(t Topic) bool { return t.ID == tp.Topic })
			if !slices.Contains(g.Members[i].Topics, t) {
				return fmt.Sprintf("%s has a topic that it did not ask for", g.Members[i].ID)
			}
			for _, p := range tp.Partitions {
				key := fmt.Sprint(tp.Topic, p)
				if other, ok := owner[key]; ok {
					return fmt.Sprintf("%s-%d has two owners, %d and %d", tp.Topic, p, other, i)
				}
				if owner[key] = i; p < 0 || p >= g.Topics[t].Partitions {
					return "a partition that there is not"
				}
			}
		}
	}
	want := 0
	for t := range g.Topics {
		if slices.ContainsFunc(g.Members, func(m Member) bool { return slices.Contains(m.Topics, t) }) {
			want += int(g.Topics[t].Partitions)
		}
	}
	if len(owner) != want {
		return fmt.Sprintf("%d partitions assigned, want %d", len(owner), want)
	}
	return ""
}

func BenchmarkUniform(b *testing.B) {
	for _, members := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			g := &Group{Alike: true, Topics: []Topic{{base.TopicID{1}, int32(10 * members)}}}
			for i := range members {
				g.Members = append(g.Members, Member{ID: fmt.Sprint(i), Topics: []int{0}})
			}
			for i, a := range Uniform(g) {
				g.Members[i].Assigned = a
			}
			g.Members = append(g.Members, Member{ID: "new", Topics: []int{0}})
			b.ReportAllocs()
			for b.Loop() {
				Uniform(g)
			}
		})
	}
}
