package segment

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// model is what a segment should be: its bytes and batches.
type model struct {
	data  []byte
	metas []BatchMeta
	at    []int64 // position of each batch
}

func (m *model) add(data []byte, metas []BatchMeta) {
	pos := int64(len(m.data))
	for _, b := range metas {
		m.at = append(m.at, pos)
		pos += int64(b.Size)
	}
	m.data = append(m.data, data...)
	m.metas = append(m.metas, metas...)
}

// check compares everything that can be asked.
func (m *model) check(t testing.TB, s *Segment, rng *rand.Rand, interval int) {
	t.Helper()
	if s.Size() != int64(len(m.data)) {
		t.Fatalf("Size = %d, want %d", s.Size(), len(m.data))
	}
	for range 6 {
		pos := rng.Int64N(int64(len(m.data)) + 10)
		p := make([]byte, rng.IntN(1+rng.IntN(300_000)))
		n, err := s.ReadAt(p, pos)
		want := m.data[min(pos, int64(len(m.data))):]
		want = want[:min(len(p), len(want))]
		if n != len(want) || !bytes.Equal(p[:n], want) {
			t.Fatalf("ReadAt(%d bytes, %d) = %d, %v: wrong bytes", len(p), pos, n, err)
		}
		if wantErr := n < len(p) || pos >= int64(len(m.data)); errors.Is(err, io.EOF) != wantErr || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("ReadAt(%d bytes, %d) = %d, %v with size %d", len(p), pos, n, err, len(m.data))
		}
	}
	for range 6 {
		if len(m.metas) == 0 {
			break
		}
		i := rng.IntN(len(m.metas))
		off := m.metas[i].FirstOffset + base.Offset(rng.Int64N(int64(m.metas[i].LastOffset-m.metas[i].FirstOffset+1)))
		pos, err := s.Lookup(off)
		must(t, err)
		m.boundary(t, pos, i, interval)
		ts := m.metas[i].MaxTimestamp - rng.Int64N(3)
		pos, err = s.LookupTime(ts)
		must(t, err)
		first := 0
		for m.metas[first].MaxTimestamp < ts {
			first++
		}
		m.boundary(t, pos, first, -1)
	}
	last := base.NoTimestamp
	for _, b := range m.metas {
		last = max(last, b.MaxTimestamp)
	}
	if pos, err := s.LookupTime(last + 1); err != nil || pos != s.Size() {
		t.Fatalf("LookupTime past the end = %d, %v", pos, err)
	}
}

// boundary checks that pos is where a batch starts, at or before batch i, and not further before it than the index interval.
func (m *model) boundary(t testing.TB, pos int64, i, interval int) {
	t.Helper()
	at := -1
	for j, p := range m.at {
		if p == pos {
			at = j
		}
	}
	if at < 0 || at > i {
		t.Fatalf("position %d is no batch at or before batch %d at %d", pos, i, m.at[i])
	}
	if interval < 0 {
		return
	}
	// Kafka makes an entry for the first batch after more than interval bytes, whose last offset must be at most the one sought.
	var largest int64
	for _, b := range m.metas[:i+1] {
		largest = max(largest, int64(b.Size))
	}
	if far := m.at[i] - pos; far > int64(interval)+2*largest {
		t.Fatalf("position %d is %d bytes before batch %d: no index was used", pos, far, i)
	}
}

