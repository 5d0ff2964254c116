package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

const testNow int64 = 1_700_000_000_000

// openRules are those of a topic that takes every timestamp.
var openRules = ValidateOptions{
	Partition: base.TopicPartition{Topic: "t", Partition: 3},
	Now:       time.UnixMilli(testNow),
	MaxBefore: NoTimestampBound, MaxAfter: NoTimestampBound,
}

func withRules(change func(*ValidateOptions)) ValidateOptions {
	o := openRules
	change(&o)
	return o
}

// eachCodec runs check with a batch of the records in every codec.
func eachCodec(t *testing.T, o BuilderOptions, records []testRecord, check func(*testing.T, []byte)) {
	t.Helper()
	for _, c := range allCodecs {
		t.Run(c.String(), func(t *testing.T) {
			o.Codec = c
			check(t, build(o, records...))
		})
	}
}

func TestValidateKeepsGoodBatchesAsTheyAre(t *testing.T) {
	t.Parallel()
	records := someRecords(20, testNow)
	records[7].ts = testNow + 1000
	eachCodec(t, BuilderOptions{Producer: &Producer{ID: 4, BaseSequence: 0}, Transactional: true}, records, func(t *testing.T, batch []byte) {
		before := bytes.Clone(batch)
		v, err := Validate(batch, openRules)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(v.Batch, before) || &v.Batch[0] != &batch[0] {
			t.Error("the batch is not the one that came")
		}
		if v.Header != readHeader(batch) {
			t.Errorf("header %+v", v.Header)
		}
		if v.OffsetOfMaxTimestamp != 7 {
			t.Errorf("offset of max timestamp %d", v.OffsetOfMaxTimestamp)
		}
	})
}

