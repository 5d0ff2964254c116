package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/ottlaio/ottla/internal/base"
)

func TestHeaderRoundTrip(t *testing.T) {
	t.Parallel()
	want := Header{
		BaseOffset: 1 << 40, BatchLength: 49, LeaderEpoch: 7, Magic: Magic, CRC: 0xdeadbeef, Attributes: 0x3b,
		LastOffsetDelta: 9, BaseTimestamp: 1700000000000, MaxTimestamp: 1700000000009, ProducerID: 1 << 33,
		ProducerEpoch: 3, BaseSequence: math.MaxInt32, RecordCount: 10,
	}
	b := want.append(nil)
	if len(b) != HeaderSize {
		t.Fatalf("a header has %d bytes", len(b))
	}
	got, err := ParseHeader(b)
	if err != nil || got != want {
		t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
	}
	if got.Size() != 61 || got.LastOffset() != 1<<40+9 || got.LastSequence() != 8 || !got.HasProducer() {
		t.Errorf("size %d, last offset %d, last sequence %d, producer %t", got.Size(), got.LastOffset(), got.LastSequence(), got.HasProducer())
	}
	a := got.Attributes
	if a.Codec() != Lz4 || !a.LogAppendTime() || !a.Transactional() || !a.Control() || a.DeleteHorizon() {
		t.Errorf("attributes %s", a)
	}
	if s := a.String(); s != "lz4|log-append-time|transactional|control" {
		t.Errorf("attributes print as %q", s)
	}
}

func TestSequencesWrapAsKafkas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sequence, n, want int32 }{
		{0, 0, 0}, {5, 4, 9}, {math.MaxInt32 - 1, 1, math.MaxInt32}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 2, 10, 7},
		{math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1},
	} {
		if got := AddSequence(c.sequence, c.n); got != c.want {
			t.Errorf("%d + %d = %d, want %d", c.sequence, c.n, got, c.want)
		}
	}
	if got := (Header{BaseSequence: NoSequence, LastOffsetDelta: 3}).LastSequence(); got != NoSequence {
		t.Errorf("last sequence without a producer: %d", got)
	}
}

