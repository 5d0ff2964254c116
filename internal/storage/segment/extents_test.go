package segment

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

// reads counts the reads of logs, and their bytes.
type reads struct {
	disk.FS
	count, bytes int
}

func (r *reads) OpenDirect(name string, o disk.DirectOptions) (disk.DirectFile, error) {
	f, err := r.FS.OpenDirect(name, o)
	return countedFile{f, r}, err
}

type countedFile struct {
	disk.DirectFile
	r *reads
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	f.r.count++
	f.r.bytes += len(p)
	return f.DirectFile.ReadAt(p, off)
}

func TestCatchingUpReadsEachByteOnceInLargePieces(t *testing.T) {
	t.Parallel()
	fs := &reads{FS: crashfs.New()}
	o := in(t, fs, "/t-0", 0)
	st, data, _ := sealed(t, o, 4, 5<<20)
	s, err := OpenSealed(o, st)
	must(t, err)
	p := make([]byte, 50_000)
	for pos := int64(100); pos < st.Size; pos += int64(len(p)) {
		n, _ := s.ReadAt(p, pos)
		if !bytes.Equal(p[:n], data[pos:pos+int64(n)]) {
			t.Fatalf("wrong bytes at %d", pos)
		}
	}
	if fs.count > 8 || fs.bytes > len(data)+BlockSize {
		t.Errorf("%d reads of %d bytes for %d", fs.count, fs.bytes, len(data))
	}
}

func TestARandomReadTakesOnlyItsBlocks(t *testing.T) {
	t.Parallel()
	fs := &reads{FS: crashfs.New()}
	o := in(t, fs, "/t-0", 0)
	st, _, _ := sealed(t, o, 4, 5<<20)
	s, err := OpenSealed(o, st)
	must(t, err)
	for n := range int64(20) {
		if _, err := s.ReadAt(make([]byte, 100), (n*3+1)*BlockSize+50); err != nil {
			t.Fatal(err)
		}
	}
	if fs.count != 20 || fs.bytes != 20*BlockSize {
		t.Errorf("%d reads of %d bytes", fs.count, fs.bytes)
	}
}

// TestManyReadersStayWithinTheBound lets more consumers catch up than the cache has room for: none of them reads ahead in vain, and the
// bound holds.
func TestManyReadersStayWithinTheBound(t *testing.T) {
	t.Parallel()
	fs := &reads{FS: crashfs.New()}
	o := in(t, fs, "/t-0", 0)
	st, data, _ := sealed(t, o, 4, 3<<20)
	var consumers []*Segment
	for range 300 {
		s, err := OpenSealed(o, st)
		must(t, err)
		consumers = append(consumers, s)
	}
	p := make([]byte, BlockSize)
	const rounds = 6
	for round := range int64(rounds) {
		for _, s := range consumers {
			if _, err := s.ReadAt(p, round*BlockSize); err != nil || !bytes.Equal(p, data[round*BlockSize:(round+1)*BlockSize]) {
				t.Fatalf("round %d: %v", round, err)
			}
			if n := o.Files.extents.bytes; n > extentBytes {
				t.Fatalf("%d bytes are cached, bound %d", n, extentBytes)
			}
		}
	}
	if most := 2 * rounds * len(consumers) * BlockSize; fs.bytes > most {
		t.Errorf("%d bytes were read for %d", fs.bytes, rounds*len(consumers)*BlockSize)
	}
	o.Files.Trim()
	if n := o.Files.extents.bytes; n != 0 || len(o.Files.extents.blocks) != 0 {
		t.Errorf("%d bytes are cached after Trim", n)
	}
}

// TestANewSegmentOfTheSameNameIsAnother: neither blocks nor descriptors of a removed segment serve the next one.
func TestANewSegmentOfTheSameNameIsAnother(t *testing.T) {
	t.Parallel()
	o := in(t, disk.Default(), t.TempDir(), 0)
	st, data, _ := sealed(t, o, 1, 100_000)
	old, err := OpenSealed(o, st)
	must(t, err)
	if got := readAll(t, old); !bytes.Equal(got, data) {
		t.Fatal("wrong bytes")
	}
	must(t, old.Remove())
	st, data, _ = sealed(t, o, 2, 100_000)
	s, err := OpenSealed(o, st)
	must(t, err)
	if got := readAll(t, s); !bytes.Equal(got, data) {
		t.Error("wrong bytes from the new segment")
	}
	if _, err := old.ReadAt(make([]byte, 1), 0); err == nil || !strings.Contains(err.Error(), "removed") {
		t.Errorf("the old segment: %v", err)
	}
}

