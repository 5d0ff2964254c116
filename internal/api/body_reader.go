package api

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/ottlaio/ottla/internal/base"
)

// errBody is the error of a body whose shape is right, but that lacks what must not be null.
var errBody = errors.New("a name is null")

// bodyTopic is a topic in a request's body, which names it by its id from some version on, and by its name before.
type bodyTopic struct {
	name       []byte
	id         base.TopicID
	partitions int // how many of the request's partitions are this topic's
}

// nameOf is a topic's name for looking it up. It aliases the request's body: whoever keeps it copies it.
func (t *bodyTopic) nameOf() string { return unsafe.String(unsafe.SliceData(t.name), len(t.name)) }

// bodyReader reads the fields of a request without allocating, for those that come for every batch. After short is set everything is zero.
type bodyReader struct {
	body     []byte
	flexible bool
	short    bool
}

// take returns the next n bytes; a negative n is an error.
func (d *bodyReader) take(n int) []byte {
	if n < 0 || n > len(d.body) {
		d.short, d.body = true, nil
		return nil
	}
	b := d.body[:n:n]
	d.body = d.body[n:]
	return b
}

func (d *bodyReader) uint8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *bodyReader) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *bodyReader) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *bodyReader) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// uvarint reads a number of 32 bits: a tag may be as large, and what is a length or a count is held against the bytes that are left.
func (d *bodyReader) uvarint() int64 {
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
func (d *bodyReader) length(width int) int {
	switch {
	case d.flexible:
		return int(d.uvarint() - 1)
	case width == 2:
		return int(int16(d.uint16()))
	}
	return int(int32(d.uint32()))
}

// bytes reads a string or bytes, nil for null.
func (d *bodyReader) bytes(width int) []byte {
	n := d.length(width)
	if n < 0 {
		return nil
	}
	if b := d.take(n); b != nil {
		return b
	}
	return []byte{}
}

// text reads a string that must not be null.
func (d *bodyReader) text() []byte {
	b := d.bytes(2)
	if b == nil {
		d.take(-1)
	}
	return b
}

// topic reads the name of a topic, or its id.
func (d *bodyReader) topic(byID bool) bodyTopic {
	var t bodyTopic
	if byID {
		copy(t.id[:], d.take(len(t.id)))
	} else {
		t.name = d.text()
	}
	return t
}

func (d *bodyReader) skipTags() { d.tag(-1) }

// tag reads a section of tagged fields and returns the content of one of them, nil if it is not there.
func (d *bodyReader) tag(wanted int64) []byte {
	if !d.flexible {
		return nil
	}
	var found []byte
	for tags := d.uvarint(); tags > 0 && !d.short; tags-- {
		tag := d.uvarint()
		if field := d.take(int(d.uvarint())); tag == wanted {
			found = field
		}
	}
	return found
}