func TestNextAndHeadersSplitBatches(t *testing.T) {
	t.Parallel()
	one, two := build(BuilderOptions{}, someRecords(3, 100)...), build(BuilderOptions{Codec: Zstd}, someRecords(50, 200)...)
	SetBaseOffset(two, 3)
	SetLeaderEpoch(two, 8)
	log := concat(one, two)

	batch, rest, err := Next(log)
	if err != nil || !bytes.Equal(batch, one) || !bytes.Equal(rest, two) {
		t.Fatalf("Next: %v", err)
	}
	if cap(batch) != len(batch) {
		t.Error("appending to the batch would overwrite the next")
	}
	if err := VerifyCRC(two); err != nil {
		t.Errorf("base offset and leader epoch are not outside the checksum: %v", err)
	}
	var offsets []base.Offset
	for h, err := range Headers(log) {
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, h.BaseOffset, h.LastOffset())
	}
	if want := []base.Offset{0, 2, 3, 52}; !reflect.DeepEqual(offsets, want) {
		t.Errorf("offsets %d, want %d", offsets, want)
	}
	for cut := range len(log) {
		count, short := 0, false
		for _, err := range Headers(log[:cut]) {
			if err == nil {
				count++
			} else if short = errors.Is(err, ErrShort); !short {
				t.Fatalf("cut to %d: %v", cut, err)
			}
		}
		wantCount := 0
		if cut >= len(one) {
			wantCount = 1
		}
		if count != wantCount || short != (cut != 0 && cut != len(one)) {
			t.Fatalf("cut to %d: %d batches, short %t", cut, count, short)
		}
		if _, _, err := Next(log[:min(cut, len(one)-1)]); !errors.Is(err, ErrShort) {
			t.Fatalf("Next of %d bytes: %v", cut, err)
		}
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	t.Parallel()
	good := build(BuilderOptions{}, someRecords(1, 1)...)
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"magic 0":         {patch(good, posMagic, 0), ErrUnsupportedMagic},
		"magic 1":         {patch(good, posMagic, 1), ErrUnsupportedMagic},
		"magic 3":         {patch(good, posMagic, 3), ErrCorrupt},
		"magic -1":        {patch(good, posMagic, 0xff), ErrCorrupt},
		"length too low":  {patch(good, posBatchLength, 0, 0, 0, 48), ErrCorrupt},
		"length negative": {patch(good, posBatchLength, 0xff, 0xff, 0xff, 0xff), ErrCorrupt},
		"nothing":         {nil, ErrShort},
		"60 bytes":        {good[:60], ErrShort},
	} {
		if _, err := ParseHeader(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestVerifyCRCSeesEveryBitAfterIt(t *testing.T) {
	t.Parallel()
	batch := build(BuilderOptions{}, someRecords(2, 1)...)
	for i := posCRC; i < len(batch); i++ {
		batch[i] ^= 0x10
		if err := VerifyCRC(batch); !errors.Is(err, ErrCRC) || !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		batch[i] ^= 0x10
	}
	if err := VerifyCRC(batch); err != nil {
		t.Fatal(err)
	}
}

func TestBuildAndReadBackEveryCodec(t *testing.T) {
	t.Parallel()
	for _, c := range allCodecs {
		want := someRecords(100, 1700000000000)
		want[40].ts += 1000
		want[41].ts = 5
		producer := &Producer{ID: 9, Epoch: 2, BaseSequence: 77}
		b := NewBuilder(BuilderOptions{Codec: c, Producer: producer, Transactional: true, LeaderEpoch: 4})
		for _, r := range want {
			b.Append(r.ts, r.key, r.value, r.headers...)
		}
		if b.Len() != len(want) {
			t.Fatalf("%s: Len %d", c, b.Len())
		}
		batch := b.Build(1000)
		h, err := ParseHeader(batch)
		if err != nil {
			t.Fatal(err)
		}
		if h.Size() != len(batch) || VerifyCRC(batch) != nil {
			t.Fatalf("%s: length or checksum is wrong", c)
		}
		if c == None && b.Size() != len(batch) {
			t.Errorf("Size %d, want %d", b.Size(), len(batch))
		}
		if h.MaxTimestamp != 1700000001040 || h.BaseTimestamp != 1700000000000 || h.LastSequence() != 176 || h.LeaderEpoch != 4 || !h.Attributes.Transactional() {
			t.Errorf("%s: header %+v", c, h)
		}
		got, err := collect(t, batch, testLimit)
		if err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		checkRecords(t, got, want, 1000)
		b.Reset()
		b.Append(1, nil, nil)
		if got, err := collect(t, b.Build(0), testLimit); err != nil || len(got) != 1 || got[0].Key != nil || got[0].Value != nil {
			t.Errorf("%s: after Reset: %v, %v", c, got, err)
		}
	}
}

func checkRecords(t *testing.T, got []Record, want []testRecord, first base.Offset) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i, w := range want {
		r := Record{Offset: first + base.Offset(i), Timestamp: w.ts, Key: w.key, Value: w.value, Headers: w.headers}
		if !reflect.DeepEqual(got[i], r) {
			t.Fatalf("record %d is %+v, want %+v", i, got[i], r)
		}
	}
}

func TestRecordsHaveTheAppendTimeWhereTheBatchSaysSo(t *testing.T) {
	t.Parallel()
	batch := build(BuilderOptions{LogAppendTime: true, AppendTime: 5000}, someRecords(3, 10)...)
	got, err := collect(t, batch, testLimit)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		if r.Timestamp != 5000 {
			t.Errorf("record %d has timestamp %d", r.Offset, r.Timestamp)
		}
	}
}

func TestRecordsKeepGapsOfCompaction(t *testing.T) {
	t.Parallel()
	batch := rawBatch(Header{BaseOffset: 10, LastOffsetDelta: 9, RecordCount: 2}, concat(goodRecord(3), goodRecord(7)))
	got, err := collect(t, batch, testLimit)
	if err != nil || len(got) != 2 || got[0].Offset != 13 || got[1].Offset != 17 {
		t.Errorf("got %v, %v", got, err)
	}
	empty := rawBatch(Header{BaseOffset: 10, LastOffsetDelta: 9, MaxTimestamp: 4}, nil)
	if got, err := collect(t, empty, testLimit); err != nil || len(got) != 0 {
		t.Errorf("a batch emptied by compaction: %v, %v", got, err)
	}
}