// TestBorrowedBytesAreReadOnce lends a whole segment in fetches of a consumer that catches up.
func TestBorrowedBytesAreReadOnce(t *testing.T) {
	t.Parallel()
	fs := &reads{FS: crashfs.New()}
	o := in(t, fs, "/t-0", 0)
	st, data, _ := sealed(t, o, 4, 5<<20)
	s, err := OpenSealed(o, st)
	must(t, err)
	if got := borrowAll(t, s); !bytes.Equal(got, data) {
		t.Fatal("wrong bytes")
	}
	if fs.count > 8 || fs.bytes > len(data)+BlockSize {
		t.Errorf("%d reads of %d bytes for %d", fs.count, fs.bytes, len(data))
	}
	o.Files.Trim()
	if n := o.Files.extents.live; n != 0 {
		t.Errorf("%d bytes are counted when nothing is held", n)
	}
}

// TestWhatIsReadAgainComesThroughThePageCache has one group after the other read a whole segment, none of it in memory any more.
func TestWhatIsReadAgainComesThroughThePageCache(t *testing.T) {
	t.Parallel()
	fs := &reads{FS: crashfs.New()}
	o := in(t, fs, "/t-0", 0)
	st, data, _ := sealed(t, o, 4, 3<<20)
	s, err := OpenSealed(o, st)
	must(t, err)
	for range 5 {
		if got := borrowAll(t, s); !bytes.Equal(got, data) {
			t.Fatal("wrong bytes")
		}
		o.Files.Trim()
	}
	// The end, where the last block is not whole, may be read directly by each.
	if most := 2*len(data) + 3*extentSize; fs.bytes > most {
		t.Errorf("%d bytes were read past the page cache for five readers of %d, want at most %d", fs.bytes, len(data), most)
	}
}

// pageCache is a file system whose page cache can be emptied. It counts the bytes of logs that are read through it by who did not ask whether
// they are there, beside those that are read past it.
type pageCache struct {
	*reads
	empty, asked bool
	filled       int
}

func (c *pageCache) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := c.reads.Open(name, opts...)
	if strings.HasSuffix(name, logSuffix) {
		f = &throughPageCache{f, c}
	}
	return f, err
}

type throughPageCache struct {
	vfs.File
	cache *pageCache
}

func (f *throughPageCache) ReadAt(p []byte, off int64) (int, error) {
	if !f.cache.asked {
		f.cache.filled += len(p)
	}
	f.cache.asked = false
	return f.File.ReadAt(p, off)
}

func (f *throughPageCache) Resident(int64, int64) (bool, error) {
	f.cache.asked = !f.cache.empty // what is there is read next
	return !f.cache.empty, nil
}

// TestThePageCacheIsFilledWhereItIsOfUse has one group after the other read a segment, none of it in our memory any more, while the page
// cache keeps it, and later does not.
func TestThePageCacheIsFilledWhereItIsOfUse(t *testing.T) {
	t.Parallel()
	const (
		none   = 0
		sample = 1 << 20 // as is read at once
		rest   = 4 << 20
		most   = sample + rest
		end    = BlockSize
	)
	fs := &pageCache{reads: &reads{FS: crashfs.New()}}
	o := in(t, fs, "/t-0", 0)
	st, data, _ := sealed(t, o, 4, most)
	s, err := OpenSealed(o, st)
	must(t, err)
	read := func(past, filled int) {
		t.Helper()
		fs.bytes, fs.filled = 0, 0
		if got := borrowAll(t, s); !bytes.Equal(got, data) {
			t.Fatal("wrong bytes")
		}
		o.Files.Trim()
		if fs.bytes < past || fs.bytes > past+end || fs.filled < filled || fs.filled > filled+end {
			t.Errorf("%d bytes were read past the page cache, want %d; %d were put there, want %d", fs.bytes, past, fs.filled, filled)
		}
	}
	read(most, none)
	read(rest, sample)
	read(none, rest)
	for range 3 {
		read(none, none)
	}
	fs.empty = true
	for range lapse {
		read(most, none)
	}
	read(rest, sample)
	for range lapse {
		read(most, none)
	}
	fs.empty = false
	read(rest, sample)
	read(none, rest)
	read(none, none)
}

