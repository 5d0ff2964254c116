package record

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdMaxWindow is the largest window that decoders take unless told otherwise (zstd's own command, Kafka's clients).
const zstdMaxWindow = 128 << 20

// Each decoder decodes one stream per core at a time; further callers wait.
var (
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder { return newZstdDecoder() })
	// zstdCapped writes only into the capacity that it is given.
	zstdCapped = sync.OnceValue(func() *zstd.Decoder { return newZstdDecoder(zstd.WithDecodeAllCapLimit(true)) })
)

func newZstdDecoder(more ...zstd.DOption) *zstd.Decoder {
	d, err := zstd.NewReader(nil, append(more, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdMaxWindow))...)
	if err != nil {
		panic(fmt.Sprintf("record: zstd decoder: %v", err)) // the options are constants
	}
	return d
}

func decompressZstd(dst, src []byte, limit int) ([]byte, error) {
	size, known, err := zstdSize(src)
	if err != nil {
		return dst, errDecompress(Zstd, err)
	}
	const atLeast, usualRatio = 4 << 10, 4
	start := len(dst)
	guess := max(cap(dst)-start, usualRatio*len(src), atLeast)
	switch {
	case size <= int64(limit):
		if known {
			guess = int(size)
		}
		dst = grow(dst, min(guess, int(size)))
		out, err := zstdDecoder().DecodeAll(src, dst)
		if err != nil {
			return dst, errDecompress(Zstd, err)
		}
		if out == nil {
			return dst, nil // a stream of no frames
		}
		return out, nil
	case known:
		return dst, errDecompressLimit
	}
	// Blocks need not be full, so it may fit all the same. The decoder says in several ways that it does not, hence
	// whatever fails is tried again with twice the room.
	for room := min(guess, limit); ; room = min(2*room, limit) {
		dst = grow(dst, room)
		out, err := zstdCapped().DecodeAll(src, dst[:start:start+room])
		if err == nil && len(out)-start <= room {
			return out, nil
		}
		if room >= limit {
			return dst, errDecompressLimit
		}
	}
}

// zstdMaxBlock is the most that one block decompresses to.
const zstdMaxBlock = 128 << 10

var errZstd = errors.New("a frame is corrupt")

// zstdSize walks over the headers of frames and blocks and returns the size that src decompresses to, if all frames
// declare theirs, or else the most that it can be. A frame that declares more than its blocks can hold is an error, so
// a few bytes cannot make us take memory for many.
func zstdSize(src []byte) (size int64, known bool, err error) {
	known = true
	for len(src) > 0 {
		var h zstd.Header
		if err := h.Decode(src); err != nil {
			return 0, false, err
		}
		src = src[h.HeaderSize:]
		if h.Skippable {
			if int64(h.SkippableSize) > int64(len(src)) {
				return 0, false, errZstd
			}
			src = src[h.SkippableSize:]
			continue
		}
		most, n := zstdBlocks(src)
		if n < 0 {
			return 0, false, errZstd
		}
		src = src[n:]
		if h.HasCheckSum {
			if len(src) < 4 {
				return 0, false, errZstd
			}
			src = src[4:]
		}
		switch {
		case !h.HasFCS:
			size, known = size+most, false
		case h.FrameContentSize > uint64(most):
			return 0, false, errZstd
		default:
			size += int64(h.FrameContentSize)
		}
	}
	return size, known, nil
}

// zstdBlocks returns the most that the blocks of a frame decompress to, and the bytes they take, or -1 if they are cut off.
func zstdBlocks(src []byte) (most int64, n int) {
	const raw, rle, compressed = 0, 1, 2
	for {
		if len(src)-n < 3 {
			return 0, -1
		}
		header := int(src[n]) | int(src[n+1])<<8 | int(src[n+2])<<16
		n += 3
		size := header >> 3
		if size > zstdMaxBlock {
			return 0, -1
		}
		switch header >> 1 & 3 {
		case raw:
			most += int64(size)
		case rle:
			most, size = most+int64(size), 1
		case compressed:
			most += zstdMaxBlock
		default:
			return 0, -1
		}
		if size > len(src)-n {
			return 0, -1
		}
		if n += size; header&1 != 0 {
			return most, n
		}
	}
}

var zstdEncoders [zstd.SpeedBestCompression + 1]struct {
	once    sync.Once
	encoder *zstd.Encoder
}

func compressZstd(level int, dst, src []byte) ([]byte, error) {
	if level > 22 {
		return dst, fmt.Errorf("zstd has no compression level %d", level)
	}
	speed := zstd.EncoderLevelFromZstd(level)
	if level == 0 {
		speed = zstd.EncoderLevelFromZstd(DefaultLevel(Zstd)) // zstd's own meaning of 0
	}
	e := &zstdEncoders[speed]
	e.once.Do(func() {
		var err error
		e.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(fmt.Sprintf("record: zstd encoder: %v", err)) // the options are constants
		}
	})
	return e.encoder.EncodeAll(src, dst), nil
}
