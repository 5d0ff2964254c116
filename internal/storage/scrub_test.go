package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// scrubbed is a closed folder of one partition with three segments of small batches, 700 bytes each.
func scrubbed(t *testing.T) (*crashfs.FS, Config, PartitionSpec, int) {
	t.Helper()
	fs := newFS(t)
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 300_000})
	cfg := testConfig(fs, spec)
	e := open(t, cfg)
	p := partition(t, e, spec.ID)
	const n = 1200
	for i := range n {
		batch, h := makeBatch(batchSpec{size: 600, seed: i})
		if _, err := p.Append(t.Context(), batch, h, AppendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	closeEngine(t, e)
	return fs, cfg, spec, n
}

// flipByte changes a byte of a file; a second time changes it back.
func flipByte(t *testing.T, fs disk.FS, path string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func logPath(spec PartitionSpec, first base.Offset) string {
	return testDir + "/topics/" + folderOf(spec.Topic, spec.ID.Partition) + "/" + segment.FileName(first, ".log")
}

// served reads every offset and returns which could not be read and which are gaps: the batch that came was a later one, or none.
func served(t *testing.T, p *Partition, n int) (damaged, skipped []base.Offset) {
	t.Helper()
	for i := range base.Offset(n) {
		want, _ := makeBatch(batchSpec{size: 600, seed: int(i)})
		s, err := p.Read(i, ReadOptions{MaxBytes: 1, AtLeastOne: true})
		var got []byte
		if err == nil {
			got, err = s.Bytes()
		}
		switch {
		case errors.Is(err, ErrDamage):
			damaged = append(damaged, i)
		case err != nil:
			t.Fatalf("offset %d: %v", i, err)
		case s.Len() == 0 || s.FirstOffset() > i:
			skipped = append(skipped, i)
		case s.FirstOffset() != i || !sameRecords(got, want):
			t.Fatalf("offset %d holds other records", i)
		}
	}
	return damaged, skipped
}

// sameRecords compares batches but for base offset and leader epoch, which the log gives them.
func sameRecords(a, b []byte) bool {
	return len(a) == len(b) && bytes.Equal(a[8:12], b[8:12]) && bytes.Equal(a[16:], b[16:])
}

func scrubFolder(t *testing.T, fs disk.FS, repair bool) []Damage {
	t.Helper()
	var found []Damage
	err := ScrubFolder(t.Context(), FolderScrub{
		FS: fs, Dir: testDir, Repair: repair,
		ScrubOptions: ScrubOptions{Report: func(d Damage) { found = append(found, d) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A scrub of a running engine finds damage that nobody has read; it is remembered, and forgotten once the bytes are right again.
func TestScrubFindsDamageRemembersAndForgetsIt(t *testing.T) {
	t.Parallel()
	fs, cfg, spec, n := scrubbed(t)
	flipByte(t, fs, logPath(spec, 0), 100_000)
	e := open(t, cfg)
	var found []Damage
	if err := e.Scrub(t.Context(), ScrubOptions{Report: func(d Damage) { found = append(found, d) }}); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Pos != 65536 || found[0].Len != 65536 || found[0].Topic != spec.Topic || len(e.Damage()) != 1 {
		t.Fatalf("found %+v, known %+v", found, e.Damage())
	}
	closeEngine(t, e)

	e = open(t, cfg)
	known := e.Damage()
	if len(known) != 1 || known[0].Pos != 65536 || known[0].File != found[0].File || known[0].FirstOffset != found[0].FirstOffset {
		t.Fatalf("after a restart: %+v", known)
	}
	damaged, skipped := served(t, partition(t, e, spec.ID), n)
	if len(damaged) < 80 || len(damaged) > 120 || len(skipped) > 0 {
		t.Fatalf("%d damaged, %d skipped", len(damaged), len(skipped))
	}
	mustAppend(t, partition(t, e, spec.ID), batchSpec{size: 600, seed: n})
	flipByte(t, fs, logPath(spec, 0), 100_000) // somebody puts the file back
	if err := e.Scrub(t.Context(), ScrubOptions{}); err != nil {
		t.Fatal(err)
	}
	if d := e.Damage(); len(d) > 0 {
		t.Fatalf("still known: %+v", d)
	}
	if damaged, _ := served(t, partition(t, e, spec.ID), n+1); len(damaged) > 0 {
		t.Fatalf("%d offsets can not be read", len(damaged))
	}
	closeEngine(t, e)
	if _, err := fs.Stat(testDir + "/" + damageName); err == nil {
		t.Fatal("the list is still there")
	}
}

// A range that was set aside is a gap for readers, across restarts, and its whole batches can be had from the copy.
func TestScrubRepairSetsARangeAside(t *testing.T) {
	t.Parallel()
	for _, where := range []struct {
		name  string
		at    []int64 // bytes of the first segment
		first base.Offset
	}{
		{"first block", []int64{10}, 0},
		{"a block inside", []int64{100_000}, 0},
		{"two neighbours", []int64{100_000, 140_000}, 0},
		{"two apart", []int64{10, 200_000}, 0},
		{"last block", []int64{299_000}, 0},
		{"active segment", []int64{70_000}, -1},
		{"end of the active segment", []int64{-1}, -1},
	} {
		t.Run(where.name, func(t *testing.T) {
			t.Parallel()
			fs, cfg, spec, n := scrubbed(t)
			if where.first < 0 {
				e := open(t, cfg)
				where.first = partition(t, e, spec.ID).activeLocked().base
				kill(e)
			}
			path := logPath(spec, where.first)
			for _, at := range where.at {
				if at < 0 {
					info, err := fs.Stat(path)
					if err != nil {
						t.Fatal(err)
					}
					at += info.Size()
				}
				flipByte(t, fs, path, at)
			}
			for _, d := range scrubFolder(t, fs, false) {
				if d.SetAside {
					t.Fatalf("set aside without being told to: %+v", d)
				}
			}
			e := open(t, cfg)
			damaged, skipped := served(t, partition(t, e, spec.ID), n)
			if len(damaged) == 0 || len(skipped) > 0 {
				t.Fatalf("%d damaged, %d skipped", len(damaged), len(skipped))
			}
			closeEngine(t, e)
			scrubFolder(t, fs, true)
			if again := scrubFolder(t, fs, true); len(again) == 0 || !again[0].SetAside {
				t.Fatalf("a second scrub says %+v", again)
			}
			for range 2 { // restarts
				e = open(t, cfg)
				p := partition(t, e, spec.ID)
				damaged, skipped = served(t, p, n)
				if len(damaged) > 0 || len(skipped) == 0 || len(skipped) > 240 {
					t.Fatalf("after the repair %d damaged, %d skipped", len(damaged), len(skipped))
				}
				if ts, ok, err := p.OffsetForTimestamp(testTime + 1); ok || err != nil {
					t.Fatalf("a later timestamp: %v %v %v", ts, ok, err)
				}
				if at, ok, err := p.OffsetForTimestamp(testTime); err != nil || !ok {
					t.Fatalf("the timestamp: %v %v %v", at, ok, err)
				}
				mustAppend(t, p, batchSpec{size: 600, seed: n})
				n++
				if _, err := readAll(p, base.Offset(n-1), 4000); err != nil {
					t.Fatal(err)
				}
				closeEngine(t, e)
			}
			files, err := ListAside(fs, testDir)
			if err != nil || len(files) == 0 {
				t.Fatalf("set aside: %+v, %v", files, err)
			}
			saved := 0
			for _, f := range files {
				if !f.Damaged || f.Partition != spec.ID || f.Bad {
					t.Fatalf("%+v", f)
				}
				err := ReadAside(fs, testDir, f.Name, func(batch []byte) error {
					h, err := record.ParseHeader(batch)
					if err != nil {
						return err
					}
					want, _ := makeBatch(batchSpec{size: 600, seed: int(h.BaseOffset)})
					if !sameRecords(batch, want) {
						return fmt.Errorf("offset %d holds other records", h.BaseOffset)
					}
					saved++
					return nil
				}, nil)
				if err != nil {
					t.Fatal(err)
				}
			}
			if saved != len(skipped)-len(where.at) {
				t.Fatalf("%d batches of %d can be had from the copy; %d bytes were changed", saved, len(skipped), len(where.at))
			}
		})
	}
}

// Indexes and sidecars are made anew from the log.
func TestScrubRepairMendsIndexesAndSidecars(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{".index", ".timeindex", ".crc"} {
		fs, cfg, spec, n := scrubbed(t)
		path := strings.TrimSuffix(logPath(spec, 0), ".log") + suffix
		flipByte(t, fs, path, 5)
		if found := scrubFolder(t, fs, false); len(found) == 0 || found[0].File != path || found[0].Mended {
			t.Fatalf("%s: %+v", suffix, found)
		}
		if found := scrubFolder(t, fs, true); len(found) == 0 || !found[0].Mended {
			t.Fatalf("%s: %+v", suffix, found)
		}
		if found := scrubFolder(t, fs, false); len(found) != 0 {
			t.Fatalf("%s: still %+v", suffix, found)
		}
		flipByte(t, fs, path, 5)
		e := open(t, cfg)
		if err := e.Scrub(t.Context(), ScrubOptions{}); err != nil {
			t.Fatal(err)
		}
		if damaged, skipped := served(t, partition(t, e, spec.ID), n); len(damaged)+len(skipped) > 0 {
			t.Fatalf("%s: %d damaged, %d skipped", suffix, len(damaged), len(skipped))
		}
		closeEngine(t, e)
		if found := scrubFolder(t, fs, false); len(found) != 0 {
			t.Fatalf("%s: after an online scrub still %+v", suffix, found)
		}
	}
}

// A checkpoint that rots while the broker runs is written anew by a scrub.
func TestScrubReplacesADamagedCheckpoint(t *testing.T) {
	t.Parallel()
	fs, cfg, spec, n := scrubbed(t)
	e := open(t, cfg)
	flipByte(t, fs, testDir+"/checkpoint", 60)
	written := make(chan struct{}, 1)
	fs.SetHook(func(op crashfs.Op) {
		if op.Kind == crashfs.OpRename && strings.HasPrefix(op.Path, testDir+"/checkpoint") {
			written <- struct{}{}
		}
	})
	if err := e.Scrub(t.Context(), ScrubOptions{}); err != nil {
		t.Fatal(err)
	}
	<-written
	fs.SetHook(nil)
	kill(e)
	e = open(t, cfg)
	if damaged, skipped := served(t, partition(t, e, spec.ID), n); len(damaged)+len(skipped) > 0 {
		t.Fatalf("%d damaged, %d skipped", len(damaged), len(skipped))
	}
}

// A list of damaged ranges that is damaged itself brings errors back, not silence.
func TestADamagedListOfDamage(t *testing.T) {
	t.Parallel()
	fs, cfg, spec, n := scrubbed(t)
	flipByte(t, fs, logPath(spec, 0), 100_000)
	scrubFolder(t, fs, true)
	flipByte(t, fs, testDir+"/"+damageName, 40)
	e := open(t, cfg)
	if len(e.Damage()) != 1 || !strings.Contains(e.Damage()[0].Reason, "damaged itself") {
		t.Fatalf("known: %+v", e.Damage())
	}
	damaged, skipped := served(t, partition(t, e, spec.ID), n)
	if len(damaged) == 0 || len(skipped) > 0 {
		t.Fatalf("%d damaged, %d skipped", len(damaged), len(skipped))
	}
}

// Appends go on after damage in the block that they continue, or when the file is short or gone, and are not lost with it.
func TestAppendsOutliveDamageBeforeThem(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"a bit", "cut short", "missing"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			fs, cfg, spec, n := scrubbed(t)
			e := open(t, cfg)
			path := logPath(spec, partition(t, e, spec.ID).activeLocked().base)
			kill(e)
			info, err := fs.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			switch how {
			case "a bit":
				flipByte(t, fs, path, info.Size()-9000)
			case "cut short":
				err = fs.Truncate(path, info.Size()-300)
			case "missing":
				err = fs.Remove(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			for round := range 4 {
				e = open(t, cfg)
				p := partition(t, e, spec.ID)
				for i := range base.Offset(n) {
					_, err := p.Read(i, ReadOptions{MaxBytes: 1, AtLeastOne: true})
					if i >= 1200 && err != nil {
						t.Fatalf("round %d: offset %d, which was written after the damage: %v", round, i, err)
					}
				}
				damaged, skipped := served(t, p, 1200)
				if len(damaged) == 0 || len(skipped) > 0 {
					t.Fatalf("round %d: %d damaged, %d skipped", round, len(damaged), len(skipped))
				}
				mustAppend(t, p, batchSpec{size: 600, seed: n})
				n++
				if err := e.Scrub(t.Context(), ScrubOptions{}); err != nil {
					t.Fatal(err)
				}
				if round == 1 {
					kill(e)
				} else {
					closeEngine(t, e)
				}
			}
		})
	}
}

// In a damaged block that appends continue, and whose checksum is then that of old and new bytes, nothing is trusted: neither reads nor
// timestamps go by the headers in it.
func TestNothingInContinuedDamageIsTrusted(t *testing.T) {
	t.Parallel()
	fs, spec := newFS(t), testSpec('a', 0, LogConfig{})
	cfg := testConfig(fs, spec)
	const n, flipped = 8, 5
	var acked [n][]byte
	size := int64(0)
	e := open(t, cfg)
	for i := range n {
		b := batchSpec{size: 60, seed: i, timestamp: timestampOf(i)}
		acked[i], _ = makeBatch(b)
		size = int64(len(acked[i]))
		mustAppend(t, partition(t, e, spec.ID), b)
	}
	closeEngine(t, e)
	rng := rand.New(rand.NewPCG(1, 1))
	for at := range size {
		cfg.FS = fs.CrashImageKeeping(rng, 100)
		flipByte(t, cfg.FS, logPath(spec, 0), flipped*size+at)
		e := open(t, cfg)
		mustAppend(t, partition(t, e, spec.ID), batchSpec{size: 60, seed: n, timestamp: timestampOf(n)})
		closeEngine(t, e)
		e = open(t, cfg)
		if len(e.Damage()) == 0 {
			t.Errorf("byte %d of a batch: nobody has noticed", at)
		}
		p := partition(t, e, spec.ID)
		for i := range n {
			s, err := p.Read(base.Offset(i), ReadOptions{MaxBytes: 1, AtLeastOne: true})
			var got []byte
			if err == nil {
				got, err = s.Bytes()
			}
			if !errors.Is(err, ErrDamage) && (err != nil || s.FirstOffset() != base.Offset(i) || !sameRecords(got, acked[i])) {
				t.Errorf("byte %d of a batch: offset %d gives %d bytes from %d, %v", at, i, len(got), s.FirstOffset(), err)
			}
			found, ok, err := p.OffsetForTimestamp(timestampOf(i))
			if !errors.Is(err, ErrDamage) && (err != nil || !ok || found.Offset != base.Offset(i)) {
				t.Errorf("byte %d of a batch: the timestamp of offset %d is at %d, %t, %v", at, i, found.Offset, ok, err)
			}
		}
		if found, ok, err := p.MaxTimestamp(); !errors.Is(err, ErrDamage) && (err != nil || !ok || found.Offset != n) {
			t.Errorf("byte %d of a batch: the largest timestamp is at %d, %t, %v", at, found.Offset, ok, err)
		}
		if s, err := p.Read(n, ReadOptions{MaxBytes: 1, AtLeastOne: true}); err != nil || s.FirstOffset() != n {
			t.Errorf("byte %d of a batch: what was appended after the damage: %d, %v", at, s.FirstOffset(), err)
		}
		kill(e)
	}
}

// A scrub keeps to its pace, and ends when it is told to.
func TestScrubKeepsToItsPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, cfg, _, _ := scrubbed(t)
		e, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close(context.Background())
		began, read := time.Now(), int64(0)
		if err := e.Scrub(t.Context(), ScrubOptions{BytesPerSecond: 100_000, Progress: func(n int64) { read += n }}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began).Seconds(); took < float64(read)/100_000-1 || took > float64(read)/100_000+1 || read < 800_000 {
			t.Errorf("%d bytes took %.1f s", read, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began = time.Now()
		if err := e.Scrub(ctx, ScrubOptions{BytesPerSecond: 100_000}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
