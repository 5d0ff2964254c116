package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

// replayed is what a test keeps of an entry.
type replayed struct {
	seq  Sequence
	e    Entry
	data string
}

// collect returns a replay function and the list that it fills.
func collect() (*[]replayed, func(Sequence, Entry) error) {
	var all []replayed
	return &all, func(seq Sequence, e Entry) error {
		all = append(all, replayed{seq, e, string(e.Data)})
		return nil
	}
}

// smallConfig makes files so small that tests roll over many of them.
func smallConfig(fs disk.FS) Config {
	return Config{
		FS: fs, Dir: "/data/wal", MaxBytes: 10 * minFileBytes, FileBytes: minFileBytes, FirstFileBytes: minFileBytes, GroupBytes: 4 * minBlockBytes,
		FullWait: 20 * time.Second, IdleMark: time.Hour,
	}
}

func newFS(t testing.TB) *crashfs.FS {
	t.Helper()
	fs := crashfs.New()
	if err := fs.MkdirAll("/data", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := disk.SyncDir(fs, "/"); err != nil {
		t.Fatal(err)
	}
	return fs
}

func mustOpen(t testing.TB, cfg Config, from Sequence, replay func(Sequence, Entry) error) *Log {
	t.Helper()
	if replay == nil {
		replay = func(Sequence, Entry) error { return nil }
	}
	l, err := Open(t.Context(), cfg, from, replay)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

var testPartition = base.TopicIDPartition{ID: base.TopicID{1, 2, 3}, Partition: 7}

func entryOf(i int, data string) Entry {
	return Entry{Kind: Batches, Partition: testPartition, FirstOffset: base.Offset(i), LastOffset: base.Offset(i), Data: []byte(data)}
}

// put appends one entry and waits for it.
func put(t testing.TB, l *Log, e Entry) Sequence {
	t.Helper()
	seq, err := tryPut(t.Context(), l, e)
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	return seq
}

func tryPut(ctx context.Context, l *Log, e Entry) (Sequence, error) {
	r, err := l.Reserve(ctx, len(e.Data))
	if err != nil {
		return 0, err
	}
	seq := l.Append(&r, e, nil)
	return seq, l.Wait(ctx, seq)
}

func checkReplay(t testing.TB, got []replayed, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("replayed %d entries, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].data != want[i] {
			t.Fatalf("entry %d is %.40q, want %.40q", i, got[i].data, want[i])
		}
		if i > 0 && got[i].seq < got[i-1].seq {
			t.Fatalf("sequence went from %d to %d", got[i-1].seq, got[i].seq)
		}
	}
}

func TestEntriesComeBackInOrderAfterReopen(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	cfg := smallConfig(fs)
	cfg.MaxBytes *= 2
	var want []string
	for round := range 4 {
		got, replay := collect()
		l := mustOpen(t, cfg, 0, replay)
		checkReplay(t, *got, want)
		for i := range 20 {
			data := fmt.Sprintf("round %d entry %d %s", round, i, bytes.Repeat([]byte{'x'}, i*100))
			put(t, l, entryOf(i, data))
			want = append(want, data)
		}
		mustClose(t, l)
	}
}

func TestEntryFieldsSurvive(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	l := mustOpen(t, smallConfig(fs), 0, nil)
	entries := []Entry{
		{Kind: Roll, Partition: base.TopicIDPartition{ID: base.NewTopicID(), Partition: 1 << 30}, FirstOffset: 1 << 62, LastOffset: -1},
		{Kind: 200, Partition: testPartition, FirstOffset: -5, LastOffset: 5, Data: []byte{0}},
	}
	for _, e := range entries {
		put(t, l, e)
	}
	mustClose(t, l)
	got, replay := collect()
	mustClose(t, mustOpen(t, smallConfig(fs), 0, replay))
	for i, g := range *got {
		e := entries[i]
		if g.e.Kind != e.Kind || g.e.Partition != e.Partition || g.e.FirstOffset != e.FirstOffset || g.e.LastOffset != e.LastOffset || g.data != string(e.Data) {
			t.Errorf("entry %d is %+v, want %+v", i, g.e, e)
		}
	}
}

func TestEntryLargerThanGroupGetsItsOwn(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	cfg := smallConfig(fs)
	cfg.MaxBytes = 200 * minFileBytes
	l := mustOpen(t, cfg, 0, nil)
	var want []string
	for i, size := range []int{10, 100 << 10, 20, 1 << 20, 4 << 20, 5, 300 << 10} {
		data := string(bytes.Repeat([]byte{byte('a' + i)}, size))
		put(t, l, entryOf(i, data))
		want = append(want, data)
	}
	mustClose(t, l)
	got, replay := collect()
	mustClose(t, mustOpen(t, cfg, 0, replay))
	checkReplay(t, *got, want)
}

func TestReserveRefusesWhatNeverFits(t *testing.T) {
	t.Parallel()
	l := mustOpen(t, smallConfig(newFS(t)), 0, nil)
	defer mustClose(t, l)
	for _, size := range []int{-1, 10 * minFileBytes, MaxEntryBytes + 1} {
		if _, err := l.Reserve(t.Context(), size); !errors.Is(err, ErrTooLarge) {
			t.Errorf("reserve %d: %v, want ErrTooLarge", size, err)
		}
	}
}

func TestFromSkipsEarlierGroups(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	l := mustOpen(t, smallConfig(fs), 0, nil)
	var seqs []Sequence
	for i := range 60 {
		seqs = append(seqs, put(t, l, entryOf(i, fmt.Sprint(i))))
	}
	mustClose(t, l)
	for from := len(seqs) - 1; from >= 0; from -= 7 {
		image := fs.CrashImageKeeping(nil, 0)
		got, replay := collect()
		mustClose(t, mustOpen(t, smallConfig(image), seqs[from], replay))
		if len(*got) != len(seqs)-from || (*got)[0].data != fmt.Sprint(from) {
			t.Fatalf("from %d: replayed %d entries, first %v", from, len(*got), (*got)[0])
		}
	}
	if _, err := Open(t.Context(), smallConfig(fs), seqs[59]+10, func(Sequence, Entry) error { return nil }); !errors.Is(err, ErrBeyond) {
		t.Fatalf("open beyond the end: %v, want ErrBeyond", err)
	}
}

func TestNewWalBeginsAtFrom(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	l := mustOpen(t, smallConfig(fs), 1000, nil)
	if seq := put(t, l, entryOf(0, "x")); seq != 1000 {
		t.Fatalf("first group is %d, want 1000", seq)
	}
	mustClose(t, l)
	got, replay := collect()
	mustClose(t, mustOpen(t, smallConfig(fs), 1000, replay))
	checkReplay(t, *got, []string{"x"})
}

func TestReplayErrorEndsOpen(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	l := mustOpen(t, smallConfig(fs), 0, nil)
	put(t, l, entryOf(0, "x"))
	mustClose(t, l)
	boom := errors.New("boom")
	if _, err := Open(t.Context(), smallConfig(fs), 0, func(Sequence, Entry) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("open: %v, want boom", err)
	}
}

// TestReleaseLetsTheWalGoOnForEver writes many times MaxBytes and checks that the folder stays within it.
func TestReleaseLetsTheWalGoOnForEver(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	cfg := smallConfig(fs)
	// Files large enough for what waits for room: one made for a waiter that is larger than the rest is not used again.
	cfg.FileBytes, cfg.MaxBytes = 4*minFileBytes, 40*minFileBytes
	l := mustOpen(t, cfg, 0, nil)
	for i := range 1000 {
		seq := put(t, l, entryOf(i, fmt.Sprint(i)))
		if i%10 == 0 {
			if err := l.Release(seq); err != nil {
				t.Fatal(err)
			}
		}
		if used := fs.UsedBytes(); used > cfg.MaxBytes {
			t.Fatalf("the wal takes %d bytes, limit %d", used, cfg.MaxBytes)
		}
	}
	s := l.Stats()
	if s.FilesReused == 0 {
		t.Fatalf("no file was used again: %+v", s)
	}
	oldest := l.OldestLive()
	mustClose(t, l)
	got, replay := collect()
	mustClose(t, mustOpen(t, cfg, oldest, replay))
	if last := (*got)[len(*got)-1]; last.data != "999" {
		t.Fatalf("last entry is %v", last)
	}
}

// Making a file and removing one hold up synced writes: with checkpoints that free as many files as they do under load, neither goes on.
func TestFilesReleasedTogetherAreUsedAgain(t *testing.T) {
	t.Parallel()
	const together, rounds = 8, 4
	cfg := smallConfig(newFS(t))
	cfg.FileBytes = 4 * minFileBytes
	cfg.FirstFileBytes, cfg.MaxBytes = cfg.FileBytes, 20*cfg.FileBytes
	l := mustOpen(t, cfg, 0, nil)
	defer mustClose(t, l)
	full := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.space.live)
	}
	for range rounds {
		var last Sequence
		for i := 0; full() < together; i++ {
			last = put(t, l, entryOf(i, "x"))
		}
		if err := l.Release(last); err != nil {
			t.Fatal(err)
		}
	}
	// Beside those that are full there are the current and the next one.
	if s := l.Stats(); s.FilesRemoved > 0 || s.FilesMade > together+2 || s.FilesReused < (rounds-1)*together-1 {
		t.Errorf("%d files made, %d used again, %d removed", s.FilesMade, s.FilesReused, s.FilesRemoved)
	}
}

