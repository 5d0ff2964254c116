package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ottlaio/ottla/internal/base"
)

func TestOpenGivesTheClusterAnID(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		if _, err := Open(t.Context(), Options{Store: s, Existing: true}); !errors.Is(err, ErrClusterID) {
			t.Errorf("a lost store was taken for a new one: %v", err)
		}
		if _, err := Open(t.Context(), Options{Store: s, ClusterID: "short"}); !errors.Is(err, ErrClusterID) {
			t.Errorf("odd cluster id: %v", err)
		}
		m := openOn(t, s)
		id := m.Image().ClusterID()
		if len(id) != 22 {
			t.Errorf("cluster id %q", id)
		}
		m.Close()
		for _, o := range []Options{{Store: s}, {Store: s, ClusterID: id, Existing: true}} {
			again, err := Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if again.Image().ClusterID() != id {
				t.Errorf("the cluster id changed from %s to %s", id, again.Image().ClusterID())
			}
			again.Close()
		}
		if _, err := Open(t.Context(), Options{Store: s, ClusterID: "AAAAAAAAAAAAAAAAAAAAAA"}); !errors.Is(err, ErrClusterID) {
			t.Errorf("another cluster's store: %v", err)
		}
	})
}

// TestAdminCallsReadTheirOwnWrites has many callers at once; run it with -race.
func TestAdminCallsReadTheirOwnWrites(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		m := openOn(t, s)
		var mu sync.Mutex
		told := map[string]bool{}
		m.Subscribe(func(prev, next *Image) {
			mu.Lock()
			defer mu.Unlock()
			for _, topic := range next.Diff(prev).Created {
				told[topic.Name] = true
			}
		})
		var callers sync.WaitGroup
		for c := range 8 {
			callers.Go(func() {
				for i := range 10 {
					name := fmt.Sprintf("topic-%d-%d", c, i)
					r := m.CreateTopics(t.Context(), []NewTopic{named(name)}, false)[0]
					if r.Err != nil {
						t.Errorf("%s: %v", name, r.Err)
						return
					}
					if _, ok := m.Image().Topic(name); !ok {
						t.Errorf("%s is not in the image", name)
					}
					mu.Lock()
					if !told[name] {
						t.Errorf("subscribers do not know %s", name)
					}
					mu.Unlock()
					if i%2 == 0 {
						if err := m.DeleteTopics(t.Context(), []base.TopicID{r.Topic.ID})[0]; err != nil {
							t.Errorf("delete %s: %v", name, err)
						}
						if _, ok := m.Image().Topic(name); ok {
							t.Errorf("%s is still in the image", name)
						}
					}
				}
			})
		}
		callers.Wait()
		if n := m.Image().TopicCount(); n != 40 {
			t.Errorf("%d topics", n)
		}
		m.Close()
	})
}

// TestTwoBrokersOnOneStoreNeverCollide has two Metadata compete for names that exclude each other.
func TestTwoBrokersOnOneStoreNeverCollide(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		brokers := []*Metadata{openOn(t, s), openOn(t, s)}
		for round := range 20 {
			var both sync.WaitGroup
			var won [2]error
			for i, m := range brokers {
				both.Go(func() {
					name := fmt.Sprintf("n%c%d", "._"[i], round)
					won[i] = m.CreateTopics(t.Context(), []NewTopic{named(name)}, false)[0].Err
				})
			}
			both.Wait()
			if (won[0] == nil) == (won[1] == nil) || !errors.Is(errors.Join(won[:]...), ErrInvalidTopicName) {
				t.Fatalf("round %d: %v", round, won)
			}
		}
		for _, m := range brokers {
			m.Close()
		}
	})
}