// staleCache is a file system whose page cache holds what is not on the disk.
type staleCache struct{ disk.FS }

func (c staleCache) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := c.FS.Open(name, opts...)
	if strings.HasSuffix(name, logSuffix) {
		f = staleFile{f}
	}
	return f, err
}

type staleFile struct{ vfs.File }

func (staleFile) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

func TestTheDiskDecidesAndNotThePageCache(t *testing.T) {
	t.Parallel()
	o := in(t, staleCache{crashfs.New()}, "/t-0", 0) // fails when damage is reported
	st, data, _ := sealed(t, o, 4, 3<<20)
	s, err := OpenSealed(o, st)
	must(t, err)
	for range 3 {
		if got := borrowAll(t, s); !bytes.Equal(got, data) {
			t.Fatal("wrong bytes")
		}
		o.Files.Trim()
	}
}

// borrowAll reads a segment as a consumer that catches up does.
func borrowAll(t *testing.T, s *Segment) []byte {
	t.Helper()
	var all []byte
	for int64(len(all)) < s.Size() {
		p, err := s.Borrow(int64(len(all)), 1<<20)
		must(t, err)
		if len(p.Bytes()) == 0 {
			t.Fatalf("nothing was lent at %d", len(all))
		}
		all = append(all, p.Bytes()...)
		p.Release()
	}
	return all
}

// TestALargeReadBringsNoMoreThanIsWanted: what an answer of a MiB needs comes in one read, wherever it begins, and nothing after it.
func TestALargeReadBringsNoMoreThanIsWanted(t *testing.T) {
	t.Parallel()
	fs := &reads{FS: crashfs.New()}
	o := in(t, fs, "/t-0", 0)
	st, _, _ := sealed(t, o, 4, 5<<20)
	s, err := OpenSealed(o, st)
	must(t, err)
	const first, answer = BlockSize + 100, 1 << 20
	for n := range 2 { // the second goes on in the block where the first ends
		before := *fs
		for pos := int64(first + n*answer); pos < int64(first+(n+1)*answer); {
			p, err := s.Borrow(pos, int64(first+(n+1)*answer)-pos)
			must(t, err)
			pos += int64(len(p.Bytes()))
			p.Release()
		}
		if blocks := extentBlocks - n; fs.count != before.count+1 || fs.bytes != before.bytes+blocks*BlockSize {
			t.Errorf("answer %d: %d reads of %d bytes, want one of %d", n, fs.count-before.count, fs.bytes-before.bytes, blocks*BlockSize)
		}
	}
}

// TestSlowReadersBorrowABlockEach: borrowed memory has a bound, beyond which a reader holds a block.
func TestSlowReadersBorrowABlockEach(t *testing.T) {
	t.Parallel()
	o := memory(t, 0)
	st, _, _ := sealed(t, o, 4, 2<<20)
	const readers = 200
	var held []Piece
	for range readers {
		s, err := OpenSealed(o, st)
		must(t, err)
		p, err := s.Borrow(0, 1<<20)
		must(t, err)
		held = append(held, p)
	}
	if n, most := o.Files.extents.live, int64(borrowedBytes+readers*BlockSize); n > most {
		t.Errorf("%d bytes are held, bound %d", n, most)
	}
	for _, p := range held {
		p.Release()
	}
}

func TestBoundaryIsTheLastIndexedBatchUpToAPosition(t *testing.T) {
	t.Parallel()
	o := memory(t, 0)
	st, _, metas := sealed(t, o, 4, 5<<20)
	s, err := OpenSealed(o, st)
	must(t, err)
	starts, pos := map[int64]bool{}, int64(0)
	for _, m := range metas {
		starts[pos] = true
		pos += int64(m.Size)
	}
	for limit := int64(0); limit <= st.Size; limit += 9_999 {
		got, err := s.Boundary(limit)
		must(t, err)
		if !starts[got] || got > limit || limit-got > 40_000 {
			t.Fatalf("up to %d: %d, which begins a batch: %t", limit, got, starts[got])
		}
	}
}
