package storage

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// A full wal asks for a checkpoint itself, whatever the last one found: before, one that ended with most of the wal in use set the mark for
// the next beyond what fits, and appends were refused after five seconds.
func TestAFullWALAsksForACheckpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spec := testSpec('a', 0, LogConfig{})
		e := open(t, testConfig(newFS(t), spec))
		e.trigger.Store(math.MaxInt64)
		p := partition(t, e, spec.ID)
		began := time.Now()
		for i := range 3000 { // 12 MB through a wal of 4 MiB
			batch, h := makeBatch(batchSpec{size: 4000, seed: i})
			at, err := p.Append(t.Context(), batch, h, AppendOptions{})
			if err != nil {
				t.Fatalf("append %d: %v", i, err)
			}
			if err := e.Wait(t.Context(), at.Sequence); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took >= spaceWait {
			t.Errorf("it took %s", took)
		}
		closeEngine(t, e)
	})
}

// What fills while a checkpoint is written asks for another one only once that has ended: before, each was followed by a second at once.
func TestACheckpointIsNotFollowedByAnotherAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spec := testSpec('a', 0, LogConfig{})
		fs := newFS(t)
		cfg := testConfig(fs, spec)
		cfg.WALMaxBytes, cfg.WALFileBytes = 16<<20, 8<<20
		e := open(t, cfg)
		p := partition(t, e, spec.ID)
		mustAppend(t, p, batchSpec{size: 4000})
		var written atomic.Int64
		held, release := make(chan struct{}), make(chan struct{})
		fs.SetHook(func(op crashfs.Op) {
			if op.Kind == crashfs.OpRename && strings.HasPrefix(op.Path, e.path(checkpointName)) && written.Add(1) == 1 {
				close(held)
				<-release
			}
		})
		done := make(chan error, 1)
		go func() { done <- e.Checkpoint(t.Context()) }()
		<-held
		if due := e.trigger.Load(); due <= cfg.WALMaxBytes {
			close(release)
			t.Fatalf("another is due at %d bytes while one is written", due)
		}
		for i := range 700 { // in groups of 8 KiB, 5.6 of 16 MiB of wal: a quarter is enough for a checkpoint
			mustAppend(t, p, batchSpec{size: 4000, seed: i})
			synctest.Wait() // for the next file of the wal: who waits for that asks for a checkpoint too
		}
		close(release)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := written.Load(); n != 1 {
			t.Errorf("%d checkpoints were written, want 1", n)
		}
		for i := range 700 {
			mustAppend(t, p, batchSpec{size: 4000, seed: i})
		}
		synctest.Wait()
		if n := written.Load(); n < 2 {
			t.Error("there was no other checkpoint when the wal filled further")
		}
		fs.SetHook(nil)
		closeEngine(t, e)
	})
}

// While memory is plentiful, whole blocks of many partitions go to the disk one after the other and in pieces: a synced write beside them waits
// for one piece at most.
func TestFlushesStandBackWhileMemoryIsPlentiful(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name            string
		tailBytes       int64
		atATime         int64
		smallest, limit int64 // of the largest write
	}{
		{"plentiful", 128 << 20, 1, flushPiece / 2, flushPiece + 60_000},
		{"scarce", 40 << 20, flushWorkers, flushPiece + 1, flushBlock},
	} {
		synctest.Test(t, func(t *testing.T) {
			const n = 12
			fs := newFS(t)
			cfg := testConfig(fs, testSpecs(n)...)
			cfg.WALMaxBytes, cfg.TailBytes = 256<<20, tc.tailBytes
			e := open(t, cfg)
			var writing, largest atomic.Int64
			release := make(chan struct{})
			fs.SetHook(func(op crashfs.Op) {
				if op.Kind != crashfs.OpWrite || !strings.HasPrefix(op.Path, e.topicsDir()) || !strings.HasSuffix(op.Path, ".log") {
					return
				}
				writing.Add(1)
				largest.Store(max(largest.Load(), int64(op.Length)))
				<-release
			})
			for i := range n * flushBlock / 60_000 * 11 / 10 { // a whole block of each
				mustAppend(t, partition(t, e, cfg.Partitions[i%n].ID), batchSpec{size: 60_000, seed: i})
				synctest.Wait() // for the next file of the wal: who waits for that asks for a checkpoint, which writes too
			}
			if now := writing.Load(); now != tc.atATime {
				t.Errorf("%s: %d writes at a time, want %d", tc.name, now, tc.atATime)
			}
			close(release)
			synctest.Wait()
			fs.SetHook(nil)
			if l := largest.Load(); writing.Load() < n || l < tc.smallest || l > tc.limit {
				t.Errorf("%s: %d writes, of %d bytes at most, want %d to %d", tc.name, writing.Load(), l, tc.smallest, tc.limit)
			}
			closeEngine(t, e)
		})
	}
}