// brokenBodies are record bytes that no batch of count records may have.
var brokenBodies = map[string]struct {
	count int32
	body  []byte
}{
	"no bytes for a record":        {1, nil},
	"fewer records than declared":  {3, concat(goodRecord(0), goodRecord(1))},
	"2^31-1 records declared":      {math.MaxInt32, goodRecord(0)},
	"more records than declared":   {1, concat(goodRecord(0), goodRecord(1))},
	"a byte after the last record": {1, append(goodRecord(0), 0)},
	"record length negative":       {1, []byte{1}},
	"record length zero":           {1, []byte{0}},
	"record length past the end":   {1, []byte{0x7e, 0, 0, 0}},
	"record length of 6 bytes":     {1, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0}},
	"record length over 32 bits":   {1, []byte{0xff, 0xff, 0xff, 0xff, 0x1f}},
	"record length cut off":        {1, []byte{0x80}},
	"timestamp cut off":            {1, rawRecord(byte(0), byte(0x80))},
	"timestamp of 11 bytes":        {1, rawRecord(byte(0), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0, -1, -1, 0)},
	"timestamp over 64 bits":       {1, rawRecord(byte(0), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 0, -1, -1, 0)},
	"offset delta not from 0":      {1, goodRecord(1)},
	"offset delta negative":        {1, goodRecord(-1)},
	"offset delta repeated":        {2, concat(goodRecord(0), goodRecord(0))},
	"offset delta descending":      {2, concat(goodRecord(1), goodRecord(0))},
	"offset delta skipped":         {2, concat(goodRecord(0), goodRecord(2))},
	"key length -2":                {1, rawRecord(byte(0), 0, 0, -2, -1, 0)},
	"key past the end":             {1, rawRecord(byte(0), 0, 0, 100, "k", -1, 0)},
	"key of 2^31-1 bytes":          {1, rawRecord(byte(0), 0, 0, math.MaxInt32, "k")},
	"value length -2":              {1, rawRecord(byte(0), 0, 0, -1, -2, 0)},
	"value past the end":           {1, rawRecord(byte(0), 0, 0, -1, 5, "v", 0)},
	"no header count":              {1, rawRecord(byte(0), 0, 0, -1, -1)},
	"header count negative":        {1, rawRecord(byte(0), 0, 0, -1, -1, -1)},
	"header count past the end":    {1, rawRecord(byte(0), 0, 0, -1, -1, 1000)},
	"header key null":              {1, rawRecord(byte(0), 0, 0, -1, -1, 1, -1, -1)},
	"header key past the end":      {1, rawRecord(byte(0), 0, 0, -1, -1, 1, 9, "h")},
	"header value length -2":       {1, rawRecord(byte(0), 0, 0, -1, -1, 1, 1, "h", -2)},
	"header value missing":         {1, rawRecord(byte(0), 0, 0, -1, -1, 1, 1, "h")},
	"bytes after the last header":  {1, rawRecord(byte(0), 0, 0, -1, -1, 0, byte(9))},
}

func TestRecordsRefusesBrokenRecords(t *testing.T) {
	t.Parallel()
	for name, c := range brokenBodies {
		for _, codec := range allCodecs {
			h := Header{Attributes: Attributes(codec), LastOffsetDelta: c.count - 1, RecordCount: c.count}
			if _, err := collect(t, rawBatch(h, mustCompress(codec, c.body)), testLimit); !errors.Is(err, ErrInvalidRecord) {
				t.Errorf("%s, %s: got %v, want ErrInvalidRecord", name, codec, err)
			}
		}
	}
	negative := rawBatch(Header{LastOffsetDelta: 0, RecordCount: -1}, goodRecord(0))
	if _, err := collect(t, negative, testLimit); !errors.Is(err, ErrInvalidRecord) {
		t.Errorf("negative count: %v", err)
	}
	batch := build(BuilderOptions{Codec: Zstd}, testRecord{value: make([]byte, 100_000)})
	if _, err := collect(t, batch, 1000); !errors.Is(err, ErrTooLarge) {
		t.Errorf("past the limit: %v", err)
	}
	if _, err := collect(t, batch[:len(batch)-1], testLimit); !errors.Is(err, ErrShort) {
		t.Errorf("cut off: %v", err)
	}
	if _, err := collect(t, patch(batch, posAttributes, 0, 6), testLimit); !errors.Is(err, ErrUnsupportedCodec) {
		t.Errorf("codec 6: %v", err)
	}
}

func TestVarintsAreKafkas(t *testing.T) {
	t.Parallel()
	for _, v := range []int64{0, -1, 1, 63, -64, 64, -65, 8191, -8192, 8192, 1<<20 - 1, 1 << 20, math.MaxInt32, math.MinInt32} {
		b := binary.AppendVarint(nil, v)
		if got, n := varint(b); int64(got) != v || n != len(b) {
			t.Errorf("varint %d: got %d from %d of %d bytes", v, got, n, len(b))
		}
		if got := sizeOfVarint(int(v)); got != len(b) {
			t.Errorf("size of %d is %d, want %d", v, got, len(b))
		}
	}
	for _, v := range []int64{0, -1, math.MaxInt64, math.MinInt64, 1 << 40} {
		b := binary.AppendVarint(nil, v)
		if got, n := varlong(b); got != v || n != len(b) {
			t.Errorf("varlong %d: got %d from %d of %d bytes", v, got, n, len(b))
		}
	}
}

