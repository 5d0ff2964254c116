package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// DefaultDecompressLimit is the DecompressLimit of ValidateOptions that give none.
const DefaultDecompressLimit = 64 << 20

// CompressionTarget is a topic's compression.type. Its zero value is "producer": batches stay as they came.
type CompressionTarget struct {
	// Fixed says that batches of another codec are recompressed with Codec and Level.
	Fixed bool
	Codec Codec
	// Level is that of Compress (compression.gzip.level, compression.lz4.level, compression.zstd.level).
	Level int
}

// ValidateOptions are a topic's rules for what producers send.
type ValidateOptions struct {
	// Partition appears in messages only.
	Partition base.TopicPartition
	// MaxMessageBytes is max.message.bytes, for the batch as it came and as it is kept. 0 is no limit.
	MaxMessageBytes int
	Compression     CompressionTarget
	// LogAppendTime is message.timestamp.type=LogAppendTime: every record gets the timestamp Now.
	LogAppendTime bool
	// Now is the time of the append.
	Now time.Time
	// MaxBefore and MaxAfter are message.timestamp.before.max.ms and message.timestamp.after.max.ms. They are bounds,
	// zero too: use NoTimestampBound for none.
	MaxBefore, MaxAfter time.Duration
	// RequireKeys is set for compacted topics.
	RequireKeys bool
	// DecompressLimit is the most bytes that the records of a batch may decompress to; 0 is DefaultDecompressLimit.
	DecompressLimit int
}

// NoTimestampBound is a MaxBefore or MaxAfter that no timestamp exceeds.
const NoTimestampBound time.Duration = 1<<63 - 1

// Validated is a batch that may be appended.
type Validated struct {
	// Batch is the batch to append. It aliases the input unless it was recompressed. Its base offset is 0.
	Batch []byte
	// Header is Batch's header.
	Header Header
	// OffsetOfMaxTimestamp is the offset, relative to the batch's base offset, of the first record with the greatest
	// timestamp; 0 where no record has one.
	OffsetOfMaxTimestamp base.Offset
	// RecordErrors name the records that were refused, when Validate returns an error because of single records.
	RecordErrors []RecordError
}

// maxRecordErrors bounds the record errors that are kept, so that a batch of a million bad records does not become an
// answer of a hundred megabytes. All are counted.
const maxRecordErrors = 1000

// Validate checks what a producer sent for one partition against the rules of format and topic, and brings it into the
// form in which it is appended. It answers as Kafka's broker does, with the exceptions that the package comment lists.
//
// It may write into records: the header's maximum timestamp, attributes and checksum. Uncompressed batches are checked
// without allocating. Safe for concurrent use on different records.
//
// Errors, whose text is for the client: ErrCorrupt, ErrInvalidRecord, ErrInvalidTimestamp, ErrTooLarge,
// ErrUnsupportedMagic, ErrUnsupportedCodec. When single records are at fault, Validated.RecordErrors names them.
func Validate(records []byte, o ValidateOptions) (Validated, error) {
	h, err := validateBatch(records, &o)
	if err != nil {
		return Validated{}, err
	}
	body := records[HeaderSize:]
	codec := h.Attributes.Codec()
	if codec == None {
		return validateRecords(records, body, h, &o)
	}
	s := getScratch()
	defer s.put()
	limit := o.DecompressLimit
	if limit == 0 {
		limit = DefaultDecompressLimit
	}
	var v Validated
	err = inflate(codec, s, body, limit, func(body []byte) (err error) {
		v, err = validateRecords(records, body, h, &o)
		return err
	})
	return v, err
}

// validateRecords checks the records of a batch, decompressed in body, and finishes it.
func validateRecords(records, body []byte, h Header, o *ValidateOptions) (Validated, error) {
	r := newRules(h, o)
	was := h
	h.Attributes &^= flagLogAppendTime // the records' own timestamps count, whatever the client says
	c := newCursor(h, body)
	for c.next() {
		r.check(&c)
	}
	if c.err != nil {
		return Validated{}, c.err
	}
	if r.failed > 0 {
		return Validated{RecordErrors: r.errors}, r.err()
	}
	v := Validated{Batch: records, Header: h, OffsetOfMaxTimestamp: base.Offset(r.offsetOfMax)}
	if o.LogAppendTime {
		v.Header.Attributes |= flagLogAppendTime
		v.Header.MaxTimestamp = r.now
		v.OffsetOfMaxTimestamp = 0
	} else {
		v.Header.MaxTimestamp = r.maxTimestamp
	}
	if o.Compression.Fixed && o.Compression.Codec != h.Attributes.Codec() {
		err := v.recompress(body, o) // changes v
		return v, err
	}
	v.rewriteHeader(was)
	return v, nil
}

