package record

import "github.com/ottlaio/ottla/internal/base"

// FirstAtOrAfter finds the first record of a whole batch with a timestamp of at least ts (ListOffsets by timestamp).
// Without one, ok is false. Records are decompressed to at most limit bytes.
//
// Errors: those of Records. Faults after the record found are not looked for.
func FirstAtOrAfter(batch []byte, ts int64, limit int) (offset base.Offset, timestamp int64, ok bool, err error) {
	err = walk(batch, limit, func(c *cursor) bool {
		if c.timestamp() < ts {
			return true
		}
		offset, timestamp, ok = c.header.BaseOffset+base.Offset(c.offsetDelta), c.timestamp(), true
		return false
	})
	return offset, timestamp, ok, err
}

// OffsetOfMaxTimestamp finds the first of a whole batch's records with the greatest timestamp (KIP-734). A batch
// without records, as compaction may leave, gives its last offset and base.NoTimestamp.
//
// Errors: those of Records.
func OffsetOfMaxTimestamp(batch []byte, limit int) (offset base.Offset, timestamp int64, err error) {
	timestamp = base.NoTimestamp
	first := true
	err = walk(batch, limit, func(c *cursor) bool {
		if first || c.timestamp() > timestamp {
			offset, timestamp = c.header.BaseOffset+base.Offset(c.offsetDelta), c.timestamp()
		}
		first = false
		return true
	})
	if err == nil && first {
		h := readHeader(batch)
		offset = h.LastOffset()
	}
	return offset, timestamp, err
}

// walk calls visit for each record until it returns false. What visit sees is valid during the call only.
func walk(batch []byte, limit int, visit func(*cursor) bool) error {
	s := getScratch()
	defer s.put()
	h, body, err := open(batch, s.b[:0], limit)
	if err != nil {
		return err
	}
	s.keep(h, body)
	c := newCursor(h, body)
	for c.next() {
		if !visit(&c) {
			return nil
		}
	}
	return c.err
}
