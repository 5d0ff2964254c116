package metadata

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ottlaio/ottla/internal/base"
)

// dump writes down everything that an image says.
func dump(i *Image) string {
	out := fmt.Sprintln(i.ClusterID(), i.LeaderEpoch(), i.TopicCount(), i.PartitionCount(), i.Brokers(), i.features, i.featuresMod)
	for t := range i.Topics() {
		byID, _ := i.TopicByID(t.ID)
		out += fmt.Sprintln("topic", *t, byID == t)
	}
	for _, r := range []ResourceType{ResourceTopic, ResourceBroker, ResourceGroup, ResourceClientMetrics} {
		for name, settings := range i.Resources(r) {
			out += fmt.Sprintln(r, name, settings)
		}
	}
	tombstones := i.Tombstones()
	for _, id := range slices.SortedFunc(maps.Keys(tombstones), func(a, b base.TopicID) int { return slices.Compare(a[:], b[:]) }) {
		out += fmt.Sprintln("deleted", tombstones[id])
	}
	return out + fmt.Sprintln(i.sum, i.guard, len(maps.Collect(i.collisions.all())), i.collisions.count)
}

// TestImagesAreTheSameChangedOrRead makes random changes: the image that follows them one by one, the one read at once, and the
// one that Diff leads to must agree at each step.
func TestImagesAreTheSameChangedOrRead(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := NewMemory()
		m, err := Open(t.Context(), Options{Store: s, BrokerID: 1})
		if err != nil {
			rt.Fatal(err)
		}
		defer m.Close()
		names := rapid.SampledFrom([]string{"a", "a.b", "a_b", "c-", "d", "e.f", "__g"})
		anyTopic := func() (base.TopicID, string) {
			all := slices.Collect(m.Image().Topics())
			if len(all) == 0 {
				return goldenID, "none"
			}
			topic := rapid.SampledFrom(all).Draw(rt, "topic")
			return topic.ID, topic.Name
		}
		ctx := t.Context()
		step := map[string]func(){
			"create": func() {
				topic := NewTopic{Name: names.Draw(rt, "name"), Partitions: rapid.Int32Range(0, 9).Draw(rt, "partitions"), ReplicationFactor: 1}
				m.CreateTopics(ctx, []NewTopic{topic, named(names.Draw(rt, "other"))}, false)
			},
			"delete": func() { id, _ := anyTopic(); m.DeleteTopics(ctx, []base.TopicID{id}) },
			"forget": func() { m.ForgetTombstones(ctx, slices.Collect(maps.Keys(m.Image().Tombstones()))) },
			"grow": func() {
				_, name := anyTopic()
				m.CreatePartitions(ctx, []NewPartitions{{Topic: name, Count: 5}}, false)
			},
			"epoch":  func() { m.BeginEpoch(ctx) },
			"ids":    func() { m.AllocateProducerIDs(ctx) },
			"broker": func() { m.RegisterBroker(ctx, Broker{ID: base.BrokerID(rapid.IntRange(0, 3).Draw(rt, "broker"))}) },
			"feature": func() {
				level := int16(rapid.IntRange(0, 2).Draw(rt, "level"))
				for _, way := range []UpgradeType{Upgrade, SafeDowngrade} { // one of them is refused
					m.UpdateFeatures(ctx, []FeatureUpdate{{"transaction.version", level, way}}, false)
				}
			},
			"config": func() {
				_, name := anyTopic()
				r := rapid.SampledFrom([]Resource{{ResourceTopic, name}, {ResourceBroker, ""}, {ResourceGroup, "g"}}).Draw(rt, "resource")
				value := rapid.SampledFrom([]string{"", "1", "2"}).Draw(rt, "value")
				m.AlterConfigs(ctx, r, func(c map[string]string) (map[string]string, error) {
					delete(c, "k")
					if value != "" {
						c["k"] = value
					}
					return c, nil
				})
			},
		}
		kinds := slices.Sorted(maps.Keys(step))
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			prev := m.Image()
			was := dump(prev)
			step[rapid.SampledFrom(kinds).Draw(rt, "kind")]()
			next := m.Image()
			snap, err := s.Get(ctx, "", 0)
			if err != nil {
				rt.Fatal(err)
			}
			read, _, err := loadImage(snap, 1, nil)
			if err != nil {
				rt.Fatal(err)
			}
			if dump(next) != dump(read) {
				rt.Fatalf("changed:\n%s\nread:\n%s", dump(next), dump(read))
			}
			if dump(prev) != was {
				rt.Fatalf("an image changed:\n%s\nwas:\n%s", dump(prev), was)
			}
			checkDiff(rt, prev, next)
			checkDiff(rt, prev, read) // which shares nothing with prev
		}
	})
}

