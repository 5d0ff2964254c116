package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A member that gives up while starting leaves this behind. TestCloseLeavesNoGoroutine looks closer.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.etcd.io/etcd/server/v3/storage/backend.(*backend).run"))
}

// forEachStore runs one test against a fresh store of each kind.
func forEachStore(t *testing.T, test func(t *testing.T, s Store)) {
	t.Run("memory", func(t *testing.T) {
		s := NewMemory()
		test(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Run("etcd", func(t *testing.T) {
		s := openEtcd(t, EtcdConfig{Dir: t.TempDir()})
		test(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func openEtcd(t testing.TB, cfg EtcdConfig) *Etcd {
	t.Helper()
	if cfg.BallastBytes == 0 {
		cfg.BallastBytes = -1
	}
	if cfg.Logger == nil {
		cfg.Logger = testLogger(t)
	}
	s, err := OpenEtcd(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// testLogger passes on what an operator would be alarmed by.
func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func put(key, value string) Op { return Op{Key: key, Value: []byte(value)} }
func del(key string) Op        { return Op{Key: key, Delete: true} }

func mustCommit(t testing.TB, s Store, ops ...Op) int64 {
	t.Helper()
	res, err := s.Commit(t.Context(), Txn{Ops: ops})
	if err != nil || !res.Succeeded {
		t.Fatalf("commit: %+v, %v", res, err)
	}
	return res.Revision
}

func (s Snapshot) String() string {
	var b strings.Builder
	for _, kv := range s.KVs {
		fmt.Fprintf(&b, "%s=%s@%d ", kv.Key, kv.Value, kv.ModRevision)
	}
	return strings.TrimSpace(b.String())
}

func mustGet(t testing.TB, s Store, prefix string, revision int64) Snapshot {
	t.Helper()
	snap, err := s.Get(t.Context(), prefix, revision)
	if err != nil {
		t.Fatalf("get %q at %d: %v", prefix, revision, err)
	}
	return snap
}

func TestStoreReadsRangesAtRevisions(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		empty := mustGet(t, s, "", 0)
		if len(empty.KVs) != 0 || empty.Revision < 1 {
			t.Fatalf("a new store holds %+v", empty)
		}
		r1 := mustCommit(t, s, put("a/2", "two"), put("a/1", "one"), put("b", "bee"))
		r2 := mustCommit(t, s, put("a/1", "uno"), del("b"))
		if r1 != empty.Revision+1 || r2 != r1+1 {
			t.Fatalf("revisions %d, %d, %d", empty.Revision, r1, r2)
		}
		for _, c := range []struct {
			prefix   string
			revision int64
			want     string
		}{
			{"a/", 0, fmt.Sprintf("a/1=uno@%d a/2=two@%d", r2, r1)},
			{"", 0, fmt.Sprintf("a/1=uno@%d a/2=two@%d", r2, r1)},
			{"", r2, fmt.Sprintf("a/1=uno@%d a/2=two@%d", r2, r1)},
			{"", r1, fmt.Sprintf("a/1=one@%d a/2=two@%d b=bee@%d", r1, r1, r1)},
			{"b", 0, ""},
			{"a/1", r1, fmt.Sprintf("a/1=one@%d", r1)},
			{"c", r1, ""},
		} {
			if got := mustGet(t, s, c.prefix, c.revision); got.String() != c.want {
				t.Errorf("prefix %q at %d: got %s, want %s", c.prefix, c.revision, got, c.want)
			}
		}
		if got := mustGet(t, s, "", r1).Revision; got != r1 {
			t.Errorf("a read at %d says that it is of %d", r1, got)
		}
		if _, err := s.Get(t.Context(), "", r2+1); !errors.Is(err, ErrFutureRevision) {
			t.Errorf("read of the future: %v", err)
		}
	})
}

func TestStoreComparesBeforeItWrites(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		r1 := mustCommit(t, s, put("k", "1"), put("gone", "x"))
		r2 := mustCommit(t, s, del("gone"))
		for _, c := range []struct {
			name     string
			compares []Compare
			want     bool
		}{
			{"absent holds", []Compare{{"new", 0}}, true},
			{"absent, but exists", []Compare{{"k", 0}}, false},
			{"exact revision", []Compare{{"k", r1}}, true},
			{"another revision", []Compare{{"k", r2}}, false},
			{"deleted is absent", []Compare{{"gone", 0}}, true},
			{"deleted has no revision", []Compare{{"gone", r1}}, false},
			{"all must hold", []Compare{{"k", r1}, {"new", 7}}, false},
		} {
			before := mustGet(t, s, "", 0)
			res, err := s.Commit(t.Context(), Txn{Compares: c.compares, Ops: []Op{put("mark", c.name)}})
			if err != nil || res.Succeeded != c.want {
				t.Errorf("%s: %+v, %v", c.name, res, err)
			}
			after := mustGet(t, s, "", 0)
			if c.want && (res.Revision != before.Revision+1 || after.Revision != res.Revision) ||
				!c.want && (res.Revision != before.Revision || after.String() != before.String()) {
				t.Errorf("%s: from %d %s to %d %s, result %+v", c.name, before.Revision, before, after.Revision, after, res)
			}
		}
		if res, err := s.Commit(t.Context(), Txn{Ops: []Op{del("never was")}}); err != nil || !res.Succeeded || res.Revision != mustGet(t, s, "", 0).Revision {
			t.Errorf("deleting nothing: %+v, %v", res, err)
		}
	})
}

func TestStoreRefusesMalformedTransactions(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		many := make([]Op, MaxTxnOps+1)
		for i := range many {
			many[i] = put(fmt.Sprint("k", i), "v")
		}
		for name, c := range map[string]struct {
			ops  []Op
			want error
		}{
			"empty":     {nil, nil},
			"no key":    {[]Op{put("", "v")}, nil},
			"twice":     {[]Op{put("a", "1"), del("a")}, nil},
			"many":      {many, ErrTxnTooLarge},
			"too large": {[]Op{{Key: "a", Value: make([]byte, MaxTxnBytes)}}, ErrTxnTooLarge},
		} {
			if _, err := s.Commit(t.Context(), Txn{Ops: c.ops}); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		mustCommit(t, s, many[:MaxTxnOps]...)
		mustCommit(t, s, Op{Key: "a", Value: make([]byte, MaxTxnBytes-1)})
	})
}

func (e Events) String() string {
	var b strings.Builder
	for _, ev := range e.Events {
		if ev.Deleted {
			fmt.Fprintf(&b, "-%s@%d ", ev.Key, ev.ModRevision)
		} else {
			fmt.Fprintf(&b, "%s=%s@%d ", ev.Key, ev.Value, ev.ModRevision)
		}
	}
	return strings.TrimSpace(b.String())
}

// watchUntil reads a watch up to a revision and checks that revisions come whole and in order.
func watchUntil(t *testing.T, w Watch, revision int64) Events {
	t.Helper()
	var all Events
	for all.Revision < revision {
		events, err := w.Next(t.Context())
		if err != nil {
			t.Fatalf("watch: %v", err)
		}
		if first := events.Events[0].ModRevision; first <= all.Revision {
			t.Fatalf("revision %d was split", first)
		}
		if last := events.Events[len(events.Events)-1].ModRevision; last != events.Revision {
			t.Fatalf("events up to %d say they are up to %d", last, events.Revision)
		}
		all.Events, all.Revision = append(all.Events, events.Events...), events.Revision
	}
	return all
}

func TestStoreWatchTellsEveryRevision(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		r1 := mustCommit(t, s, put("a/1", "x"), put("b/1", "y"))
		r2 := mustCommit(t, s, del("a/1"), put("a/2", "z"))
		all, some, later := s.Watch("", r1), s.Watch("a/", r1), s.Watch("a/", r2+1)
		defer all.Close()
		defer some.Close()
		defer later.Close()
		r3 := mustCommit(t, s, put("b/1", "yy"))
		r4 := mustCommit(t, s, put("a/3", "w"))
		for name, c := range map[string]struct {
			w    Watch
			want string
		}{
			"all":   {all, fmt.Sprintf("a/1=x@%d b/1=y@%d -a/1@%d a/2=z@%d b/1=yy@%d a/3=w@%d", r1, r1, r2, r2, r3, r4)},
			"some":  {some, fmt.Sprintf("a/1=x@%d -a/1@%d a/2=z@%d a/3=w@%d", r1, r2, r2, r4)},
			"later": {later, fmt.Sprintf("a/3=w@%d", r4)},
		} {
			if got := watchUntil(t, c.w, r4).String(); got != c.want {
				t.Errorf("%s: got %s, want %s", name, got, c.want)
			}
		}
	})
}

func TestStoreWatchKeepsLargeRevisionsWhole(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		w := s.Watch("", mustGet(t, s, "", 0).Revision+1)
		defer w.Close()
		for i := range 3 {
			ops := make([]Op, 2000)
			for j := range ops {
				ops[j] = put(fmt.Sprint("k", j), strings.Repeat(fmt.Sprint(i), 200))
			}
			r := mustCommit(t, s, ops...)
			events, err := w.Next(t.Context())
			if err != nil || events.Revision != r || len(events.Events) != len(ops) {
				t.Fatalf("%d events up to %d, %v; want %d at %d", len(events.Events), events.Revision, err, len(ops), r)
			}
		}
	})
}

