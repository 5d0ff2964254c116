package wal

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

// exampleWal writes two files of a few groups and closes the wal after each. Every group is followed by a proof that it was durable.
func exampleWal(t testing.TB, mode AckMode) *crashfs.FS {
	t.Helper()
	for range 100 {
		if fs, ok := tryExampleWal(t, mode); ok {
			return fs
		}
	}
	t.Fatal("the writer woke between two entries of a group a hundred times")
	return nil
}

// tryExampleWal reports false if the writer happened to wake, and so wrote an entry alone or a mark where none is wanted.
func tryExampleWal(t testing.TB, mode AckMode) (fs *crashfs.FS, ok bool) {
	t.Helper()
	fs = newFS(t)
	cfg := smallConfig(fs)
	cfg.Mode = mode
	ok = true
	for round := range 2 {
		l := mustOpen(t, cfg, 0, nil)
		var before Sequence
		for i := range 2 {
			r, err := l.ReserveEntries(t.Context(), 2, 100)
			if err != nil {
				t.Fatal(err)
			}
			// Two partitions in one group.
			l.mu.Lock()
			l.writerIdle = false // the writer sleeps until both are there
			l.mu.Unlock()
			e := entryOf(i, fmt.Sprintf("round %d group %d entry one", round, i))
			first := l.Append(&r, e, nil)
			e = entryOf(i+100, fmt.Sprintf("round %d group %d the other", round, i))
			e.Partition.Partition = 8
			seq := l.Append(&r, e, nil)
			signal(l.wakeW)
			if err := l.Wait(t.Context(), seq); err != nil {
				t.Fatal(err)
			}
			ok = ok && first == seq && (i == 0 || seq == before+1)
			before = seq
		}
		mustClose(t, l)
	}
	return fs, ok
}

var scratch sync.Pool // of buffers for recoverOnly

// recoverOnly runs recovery without opening a new file.
func recoverOnly(fs disk.FS, from Sequence, onDamage func(*CorruptError) error) ([]replayed, error) {
	got, replay := collect()
	cfg, err := smallConfig(fs).withDefaults()
	if err != nil {
		return nil, err
	}
	cfg.OnDamage = onDamage
	r := &recovery{
		cfg: cfg, medium: &folder{fs: fs, dir: cfg.Dir}, logger: slog.New(slog.DiscardHandler), from: max(from, 1), replay: replay, readOnly: true,
	}
	if buf, ok := scratch.Get().(*[]byte); ok {
		r.windows.current.buf = *buf
	}
	err = r.run(context.Background())
	r.closeFiles()
	scratch.Put(&r.windows.current.buf)
	return *got, err
}

func patch(t testing.TB, fs *crashfs.FS, name string, off int64, change func(b []byte)) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, min(4096, st.Size()-off))
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	change(b)
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func walFiles(t testing.TB, fs *crashfs.FS) []string {
	t.Helper()
	names, err := fs.List("/data/wal")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, name := range names {
		if strings.HasSuffix(name, fileSuffix) {
			files = append(files, "/data/wal/"+name)
		}
	}
	return files
}

// TestEveryFlippedBitIsFoundOrHarmless flips each bit that means something, and some of the zeros around them. Either everything comes
// back as it was, or the damage is reported and what is missing is what the report names.
func TestEveryFlippedBitIsFoundOrHarmless(t *testing.T) {
	t.Parallel()
	fs := exampleWal(t, Synced)
	want, err := recoverOnly(fs, 0, nil)
	if err != nil || len(want) != 8 {
		t.Fatalf("%d entries, %v", len(want), err)
	}
	for i, name := range walFiles(t, fs) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			flipEveryBit(t, fs.CrashImageKeeping(nil, 100), name, want)
		})
	}
}

