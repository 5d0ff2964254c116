package storage

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// placing is a folder of which large batches go past the wal, and what was appended.
type placing struct {
	t   *testing.T
	fs  *crashfs.FS
	cfg Config
	e   *Engine
	p   *Partition
	all [][]byte

	last wal.Sequence
}

func newPlacing(t *testing.T) *placing {
	t.Helper()
	s := &placing{t: t, fs: newFS(t)}
	s.cfg = testConfig(s.fs, testSpec('a', 0, LogConfig{SegmentBytes: 1 << 20}))
	s.cfg.IndirectBytes, s.cfg.IndirectWaiting = 20_000, -1
	s.reopen()
	return s
}

// reopen kills the engine, if there is one, and opens the folder.
func (s *placing) reopen() {
	s.t.Helper()
	if s.e != nil {
		kill(s.e)
		s.cfg.LeaderEpoch++
	}
	s.e = open(s.t, s.cfg)
	s.p = partition(s.t, s.e, s.cfg.Partitions[0].ID)
}

// add appends batches of one record of the given sizes one by one, after there is room for bodies.
func (s *placing) add(sizes ...int) {
	s.t.Helper()
	for _, size := range sizes {
		s.makeRoom(s.p)
		s.append(s.p, size)
		s.settle()
	}
}

// burst lets others append while the disk takes nothing: a batch before them has a group of its own, and all of theirs are in the next.
func (s *placing) burst(others func()) {
	s.t.Helper()
	s.makeRoom(s.p)
	busy, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.fs.SetHook(func(op crashfs.Op) {
		if op.Kind == crashfs.OpWrite && strings.HasPrefix(op.Path, testDir+"/wal/") {
			once.Do(func() {
				close(busy)
				<-free
			})
		}
	})
	defer s.fs.SetHook(nil)
	s.append(s.p, 700)
	<-busy
	others()
	close(free)
	s.settle()
}

func (s *placing) makeRoom(p *Partition) {
	s.t.Helper()
	wantRoom(p)
	if err := p.flush(flushBlock); err != nil {
		s.t.Fatal(err)
	}
}

