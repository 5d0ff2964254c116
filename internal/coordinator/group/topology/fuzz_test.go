package topology

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// FuzzConfigure makes topologies of bytes, with names that meet often. Whatever they are nothing panics, and what passes is consistent.
func FuzzConfigure(f *testing.F) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		data := make([]byte, rnd.IntN(120))
		for i := range data {
			data[i] = byte(rnd.UintN(256))
			if rnd.IntN(2) == 0 {
				data[i] %= 3
			}
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		existing, top := fromBytes(data)
		got := Configure(top, existing.of)
		if err := check(top, existing, &got); err != "" {
			t.Errorf("%s\n%v\n%+v\n%+v", err, existing, top, got)
		}
		if got.Status == MissingInternalTopics && groups(top) < 2 {
			for _, topic := range got.Create {
				existing[topic.Name] = topic.Partitions
			}
			again := Configure(top, existing.of)
			if again.Status != Ready || !reflect.DeepEqual(again.Subtopologies, got.Subtopologies) {
				t.Errorf("once its topics are created: %+v\n%v\n%+v\n%+v", again, existing, top, got)
			}
		}
	})
}

// groups counts the copartition groups. Two of them can share a topic that the second one widens, which the first then finds too wide.
func groups(top *Topology) (n int) {
	for i := range top.Subtopologies {
		n += len(top.Subtopologies[i].CopartitionGroups)
	}
	return n
}

func check(top *Topology, existing existingTopics, c *Configured) string {
	switch c.Status {
	case MissingSourceTopics, IncorrectlyPartitionedTopics:
		if c.Subtopologies != nil || c.Create != nil || c.Message == "" {
			return "a problem is told with results"
		}
		return ""
	case Ready, MissingInternalTopics:
	default:
		return "no such status"
	}
	if (c.Status == Ready) != (len(c.Create) == 0) || (c.Status == Ready) != (c.Message == "") {
		return "status, message and topics to create do not fit"
	}
	if len(c.Subtopologies) != len(top.Subtopologies) {
		return "a subtopology is lost"
	}
	for i, name := 0, ""; i < len(c.Create); i, name = i+1, c.Create[i].Name {
		if _, ok := existing.of(c.Create[i].Name); ok || strings.Compare(c.Create[i].Name, name) < 0 || c.Create[i].Partitions <= 0 {
			return "a topic to create exists, is out of order or has no partitions"
		}
	}
	for i := range c.Subtopologies {
		s := &c.Subtopologies[i]
		if s.Tasks <= 0 {
			return "no tasks"
		}
		for _, name := range s.SourceTopics {
			if existing[name] > s.Tasks {
				return "fewer tasks than partitions"
			}
		}
		for _, topic := range s.Changelogs {
			if topic.Partitions != s.Tasks {
				return "a changelog does not fit the tasks"
			}
		}
	}
	return ""
}

// fromBytes builds a topology: each byte or two say what comes next and which name it has.
func fromBytes(data []byte) (existingTopics, *Topology) {
	next := func() int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b)
	}
	name := func(kind string) string { return kind + string(rune('a'+next()%4)) }
	existing, top := existingTopics{}, &Topology{}
	for len(data) > 0 {
		what := next()
		if len(top.Subtopologies) == 0 || what%9 == 0 {
			top.Subtopologies = append(top.Subtopologies, Subtopology{ID: string(rune('0' + len(top.Subtopologies)%10))})
		}
		s := &top.Subtopologies[len(top.Subtopologies)-1]
		switch what % 9 {
		case 1, 2:
			source := name("s")
			s.SourceTopics = append(s.SourceTopics, source)
			if what >= 9 {
				existing[source] = int32(1 + next()%5)
			}
		case 3:
			s.RepartitionSinkTopics = append(s.RepartitionSinkTopics, name("r"))
		case 4, 5:
			topic := InternalTopic{Name: name("r")}
			if what%4 == 0 {
				topic.Partitions = int32(int8(next()))
			}
			s.RepartitionSourceTopics = append(s.RepartitionSourceTopics, topic)
		case 6:
			s.StateChangelogTopics = append(s.StateChangelogTopics, InternalTopic{Name: name("c")})
		case 7:
			g := CopartitionGroup{SourceTopics: []int16{int16(next() % 3)}, RepartitionSourceTopics: []int16{int16(next()%3) - 1, int16(next() % 2)}}
			s.CopartitionGroups = append(s.CopartitionGroups, g)
		case 8:
			existing[name([]string{"r", "c", "s"}[next()%3])] = int32(1 + next()%5)
		}
	}
	return existing, top
}