func TestSearchWithinABatch(t *testing.T) {
	t.Parallel()
	records := someRecords(10, 100) // 100 to 109
	records[3].ts, records[6].ts, records[8].ts = 500, 50, 500
	for _, c := range allCodecs {
		batch := build(BuilderOptions{Codec: c}, records...)
		SetBaseOffset(batch, 1000)
		for _, q := range []struct {
			ts     int64
			offset base.Offset
			found  int64
			ok     bool
		}{{0, 1000, 100, true}, {101, 1001, 101, true}, {103, 1003, 500, true}, {500, 1003, 500, true}, {501, 0, 0, false}} {
			offset, ts, ok, err := FirstAtOrAfter(batch, q.ts, 0, testLimit)
			if err != nil || offset != q.offset || ts != q.found || ok != q.ok {
				t.Errorf("%s, first at or after %d: %d, %d, %t, %v", c, q.ts, offset, ts, ok, err)
			}
		}
		if offset, ts, err := OffsetOfMaxTimestamp(batch, testLimit); err != nil || offset != 1003 || ts != 500 {
			t.Errorf("%s, max timestamp: %d, %d, %v", c, offset, ts, err)
		}
		broken := bytes.Clone(batch)
		binary.BigEndian.PutUint32(broken[posRecordCount:], 11)
		if _, _, err := OffsetOfMaxTimestamp(broken, testLimit); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("%s, broken: %v", c, err)
		}
	}
	empty := rawBatch(Header{BaseOffset: 10, LastOffsetDelta: 4, MaxTimestamp: 9}, nil)
	if offset, ts, err := OffsetOfMaxTimestamp(empty, testLimit); err != nil || offset != 14 || ts != base.NoTimestamp {
		t.Errorf("empty: %d, %d, %v", offset, ts, err)
	}
}

func TestControlRecords(t *testing.T) {
	t.Parallel()
	batch := build(BuilderOptions{Control: true, Transactional: true, Producer: &Producer{ID: 5, Epoch: 1, BaseSequence: -1}},
		testRecord{ts: 7, key: []byte{0, 0, 0, 1}, value: []byte{0, 0, 0, 0, 0, 42}})
	for r, err := range Records(batch, testLimit) {
		if err != nil {
			t.Fatal(err)
		}
		key, err := ParseControlKey(r.Key)
		if err != nil || key != (ControlKey{Version: 0, Type: ControlCommit}) {
			t.Errorf("key %v, %v", key, err)
		}
		end, err := ParseEndTxn(r.Value)
		if err != nil || end != (EndTxn{CoordinatorEpoch: 42}) {
			t.Errorf("value %v, %v", end, err)
		}
	}
	for name, want := range map[ControlType]string{ControlAbort: "ABORT", ControlKRaftVoters: "KRAFT_VOTERS", 99: "UNKNOWN(99)", -1: "UNKNOWN(-1)"} {
		if got := name.String(); got != want {
			t.Errorf("%d prints as %q", int16(name), got)
		}
	}
	if k, err := ParseControlKey([]byte{0, 9, 0, 77, 1, 2, 3}); err != nil || k.Type != 77 {
		t.Errorf("of a later version: %v, %v", k, err)
	}
	for _, bad := range [][]byte{nil, {0, 0, 0}, {0xff, 0xff, 0, 0}} {
		if _, err := ParseControlKey(bad); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("key %x: %v", bad, err)
		}
	}
	for _, bad := range [][]byte{nil, {0, 0, 0, 0, 0}, {0xff, 0xff, 0, 0, 0, 0}} {
		if _, err := ParseEndTxn(bad); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("value %x: %v", bad, err)
		}
	}
}

// TestAnyRecordsRoundTrip builds batches of arbitrary records and requires them to read back, and to validate, as they are.
func TestAnyRecordsRoundTrip(t *testing.T) {
	t.Parallel()
	nullable := rapid.Custom(func(t *rapid.T) []byte {
		if rapid.Bool().Draw(t, "null") {
			return nil
		}
		return append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")...)
	})
	header := rapid.Custom(func(t *rapid.T) RecordHeader {
		return RecordHeader{Key: rapid.String().Draw(t, "key"), Value: nullable.Draw(t, "value")}
	})
	record := rapid.Custom(func(t *rapid.T) testRecord {
		r := testRecord{ts: rapid.Int64().Draw(t, "ts"), key: nullable.Draw(t, "key"), value: nullable.Draw(t, "value")}
		if hs := rapid.SliceOfN(header, 0, 4).Draw(t, "headers"); len(hs) > 0 {
			r.headers = hs
		}
		return r
	})
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOfN(record, 1, 40).Draw(rt, "records")
		codec := rapid.SampledFrom(allCodecs).Draw(rt, "codec")
		batch := build(BuilderOptions{Codec: codec}, want...)
		got, err := collect(t, batch, testLimit)
		if err != nil {
			rt.Fatal(err)
		}
		checkRecords(t, got, want, 0)
		before := bytes.Clone(batch)
		v, err := Validate(batch, openRules)
		if err != nil {
			rt.Fatal(err)
		}
		if v.Header.MaxTimestamp >= 0 && !bytes.Equal(v.Batch, before) {
			rt.Fatal("a batch that keeps to the rules was rewritten")
		}
	})
}