func TestSubscribersSeeEveryImageInOrder(t *testing.T) {
	m := openMemory(t)
	type seen struct{ prev, next *Image }
	var calls []seen
	first := m.Subscribe(func(prev, next *Image) { calls = append(calls, seen{prev, next}) })
	mustCreate(t, m, "a")
	mustCreate(t, m, "b")
	m.DeleteTopics(t.Context(), []base.TopicID{mustCreate(t, m, "c")[0].ID})
	m.Close()
	if len(calls) != 4 {
		t.Fatalf("%d calls", len(calls))
	}
	prev := first
	for i, c := range calls {
		if c.prev != prev || c.next.Revision() <= c.prev.Revision() {
			t.Errorf("call %d: from %d to %d", i, c.prev.Revision(), c.next.Revision())
		}
		prev = c.next
	}
	if m.Image() != prev {
		t.Error("the last image was not told")
	}
	d := m.Image().Diff(first)
	if len(d.Created) != 2 || d.Created[0].Name != "a" || d.Created[1].Name != "b" || len(d.Deleted)+len(d.Changed) != 0 {
		t.Errorf("diff %+v", d)
	}
}

func TestAlterConfigsReadsModifiesAndWrites(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		m := openOn(t, s)
		mustCreate(t, m, "t")
		for _, r := range []Resource{
			{ResourceTopic, "t"}, {ResourceBroker, ""}, {ResourceBroker, "1"}, {ResourceGroup, "a/b %ü\x00<default>"}, {ResourceClientMetrics, "sub"},
		} {
			before := m.Image()
			var writers sync.WaitGroup
			for range 4 {
				writers.Go(func() {
					for range 5 {
						err := m.AlterConfigs(t.Context(), r, func(c map[string]string) (map[string]string, error) {
							n, _ := strconv.Atoi(c["n"])
							c["n"] = strconv.Itoa(n + 1)
							return c, nil
						})
						if err != nil {
							t.Errorf("%v: %v", r, err)
						}
					}
				})
			}
			writers.Wait()
			if got := m.Image().Config(r); !maps.Equal(got, map[string]string{"n": "20"}) {
				t.Errorf("%v: %v", r, got)
			}
			if got := maps.Collect(m.Image().Resources(r.Type)); got[r.Name]["n"] != "20" {
				t.Errorf("resources of %v: %v", r.Type, got)
			}
			if d := m.Image().Diff(before); r.Type == ResourceTopic && (len(d.Changed) != 1 || len(d.Configs) != 0) ||
				r.Type != ResourceTopic && (len(d.Changed) != 0 || !slices.Equal(d.Configs, []Resource{r})) {
				t.Errorf("%v: diff %+v", r, d)
			}
			revision := m.Image().Revision()
			nothing := func(c map[string]string) (map[string]string, error) { return c, nil }
			if err := m.AlterConfigs(t.Context(), r, nothing); err != nil || m.Image().Revision() != revision {
				t.Errorf("%v: changing nothing made revision %d of %d: %v", r, m.Image().Revision(), revision, err)
			}
			mine := errors.New("mine")
			if err := m.AlterConfigs(t.Context(), r, func(c map[string]string) (map[string]string, error) { return nil, mine }); !errors.Is(err, mine) {
				t.Errorf("%v: the caller's error became %v", r, err)
			}
			if err := m.AlterConfigs(t.Context(), r, func(c map[string]string) (map[string]string, error) { return nil, nil }); err != nil {
				t.Errorf("%v: %v", r, err)
			}
			if got := m.Image().Config(r); len(got) != 0 {
				t.Errorf("%v: %v after removal", r, got)
			}
		}
		set := func(c map[string]string) (map[string]string, error) { c["k"] = "v"; return c, nil }
		if err := m.AlterConfigs(t.Context(), Resource{ResourceTopic, "none"}, set); !errors.Is(err, ErrUnknownTopic) {
			t.Errorf("unknown topic: %v", err)
		}
		if err := m.AlterConfigs(t.Context(), Resource{99, "x"}, set); !errors.Is(err, ErrInvalidRequest) {
			t.Errorf("unknown resource type: %v", err)
		}
		huge := func(c map[string]string) (map[string]string, error) {
			c["k"] = string(make([]byte, MaxTxnBytes))
			return c, nil
		}
		if err := m.AlterConfigs(t.Context(), Resource{ResourceGroup, "g"}, huge); !errors.Is(err, ErrInvalidRequest) {
			t.Errorf("huge settings: %v", err)
		}
		m.Close()
	})
}

