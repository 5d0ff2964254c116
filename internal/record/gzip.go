package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzipReader is a pooled decompressor with the source it reads from, so that neither is allocated again.
type gzipReader struct {
	source bytes.Reader
	gzip.Reader
	probe [1]byte
}

var gzipReaders = sync.Pool{New: func() any { return new(gzipReader) }}

func decompressGzip(dst, src []byte, limit int) ([]byte, error) {
	r := gzipReaders.Get().(*gzipReader)
	defer gzipReaders.Put(r)
	r.source.Reset(src)
	defer r.source.Reset(nil) // the pool must not hold on to src
	if err := r.Reset(&r.source); err != nil {
		return dst, errDecompress(Gzip, err)
	}
	return r.appendTo(dst, gzipSize(src), limit)
}

// gzipSize guesses how much src decompresses to. Its trailer says so, but is believed only as far as is usual.
func gzipSize(src []byte) int {
	const usualRatio = 8
	if len(src) < 4 {
		return 0
	}
	return int(min(int64(binary.LittleEndian.Uint32(src[len(src)-4:])), usualRatio*int64(len(src))))
}

func (r *gzipReader) appendTo(dst []byte, size, limit int) ([]byte, error) {
	end := len(dst) + min(limit, math.MaxInt-len(dst))
	dst = grow(dst, min(size, limit))
	for {
		into := dst[len(dst):min(cap(dst), end)]
		full := len(into) == 0
		if full {
			into = r.probe[:] // is there more, before room is made for it?
		}
		n, err := r.Read(into)
		switch {
		case n > 0 && full && len(dst) == end:
			return dst, errDecompressLimit
		case n > 0 && full:
			const atLeast = 1 << 10
			dst = append(grow(dst, atLeast), r.probe[0])
		default:
			dst = dst[:len(dst)+n]
		}
		if err == io.EOF { //nolint:errorlint // gzip.Reader returns it bare, and a wrapped one is another's
			return dst, nil
		}
		if err != nil {
			return dst, errDecompress(Gzip, err)
		}
	}
}

// gzipWriters has a pool for each level from -1 to 9.
var gzipWriters [gzip.BestCompression - gzip.DefaultCompression + 1]sync.Pool

// appender is an io.Writer into a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func compressGzip(level int, dst, src []byte) ([]byte, error) {
	if level < gzip.DefaultCompression || level > gzip.BestCompression {
		return dst, fmt.Errorf("gzip has no compression level %d", level)
	}
	pool := &gzipWriters[level-gzip.DefaultCompression]
	out := &appender{dst}
	w, ok := pool.Get().(*gzip.Writer)
	if ok {
		w.Reset(out)
	} else {
		w, _ = gzip.NewWriterLevel(out, level) // the level is good
	}
	_, err := w.Write(src)
	if err == nil {
		err = w.Close()
	}
	w.Reset(nil)
	pool.Put(w)
	return out.b, err
}