func TestReserveIsRefusedWhenFullAndHealsAfterRelease(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	cfg := smallConfig(fs)
	cfg.FullWait = time.Second
	l := mustOpen(t, cfg, 0, nil)
	defer mustClose(t, l)
	var last Sequence
	for i := 0; ; i++ {
		seq, err := tryPut(t.Context(), l, entryOf(i, "x"))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = seq
		if used := fs.UsedBytes(); used > cfg.MaxBytes {
			t.Fatalf("the wal takes %d bytes, limit %d", used, cfg.MaxBytes)
		}
	}
	if live := l.LiveBytes(); live < cfg.MaxBytes/2 {
		t.Fatalf("full with %d live bytes of %d", live, cfg.MaxBytes)
	}
	r, err := l.ReserveCarry(t.Context(), 1000)
	if err != nil {
		t.Fatalf("no room was left for a checkpoint: %v", err)
	}
	if err := l.Wait(t.Context(), l.Append(&r, entryOf(0, "carried"), nil)); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(last); err != nil {
		t.Fatal(err)
	}
	if _, err := tryPut(t.Context(), l, entryOf(0, "healed")); err != nil {
		t.Fatalf("after release: %v", err)
	}
}

func TestReserveWaitsForRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := smallConfig(newFS(t))
		cfg.FullWait = 10 * time.Second
		l := mustOpen(t, cfg, 0, nil)
		defer mustClose(t, l)
		var last Sequence
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		for i := 0; ; i++ {
			seq, err := tryPut(ctx, l, entryOf(i, "x"))
			if errors.Is(err, context.DeadlineExceeded) {
				break // ctx ends the wait before FullWait does
			}
			if err != nil {
				t.Fatal(err)
			}
			last = seq
		}
		granted := make(chan error)
		go func() {
			_, err := tryPut(t.Context(), l, entryOf(0, "y"))
			granted <- err
		}()
		synctest.Wait()
		time.Sleep(5 * time.Second)
		if err := l.Release(last); err != nil {
			t.Fatal(err)
		}
		if err := <-granted; err != nil {
			t.Fatalf("reserve after release: %v", err)
		}
	})
}

func TestPendingBytesHoldReservationsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := smallConfig(newFS(t))
		cfg.PendingBytes = 3 * minBlockBytes
		l := mustOpen(t, cfg, 0, nil)
		defer mustClose(t, l)
		var held []Reservation
		for range 3 {
			r, err := l.Reserve(t.Context(), 10)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, r)
		}
		if _, err := l.Reserve(t.Context(), 10); !errors.Is(err, ErrFull) {
			t.Fatalf("reserve beyond PendingBytes: %v, want ErrFull", err)
		}
		held[0].Cancel()
		held[0].Cancel() // does nothing
		r, err := l.Reserve(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		r.Cancel()
		for i := range held[1:] {
			l.Append(&held[1+i], entryOf(i, "x"), nil)
		}
		synctest.Wait()
		if s := l.Stats(); s.PendingBytes != 0 {
			t.Fatalf("%d bytes pending after everything was written", s.PendingBytes)
		}
	})
}

func TestAppendWithoutRoomPanics(t *testing.T) {
	t.Parallel()
	l := mustOpen(t, smallConfig(newFS(t)), 0, nil)
	defer mustClose(t, l)
	defer func() {
		if recover() == nil {
			t.Error("append beyond the reservation did not panic")
		}
		l.mu.Unlock() // the panic left it held: it is a broken invariant of the caller
	}()
	r, err := l.Reserve(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	l.Append(&r, entryOf(0, string(make([]byte, 5000))), nil)
}

func TestReserveEntriesHoldsSeveral(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	l := mustOpen(t, smallConfig(fs), 0, nil)
	r, err := l.ReserveEntries(t.Context(), 3, 30000)
	if err != nil {
		t.Fatal(err)
	}
	var last Sequence
	for i := range 3 {
		last = l.Append(&r, entryOf(i, string(bytes.Repeat([]byte{byte('0' + i)}, 10000))), nil)
	}
	if err := l.Wait(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.PendingBytes != 0 {
		t.Fatalf("%d bytes pending", s.PendingBytes)
	}
	l.mu.Lock()
	if len(l.space.big) != 0 || l.space.unplaced != 0 {
		t.Errorf("left over: big %v, unplaced %d", l.space.big, l.space.unplaced)
	}
	l.mu.Unlock()
	mustClose(t, l)
	got, replay := collect()
	mustClose(t, mustOpen(t, smallConfig(fs), 0, replay))
	if len(*got) != 3 {
		t.Fatalf("replayed %d entries, want 3", len(*got))
	}
}

// counter counts what it is told.
type counter struct {
	mu   sync.Mutex
	told []Sequence
}

func (c *counter) Committed(seq Sequence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, seq)
}

func (c *counter) seen(seq Sequence) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.told) > 0 && c.told[len(c.told)-1] >= seq
}

