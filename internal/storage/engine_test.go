package storage

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

func TestAppendIsReadBackAfterWait(t *testing.T) {
	t.Parallel()
	spec := testSpec('a', 0, LogConfig{})
	e := open(t, testConfig(newFS(t), spec))
	p := partition(t, e, spec.ID)
	at := mustAppend(t, p, batchSpec{records: 3, size: 100})
	if at.Base != 0 || at.Last != 2 {
		t.Fatalf("appended at %d..%d, want 0..2", at.Base, at.Last)
	}
	if o := p.Offsets(); o != (Offsets{LogStart: 0, HighWatermark: 3, LastStable: 3, LogEnd: 3}) {
		t.Fatalf("offsets %+v", o)
	}
	s, err := p.Read(1, ReadOptions{MaxBytes: 1 << 20})
	if err != nil || s.FirstOffset() != 0 {
		t.Fatalf("Read from %d, %v; want the batch 0..2", s.FirstOffset(), err)
	}
	b, err := s.Bytes()
	if next, wrong := nextOffset(b); err != nil || wrong != nil || next != 3 {
		t.Fatalf("Read to %d, %v, %v; want the batch 0..2", next, err, wrong)
	}
	if s, err := p.Read(3, ReadOptions{MaxBytes: 1}); err != nil || s.Len() != 0 {
		t.Fatalf("Read at the end = %d bytes, %v; want none", s.Len(), err)
	}
	if _, err := p.Read(4, ReadOptions{}); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatalf("Read past the end: %v", err)
	}
}

// Everything appended is there again after a clean stop, after a kill, and after both, with small segments and blocks.
func TestLogIsTheSameAfterReopen(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"close", "kill", "checkpoint and kill", "flush and kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			fs := newFS(t)
			spec := testSpec('a', 0, LogConfig{SegmentBytes: 20_000})
			var want []byte
			for life := range 4 {
				cfg := testConfig(fs, spec)
				cfg.LeaderEpoch = base.LeaderEpoch(life + 1)
				e := open(t, cfg)
				p := partition(t, e, spec.ID)
				got, err := readAll(p, 0, 3000)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("life %d: %d bytes, %v; want %d", life, len(got), err, len(want))
				}
				for i := range 40 {
					mustAppend(t, p, batchSpec{records: 1 + i%4, size: 300 + i*7, seed: life*1000 + i})
					if i == 20 && how != "kill" && how != "close" {
						if err := p.flush(1); err != nil {
							t.Fatal(err)
						}
					}
					if i == 22 && how == "checkpoint and kill" {
						if err := e.Checkpoint(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					if i == 30 && how == "checkpoint and kill" {
						if err := p.flush(1); err != nil {
							t.Fatal(err)
						}
					}
				}
				if want, err = readAll(p, 0, 1<<20); err != nil {
					t.Fatal(err)
				}
				if how == "close" {
					closeEngine(t, e)
				} else {
					kill(e)
				}
			}
		})
	}
}

func TestCleanStopLeavesNothingToReplay(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 20_000})
	e := open(t, testConfig(fs, spec))
	p := partition(t, e, spec.ID)
	for i := range 50 {
		mustAppend(t, p, batchSpec{size: 1000, seed: i})
	}
	closeEngine(t, e)
	e = open(t, testConfig(fs, spec))
	p = partition(t, e, spec.ID)
	if p.tail.End() != p.tail.Start() || p.Offsets().HighWatermark != 50 {
		t.Fatalf("tail %d..%d, offsets %+v", p.tail.Start(), p.tail.End(), p.Offsets())
	}
}

func TestWatcherIsSignalledOnceRecordsAreVisible(t *testing.T) {
	t.Parallel()
	spec := testSpec('a', 0, LogConfig{})
	e := open(t, testConfig(newFS(t), spec))
	p := partition(t, e, spec.ID)
	w := NewWatcher()
	defer w.Close()
	w.Watch(p)
	batch, h := makeBatch(batchSpec{})
	if _, err := p.Append(t.Context(), batch, h, AppendOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.C():
	case <-time.After(10 * time.Second):
		t.Fatal("no signal")
	}
	if hw := p.Offsets().HighWatermark; hw != 1 {
		t.Fatalf("high watermark %d after the signal, want 1", hw)
	}
}

// Whenever an answer goes out, a clean stop loses nothing, and the next start goes on.
func TestEveryAckModeSurvivesACleanStop(t *testing.T) {
	t.Parallel()
	for _, mode := range []wal.AckMode{wal.Synced, wal.UnsafeWritten, wal.UnsafeMemory} {
		fs := newFS(t)
		spec := testSpec('a', 0, LogConfig{SegmentBytes: 20_000})
		cfg := testConfig(fs, spec)
		cfg.AckMode = mode
		for life := range 3 {
			cfg.LeaderEpoch = base.LeaderEpoch(life + 1)
			e := open(t, cfg)
			p := partition(t, e, spec.ID)
			for i := range 100 {
				if at := mustAppend(t, p, batchSpec{size: 700, seed: i}); at.Base != base.Offset(life*100+i) {
					t.Fatalf("mode %d: appended at %d, want %d", mode, at.Base, life*100+i)
				}
			}
			if o := p.Offsets(); o.HighWatermark != o.LogEnd {
				t.Fatalf("mode %d: offsets %+v after waiting", mode, o)
			}
			closeEngine(t, e)
		}
	}
}