// A hundred partitions get their folders for one sync, and a checkpoint of them all is another.
func TestManyPartitionsAreSyncedTogether(t *testing.T) {
	t.Parallel()
	const n = 100
	specs := testSpecs(n)
	for _, together := range []bool{true, false} {
		fs := newFS(t)
		cfg := testConfig(fs, specs...)
		if !together {
			cfg.SyncAllFrom = n + 1
		}
		e := open(t, cfg)
		for i, s := range specs {
			mustAppend(t, partition(t, e, s.ID), batchSpec{size: 700, seed: i})
		}
		count := map[crashfs.OpKind]int{}
		var mu sync.Mutex // guards count
		fs.SetHook(func(op crashfs.Op) {
			mu.Lock()
			defer mu.Unlock()
			count[op.Kind]++
		})
		closeEngine(t, e)
		fs.SetHook(nil)
		synced := count[crashfs.OpSync] + count[crashfs.OpSyncDir]
		if together && (count[crashfs.OpSyncAll] != 2 || synced > 2*n+10) || !together && (count[crashfs.OpSyncAll] != 0 || synced < 4*n) {
			t.Errorf("together %t: %v", together, count)
		}
		e = open(t, cfg)
		for _, s := range specs {
			if o := partition(t, e, s.ID).Offsets(); o.LogEnd != 1 {
				t.Fatalf("%v ends at %d", s.ID, o.LogEnd)
			}
		}
		closeEngine(t, e)
	}
}

// What is synced together is written by one thread: many at a time held up the wal's writer, and with it every producer.
func TestWhatIsSyncedTogetherIsWrittenOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 20
		specs := testSpecs(n)
		fs := newFS(t)
		cfg := testConfig(fs, specs...)
		cfg.SyncAllFrom = n
		e := open(t, cfg)
		for i, s := range specs {
			mustAppend(t, partition(t, e, s.ID), batchSpec{size: 700, seed: i})
			if err := partition(t, e, s.ID).flush(1); err != nil {
				t.Fatal(err)
			}
		}
		var writing, most, writes atomic.Int64
		fs.SetHook(func(op crashfs.Op) {
			if op.Kind != crashfs.OpWrite || !strings.HasPrefix(op.Path, e.topicsDir()) {
				return
			}
			writes.Add(1)
			now := writing.Add(1)
			most.Store(max(most.Load(), now))
			time.Sleep(time.Millisecond) // of the bubble's clock: whoever writes too is counted meanwhile
			writing.Add(-1)
		})
		if err := e.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		fs.SetHook(nil)
		if writes.Load() < n || most.Load() != 1 {
			t.Errorf("%d writes, %d of them at a time", writes.Load(), most.Load())
		}
		closeEngine(t, e)
	})
}

// An error of the one sync ends the engine, even that of a full disk: nobody knows what has been written.
func TestAFailedSyncOfEverythingEndsTheEngine(t *testing.T) {
	t.Parallel()
	spec := testSpec('a', 0, LogConfig{})
	fs := newFS(t)
	cfg := testConfig(fs, spec)
	cfg.SyncAllFrom = 1
	e := open(t, cfg)
	mustAppend(t, partition(t, e, spec.ID), batchSpec{size: 700})
	if err := partition(t, e, spec.ID).flush(1); err != nil {
		t.Fatal(err)
	}
	fs.SetFault(func(op crashfs.Op) error {
		if op.Kind == crashfs.OpSyncAll {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := e.Checkpoint(t.Context()); err == nil || retriable(err) {
		t.Errorf("the checkpoint: %v", err)
	}
	fs.SetFault(nil)
}

// A power loss while a folder is begun may leave it with an empty partition.metadata. If its topic is deleted then, nothing stands in the way of the
// next start; and a folder that names its owner already is left as it is.
func TestADraftOfAFolderIsNoDamage(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	spec := testSpec('a', 0, LogConfig{})
	e := open(t, testConfig(fs, spec))
	p := partition(t, e, spec.ID)
	if err := p.draftFolder(draftMetadata); err != nil {
		t.Fatal(err)
	}
	path := fs.PathJoin(p.dir(), segment.PartitionMetadataFile)
	count := 0
	fs.SetHook(func(op crashfs.Op) {
		if op.Path == path {
			count++
		}
	})
	if err := p.draftFolder(draftMetadata); err != nil || count != 0 {
		t.Errorf("a second draft: %v, %d changes of %s", err, count, path)
	}
	fs.SetHook(nil)
	if err := fs.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := e.removeFolder(removal{ID: spec.ID, Topic: spec.Topic}); err != nil {
		t.Errorf("its removal: %v", err)
	}
	closeEngine(t, e)
}
