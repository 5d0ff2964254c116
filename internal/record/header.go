package record

import (
	"encoding/binary"
	"hash/crc32"
	"iter"
	"math"

	"github.com/ottlaio/ottla/internal/base"
)

const (
	// HeaderSize is the number of bytes from the base offset to the record count.
	HeaderSize = 61
	// Magic is the only message format this package reads and writes.
	Magic = 2

	// lengthEnd is where BatchLength begins to count.
	lengthEnd = 12
	// minBatchLength is the BatchLength of a batch without records.
	minBatchLength = HeaderSize - lengthEnd
)

// Where the fields of the header begin.
const (
	posBaseOffset      = 0
	posBatchLength     = 8
	posLeaderEpoch     = 12
	posMagic           = 16
	posCRC             = 17
	posAttributes      = 21
	posLastOffsetDelta = 23
	posBaseTimestamp   = 27
	posMaxTimestamp    = 35
	posProducerID      = 43
	posProducerEpoch   = 51
	posBaseSequence    = 53
	posRecordCount     = 57
)

// NoSequence is the base sequence of a batch without a producer id.
const NoSequence int32 = -1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the fixed part of a record batch. The package comment gives the layout.
type Header struct {
	BaseOffset base.Offset
	// BatchLength is the number of bytes after this field.
	BatchLength     int32
	LeaderEpoch     base.LeaderEpoch
	Magic           int8
	CRC             uint32
	Attributes      Attributes
	LastOffsetDelta int32
	// BaseTimestamp is what the records' timestamps are relative to, in milliseconds; the delete horizon where
	// Attributes.DeleteHorizon holds.
	BaseTimestamp int64
	// MaxTimestamp is the greatest of the records' timestamps, or the time of the append where
	// Attributes.LogAppendTime holds.
	MaxTimestamp  int64
	ProducerID    base.ProducerID
	ProducerEpoch base.ProducerEpoch
	BaseSequence  int32
	RecordCount   int32
}

// ParseHeader reads the header at the start of b, which may hold more or less than the whole batch.
//
// Errors: ErrShort with fewer than HeaderSize bytes, ErrUnsupportedMagic, ErrCorrupt for a length that cannot be.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, ErrShort
	}
	length := int32(binary.BigEndian.Uint32(b[posBatchLength:]))
	if b[posMagic] != Magic {
		return Header{}, errMagic(b)
	}
	if length < minBatchLength {
		return Header{}, faultf(ErrCorrupt, "Record batch is corrupt (the size %d is smaller than the minimum allowed overhead %d)",
			lengthEnd+int64(length), HeaderSize)
	}
	return readHeader(b), nil
}

// readHeader reads the fields of b, which holds at least HeaderSize bytes.
func readHeader(b []byte) Header {
	_ = b[HeaderSize-1]
	return Header{
		BaseOffset:      base.Offset(binary.BigEndian.Uint64(b[posBaseOffset:])),
		BatchLength:     int32(binary.BigEndian.Uint32(b[posBatchLength:])),
		LeaderEpoch:     base.LeaderEpoch(binary.BigEndian.Uint32(b[posLeaderEpoch:])),
		Magic:           int8(b[posMagic]),
		CRC:             binary.BigEndian.Uint32(b[posCRC:]),
		Attributes:      Attributes(binary.BigEndian.Uint16(b[posAttributes:])),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[posLastOffsetDelta:])),
		BaseTimestamp:   int64(binary.BigEndian.Uint64(b[posBaseTimestamp:])),
		MaxTimestamp:    int64(binary.BigEndian.Uint64(b[posMaxTimestamp:])),
		ProducerID:      base.ProducerID(binary.BigEndian.Uint64(b[posProducerID:])),
		ProducerEpoch:   base.ProducerEpoch(binary.BigEndian.Uint16(b[posProducerEpoch:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(b[posBaseSequence:])),
		RecordCount:     int32(binary.BigEndian.Uint32(b[posRecordCount:])),
	}
}