func TestStoreCompactionEndsReadersOfThePast(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		r1 := mustCommit(t, s, put("a", "1"), put("b", "1"))
		r2 := mustCommit(t, s, put("a", "2"), del("b"))
		r3 := mustCommit(t, s, put("a", "3"))
		if err := s.Compact(t.Context(), r2); err != nil {
			t.Fatal(err)
		}
		if err := s.Compact(t.Context(), r1); !errors.Is(err, ErrCompacted) {
			t.Errorf("compacting again: %v", err)
		}
		if err := s.Compact(t.Context(), r3+10); !errors.Is(err, ErrFutureRevision) {
			t.Errorf("compacting the future: %v", err)
		}
		if _, err := s.Get(t.Context(), "", r1); !errors.Is(err, ErrCompacted) {
			t.Errorf("read of the past: %v", err)
		}
		if got, want := mustGet(t, s, "", r2).String(), fmt.Sprintf("a=2@%d", r2); got != want {
			t.Errorf("at the compacted revision: %s, want %s", got, want)
		}
		late := s.Watch("", r1)
		defer late.Close()
		if _, err := late.Next(t.Context()); !errors.Is(err, ErrCompacted) {
			t.Errorf("watch of the past: %v", err)
		}
		fine := s.Watch("", r2+1)
		defer fine.Close()
		if got, want := watchUntil(t, fine, r3).String(), fmt.Sprintf("a=3@%d", r3); got != want {
			t.Errorf("watch after compaction: %s, want %s", got, want)
		}
	})
}

