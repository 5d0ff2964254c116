package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// rotten is a data folder with something in every file, and what it must hold. One batch has one record.
type rotten struct {
	fs     *crashfs.FS
	specs  []PartitionSpec
	acked  map[base.TopicIDPartition][][]byte
	starts map[base.TopicIDPartition]base.Offset
	last   record.Producer // of the last batch of the first partition
	first  base.Offset     // where epoch 2 begins there
}

func (r *rotten) config(fs *crashfs.FS, epoch base.LeaderEpoch) Config {
	cfg := testConfig(fs, r.specs...)
	cfg.WALMaxBytes, cfg.WALFileBytes, cfg.LeaderEpoch = 1<<20, 64<<10, epoch
	cfg.IndirectBytes, cfg.IndirectWaiting = 9000, -1
	return cfg
}

// timestampOf is the timestamp of the record at an offset.
func timestampOf(offset int) int64 { return testTime + 1000*int64(offset) }

// newRotten lives two lives in a folder: one that ends in order, so that every file is there, and one that is killed, so that the wal matters.
func newRotten(t *testing.T) *rotten {
	t.Helper()
	small := LogConfig{SegmentBytes: 4000, IndexInterval: 500}
	r := &rotten{
		fs: newFS(t), specs: []PartitionSpec{testSpec('a', 0, small), testSpec('a', 1, small), testSpec('b', 0, LogConfig{IndexInterval: 500})},
		acked: map[base.TopicIDPartition][][]byte{}, starts: map[base.TopicIDPartition]base.Offset{},
	}
	for life := range base.LeaderEpoch(2) {
		e := open(t, r.config(r.fs, life+1))
		if life == 1 {
			r.first = partition(t, e, r.specs[0].ID).Offsets().LogEnd
		}
		for range 16 {
			var last wal.Sequence
			for i, spec := range r.specs {
				p := partition(t, e, spec.ID)
				n := len(r.acked[spec.ID])
				b := batchSpec{size: 250, seed: 100*i + n, timestamp: timestampOf(n)}
				if i == 2 && n%8 == 7 { // a body goes past the wal
					b.size = 9000
					wantRoom(p)
					if err := p.flush(flushBlock); err != nil {
						t.Fatal(err)
					}
				}
				if i == 0 {
					r.last = record.Producer{ID: 77, Epoch: 1, BaseSequence: int32(n)}
					b.producer = &r.last
				}
				batch, h := makeBatch(b)
				at, err := p.Append(t.Context(), batch, h, AppendOptions{})
				if err != nil {
					t.Fatal(err)
				}
				last = at.Sequence
				r.acked[spec.ID] = append(r.acked[spec.ID], batch)
			}
			if err := e.Wait(t.Context(), last); err != nil { // one group for the three: what pads a group rots no differently from another's
				t.Fatal(err)
			}
		}
		p := partition(t, e, r.specs[1].ID)
		start, group, err := p.DeleteRecords(t.Context(), base.Offset(5+10*life))
		if err == nil {
			err = e.Wait(t.Context(), group)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.starts[p.id] = start
		if bodies := e.log.Stats().Bodies; bodies != 2 {
			t.Fatalf("%d bodies went past the wal, want 2", bodies)
		}
		if life == 0 {
			closeEngine(t, e)
		} else {
			kill(e)
		}
	}
	r.fs = r.fs.CrashImageKeeping(rand.New(rand.NewPCG(1, 1)), 100) // where nothing is unsynced images share what they hold: they cost half
	return r
}

// check opens an image and asks everything. named tells whether something was said: opening failed, damage is known, or a read named it.
func (r *rotten) check(fs *crashfs.FS, repaired bool) (named bool, err error) {
	e, err := Open(context.Background(), r.config(fs, 3))
	if err != nil {
		return true, nil // loud, before anything is served
	}
	defer kill(e)
	named = len(e.Damage()) > 0
	var silent []string // what is wrong without an error of its own: it is fine only if something was named
	for i, spec := range r.specs {
		p, _ := e.Partition(spec.ID)
		o := p.Offsets()
		if o.LogStart != r.starts[spec.ID] {
			silent = append(silent, fmt.Sprintf("%v begins at %d, want %d", p, o.LogStart, r.starts[spec.ID]))
		}
		if int(o.HighWatermark) != len(r.acked[spec.ID]) {
			silent = append(silent, fmt.Sprintf("%v ends at %d, want %d", p, o.HighWatermark, len(r.acked[spec.ID])))
		}
		for at := r.starts[spec.ID]; int(at) < len(r.acked[spec.ID]); at++ {
			s, err := p.Read(at, ReadOptions{MaxBytes: 1, AtLeastOne: true})
			var got []byte
			if err == nil {
				got, err = s.Bytes()
			}
			switch {
			case errors.Is(err, ErrDamage):
				if repaired {
					return named, fmt.Errorf("after the repair: %w", err)
				}
				named = true
			case errors.Is(err, ErrOffsetOutOfRange):
				silent = append(silent, err.Error())
			case err != nil:
				return named, err
			case s.Len() > 0 && s.FirstOffset() > at && !repaired:
				return named, fmt.Errorf("%v goes over offset %d without an error", p, at)
			case s.Len() == 0 || s.FirstOffset() > at:
				silent = append(silent, fmt.Sprintf("%v lacks offset %d", p, at))
			case s.FirstOffset() != at || !sameRecords(got, r.acked[spec.ID][at]):
				return named, fmt.Errorf("%v serves other bytes at offset %d", p, at)
			}
		}
		for _, n := range []int{int(r.starts[spec.ID]), 15, 25} {
			at, ok, err := p.OffsetForTimestamp(timestampOf(n))
			switch {
			case errors.Is(err, ErrDamage):
				named = true
			case err != nil:
				return named, err
			case !ok || int(at.Offset) != n:
				silent = append(silent, fmt.Sprintf("timestamp of %v-%d is found at %d (%t)", p, n, at.Offset, ok))
			}
		}
		if i > 0 {
			continue
		}
		if _, end := p.EpochEndOffset(1); end != r.first {
			silent = append(silent, fmt.Sprintf("epoch 1 ends at %d, want %d", end, r.first))
		}
		n := len(r.acked[spec.ID]) - 1
		again := r.last
		batch, h := makeBatch(batchSpec{size: 250, seed: n, timestamp: timestampOf(n), producer: &again})
		if at, err := p.Append(context.Background(), batch, h, AppendOptions{}); err != nil || int(at.Base) != n {
			silent = append(silent, fmt.Sprintf("the last batch again: %d, %v; want %d", at.Base, err, n))
		}
	}
	if len(silent) > 0 && !named && !repaired {
		return named, fmt.Errorf("nothing was said, but %s", strings.Join(silent, "; "))
	}
	return named || len(silent) > 0, nil
}

// try checks an image that something was done to: what the broker says and serves, that a scrub finds what the broker finds, and that a repair
// leaves a folder that can be read.
func (r *rotten) try(image *crashfs.FS, rng *rand.Rand) (named bool, err error) {
	scrubbed, repaired := image.CrashImageKeeping(rng, 100), image.CrashImageKeeping(rng, 100)
	if named, err = r.check(image, false); err != nil {
		return named, err
	}
	found := 0
	report := ScrubOptions{Report: func(Damage) { found++ }}
	if err := ScrubFolder(context.Background(), FolderScrub{FS: scrubbed, Dir: testDir, ScrubOptions: report}); err != nil {
		return named, fmt.Errorf("scrub: %w", err)
	}
	if named && found == 0 {
		return named, errors.New("the broker names damage, and a scrub does not")
	}
	if err := ScrubFolder(context.Background(), FolderScrub{FS: repaired, Dir: testDir, Repair: true, ScrubOptions: report}); err != nil {
		return named, fmt.Errorf("repair: %w", err)
	}
	lost, err := r.check(repaired, true)
	if err != nil {
		return named, err
	}
	if lost && found == 0 {
		return named, errors.New("a repair that found nothing has lost something")
	}
	return named, nil
}

// rotFile is a file of an image and how much of it is worth rotting.
type rotFile struct {
	path string
	size int64
}

// rotFiles lists the files of a folder. Most of a wal file is zeros that nobody reads: what lies behind its last byte and a block is left out.
func rotFiles(t *testing.T, fs *crashfs.FS) (files []rotFile) {
	t.Helper()
	var walk func(dir string)
	walk = func(dir string) {
		names, err := fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		for _, name := range names {
			path := fs.PathJoin(dir, name)
			info, err := fs.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				walk(path)
				continue
			}
			size := info.Size()
			if strings.HasSuffix(name, ".wal") {
				b := readFile(t, fs, path)
				size = min(size, int64(len(bytes.TrimRight(b, "\x00"))+4096))
			}
			if size > 0 {
				files = append(files, rotFile{path, size})
			}
		}
	}
	walk(testDir)
	return files
}