func TestValidateRefusesWhatKafkaRefuses(t *testing.T) {
	t.Parallel()
	good := build(BuilderOptions{}, someRecords(2, testNow)...)
	producer := build(BuilderOptions{Producer: &Producer{ID: 9, BaseSequence: -1}}, someRecords(1, testNow)...)
	header := func(change func(*Header)) []byte {
		h := readHeader(good)
		change(&h)
		return seal(h, append(h.append(nil), good[HeaderSize:]...))
	}
	for name, c := range map[string]struct {
		batch []byte
		want  error
		text  string
	}{
		"no bytes":              {nil, ErrInvalidRecord, "at least one record batch"},
		"too few bytes":         {good[:16], ErrInvalidRecord, "at least one record batch"},
		"cut off":               {good[:len(good)-1], ErrInvalidRecord, "at least one record batch"},
		"two batches":           {concat(good, good), ErrInvalidRecord, "exactly one record batch"},
		"trailing bytes":        {concat(good, []byte{0}), ErrInvalidRecord, "exactly one record batch"},
		"magic 0":               {patch(good, posMagic, 0), ErrUnsupportedMagic, "magic version 0"},
		"magic 1":               {patch(good, posMagic, 1), ErrUnsupportedMagic, "magic version 1"},
		"magic 9":               {patch(good, posMagic, 9), ErrCorrupt, "Invalid magic"},
		"length negative":       {patch(good, posBatchLength, 0xff), ErrCorrupt, "less than the minimum record overhead"},
		"length 13":             {patch(good, posBatchLength, 0, 0, 0, 13), ErrCorrupt, "less than the minimum record overhead (14)"},
		"length 48":             {patch(good, posBatchLength, 0, 0, 0, 48), ErrCorrupt, "smaller than the minimum allowed overhead 61"},
		"length of 2 GiB":       {patch(good, posBatchLength, 0x7f, 0xff, 0xff, 0xff), ErrInvalidRecord, "at least one record batch"},
		"base offset":           {header(func(h *Header) { h.BaseOffset = 5 }), ErrInvalidRecord, "append to t-3 should be 0, but it is 5"},
		"checksum":              {append(bytes.Clone(good[:len(good)-1]), 'x'), ErrCRC, "in topic partition t-3."},
		"offset range negative": {header(func(h *Header) { h.LastOffsetDelta = -1 }), ErrInvalidRecord, "invalid offset range: [0, -1]"},
		"no records":            {header(func(h *Header) { h.RecordCount = 0 }), ErrInvalidRecord, "Invalid reported count for record batch: 0"},
		"count negative":        {header(func(h *Header) { h.RecordCount = math.MinInt32 }), ErrInvalidRecord, "Invalid reported count"},
		"count and offsets":     {header(func(h *Header) { h.RecordCount = 3 }), ErrInvalidRecord, "Inconsistent batch offset range [0, 1] and count of records 3"},
		"control batch":         {header(func(h *Header) { h.Attributes |= flagControl }), ErrInvalidRecord, "not allowed to write control records"},
		"delete horizon":        {header(func(h *Header) { h.Attributes |= flagDeleteHorizon }), ErrInvalidRecord, "not allowed to set the attributes 0x40"},
		"unused attribute":      {header(func(h *Header) { h.Attributes |= math.MinInt16 }), ErrInvalidRecord, "not allowed to set the attributes 0x8000"},
		"no sequence":           {producer, ErrInvalidRecord, "Invalid sequence number -1 in record batch with producerId 9"},
		"codec 5":               {header(func(h *Header) { h.Attributes |= 5 }), ErrUnsupportedCodec, "Unknown compression type id: 5"},
		"codec 7":               {header(func(h *Header) { h.Attributes |= 7 }), ErrUnsupportedCodec, "Unknown compression type id: 7"},
		"not zstd":              {header(func(h *Header) { h.Attributes |= 4 }), ErrInvalidRecord, "zstd data do not decompress"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Validate(c.batch, openRules)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
			if v.Batch != nil || v.RecordErrors != nil {
				t.Errorf("a refused batch came back: %+v", v)
			}
		})
	}
	for name, c := range brokenBodies {
		for _, codec := range allCodecs {
			h := Header{Attributes: Attributes(codec), LastOffsetDelta: c.count - 1, RecordCount: c.count}
			if _, err := Validate(rawBatch(h, mustCompress(codec, c.body)), openRules); !errors.Is(err, ErrInvalidRecord) {
				t.Errorf("%s, %s: got %v, want ErrInvalidRecord", name, codec, err)
			}
		}
	}
}

func TestValidateBoundsTimestamps(t *testing.T) {
	t.Parallel()
	o := withRules(func(o *ValidateOptions) { o.MaxBefore, o.MaxAfter = time.Minute, time.Second })
	records := func(ts ...int64) []testRecord {
		var rs []testRecord
		for _, ts := range ts {
			rs = append(rs, testRecord{ts: ts, value: []byte("v")})
		}
		return rs
	}
	eachCodec(t, BuilderOptions{}, records(testNow-60_000, testNow+1000, base.NoTimestamp), func(t *testing.T, batch []byte) {
		if v, err := Validate(batch, o); err != nil || v.OffsetOfMaxTimestamp != 1 {
			t.Errorf("at the bounds: %v", err)
		}
	})
	eachCodec(t, BuilderOptions{}, records(testNow, testNow-60_001, testNow, testNow+1001), func(t *testing.T, batch []byte) {
		v, err := Validate(batch, o)
		if !errors.Is(err, ErrInvalidTimestamp) || err.Error() != "One or more records have been rejected due to invalid timestamp" {
			t.Errorf("out of bounds: %v", err)
		}
		want := []RecordError{
			{1, "Timestamp 1699999939999 of message with offset 1 is out of range. The timestamp should be within [1699999940000, 1700000001000]"},
			{3, "Timestamp 1700000001001 of message with offset 3 is out of range. The timestamp should be within [1699999940000, 1700000001000]"},
		}
		if !reflect.DeepEqual(v.RecordErrors, want) {
			t.Errorf("record errors %v", v.RecordErrors)
		}
	})
	for _, ts := range []int64{math.MinInt64, math.MaxInt64} {
		if _, err := Validate(build(BuilderOptions{}, records(ts)...), o); !errors.Is(err, ErrInvalidTimestamp) {
			t.Errorf("timestamp %d: %v", ts, err)
		}
	}
	if _, err := Validate(build(BuilderOptions{}, records(0, math.MaxInt64)...), openRules); err != nil {
		t.Errorf("without bounds: %v", err)
	}
}