// TestSegmentAgreesWithAModel writes, syncs, reopens, shrinks, seals and reads at random, in memory and on the real disk.
func TestSegmentAgreesWithAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12 / effort) {
		rng := rand.New(rand.NewPCG(seed, 3))
		baseOffset := base.Offset(rng.Int64N(1 << 40))
		var o Options
		if seed%6 == 0 {
			o = in(t, disk.Default(), t.TempDir(), baseOffset)
		} else {
			o = memory(t, baseOffset)
		}
		o.IndexInterval = []int{0, 1, 20_000}[rng.IntN(3)]
		interval := o.IndexInterval
		if interval == 0 {
			interval = DefaultIndexInterval
		}
		g := newStream(seed, baseOffset)
		g.payload = 1 + rng.IntN(8000)
		s := Create(o)
		var m model
		for range 30 + rng.IntN(20) {
			switch k := rng.IntN(10); {
			case k < 5:
				data, metas := g.batches(1 + rng.IntN(1+rng.IntN(200_000)))
				must(t, s.Write(data, metas))
				m.add(data, metas)
			case k < 7:
				must(t, s.Sync())
				if st := s.State(); st != s.Current() {
					t.Fatalf("seed %d: State after Sync = %+v, want %+v", seed, st, s.Current())
				}
				if m.data != nil && !bytes.Equal(readFile(t, o, logSuffix), m.data) {
					t.Fatalf("seed %d: the file differs from what was written", seed)
				}
			case k == 7:
				s.Shrink()
			case k == 8:
				must(t, s.Sync())
				st, rest, err := ParseState(s.State().AppendTo(nil))
				must(t, err)
				if len(rest) != 0 || st != s.State() {
					t.Fatalf("seed %d: state %+v came back as %+v", seed, s.State(), st)
				}
				must(t, s.Close())
				s, err = OpenActive(o, st)
				must(t, err)
			case k == 9:
				pos, ragged, err := s.RaggedBytes()
				must(t, err)
				if pos%disk.MinAlignment != 0 || len(ragged) >= disk.MinAlignment || !bytes.Equal(ragged, m.data[pos:]) {
					t.Fatalf("seed %d: %d ragged bytes at %d", seed, len(ragged), pos)
				}
			}
			m.check(t, s, rng, interval)
		}
		if len(m.data) == 0 {
			continue
		}
		must(t, s.Seal())
		m.check(t, s, rng, interval)
		if err := s.Write([]byte{1}, nil); !errors.Is(err, ErrSealed) {
			t.Fatalf("seed %d: Write after Seal: %v", seed, err)
		}
		footer, err := ReadFooter(o)
		must(t, err)
		if footer != s.State() {
			t.Fatalf("seed %d: footer %+v, state %+v", seed, footer, s.State())
		}
		must(t, s.Close())
		s, err = OpenSealed(o, footer)
		must(t, err)
		m.check(t, s, rng, interval)
		must(t, s.Verify(t.Context(), VerifyOptions{Report: func(d DamageError) { t.Errorf("seed %d: %v", seed, &d) }}))
		if !bytes.Equal(readFile(t, o, logSuffix), m.data) {
			t.Fatalf("seed %d: the file differs from what was written", seed)
		}
		must(t, s.Remove())
		if names, err := o.FS.List(o.Dir); err != nil || len(names) != 0 {
			t.Fatalf("seed %d: %v, %v are left after Remove", seed, names, err)
		}
		if _, err := s.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrRemoved) {
			t.Fatalf("seed %d: ReadAt after Remove: %v", seed, err)
		}
	}
}

// TestHowItIsWrittenDoesNotMatter compares the files of one batch sequence written in many ways: replay after a crash cuts it
// differently and must produce the same bytes.
func TestHowItIsWrittenDoesNotMatter(t *testing.T) {
	t.Parallel()
	data, metas := newStream(1, 500).batches(700_000)
	var want map[string][]byte
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 5))
		o := memory(t, 500)
		s := Create(o)
		rest, todo := data, metas
		for len(todo) > 0 {
			n, size := 1+rng.IntN(min(len(todo), 1+rng.IntN(400))), 0
			for _, b := range todo[:n] {
				size += int(b.Size)
			}
			must(t, s.Write(rest[:size], todo[:n]))
			rest, todo = rest[size:], todo[n:]
			switch rng.IntN(3) {
			case 0:
				must(t, s.Sync())
			case 1:
				must(t, s.Sync())
				var err error
				st := s.State()
				must(t, s.Close())
				s, err = OpenActive(o, st)
				must(t, err)
			}
		}
		must(t, s.Seal())
		got := map[string][]byte{}
		for _, suffix := range []string{logSuffix, indexSuffix, timeIndexSuffix, sidecarSuffix} {
			got[suffix] = readFile(t, o, suffix)
		}
		if want == nil {
			want = got
		}
		for suffix := range want {
			if !bytes.Equal(got[suffix], want[suffix]) {
				t.Errorf("seed %d: %s differs: %d bytes, want %d", seed, suffix, len(got[suffix]), len(want[suffix]))
			}
		}
	}
}

