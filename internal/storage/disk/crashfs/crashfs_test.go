package crashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

func rng(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 0)) }

func create(t testing.TB, fs vfs.FS, name string, data []byte) vfs.File {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func exists(fs vfs.FS, name string) bool {
	_, err := fs.Stat(name)
	return err == nil
}

func TestSyncedBytesAndEntriesAlwaysSurvive(t *testing.T) {
	t.Parallel()
	fs := New()
	must(t, fs.MkdirAll("/a/b", 0o755))
	must(t, disk.SyncDir(fs, "/"))
	must(t, disk.SyncDir(fs, "/a"))
	data := bytes.Repeat([]byte("synced"), 5000)
	f := create(t, fs, "/a/b/f", data)
	must(t, f.Sync())
	must(t, disk.SyncDir(fs, "/a/b"))
	for seed := range 100 {
		if got := content(t, fs.CrashImage(rng(seed)), "/a/b/f"); !bytes.Equal(got, data) {
			t.Fatalf("seed %d: synced data changed", seed)
		}
	}
}

func TestUnsyncedSectorsTearAndAreNeverTornWithin(t *testing.T) {
	t.Parallel()
	fs := New()
	f := create(t, fs, "/f", bytes.Repeat([]byte{'o'}, 8*sectorBytes))
	must(t, f.Sync())
	must(t, disk.SyncDir(fs, "/"))
	for _, c := range []byte{'1', '2'} { // two versions, neither synced
		_, err := f.WriteAt(bytes.Repeat([]byte{c}, 12*sectorBytes), 0)
		must(t, err)
	}
	seen := map[string]bool{}
	torn := false
	for seed := range 300 {
		got := content(t, fs.CrashImage(rng(seed)), "/f")
		if len(got) < 8*sectorBytes || len(got) > 12*sectorBytes {
			t.Fatalf("seed %d: size %d", seed, len(got))
		}
		first := got[0]
		for at := 0; at < len(got); at += sectorBytes {
			sector := got[at:min(at+sectorBytes, len(got))]
			if strings.Trim(string(sector), string(sector[:1])) != "" {
				t.Fatalf("seed %d: sector at %d is torn", seed, at)
			}
			seen[string(sector[:1])] = true
			torn = torn || sector[0] != first
		}
	}
	for _, c := range []string{"o", "1", "2", "\x00"} {
		if !seen[c] {
			t.Errorf("no image kept %q", c)
		}
	}
	if !torn {
		t.Error("no image was torn")
	}
}

func TestUnsyncedChangesOfFoldersMaySurviveEachOnItsOwn(t *testing.T) {
	t.Parallel()
	fs := New()
	for _, name := range []string{"/kept", "/removed", "/old"} {
		create(t, fs, name, []byte(name))
	}
	must(t, disk.SyncDir(fs, "/"))
	create(t, fs, "/new", nil)
	must(t, fs.Remove("/removed"))
	must(t, fs.Rename("/old", "/renamed"))
	seen := map[string]int{}
	for seed := range 200 {
		image := fs.CrashImage(rng(seed))
		if !exists(image, "/kept") {
			t.Fatalf("seed %d: a synced entry is gone", seed)
		}
		if exists(image, "/old") == exists(image, "/renamed") {
			t.Fatalf("seed %d: a rename was torn", seed)
		}
		seen[fmt.Sprint(exists(image, "/new"), exists(image, "/removed"), exists(image, "/old"))]++
	}
	if len(seen) != 8 {
		t.Errorf("images: %v, want all 8 combinations", seen)
	}
	must(t, disk.SyncDir(fs, "/"))
	image := fs.CrashImageKeeping(nil, 0)
	if !exists(image, "/new") || exists(image, "/removed") || !exists(image, "/renamed") {
		t.Error("synced changes did not survive")
	}
}

func TestRenameReplacesAtomically(t *testing.T) {
	t.Parallel()
	fs := New()
	must(t, create(t, fs, "/c", []byte("old")).Sync())
	must(t, disk.SyncDir(fs, "/"))
	must(t, create(t, fs, "/c.tmp", []byte("new")).Sync())
	must(t, fs.Rename("/c.tmp", "/c"))
	for seed := range 50 {
		if got := string(content(t, fs.CrashImage(rng(seed)), "/c")); got != "old" && got != "new" {
			t.Fatalf("seed %d: content %q", seed, got)
		}
	}
}

func TestImagesDoNotShareLaterWrites(t *testing.T) {
	t.Parallel()
	fs := New()
	f := create(t, fs, "/f", bytes.Repeat([]byte{'a'}, 3*pageBytes))
	must(t, f.Sync())
	must(t, disk.SyncDir(fs, "/"))
	image := fs.CrashImageKeeping(nil, 0)
	_, err := f.WriteAt([]byte("bbbb"), pageBytes)
	must(t, err)
	g, err := image.OpenReadWrite("/f", vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = g.WriteAt([]byte("cccc"), 0)
	must(t, err)
	if got := content(t, fs, "/f"); got[0] != 'a' || got[pageBytes] != 'b' {
		t.Error("the file system sees writes of its image")
	}
	if got := content(t, image, "/f"); got[0] != 'c' || got[pageBytes] != 'a' {
		t.Error("the image sees writes of its file system")
	}
}

func TestTruncateCutsExtendsAndIsAChange(t *testing.T) {
	t.Parallel()
	fs := New()
	f := create(t, fs, "/f", bytes.Repeat([]byte{'a'}, 2*pageBytes))
	must(t, f.Sync())
	must(t, disk.SyncDir(fs, "/"))
	must(t, fs.Truncate("/f", 100))
	must(t, fs.Truncate("/f", pageBytes))
	want := append(bytes.Repeat([]byte{'a'}, 100), make([]byte, pageBytes-100)...)
	if got := content(t, fs, "/f"); !bytes.Equal(got, want) {
		t.Fatal("cut and extended file is wrong")
	}
	if got := content(t, fs.CrashImageKeeping(nil, 0), "/f"); len(got) != 2*pageBytes || got[2*pageBytes-1] != 'a' {
		t.Fatal("an unsynced cut survived")
	}
	must(t, f.Sync())
	if got := content(t, fs.CrashImageKeeping(nil, 0), "/f"); !bytes.Equal(got, want) {
		t.Fatal("a synced cut did not survive")
	}
}

func TestHookSeesASyncedDirectWriteTwice(t *testing.T) {
	t.Parallel()
	fs := New()
	f, err := fs.OpenDirect("/f", disk.DirectOptions{Synced: true, Create: true})
	must(t, err)
	must(t, disk.SyncDir(fs, "/"))
	var ops []string
	var sizes []int
	fs.SetHook(func(op Op) {
		ops = append(ops, op.Kind.String())
		sizes = append(sizes, len(content(t, fs.CrashImageKeeping(nil, 0), "/f")))
	})
	_, err = f.WriteAt(disk.AlignedBuffer(pageBytes, pageBytes), 0)
	must(t, err)
	if fmt.Sprint(ops) != "[write sync]" || fmt.Sprint(sizes) != fmt.Sprint([]int{0, pageBytes}) {
		t.Fatalf("hook saw %v with durable sizes %v", ops, sizes)
	}
	if _, err := f.WriteAt(make([]byte, 100), 0); !errors.Is(err, disk.ErrMisaligned) {
		t.Fatalf("misaligned write: %v", err)
	}
}

func TestFaultsReplaceOperations(t *testing.T) {
	t.Parallel()
	fs := New()
	f := create(t, fs, "/f", []byte("abc"))
	boom := errors.New("boom")
	fs.SetFault(func(Op) error { return boom })
	_, werr := f.WriteAt([]byte("x"), 0)
	_, oerr := fs.Open("/f")
	for what, err := range map[string]error{"write": werr, "open": oerr, "sync": f.Sync(), "rename": fs.Rename("/f", "/g"), "remove": fs.Remove("/f")} {
		if !errors.Is(err, boom) {
			t.Errorf("%s: %v, want boom", what, err)
		}
	}
	fs.SetFault(nil)
	if got := content(t, fs, "/f"); string(got) != "abc" {
		t.Fatalf("content %q after failed operations", got)
	}
}

func TestErrorfsWorksOnTop(t *testing.T) {
	t.Parallel()
	fs := disk.Wrap(errorfs.Wrap(New(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData {
			return syscall.EIO
		}
		return nil
	})))
	f, err := fs.OpenDirect("/f", disk.DirectOptions{Synced: true, Create: true})
	must(t, err)
	if _, err := f.WriteAt(disk.AlignedBuffer(pageBytes, pageBytes), 0); !errors.Is(err, syscall.EIO) {
		t.Fatalf("write: %v, want EIO", err)
	}
}

func TestCapacityEndsWritesWhereItIsFull(t *testing.T) {
	t.Parallel()
	fs := New()
	fs.SetCapacity(2 * pageBytes)
	f := create(t, fs, "/f", nil)
	n, err := f.Write(bytes.Repeat([]byte{1}, 3*pageBytes))
	if n != 2*pageBytes || !disk.IsNoSpace(err) {
		t.Fatalf("wrote %d, %v; want two pages and ENOSPC", n, err)
	}
	if _, err := f.WriteAt([]byte{2}, 0); err != nil {
		t.Fatalf("overwriting needs no room: %v", err)
	}
	must(t, fs.Remove("/f"))
	create(t, fs, "/g", make([]byte, 2*pageBytes))
}

func TestNamespaceBehavesAsAnotherFileSystem(t *testing.T) {
	t.Parallel()
	for name, fs := range map[string]vfs.FS{"crashfs": New(), "memory": vfs.NewMem()} {
		t.Run(name, func(t *testing.T) {
			must(t, fs.MkdirAll("/a/b", 0o755))
			must(t, fs.MkdirAll("/a/b", 0o755))
			create(t, fs, "/a/b/f", []byte("one"))
			must(t, fs.Link("/a/b/f", "/a/g"))
			if err := fs.Link("/a/b/f", "/a/g"); !errors.Is(err, os.ErrExist) {
				t.Errorf("link over a file: %v", err)
			}
			create(t, fs, "/a/b/f", []byte("two")) // a new file
			if got := string(content(t, fs, "/a/g")) + string(content(t, fs, "/a/b/f")); got != "onetwo" {
				t.Errorf("content %q", got)
			}
			for what, err := range map[string]error{
				"remove of what is missing": fs.Remove("/nope"),
				"rename of what is missing": fs.Rename("/nope", "/x"),
				"open in a missing folder":  second(fs.Open("/nope/f")),
				"stat of what is missing":   second(fs.Stat("/a/nope")),
			} {
				if !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: %v, want ErrNotExist", what, err)
				}
			}
			if err := fs.Remove("/a"); err == nil {
				t.Error("a full folder was removed")
			}
			must(t, fs.RemoveAll("/nope"))
			f, err := fs.ReuseForWrite("/a/g", "/a/h", vfs.WriteCategoryUnspecified)
			must(t, err)
			_, err = f.Write([]byte("x"))
			must(t, err)
			if got := string(content(t, fs, "/a/h")); got != "xne" {
				t.Errorf("reused file holds %q", got)
			}
			l, err := fs.Lock("/a/lock")
			must(t, err)
			if _, err := fs.Lock("/a/lock"); err == nil {
				t.Error("locked twice")
			}
			must(t, l.Close())
			l, err = fs.Lock("/a/lock")
			must(t, err)
			must(t, l.Close())
			must(t, fs.RemoveAll("/a"))
			if exists(fs, "/a/b/f") {
				t.Error("RemoveAll left a file")
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// TestImageIsSameForSameSeed is what lets a failing run be replayed.
func TestImageIsSameForSameSeed(t *testing.T) {
	t.Parallel()
	fs := New()
	for i := range 20 {
		create(t, fs, fmt.Sprintf("/f%d", i), bytes.Repeat([]byte{byte(i)}, 3000*i))
	}
	dump := func(image *FS) string {
		var b strings.Builder
		names, _ := image.List("/")
		for _, n := range names {
			fmt.Fprintf(&b, "%s %x\n", n, content(t, image, "/"+n))
		}
		return b.String()
	}
	for seed := range 20 {
		first, second := dump(fs.CrashImage(rng(seed))), dump(fs.CrashImage(rng(seed)))
		if first != second {
			t.Fatalf("seed %d gives two images", seed)
		}
	}
}

func BenchmarkCrashImage(b *testing.B) {
	fs := New()
	for i := range 200 {
		f := create(b, fs, fmt.Sprintf("/f%d", i), bytes.Repeat([]byte{byte(i)}, 1<<20))
		if i%10 != 0 {
			must(b, f.Sync())
		}
	}
	must(b, disk.SyncDir(fs, "/"))
	r := rng(1)
	b.ReportAllocs()
	for b.Loop() {
		fs.CrashImage(r)
	}
}

func TestFragileBlockMayBeDestroyedOnlyWhileItIsRewritten(t *testing.T) {
	t.Parallel()
	fs := New()
	fs.SetFragile(func(path string) bool { return path == "/fragile" })
	block := bytes.Repeat([]byte{'o'}, pageBytes)
	for _, name := range []string{"/fragile", "/f"} {
		create(t, fs, name, block)
		f, err := fs.OpenDirect(name, disk.DirectOptions{})
		must(t, err)
		must(t, f.SyncData())
		must(t, disk.SyncDir(fs, "/"))
		buf := disk.AlignedBuffer(2*pageBytes, pageBytes)
		copy(buf, block)
		if _, err := f.WriteAt(buf[pageBytes:], pageBytes); err != nil {
			t.Fatal(err)
		}
		for seed := range 50 {
			if got := content(t, fs.CrashImage(rng(seed)), name); !bytes.Equal(got[:pageBytes], block) {
				t.Fatalf("%s: a block that was not written changed", name)
			}
		}
		destroyed := func(how string) {
			t.Helper()
			lost := 0
			for seed := range 50 {
				if got := content(t, fs.CrashImage(rng(seed)), name); !bytes.HasPrefix(got, block[:100]) {
					lost++
				}
			}
			if (lost > 0) != (name == "/fragile") {
				t.Fatalf("%s: %s: %d of 50 images lost the block", name, how, lost)
			}
		}
		if _, err := f.WriteAt(buf[:pageBytes], 0); err != nil {
			t.Fatal(err)
		}
		destroyed("the same bytes written again")
		must(t, f.SyncData())
		must(t, fs.Truncate(name, 100))
		destroyed("cut short in the block")
		must(t, f.SyncData())
		must(t, f.TrimRoom())
		destroyed("room given back behind the block's middle")
	}
}

// Room that was taken is of the capacity, and writes that come to it find it when the disk is full.
func TestRoomIsOfTheCapacity(t *testing.T) {
	t.Parallel()
	fs := New()
	f, err := fs.OpenDirect("/f", disk.DirectOptions{Create: true})
	must(t, err)
	must(t, f.Allocate(0, 3*pageBytes))
	if used := fs.UsedBytes(); used != 3*pageBytes {
		t.Errorf("%d bytes are used", used)
	}
	fs.SetCapacity(3 * pageBytes)
	if err := f.Allocate(0, 4*pageBytes); !disk.IsNoSpace(err) {
		t.Errorf("more room than there is: %v", err)
	}
	block := disk.AlignedBuffer(pageBytes, pageBytes)
	block[0] = 1
	if _, err := f.WriteAt(block, pageBytes); err != nil {
		t.Errorf("a write into the room: %v", err)
	}
	must(t, f.TrimRoom())
	if used := fs.UsedBytes(); used != 2*pageBytes {
		t.Errorf("%d bytes are used after the room was given back", used)
	}
	if size, err := f.Size(); err != nil || size != 2*pageBytes {
		t.Errorf("the size is %d, %v", size, err)
	}
}
