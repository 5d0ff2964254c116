package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// The lz4 frame as Kafka's Java client reads it (KIP-57): one frame, of independent blocks, without a dictionary. The
// frame is taken apart here and not by the library's reader because that reader takes what Java refuses, which would
// leave a batch in the log that no Java consumer can pass, and allocates by the block size that the frame claims.
const (
	lz4Magic = 0x184D2204

	lz4Version         = 0x40 // of FLG
	lz4VersionMask     = 0xc0
	lz4Independent     = 0x20
	lz4BlockChecksum   = 0x10
	lz4ContentSize     = 0x08
	lz4ContentChecksum = 0x04
	lz4FlagsReserved   = 0x03

	lz4BlockReserved = 0x8f // of BD

	lz4Stored = 1 << 31 // a block that is not compressed
)

var (
	errLz4Short    = errors.New("stream ended prematurely")
	errLz4Magic    = errors.New("stream unsupported (invalid magic bytes)")
	errLz4Header   = errors.New("stream frame descriptor corrupted")
	errLz4Block    = errors.New("a block is corrupt")
	errLz4Checksum = errors.New("block checksum mismatch")
	errLz4Trailing = errors.New("bytes are left after the end of the frame")
)

func decompressLz4(dst, src []byte, limit int) ([]byte, error) {
	flags, maxBlock, src, err := lz4FrameHeader(src)
	if err != nil {
		return dst, errDecompress(Lz4, err)
	}
	start := len(dst)
	for {
		block, stored, rest, err := lz4NextBlock(src, flags, maxBlock)
		if err != nil {
			return dst, errDecompress(Lz4, err)
		}
		src = rest
		if block == nil {
			if len(src) > 0 {
				return dst, errDecompress(Lz4, errLz4Trailing)
			}
			return dst, nil
		}
		size := len(block)
		if !stored {
			if size = lz4Size(block); size < 0 || size > maxBlock {
				return dst, errDecompress(Lz4, errLz4Block)
			}
		}
		if size > limit-(len(dst)-start) {
			return dst, errDecompressLimit
		}
		dst = grow(dst, size)
		if stored {
			dst = append(dst, block...)
			continue
		}
		end := len(dst) + size
		n, err := lz4.UncompressBlock(block, dst[len(dst):end:end])
		if err != nil {
			return dst, errDecompress(Lz4, err)
		}
		if n != size {
			return dst, errDecompress(Lz4, errLz4Block)
		}
		dst = dst[:end]
	}
}

// lz4FrameHeader reads the frame descriptor and returns the blocks after it.
func lz4FrameHeader(src []byte) (flags byte, maxBlock int, blocks []byte, err error) {
	const shortest = 4 + 2 + 1 // magic, FLG and BD, header checksum
	if len(src) < shortest {
		return 0, 0, nil, errLz4Short
	}
	if binary.LittleEndian.Uint32(src) != lz4Magic {
		return 0, 0, nil, errLz4Magic
	}
	flags, blockFlags := src[4], src[5]
	if flags&lz4VersionMask != lz4Version || flags&lz4Independent == 0 || flags&lz4FlagsReserved != 0 ||
		blockFlags&lz4BlockReserved != 0 || blockFlags>>4 < 4 {
		return 0, 0, nil, errLz4Header
	}
	end := 6
	if flags&lz4ContentSize != 0 {
		end += 8
	}
	if len(src) < end+1 {
		return 0, 0, nil, errLz4Short
	}
	if byte(xxh32(src[4:end])>>8) != src[end] {
		return 0, 0, nil, errLz4Header
	}
	return flags, 1 << (8 + 2*(blockFlags>>4)), src[end+1:], nil
}

// lz4NextBlock splits the next block off src. A nil block is the end of the frame.
func lz4NextBlock(src []byte, flags byte, maxBlock int) (block []byte, stored bool, rest []byte, err error) {
	if len(src) < 4 {
		return nil, false, nil, errLz4Short
	}
	size := binary.LittleEndian.Uint32(src)
	src = src[4:]
	if size == 0 {
		if flags&lz4ContentChecksum != 0 {
			// Not checked, as in Java: the batch's own checksum covers the bytes.
			if len(src) < 4 {
				return nil, false, nil, errLz4Short
			}
			src = src[4:]
		}
		return nil, false, src, nil
	}
	stored = size&lz4Stored != 0
	size &^= lz4Stored
	if size == 0 || int64(size) > int64(maxBlock) {
		return nil, false, nil, errLz4Block
	}
	need := int(size)
	if flags&lz4BlockChecksum != 0 {
		need += 4
	}
	if len(src) < need {
		return nil, false, nil, errLz4Short
	}
	block = src[:size]
	if flags&lz4BlockChecksum != 0 && binary.LittleEndian.Uint32(src[size:]) != xxh32(block) {
		return nil, false, nil, errLz4Checksum
	}
	return block, stored, src[need:], nil
}

// lz4Size walks over the sequences of a block and returns the size they decompress to, or -1 if they are cut off. It
// costs far less than decompressing and lets memory be taken for what will really come out.
func lz4Size(block []byte) int {
	size := 0
	for p := 0; ; {
		if p >= len(block) {
			return -1
		}
		token := block[p]
		p++
		literals, n := lz4Length(block[p:], int(token>>4))
		if n < 0 || literals > len(block)-p-n {
			return -1
		}
		p += n + literals
		size += literals
		if p == len(block) {
			return size // the last sequence has no match
		}
		if p += 2; p > len(block) { // the match's offset
			return -1
		}
		match, n := lz4Length(block[p:], int(token&15))
		if n < 0 {
			return -1
		}
		p += n
		size += match + 4
	}
}

// lz4Length reads a length whose first four bits are given, and returns it with the number of bytes that it takes.
func lz4Length(b []byte, length int) (total, n int) {
	if length < 15 {
		return length, 0
	}
	for i, c := range b {
		length += int(c)
		if c != 255 {
			return length, i + 1
		}
	}
	return 0, -1
}

var lz4Writers = sync.Pool{New: func() any { return lz4.NewWriter(nil) }}

// lz4Levels are the library's names for its levels; the last serves Kafka's 10 to 17 too.
var lz4Levels = [...]lz4.CompressionLevel{
	lz4.Level1, lz4.Level2, lz4.Level3, lz4.Level4, lz4.Level5, lz4.Level6, lz4.Level7, lz4.Level8, lz4.Level9,
}

func compressLz4(level int, dst, src []byte) ([]byte, error) {
	if level < 1 || level > 17 {
		return dst, fmt.Errorf("lz4 has no compression level %d", level)
	}
	speed := lz4Levels[min(level, len(lz4Levels))-1]
	if level == DefaultLevel(Lz4) {
		speed = lz4.Fast // as in Kafka, whose default was the fast compressor before there were levels (KIP-390)
	}
	out := &appender{dst}
	w := lz4Writers.Get().(*lz4.Writer)
	w.Reset(out)
	err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.BlockChecksumOption(false), lz4.ChecksumOption(false),
		lz4.ConcurrencyOption(1), lz4.CompressionLevelOption(speed))
	if err == nil {
		_, err = w.Write(src)
	}
	if err == nil {
		err = w.Close()
	}
	w.Reset(nil)
	lz4Writers.Put(w)
	return out.b, err
}