// validateBatch checks everything but the records, in the order in which Kafka's broker does.
func validateBatch(b []byte, o *ValidateOptions) (Header, error) {
	h, err := oneBatch(b)
	if err != nil {
		return h, err
	}
	if h.BaseOffset != 0 {
		return h, faultf(ErrInvalidRecord, "The baseOffset of the record batch in the append to %s should be 0, but it is %d",
			o.Partition, h.BaseOffset)
	}
	if o.MaxMessageBytes > 0 && h.Size() > o.MaxMessageBytes {
		return h, faultf(ErrTooLarge, "The record batch size in the append to %s is %d bytes which exceeds the maximum configured value of %d).",
			o.Partition, h.Size(), o.MaxMessageBytes)
	}
	if checksum(b) != h.CRC {
		return h, faultf(ErrCRC, "Record is corrupt (stored crc = %d) in topic partition %s.", h.CRC, o.Partition)
	}
	switch count := int64(h.LastOffsetDelta) + 1; {
	case count <= 0:
		return h, faultf(ErrInvalidRecord, "Batch has an invalid offset range: [%d, %d] in topic partition %s",
			h.BaseOffset, h.LastOffset(), o.Partition)
	case h.RecordCount <= 0:
		return h, faultf(ErrInvalidRecord, "Invalid reported count for record batch: %d in topic partition %s",
			h.RecordCount, o.Partition)
	case count != int64(h.RecordCount):
		return h, faultf(ErrInvalidRecord, "Inconsistent batch offset range [%d, %d] and count of records %d in topic partition %s",
			h.BaseOffset, h.LastOffset(), h.RecordCount, o.Partition)
	case h.Attributes.Control():
		return h, faultf(ErrInvalidRecord, "Clients are not allowed to write control records in topic partition %s", o.Partition)
	case h.HasProducer() && h.BaseSequence < 0:
		return h, faultf(ErrInvalidRecord, "Invalid sequence number %d in record batch with producerId %d in topic partition %s",
			h.BaseSequence, h.ProducerID, o.Partition)
	case h.Attributes&^clientMask != 0:
		return h, faultf(ErrInvalidRecord, "Clients are not allowed to set the attributes %#x of a record batch in topic partition %s",
			uint16(h.Attributes&^clientMask), o.Partition)
	case !h.Attributes.Codec().Known():
		return h, faultf(ErrUnsupportedCodec, "Unknown compression type id: %d", h.Attributes.Codec())
	}
	return h, nil
}

// oneBatch checks that b is exactly one batch of magic 2.
func oneBatch(b []byte) (Header, error) {
	const legacyOverhead = 14 // the smallest record of magic 0, Kafka's first check of any length
	if len(b) <= posMagic {
		return Header{}, errNoBatch
	}
	length := int32(binary.BigEndian.Uint32(b[posBatchLength:]))
	if length < legacyOverhead {
		return Header{}, faultf(ErrCorrupt, "Record size %d is less than the minimum record overhead (%d)", length, legacyOverhead)
	}
	switch {
	case b[posMagic] > Magic:
		return Header{}, errMagic(b)
	case int(length)+lengthEnd > len(b):
		return Header{}, errNoBatch
	case b[posMagic] != Magic:
		return Header{}, errMagic(b)
	case length < minBatchLength:
		return Header{}, faultf(ErrCorrupt, "Record batch is corrupt (the size %d is smaller than the minimum allowed overhead %d)",
			lengthEnd+int(length), HeaderSize)
	case int(length)+lengthEnd < len(b):
		return Header{}, errManyBatches
	}
	return readHeader(b), nil
}

var (
	errNoBatch     error = &Error{ErrInvalidRecord, "Produce requests must have at least one record batch per partition"}
	errManyBatches error = &Error{ErrInvalidRecord, "Produce requests are only allowed to contain exactly one record batch per partition"}
)

// rewriteHeader brings the batch's header in line with v.Header; was is what it says now. The checksum is computed
// again only if something it covers has changed.
func (v *Validated) rewriteHeader(was Header) {
	if v.Header.Attributes == was.Attributes && v.Header.MaxTimestamp == was.MaxTimestamp {
		return
	}
	binary.BigEndian.PutUint16(v.Batch[posAttributes:], uint16(v.Header.Attributes))
	binary.BigEndian.PutUint64(v.Batch[posMaxTimestamp:], uint64(v.Header.MaxTimestamp))
	setCRC(v.Batch)
	v.Header.CRC = binary.BigEndian.Uint32(v.Batch[posCRC:])
}

