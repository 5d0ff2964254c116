package record

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// The files of testdata are segments of Apache Kafka 4.3.1 with what real clients sent: java-* its own producer
// (javaRecords, and for java-txn one record in a committed and one in an aborted transaction), librdkafka-* kcat.

type goldenBatch struct {
	name  string
	batch []byte
}

// goldenBatches are all batches of testdata.
func goldenBatches(tb testing.TB) []goldenBatch {
	tb.Helper()
	paths, err := filepath.Glob("testdata/*.log")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no golden batches: %v", err)
	}
	var batches []goldenBatch
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			tb.Fatal(err)
		}
		for len(b) > 0 {
			var batch []byte
			if batch, b, err = Next(b); err != nil {
				tb.Fatal(err)
			}
			batches = append(batches, goldenBatch{strings.TrimSuffix(filepath.Base(p), ".log"), batch})
		}
	}
	return batches
}

// javaRecords are the records of each java-* batch.
func javaRecords() []testRecord {
	records := make([]testRecord, 100)
	for i := range records {
		r := testRecord{ts: testNow + int64(i)*7919%1000}
		switch i % 5 {
		case 1:
		case 2:
			r.key = []byte{}
		default:
			r.key = fmt.Appendf(nil, "key-%d", i)
		}
		switch i % 7 {
		case 3:
		case 4:
			r.value = []byte{}
		default:
			r.value = fmt.Appendf(nil, "value %d the quick brown fox", i)
		}
		if i%3 == 0 {
			r.headers = []RecordHeader{{Key: "trace", Value: fmt.Appendf(nil, "t%d", i)}, {Key: "trace"}, {Key: "", Value: []byte{}}}
		}
		records[i] = r
	}
	return records
}

func TestGoldenBatchesValidateUnchanged(t *testing.T) {
	t.Parallel()
	for _, g := range goldenBatches(t) {
		t.Run(g.name, func(t *testing.T) {
			if err := VerifyCRC(g.batch); err != nil {
				t.Fatal(err)
			}
			h, err := ParseHeader(g.batch)
			if err != nil {
				t.Fatal(err)
			}
			got, err := collect(t, g.batch, testLimit)
			if err != nil || len(got) != int(h.RecordCount) {
				t.Fatalf("%d records of %d, %v", len(got), h.RecordCount, err)
			}
			if h.Attributes.Control() {
				return
			}
			SetBaseOffset(g.batch, 0) // as the client sent it
			before := bytes.Clone(g.batch)
			v, err := Validate(g.batch, withRules(func(o *ValidateOptions) { o.MaxAfter = 100 * 365 * 24 * time.Hour }))
			if err != nil || !bytes.Equal(v.Batch, before) {
				t.Fatalf("rewritten or refused: %v", err)
			}
		})
	}
}

func TestGoldenRecordsOfJava(t *testing.T) {
	t.Parallel()
	want := javaRecords()
	seen := 0
	for _, g := range goldenBatches(t) {
		codec, err := ParseCodec(strings.TrimPrefix(g.name, "java-"))
		if err != nil {
			continue
		}
		seen++
		h, _ := ParseHeader(g.batch)
		if h.Attributes != Attributes(codec) {
			t.Errorf("%s: attributes %s", g.name, h.Attributes)
		}
		got, err := collect(t, g.batch, testLimit)
		if err != nil {
			t.Fatal(err)
		}
		checkRecords(t, got, want, 0)

		ours := build(BuilderOptions{
			Codec: codec, LeaderEpoch: h.LeaderEpoch,
			Producer: &Producer{ID: h.ProducerID, Epoch: h.ProducerEpoch, BaseSequence: h.BaseSequence},
		}, want...)
		if codec == None && !bytes.Equal(ours, g.batch) {
			t.Errorf("the builder's batch is not Java's:\n% x\n% x", ours, g.batch)
		}
		// Compressed bytes differ between libraries; all else must not.
		o := readHeader(ours)
		o.BatchLength, o.CRC = h.BatchLength, h.CRC
		if o != h {
			t.Errorf("%s: the builder's header is %+v, Java's %+v", g.name, o, h)
		}
	}
	if seen != len(allCodecs) {
		t.Errorf("batches of %d codecs", seen)
	}
}