func checkDiff(rt *rapid.T, prev, next *Image) {
	have := maps.Collect(prev.ids.all())
	d := next.Diff(prev)
	for _, t := range d.Deleted {
		delete(have, t.ID)
	}
	for _, t := range d.Created {
		have[t.ID] = t
	}
	for _, c := range d.Changed {
		have[c.Next.ID] = c.Next
	}
	for id, t := range next.ids.all() {
		if have[id] == nil || have[id].modRevision != t.modRevision || len(have[id].Partitions) != len(t.Partitions) {
			rt.Fatalf("the difference %+v misses %s", d, t.Name)
		}
		delete(have, id)
	}
	if len(have) > 0 {
		rt.Fatalf("the difference %+v leaves %v", d, have)
	}
}

func TestShardMapIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var m shardMap[int, int]
		model := map[int]int{}
		for range rapid.IntRange(1, 20).Draw(rt, "edits") {
			prev, prevModel := m, maps.Clone(model)
			e := m.edit()
			for range rapid.IntRange(0, 20).Draw(rt, "changes") {
				k := rapid.IntRange(0, 300).Draw(rt, "key")
				if rapid.Bool().Draw(rt, "delete") {
					e.delete(k)
					delete(model, k)
				} else {
					e.set(k, k+len(model))
					model[k] = k + len(model)
				}
			}
			m = e.m
			if !maps.Equal(maps.Collect(m.all()), model) || m.count != len(model) {
				rt.Fatalf("%d entries, want %v", m.count, model)
			}
			if !maps.Equal(maps.Collect(prev.all()), prevModel) || prev.count != len(prevModel) {
				rt.Fatal("an older map changed")
			}
			changed := map[int]bool{}
			for k := range m.diff(prev) {
				changed[k] = true
			}
			for k := range 301 {
				a, wasThere := prev.get(k)
				b, isThere := m.get(k)
				if (a != b || wasThere != isThere) && !changed[k] {
					rt.Fatalf("the difference misses %d", k)
				}
			}
		}
	})
}

func BenchmarkImageTopic(b *testing.B) {
	e := newImageEdit(imageState{})
	for i := range 10_000 {
		e.topics.set(fmt.Sprint("topic-", i), &Topic{})
	}
	img := &Image{imageState: imageState{topics: e.topics.m}}
	b.ReportAllocs()
	for b.Loop() {
		img.Topic("topic-4711")
	}
}

// BenchmarkCreateTopic creates topics one by one beside 10,000 that exist.
func BenchmarkCreateTopic(b *testing.B) {
	for _, kind := range []string{"memory", "etcd"} {
		b.Run(kind, func(b *testing.B) {
			var s Store = NewMemory()
			if kind == "etcd" {
				s = openEtcd(b, EtcdConfig{Dir: b.TempDir()})
			}
			m := openOn(b, s)
			requests := make([]NewTopic, 10_000)
			for i := range requests {
				requests[i] = named(fmt.Sprintf("before-%05d", i))
			}
			m.CreateTopics(b.Context(), requests, false)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := m.CreateTopics(b.Context(), []NewTopic{named(fmt.Sprint("new-", n))}, false)[0].Err; err != nil {
					b.Fatal(err)
				}
				n++
			}
			m.Close()
		})
	}
}
