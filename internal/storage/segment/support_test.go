package segment

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// stream makes batches one after the other, the same ones for the same seed.
type stream struct {
	rng  *rand.Rand
	next base.Offset
	time int64
	// payload bounds the random value of each record in bytes, records the records of a batch.
	payload, records int
}

func newStream(seed uint64, from base.Offset) *stream {
	return &stream{rng: rand.New(rand.NewPCG(seed, 17)), next: from, time: 1_700_000_000_000, payload: 900, records: 5}
}

func (g *stream) batch() ([]byte, BatchMeta) {
	b := record.NewBuilder(record.BuilderOptions{LeaderEpoch: 3})
	for range 1 + g.rng.IntN(g.records) {
		g.time += int64(g.rng.IntN(20)) - 5 // timestamps may step back
		value := make([]byte, g.rng.IntN(g.payload+1))
		for i := range value {
			value[i] = byte(g.rng.Uint32())
		}
		b.Append(g.time, fmt.Appendf(nil, "key-%d", g.rng.IntN(100)), value)
	}
	raw := b.Build(g.next)
	h, err := record.ParseHeader(raw)
	if err != nil {
		panic(err)
	}
	g.next = h.LastOffset() + 1
	return raw, metaOf(h)
}

// batches returns at least n bytes of whole batches.
func (g *stream) batches(n int) (data []byte, metas []BatchMeta) {
	for {
		raw, m := g.batch()
		data, metas = append(data, raw...), append(metas, m)
		if len(data) >= n {
			return data, metas
		}
	}
}

func metaOf(h record.Header) BatchMeta {
	return BatchMeta{
		FirstOffset: h.BaseOffset, LastOffset: h.LastOffset(), Size: int32(h.Size()),
		MaxTimestamp: h.MaxTimestamp, OffsetOfMax: h.LastOffset(),
	}
}

// memory returns options for a segment in memory and its file system.
func memory(t testing.TB, baseOffset base.Offset) Options {
	t.Helper()
	return in(t, disk.Wrap(vfs.NewMem()), "/topics/t-0", baseOffset)
}

func in(t testing.TB, fs disk.FS, dir string, baseOffset base.Offset) Options {
	t.Helper()
	must(t, fs.MkdirAll(dir, 0o755))
	files := NewFileCache(8)
	t.Cleanup(func() { must(t, files.Close()) })
	return Options{FS: fs, Dir: dir, Base: baseOffset, Files: files, Report: func(d *DamageError) {
		t.Errorf("damage reported: %v", d)
	}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sealed writes a sealed segment of at least size bytes and returns its state and bytes.
func sealed(t testing.TB, o Options, seed uint64, size int) (State, []byte, []BatchMeta) {
	t.Helper()
	s := Create(o)
	g := newStream(seed, o.Base)
	data, metas := g.batches(size)
	must(t, s.Write(data, metas))
	must(t, s.Seal())
	st := s.State()
	must(t, s.Close())
	return st, data, metas
}

func readFile(t testing.TB, o Options, suffix string) []byte {
	t.Helper()
	f, err := o.FS.Open(o.FS.PathJoin(o.Dir, FileName(o.Base, suffix)))
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	b := make([]byte, info.Size())
	must(t, readFull(f, b, 0))
	return b
}

func writeFile(t testing.TB, o Options, suffix string, b []byte) {
	t.Helper()
	f, err := o.FS.Create(o.FS.PathJoin(o.Dir, FileName(o.Base, suffix)), vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(bytes.Clone(b))
	must(t, err)
	must(t, f.Close())
}

func readAll(t testing.TB, s *Segment) []byte {
	t.Helper()
	b := make([]byte, s.Size())
	if len(b) == 0 {
		return b
	}
	n, err := s.ReadAt(b, 0)
	if err != nil || n != len(b) {
		t.Fatalf("ReadAt of all %d bytes = %d, %v", len(b), n, err)
	}
	return b
}