func TestGoldenRecordsOfLibrdkafka(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, g := range goldenBatches(t) {
		codec, err := ParseCodec(strings.TrimPrefix(g.name, "librdkafka-"))
		if err != nil {
			continue
		}
		seen++
		h, _ := ParseHeader(g.batch)
		if h.Attributes.Codec() != codec {
			t.Errorf("%s: attributes %s", g.name, h.Attributes)
		}
		got, err := collect(t, g.batch, testLimit)
		if err != nil || len(got) != 60 {
			t.Fatalf("%s: %d records, %v", g.name, len(got), err)
		}
		for i, r := range got {
			key, value := fmt.Sprintf("key-%d", i+1), fmt.Sprintf("value %d the quick brown fox jumps over the lazy dog", i+1)
			if string(r.Key) != key || string(r.Value) != value || len(r.Headers) != 1 || r.Headers[0].Key != "lang" || string(r.Headers[0].Value) != "c" {
				t.Fatalf("%s: record %d is %+v", g.name, i, r)
			}
		}
	}
	if seen != len(allCodecs) {
		t.Errorf("batches of %d codecs", seen)
	}
}

func TestGoldenTransactions(t *testing.T) {
	t.Parallel()
	var got []string
	for _, g := range goldenBatches(t) {
		if g.name != "java-txn" {
			continue
		}
		h, _ := ParseHeader(g.batch)
		if !h.Attributes.Transactional() || !h.HasProducer() {
			t.Errorf("header %+v", h)
		}
		for r, err := range Records(g.batch, testLimit) {
			if err != nil {
				t.Fatal(err)
			}
			if !h.Attributes.Control() {
				got = append(got, fmt.Sprintf("%d:%s", r.Offset, r.Value))
				continue
			}
			key, err := ParseControlKey(r.Key)
			if err != nil {
				t.Fatal(err)
			}
			end, err := ParseEndTxn(r.Value)
			if err != nil || end.CoordinatorEpoch != 0 {
				t.Errorf("%+v, %v", end, err)
			}
			got = append(got, fmt.Sprintf("%d:%s", r.Offset, key.Type))
		}
	}
	if want := "0:v 1:COMMIT 2:w 3:ABORT"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzParseBatch(f *testing.F) {
	for _, g := range goldenBatches(f) {
		f.Add(g.batch)
	}
	for _, c := range brokenBodies {
		f.Add(rawBatch(Header{LastOffsetDelta: c.count - 1, RecordCount: c.count}, c.body))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for h, err := range Headers(b) {
			if err != nil {
				break
			}
			if again, err := ParseHeader(h.append(nil)); err != nil || again != h {
				t.Fatalf("the header does not round trip: %+v, %+v, %v", h, again, err)
			}
		}
		batch, _, err := Next(b)
		if err != nil {
			return
		}
		const limit = 1 << 20
		records, err := collect(t, batch, limit)
		if offset, _, maxErr := OffsetOfMaxTimestamp(batch, limit); (maxErr == nil) != (err == nil) {
			t.Fatalf("Records says %v, OffsetOfMaxTimestamp %d, %v", err, offset, maxErr)
		}
		FirstAtOrAfter(batch, testNow, 0, limit)
		if err != nil || len(records) == 0 || readHeader(batch).Attributes.LogAppendTime() {
			return
		}
		// What was read is built again and must read the same, but for the gaps that compaction may leave.
		builder := NewBuilder(BuilderOptions{})
		for _, r := range records {
			builder.Append(r.Timestamp, r.Key, r.Value, r.Headers...)
		}
		again, err := collect(t, builder.Build(0), limit)
		if err != nil || len(again) != len(records) {
			t.Fatalf("%d records came back as %d, %v", len(records), len(again), err)
		}
		for i, r := range records {
			want := testRecord{ts: r.Timestamp, key: r.Key, value: r.Value, headers: r.Headers}
			checkRecords(t, again[i:i+1], []testRecord{want}, base.Offset(i))
		}
	})
}
