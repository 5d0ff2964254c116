package wal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

// model is what a test knows of a wal: every entry it appended, in order, and how far they were acknowledged and released.
//
// What must hold for every image that a power loss could leave: the entries that come back are those from `released` on, in order,
// without a gap or a stranger, at least up to the last acknowledged one and at most up to the last appended one.
type model struct {
	mu       sync.Mutex // also held while an image is taken, so that image and model agree
	appended []modelEntry
	acked    int // entries known to be durable
	released Sequence
	unsafe   bool // in UnsafeWritten nothing is known to be durable, but what comes back is still a beginning, and no damage is seen
}

type modelEntry struct {
	seq  Sequence
	data string
}

func (m *model) append(l *Log, r *Reservation, data string) (int, Sequence) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.appended)
	seq := l.Append(r, entryOf(n, data), nil)
	if seq != never {
		m.appended = append(m.appended, modelEntry{seq, data})
	}
	return n, seq
}

func (m *model) ack(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.unsafe {
		m.acked = max(m.acked, n+1)
	}
}

func (m *model) release(l *Log, before Sequence) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.unsafe && l.Release(before) == nil {
		m.released = max(m.released, before)
	}
}

// snapshot is a model and an image of the same moment.
type snapshot struct {
	image    *crashfs.FS
	appended []modelEntry
	acked    int
	released Sequence
	at       string
}

func (m *model) snap(fs *crashfs.FS, rng *rand.Rand, op crashfs.Op) snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return snapshot{fs.CrashImage(rng), m.appended[:len(m.appended):len(m.appended)], m.acked, m.released, fmt.Sprintf("%s %s @%d", op.Kind, op.Path, op.Offset)}
}

// check compares what was replayed with the model and returns the model of the recovered wal.
func (s snapshot) check(got []replayed) (*model, error) {
	first := 0
	for first < len(s.appended) && s.appended[first].seq < s.released {
		first++
	}
	want := s.appended[first:]
	if len(got) > len(want) {
		return nil, fmt.Errorf("%d entries came back, at most %d were appended", len(got), len(want))
	}
	for i, g := range got {
		if g.data != want[i].data || g.seq != want[i].seq {
			return nil, fmt.Errorf("entry %d is %.30q of group %d, want %.30q of group %d", first+i, g.data, g.seq, want[i].data, want[i].seq)
		}
	}
	if first+len(got) < s.acked {
		return nil, fmt.Errorf("%d entries were acknowledged, %d came back", s.acked-first, len(got))
	}
	n := first + len(got)
	return &model{appended: s.appended[:n:n], acked: n, released: s.released}, nil
}

// TestAcknowledgedEntriesSurvivePowerLossAtEveryStep writes to a wal with random sizes, releases and several producers, takes images of
// what a power loss could leave after the operations of the file system, opens each and goes on with some of them.
func TestAcknowledgedEntriesSurvivePowerLossAtEveryStep(t *testing.T) {
	t.Parallel()
	seeds, first := proof.Times(t, 10, 100, 20_000), proof.Seed(t)
	row := proof.Start(t, "wal-power-loss", "workloads, at random steps", first)
	for i := range uint64(seeds) {
		t.Run(strconv.FormatUint(first+i, 10), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(first+i, 1))
			crashAndRecover(t, rng, newFS(t), &model{unsafe: i%4 == 3}, 3 /* depth */)
			row.Tried(1)
		})
	}
}

func crashAndRecover(t *testing.T, rng *rand.Rand, fs *crashfs.FS, m *model, depth int) {
	t.Helper()
	var mu sync.Mutex // guards the generator and the list: the hook runs on several goroutines
	var snaps []snapshot
	every := 1 + rng.IntN(6)
	hookRNG := rand.New(rand.NewPCG(rng.Uint64(), 2))
	fs.SetHook(func(op crashfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if hookRNG.IntN(every) == 0 {
			snaps = append(snaps, m.snap(fs, hookRNG, op))
		}
	})
	session(t, rng, fs, m)
	fs.SetHook(nil)
	snaps = append(snaps, m.snap(fs, rng, crashfs.Op{}))

	goOn := rng.IntN(len(snaps))
	for i, s := range snaps {
		got, replay := collect()
		cfg := modelConfig(s.image, m.unsafe)
		l, err := Open(t.Context(), cfg, s.released, replay)
		if err != nil {
			t.Fatalf("image after %s: open: %v", s.at, err)
		}
		mustClose(t, l)
		next, err := s.check(*got)
		if err != nil {
			t.Fatalf("image after %s: %v", s.at, err)
		}
		if i == goOn && depth > 1 {
			next.unsafe = m.unsafe
			crashAndRecover(t, rng, s.image, next, depth-1)
		}
	}
}

