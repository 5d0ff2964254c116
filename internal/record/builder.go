package record

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/ottlaio/ottla/internal/base"
)

// BuilderOptions are the fields of the batch that a Builder makes.
type BuilderOptions struct {
	Codec Codec
	// Level is that of Compress; 0 is DefaultLevel(Codec).
	Level int
	// Producer is nil for a batch without a producer id.
	Producer      *Producer
	Transactional bool
	Control       bool
	// LogAppendTime makes a batch whose records all have the timestamp AppendTime, in milliseconds.
	LogAppendTime bool
	AppendTime    int64
	LeaderEpoch   base.LeaderEpoch
}

// Producer is what identifies an idempotent producer's batch (KIP-98).
type Producer struct {
	ID           base.ProducerID
	Epoch        base.ProducerEpoch
	BaseSequence int32
}

// Builder makes a record batch, byte for byte as Kafka's Java producer lays it out. It is not safe for concurrent use.
type Builder struct {
	options   BuilderOptions
	records   []byte
	count     int32
	firstTime int64
	maxTime   int64
	offsetMax int32 // of the first record with maxTime
}

// NewBuilder returns an empty builder. The codec must be a known one.
func NewBuilder(o BuilderOptions) *Builder {
	if !o.Codec.Known() {
		panic(fmt.Sprintf("record: no such codec: %d", o.Codec))
	}
	if o.Level == 0 {
		o.Level = DefaultLevel(o.Codec)
	}
	return &Builder{options: o}
}

// Append adds a record with the next offset. The timestamp is in milliseconds; nil keys and values are null.
// It keeps none of the slices.
func (b *Builder) Append(timestamp int64, key, value []byte, headers ...RecordHeader) {
	if b.count == 0 {
		b.firstTime, b.maxTime = timestamp, timestamp
	} else if timestamp > b.maxTime {
		b.maxTime, b.offsetMax = timestamp, b.count
	}
	delta := timestamp - b.firstTime
	size := recordSize(delta, b.count, key, value, headers)
	b.records = appendVarint(b.records, int32(size))
	b.records = append(b.records, 0) // attributes
	b.records = binary.AppendUvarint(b.records, zigzag(delta))
	b.records = appendVarint(b.records, b.count)
	b.records = appendNullableBytes(b.records, key)
	b.records = appendNullableBytes(b.records, value)
	b.records = appendVarint(b.records, int32(len(headers)))
	for _, h := range headers {
		b.records = appendVarint(b.records, int32(len(h.Key)))
		b.records = append(b.records, h.Key...)
		b.records = appendNullableBytes(b.records, h.Value)
	}
	b.count++
}

// Len is the number of records appended.
func (b *Builder) Len() int { return int(b.count) }

// Size is the number of bytes that an uncompressed batch of the records appended so far has.
func (b *Builder) Size() int { return HeaderSize + len(b.records) }

// Reset empties the builder and keeps its options and memory.
func (b *Builder) Reset() { *b = Builder{options: b.options, records: b.records[:0]} }

// header returns the header of the batch that Build makes, without its length and checksum. Timestamps of a batch
// without records are base.NoTimestamp.
func (b *Builder) header(baseOffset base.Offset) Header {
	o := &b.options
	h := Header{
		BaseOffset:      baseOffset,
		LeaderEpoch:     o.LeaderEpoch,
		Magic:           Magic,
		Attributes:      Attributes(o.Codec),
		LastOffsetDelta: b.count - 1,
		BaseTimestamp:   b.firstTime,
		MaxTimestamp:    b.maxTime,
		ProducerID:      base.NoProducerID,
		ProducerEpoch:   base.NoProducerEpoch,
		BaseSequence:    NoSequence,
		RecordCount:     b.count,
	}
	if b.count == 0 {
		h.BaseTimestamp, h.MaxTimestamp = base.NoTimestamp, base.NoTimestamp
	}
	if o.LogAppendTime {
		h.Attributes |= flagLogAppendTime
		h.MaxTimestamp = o.AppendTime
	}
	if o.Transactional {
		h.Attributes |= flagTransactional
	}
	if o.Control {
		h.Attributes |= flagControl
	}
	if p := o.Producer; p != nil {
		h.ProducerID, h.ProducerEpoch, h.BaseSequence = p.ID, p.Epoch, p.BaseSequence
	}
	return h
}

// Build returns the batch of all records appended. The builder keeps nothing of it and may be used on.
func (b *Builder) Build(baseOffset base.Offset) []byte {
	h := b.header(baseOffset)
	if h.Attributes.Codec() == None {
		return seal(h, append(h.append(make([]byte, 0, b.Size())), b.records...))
	}
	batch, err := Compress(b.options.Codec, b.options.Level, h.append(make([]byte, 0, HeaderSize+len(b.records)/2)), b.records)
	if err != nil {
		panic(fmt.Sprintf("record: compressing into memory: %v", err)) // the codec is known
	}
	return seal(h, batch)
}

// seal writes length and checksum into the header of a batch that is otherwise complete.
func seal(h Header, batch []byte) []byte {
	binary.BigEndian.PutUint32(batch[posBatchLength:], uint32(len(batch)-lengthEnd))
	setCRC(batch)
	return batch
}

// recordSize is what a record's length field says: its bytes after that field.
func recordSize(timestampDelta int64, offsetDelta int32, key, value []byte, headers []RecordHeader) int {
	size := 1 + sizeOfUvarint(zigzag(timestampDelta)) + sizeOfVarint(int(offsetDelta)) +
		sizeOfBytes(key) + sizeOfBytes(value) + sizeOfVarint(len(headers))
	for _, h := range headers {
		size += sizeOfVarint(len(h.Key)) + len(h.Key) + sizeOfBytes(h.Value)
	}
	return size
}

func sizeOfBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return sizeOfVarint(len(b)) + len(b)
}

func sizeOfVarint(v int) int     { return sizeOfUvarint(zigzag(int64(v))) }
func sizeOfUvarint(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }
func zigzag(v int64) uint64      { return uint64(v<<1) ^ uint64(v>>63) }
func appendVarint(b []byte, v int32) []byte {
	return binary.AppendUvarint(b, zigzag(int64(v)))
}

func appendNullableBytes(b, v []byte) []byte {
	if v == nil {
		return appendVarint(b, -1)
	}
	return append(appendVarint(b, int32(len(v))), v...)
}