// append writes the fields of h after b. It does not compute the CRC.
func (h Header) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(h.BaseOffset))
	b = binary.BigEndian.AppendUint32(b, uint32(h.BatchLength))
	b = binary.BigEndian.AppendUint32(b, uint32(h.LeaderEpoch))
	b = append(b, byte(h.Magic))
	b = binary.BigEndian.AppendUint32(b, h.CRC)
	b = binary.BigEndian.AppendUint16(b, uint16(h.Attributes))
	b = binary.BigEndian.AppendUint32(b, uint32(h.LastOffsetDelta))
	b = binary.BigEndian.AppendUint64(b, uint64(h.BaseTimestamp))
	b = binary.BigEndian.AppendUint64(b, uint64(h.MaxTimestamp))
	b = binary.BigEndian.AppendUint64(b, uint64(h.ProducerID))
	b = binary.BigEndian.AppendUint16(b, uint16(h.ProducerEpoch))
	b = binary.BigEndian.AppendUint32(b, uint32(h.BaseSequence))
	return binary.BigEndian.AppendUint32(b, uint32(h.RecordCount))
}

// Size is the length of the whole batch in bytes.
func (h Header) Size() int { return lengthEnd + int(h.BatchLength) }

// LastOffset is the offset of the batch's last record, which compaction may have removed.
func (h Header) LastOffset() base.Offset { return h.BaseOffset + base.Offset(h.LastOffsetDelta) }

// LastSequence is the sequence of the batch's last record. Sequences wrap from the greatest int32 to 0.
func (h Header) LastSequence() int32 {
	if h.BaseSequence == NoSequence {
		return NoSequence
	}
	return AddSequence(h.BaseSequence, h.LastOffsetDelta)
}

// HasProducer reports whether an idempotent or transactional producer wrote the batch (KIP-98).
func (h Header) HasProducer() bool { return h.ProducerID > base.NoProducerID }

// AddSequence returns the sequence n records after sequence, both at least 0; it wraps from the greatest int32 to 0.
func AddSequence(sequence, n int32) int32 {
	if sequence > math.MaxInt32-n {
		return n - (math.MaxInt32 - sequence) - 1
	}
	return sequence + n
}

// Next splits the batch at the start of b from what follows it. It checks the header, not the checksum.
//
// Errors: those of ParseHeader, and ErrShort if b ends before the batch does.
func Next(b []byte) (batch, rest []byte, err error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, b, err
	}
	if h.Size() > len(b) {
		return nil, b, ErrShort
	}
	return b[:h.Size():h.Size()], b[h.Size():], nil
}

// Headers yields the header of each batch in b, which begins with a batch. After the last whole batch it stops, or
// yields one error: ErrShort if bytes of a further batch follow, or what ParseHeader says. It reads nothing but headers.
func Headers(b []byte) iter.Seq2[Header, error] {
	return func(yield func(Header, error) bool) {
		for len(b) > 0 {
			h, err := ParseHeader(b)
			if err == nil && h.Size() > len(b) {
				err = ErrShort
			}
			if err != nil {
				yield(Header{}, err)
				return
			}
			if !yield(h, nil) {
				return
			}
			b = b[h.Size():]
		}
	}
}

// VerifyCRC checks a whole batch, as split off by Next, against its checksum. Errors: ErrCRC, ErrShort.
func VerifyCRC(batch []byte) error {
	if len(batch) < HeaderSize {
		return ErrShort
	}
	stored, computed := binary.BigEndian.Uint32(batch[posCRC:]), checksum(batch)
	if stored != computed {
		return faultf(ErrCRC, "Record is corrupt (stored crc = %d, computed crc = %d)", stored, computed)
	}
	return nil
}

func checksum(batch []byte) uint32 { return crc32.Checksum(batch[posAttributes:], castagnoli) }

func setCRC(batch []byte) { binary.BigEndian.PutUint32(batch[posCRC:], checksum(batch)) }

// SetBaseOffset writes the base offset into a batch. The checksum does not cover it.
func SetBaseOffset(batch []byte, o base.Offset) {
	binary.BigEndian.PutUint64(batch[posBaseOffset:], uint64(o))
}

// SetLeaderEpoch writes the leader epoch into a batch. The checksum does not cover it.
func SetLeaderEpoch(batch []byte, e base.LeaderEpoch) {
	binary.BigEndian.PutUint32(batch[posLeaderEpoch:], uint32(e))
}

func errMagic(b []byte) error {
	if m := int8(b[posMagic]); m == 0 || m == 1 {
		return faultf(ErrUnsupportedMagic, "Record batches of magic version %d are not supported, only those of version 2", m)
	}
	return faultf(ErrCorrupt, "Invalid magic found in record: %d", int8(b[posMagic]))
}