// flipEveryBit goes through the blocks of one file of exampleWal: header, two groups, mark, and what was never written.
func flipEveryBit(t *testing.T, fs *crashfs.FS, name string, want []replayed) {
	found, harmless, named := 0, 0, 0
	for i, used := range []int{fileHeaderBytes, 280, 280, groupHeaderBytes, 8} {
		block := int64(i) * minBlockBytes
		for at := 0; at < used+200; at++ {
			for bit := range 8 {
				if at >= used && (at*8+bit)%61 != 0 {
					continue // zeros
				}
				flip := func(b []byte) { b[at] ^= 1 << bit }
				patch(t, fs, name, block, flip)
				where := fmt.Sprintf("%s byte %d bit %d", name, block+int64(at), bit)
				var damage []*CorruptError
				got, err := recoverOnly(fs, 0, func(e *CorruptError) error { damage = append(damage, e); return nil })
				if err != nil {
					t.Fatalf("%s: %v", where, err)
				}
				checkDamage(t, where, want, got, damage)
				if len(damage) == 0 {
					harmless++
				} else {
					found++
					d := damage[0]
					if len(d.Runs) > 0 {
						named++
					}
					if off := block + int64(at); d.File != name || d.Offset > off || d.Offset+d.Length <= off {
						t.Fatalf("%s: the report names %s, %d bytes at %d", where, d.File, d.Length, d.Offset)
					}
					var c *CorruptError
					if _, err := recoverOnly(fs, 0, nil); bit == 0 && !errors.As(err, &c) {
						t.Fatalf("%s: without OnDamage: %v, want a CorruptError", where, err)
					}
				}
				patch(t, fs, name, block, flip)
			}
		}
	}
	// Every bit of headers, tables and entries must have been found, but for the last mark, which proves nothing that is not proven.
	if least := 8 * (fileHeaderBytes + 2*(groupHeaderBytes+2*runBytes+40)); found < least || harmless == 0 || named == 0 {
		t.Fatalf("%d found, want %d; %d of them named, %d harmless", found, least, named, harmless)
	}
}

// checkDamage requires that what is missing from got is named by damage, and that the rest is as it was.
func checkDamage(t *testing.T, where string, want, got []replayed, damage []*CorruptError) {
	t.Helper()
	i := 0
	for _, w := range want {
		if i < len(got) && got[i].data == w.data && got[i].seq == w.seq {
			i++
			continue
		}
		named := slices.ContainsFunc(damage, func(e *CorruptError) bool {
			if w.seq < e.First || w.seq > e.Last {
				return false
			}
			return len(e.Runs) == 0 || slices.ContainsFunc(e.Runs, func(r DamagedRun) bool {
				return r.Partition == w.e.Partition && r.FirstOffset == w.e.FirstOffset && r.Kind == w.e.Kind
			})
		})
		if !named {
			t.Fatalf("%s: %q of group %d is missing and not named by %v", where, w.data, w.seq, damage)
		}
	}
	if i != len(got) {
		t.Fatalf("%s: a stranger came back: %v", where, got[i])
	}
}

// TestDamagedEntryNamesItsPartitionAndSparesTheOthers is the example of the package's promise.
func TestDamagedEntryNamesItsPartitionAndSparesTheOthers(t *testing.T) {
	t.Parallel()
	fs := exampleWal(t, Synced)
	name := walFiles(t, fs)[0]
	patch(t, fs, name, minBlockBytes, func(b []byte) { b[strings.Index(string(b), "the other")] = 'T' })
	var damage []*CorruptError
	cfg := smallConfig(fs)
	cfg.OnDamage = func(e *CorruptError) error { damage = append(damage, e); return nil }
	got, replay := collect()
	l := mustOpen(t, cfg, 0, replay)
	put(t, l, entryOf(0, "goes on"))
	mustClose(t, l)
	if len(*got) != 7 || (*got)[0].data != "round 0 group 0 entry one" {
		t.Fatalf("replayed %v", *got)
	}
	if len(damage) != 1 || len(damage[0].Runs) != 1 {
		t.Fatalf("reported %v", damage)
	}
	run := damage[0].Runs[0]
	if run.Partition != (base.TopicIDPartition{ID: testPartition.ID, Partition: 8}) || run.FirstOffset != 100 || run.Kind != Batches {
		t.Fatalf("the report names %+v", run)
	}
	if text := damage[0].Error(); !strings.Contains(text, name) || !strings.Contains(text, run.Partition.String()) {
		t.Fatalf("the report reads %q", text)
	}
	// The damage is found again, and is forgotten once the group is released.
	if _, err := recoverOnly(fs, 0, nil); err == nil {
		t.Fatal("the damage was not found again")
	}
	if got, err := recoverOnly(fs, 2, nil); err != nil || len(got) != 7 {
		t.Fatalf("from group 2: %d entries, %v", len(got), err)
	}
}

// TestShorterFileIsFound cuts each file at every sector.
func TestShorterFileIsFound(t *testing.T) {
	t.Parallel()
	whole := exampleWal(t, Synced)
	for cut := int64(minBlockBytes); cut < minFileBytes; cut += 512 {
		for i := range 2 {
			fs := whole.CrashImageKeeping(nil, 100)
			if err := fs.Truncate(walFiles(t, fs)[i], cut); err != nil {
				t.Fatal(err)
			}
			var c *CorruptError
			if _, err := recoverOnly(fs, 0, nil); !errors.As(err, &c) {
				t.Fatalf("file %d cut at %d: %v, want a CorruptError", i, cut, err)
			}
		}
	}
}

