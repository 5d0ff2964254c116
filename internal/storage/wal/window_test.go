package wal

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// firstFails has every place of a file behind its first group, up to the last one, fail when it is read for the first time.
type firstFails struct {
	disk.FS
	last int64 // where the last group ends at most
	mu   sync.Mutex
	seen map[int64]bool
}

func (f *firstFails) OpenDirect(name string, o disk.DirectOptions) (disk.DirectFile, error) {
	file, err := f.FS.OpenDirect(name, o)
	return firstFailsFile{file, f}, err
}

type firstFailsFile struct {
	disk.DirectFile
	of *firstFails
}

func (f firstFailsFile) ReadAt(b []byte, off int64) (int, error) {
	f.of.mu.Lock()
	first := off > minBlockBytes && off < f.of.last && !f.of.seen[off]
	f.of.seen[off] = true
	f.of.mu.Unlock()
	if first {
		return 0, errors.New("the first read fails")
	}
	return f.DirectFile.ReadAt(b, off)
}

// What a group needs is read while the one before it is replayed, and if that fails it is read once more.
func TestGroupsAreReadAhead(t *testing.T) {
	const fileBytes = 8 << 20
	fs := &firstFails{FS: newFS(t), seen: map[int64]bool{}}
	cfg := Config{FS: fs.FS, Dir: "/data/wal", MaxBytes: 5 * fileBytes, FileBytes: fileBytes, FirstFileBytes: fileBytes, GroupBytes: 2 << 20}
	l := mustOpen(t, cfg, 1, nil)
	var want []string
	for i := range 6 {
		data := strings.Repeat(string(rune('a'+i)), windowBytes/4*(i+1)-1000) // shorter than a window, and longer
		want = append(want, data)
		put(t, l, entryOf(i, data))
		fs.last += int64(len(data))
	}
	mustClose(t, l)

	got, replay := collect()
	cfg.FS = fs
	l = mustOpen(t, cfg, 1, replay)
	mustClose(t, l)
	if len(*got) != len(want) {
		t.Fatalf("%d entries of %d", len(*got), len(want))
	}
	for i, e := range *got {
		if e.data != want[i] {
			t.Errorf("entry %d has %d bytes, want %d of %q", i, len(e.data), len(want[i]), want[i][0])
		}
	}
	if len(fs.seen) < 5 {
		t.Errorf("%d places were read: the test wants more", len(fs.seen))
	}
}
