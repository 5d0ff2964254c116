package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

// session is a life of an engine on a disk that may fail: what was acknowledged in it.
type session struct {
	fs      *crashfs.FS
	cfg     Config
	acked   [][]byte
	start   base.Offset // acknowledged moves of the log start
	refused int         // appends that got ErrNoSpace
}

// newSession makes the n-th session: every other one syncs everything at once.
func newSession(t *testing.T, n int) *session {
	t.Helper()
	s := &session{fs: newFS(t)}
	s.cfg = testConfig(s.fs, testSpec('a', 0, LogConfig{SegmentBytes: 24_000}), testSpec('b', 0, LogConfig{SegmentBytes: 5000}))
	s.cfg.SyncAllFrom = 1 + n%2*100
	s.cfg.WALMaxBytes, s.cfg.WALFileBytes, s.cfg.TailBytes = 1<<20, 64<<10, 1<<20
	s.cfg.IndirectBytes, s.cfg.IndirectWaiting = 9000, -1
	return s
}

// live runs a workload of appends, rolls, flushes, checkpoints, reads, moves of the log start, retention, a deleted topic and a stop. It goes on
// after errors as clients do, and returns an error if something was acknowledged by an engine that had failed.
func (s *session) live(ctx context.Context) error {
	e, err := Open(ctx, s.cfg)
	if err != nil {
		return nil
	}
	defer e.Close(ctx)
	p, _ := e.Partition(s.cfg.Partitions[0].ID)
	other, _ := e.Partition(s.cfg.Partitions[1].ID)
	for i := range 36 {
		spec := batchSpec{size: 700, seed: i}
		if i%4 == 3 { // with a body that goes past the wal
			spec.size = 9000
			wantRoom(p)
			e.flushed(p, p.flush(flushBlock))
		}
		batch, h := makeBatch(spec)
		dead := e.Err() != nil
		for try := 0; ; try++ {
			at, err := p.Append(ctx, batch, h, AppendOptions{})
			if err == nil {
				err = e.Wait(ctx, at.Sequence)
			}
			if err == nil {
				if dead {
					return fmt.Errorf("append %d was acknowledged after the engine had failed", i)
				}
				s.acked = append(s.acked, batch)
			}
			if !errors.Is(err, ErrNoSpace) {
				break
			}
			s.refused++
			if got, err := readAll(p, s.start, 4000); err != nil || !bytes.Equal(got, bytes.Join(s.acked[s.start:], nil)) {
				return fmt.Errorf("while appends are refused %d bytes are read, %w", len(got), err)
			}
			s.fs.SetCapacity(0) // somebody makes room
			if try == 100 {
				return fmt.Errorf("append %d: there is room again, and still %w", i, err)
			}
			time.Sleep(fullDiskWait) // simulated: the engine looks again by the clock
		}
		if i%3 == 0 {
			_, _ = other.Append(ctx, bytes.Clone(batch), h, AppendOptions{}) // offsets are written into the batch
		}
		switch i {
		case 10, 20, 30:
			e.flushed(p, p.flush(1))
			e.flushed(other, other.flush(1))
			got, err := readAll(p, s.start, 4000)
			want := bytes.Join(s.acked[s.start:], nil)
			if e.Err() != nil && len(got) > len(want) {
				got = got[:len(want)] // what became durable just before the end was not answered
			}
			if err == nil && !bytes.Equal(got, want) {
				return fmt.Errorf("after append %d other bytes are read", i)
			}
		case 12, 24, 32:
			if start, group, err := p.DeleteRecords(ctx, base.Offset(i-8)); err == nil && e.Wait(ctx, group) == nil {
				s.start = start
			}
			_ = e.Retain(ctx)
		case 15, 25, 34:
			_ = e.Checkpoint(ctx)
		case 28:
			_ = e.Delete(ctx, other.id.ID)
		}
	}
	return nil
}

