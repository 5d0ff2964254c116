package storage

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// A deleted topic goes away with its files; one of the same name made anew has none of its records.
func TestDeletedTopicDoesNotComeBack(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"go on", "kill", "kill after the checkpoint"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			fs := newFS(t)
			old, anew := testSpec('a', 0, LogConfig{}), testSpec('a', 0, LogConfig{})
			anew.ID.ID[5] = 99
			e := open(t, testConfig(fs, old))
			p := partition(t, e, old.ID)
			mustAppend(t, p, batchSpec{size: 100, seed: 1})
			if err := errors.Join(p.flush(1), e.Checkpoint(t.Context())); err != nil {
				t.Fatal(err)
			}
			if err := e.Delete(t.Context(), old.ID.ID); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Read(0, ReadOptions{}); !errors.Is(err, ErrDeleted) {
				t.Fatalf("read of a deleted partition: %v", err)
			}
			fresh, err := e.Create(anew)
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, fresh, batchSpec{size: 200, seed: 2})
			want, err := readAll(fresh, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if how != "kill" {
				if err := e.Checkpoint(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := fresh.flush(1); err != nil {
					t.Fatal(err)
				}
			}
			if how != "go on" {
				kill(e)
				cfg := testConfig(fs, anew)
				cfg.Tombstones = map[base.TopicID]struct{}{old.ID.ID: {}}
				e = open(t, cfg)
				fresh = partition(t, e, anew.ID)
			}
			if got, err := readAll(fresh, 0, 1000); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("the new topic holds %d bytes, %v; want %d", len(got), err, len(want))
			}
			closeEngine(t, e)
			names, err := fs.List("/data/topics")
			if err != nil || !slices.Equal(names, []string{"topica-0"}) {
				t.Fatalf("folders %v, %v", names, err)
			}
		})
	}
}

