package storage

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// The payloads of wal entries, beside those that need none:
//
//	Batches          one record batch as it stands in the segment
//	Carry, batches   1, then whole batches as they stand in the segment
//	Carry, ragged    2, base offset of the segment (8), position in it (8), the bytes from there to its end
//	Placed           see placedPayload
//	SegmentsDeleted  base offset of each segment (8)
//	SegmentsSwapped  number of the swap (8), cleaned to (8), forgotten to (8), count of the segments that go (4), the base offset of each (8),
//	                 count of those that come (4), the state of each
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

// swapPayload is the payload of SegmentsSwapped.
type swapPayload struct {
	number               uint64      // of the partition's swaps
	cleanedTo, forgotten base.Offset // cleanerState as of then
	old                  []base.Offset
	fresh                []segment.State
}

func (s swapPayload) appendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, s.number)
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.cleanedTo))
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.forgotten))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.old)))
	dst = appendSegmentBases(dst, s.old)
	return appendStates(dst, s.fresh)
}

// parseSwap decodes the payload of SegmentsSwapped.
func parseSwap(b []byte) (s swapPayload, err error) {
	r := &reader{b: b, version: checkpointVersion}
	s.number, s.cleanedTo, s.forgotten = r.u64(), r.offset(), r.offset()
	for range r.count(8) {
		s.old = append(s.old, r.offset())
	}
	s.fresh = r.states()
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return swapPayload{}, fmt.Errorf("%w: segments-swapped: %w", errPayload, r.err)
	}
	return s, nil
}