func TestEachStartLeadsWithItsOwnEpoch(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		for start := range 3 {
			m := openOn(t, s)
			if got := m.Image().LeaderEpoch(); got != base.LeaderEpoch(start-1) {
				t.Errorf("start %d begins with epoch %d", start, got)
			}
			epoch, err := m.BeginEpoch(t.Context())
			if err != nil || epoch != base.LeaderEpoch(start) {
				t.Fatalf("start %d: epoch %d, %v", start, epoch, err)
			}
			mustCreate(t, m, fmt.Sprint("t", start))
			for topic := range m.Image().Topics() {
				byID, _ := m.Image().TopicByID(topic.ID)
				if p := topic.Partitions[0]; p.LeaderEpoch != epoch || p.Leader != 1 || byID != topic {
					t.Errorf("start %d: %s is led with epoch %d", start, topic.Name, p.LeaderEpoch)
				}
			}
			m.Close()
		}
	})
}

func TestProducerIDsAreNeverGivenTwice(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		next := base.ProducerID(0)
		take := func(m *Metadata) {
			t.Helper()
			first, n, err := m.AllocateProducerIDs(t.Context())
			if err != nil || first < next || n != ProducerIDBlock {
				t.Fatalf("block of %d at %d, %v; want one at %d or later", n, first, err, next)
			}
			next = first + base.ProducerID(n)
		}
		m := openOn(t, s)
		take(m)
		take(m)
		m.RaiseProducerIDs(5) // lower than what is known
		take(m)
		m.Close()
		m = openOn(t, s)
		m.RaiseProducerIDs(12_345)
		m.RaiseProducerIDs(math.MaxInt64) // written by anyone
		next = 12_346
		take(m)
		if next != 13_346 {
			t.Errorf("next is %d", next)
		}
		var takers sync.WaitGroup
		var mu sync.Mutex
		seen := map[base.ProducerID]bool{}
		for range 4 {
			takers.Go(func() {
				first, _, err := m.AllocateProducerIDs(t.Context())
				mu.Lock()
				defer mu.Unlock()
				if err != nil || seen[first] {
					t.Errorf("block at %d again, or %v", first, err)
				}
				seen[first] = true
			})
		}
		takers.Wait()
		m.Close()
	})
}

func TestBrokersAreRegisteredAndForgotten(t *testing.T) {
	m := openMemory(t)
	one := Broker{ID: 1, Rack: "r", Endpoints: []Endpoint{{"PLAINTEXT", "localhost", 9092, "PLAINTEXT"}}}
	for _, b := range []Broker{{ID: 10}, one, {ID: 2}, one} {
		if err := m.RegisterBroker(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	var ids []base.BrokerID
	for _, b := range m.Image().Brokers() {
		ids = append(ids, b.ID)
	}
	got, ok := m.Image().Broker(1)
	if !slices.Equal(ids, []base.BrokerID{1, 2, 10}) || !ok || got.Rack != "r" || !slices.Equal(got.Endpoints, one.Endpoints) {
		t.Errorf("brokers %v, %+v", ids, got)
	}
	if _, ok := m.Image().Broker(3); ok {
		t.Error("broker 3 is there")
	}
	if err := m.RegisterBroker(t.Context(), Broker{ID: -1}); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("broker -1: %v", err)
	}
	for id, want := range map[base.BrokerID]error{10: nil, 3: ErrUnknownBroker, -1: ErrUnknownBroker} {
		if err := m.UnregisterBroker(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("unregister broker %d: %v, want %v", id, err, want)
		}
	}
	if _, ok := m.Image().Broker(10); ok {
		t.Error("broker 10 is still there")
	}
	if err := m.UnregisterBroker(t.Context(), m.opts.BrokerID); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("this broker was unregistered: %v", err)
	}
}

