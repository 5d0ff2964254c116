package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const testLimit = 8 << 20

var allCodecs = []Codec{None, Gzip, Snappy, Lz4, Zstd}

// payloads are what codecs are tried with: empty, tiny, text, runs, noise, and each larger than the codecs' blocks.
func payloads() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200<<10)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog; "), 20_000)
	for i := 0; i < len(text); i += 97 {
		text[i] = byte('a' + r.IntN(26))
	}
	return map[string][]byte{
		"empty": {},
		"byte":  {7},
		"text":  text,
		"runs":  make([]byte, 3<<20),
		"noise": noise,
	}
}

func TestCodecsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range allCodecs {
		for name, want := range payloads() {
			t.Run(c.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				prefix := []byte("prefix")
				packed, err := Compress(c, DefaultLevel(c), prefix, want)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(packed, prefix) {
					t.Fatal("Compress overwrote what dst held")
				}
				packed = packed[len(prefix):]
				got, err := Decompress(c, prefix, packed, len(want))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got[len(prefix):], want) || !bytes.HasPrefix(got, prefix) {
					t.Fatalf("%d bytes came back as %d others", len(want), len(got)-len(prefix))
				}
				if len(want) == 0 {
					return
				}
				if _, err := Decompress(c, nil, packed, len(want)-1); !errors.Is(err, ErrTooLarge) {
					t.Fatalf("one byte over the limit: got %v, want ErrTooLarge", err)
				}
			})
		}
	}
}

func TestCompressTakesEveryLevelOfKafka(t *testing.T) {
	t.Parallel()
	src := payloads()["text"][:40_000]
	for _, r := range []struct {
		codec       Codec
		first, last int
	}{{Gzip, 1, 9}, {Gzip, -1, -1}, {Lz4, 1, 17}, {Zstd, -7, 22}} {
		for level := r.first; level <= r.last; level++ {
			packed, err := Compress(r.codec, level, nil, src)
			if err != nil {
				t.Fatalf("%s level %d: %v", r.codec, level, err)
			}
			if got, err := Decompress(r.codec, nil, packed, testLimit); err != nil || !bytes.Equal(got, src) {
				t.Fatalf("%s level %d does not round trip: %v", r.codec, level, err)
			}
		}
	}
	for _, bad := range []struct {
		codec Codec
		level int
	}{{Gzip, 10}, {Gzip, -2}, {Lz4, 0}, {Lz4, 18}, {Zstd, 23}} {
		if _, err := Compress(bad.codec, bad.level, nil, src); err == nil {
			t.Errorf("%s level %d was accepted", bad.codec, bad.level)
		}
	}
}

func TestCodecNames(t *testing.T) {
	t.Parallel()
	for _, c := range allCodecs {
		if got, err := ParseCodec(c.String()); err != nil || got != c {
			t.Errorf("ParseCodec(%q) = %v, %v", c, got, err)
		}
	}
	if got, err := ParseCodec("uncompressed"); err != nil || got != None {
		t.Errorf(`ParseCodec("uncompressed") = %v, %v`, got, err)
	}
	if _, err := ParseCodec("producer"); !errors.Is(err, ErrUnsupportedCodec) {
		t.Errorf(`ParseCodec("producer"): %v`, err)
	}
	if _, err := Decompress(5, nil, nil, 1); !errors.Is(err, ErrUnsupportedCodec) {
		t.Errorf("codec 5: %v", err)
	}
	if _, err := Compress(5, 0, nil, nil); !errors.Is(err, ErrUnsupportedCodec) {
		t.Errorf("codec 5: %v", err)
	}
}

func TestDecompressTakesWhatOtherClientsSend(t *testing.T) {
	t.Parallel()
	want := payloads()["text"]
	half := len(want) / 2
	lz4Frame := func(options ...lz4.Option) []byte {
		var b bytes.Buffer
		w := lz4.NewWriter(&b)
		if err := w.Apply(options...); err != nil {
			t.Fatal(err)
		}
		w.Write(want)
		w.Close()
		return b.Bytes()
	}
	zstdStream := func(src []byte) []byte {
		var b bytes.Buffer
		w, _ := zstd.NewWriter(&b)
		w.Write(src)
		w.Flush() // so that the writer cannot declare the size
		w.Close()
		return b.Bytes()
	}
	xerial := func(src []byte) []byte { return compressSnappy(nil, src) }
	for name, c := range map[string]struct {
		codec Codec
		src   []byte
	}{
		"snappy raw block, as librdkafka sends it":   {Snappy, s2.EncodeSnappy(nil, want)},
		"snappy streams in a row":                    {Snappy, append(xerial(want[:half]), xerial(want[half:])...)},
		"lz4 with content size and checksums":        {Lz4, lz4Frame(lz4.SizeOption(uint64(len(want))), lz4.ChecksumOption(true), lz4.BlockChecksumOption(true))},
		"lz4 with the largest blocks":                {Lz4, lz4Frame(lz4.BlockSizeOption(lz4.Block4Mb))},
		"zstd without a declared size, as Java does": {Zstd, zstdStream(want)},
		"zstd frames in a row":                       {Zstd, append(zstdStream(want[:half]), zstdStream(want[half:])...)},
		"zstd after a skippable frame":               {Zstd, append([]byte{0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9}, zstdStream(want)...)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decompress(c.codec, nil, c.src, testLimit)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatal("other bytes came out")
			}
			if _, err := Decompress(c.codec, nil, c.src, len(want)-1); !errors.Is(err, ErrTooLarge) {
				t.Fatalf("one byte over the limit: got %v, want ErrTooLarge", err)
			}
		})
	}
}