// append appends batches of one record of the given sizes. Those of s.p are what check looks for.
func (s *placing) append(p *Partition, sizes ...int) {
	s.t.Helper()
	for _, size := range sizes {
		batch, h := makeBatch(batchSpec{size: size, seed: len(s.all)})
		at, err := p.Append(s.t.Context(), batch, h, AppendOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		s.last = at.Sequence
		if p == s.p {
			s.all = append(s.all, batch)
		}
	}
}

// checkFlushed flushes everything and checks what is then read from the segments.
func (s *placing) checkFlushed() {
	s.t.Helper()
	if err := s.p.flush(1); err != nil {
		s.t.Fatal(err)
	}
	s.p.forgetFlushed()
	s.check()
}

// settle waits until everything is durable.
func (s *placing) settle() {
	s.t.Helper()
	if err := s.e.Wait(s.t.Context(), s.last); err != nil {
		s.t.Fatal(err)
	}
}

// check reads every record but the lost ones, whose reads must say so.
func (s *placing) check(lost ...int) {
	s.t.Helper()
	for i, want := range s.all {
		slice, err := s.p.Read(base.Offset(i), ReadOptions{MaxBytes: 1, AtLeastOne: true})
		var got []byte
		if err == nil {
			got, err = slice.Bytes()
		}
		if slices.Contains(lost, i) {
			if !errors.Is(err, ErrDamage) {
				s.t.Errorf("offset %d: %v, want damage", i, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, want) {
			s.t.Errorf("offset %d: %d bytes, %v", i, len(got), err)
		}
	}
}

const firstLog = testDir + "/topics/topica-0/00000000000000000000.log"

// The bytes of a large batch are written once, and everything finds them: readers, flushes, a start after a kill, a clean one, and a scrub.
func TestLargeBatchesGoPastTheWAL(t *testing.T) {
	t.Parallel()
	s := newPlacing(t)
	var written atomic.Int64
	s.fs.SetHook(func(op crashfs.Op) {
		if op.Kind == crashfs.OpWrite && strings.HasSuffix(op.Path, ".log") {
			written.Add(int64(op.Length))
		}
	})
	s.add(700, 50_000, 100, 90_000, 60_000, 700)
	s.check()
	stats := s.e.log.Stats()
	if stats.Bodies != 3 {
		t.Errorf("%d bodies went past the wal, want 3", stats.Bodies)
	}
	if err := s.p.flush(1); err != nil {
		t.Fatal(err)
	}
	s.fs.SetHook(nil)
	size := s.p.SizeBytes()
	if sum := written.Load() + int64(stats.GroupBytes); sum > size*14/10 { // headers and ragged blocks are much beside so few bytes
		t.Errorf("%d bytes were written to the segment and %d to the wal, of %d", written.Load(), stats.GroupBytes, size)
	}
	s.p.forgetFlushed()
	s.check()
	s.reopen()
	s.check()
	s.checkFlushed()
	closeEngine(t, s.e)
	s.e = nil
	s.cfg.LeaderEpoch++
	s.reopen()
	s.check()
	if err := s.e.Scrub(t.Context(), ScrubOptions{}); err != nil {
		t.Fatal(err)
	}
	if damage := s.e.Damage(); len(damage) > 0 {
		t.Errorf("damage: %+v", damage)
	}
}

// The bodies of a partition that are in one group are written at once, with what lies between them, and none of that a second time.
func TestARunIsWrittenAtOnce(t *testing.T) {
	t.Parallel()
	s := newPlacing(t)
	s.add(50_000)
	var writes []crashfs.Op
	s.burst(func() { s.append(s.p, 50_000, 700, 60_000, 90_000) })
	s.check()
	s.fs.SetHook(func(op crashfs.Op) {
		if op.Kind == crashfs.OpWrite && op.Path == firstLog {
			writes = append(writes, op)
		}
	})
	if err := s.p.flush(1); err != nil {
		t.Fatal(err)
	}
	s.fs.SetHook(nil)
	if len(writes) != 1 || writes[0].Length != disk.MinAlignment { // between the bodies of two groups
		t.Errorf("a flush has written %+v", writes)
	}
	s.p.forgetFlushed()
	s.check()
	s.burst(func() { s.append(s.p, 50_000, 60_000) })
	s.reopen()
	s.check()
	s.checkFlushed()
}

// A batch goes past the wal only behind others of its partition, or where others wait in such numbers: alone it is faster through it.
func TestALoneLargeBatchGoesThroughTheWAL(t *testing.T) {
	t.Parallel()
	s := newPlacing(t)
	kill(s.e)
	s.e, s.cfg.LeaderEpoch, s.cfg.IndirectWaiting = nil, 2, 60_000
	s.cfg.Partitions = append(s.cfg.Partitions, testSpec('a', 1, LogConfig{SegmentBytes: 1 << 20}))
	s.reopen()
	other := partition(t, s.e, s.cfg.Partitions[1].ID)
	bodies := func(want uint64) {
		t.Helper()
		if n := s.e.log.Stats().Bodies; n != want {
			t.Errorf("%d bodies went past the wal, want %d", n, want)
		}
		if waiting, in := s.e.waiting.Load(), s.e.waitingIn.Load(); waiting != 0 || in != 0 {
			t.Errorf("%d bytes of %d partitions are said to wait", waiting, in)
		}
	}
	s.add(50_000, 50_000, 70_000)
	bodies(0)
	s.burst(func() { s.append(s.p, 50_000, 50_000, 700, 50_000, 50_000) })
	bodies(2)
	s.makeRoom(other)
	s.burst(func() {
		s.append(s.p, 50_000, 50_000)
		s.append(other, 50_000) // 50,000 bytes wait in each
		s.append(s.p, 50_000)
		s.append(other, 50_000) // 50,000 bytes wait in this one, and twice as many in the other
	})
	bodies(4)
}

// A flipped bit in a body that only the wal knows of costs its batch and no other. The broker and a scrub name it, and a repair gives it up.
func TestADamagedBodyIsNamed(t *testing.T) {
	t.Parallel()
	s := newPlacing(t)
	s.add(700, 50_000, 60_000, 700)
	kill(s.e)
	overwrite(t, s.fs, firstLog, 20_000, func(b []byte) { b[0] ^= 4 })
	var found []Damage
	scrub := FolderScrub{FS: s.fs, Dir: testDir, ScrubOptions: ScrubOptions{Report: func(d Damage) { found = append(found, d) }}}
	if err := ScrubFolder(t.Context(), scrub); err != nil {
		t.Fatal(err)
	}
	want := func(damage []Damage) {
		t.Helper()
		if len(damage) != 1 || damage[0].File != firstLog || damage[0].FirstOffset != 1 || damage[0].LastOffset != 1 ||
			damage[0].Pos > 20_000 || damage[0].Pos+damage[0].Len <= 20_000 {
			t.Errorf("damage named: %+v", damage)
		}
	}
	want(found)
	s.reopen()
	want(s.e.Damage())
	s.check(1)
}

// What stands behind a batch that damage in the wal has cost is found, though its body is not where the segment has it now: by the first start,
// by one after that has flushed and was killed, and when a checkpoint has it.
func TestBodiesBehindADamagedEntryAreFound(t *testing.T) {
	t.Parallel()
	s := newPlacing(t)
	s.add(700, 9_000, 15_000, 60_000, 700, 50_000)
	kill(s.e)
	damaged := 0
	for _, f := range rotFiles(t, s.fs) {
		if at := bytes.Index(readFile(t, s.fs, f.path), s.all[1][record.HeaderSize:]); at >= 0 {
			overwrite(t, s.fs, f.path, int64(at), func(b []byte) { b[0] ^= 1 })
			damaged++
		}
	}
	if damaged != 1 {
		t.Fatalf("%d files have the batch at offset 1", damaged)
	}
	s.reopen()
	s.check(1)
	if err := s.p.flush(1); err != nil {
		t.Fatal(err)
	}
	s.p.flushMu.Lock()
	err := s.p.flushedSegment().Sync()
	s.p.flushMu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	s.reopen()
	s.check(1)
	if err := s.p.flush(1); err != nil {
		t.Fatal(err)
	}
	if err := s.e.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.p.forgetFlushed()
	s.check(1)
	if info, err := s.fs.Stat(firstLog); err != nil || info.Size() != s.p.segments[0].seg.Size() {
		t.Errorf("the first log has %d bytes, %v; want %d", info.Size(), err, s.p.segments[0].seg.Size())
	}
	s.reopen()
	s.check(1)
}

// A scrub of a folder takes the end of a segment that is in the wal from there, and checks what lies before it in the same block.
func TestDamageBesideAnEndThatIsInTheWALIsNamed(t *testing.T) {
	t.Parallel()
	s := newPlacing(t)
	s.append(s.p, 9_000, 700)
	s.settle()
	s.checkFlushed()
	if err := s.e.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.append(s.p, 9_000)
	s.settle()
	s.checkFlushed() // which puts the end of what the checkpoint counts on into the wal
	kill(s.e)
	scrub := func() (found []Damage) {
		err := ScrubFolder(t.Context(), FolderScrub{FS: s.fs, Dir: testDir, ScrubOptions: ScrubOptions{Report: func(d Damage) { found = append(found, d) }}})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	overwrite(t, s.fs, firstLog, 9_500, func(b []byte) { b[0] ^= 4 })
	if found := scrub(); len(found) != 0 {
		t.Errorf("named, though the next start takes it from the wal: %+v", found)
	}
	overwrite(t, s.fs, firstLog, 5_000, func(b []byte) { b[0] ^= 4 })
	if found := scrub(); len(found) != 1 || found[0].File != firstLog {
		t.Errorf("damage named: %+v", found)
	}
}

// Of a topic that the metadata does not know, whole batches are set aside.
func TestABodyOfAnUnknownTopicIsSetAside(t *testing.T) {
	t.Parallel()
	s := newPlacing(t)
	s.add(700, 50_000)
	id := s.p.id
	kill(s.e)
	s.cfg.Partitions, s.cfg.LeaderEpoch = nil, 2
	e := open(t, s.cfg)
	closeEngine(t, e)
	files, err := ListAside(s.fs, testDir)
	if err != nil || len(files) != 1 || files[0].Partition != id || files[0].Batches != 2 {
		t.Errorf("set aside: %+v, %v", files, err)
	}
}

// The room that was taken ahead is given back when a partition is idle, and in a clean stop.
func TestRoomIsGivenBack(t *testing.T) {
	t.Parallel()
	s := newPlacing(t)
	s.add(50_000)
	if s.p.segments[0].seg.Room() == 0 {
		t.Fatal("no room was taken")
	}
	used := s.fs.UsedBytes()
	if err := s.p.flush(1); err != nil {
		t.Fatal(err)
	}
	s.p.forgetFlushed()
	s.e.flushIdle(time.Now().Add(2 * s.cfg.IdleFlush))
	if freed := used - s.fs.UsedBytes(); freed < 900_000 {
		t.Errorf("%d bytes were given back", freed)
	}
	s.add(50_000)
	closeEngine(t, s.e)
	if info := readFile(t, s.fs, firstLog); int64(len(info)) != s.p.segments[0].seg.Size() {
		t.Errorf("the log has %d bytes", len(info))
	}
}

// A file that is cut where its records end, in the middle of a block, is rewritten in that block, and a power loss may leave anything there: so
// whatever of it a checkpoint counts on is in the wal by then.
func TestABlockThatIsCutIsInTheWAL(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(s *placing){
		"for room": func(s *placing) {
			s.add(50_000)
			if err := s.p.carryNow(); err != nil { // the body, which lies behind the records, is not needed any more
				s.t.Fatal(err)
			}
			if err := s.e.Checkpoint(s.t.Context()); err != nil {
				s.t.Fatal(err)
			}
			s.reopen()
			s.makeRoom(s.p)
		},
		"when room is given back": func(s *placing) {
			if err := s.p.trimRoom(); err != nil {
				s.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newPlacing(t)
			s.fs.SetFragile(func(path string) bool { return path == firstLog })
			s.add(700)
			s.checkFlushed()
			if err := s.e.Checkpoint(t.Context()); err != nil { // it counts on the first block
				t.Fatal(err)
			}
			var images []*crashfs.FS
			s.fs.SetHook(func(op crashfs.Op) {
				if op.Kind == crashfs.OpResize && op.Path == firstLog {
					for seed := range uint64(20) {
						images = append(images, s.fs.CrashImageKeeping(rand.New(rand.NewPCG(seed, 1)), 50))
					}
				}
			})
			cut(s)
			s.fs.SetHook(nil)
			if len(images) == 0 {
				t.Fatal("nothing was cut")
			}
			for _, image := range images {
				found := *s
				found.fs, found.cfg.FS, found.e = image, image, nil
				found.reopen()
				found.check()
				kill(found.e)
			}
		})
	}
}

// Bodies bound a recovery as the wal does: a checkpoint is due, and at last they go through the wal again.
func TestBodiesCountAsTheWALDoes(t *testing.T) {
	t.Parallel()
	s := newPlacing(t)
	s.add(50_000)
	placed := s.e.placed.Load()
	if placed < 40_000 {
		t.Errorf("%d bytes of bodies are counted", placed)
	}
	s.reopen()
	if again := s.e.placed.Load(); again != placed {
		t.Errorf("after a kill %d bytes of bodies are counted, want %d", again, placed)
	}
	s.e.placed.Store(s.cfg.WALMaxBytes)
	if s.p.indirectLocked(50_000) {
		t.Error("a batch goes past the wal though bodies fill a wal")
	}
	if err := s.p.flush(1); err != nil {
		t.Fatal(err)
	}
	if err := s.e.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := s.e.placed.Load(); left != 0 {
		t.Errorf("%d bytes of bodies are counted after a checkpoint", left)
	}
}

func FuzzParsePlaced(f *testing.F) {
	f.Add(placedPayload{segment: 7, pos: 100, size: 9000, crc: 1, head: make([]byte, 3996), end: make([]byte, 908)}.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parsePlaced(b)
		if err != nil {
			if !errors.Is(err, errPayload) {
				t.Fatal(err)
			}
			return
		}
		if from, to := x.body(); from < x.pos || to > x.pos+x.size || x.size > math.MaxInt32 {
			t.Fatalf("%+v", x)
		}
		if !bytes.Equal(x.appendTo(nil), b) {
			t.Fatal("encoded anew it is something else")
		}
	})
}
