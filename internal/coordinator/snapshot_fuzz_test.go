package coordinator

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
)

// noted is a state machine that keeps what it replays.
type noted struct{ records []Record }

func (m *noted) Replay(r Record) error {
	m.records = append(m.records, r)
	return nil
}

func (m *noted) Loaded(*Effects)         {}
func (m *noted) Elapsed(Timer, *Effects) {}
func (m *noted) Snapshot(emit func(key, value []byte)) {
	for _, r := range m.records {
		emit(r.Key, r.Value)
	}
}

// FuzzSnapshot: a file of any content is refused, or read and written again without a change in what it says. A body that is not what
// its footer's checksum says is never replayed.
func FuzzSnapshot(f *testing.F) {
	id := base.TopicIDPartition{ID: base.TopicID{1}, Partition: 2}
	write := func(tb testing.TB, m *noted) []byte {
		s := Snapshots{FS: vfs.NewMem(), Dir: "/s"}
		if err := s.write("/s/x", footer{id: id, offset: 7}, m); err != nil {
			tb.Fatal(err)
		}
		return readAll(tb, s.FS)
	}
	f.Add(write(f, &noted{}))
	f.Add(write(f, &noted{records: []Record{{Key: []byte("k"), Value: []byte("v")}, {Key: []byte("l")}}}))
	f.Add(footer{id: id, offset: 7}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s := Snapshots{FS: vfs.NewMem(), Dir: "/s"}
		writeAll(t, s.FS, b)
		var m noted
		at, err := s.read("/s/x", id, 0, 100, &m)
		if errors.Is(err, errSnapshot) && len(m.records) > 0 {
			t.Fatalf("%d records of an unusable snapshot were replayed", len(m.records))
		}
		if err != nil {
			return
		}
		if at > 100 {
			t.Fatalf("offset %d is not in the log", at)
		}
		again := Snapshots{FS: vfs.NewMem(), Dir: "/s"}
		writeAll(t, again.FS, write(t, &m))
		var n noted
		if _, err := again.read("/s/x", id, 0, 100, &n); err != nil {
			t.Fatal(err)
		}
		if len(n.records) != len(m.records) {
			t.Fatalf("%d records, want %d", len(n.records), len(m.records))
		}
		for i := range n.records {
			if string(n.records[i].Key) != string(m.records[i].Key) || string(n.records[i].Value) != string(m.records[i].Value) {
				t.Fatalf("record %d differs", i)
			}
		}
	})
}

func readAll(tb testing.TB, fs vfs.FS) []byte {
	tb.Helper()
	file, err := fs.Open("/s/x")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := file.ReadAt(b, 0); err != nil && len(b) > 0 {
		tb.Fatal(err)
	}
	return b
}

func writeAll(tb testing.TB, fs vfs.FS, b []byte) {
	tb.Helper()
	if err := fs.MkdirAll("/s", 0o755); err != nil {
		tb.Fatal(err)
	}
	file, err := fs.Create("/s/x", vfs.WriteCategoryUnspecified)
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(append([]byte(nil), b...)); err != nil {
		tb.Fatal(err)
	}
}