func modelConfig(fs *crashfs.FS, unsafe bool) Config {
	cfg := smallConfig(fs)
	if unsafe {
		cfg.Mode = UnsafeWritten
		cfg.MaxBytes = 200 * minFileBytes // nothing is released
	}
	cfg.IdleMark = 50 * time.Microsecond
	return cfg
}

// releaseWhenFull releases what was appended so far each time that somebody begins to wait for room: producers that all wait release nothing.
func (m *model) releaseWhenFull(ctx context.Context, l *Log, full <-chan struct{}) {
	for {
		select {
		case <-full:
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		newest := m.released
		if n := len(m.appended); n > 0 {
			newest = m.appended[n-1].seq
		}
		m.mu.Unlock()
		if l.Wait(ctx, newest) == nil {
			m.release(l, newest)
		}
	}
}

// session opens the wal, appends from several producers, releases now and then and when it is full, and closes it or walks away.
func session(t *testing.T, rng *rand.Rand, fs *crashfs.FS, m *model) {
	t.Helper()
	got, replay := collect()
	cfg, full := modelConfig(fs, m.unsafe), make(chan struct{}, 1)
	cfg.OnFull = func() { signal(full) }
	l := mustOpen(t, cfg, m.released, replay)
	var releasing sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	releasing.Go(func() { m.releaseWhenFull(ctx, l, full) })
	if _, err := (snapshot{appended: m.appended, acked: m.acked, released: m.released}).check(*got); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 1 + rng.IntN(3) {
		seed, n := rng.Uint64(), 5+rng.IntN(30)
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 3))
			for range n {
				size := rng.IntN(200)
				if rng.IntN(4) == 0 {
					size = rng.IntN(20000)
				}
				data := fmt.Sprintf("%d:%s", rng.Uint64(), strings.Repeat("z", size))
				r, err := l.Reserve(t.Context(), len(data))
				if err != nil {
					t.Errorf("reserve: %v", err)
					return
				}
				i, seq := m.append(l, &r, data)
				if rng.IntN(3) == 0 {
					continue // does not wait
				}
				if err := l.Wait(t.Context(), seq); err != nil {
					t.Errorf("wait: %v", err)
					return
				}
				m.ack(i)
				if rng.IntN(5) == 0 {
					m.release(l, seq)
				}
			}
		})
	}
	wg.Wait()
	stop()
	releasing.Wait()
	mustClose(t, l)
	m.ack(len(m.appended) - 1)
}

// TestErrorAtEveryCall fails the n-th operation of a session, for every n. Whatever fails, nothing that was acknowledged is lost, and a
// failed write of a group ends the wal.
func TestErrorAtEveryCall(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for n := 1; ; n++ {
		fs := newFS(t)
		count := 0
		var failed crashfs.Op
		var mu sync.Mutex
		fs.SetFault(func(op crashfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == n {
				failed = op
				return boom
			}
			return nil
		})
		m := &model{}
		faultySession(t, fs, m, boom)
		fs.SetFault(nil)
		rng := rand.New(rand.NewPCG(uint64(n), 4))
		for _, image := range []*crashfs.FS{fs.CrashImageKeeping(rng, 0), fs.CrashImage(rng), fs} {
			s := snapshot{appended: m.appended, acked: m.acked, released: m.released}
			got, replay := collect()
			cfg := smallConfig(image)
			l, err := Open(t.Context(), cfg, s.released, replay)
			if err != nil {
				t.Fatalf("call %d (%v) failed, then open: %v", n, failed, err)
			}
			mustClose(t, l)
			if _, err := s.check(*got); err != nil {
				t.Fatalf("call %d (%v) failed: %v", n, failed, err)
			}
		}
		if count < n {
			if n < 50 {
				t.Fatalf("only %d calls were made", n)
			}
			return
		}
	}
}

func faultySession(t *testing.T, fs *crashfs.FS, m *model, boom error) {
	t.Helper()
	cfg := smallConfig(fs)
	l, err := Open(t.Context(), cfg, 0, func(Sequence, Entry) error { return nil })
	if err != nil {
		if !errors.Is(err, boom) {
			t.Fatalf("open: %v", err)
		}
		return
	}
	broken := false
	for i := range 24 {
		data := fmt.Sprintf("%d %s", i, strings.Repeat("y", i*200))
		r, err := l.Reserve(t.Context(), len(data))
		if err == nil {
			var n int
			var seq Sequence
			n, seq = m.append(l, &r, data)
			if err = l.Wait(t.Context(), seq); err == nil {
				m.ack(n)
				if broken {
					t.Fatalf("entry %d was acknowledged after the wal failed", i)
				}
				if i%8 == 7 {
					m.release(l, seq)
				}
				continue
			}
		}
		if !errors.Is(err, ErrFailed) || !errors.Is(err, boom) {
			t.Fatalf("entry %d: %v, want ErrFailed and its cause", i, err)
		}
		select {
		case <-l.Failed():
		default:
			t.Fatal("Failed is not closed")
		}
		broken = true
	}
	if err := l.Close(); err != nil && !errors.Is(err, boom) {
		t.Fatalf("close: %v", err)
	}
}