func TestCommittersAreToldOncePerGroupBeforeWaiters(t *testing.T) {
	t.Parallel()
	for _, mode := range []AckMode{Synced, UnsafeWritten, UnsafeMemory} {
		cfg := smallConfig(newFS(t))
		cfg.Mode = mode
		l := mustOpen(t, cfg, 0, nil)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				c := &counter{}
				for i := range 50 {
					r, err := l.Reserve(t.Context(), 10)
					if err != nil {
						t.Error(err)
						return
					}
					seq := l.Append(&r, entryOf(i, fmt.Sprintf("%d-%d", g, i)), c)
					if err := l.Wait(t.Context(), seq); err != nil {
						t.Error(err)
						return
					}
					if !c.seen(seq) {
						t.Errorf("mode %d: waiter of %d was woken before the committer was told: %v", mode, seq, c.told)
					}
					if err := l.Release(seq); err != nil {
						t.Error(err)
					}
				}
				for i := 1; i < len(c.told) && mode != UnsafeMemory; i++ {
					if c.told[i] <= c.told[i-1] {
						t.Errorf("told %v", c.told)
						break
					}
				}
			})
		}
		wg.Wait()
		mustClose(t, l)
	}
}

func TestCommitterSetKeepsEachOnceInOrder(t *testing.T) {
	t.Parallel()
	var s committerSet
	all := make([]*counter, 40)
	for round := range 3 {
		for i := range all {
			if all[i] == nil {
				all[i] = &counter{}
			}
			s.add(all[i])
			s.add(all[i/2])
		}
		s.add(nil)
		if len(s.list) != len(all) {
			t.Fatalf("%d committers, want %d", len(s.list), len(all))
		}
		s.tell(Sequence(round))
		s.reset()
	}
	for i, c := range all {
		if len(c.told) != 3 {
			t.Errorf("committer %d was told %d times", i, len(c.told))
		}
	}
}