func TestMissingAndForeignFilesAreFound(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, fs *crashfs.FS, name string, data []byte) {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for name, break_ := range map[string]func(t *testing.T, fs *crashfs.FS){
		"the first file is missing": func(t *testing.T, fs *crashfs.FS) { fs.Remove("/data/wal/00000000000000000001.wal") },
		"the first file is empty":   func(t *testing.T, fs *crashfs.FS) { fs.Truncate("/data/wal/00000000000000000001.wal", 0) },
		"a file of another program": func(t *testing.T, fs *crashfs.FS) {
			write(t, fs, "/data/wal/00000000000000000009.wal", []byte(strings.Repeat("not ours", 2000)))
		},
		"a copied file": func(t *testing.T, fs *crashfs.FS) {
			fs.Rename("/data/wal/00000000000000000002.wal", "/data/wal/00000000000000000001.wal")
		},
		"a name that is no number": func(t *testing.T, fs *crashfs.FS) { write(t, fs, "/data/wal/one.wal", nil) },
		"a newer version": func(t *testing.T, fs *crashfs.FS) {
			b := make([]byte, minFileBytes)
			h := fileHeader{block: minBlockBytes, number: 3, salt: 1, first: 10, size: minFileBytes}
			h.encode(b)
			b[8] = formatVersion + 1
			le.PutUint32(b[68:], crcOf(b[:68]))
			write(t, fs, "/data/wal/00000000000000000003.wal", b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := exampleWal(t, Synced)
			break_(t, fs)
			got, err := recoverOnly(fs, 0, nil)
			if err == nil {
				t.Fatalf("no error, replayed %v", got)
			}
		})
	}
}

// TestANewestFileThatIsLostIsFound loses the file of the last life: there is no file after it that tells of it.
func TestANewestFileThatIsLostIsFound(t *testing.T) {
	t.Parallel()
	zero := func(t *testing.T, fs *crashfs.FS, name string, bytes int64) {
		for at := int64(0); at < bytes; at += minBlockBytes {
			patch(t, fs, name, at, func(b []byte) { clear(b) })
		}
	}
	for what, lose := range map[string]func(t *testing.T, fs *crashfs.FS, name string){
		"zeros":                  func(t *testing.T, fs *crashfs.FS, name string) { zero(t, fs, name, minFileBytes) },
		"header and first group": func(t *testing.T, fs *crashfs.FS, name string) { zero(t, fs, name, 2*minBlockBytes) },
		"as it was in an earlier life": func(t *testing.T, fs *crashfs.FS, name string) {
			zero(t, fs, name, minFileBytes)
			patch(t, fs, name, 0, func(b []byte) {
				fileHeader{block: minBlockBytes, number: 1, salt: 1, first: 1, size: minFileBytes}.encode(b)
			})
		},
		"removed":  func(_ *testing.T, fs *crashfs.FS, name string) { fs.Remove(name) },
		"cut to 0": func(_ *testing.T, fs *crashfs.FS, name string) { fs.Truncate(name, 0) },
		"not ours": func(t *testing.T, fs *crashfs.FS, name string) {
			zero(t, fs, name, minFileBytes)
			patch(t, fs, name, 0, func(b []byte) { b[7] = 1 })
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, mode := range []AckMode{Synced, UnsafeWritten} {
				fs := exampleWal(t, mode)
				if _, err := recoverOnly(fs, 0, nil); err != nil {
					t.Fatal(err)
				}
				files := walFiles(t, fs)
				lose(t, fs, files[len(files)-1])
				var c *CorruptError
				if _, err := recoverOnly(fs, 0, nil); !errors.As(err, &c) || c.File != files[len(files)-1] {
					t.Fatalf("%v, want a CorruptError of %s", err, files[len(files)-1])
				}
				// Whoever gives it up goes on: no number of a lost group is given again, though some were released, and the next
				// start finds no other damage.
				const lost = 6
				cfg := smallConfig(fs)
				cfg.OnDamage = func(*CorruptError) error { return nil }
				same := func(e *CorruptError) error {
					if e.File == c.File && e.First == c.First {
						return nil
					}
					return e
				}
				for _, from := range []Sequence{2, lost} {
					image := fs.CrashImageKeeping(nil, 100)
					cfg.FS = image
					l := mustOpen(t, cfg, from, nil)
					if seq := put(t, l, entryOf(0, "goes on")); seq <= lost {
						t.Fatalf("the next group is %d", seq)
					}
					mustClose(t, l)
					got, err := recoverOnly(image, from, same)
					if err != nil || len(got) == 0 || got[len(got)-1].data != "goes on" {
						t.Fatalf("from group %d: replayed %v, %v", from, got, err)
					}
				}
			}
		})
	}
}