func TestValidateRequiresKeysInCompactedTopics(t *testing.T) {
	t.Parallel()
	o := withRules(func(o *ValidateOptions) { o.RequireKeys = true })
	records := someRecords(7, testNow)
	records[1].key, records[2].key, records[4].key, records[6].key = nil, nil, nil, nil
	eachCodec(t, BuilderOptions{}, records, func(t *testing.T, batch []byte) {
		v, err := Validate(batch, o)
		const each = "Compacted topic cannot accept message without key in topic partition t-3"
		want := "One or more records have been rejected due to 4 record errors in total, and only showing the first three errors at most: " +
			"[RecordError(batchIndex=1, message='" + each + "'), RecordError(batchIndex=2, message='" + each + "'), RecordError(batchIndex=4, message='" + each + "')]"
		if !errors.Is(err, ErrInvalidRecord) || err.Error() != want {
			t.Errorf("got %v", err)
		}
		if want := []RecordError{{1, each}, {2, each}, {4, each}, {6, each}}; !reflect.DeepEqual(v.RecordErrors, want) {
			t.Errorf("record errors %v", v.RecordErrors)
		}
	})
	for i := range records {
		if records[i].key == nil {
			records[i].key = []byte{}
		}
	}
	if _, err := Validate(build(BuilderOptions{}, records...), o); err != nil {
		t.Errorf("empty keys: %v", err)
	}
}

func TestValidateKeepsABoundedNumberOfRecordErrors(t *testing.T) {
	t.Parallel()
	records := make([]testRecord, maxRecordErrors+500)
	v, err := Validate(build(BuilderOptions{}, records...), withRules(func(o *ValidateOptions) { o.RequireKeys = true }))
	if !errors.Is(err, ErrInvalidRecord) || !strings.Contains(err.Error(), "due to 1500 record errors in total") || len(v.RecordErrors) != maxRecordErrors {
		t.Errorf("%d record errors, %v", len(v.RecordErrors), err)
	}
	v, err = Validate(build(BuilderOptions{}, records...), withRules(func(o *ValidateOptions) { o.MaxBefore = 0 }))
	if !errors.Is(err, ErrInvalidTimestamp) || len(v.RecordErrors) != maxRecordErrors {
		t.Errorf("%d record errors, %v", len(v.RecordErrors), err)
	}
}

func TestValidateSetsTheAppendTime(t *testing.T) {
	t.Parallel()
	o := withRules(func(o *ValidateOptions) { o.LogAppendTime, o.MaxBefore, o.MaxAfter = true, 0, 0 })
	eachCodec(t, BuilderOptions{}, someRecords(5, 77), func(t *testing.T, batch []byte) {
		v, err := Validate(batch, o)
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHeader(v.Batch)
		if err != nil || VerifyCRC(v.Batch) != nil || h != v.Header {
			t.Fatalf("header %+v, %v", h, err)
		}
		if !h.Attributes.LogAppendTime() || h.MaxTimestamp != testNow || h.BaseTimestamp != 77 || v.OffsetOfMaxTimestamp != 0 {
			t.Errorf("header %+v, offset of max timestamp %d", h, v.OffsetOfMaxTimestamp)
		}
		got, err := collect(t, v.Batch, testLimit)
		if err != nil || got[4].Timestamp != testNow {
			t.Errorf("%v, %v", got, err)
		}
	})
	theirs := build(BuilderOptions{LogAppendTime: true, AppendTime: testNow}, someRecords(2, testNow)...)
	v, err := Validate(bytes.Clone(theirs), o)
	if !errors.Is(err, ErrInvalidTimestamp) || len(v.RecordErrors) != 2 || !strings.Contains(v.RecordErrors[0].Message, "Producer should not set timestamp type to LogAppendTime.") {
		t.Errorf("LogAppendTime set by the client: %v, %v", v, err)
	}
	v, err = Validate(bytes.Clone(theirs), openRules)
	if err != nil || v.Header.Attributes.LogAppendTime() || v.Header.MaxTimestamp != testNow+1 || VerifyCRC(v.Batch) != nil {
		t.Errorf("LogAppendTime set by the client for a topic with create times: %+v, %v", v.Header, err)
	}
}

