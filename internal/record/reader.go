package record

import (
	"encoding/binary"
	"iter"
	"math"

	"github.com/ottlaio/ottla/internal/base"
)

// Record is one record of a batch. A nil Key or Value is null, an empty one is empty.
type Record struct {
	Offset base.Offset
	// Timestamp is in milliseconds: the record's own, or the time of the append where the batch says so.
	Timestamp  int64
	Key, Value []byte
	Headers    []RecordHeader
}

// RecordHeader is one of a record's headers (KIP-82). Keys may repeat. A nil Value is null.
type RecordHeader struct {
	Key   string
	Value []byte
}

// Records yields the records of a whole batch in order. It stops after the last one, or yields one error in place of
// the rest. Records are decompressed to at most limit bytes. Keys and values alias the batch, or memory of their own
// where the batch is compressed; they stay valid as long as the batch does. A compressed batch holds one of few places (see inflate)
// until the iteration ends, so that its body must not decompress anything else.
//
// Offsets must ascend but may have gaps, because compaction leaves them. The checksum is not looked at.
//
// Errors: ErrShort, ErrCorrupt, ErrInvalidRecord, ErrTooLarge past limit, ErrUnsupportedMagic, ErrUnsupportedCodec.
func Records(batch []byte, limit int) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		h, body, err := split(batch)
		if err != nil {
			yield(Record{}, err)
			return
		}
		each := func(body []byte) error {
			c := newCursor(h, body)
			for c.next() {
				if !yield(c.record(), nil) {
					return nil
				}
			}
			return c.err
		}
		if codec := h.Attributes.Codec(); codec == None {
			err = each(body)
		} else {
			err = inflateOwn(codec, body, limit, each)
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

// split returns the header of a whole batch and its records as they are, compressed or not.
func split(batch []byte) (Header, []byte, error) {
	h, err := ParseHeader(batch)
	if err != nil {
		return h, nil, err
	}
	if h.Size() > len(batch) {
		return h, nil, ErrShort
	}
	return h, batch[HeaderSize:h.Size()], nil
}

// cursor walks over the uncompressed records of a batch without allocating. It checks every length against the bytes
// that are left, and that exactly the declared number of records fills the bytes.
type cursor struct {
	b      []byte
	header Header
	read   int32 // records read

	// The current record.
	size           int    // with its length field
	raw            []byte // all of it
	offsetDelta    int32
	timestampDelta int64
	key, value     []byte
	headers        []byte // of headerCount headers, checked
	headerCount    int

	err error
}

func newCursor(h Header, body []byte) cursor {
	return cursor{b: body, header: h, offsetDelta: -1}
}

// next moves to the next record. It returns false at the end and when err is set.
func (c *cursor) next() bool {
	if c.read >= c.header.RecordCount {
		switch {
		case c.header.RecordCount < 0:
			c.err = errNegativeCount
		case len(c.b) > 0:
			c.err = errRecordsRemain
		}
		return false
	}
	size, n := varint(c.b)
	if n == 0 || size < 0 || int(size) > len(c.b)-n {
		c.err = errRecordSize
		if len(c.b) == 0 {
			c.err = errRecordsMissing
		}
		return false
	}
	body := c.b[n : n+int(size)]
	if err := c.parse(body); err != nil {
		c.err = err
		return false
	}
	c.size = n + int(size)
	c.raw, c.b = c.b[:c.size], c.b[c.size:]
	c.read++
	return true
}

// parse reads the record that fills b.
func (c *cursor) parse(b []byte) error {
	if len(b) == 0 {
		return errRecordSize
	}
	b = b[1:] // attributes, of which none is in use; Kafka does not look at them
	delta, n := varlong(b)
	if n == 0 {
		return errVarint
	}
	c.timestampDelta, b = delta, b[n:]
	offset, n := varint(b)
	if n == 0 {
		return errVarint
	}
	if offset <= c.offsetDelta || offset > c.header.LastOffsetDelta {
		return errOffsetDelta
	}
	c.offsetDelta, b = offset, b[n:]
	var ok bool
	if c.key, b, ok = nullableBytes(b); !ok {
		return errKey
	}
	if c.value, b, ok = nullableBytes(b); !ok {
		return errValue
	}
	count, n := varint(b)
	if n == 0 || count < 0 || int(count) > len(b)-n {
		return errHeaderCount
	}
	b = b[n:]
	c.headers, c.headerCount = b, int(count)
	for range count {
		var key []byte
		if key, b, ok = nullableBytes(b); !ok || key == nil {
			return errHeaderKey
		}
		if _, b, ok = nullableBytes(b); !ok {
			return errHeaderValue
		}
	}
	if len(b) > 0 {
		return errRecordTrailing
	}
	return nil
}

// timestamp is the current record's, in milliseconds.
func (c *cursor) timestamp() int64 {
	if c.header.Attributes.LogAppendTime() {
		return c.header.MaxTimestamp
	}
	return c.header.BaseTimestamp + c.timestampDelta
}

// record returns the current record. Only its headers are allocated.
func (c *cursor) record() Record {
	r := Record{
		Offset:    c.header.BaseOffset + base.Offset(c.offsetDelta),
		Timestamp: c.timestamp(),
		Key:       c.key,
		Value:     c.value,
	}
	if c.headerCount > 0 {
		r.Headers = make([]RecordHeader, c.headerCount) // parse has seen all of them
		b := c.headers
		for i := range r.Headers {
			var key []byte
			key, b, _ = nullableBytes(b)
			r.Headers[i].Key = string(key)
			r.Headers[i].Value, b, _ = nullableBytes(b)
		}
	}
	return r
}

// The faults of a record. They are values, because a hostile batch must not cost more than a good one.
var (
	errVarint         error = &Error{ErrInvalidRecord, "Found invalid record structure: a variable length integer is cut off or too long"}
	errRecordSize     error = &Error{ErrInvalidRecord, "Invalid record size: the record does not fit into the rest of its batch"}
	errRecordTrailing error = &Error{ErrInvalidRecord, "Invalid record size: bytes are left after the record's last header"}
	errOffsetDelta    error = &Error{ErrInvalidRecord, "Found invalid record structure: the offset delta is out of order"}
	errKey            error = &Error{ErrInvalidRecord, "Found invalid record structure: invalid key length"}
	errValue          error = &Error{ErrInvalidRecord, "Found invalid record structure: invalid value length"}
	errHeaderCount    error = &Error{ErrInvalidRecord, "Found invalid number of record headers"}
	errHeaderKey      error = &Error{ErrInvalidRecord, "Found invalid record structure: invalid header key"}
	errHeaderValue    error = &Error{ErrInvalidRecord, "Found invalid record structure: invalid header value"}
	errNegativeCount  error = &Error{ErrInvalidRecord, "Found invalid record count: it is negative"}
	errRecordsRemain  error = &Error{ErrInvalidRecord, "Incorrect declared batch size, records still remaining in file"}
	errRecordsMissing error = &Error{ErrInvalidRecord, "Incorrect declared batch size, premature EOF reached"}
)

// varint reads a zigzag integer of 32 bits. It returns n == 0 if b ends within it or it does not fit.
func varint(b []byte) (v int32, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return int32(b[0]>>1) ^ -int32(b[0]&1), 1
	}
	u, n := binary.Uvarint(b)
	if n <= 0 || n > binary.MaxVarintLen32 || u > math.MaxUint32 {
		return 0, 0
	}
	return int32(uint32(u)>>1) ^ -int32(u&1), n
}

// varlong reads a zigzag integer of 64 bits, as varint does.
func varlong(b []byte) (v int64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return int64(b[0]>>1) ^ -int64(b[0]&1), 1
	}
	u, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, 0
	}
	return int64(u>>1) ^ -int64(u&1), n
}

// nullableBytes reads a length of at least -1 and that many bytes; -1 is null.
func nullableBytes(b []byte) (v, rest []byte, ok bool) {
	size, n := varint(b)
	if n == 0 || size < -1 || int(size) > len(b)-n {
		return nil, nil, false
	}
	if size < 0 {
		return nil, b[n:], true
	}
	end := n + int(size)
	return b[n:end:end], b[end:], true
}