// recompress makes a new batch of the uncompressed records with the topic's codec.
func (v *Validated) recompress(body []byte, o *ValidateOptions) error {
	t := o.Compression
	v.Header.Attributes = v.Header.Attributes&^codecMask | Attributes(t.Codec)
	room := HeaderSize + len(body)
	if t.Codec != None {
		room = HeaderSize + len(body)/2
	}
	batch, err := Compress(t.Codec, t.Level, v.Header.append(make([]byte, 0, room)), body)
	if err != nil {
		*v = Validated{}
		return fmt.Errorf("recompress as %s: %w", t.Codec, err) // the level is none of the codec's
	}
	if o.MaxMessageBytes > 0 && len(batch) > o.MaxMessageBytes {
		*v = Validated{}
		return faultf(ErrTooLarge, "Message batch size is %d bytes in append to partition %s which exceeds the maximum configured size of %d.",
			len(batch), o.Partition, o.MaxMessageBytes)
	}
	v.Batch = seal(v.Header, batch)
	v.Header = readHeader(v.Batch)
	return nil
}

// rules are a topic's rules for single records, and what was found of them. They hold no pointer to the options, which
// would send those to the heap.
type rules struct {
	partition     base.TopicPartition
	requireKeys   bool
	appendTime    bool // the topic's timestamps are those of the append
	appendTimeSet bool // the client said LogAppendTime, which only the broker may
	now           int64
	first, last   int64 // bounds of timestamps, inclusive
	shownFirst    int64 // what Kafka prints for first

	maxTimestamp int64
	offsetOfMax  int32

	failed         int
	badTimestamp   bool
	errors         []RecordError
	keylessMessage string
}

func newRules(h Header, o *ValidateOptions) rules {
	now := o.Now.UnixMilli()
	earliest := now - boundMillis(o.MaxBefore)
	if o.MaxBefore == NoTimestampBound {
		earliest = math.MinInt64
	}
	return rules{
		partition:     o.Partition,
		requireKeys:   o.RequireKeys,
		appendTime:    o.LogAppendTime,
		appendTimeSet: h.Attributes.LogAppendTime(),
		now:           now,
		first:         earliest,
		last:          now + min(boundMillis(o.MaxAfter), math.MaxInt64-now),
		shownFirst:    now - boundMillis(o.MaxBefore),
		maxTimestamp:  base.NoTimestamp,
	}
}

// boundMillis is d in milliseconds, of which no bound is the most that can be taken from a time after 1970.
func boundMillis(d time.Duration) int64 {
	if d == NoTimestampBound {
		return math.MaxInt64
	}
	return d.Milliseconds()
}

// check applies the rules to the current record. It allocates only when one is broken.
func (r *rules) check(c *cursor) {
	timestamp := c.timestamp()
	switch {
	case r.requireKeys && c.key == nil:
		if r.keylessMessage == "" {
			r.keylessMessage = fmt.Sprintf("Compacted topic cannot accept message without key in topic partition %s", r.partition)
		}
		r.fail(c, r.keylessMessage)
	case !r.appendTime && timestamp != base.NoTimestamp && (timestamp < r.first || timestamp > r.last):
		r.badTimestamp = true
		r.failf(c, "Timestamp %d of message with offset %d is out of range. The timestamp should be within [%d, %d]",
			timestamp, c.offsetDelta, r.shownFirst, r.last)
	case r.appendTimeSet && (r.appendTime || timestamp == base.NoTimestamp):
		r.badTimestamp = true
		r.failf(c, "Invalid timestamp type in message DefaultRecord(offset=%d, timestamp=%d, key=%d bytes, value=%d bytes). "+
			"Producer should not set timestamp type to LogAppendTime.", c.offsetDelta, timestamp, len(c.key), len(c.value))
	}
	if timestamp > r.maxTimestamp {
		r.maxTimestamp, r.offsetOfMax = timestamp, c.offsetDelta
	}
}

func (r *rules) fail(c *cursor, message string) {
	r.failed++
	if len(r.errors) < maxRecordErrors {
		r.errors = append(r.errors, RecordError{BatchIndex: c.read - 1, Message: message})
	}
}

// failf is fail for a message that differs from record to record. It is not written where it would not be kept.
func (r *rules) failf(c *cursor, format string, args ...any) {
	if len(r.errors) == maxRecordErrors {
		r.failed++
		return
	}
	r.fail(c, fmt.Sprintf(format, args...))
}

// err is the error for the whole batch.
func (r *rules) err() error {
	if r.badTimestamp {
		return &Error{ErrInvalidTimestamp, "One or more records have been rejected due to invalid timestamp"}
	}
	const shown = 3
	texts := make([]string, 0, shown)
	for _, e := range r.errors[:min(len(r.errors), shown)] {
		texts = append(texts, e.String())
	}
	return faultf(ErrInvalidRecord, "One or more records have been rejected due to %d record errors in total, and only showing the first three errors at most: [%s]",
		r.failed, strings.Join(texts, ", "))
}