func readFile(t *testing.T, fs *crashfs.FS, path string) []byte {
	t.Helper()
	info, err := fs.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		t.Fatal(err)
	}
	return b
}

// overwrite changes bytes of a file in place.
func overwrite(t *testing.T, fs *crashfs.FS, path string, at int64, change func([]byte)) {
	t.Helper()
	b := readFile(t, fs, path)
	change(b[at:])
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The newest file of the wal is found and named if it became zeros or is gone: nothing follows it that tells of it.
func TestALostWALFileIsNamed(t *testing.T) {
	t.Parallel()
	r := newRotten(t)
	rng := rand.New(rand.NewPCG(1, 3))
	var newest string
	for _, f := range rotFiles(t, r.fs) {
		var name uint64
		if _, err := fmt.Sscanf(r.fs.PathBase(f.path), "%d.wal", &name); err == nil && name == binary.LittleEndian.Uint64(readFile(t, r.fs, f.path)[16:]) {
			newest = f.path // its header says that it was put to use under its name
		}
	}
	for what, lose := range map[string]func(fs *crashfs.FS) error{
		"zeros": func(fs *crashfs.FS) error { overwrite(t, fs, newest, 0, func(b []byte) { clear(b) }); return nil },
		"gone":  func(fs *crashfs.FS) error { return fs.Remove(newest) },
	} {
		image := r.fs.CrashImageKeeping(rng, 100)
		if err := lose(image); err != nil {
			t.Fatal(err)
		}
		if named, err := r.try(image, rng); err != nil || !named {
			t.Errorf("%s %s: named %t, %v", newest, what, named, err)
		}
	}
}

// Whatever bit of the folder flips: it is found and named, or does no harm. With PROVE=long every bit in turn.
func TestEveryBitIsGuarded(t *testing.T) {
	t.Parallel()
	r := newRotten(t)
	seed := proof.Seed(t)
	row := proof.Start(t, "bit-rot-folder", "bits flipped, read, scrubbed and repaired", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	files := rotFiles(t, r.fs)
	var bits []int64 // over all files
	total := int64(0)
	for _, f := range files {
		total += 8 * f.size
	}
	if os.Getenv("PROVE") == "long" && os.Getenv("TIMES") == "" {
		for bit := range total {
			bits = append(bits, bit)
		}
	} else {
		for range proof.Times(t, 60, 1200, 0) { // files weigh the same, however small
			f := rng.IntN(len(files))
			before := int64(0)
			for _, other := range files[:f] {
				before += 8 * other.size
			}
			bits = append(bits, before+rng.Int64N(8*files[f].size))
		}
	}
	named := 0
	for _, bit := range bits {
		image := r.fs.CrashImageKeeping(rng, 100)
		f := 0
		for at := bit; at >= 8*files[f].size; f++ {
			at -= 8 * files[f].size
			bit = at
		}
		overwrite(t, image, files[f].path, bit/8, func(b []byte) { b[0] ^= 1 << (bit % 8) })
		said, err := r.try(image, rng)
		if err != nil {
			row.Lost(1)
			t.Errorf("bit %d of byte %d of %s: %v", bit%8, bit/8, files[f].path, err)
		}
		if said {
			named++
		}
		row.Tried(1)
	}
	row.Note("%d of %d bits of %d files; %d named, the others did no harm", len(bits), total, len(files), named)
}

// A file that was cut short, or has lost a block to zeros, is found and named, or does no harm.
func TestEveryFileCutShortOrZeroed(t *testing.T) {
	t.Parallel()
	r := newRotten(t)
	seed := proof.Seed(t)
	row := proof.Start(t, "files-cut", "files cut short or zeroed in part", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	type harm struct {
		what string
		do   func(fs *crashfs.FS)
	}
	var harms []harm
	for _, f := range rotFiles(t, r.fs) {
		whole, err := r.fs.Stat(f.path)
		if err != nil {
			t.Fatal(err)
		}
		cuts := []int64{0, 1, f.size / 4, f.size / 2, whole.Size() - 1}
		for at := int64(512); at < f.size; at += 512 {
			cuts = append(cuts, at, at+int64(rng.IntN(512)))
		}
		for _, cut := range cuts {
			if cut < whole.Size() {
				harms = append(harms, harm{fmt.Sprintf("%s cut from %d to %d bytes", f.path, whole.Size(), cut), func(fs *crashfs.FS) {
					if err := fs.Truncate(f.path, cut); err != nil {
						t.Fatal(err)
					}
				}})
			}
		}
		for _, block := range []int64{512, 4096, 65536, 0} {
			step := block
			if block == 0 { // all from there on
				block, step = whole.Size(), 4096
			}
			for at := int64(0); at < f.size; at += step {
				harms = append(harms, harm{fmt.Sprintf("%d bytes of %s zeroed at %d", block, f.path, at), func(fs *crashfs.FS) {
					overwrite(t, fs, f.path, at, func(b []byte) { clear(b[:min(int64(len(b)), block)]) })
				}})
			}
		}
	}
	rng.Shuffle(len(harms), func(i, j int) { harms[i], harms[j] = harms[j], harms[i] })
	all := len(harms)
	harms = harms[:min(proof.Times(t, 60, 800, all), all)]
	named := 0
	for _, h := range harms {
		image := r.fs.CrashImageKeeping(rng, 100)
		h.do(image)
		said, err := r.try(image, rng)
		if err != nil {
			row.Lost(1)
			t.Errorf("%s: %v", h.what, err)
		}
		if said {
			named++
		}
		row.Tried(1)
	}
	row.Note("%d of %d; %d named, the others did no harm", len(harms), all, named)
}