// TestFullDiskRefusesReservationsAndHeals fills the disk: reservations are refused, nothing breaks, and they are granted once there is
// room.
func TestFullDiskRefusesReservationsAndHeals(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	cfg := smallConfig(fs)
	fs.SetCapacity(3*minFileBytes + 5*minBlockBytes)
	l := mustOpen(t, cfg, 0, nil)
	m := &model{}
	fill := func() {
		t.Helper()
		for i := 0; ; i++ {
			if i > 1000 {
				t.Fatal("the disk does not get full")
			}
			data := fmt.Sprintf("entry %d", i)
			r, err := l.Reserve(t.Context(), len(data))
			if errors.Is(err, ErrFull) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			n, seq := m.append(l, &r, data)
			if err := l.Wait(t.Context(), seq); err != nil {
				t.Fatal(err)
			}
			m.ack(n)
		}
	}
	fill()
	before := m.acked
	fs.SetCapacity(6 * minFileBytes)
	deadline := time.Now().Add(10 * time.Second)
	for {
		r, err := l.Reserve(t.Context(), 10)
		if err == nil {
			r.Cancel()
			break
		}
		if !errors.Is(err, ErrFull) || time.Now().After(deadline) {
			t.Fatalf("with room on the disk: %v", err)
		}
	}
	fill()
	if m.acked <= before {
		t.Fatal("nothing was written after the disk had room again")
	}
	// With hardly any room it can be opened again, and released files are room.
	mustClose(t, l)
	fs.SetCapacity(fs.UsedBytes() + minFileBytes)
	got, replay := collect()
	l = mustOpen(t, cfg, 0, replay)
	if _, err := (snapshot{appended: m.appended, acked: m.acked}).check(*got); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(m.appended[len(m.appended)-1].seq); err != nil {
		t.Fatal(err)
	}
	put(t, l, entryOf(0, "x"))
	mustClose(t, l)
}

// TestFullDiskWhileWritingIsFatal lets a group's own write fail for lack of space.
func TestFullDiskWhileWritingIsFatal(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	l := mustOpen(t, smallConfig(fs), 0, nil)
	put(t, l, entryOf(0, "kept"))
	full := errors.New("no space left on device")
	fs.SetFault(func(op crashfs.Op) error {
		if op.Kind == crashfs.OpWrite {
			return full
		}
		return nil
	})
	if _, err := tryPut(t.Context(), l, entryOf(1, "lost")); !errors.Is(err, ErrFailed) || !errors.Is(err, full) {
		t.Fatalf("put: %v, want ErrFailed and its cause", err)
	}
	fs.SetFault(nil)
	if _, err := tryPut(t.Context(), l, entryOf(2, "refused")); !errors.Is(err, ErrFailed) {
		t.Fatalf("put after failure: %v, want ErrFailed", err)
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Fatalf("close: %v, want ErrFailed", err)
	}
	got, replay := collect()
	mustClose(t, mustOpen(t, smallConfig(fs), 0, replay))
	checkReplay(t, *got, []string{"kept"})
}

// TestFullDiskAtOpenStartsSmall opens a wal on a disk that has hardly any room.
func TestFullDiskAtOpenStartsSmall(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	fs.SetCapacity(minFileBytes + minBlockBytes)
	cfg := Config{FS: fs, Dir: "/data/wal", FullWait: time.Second}
	l := mustOpen(t, cfg, 0, nil)
	put(t, l, entryOf(0, "x"))
	mustClose(t, l)
	if _, err := Open(t.Context(), cfg, 0, func(Sequence, Entry) error { return nil }); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("open with no room at all: %v, want ENOSPC", err)
	}
	fs.SetCapacity(2*minFileBytes + minBlockBytes)
	l = mustOpen(t, cfg, 0, nil)
	from := l.Durable() + 1
	mustClose(t, l)
	// A file that is no longer needed is room.
	l = mustOpen(t, cfg, from, nil)
	if s := l.Stats(); s.FilesReused != 1 {
		t.Fatalf("the first file was not used again: %+v", s)
	}
	mustClose(t, l)
}
