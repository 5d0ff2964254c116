package storage

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ottlaio/ottla/internal/base"
)

// The payloads of wal entries, beside those that need none:
//
//	Batches          one record batch as it stands in the segment
//	Carry, batches   1, then whole batches as they stand in the segment
//	Carry, ragged    2, base offset of the segment (8), position in it (8), the bytes from there to its end
//	SegmentsDeleted  base offset of each segment (8)
//
// Numbers are big-endian.
const (
	carryBatches byte = 1
	carryRagged  byte = 2

	carryRaggedHeader = 1 + 8 + 8
)

var errPayload = errors.New("malformed wal entry")

// appendRagged encodes a Carry of the ragged end of a segment.
func appendRagged(dst []byte, segment base.Offset, pos int64, data []byte) []byte {
	dst = append(dst, carryRagged)
	dst = binary.BigEndian.AppendUint64(dst, uint64(segment))
	dst = binary.BigEndian.AppendUint64(dst, uint64(pos))
	return append(dst, data...)
}

// parseRagged decodes what follows the first byte of a Carry of the ragged end of a segment. data aliases b.
func parseRagged(b []byte) (segment base.Offset, pos int64, data []byte, err error) {
	if len(b) < carryRaggedHeader-1 {
		return 0, 0, nil, fmt.Errorf("%w: carry of a ragged end with %d bytes", errPayload, len(b))
	}
	return base.Offset(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])), b[16:], nil
}

// appendSegmentBases encodes the payload of SegmentsDeleted.
func appendSegmentBases(dst []byte, bases []base.Offset) []byte {
	for _, b := range bases {
		dst = binary.BigEndian.AppendUint64(dst, uint64(b))
	}
	return dst
}

// parseSegmentBases decodes the payload of SegmentsDeleted.
func parseSegmentBases(b []byte) ([]base.Offset, error) {
	if len(b)%8 != 0 {
		return nil, fmt.Errorf("%w: segments-deleted with %d bytes", errPayload, len(b))
	}
	bases := make([]base.Offset, 0, len(b)/8)
	for ; len(b) > 0; b = b[8:] {
		bases = append(bases, base.Offset(binary.BigEndian.Uint64(b)))
	}
	return bases, nil
}