// TestWriteRefusesWhatDoesNotFit leaves the segment as it was.
func TestWriteRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	s := Create(memory(t, 100))
	good := BatchMeta{FirstOffset: 100, LastOffset: 104, Size: 70}
	must(t, s.Write(make([]byte, 70), []BatchMeta{good}))
	before := s.Current()
	for name, c := range map[string]struct {
		size  int
		batch BatchMeta
		want  error
	}{
		"offset behind the end":   {70, BatchMeta{FirstOffset: 104, LastOffset: 105, Size: 70}, ErrBadBatches},
		"last before first":       {70, BatchMeta{FirstOffset: 107, LastOffset: 106, Size: 70}, ErrBadBatches},
		"bytes without a batch":   {71, BatchMeta{FirstOffset: 105, LastOffset: 105, Size: 70}, ErrBadBatches},
		"batch without bytes":     {69, BatchMeta{FirstOffset: 105, LastOffset: 105, Size: 70}, ErrBadBatches},
		"offset too far":          {70, BatchMeta{FirstOffset: 100 + 1<<31, LastOffset: 100 + 1<<31, Size: 70}, ErrTooLarge},
		"empty batch":             {0, BatchMeta{FirstOffset: 105, LastOffset: 105, Size: 0}, ErrBadBatches},
		"negative size of batch":  {0, BatchMeta{FirstOffset: 105, LastOffset: 105, Size: -1}, ErrBadBatches},
		"last offset just so far": {71, BatchMeta{FirstOffset: 105, LastOffset: 99 + 1<<31, Size: 70}, ErrBadBatches},
	} {
		if err := s.Write(make([]byte, c.size), []BatchMeta{c.batch}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if s.Current() != before {
			t.Errorf("%s: the segment changed", name)
		}
	}
	if s.Fits(100+1<<31, 10) || s.Fits(200, 1<<31) || !s.Fits(99+1<<31, 10) {
		t.Error("Fits does not agree")
	}
	must(t, s.Write(make([]byte, 70), []BatchMeta{{FirstOffset: 105, LastOffset: 105, Size: 70}}))
}

func TestFullBeforeAnIndexOverflows(t *testing.T) {
	t.Parallel()
	o := memory(t, 0)
	o.IndexInterval, o.IndexBytes = 1, 80
	s := Create(o)
	for n := base.Offset(0); !s.Full(); n++ {
		must(t, s.Write(make([]byte, 70), []BatchMeta{{FirstOffset: n, LastOffset: n, Size: 70, MaxTimestamp: int64(n)}}))
	}
	must(t, s.Seal())
	st := s.State()
	if st.TimeIndex.Entries > 80/timeEntrySize || st.Index.Entries > 80/indexEntrySize || st.TimeIndex.Entries < 3 {
		t.Errorf("full with %d and %d entries", st.Index.Entries, st.TimeIndex.Entries)
	}
}

func TestAnEmptySegmentHasNoFiles(t *testing.T) {
	t.Parallel()
	o := memory(t, 7)
	s := Create(o)
	must(t, s.Sync())
	must(t, s.Seal())
	if names, err := o.FS.List(o.Dir); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	s, err := OpenSealed(o, s.State())
	must(t, err)
	if n, err := s.ReadAt(make([]byte, 1), 0); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
	if pos, err := s.Lookup(9); pos != 0 || err != nil {
		t.Errorf("Lookup = %d, %v", pos, err)
	}
	must(t, s.Verify(t.Context(), VerifyOptions{Report: func(d DamageError) { t.Error(&d) }}))
	must(t, s.Remove())
}