// lagging is a store whose watches begin only when let through.
type lagging struct {
	Store
	through chan struct{}
}

type laggingWatch struct {
	Watch
	through chan struct{}
	open    func() Watch
}

func (l *lagging) Watch(prefix string, from int64) Watch {
	return &laggingWatch{through: l.through, open: func() Watch { return l.Store.Watch(prefix, from) }}
}

func (w *laggingWatch) Next(ctx context.Context) (Events, error) {
	if w.Watch == nil {
		select {
		case <-w.through:
		case <-ctx.Done():
			return Events{}, context.Cause(ctx)
		}
		w.Watch = w.open()
	}
	return w.Watch.Next(ctx)
}

func (w *laggingWatch) Close() {
	if w.Watch != nil {
		w.Watch.Close()
	}
}

func TestACompactedWatchIsFollowedByReadingAnew(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		writer := openOn(t, s)
		mustCreate(t, writer, "kept", "doomed")
		slow := &lagging{s, make(chan struct{})}
		reader := openOn(t, slow)
		var deltas []Delta
		reader.Subscribe(func(prev, next *Image) { deltas = append(deltas, next.Diff(prev)) })
		kept, _ := reader.Image().Topic("kept")

		doomed, _ := writer.Image().Topic("doomed")
		writer.DeleteTopics(t.Context(), []base.TopicID{doomed.ID})
		mustCreate(t, writer, "doomed", "new")
		if err := s.Compact(t.Context(), writer.Image().Revision()); err != nil {
			t.Fatal(err)
		}
		close(slow.through)
		mustCreate(t, writer, "last")
		if err := reader.reached(t.Context(), writer.Image().Revision()); err != nil {
			t.Fatal(err)
		}
		if got := topicNames(reader.Image()); !slices.Equal(got, []string{"doomed", "kept", "last", "new"}) {
			t.Errorf("topics %v", got)
		}
		if now, _ := reader.Image().Topic("kept"); now != kept {
			t.Error("a topic that did not change was made anew")
		}
		writer.Close()
		reader.Close()
		d := deltas[0]
		if len(d.Deleted) != 1 || d.Deleted[0].ID != doomed.ID || len(d.Changed) != 0 {
			t.Errorf("the first delta is %+v", d)
		}
	})
}

