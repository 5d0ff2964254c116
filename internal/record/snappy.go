package record

import (
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/s2"
)

// Java's snappy streams (xerial snappy-java) begin with a header and go on in chunks: a big-endian length of four bytes
// and a raw snappy block. Other clients (librdkafka, franz-go) send one raw block without either. Kafka takes both.
const (
	xerialMagic      = "\x82SNAPPY\x00"
	xerialHeader     = xerialMagic + "\x00\x00\x00\x01" + "\x00\x00\x00\x01" // version, lowest compatible version
	xerialHeaderSize = len(xerialHeader)
	xerialBlockSize  = 32 << 10 // the block size of Kafka's Java producer
)

var (
	errSnappyChunk  = errors.New("a chunk is longer than the stream")
	errSnappyHeader = errors.New("the stream header is cut off")
	errSnappyBlock  = errors.New("a block is corrupt")
)

func compressSnappy(dst, src []byte) []byte {
	dst = append(dst, xerialHeader...)
	for len(src) > 0 {
		block := src[:min(len(src), xerialBlockSize)]
		src = src[len(block):]
		dst = grow(dst, 4+s2.MaxEncodedLen(len(block)))
		room := dst[len(dst)+4 : cap(dst)]
		size := len(s2.EncodeSnappy(room, block)) // into room, which is large enough
		dst = binary.BigEndian.AppendUint32(dst, uint32(size))
		dst = dst[:len(dst)+size]
	}
	return dst
}

func decompressSnappy(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < len(xerialMagic) || string(src[:len(xerialMagic)]) != xerialMagic {
		return decompressSnappyBlock(dst, src, limit)
	}
	start := len(dst)
	for len(src) > 0 {
		// Java's reader takes streams that were concatenated, so a header may stand where a chunk is expected.
		if len(src) >= len(xerialMagic) && string(src[:len(xerialMagic)]) == xerialMagic {
			if len(src) < xerialHeaderSize {
				return dst, errDecompress(Snappy, errSnappyHeader)
			}
			src = src[xerialHeaderSize:]
			continue
		}
		if len(src) < 4 {
			return dst, errDecompress(Snappy, errSnappyChunk)
		}
		size := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(size) > uint64(len(src)) {
			return dst, errDecompress(Snappy, errSnappyChunk)
		}
		var err error
		if dst, err = decompressSnappyBlock(dst, src[:size], limit-(len(dst)-start)); err != nil {
			return dst, err
		}
		src = src[size:]
	}
	return dst, nil
}

func decompressSnappyBlock(dst, block []byte, limit int) ([]byte, error) {
	size, ok := snappySize(block)
	if !ok {
		return dst, errDecompress(Snappy, errSnappyBlock)
	}
	if size > limit {
		return dst, errDecompressLimit
	}
	dst = grow(dst, size)
	end := len(dst) + size
	if _, err := s2.Decode(dst[len(dst):end:end], block); err != nil {
		return dst, errDecompress(Snappy, err)
	}
	return dst[:end], nil
}

// snappySize walks over the elements of a raw block and returns the size they decompress to, which must be the one that
// the block declares: so memory is never taken on a declaration alone. It also refuses the one element that s2 adds to
// snappy's (a copy at offset 0 repeats the last offset), which other clients could not read.
func snappySize(block []byte) (size int, ok bool) {
	declared, n := binary.Uvarint(block)
	if n <= 0 || declared > 1<<32-1 {
		return 0, false
	}
	for p := n; p < len(block); {
		tag := block[p]
		var length, skip int
		switch tag & 3 {
		case 0: // literal
			length, skip = int(tag>>2)+1, 1
			if extra := length - 60; extra > 0 { // 1 to 4 bytes hold the length
				if p+1+extra > len(block) {
					return 0, false
				}
				var le [4]byte
				copy(le[:], block[p+1:p+1+extra])
				length, skip = int(binary.LittleEndian.Uint32(le[:]))+1, 1+extra
			}
			skip += length
		case 1:
			length, skip = int(tag>>2&7)+4, 2
			if p+2 > len(block) || tag>>5 == 0 && block[p+1] == 0 {
				return 0, false
			}
		case 2:
			length, skip = int(tag>>2)+1, 3
		case 3:
			length, skip = int(tag>>2)+1, 5
		}
		if skip > len(block)-p {
			return 0, false
		}
		p += skip
		size += length
	}
	return size, uint64(size) == declared
}
