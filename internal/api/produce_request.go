package api

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/wire"
)

// produceBody is the body of a Produce request, decoded here rather than by kmsg, which allocates for each topic and partition. Its byte slices
// alias the request's body. It is used again and again.
type produceBody struct {
	version int16
	// transactionalID is a copy; transactional tells that there is one.
	transactional   bool
	transactionalID string
	acks            int16
	timeoutMillis   int32
	topics          []produceTopic
	partitions      []producePartition // of all topics, in order
}

// produceTopic names a topic by its id from v13 on, and by its name before.
type produceTopic struct {
	name       []byte
	id         base.TopicID
	partitions int // how many of the request's partitions are this topic's
}

type producePartition struct {
	index   int32
	records []byte // nil stands for null
}

// errProduceBody is the error of a body whose shape is right, but that lacks what must not be null.
var errProduceBody = errors.New("the name of a topic is null")

// decode reads a request, versions 3 to 13.
func (q *produceBody) decode(r *wire.Request) error {
	if err := wire.CheckShape(r); err != nil {
		return err
	}
	d := produceReader{body: r.Body, flexible: r.Version >= 9}
	q.version = r.Version
	q.topics, q.partitions = q.topics[:0], q.partitions[:0]
	transactionalID := d.bytes(2)
	q.transactional, q.transactionalID = transactionalID != nil, string(transactionalID)
	q.acks, q.timeoutMillis = int16(d.uint16()), int32(d.uint32())
	for topics := d.length(4); topics > 0 && !d.short; topics-- {
		var t produceTopic
		if r.Version >= 13 {
			copy(t.id[:], d.take(len(t.id)))
		} else {
			if t.name = d.bytes(2); t.name == nil {
				d.take(-1) // it must not be null
			}
		}
		for partitions := d.length(4); partitions > 0 && !d.short; partitions-- {
			q.partitions = append(q.partitions, producePartition{index: int32(d.uint32()), records: d.bytes(4)})
			t.partitions++
			d.skipTags()
		}
		q.topics = append(q.topics, t)
		d.skipTags()
	}
	if d.short { // bytes after the topics are ignored, as Kafka does
		return &wire.DecodeError{Key: r.Key, Version: r.Version, Err: errProduceBody}
	}
	return nil
}

// nameOf is a topic's name for looking it up. It aliases the request's body: whoever keeps it copies it.
func (t *produceTopic) nameOf() string { return unsafe.String(unsafe.SliceData(t.name), len(t.name)) }

// produceReader reads the fields of a request. After short is set everything is zero.
type produceReader struct {
	body     []byte
	flexible bool
	short    bool
}

// take returns the next n bytes; a negative n is an error.
func (d *produceReader) take(n int) []byte {
	if n < 0 || n > len(d.body) {
		d.short, d.body = true, nil
		return nil
	}
	b := d.body[:n:n]
	d.body = d.body[n:]
	return b
}

func (d *produceReader) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *produceReader) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// uvarint reads a number of 32 bits: a tag may be as large, and what is a length or a count is held against the bytes that are left.
func (d *produceReader) uvarint() int64 {
	v, n := binary.Uvarint(d.body)
	if n <= 0 || v > 1<<32-1 {
		d.take(-1)
		return 0
	}
	d.body = d.body[n:]
	return int64(v)
}

// length reads the length of a string (width 2), or of bytes or an array (width 4), of which flexible versions have one kind. -1 is
// null.
func (d *produceReader) length(width int) int {
	switch {
	case d.flexible:
		return int(d.uvarint() - 1)
	case width == 2:
		return int(int16(d.uint16()))
	}
	return int(int32(d.uint32()))
}

// bytes reads a string or bytes, nil for null.
func (d *produceReader) bytes(width int) []byte {
	n := d.length(width)
	if n < 0 {
		return nil
	}
	if b := d.take(n); b != nil {
		return b
	}
	return []byte{}
}

func (d *produceReader) skipTags() {
	if !d.flexible {
		return
	}
	for tags := d.uvarint(); tags > 0 && !d.short; tags-- {
		d.uvarint()
		d.take(int(d.uvarint()))
	}
}