func TestTombstonesAreForgottenOnceNothingNamesThem(t *testing.T) {
	t.Parallel()
	spec, other := testSpec('a', 0, LogConfig{}), testSpec('b', 0, LogConfig{})
	e := open(t, testConfig(newFS(t), spec, other))
	mustAppend(t, partition(t, e, spec.ID), batchSpec{size: 100})
	if err := e.Delete(t.Context(), spec.ID.ID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		mustAppend(t, partition(t, e, other.ID), batchSpec{size: 100})
		if err := errors.Join(partition(t, e, other.ID).flush(1), e.Checkpoint(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if ids := e.ForgetTombstones(); !slices.Equal(ids, []base.TopicID{spec.ID.ID}) {
		t.Fatalf("ForgetTombstones = %v", ids)
	}
}

// What the metadata does not know is kept and reported, in the checkpoint and in the wal.
func TestUnknownTopicsAreSetAside(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	flushed, logged := testSpec('a', 0, LogConfig{}), testSpec('b', 0, LogConfig{})
	e := open(t, testConfig(fs, flushed, logged))
	mustAppend(t, partition(t, e, flushed.ID), batchSpec{size: 100})
	if err := errors.Join(partition(t, e, flushed.ID).flush(1), e.Checkpoint(t.Context())); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, partition(t, e, logged.ID), batchSpec{size: 100})
	kill(e)

	e = open(t, testConfig(fs)) // a metadata that has lost both
	if len(e.Damage()) != 2 {
		t.Fatalf("reported: %+v", e.Damage())
	}
	closeEngine(t, e)
	names, err := fs.List("/data/set-aside")
	if err != nil || len(names) != 1 || !strings.HasPrefix(names[0], logged.ID.String()) {
		t.Fatalf("set aside: %v, %v", names, err)
	}
	e = open(t, testConfig(fs, flushed)) // it has found one again
	if o := partition(t, e, flushed.ID).Offsets(); o.HighWatermark != 1 {
		t.Fatalf("offsets %+v", o)
	}
}

// What is replayed may be more than the tail's budget, and more than one segment.
func TestReplayIsFlushedAsItGoes(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	specs := []PartitionSpec{testSpec('a', 0, LogConfig{SegmentBytes: 150_000}), testSpec('b', 0, LogConfig{})}
	cfg := testConfig(fs, specs...)
	cfg.WALMaxBytes = 16 << 20 // no checkpoint but the first
	e := open(t, cfg)
	var want [2][]byte
	for i := range 500 {
		p := partition(t, e, specs[i%2].ID)
		batch, h := makeBatch(batchSpec{size: 3000, seed: i})
		at, err := p.Append(t.Context(), batch, h, AppendOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want[i%2] = append(want[i%2], batch...)
		if i == 99 {
			if err := errors.Join(e.Wait(t.Context(), at.Sequence), p.flush(1), e.Checkpoint(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		if i == 499 {
			if err := e.Wait(t.Context(), at.Sequence); err != nil {
				t.Fatal(err)
			}
		}
	}
	kill(e)
	cfg.TailBytes = 256 << 10
	for range 2 {
		e = open(t, cfg)
		if used := e.pool.InUse(); used > cfg.TailBytes {
			t.Fatalf("%d bytes of tail in use after replay, the budget is %d", used, cfg.TailBytes)
		}
		for i, spec := range specs {
			if got, err := readAll(partition(t, e, spec.ID), 0, 50_000); err != nil || !bytes.Equal(got, want[i]) {
				t.Fatalf("partition %d: %d bytes, %v; want %d", i, len(got), err, len(want[i]))
			}
		}
		kill(e)
	}
}

// Who waits for a start waits for these flushes.
func TestReplayFlushesNoMoreThanItHasTo(t *testing.T) {
	t.Parallel()
	const partitions = 60
	var specs []PartitionSpec
	for i := range int32(partitions) {
		specs = append(specs, testSpec('a', i, LogConfig{}))
	}
	for appends := 120; appends <= 240; appends += 20 {
		cfg := testConfig(newFS(t), specs...)
		cfg.WALMaxBytes = 16 << 20
		e := open(t, cfg)
		for i := range appends {
			batch, h := makeBatch(batchSpec{size: 3000, seed: i})
			at, err := partition(t, e, specs[i%partitions].ID).Append(t.Context(), batch, h, AppendOptions{})
			if err := errors.Join(err, e.Wait(t.Context(), at.Sequence)); err != nil {
				t.Fatal(err)
			}
		}
		kill(e)
		cfg.TailBytes = 256 << 10
		e = open(t, cfg)
		if used := e.pool.InUse(); used < cfg.TailBytes*5/8 {
			t.Errorf("%d bytes of tail in use after %d appends were replayed, the budget is %d", used, appends, cfg.TailBytes)
		}
		kill(e)
	}
}

// Ten thousand partitions with a little in each open quickly and cost little.
func TestManyPartitionsAreCheap(t *testing.T) {
	n := int32(10_000)
	if raceEnabled {
		n = 1000
	}
	fs := newFS(t)
	specs := testSpecs(int(n))
	cfg := testConfig(fs, specs...)
	cfg.WALMaxBytes, cfg.WALFileBytes, cfg.TailBytes = 256<<20, 8<<20, 128<<20
	e := open(t, cfg)
	last := wal.Sequence(0)
	for _, s := range specs {
		batch, h := makeBatch(batchSpec{size: 20, producer: &record.Producer{ID: 5}})
		at, err := partition(t, e, s.ID).Append(t.Context(), batch, h, AppendOptions{})
		if err != nil {
			t.Fatal(err)
		}
		last = at.Sequence
	}
	if err := e.Wait(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	closeEngine(t, e)
	e = nil
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	e = open(t, cfg)
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / int64(n)
	t.Logf("%d partitions opened in %v, %d bytes of heap each", n, took, each)
	if each > 6<<10 && !raceEnabled {
		t.Errorf("an idle partition costs %d bytes of heap, at most 6 KiB are allowed", each)
	}
	if hw := partition(t, e, specs[n-1].ID).Offsets().HighWatermark; hw != 1 {
		t.Fatalf("high watermark %d, want 1", hw)
	}
}

// An idle partition's end is flushed by the clock, its memory given back, and retention and checkpoints come by the clock too.
func TestIdlePartitionsHoldNoTail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fs := newFS(t)
		spec := testSpec('a', 0, LogConfig{})
		cfg := testConfig(fs, spec)
		cfg.IdleFlush, cfg.CheckpointInterval = 30*time.Second, time.Minute
		e, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := partition(t, e, spec.ID)
		mustAppend(t, p, batchSpec{size: 5000})
		if e.pool.InUse() == 0 {
			t.Fatal("nothing is in the tail")
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if used := e.pool.InUse(); used != 0 {
			t.Errorf("%d bytes of tail in use after five idle minutes", used)
		}
		c, err := readCheckpoint(fs, testDir)
		if err != nil || c == nil || len(c.Partitions) != 1 || c.Partitions[0].FlushedEnd != 1 {
			t.Errorf("checkpoint %+v, %v", c, err)
		}
		closeEngine(t, e)
	})
}