// TestALostEndIsFound loses the newest groups, from each of them on, once a mark has said that they were durable.
func TestALostEndIsFound(t *testing.T) {
	t.Parallel()
	for _, mode := range []AckMode{Synced, UnsafeWritten} {
		fs := newFS(t)
		cfg := smallConfig(fs)
		cfg.Mode = mode
		l := mustOpen(t, cfg, 0, nil)
		for i := range 5 {
			put(t, l, entryOf(i, fmt.Sprint(i)))
		}
		mustClose(t, l)
		name := walFiles(t, fs)[0]
		for lost := Sequence(5); lost > 0; lost-- {
			patch(t, fs, name, int64(lost)*minBlockBytes, func(b []byte) { clear(b) })
			var damage []*CorruptError
			got, err := recoverOnly(fs, 0, func(e *CorruptError) error { damage = append(damage, e); return nil })
			if err != nil || len(got) != int(lost)-1 {
				t.Fatalf("%d entries came back, %v", len(got), err)
			}
			if len(damage) != 1 || damage[0].First != lost || damage[0].Last != 5 || damage[0].Offset+damage[0].Length != 6*minBlockBytes {
				t.Fatalf("without the groups from %d on: %v", lost, damage)
			}
			cfg.FS, cfg.OnDamage = fs.CrashImageKeeping(nil, 100), func(*CorruptError) error { return nil }
			l := mustOpen(t, cfg, 0, nil)
			if seq := put(t, l, entryOf(9, "goes on")); seq != 6 {
				t.Fatalf("the next group is %d", seq)
			}
			mustClose(t, l)
		}
	}
}

// TestTheCopyOfTheNewestHeaderIsNotNeeded loses it, as in a wal that an older program has written.
func TestTheCopyOfTheNewestHeaderIsNotNeeded(t *testing.T) {
	t.Parallel()
	for what, lose := range map[string]func(t *testing.T, fs *crashfs.FS, name string){
		"removed":  func(_ *testing.T, fs *crashfs.FS, name string) { fs.Remove(name) },
		"cut to 0": func(_ *testing.T, fs *crashfs.FS, name string) { fs.Truncate(name, 0) },
		"torn":     func(t *testing.T, fs *crashfs.FS, name string) { patch(t, fs, name, 0, func(b []byte) { b[20]++ }) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			fs := exampleWal(t, Synced)
			lose(t, fs, "/data/wal/newest")
			got, replay := collect()
			mustClose(t, mustOpen(t, smallConfig(fs), 0, replay))
			if len(*got) != 8 {
				t.Fatalf("%d entries", len(*got))
			}
			files := walFiles(t, fs)
			fs.Remove(files[len(files)-1])
			if _, err := recoverOnly(fs, 0, nil); err == nil {
				t.Fatal("it was not made anew")
			}
		})
	}
}

// TestTornEndIsCutAndNeverComesBack damages the newest group before anything proved it durable.
func TestTornEndIsCutAndNeverComesBack(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	l := mustOpen(t, smallConfig(fs), 0, nil)
	put(t, l, entryOf(0, "a"))
	put(t, l, entryOf(1, "b"))
	image := fs.CrashImageKeeping(nil, 0) // before the mark
	mustClose(t, l)

	name := walFiles(t, image)[0]
	var saved []byte
	patch(t, image, name, 2*minBlockBytes, func(b []byte) { saved = slices.Clone(b); b[groupHeaderBytes] ^= 1 })
	got, replay := collect()
	l = mustOpen(t, smallConfig(image), 0, replay)
	checkReplay(t, *got, []string{"a"})
	put(t, l, entryOf(1, "c"))
	mustClose(t, l)

	// Even if the cut group were whole again, it stays cut.
	patch(t, image, name, 2*minBlockBytes, func(b []byte) { copy(b, saved) })
	got, replay = collect()
	mustClose(t, mustOpen(t, smallConfig(image), 0, replay))
	checkReplay(t, *got, []string{"a", "c"})
}