func TestValidateCorrectsTheMaximumTimestamp(t *testing.T) {
	t.Parallel()
	eachCodec(t, BuilderOptions{}, someRecords(5, testNow), func(t *testing.T, batch []byte) {
		lie := binary.BigEndian.AppendUint64(nil, 1<<60)
		v, err := Validate(patch(batch, posMaxTimestamp, lie...), openRules)
		if err != nil || !bytes.Equal(v.Batch, batch) || v.Header != readHeader(batch) {
			t.Errorf("header %+v, %v", v.Header, err)
		}
	})
	v, err := Validate(build(BuilderOptions{}, testRecord{ts: -1}, testRecord{ts: -1}), openRules)
	if err != nil || v.Header.MaxTimestamp != base.NoTimestamp || v.OffsetOfMaxTimestamp != 0 {
		t.Errorf("no timestamps: %+v, %v", v, err)
	}
}

func TestValidateRecompresses(t *testing.T) {
	t.Parallel()
	records := someRecords(200, testNow)
	producer := &Producer{ID: 4, Epoch: 1, BaseSequence: 5}
	for _, target := range allCodecs {
		o := withRules(func(o *ValidateOptions) {
			o.Compression = CompressionTarget{Fixed: true, Codec: target, Level: DefaultLevel(target)}
		})
		eachCodec(t, BuilderOptions{Producer: producer, Transactional: true}, records, func(t *testing.T, batch []byte) {
			v, err := Validate(batch, o)
			if err != nil {
				t.Fatal(err)
			}
			if v.Header.Attributes.Codec() != target || v.Header != readHeader(v.Batch) || VerifyCRC(v.Batch) != nil {
				t.Errorf("header %+v", v.Header)
			}
			want := build(BuilderOptions{Codec: target, Producer: producer, Transactional: true}, records...)
			if !bytes.Equal(v.Batch, want) {
				t.Error("not the batch that the builder makes of the same records")
			}
			got, err := collect(t, v.Batch, testLimit)
			if err != nil {
				t.Fatal(err)
			}
			checkRecords(t, got, records, 0)
		})
	}
}

func TestValidateBoundsSizes(t *testing.T) {
	t.Parallel()
	records := []testRecord{{ts: testNow, value: make([]byte, 100_000)}}
	packed, plain := build(BuilderOptions{Codec: Zstd}, records...), build(BuilderOptions{}, records...)
	check := func(name string, batch []byte, want error, text string, change func(*ValidateOptions)) {
		t.Helper()
		v, err := Validate(batch, withRules(change))
		if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %v with %q", name, err, want, text)
		}
		if err != nil && v.Batch != nil {
			t.Errorf("%s: a refused batch came back", name)
		}
	}
	none := CompressionTarget{Fixed: true}
	check("as large as may be", plain, nil, "", func(o *ValidateOptions) { o.MaxMessageBytes = len(plain) })
	check("a byte larger", plain, ErrTooLarge, "exceeds the maximum configured value of", func(o *ValidateOptions) { o.MaxMessageBytes = len(plain) - 1 })
	check("too large once uncompressed", packed, ErrTooLarge, "exceeds the maximum configured size of 5000", func(o *ValidateOptions) {
		o.MaxMessageBytes, o.Compression = 5000, none
	})
	check("past the limit of decompression", packed, ErrTooLarge, "exceed the broker's limit", func(o *ValidateOptions) { o.DecompressLimit = 99_999 })
	check("too large before it is compressed", plain, ErrTooLarge, "exceeds the maximum configured value of", func(o *ValidateOptions) {
		o.MaxMessageBytes, o.Compression = 5000, CompressionTarget{Fixed: true, Codec: Zstd, Level: 3}
	})
}