func TestDecompressRefusesBrokenStreams(t *testing.T) {
	t.Parallel()
	src := payloads()["text"][:100_000]
	lz4Good, _ := Compress(Lz4, 9, nil, src)
	change := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[at] = to
		return b
	}
	lz4Header := func(flg, bd byte) []byte {
		b := change(change(lz4Good, 4, flg), 5, bd)
		b[6] = byte(xxh32(b[4:6]) >> 8)
		return b
	}
	raw := s2.EncodeSnappy(nil, src)
	for name, c := range map[string]struct {
		codec Codec
		src   []byte
	}{
		"gzip nothing":              {Gzip, nil},
		"gzip no header":            {Gzip, []byte("not gzip, not gzip")},
		"gzip trailing bytes":       {Gzip, append(mustCompress(Gzip, src), 1, 2, 3)},
		"snappy nothing":            {Snappy, nil},
		"snappy header cut off":     {Snappy, []byte(xerialHeader[:10])},
		"snappy chunk too long":     {Snappy, []byte(xerialHeader + "\x00\x00\x00\x09ab")},
		"snappy chunk negative":     {Snappy, []byte(xerialHeader + "\xff\xff\xff\xffab")},
		"snappy chunk length short": {Snappy, []byte(xerialHeader + "\x00\x00")},
		"snappy declares more":      {Snappy, append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, raw[3:]...)},
		"snappy s2 repeat":          {Snappy, []byte{12, 3 << 2, 'a', 'b', 'c', 'd', 1, 4, 1, 0}},
		"lz4 nothing":               {Lz4, nil},
		"lz4 magic":                 {Lz4, change(lz4Good, 0, 5)},
		"lz4 header checksum":       {Lz4, change(lz4Good, 6, lz4Good[6]+1)},
		"lz4 dependent blocks":      {Lz4, lz4Header(0x40, 0x40)},
		"lz4 version":               {Lz4, lz4Header(0xa0, 0x40)},
		"lz4 dictionary":            {Lz4, lz4Header(0x61, 0x40)},
		"lz4 block size":            {Lz4, lz4Header(0x60, 0x30)},
		"lz4 no end mark":           {Lz4, lz4Good[:len(lz4Good)-4]},
		"lz4 trailing bytes":        {Lz4, append(bytes.Clone(lz4Good), 0)},
		"lz4 block past its size":   {Lz4, change(lz4Good, 9, 0x10)},
		"zstd no magic":             {Zstd, []byte("not zstd, not zstd")},
		"zstd trailing bytes":       {Zstd, append(mustCompress(Zstd, src), 1, 2, 3)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decompress(c.codec, nil, c.src, testLimit); !errors.Is(err, ErrInvalidRecord) {
				t.Fatalf("got %v, want ErrInvalidRecord", err)
			}
		})
	}
	for _, codec := range allCodecs[1:] {
		packed := mustCompress(codec, src)
		for n := range 64 {
			cut := packed[:len(packed)*n/64]
			if codec == Snappy && len(cut) >= xerialHeaderSize {
				continue // may end after a chunk: the record count is what tells
			}
			if codec == Zstd && len(cut) == 0 {
				continue // no frame at all is an empty stream
			}
			if _, err := Decompress(codec, nil, cut, testLimit); !errors.Is(err, ErrInvalidRecord) {
				t.Errorf("%s cut to %d of %d bytes: got %v, want ErrInvalidRecord", codec, len(cut), len(packed), err)
			}
		}
	}
}

func mustCompress(c Codec, src []byte) []byte {
	b, err := Compress(c, DefaultLevel(c), nil, src)
	if err != nil {
		panic(err)
	}
	return b
}