func TestADamagedValueStopsTheOpening(t *testing.T) {
	s := NewMemory()
	m := openOn(t, s)
	mustCreate(t, m, "good", "bad", "worse")
	m.Close()
	intact := mustGet(t, s, "", 0)
	bad := slices.IndexFunc(intact.KVs, func(kv KV) bool { return kv.Key == "topics/bad" })
	for i := range intact.KVs[bad].Value {
		broken := slices.Clone(intact.KVs[bad].Value)
		broken[i] ^= 1 << (i % 8)
		mustCommit(t, s, Op{Key: "topics/bad", Value: broken})
		_, err := Open(t.Context(), Options{Store: s})
		var damage *DamageError
		if !errors.As(err, &damage) || damage.Key != "topics/bad" {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	// A sound value under another's key is damage too, and all damage is told.
	mustCommit(t, s, Op{Key: "topics/worse", Value: intact.KVs[bad].Value}, del("cluster"))
	_, err := Open(t.Context(), Options{Store: s})
	for _, key := range []string{`"topics/bad"`, `"topics/worse"`, `"cluster"`} {
		if err == nil || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

func TestADamagedEventIsAFailure(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		m, err := Open(t.Context(), Options{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		mustCreate(t, m, "t")
		mustCommit(t, s, put("topics/t", "rubbish"))
		<-m.Failed()
		var damage *DamageError
		if err := m.Err(); !errors.Is(err, ErrFailed) || !errors.As(err, &damage) || damage.Key != "topics/t" {
			t.Errorf("failed with %v", err)
		}
		if _, ok := m.Image().Topic("t"); !ok {
			t.Error("the topic was dropped from the image")
		}
		if err := m.CreateTopics(t.Context(), []NewTopic{named("u")}, false)[0].Err; !errors.Is(err, ErrFailed) {
			t.Errorf("a change after the failure: %v", err)
		}
	})
}

func TestValuesOfALaterFormatAreRefused(t *testing.T) {
	s := NewMemory()
	openOn(t, s).Close()
	body := []byte(`{"id":"x"}`)
	mustCommit(t, s, put("topics/t", fmt.Sprintf("2 %08x %s", valueCRC("topics/t", "2", body), body)))
	if _, err := Open(t.Context(), Options{Store: s}); !errors.Is(err, ErrUnknownFormat) {
		t.Errorf("a later version: %v", err)
	}
}

func TestFailuresOfTheStore(t *testing.T) {
	s := NewMemory()
	m, err := Open(t.Context(), Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s.Refuse(ErrNoSpace)
	if err := m.CreateTopics(t.Context(), []NewTopic{named("a"), named("bad name")}, false); !errors.Is(err[0].Err, ErrNoSpace) || !errors.Is(err[1].Err, ErrInvalidTopicName) {
		t.Errorf("with no space: %v", err)
	}
	s.Refuse(nil)
	mustCreate(t, m, "a")
	broken := errors.New("broken")
	s.Fail(broken)
	<-m.Failed()
	if !errors.Is(m.Err(), broken) || !errors.Is(m.Err(), ErrFailed) {
		t.Errorf("failed with %v", m.Err())
	}
	if _, err := m.BeginEpoch(t.Context()); !errors.Is(err, ErrFailed) {
		t.Errorf("a change after the failure: %v", err)
	}
}

func TestMetadataRunsInSimulatedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewMemory()
		m, err := Open(t.Context(), Options{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		mustCreate(t, m, "a")
		if time.Since(began) != 0 {
			t.Error("a change took simulated time")
		}
		cause := errors.New("no more patience")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if err := m.CreateTopics(ctx, []NewTopic{named("b")}, false)[0].Err; err != nil && !errors.Is(err, cause) {
			t.Errorf("a cancelled change: %v", err)
		}
		m.Close()
		if _, err := m.BeginEpoch(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a change after close: %v", err)
		}
		if m.Err() != nil {
			t.Errorf("closing is reported as a failure: %v", m.Err())
		}
	})
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s, err := OpenEtcd(t.Context(), EtcdConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	m := openOn(t, s)
	mustCreate(t, m, "a")
	if err := errors.Join(m.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}

func TestALostTopicIsMissed(t *testing.T) {
	s := NewMemory()
	m := openOn(t, s)
	mustCreate(t, m, "a", "b")
	m.Close()
	intact := mustGet(t, s, "topics/a", 0).KVs[0]
	mustCommit(t, s, del("topics/a"))
	var damage *DamageError
	if _, err := Open(t.Context(), Options{Store: s}); !errors.As(err, &damage) || damage.Key != keyTopicGuard {
		t.Errorf("a lost topic: %v", err)
	}
	mustCommit(t, s, Op{Key: intact.Key, Value: intact.Value})
	m = openOn(t, s)
	a, _ := m.Image().Topic("a")
	if err := m.DeleteTopics(t.Context(), []base.TopicID{a.ID})[0]; err != nil {
		t.Fatal(err)
	}
	m.Close()
	mustCommit(t, s, Op{Key: intact.Key, Value: intact.Value})
	if _, err := Open(t.Context(), Options{Store: s}); !errors.As(err, &damage) || damage.Key != keyTopicGuard {
		t.Errorf("a topic that came back: %v", err)
	}
}