// TestUnsyncedHoleIsTorn cuts at a hole that no synced mark or header says was durable, which only unsafe modes leave.
func TestUnsyncedHoleIsTorn(t *testing.T) {
	t.Parallel()
	for _, mode := range []AckMode{Synced, UnsafeWritten} {
		fs := newFS(t)
		cfg := smallConfig(fs)
		cfg.Mode = mode
		l := mustOpen(t, cfg, 0, nil)
		for i := range 4 {
			put(t, l, entryOf(i, fmt.Sprint(i)))
		}
		image := fs.CrashImageKeeping(nil, 100)
		mustClose(t, l)
		patch(t, image, walFiles(t, image)[0], 2*minBlockBytes, func(b []byte) { clear(b) })
		got, err := recoverOnly(image, 0, nil)
		var c *CorruptError
		if mode == Synced && !errors.As(err, &c) {
			t.Fatalf("synced: %v, want a CorruptError", err)
		}
		if mode == UnsafeWritten && (err != nil || len(got) != 1) {
			t.Fatalf("unsafe: %d entries, %v; want the one before the hole", len(got), err)
		}
	}
}

// TestUnsyncedWalMayEndBeforeTheCheckpoint loses the end of a wal that was not synced, which a checkpoint has made needless.
func TestUnsyncedWalMayEndBeforeTheCheckpoint(t *testing.T) {
	t.Parallel()
	for _, mode := range []AckMode{Synced, UnsafeWritten} {
		fs := newFS(t)
		cfg := smallConfig(fs)
		cfg.Mode = mode
		l := mustOpen(t, cfg, 0, nil)
		for i := range 5 {
			put(t, l, entryOf(i, fmt.Sprint(i)))
		}
		image := fs.CrashImageKeeping(nil, 100)
		mustClose(t, l)
		for at := int64(3); at < 7; at++ { // all but two groups
			patch(t, image, walFiles(t, image)[0], at*minBlockBytes, func(b []byte) { clear(b) })
		}
		cfg.FS, cfg.Mode = image, Synced
		l, err := Open(t.Context(), cfg, 5, func(Sequence, Entry) error { return nil })
		if mode == Synced {
			if !errors.Is(err, ErrBeyond) {
				t.Fatalf("synced: %v, want ErrBeyond", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if seq := put(t, l, entryOf(0, "next")); seq != 5 {
			t.Fatalf("the next group is %d, want 5", seq)
		}
		mustClose(t, l)
		if got, err := recoverOnly(image, 5, nil); err != nil || len(got) != 1 {
			t.Fatalf("%d entries, %v", len(got), err)
		}
	}
}

// TestForgedGroupsInRecordsAreNotTaken lets a client write what looks like groups of the very file, but for the salt.
func TestForgedGroupsInRecordsAreNotTaken(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	l := mustOpen(t, smallConfig(fs), 0, nil)
	forged := make([]byte, 3*minBlockBytes)
	for at := minBlockBytes - groupHeaderBytes; at+groupHeaderBytes <= len(forged); at += minBlockBytes {
		pos := int64(minBlockBytes + groupHeaderBytes + at)
		groupHeader{number: 1, seq: Sequence(pos / minBlockBytes), pos: pos, durable: Sequence(pos/minBlockBytes - 1)}.encode(forged[at:])
	}
	put(t, l, entryOf(0, string(forged)))
	image := fs.CrashImageKeeping(nil, 0)
	mustClose(t, l)
	patch(t, image, walFiles(t, image)[0], minBlockBytes, func(b []byte) { b[20] ^= 1 })
	if got, err := recoverOnly(image, 0, nil); err != nil || len(got) != 0 {
		t.Fatalf("replayed %d entries, %v; want a cut", len(got), err)
	}
}

// FuzzOpen opens a wal of two files with arbitrary bytes behind some header, and requires that it neither panics nor hangs.
func FuzzOpen(f *testing.F) {
	fs := exampleWal(f, Synced)
	for _, name := range walFiles(f, fs) {
		v, err := fs.Open(name)
		if err != nil {
			f.Fatal(err)
		}
		b := make([]byte, 5*minBlockBytes)
		if _, err := v.ReadAt(b, 0); err != nil {
			f.Fatal(err)
		}
		v.Close()
		f.Add(b, uint16(4096), uint64(1))
		f.Add(b[:3*minBlockBytes+100], uint16(0), uint64(3))
	}
	f.Add([]byte{}, uint16(0), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, split uint16, from uint64) {
		fs := newFS(t)
		if err := fs.MkdirAll("/data/wal", 0o755); err != nil {
			t.Fatal(err)
		}
		cut := min(int(split)*16, len(data))
		for i, part := range [][]byte{data[:cut], data[cut:]} {
			v, err := fs.Create(fmt.Sprintf("/data/wal/%020d.wal", i+1), vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			fixCRCs(part)
			if _, err := v.Write(part); err != nil {
				t.Fatal(err)
			}
			v.Close()
		}
		first, _ := recoverOnly(fs, Sequence(from), func(*CorruptError) error { return nil })
		again, _ := recoverOnly(fs, Sequence(from), func(*CorruptError) error { return nil })
		if len(first) != len(again) {
			t.Fatalf("two recoveries replayed %d and %d entries", len(first), len(again))
		}
	})
}

// fixCRCs makes the checksums of headers right, so that the fuzzer gets past them.
func fixCRCs(b []byte) {
	if len(b) >= fileHeaderBytes {
		le.PutUint32(b[68:], crcOf(b[:68]))
	}
	for at := minBlockBytes; at+groupHeaderBytes <= len(b); at += minBlockBytes {
		g := b[at:]
		if body, runs := le.Uint64(g[64:]), uint64(le.Uint32(g[72:])); body < 1<<20 && runs < 1<<10 && int(groupHeaderBytes+body+runs*runBytes) <= len(g) {
			le.PutUint32(g[76:], crcOf(g[groupHeaderBytes+body:][:runs*runBytes]))
		}
		le.PutUint32(g[92:], crcOf(g[:92]))
	}
}

// TestGoldenBytes holds the format that docs/formats/wal.md describes.
func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	b := make([]byte, fileHeaderBytes+groupHeaderBytes+runBytes)
	fileHeader{block: 4096, number: 3, salt: 0x1122334455667788, first: 42, prev: 2, prevEnd: 0x9000, size: 4 << 20}.encode(b)
	table := b[fileHeaderBytes+groupHeaderBytes:]
	run{
		kind: Batches, partition: base.TopicIDPartition{ID: base.TopicID([]byte("0123456789abcdef")), Partition: 7}, first: 100, last: 104,
		at: 96, length: 5, crc: crcOf([]byte("hello")),
	}.encode(table)
	groupHeader{
		salt: 0x1122334455667788, number: 3, seq: 42, pos: 4096, durable: 41, durFile: 2, durEnd: 0x9000, body: 5, runs: 1, tableCRC: crcOf(table),
	}.encode(b[fileHeaderBytes:])
	for _, part := range []struct {
		name, want string
		got        []byte
	}{
		{"file header", goldenFileHeader, b[:fileHeaderBytes]},
		{"group header", goldenGroupHeader, b[fileHeaderBytes : fileHeaderBytes+groupHeaderBytes]},
		{"run", goldenRun, table},
	} {
		if got := hex.EncodeToString(part.got); got != strings.ReplaceAll(part.want, " ", "") {
			t.Errorf("%s is\n%s, want\n%s", part.name, got, part.want)
		}
	}
}

// TestVersion1IsRead opens what was written before there were entries of kind Placed.
func TestVersion1IsRead(t *testing.T) {
	t.Parallel()
	b, err := hex.DecodeString(strings.ReplaceAll(goldenFileHeader1, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	h, err := decodeFileHeader(b)
	if err != nil || h.number != 3 || h.first != 42 || h.prevEnd != 0x9000 {
		t.Errorf("%+v, %v", h, err)
	}
}

const (
	goldenFileHeader = "4f54544c4157414c 02000000 00100000 0300000000000000 8877665544332211 2a00000000000000 0200000000000000" +
		"0090000000000000 0000400000000000 00000000 82c453c3"
	goldenFileHeader1 = "4f54544c4157414c 01000000 00100000 0300000000000000 8877665544332211 2a00000000000000 0200000000000000" +
		"0090000000000000 0000400000000000 00000000 6f289f5d"
	goldenGroupHeader = "4f545747 0100 0000 8877665544332211 0300000000000000 2a00000000000000 0010000000000000 2900000000000000" +
		"0200000000000000 0090000000000000 0500000000000000 01000000 4989236a 0000000000000000 00000000 99517ee9"
	goldenRun = "01000000 07000000 30313233343536373839616263646566 6400000000000000 6800000000000000 6000000000000000" +
		"0500000000000000 4cbb719a 00000000"
)