// hotBatch is what the hot path is measured with: 64 KiB of 1 KiB records.
func hotBatch(c Codec) []byte {
	noise := payloads()["noise"]
	var records []testRecord
	for i := range 64 {
		records = append(records, testRecord{ts: testNow + int64(i), key: []byte("0123456789abcdef"), value: noise[i*1000:][:1000]})
	}
	return build(BuilderOptions{Codec: c}, records...)
}

func TestValidateAllocatesNothingForUncompressedBatches(t *testing.T) {
	batch := hotBatch(None)
	o := withRules(func(o *ValidateOptions) {
		o.RequireKeys, o.MaxBefore, o.MaxAfter, o.MaxMessageBytes = true, time.Hour, time.Hour, 1<<20
	})
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Validate(batch, o); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a batch", n)
	}
	walkAll := func() {
		for _, err := range Records(batch, 0) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := testing.AllocsPerRun(100, walkAll); n > 2 {
		t.Errorf("%v allocations to read records without headers", n)
	}
}

func FuzzValidate(f *testing.F) {
	for _, g := range goldenBatches(f) {
		b := bytes.Clone(g.batch)
		SetBaseOffset(b, 0)
		f.Add(b, int8(-1), false)
		f.Add(b, int8(4), true)
	}
	for _, c := range brokenBodies {
		f.Add(rawBatch(Header{LastOffsetDelta: c.count - 1, RecordCount: c.count}, c.body), int8(0), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, target int8, appendTime bool) {
		o := withRules(func(o *ValidateOptions) { o.LogAppendTime, o.DecompressLimit = appendTime, 1<<20 })
		if target >= 0 {
			c := Codec(target % 5)
			o.Compression = CompressionTarget{Fixed: true, Codec: c, Level: DefaultLevel(c)}
		}
		if len(b) >= HeaderSize { // most changes break the checksum, and nothing behind it would ever be tried
			setCRC(b)
		}
		v, err := Validate(b, o)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if v.Header != readHeader(v.Batch) || v.Header.Size() != len(v.Batch) || VerifyCRC(v.Batch) != nil {
			t.Fatalf("not a good batch: %+v", v.Header)
		}
		records, err := collect(t, v.Batch, 1<<20)
		if err != nil || len(records) != int(v.Header.RecordCount) {
			t.Fatalf("a validated batch does not read: %v", err)
		}
		// As in Kafka, timestamps before -1 are taken but never the greatest.
		if at := records[v.OffsetOfMaxTimestamp]; v.Header.MaxTimestamp != base.NoTimestamp && at.Timestamp != v.Header.MaxTimestamp {
			t.Fatalf("record %d has timestamp %d, the greatest is %d", v.OffsetOfMaxTimestamp, at.Timestamp, v.Header.MaxTimestamp)
		}
		once := bytes.Clone(v.Batch)
		if !appendTime {
			if v, err = Validate(v.Batch, o); err != nil || !bytes.Equal(v.Batch, once) {
				t.Fatalf("validating again gives something else: %v", err)
			}
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	for _, c := range allCodecs {
		b.Run(c.String(), func(b *testing.B) {
			batch := hotBatch(c)
			o := withRules(func(o *ValidateOptions) { o.MaxBefore, o.MaxAfter = time.Hour, time.Hour })
			b.ReportAllocs()
			b.SetBytes(int64(len(batch)))
			for b.Loop() {
				if _, err := Validate(batch, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyCRC(b *testing.B) {
	batch := hotBatch(None)
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		if err := VerifyCRC(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecords(b *testing.B) {
	batch := hotBatch(None)
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		for _, err := range Records(batch, testLimit) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