// TestDecompressAllocatesForOutputNotForClaims gives each codec small inputs that claim, or hold, very much.
func TestDecompressAllocatesForOutputNotForClaims(t *testing.T) {
	const limit = 1 << 20
	zeros := make([]byte, 32<<20)
	bigBlocks := []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0, 1, 0, 0, 0x80, 'x', 0, 0, 0, 0} // lz4, 4 MiB blocks
	bigBlocks[6] = byte(xxh32(bigBlocks[4:6]) >> 8)
	zstdClaim := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 0x09, 0, 0, 'x'} // 1 GiB declared, 1 byte there
	zstdWindow := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x09, 0, 0, 'x'}         // window of 128 MiB
	gzipClaim := mustCompress(Gzip, []byte("x"))
	binary.LittleEndian.PutUint32(gzipClaim[len(gzipClaim)-4:], 1<<30)
	cases := []struct {
		name  string
		codec Codec
		src   []byte
		most  uint64
	}{
		{"gzip bomb", Gzip, mustCompress(Gzip, zeros), 3 * limit},
		{"gzip claim", Gzip, gzipClaim, 64 << 10},
		{"snappy bomb", Snappy, mustCompress(Snappy, zeros), 3 * limit},
		{"snappy claim", Snappy, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 'x'}, 64 << 10},
		{"lz4 bomb", Lz4, mustCompress(Lz4, zeros), 3 * limit},
		{"lz4 claim", Lz4, bigBlocks, 64 << 10},
		{"zstd bomb", Zstd, mustCompress(Zstd, zeros), 3 * limit},
		{"zstd claim", Zstd, zstdClaim, 64 << 10},
		{"zstd window", Zstd, zstdWindow, 64 << 10},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			Decompress(c.codec, nil, c.src, limit) // what is pooled is not counted
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			out, err := Decompress(c.codec, nil, c.src, limit)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > c.most {
				t.Errorf("%d bytes of input made it allocate %d, want at most %d (%d out, %v)", len(c.src), got, c.most, len(out), err)
			}
			if len(out) > limit {
				t.Errorf("%d bytes came out, the limit is %d", len(out), limit)
			}
		})
	}
}

// TestZstdBlocksNeedNotBeFull has so many small blocks that only decoding tells whether they fit.
func TestZstdBlocksNeedNotBeFull(t *testing.T) {
	t.Parallel()
	want := payloads()["text"][:20_000]
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(want); i += 200 {
		w.Write(want[i : i+200])
		w.Flush()
	}
	w.Close()
	for _, limit := range []int{len(want), 1 << 20} {
		if got, err := Decompress(Zstd, []byte("prefix"), b.Bytes(), limit); err != nil || string(got) != "prefix"+string(want) {
			t.Errorf("limit %d: %d bytes, %v", limit, len(got), err)
		}
	}
	if _, err := Decompress(Zstd, nil, b.Bytes(), len(want)-1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte over the limit: %v", err)
	}
}

func TestXxh32(t *testing.T) {
	t.Parallel()
	// From the reference implementation.
	for in, want := range map[string]uint32{
		"":    0x02cc5d05,
		"a":   0x550d7456,
		"abc": 0x32d153ff,
		"Nobody inspects the spammish repetition": 0xe2293b2f,
	} {
		if got := xxh32([]byte(in)); got != want {
			t.Errorf("xxh32(%q) = %#x, want %#x", in, got, want)
		}
	}
}

// TestLz4FramesAreReadableByTheLibrary crosses our reader with the library's over many sizes.
func TestLz4FramesAreReadableByTheLibrary(t *testing.T) {
	t.Parallel()
	src := payloads()["text"]
	for _, n := range []int{0, 1, 100, 64<<10 - 1, 64 << 10, 64<<10 + 1, 300_000} {
		got, err := io.ReadAll(lz4.NewReader(bytes.NewReader(mustCompress(Lz4, src[:n]))))
		if err != nil || !bytes.Equal(got, src[:n]) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	src := payloads()["text"][:3000]
	for _, c := range allCodecs {
		f.Add(int8(c), mustCompress(c, src))
	}
	f.Add(int8(Snappy), s2.EncodeSnappy(nil, src))
	for _, g := range goldenBatches(f) {
		h, err := ParseHeader(g.batch)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(int8(h.Attributes.Codec()), g.batch[HeaderSize:])
	}
	f.Fuzz(func(t *testing.T, codec int8, src []byte) {
		const limit = 1 << 20
		out, err := Decompress(Codec(codec), nil, src, limit)
		if len(out) > limit {
			t.Fatalf("%d bytes came out, the limit is %d", len(out), limit)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalidRecord) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrUnsupportedCodec) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		again, err := Decompress(Codec(codec), nil, mustCompress(Codec(codec), out), limit)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("decompress, compress, decompress is not stable: %v", err)
		}
	})
}

func BenchmarkDecompress(b *testing.B) {
	src := payloads()["text"][:256<<10]
	for _, c := range allCodecs[1:] {
		b.Run(c.String(), func(b *testing.B) {
			packed := mustCompress(c, src)
			dst := make([]byte, 0, len(src))
			b.ReportAllocs()
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				if _, err := Decompress(c, dst, packed, testLimit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleParseCodec() {
	c, err := ParseCodec("zstd")
	fmt.Println(int8(c), err)
	// Output: 4 <nil>
}
