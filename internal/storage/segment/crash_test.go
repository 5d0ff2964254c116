package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

var errWrongBytes = errors.New("not the bytes that were written")

// workload writes a segment as the engine does: some writes, then Sync and a checkpoint, and at last Seal. The batches are all in
// the wal before they are written, and so are the ragged bytes of each checkpoint.
type workload struct {
	t      *testing.T
	o      Options
	data   []byte
	metas  []BatchMeta
	rng    *rand.Rand
	saved  checkpoint // the last one that is durable
	sealed bool       // so is the decision to seal
}

type checkpoint struct {
	state  State
	pos    int64
	ragged []byte
}

// batchesFrom returns the batches from position pos on.
func (w *workload) batchesFrom(pos int64) ([]byte, []BatchMeta) {
	at := int64(0)
	for i, b := range w.metas {
		if at == pos {
			return w.data[at:], w.metas[i:]
		}
		at += int64(b.Size)
	}
	return nil, nil
}

// run goes on from s until the segment is sealed, or until an error.
func (w *workload) run(s *Segment) error {
	rest, todo := w.batchesFrom(s.Size())
	var out *checkpoint // written out, not synced
	for len(todo) > 0 {
		n, size := 1+w.rng.IntN(min(len(todo), 1+w.rng.IntN(30))), 0
		for _, b := range todo[:n] {
			size += int(b.Size)
		}
		if err := s.Write(rest[:size], todo[:n]); err != nil {
			return err
		}
		rest, todo = rest[size:], todo[n:]
		if out != nil && w.rng.IntN(2) > 0 {
			if err := w.o.FS.SyncAll(w.o.Dir); err != nil {
				return err
			}
			s.Synced()
			w.saved, out = *out, nil
			continue
		}
		switch w.rng.IntN(4) {
		case 0:
			if err := w.checkpoint(s, s.Sync); err != nil {
				return err
			}
			out = nil
		case 1:
			if err := s.WriteOut(); err != nil {
				return err
			}
			pos, ragged, err := s.RaggedBytes()
			if err != nil {
				return err
			}
			out = &checkpoint{s.Current(), pos, ragged}
		}
	}
	w.sealed = true
	return w.checkpoint(s, s.Seal)
}

func (w *workload) checkpoint(s *Segment, do func() error) error {
	if err := do(); err != nil {
		return err
	}
	pos, ragged, err := s.RaggedBytes()
	if err == nil {
		w.saved = checkpoint{s.State(), pos, ragged}
	}
	return err
}

// recovered opens what the checkpoint describes, checks that all of it is there, and finishes the workload.
func (w *workload) recovered(carry bool) error {
	c := w.saved
	if c.state.Sealed {
		s, err := OpenSealed(w.o, c.state)
		if err == nil {
			err = w.checkWhole(s)
		}
		return err
	}
	s, err := OpenActive(w.o, c.state)
	if err != nil {
		return err
	}
	if carry {
		if err := s.RestoreRagged(c.pos, c.ragged); err != nil {
			return err
		}
	}
	got := make([]byte, c.state.Size)
	if _, err := s.ReadAt(got, 0); c.state.Size > 0 && err != nil || !bytes.Equal(got, w.data[:len(got)]) {
		return fmt.Errorf("what the checkpoint covers (%d bytes): %w", len(got), errors.Join(err, errWrongBytes))
	}
	if err := w.verify(s); err != nil {
		return fmt.Errorf("what the checkpoint covers: %w", err)
	}
	if err := w.run(s); err != nil {
		return err
	}
	return w.checkWhole(s)
}

func (w *workload) checkWhole(s *Segment) error {
	got := make([]byte, len(w.data))
	if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, w.data) {
		return fmt.Errorf("the sealed segment: %w", errors.Join(err, errWrongBytes))
	}
	return w.verify(s)
}

func (w *workload) verify(s *Segment) error {
	var found reports
	if err := s.Verify(w.t.Context(), VerifyOptions{Report: func(d DamageError) { found.add(&d) }}); err != nil || len(found) > 0 {
		return fmt.Errorf("verify found %v: %w", found, errors.Join(err, errWrongBytes))
	}
	return nil
}