func TestStoreEndsWaitingWatches(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		next := mustGet(t, s, "", 0).Revision + 1
		closed, cancelled, orphaned := s.Watch("", next), s.Watch("", next), s.Watch("", next)
		defer cancelled.Close()
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		for name, c := range map[string]struct {
			w    Watch
			ctx  context.Context
			end  func()
			want error
		}{
			"closed":    {closed, t.Context(), closed.Close, ErrClosed},
			"cancelled": {cancelled, ctx, func() { cancel(cause) }, cause},
			"orphaned":  {orphaned, t.Context(), func() { s.Close() }, ErrClosed},
		} {
			if name == "orphaned" {
				continue // last
			}
			endsWith(t, name, c.w, c.ctx, c.end, c.want)
		}
		endsWith(t, "orphaned", orphaned, t.Context(), func() { s.Close() }, ErrClosed)
		closed.Close()
		if _, err := closed.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("next after close: %v", err)
		}
		if _, err := s.Get(t.Context(), "", 0); !errors.Is(err, ErrClosed) {
			t.Errorf("get after close: %v", err)
		}
		if _, err := s.Commit(t.Context(), Txn{Ops: []Op{put("a", "b")}}); !errors.Is(err, ErrClosed) {
			t.Errorf("commit after close: %v", err)
		}
		if s.Err() != nil {
			t.Errorf("closing is reported as a failure: %v", s.Err())
		}
	})
}

func endsWith(t *testing.T, name string, w Watch, ctx context.Context, end func(), want error) {
	t.Helper()
	got := make(chan error)
	go func() {
		_, err := w.Next(ctx)
		got <- err
	}()
	end()
	if err := <-got; !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", name, err, want)
	}
}

// TestStoreIncrementsAreNeverLost has writers compete for one counter by compare and swap.
func TestStoreIncrementsAreNeverLost(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		const writers, each = 8, 25
		var done sync.WaitGroup
		for range writers {
			done.Go(func() {
				for n := 0; n < each; {
					snap := mustGet(t, s, "n", 0)
					value, mod := 0, int64(0)
					if len(snap.KVs) > 0 {
						mod = snap.KVs[0].ModRevision
						fmt.Sscan(string(snap.KVs[0].Value), &value)
					}
					res, err := s.Commit(t.Context(), Txn{Compares: []Compare{{"n", mod}}, Ops: []Op{put("n", fmt.Sprint(value+1))}})
					if err != nil {
						t.Error(err)
						return
					}
					if res.Succeeded {
						n++
					}
				}
			})
		}
		done.Wait()
		if got := string(mustGet(t, s, "n", 0).KVs[0].Value); got != fmt.Sprint(writers*each) {
			t.Errorf("counted to %s, want %d", got, writers*each)
		}
	})
}
