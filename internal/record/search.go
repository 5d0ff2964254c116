package record

import "github.com/ottlaio/ottla/internal/base"

// FirstAtOrAfter finds the first record of a whole batch with a timestamp of at least ts and an offset of at least start (ListOffsets
// by timestamp; a log may start in the middle of a batch). Without one, ok is false. Records are decompressed to at most limit bytes.
//
// Errors: those of Records. Faults after the record found are not looked for.
func FirstAtOrAfter(batch []byte, ts int64, start base.Offset, limit int) (offset base.Offset, timestamp int64, ok bool, err error) {
	err = walk(batch, limit, func(c *cursor) bool {
		at := c.header.BaseOffset + base.Offset(c.offsetDelta)
		if c.timestamp() < ts || at < start {
			return true
		}
		offset, timestamp, ok = at, c.timestamp(), true
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
	return uncompressed(batch, limit, func(h Header, body []byte) error {
		c := newCursor(h, body)
		for c.next() {
			if !visit(&c) {
				return nil
			}
		}
		return c.err
	})
}

// uncompressed calls use with the header and the uncompressed records of a batch, which are valid during the call only.
func uncompressed(batch []byte, limit int, use func(h Header, body []byte) error) error {
	h, body, err := split(batch)
	if err != nil {
		return err
	}
	if h.Attributes.Codec() == None {
		return use(h, body)
	}
	s := getScratch()
	defer s.put()
	return inflate(h.Attributes.Codec(), s, body, limit, func(body []byte) error { return use(h, body) })
}
