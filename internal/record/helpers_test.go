package record

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

// testRecord is a record as tests write it down.
type testRecord struct {
	ts         int64
	key, value []byte
	headers    []RecordHeader
}

func build(o BuilderOptions, records ...testRecord) []byte {
	b := NewBuilder(o)
	for _, r := range records {
		b.Append(r.ts, r.key, r.value, r.headers...)
	}
	return b.Build(0)
}

// someRecords are n records a millisecond apart from ts, with what a record can hold.
func someRecords(n int, ts int64) []testRecord {
	records := make([]testRecord, n)
	for i := range records {
		r := testRecord{ts: ts + int64(i), key: fmt.Appendf(nil, "key-%d", i), value: fmt.Appendf(nil, "a value, the %d.", i)}
		switch i % 4 {
		case 1:
			r.headers = []RecordHeader{{Key: "k", Value: []byte("v")}, {Key: "k", Value: nil}, {Key: "", Value: []byte{}}}
		case 2:
			r.value = nil
		case 3:
			r.key = []byte{}
		}
		records[i] = r
	}
	return records
}

// rawBatch is an uncompressed batch of the given bytes, with a header that says what h says beyond that.
func rawBatch(h Header, body []byte) []byte {
	h.Magic = Magic
	if h.ProducerID == 0 {
		h.ProducerID, h.ProducerEpoch, h.BaseSequence = base.NoProducerID, base.NoProducerEpoch, NoSequence
	}
	return seal(h, append(h.append(nil), body...))
}

// rawRecord is a record of the given fields after its length.
func rawRecord(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case int:
			b = binary.AppendUvarint(b, zigzag(int64(f)))
		case byte:
			b = append(b, f)
		case string:
			b = append(b, f...)
		default:
			panic(fmt.Sprintf("rawRecord: %T", f))
		}
	}
	return append(binary.AppendUvarint(nil, zigzag(int64(len(b)))), b...)
}

// goodRecord is a record with key "k" and value "v".
func goodRecord(offsetDelta int) []byte {
	return rawRecord(byte(0), 0, offsetDelta, 1, "k", 1, "v", 0)
}

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// patch returns a copy of batch with b written at pos and a checksum that agrees.
func patch(batch []byte, pos int, b ...byte) []byte {
	out := append([]byte(nil), batch...)
	copy(out[pos:], b)
	setCRC(out)
	return out
}

func collect(t testing.TB, batch []byte, limit int) ([]Record, error) {
	t.Helper()
	var records []Record
	for r, err := range Records(batch, limit) {
		if err != nil {
			return records, err
		}
		records = append(records, r)
	}
	return records, nil
}
