package record

import (
	"encoding/binary"

	"github.com/ottlaio/ottla/internal/base"
)

// FilterOptions say what Filter leaves of a batch.
type FilterOptions struct {
	// Keep decides about each record. Key and value are valid during the call only; nil is null. A nil Keep drops all records.
	Keep func(offset base.Offset, key, value []byte) bool
	// Look, if it is set, sees the key of each record, in order, before Keep is called for the first: what takes long for one after the
	// other can be done for all of them at once.
	Look func(key []byte)
	// Horizon is the time in milliseconds from which on a later pass may drop what the batch holds of tombstones, if that has not been
	// set before (KIP-534).
	Horizon int64
	// MarkHorizon sets it though the batch holds no tombstone, as for the marker of a transaction of which nothing else is left.
	MarkHorizon bool
	// KeepEmpty leaves the header of a batch without records, which tells of a producer's sequence or where the log ends.
	KeepEmpty bool
}

// Filtered tells what Filter has done.
type Filtered struct {
	Kept, Dropped int  // records
	Same          bool // the batch is as it was
}

// Filter appends to dst what remains of a whole batch, nothing if it goes altogether. Offsets, sequences and everything else that the
// header says of the batch as a whole stay, and so does its codec.
//
// As long as no horizon is set the base timestamp stays too, so that records are copied as they are; Kafka makes it that of the first
// record that is left, which means the same to whoever reads the records.
//
// Errors: those of Records.
func Filter(dst, batch []byte, o FilterOptions) ([]byte, Filtered, error) {
	h, _, err := split(batch)
	if err != nil {
		return dst, Filtered{}, err
	}
	s := getScratch()
	defer s.put()
	left := survivors{records: s.b[:0], maxTime: base.NoTimestamp}
	if o.Keep != nil && h.RecordCount > 0 {
		err = uncompressed(batch, DefaultDecompressLimit, func(h Header, body []byte) error {
			if o.Look != nil {
				c := newCursor(h, body)
				for c.next() {
					o.Look(c.key)
				}
				if c.err != nil {
					return c.err
				}
			}
			c := newCursor(h, body)
			for c.next() {
				left.add(&c, o.Keep)
			}
			return c.err
		})
		s.b = left.records[:0]
		if err != nil {
			return dst, Filtered{}, err
		}
	}
	f := Filtered{Kept: int(left.count), Dropped: int(h.RecordCount - left.count)}
	setHorizon := (left.tombstones || o.MarkHorizon) && !h.Attributes.DeleteHorizon() && left.count > 0
	switch {
	case left.count == 0 && !o.KeepEmpty:
		return dst, f, nil
	case f.Dropped == 0 && !setHorizon:
		f.Same = true
		return append(dst, batch[:h.Size()]...), f, nil
	case left.count == 0:
		return appendEmpty(dst, h), f, nil
	}
	h.RecordCount = left.count
	if !h.Attributes.LogAppendTime() {
		h.MaxTimestamp = left.maxTime
	}
	records := left.records
	if setHorizon {
		rebased := getScratch()
		defer rebased.put()
		records = rebase(rebased.b[:0], records, h.BaseTimestamp-o.Horizon)
		rebased.b = records[:0]
		h.BaseTimestamp = o.Horizon
		h.Attributes |= flagDeleteHorizon
	}
	at := len(dst)
	dst = h.append(dst)
	codec := h.Attributes.Codec()
	if codec == None {
		dst = append(dst, records...)
	} else if dst, err = Compress(codec, DefaultLevel(codec), dst, records); err != nil {
		return dst[:at], Filtered{}, err
	}
	seal(h, dst[at:])
	return dst, f, nil
}

// survivors collects the records that are kept.
type survivors struct {
	records    []byte
	count      int32
	maxTime    int64
	tombstones bool
}

func (s *survivors) add(c *cursor, keep func(base.Offset, []byte, []byte) bool) {
	if !keep(c.header.BaseOffset+base.Offset(c.offsetDelta), c.key, c.value) {
		return
	}
	s.records = append(s.records, c.raw...)
	s.count++
	s.maxTime = max(s.maxTime, c.timestamp())
	s.tombstones = s.tombstones || c.value == nil
}

// rebase appends records, which are whole, with shift added to their timestamp deltas.
func rebase(dst, records []byte, shift int64) []byte {
	for len(records) > 0 {
		size, n := varint(records)
		body := records[n : n+int(size)]
		records = records[n+int(size):]
		delta, m := varlong(body[1:])
		rest := body[1+m:]
		moved := zigzag(delta + shift)
		dst = appendVarint(dst, int32(1+sizeOfUvarint(moved)+len(rest)))
		dst = append(dst, body[0])
		dst = binary.AppendUvarint(dst, moved)
		dst = append(dst, rest...)
	}
	return dst
}

// appendEmpty appends a batch without records that says of offsets and producer what h says.
func appendEmpty(dst []byte, h Header) []byte {
	h.Attributes &= flagLogAppendTime | flagTransactional | flagControl
	h.BaseTimestamp, h.RecordCount = base.NoTimestamp, 0
	at := len(dst)
	dst = h.append(dst)
	seal(h, dst[at:])
	return dst
}

// Keys calls visit with offset and key of each record of a whole batch until it returns false. A nil key is null; it is valid during the
// call only.
//
// Errors: those of Records.
func Keys(batch []byte, visit func(offset base.Offset, key []byte) bool) error {
	return walk(batch, DefaultDecompressLimit, func(c *cursor) bool {
		return visit(c.header.BaseOffset+base.Offset(c.offsetDelta), c.key)
	})
}
