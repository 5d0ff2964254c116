package record

import (
	"fmt"
	"strconv"
)

// Codec is a compression codec, with the number it has in a batch's attributes.
type Codec int8

// The codecs of Kafka.
const (
	None Codec = iota
	Gzip
	Snappy
	Lz4
	Zstd
)

var codecNames = [...]string{None: "none", Gzip: "gzip", Snappy: "snappy", Lz4: "lz4", Zstd: "zstd"}

// ParseCodec reads the names that Kafka's compression.type takes. "uncompressed" is None, as in Kafka; "producer" is
// not a codec.
func ParseCodec(name string) (Codec, error) {
	if name == "uncompressed" {
		return None, nil
	}
	for i, n := range codecNames {
		if n == name {
			return Codec(i), nil
		}
	}
	return None, fmt.Errorf("%w: %q", ErrUnsupportedCodec, name)
}

// Known reports whether c is one of Kafka's codecs.
func (c Codec) Known() bool { return c >= None && int(c) < len(codecNames) }

// String is the codec's name in Kafka's settings, or its number.
func (c Codec) String() string {
	if c.Known() {
		return codecNames[c]
	}
	return "codec(" + strconv.Itoa(int(c)) + ")"
}

// DefaultLevel is the level that Kafka's compression.<codec>.level has when it is not set (KIP-390).
func DefaultLevel(c Codec) int {
	switch c {
	case Gzip:
		return -1
	case Lz4:
		return 9
	case Zstd:
		return 3
	default:
		return 0
	}
}

// Compress appends src, compressed, to dst. Level is in the codec's own range (KIP-390: gzip 1 to 9 and -1, lz4 1 to
// 17, zstd up to 22) and is ignored by the codecs without levels. Safe for concurrent use; it keeps neither slice.
//
// Errors: ErrUnsupportedCodec.
func Compress(c Codec, level int, dst, src []byte) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return compressGzip(level, dst, src)
	case Snappy:
		return compressSnappy(dst, src), nil
	case Lz4:
		return compressLz4(level, dst, src)
	case Zstd:
		return compressZstd(level, dst, src)
	default:
		return dst, fmt.Errorf("%w: %s", ErrUnsupportedCodec, c)
	}
}

// Decompress appends src, decompressed, to dst, at most limit bytes. It takes memory for what comes out, not for
// what src claims: sizes are counted from the compressed blocks themselves before there is room made for them. Safe for concurrent use; it keeps neither slice.
//
// Errors: ErrTooLarge past limit, ErrInvalidRecord for bytes that Kafka's Java client could not decompress either,
// ErrUnsupportedCodec.
func Decompress(c Codec, dst, src []byte, limit int) ([]byte, error) {
	switch c {
	case None:
		if len(src) > limit {
			return dst, errDecompressLimit
		}
		return append(dst, src...), nil
	case Gzip:
		return decompressGzip(dst, src, limit)
	case Snappy:
		return decompressSnappy(dst, src, limit)
	case Lz4:
		return decompressLz4(dst, src, limit)
	case Zstd:
		return decompressZstd(dst, src, limit)
	default:
		return dst, fmt.Errorf("%w: %s", ErrUnsupportedCodec, c)
	}
}

var errDecompressLimit error = &Error{ErrTooLarge, "The decompressed records of the batch exceed the broker's limit"}

// errDecompress is the fault of a compressed stream that does not decompress.
func errDecompress(c Codec, err error) error {
	return faultf(ErrInvalidRecord, "The batch's %s data do not decompress: %v", c, err)
}
