package assignor

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestStickyAsKafka compares with what Apache Kafka 4.3.1 assigned; see testdata/GoldenTasks.java.
func TestStickyAsKafka(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/kafka-4.3.1-tasks.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(text)) {
		g, want := parseTaskGroup(t, strings.Fields(line))
		before := fmt.Sprint(*g)
		got := Sticky(g)
		for i := range g.Members {
			if !got[i].Active.Equal(want[i].Active) || !got[i].Standby.Equal(want[i].Standby) || got[i].Warmup != nil {
				t.Errorf("%s gets %v, want %v, of\n%s", g.Members[i].ID, got[i], want[i], line)
			}
		}
		if fmt.Sprint(*g) != before {
			t.Errorf("the group was changed: %s", line)
		}
		lines++
	}
	if lines < 900 {
		t.Errorf("only %d situations", lines)
	}
}

func parseTaskGroup(t *testing.T, fields []string) (g *TaskGroup, want []TaskAssignment) {
	t.Helper()
	number := func(s string) int {
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	tasks := func(s string) (out Tasks) {
		for _, sub := range strings.FieldsFunc(s, func(r rune) bool { return r == '+' }) {
			id, partitions, _ := strings.Cut(sub, ":")
			st := SubtopologyTasks{Subtopology: id}
			for _, p := range strings.Split(partitions, ".") {
				st.Partitions = append(st.Partitions, int32(number(p)))
			}
			out = append(out, st)
		}
		return out
	}
	g = &TaskGroup{StandbyReplicas: number(fields[0])}
	for _, sub := range strings.Split(fields[1], ",") {
		f := strings.Split(sub, ":")
		g.Subtopologies = append(g.Subtopologies, SubtopologyShape{ID: f[0], Tasks: int32(number(f[1])), Stateful: f[2] == "true"})
	}
	results := false
	for _, f := range fields[2:] {
		parts := strings.Split(f, "/")
		switch {
		case f == "->":
			results = true
		case results:
			want = append(want, TaskAssignment{Active: tasks(parts[0]), Standby: tasks(parts[1])})
		default:
			g.Members = append(g.Members, TaskMember{
				ID: parts[0], Process: parts[1], Former: TaskAssignment{Active: tasks(parts[2]), Standby: tasks(parts[3])},
			})
		}
	}
	return g, want
}

// TestStickyProperties holds random groups, whose former assignments are wrong in every way, to what must be true of any assignment, and
// then lets members leave and join.
func TestStickyProperties(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		g := randomTaskGroup(rnd)
		for round := range 4 {
			got := Sticky(g)
			if err := checkTasks(g, got); err != "" {
				t.Fatalf("seed %d, round %d: %s\n%+v\n%v", seed, round, err, g, got)
			}
			for i := range g.Members {
				g.Members[i].Former = got[i]
			}
			for i := rnd.IntN(3); i > 0 && len(g.Members) > 1; i-- {
				at := rnd.IntN(len(g.Members))
				g.Members = slices.Delete(g.Members, at, at+1)
			}
			for i := rnd.IntN(3); i > 0; i-- {
				id := fmt.Sprintf("n%d.%d", round, i)
				g.Members = append(g.Members, TaskMember{ID: id, Process: id[:2]})
			}
		}
	}
}

func randomTaskGroup(rnd *rand.Rand) *TaskGroup {
	g := &TaskGroup{StandbyReplicas: rnd.IntN(4)}
	for i := range 1 + rnd.IntN(5) {
		g.Subtopologies = append(g.Subtopologies, SubtopologyShape{ID: fmt.Sprint(i), Tasks: int32(1 + rnd.IntN(20)), Stateful: rnd.IntN(2) == 0})
	}
	tasks := func() Tasks {
		var out Tasks
		for range rnd.IntN(10) {
			out = append(out, SubtopologyTasks{fmt.Sprint(rnd.IntN(7)), []int32{int32(rnd.IntN(25)) - 2}})
		}
		return NormalTasks(out)
	}
	for i := range 1 + rnd.IntN(20) {
		m := TaskMember{ID: fmt.Sprintf("m%02d", i), Process: fmt.Sprintf("p%d", rnd.IntN(8))}
		if rnd.IntN(2) == 0 {
			m.Former = TaskAssignment{Active: tasks(), Standby: tasks(), Warmup: tasks()}
		}
		g.Members = append(g.Members, m)
	}
	return g
}

// checkTasks says what is wrong with an assignment.
func checkTasks(g *TaskGroup, got []TaskAssignment) string {
	type task struct {
		subtopology string
		partition   int32
	}
	if len(got) != len(g.Members) {
		return "members are lost"
	}
	processes := map[string]bool{}
	active, holders := map[task]int{}, map[task]map[string]bool{}
	tasks := 0
	for _, s := range g.Subtopologies {
		tasks += int(s.Tasks)
	}
	for i, m := range g.Members {
		processes[m.Process] = true
		if n := got[i].Active.Count(); n > (tasks+len(g.Members)-1)/len(g.Members) {
			return fmt.Sprintf("%s has %d of %d active tasks", m.ID, n, tasks)
		}
		for kind, list := range []Tasks{got[i].Active, got[i].Standby} {
			for _, s := range list {
				for _, p := range s.Partitions {
					at := task{s.Subtopology, p}
					if kind == 0 {
						active[at]++
					}
					if holders[at][m.Process] {
						return fmt.Sprintf("process %s has %v twice", m.Process, at)
					}
					if holders[at] == nil {
						holders[at] = map[string]bool{}
					}
					holders[at][m.Process] = true
				}
			}
		}
	}
	all := 0
	for _, s := range g.Subtopologies {
		for p := range s.Tasks {
			at := task{s.ID, p}
			all++
			if active[at] != 1 {
				return fmt.Sprintf("%v is active %d times", at, active[at])
			}
			want := 1
			if s.Stateful {
				want = min(1+g.StandbyReplicas, len(processes))
			}
			if len(holders[at]) != want {
				return fmt.Sprintf("%v is held %d times, want %d", at, len(holders[at]), want)
			}
		}
	}
	if len(holders) != all {
		return "there are tasks that do not exist"
	}
	return ""
}