func newWorkload(t *testing.T, fs disk.FS, seed uint64) *workload {
	w := &workload{t: t, o: in(t, fs, "/t-0", 40), rng: rand.New(rand.NewPCG(seed, 9))}
	must(t, disk.SyncDir(fs, "/"))
	g := newStream(seed, 40)
	g.payload = 4000
	w.data, w.metas = g.batches(60_000 + int(seed%2)*150_000)
	w.saved.state = emptyState(40)
	return w
}

// TestPowerLossAtAnyMoment takes images of what survived at every write and sync, and recovers from each: nothing that a checkpoint
// covered is lost, and the finished segment's files are those of a run without a loss.
func TestPowerLossAtAnyMoment(t *testing.T) {
	t.Parallel()
	images := 0
	for seed := range uint64(max(2, 4/effort)) { //nolint:unconvert // a constant in one build, an int in the other
		fs := crashfs.New()
		w := newWorkload(t, fs, seed)
		rng := rand.New(rand.NewPCG(seed, 10))
		want := map[string][]byte{}
		var todo []*workload
		fs.SetHook(func(crashfs.Op) {
			for range 2 {
				c := *w
				c.o.FS = fs.CrashImage(rng)
				c.o.Files = NewFileCache(4)
				c.rng = rand.New(rand.NewPCG(rng.Uint64(), 1))
				todo = append(todo, &c)
			}
		})
		must(t, w.run(Create(w.o)))
		fs.SetHook(nil)
		for _, suffix := range []string{logSuffix, indexSuffix, timeIndexSuffix, sidecarSuffix} {
			want[suffix] = readFile(t, w.o, suffix)
		}
		for i, c := range todo {
			images++
			if err := c.recovered(i%2 == 0); err != nil {
				t.Fatalf("seed %d, image %d: %v", seed, i, err)
			}
			for suffix := range want {
				if !bytes.Equal(readFile(t, c.o, suffix), want[suffix]) {
					t.Fatalf("seed %d, image %d: %s differs from that of a run without a power loss", seed, i, suffix)
				}
			}
		}
	}
	t.Logf("%d images", images)
}

// The last block is read once, to check it and for the bytes that the next write begins with.
func TestTheRaggedEndIsReadOnce(t *testing.T) {
	t.Parallel()
	fs := &reads{FS: crashfs.New()}
	o := in(t, fs, "/t-0", 0)
	s := Create(o)
	g := newStream(3, 0)
	data, metas := g.batches(70_000)
	must(t, s.Write(data, metas))
	must(t, s.Sync())
	wantPos, want, err := s.RaggedBytes()
	must(t, err)
	st := s.State()
	must(t, s.Close())

	s, err = OpenActive(o, st)
	must(t, err)
	pos, got, torn, err := s.CheckedRaggedBytes()
	if pos != wantPos || !bytes.Equal(got, want) || torn || err != nil || len(want) == 0 {
		t.Fatalf("%d bytes at %d, torn: %t, %v; want %d at %d", len(got), pos, torn, err, len(want), wantPos)
	}
	if fs.count != 1 {
		t.Fatalf("%d reads", fs.count)
	}
	must(t, fs.Rename(fs.PathJoin(o.Dir, FileName(0, logSuffix)), "/elsewhere")) // so that it can not be read
	more, metas := g.batches(5_000)
	must(t, s.Write(more, metas))
	if fs.count != 1 {
		t.Fatalf("%d reads", fs.count)
	}
	must(t, s.Close())
}