// verify opens the folder on a disk that is well and looks for what was acknowledged.
func (s *session) verify(ctx context.Context) error {
	s.fs.SetFault(nil)
	s.fs.SetCapacity(0)
	cfg := s.cfg
	cfg.Partitions = cfg.Partitions[:1]
	cfg.Tombstones = map[base.TopicID]struct{}{s.cfg.Partitions[1].ID.ID: {}}
	cfg.LeaderEpoch++
	e, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer e.Close(ctx)
	if d := e.Damage(); len(d) > 0 {
		return fmt.Errorf("damage: %+v", d)
	}
	p, _ := e.Partition(cfg.Partitions[0].ID)
	start := p.Offsets().LogStart
	if start < s.start {
		return fmt.Errorf("the log starts at %d, its move to %d was acknowledged", start, s.start)
	}
	got, err := readAll(p, start, 4000)
	if err != nil {
		return err
	}
	if int(start) <= len(s.acked) {
		if want := bytes.Join(s.acked[start:], nil); !bytes.HasPrefix(got, want) {
			return fmt.Errorf("%d bytes from %d on, want those %d that were acknowledged", len(got), start, len(want))
		}
	}
	return nil
}

// Whatever write, sync, open, rename or other call fails: the engine stops itself, or it did not need the call; nothing is acknowledged after it has
// stopped, and the next start has all that was acknowledged before.
func TestAnErrorFromEveryCall(t *testing.T) {
	row := proof.Start(t, "errors", "calls of the disk that fail", 0)
	step := proof.Times(t, 7, 1, 1)
	kinds, rooms := map[crashfs.OpKind]int{}, 0
	for n := 0; ; n += step {
		s := newSession(t, n)
		var mu sync.Mutex // guards calls and hit
		calls, hit := 0, crashfs.Op{}
		s.fs.SetFault(func(op crashfs.Op) error {
			if op.Kind == crashfs.OpRead || op.Kind == crashfs.OpList {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if op.Kind == crashfs.OpAllocate {
				rooms++
			}
			if calls++; calls == n+1 {
				hit = op
				return errInjected
			}
			return nil
		})
		var err error
		synctest.Test(t, func(t *testing.T) {
			if err = s.live(t.Context()); err == nil {
				err = s.verify(t.Context())
			}
		})
		if err != nil {
			row.Lost(1)
			t.Errorf("call %d (%v %s) failed: %v", n, hit.Kind, hit.Path, err)
		}
		if hit.Kind == 0 {
			break
		}
		kinds[hit.Kind]++
		row.Tried(1)
	}
	row.Note("%v", kinds)
	if rooms == 0 {
		t.Error("no room was taken for batches that go past the wal")
	}
}

// The disk is full from the n-th call on, for every n, until an append is refused; then there is room again. Nothing is lost, consumers go on,
// and producing goes on without a restart.
func TestAFullDiskAtEveryCall(t *testing.T) {
	row := proof.Start(t, "full-disk", "moments at which the disk was full", 0)
	step := proof.Times(t, 7, 1, 1)
	refused := 0
	for n := 0; ; n += step {
		s := newSession(t, n)
		var mu sync.Mutex // guards calls
		calls, full := 0, false
		s.fs.SetHook(func(crashfs.Op) {
			mu.Lock()
			calls++
			now := calls == n+1
			full = full || now
			mu.Unlock()
			if now {
				s.fs.SetCapacity(s.fs.UsedBytes())
			}
		})
		var err error
		synctest.Test(t, func(t *testing.T) {
			if err = s.live(t.Context()); err == nil {
				err = s.verify(t.Context())
			}
		})
		if err == nil && full && n > 40 && len(s.acked) != 36 {
			err = fmt.Errorf("%d of 36 appends were acknowledged", len(s.acked))
		}
		if err != nil {
			row.Lost(1)
			t.Errorf("full at call %d: %v", n, err)
		}
		if !full {
			break
		}
		refused += s.refused
		row.Tried(1)
	}
	if refused == 0 {
		t.Error("no append was ever refused")
	}
	row.Note("%d appends were refused and tried again", refused)
}