// TestStickyEvenAndKept: a new group gets its active tasks evenly, keeps them, and nobody loses any when a member leaves.
func TestStickyEvenAndKept(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		g := &TaskGroup{StandbyReplicas: rnd.IntN(3), Subtopologies: randomTaskGroup(rnd).Subtopologies}
		processes, threads := 1+rnd.IntN(6), 1+rnd.IntN(4)
		for i := range processes * threads {
			g.Members = append(g.Members, TaskMember{ID: fmt.Sprintf("m%02d", i), Process: fmt.Sprint(i % processes)})
		}
		first := Sticky(g)
		fewest, most := first[0].Active.Count(), 0
		for i := range first {
			g.Members[i].Former = first[i]
			fewest, most = min(fewest, first[i].Active.Count()), max(most, first[i].Active.Count())
		}
		if most-fewest > 1 {
			t.Errorf("seed %d: from %d to %d active tasks", seed, fewest, most)
		}
		for i, a := range Sticky(g) {
			if !a.Active.Equal(first[i].Active) {
				t.Errorf("seed %d: %s had %v and gets %v", seed, g.Members[i].ID, first[i].Active, a.Active)
			}
		}
		if len(g.Members) == 1 {
			continue
		}
		at := rnd.IntN(len(g.Members))
		g.Members = slices.Delete(g.Members, at, at+1)
		for i, a := range Sticky(g) {
			for _, s := range g.Members[i].Former.Active {
				for _, p := range s.Partitions {
					if !a.Active.Has(s.Subtopology, p) {
						t.Errorf("seed %d: %s loses %s_%d", seed, g.Members[i].ID, s.Subtopology, p)
					}
				}
			}
		}
	}
}

// TestStickyFollowsState: when a process goes its tasks go where their standby tasks were, unless those members are full.
func TestStickyFollowsState(t *testing.T) {
	t.Parallel()
	g := &TaskGroup{StandbyReplicas: 1, Subtopologies: []SubtopologyShape{{ID: "0", Tasks: 12, Stateful: true}}}
	for i := range 4 {
		g.Members = append(g.Members, TaskMember{ID: fmt.Sprint(i), Process: fmt.Sprint(i)})
	}
	for i, a := range Sticky(g) {
		g.Members[i].Former = a
	}
	lost := g.Members[3].Former.Active.Of("0")
	g.Members = g.Members[:3]
	got := Sticky(g)
	followed := 0
	for _, p := range lost {
		for i, m := range g.Members {
			if !m.Former.Standby.Has("0", p) {
				continue
			}
			if got[i].Active.Has("0", p) {
				followed++
			} else if got[i].Active.Count() < 12/3 {
				t.Errorf("%s has the state of 0_%d and room, but only %v", m.ID, p, got[i].Active)
			}
		}
	}
	if len(lost) != 3 || followed == 0 {
		t.Errorf("%d of %d tasks followed their state", followed, len(lost))
	}
}

func TestStickyWithoutMembers(t *testing.T) {
	t.Parallel()
	if got := Sticky(&TaskGroup{Subtopologies: []SubtopologyShape{{ID: "0", Tasks: 4}}}); len(got) != 0 {
		t.Error(got)
	}
	if got := Sticky(&TaskGroup{Members: []TaskMember{{ID: "a"}}, StandbyReplicas: 2}); len(got) != 1 || got[0].Active.Count() != 0 {
		t.Error(got)
	}
}

func TestNormalTasks(t *testing.T) {
	t.Parallel()
	got := NormalTasks(Tasks{{"b", []int32{2, 1, 2}}, {"a", nil}, {"c", []int32{0}}, {"b", []int32{0}}})
	if want := (Tasks{{"b", []int32{0, 1, 2}}, {"c", []int32{0}}}); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got.Count() != 4 || !got.Has("c", 0) || got.Has("c", 1) || got.Has("a", 0) || !slices.Equal(got.Of("b"), []int32{0, 1, 2}) {
		t.Error(got)
	}
}

func BenchmarkSticky(b *testing.B) {
	g := &TaskGroup{StandbyReplicas: 2}
	for i := range 10 {
		g.Subtopologies = append(g.Subtopologies, SubtopologyShape{ID: fmt.Sprint(i), Tasks: 1000, Stateful: true})
	}
	for i := range 1000 {
		g.Members = append(g.Members, TaskMember{ID: fmt.Sprintf("%04d", i), Process: fmt.Sprint(i / 4)})
	}
	for i, a := range Sticky(g) {
		g.Members[i].Former = a
	}
	g.Members = g.Members[:900]
	b.ReportAllocs()
	for b.Loop() {
		Sticky(g)
	}
}