func TestIdleWalWritesOneMark(t *testing.T) {
	t.Parallel()
	for _, mode := range []AckMode{Synced, UnsafeWritten, UnsafeMemory} {
		synctest.Test(t, func(t *testing.T) {
			cfg := smallConfig(newFS(t))
			cfg.IdleMark = 5 * time.Millisecond
			cfg.Mode = mode
			l := mustOpen(t, cfg, 0, nil)
			defer mustClose(t, l)
			put(t, l, entryOf(0, "a"))
			put(t, l, entryOf(0, "b"))
			synctest.Wait()
			if s := l.Stats(); s.Marks != 0 {
				t.Fatalf("%d marks before the wal was idle", s.Marks)
			}
			time.Sleep(6 * time.Millisecond)
			synctest.Wait()
			if s := l.Stats(); s.Marks != 1 {
				t.Fatalf("%d marks after it was idle, want 1", s.Marks)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if s := l.Stats(); s.Marks != 1 {
				t.Fatalf("%d marks an hour later, want 1", s.Marks)
			}
			put(t, l, entryOf(0, "c"))
			time.Sleep(time.Second)
			if s := l.Stats(); s.Marks != 2 {
				t.Fatalf("%d marks after another group, want 2", s.Marks)
			}
		})
	}
}

func TestWaitEndsWithContextAndClose(t *testing.T) {
	t.Parallel()
	l := mustOpen(t, smallConfig(newFS(t)), 0, nil)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := l.Wait(ctx, 1000); !errors.Is(err, cause) {
		t.Fatalf("wait: %v, want the cause of the context's end", err)
	}
	r, err := l.Reserve(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	mustClose(t, l)
	if err := l.Wait(t.Context(), l.Append(&r, entryOf(0, "x"), nil)); !errors.Is(err, ErrClosed) {
		t.Fatalf("wait after close: %v, want ErrClosed", err)
	}
	if _, err := l.Reserve(t.Context(), 1); !errors.Is(err, ErrClosed) {
		t.Fatalf("reserve after close: %v, want ErrClosed", err)
	}
	select {
	case <-l.Failed():
		t.Fatal("a closed wal says that it failed")
	default:
	}
}

// TestManyProducersAndReleases runs everything at once; -race watches.
func TestManyProducersAndReleases(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	cfg := smallConfig(fs)
	cfg.IdleMark = time.Microsecond
	cfg.Logger = slog.New(slog.DiscardHandler)
	l := mustOpen(t, cfg, 0, nil)
	var newest atomic.Uint64
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 100 {
				seq, err := tryPut(t.Context(), l, entryOf(i, string(bytes.Repeat([]byte{byte(g)}, 1+i*97%9000))))
				if err != nil {
					t.Error(err)
					return
				}
				newest.Store(max(newest.Load(), uint64(seq)))
				if i%5 == 0 {
					if err := l.Release(Sequence(newest.Load())); err != nil {
						t.Error(err)
					}
					l.LiveBytes()
					l.Stats()
				}
			}
		})
	}
	wg.Wait()
	oldest := l.OldestLive()
	mustClose(t, l)
	mustClose(t, mustOpen(t, cfg, oldest, nil))
}