// TestCarriedBytesHealATornBlock fills the block of the ragged end with garbage, as a disk may that loses power while it is rewritten.
func TestCarriedBytesHealATornBlock(t *testing.T) {
	t.Parallel()
	o := memory(t, 0)
	s := Create(o)
	data, metas := newStream(3, 0).batches(70_000)
	must(t, s.Write(data, metas))
	must(t, s.Sync())
	pos, ragged, err := s.RaggedBytes()
	must(t, err)
	st := s.State()
	must(t, s.Close())
	flip(t, o, logSuffix, pos*8+3)

	s, err = OpenActive(o, st)
	must(t, err)
	var d *DamageError
	if _, err := s.ReadAt(make([]byte, 10), pos); !errors.As(err, &d) {
		t.Fatalf("the garbage was not found: %v", err)
	}
	if at, _, torn, err := s.CheckedRaggedBytes(); at != pos || !torn || err != nil {
		t.Fatalf("the garbage was not found: %d, %t, %v", at, torn, err)
	}
	must(t, s.RestoreRagged(pos, ragged))
	if got := readAll(t, s); !bytes.Equal(got, data) {
		t.Fatal("wrong bytes after RestoreRagged")
	}
	// The file is torn still. It is no damage: memory has what the next Sync writes.
	must(t, s.Verify(t.Context(), VerifyOptions{Report: func(d DamageError) { t.Errorf("damage: %v", &d) }}))
	must(t, s.RestoreRagged(0, data[:100])) // of an older state: ignored
	if err := s.RestoreRagged(pos, append(ragged, 1)); !errors.Is(err, ErrBadBatches) {
		t.Errorf("bytes past the end: %v", err)
	}
	must(t, s.Seal())
	must(t, s.Close())
	s, err = OpenSealed(o, s.State())
	must(t, err)
	if got := readAll(t, s); !bytes.Equal(got, data) {
		t.Fatal("wrong bytes from the file")
	}
}

// TestAFailedOperationStopsTheSegment lets each write, sync and open fail in turn. The segment must refuse to go on, keep the state of
// its last Sync, and be recoverable from it.
func TestAFailedOperationStopsTheSegment(t *testing.T) {
	t.Parallel()
	injected := errors.New("injected")
	for n, done := 0, false; !done; n++ {
		fs := crashfs.New()
		w := newWorkload(t, fs, 3)
		left := n
		failedAt := ""
		fs.SetFault(func(op crashfs.Op) error {
			if !op.Kind.Changes() || op.Kind == crashfs.OpSyncAll { // that is the caller's to fail with
				return nil
			}
			left--
			if left != -1 {
				return nil
			}
			failedAt = fmt.Sprint(op)
			return injected
		})
		s := Create(w.o)
		err := w.run(s)
		done = failedAt == ""
		if done {
			must(t, err)
			if n < 20 {
				t.Fatalf("only %d operations", n)
			}
			break
		}
		if !errors.Is(err, injected) {
			t.Fatalf("%s failed, run returned %v", failedAt, err)
		}
		if err := s.Write(nil, nil); !errors.Is(err, injected) {
			t.Fatalf("%s failed, the next Write: %v", failedAt, err)
		}
		if err := s.Sync(); !errors.Is(err, injected) {
			t.Fatalf("%s failed, the next Sync: %v", failedAt, err)
		}
		if s.State() != w.saved.state {
			t.Fatalf("%s failed: state %+v, want %+v", failedAt, s.State(), w.saved.state)
		}
		fs.SetFault(nil)
		must(t, s.Close())
		if err := w.recovered(true); err != nil {
			t.Fatalf("%s failed: %v", failedAt, err)
		}
	}
}

// Room that the disk has not got is given back, which writes the block in which the log ends again: the next Sync makes that good.
func TestRoomThatWasNotFoundIsSynced(t *testing.T) {
	t.Parallel()
	fs := crashfs.New()
	o := in(t, fs, "/topics/t-0", 0)
	s := Create(o)
	data, metas := newStream(5, 0).batches(10_000)
	must(t, s.Write(data, metas))
	must(t, s.Sync())
	must(t, fs.SyncAll(o.Dir)) // the folder's own folders too
	fs.SetFault(func(op crashfs.Op) error {
		if op.Kind == crashfs.OpAllocate {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := s.Reserve(100_000); !disk.IsNoSpace(err) {
		t.Fatalf("%v, want ENOSPC", err)
	}
	must(t, s.Sync())
	if !fs.Settled() {
		t.Error("the log's last block was written again and is not synced")
	}
}