// TestReadersBesideTheWriter is for the race detector, and checks that readers see a prefix of the stream at any moment.
func TestReadersBesideTheWriter(t *testing.T) {
	t.Parallel()
	o := in(t, disk.Default(), t.TempDir(), 0)
	o.Files = NewFileCache(2) // so that files come and go
	data, metas := newStream(9, 0).batches((3 << 20) / effort)
	s := Create(o)
	var done atomic.Bool
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(r), 2))
			p := make([]byte, 200<<10)
			for !done.Load() {
				size := s.Size()
				if size == 0 {
					continue
				}
				pos := rng.Int64N(size)
				n, err := s.ReadAt(p[:1+rng.IntN(len(p))], pos)
				if err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(p[:n], data[pos:int(pos)+n]) {
					t.Errorf("ReadAt(%d) = %d, %v", pos, n, err)
					return
				}
				if _, err := s.Lookup(base.Offset(rng.Int64N(int64(len(metas))))); err != nil {
					t.Error(err)
				}
				if _, err := s.LookupTime(1_700_000_000_000 + rng.Int64N(10_000)); err != nil {
					t.Error(err)
				}
				if err := s.Verify(context.Background(), VerifyOptions{Report: func(d DamageError) { t.Error(&d) }}); rng.IntN(20) == 0 && err != nil {
					t.Error(err)
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(77, 2))
	rest, todo := data, metas
	for len(todo) > 0 {
		n, size := 1+rng.IntN(min(len(todo), 60)), 0
		for _, b := range todo[:n] {
			size += int(b.Size)
		}
		must(t, s.Write(rest[:size], todo[:n]))
		rest, todo = rest[size:], todo[n:]
		if rng.IntN(3) == 0 {
			must(t, s.Sync())
		}
		if rng.IntN(5) == 0 {
			s.Shrink()
		}
	}
	must(t, s.Seal())
	done.Store(true)
	readers.Wait()
	if got := readAll(t, s); !bytes.Equal(got, data) {
		t.Error("the bytes differ at the end")
	}
}

func TestTheFileCacheKeepsItsBound(t *testing.T) {
	t.Parallel()
	fs := in(t, disk.Default(), t.TempDir(), 0)
	files := NewFileCache(3)
	var all []*Segment
	for n := range base.Offset(10) {
		o := fs
		o.Base, o.Files = n*1000, files
		s := Create(o)
		data, metas := newStream(uint64(n), o.Base).batches(100_000)
		must(t, s.Write(data, metas))
		must(t, s.Sync())
		all = append(all, s)
	}
	for range 2 {
		for _, s := range all {
			readAll(t, s)
			if n := files.Open(); n > 3 {
				t.Fatalf("%d files are open, bound 3", n)
			}
		}
	}
	must(t, files.Close())
	if n := files.Open(); n != 0 {
		t.Errorf("%d files are open after Close", n)
	}
	readAll(t, all[0]) // opens again
	must(t, files.Close())
}

func BenchmarkWrite(b *testing.B) {
	o := in(b, disk.Default(), b.TempDir(), 0)
	data, metas := newStream(1, 0).batches(1 << 20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	s := Create(o)
	for b.Loop() {
		if !s.Fits(s.NextOffset(), 2<<20) || s.Size() > 256<<20 {
			must(b, s.Seal())
			must(b, s.Remove())
			s = Create(o)
		}
		for i := range metas {
			delta := s.NextOffset() - metas[0].FirstOffset
			if i > 0 {
				delta = metas[i-1].LastOffset + 1 - metas[i].FirstOffset
			}
			metas[i].FirstOffset += delta
			metas[i].LastOffset += delta
		}
		must(b, s.Write(data, metas))
	}
}

func BenchmarkReadAt(b *testing.B) {
	o := in(b, disk.Default(), b.TempDir(), 0)
	st, data, _ := sealed(b, o, 1, 64<<20)
	s, err := OpenSealed(o, st)
	must(b, err)
	p := make([]byte, 256<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for pos := int64(100); b.Loop(); pos = (pos + int64(len(p))) % int64(len(data)-len(p)) {
		if _, err := s.ReadAt(p, pos); err != nil {
			b.Fatal(err)
		}
	}
}
