package record

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

// filterBatch has four records of the keys k0 to k3; that of k2 is a tombstone.
func filterBatch(codec Codec) []byte {
	b := NewBuilder(BuilderOptions{Codec: codec, Producer: &Producer{ID: 7, Epoch: 2, BaseSequence: 11}, LeaderEpoch: 5})
	for i := range 4 {
		value := fmt.Appendf(nil, "value-%d", i)
		if i == 2 {
			value = nil
		}
		b.Append(1_700_000_000_000+int64(i), fmt.Appendf(nil, "k%d", i), value, RecordHeader{Key: "h", Value: []byte("v")})
	}
	return b.Build(100)
}

// left lists the records of a batch.
func left(t *testing.T, batch []byte) string {
	t.Helper()
	var text bytes.Buffer
	for r, err := range Records(batch, DefaultDecompressLimit) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%d:%s=%s@%d ", r.Offset, r.Key, r.Value, r.Timestamp-1_700_000_000_000)
	}
	return text.String()
}

func TestFilterKeepsWhatTheHeaderSaysOfTheWhole(t *testing.T) {
	t.Parallel()
	for codec := None; codec.Known(); codec++ {
		batch := filterBatch(codec)
		was, err := ParseHeader(batch)
		if err != nil {
			t.Fatal(err)
		}
		const horizon = 1_800_000_000_000
		out, done, err := Filter([]byte("before"), batch, FilterOptions{
			Keep: func(offset base.Offset, _, _ []byte) bool { return offset != 100 && offset != 103 }, Horizon: horizon,
		})
		if err != nil || done != (Filtered{Kept: 2, Dropped: 2}) || !bytes.HasPrefix(out, []byte("before")) {
			t.Fatalf("%v: %+v, %v", codec, done, err)
		}
		out = out[len("before"):]
		if err := VerifyCRC(out); err != nil {
			t.Fatal(err)
		}
		h, err := ParseHeader(out)
		if err != nil || h.Size() != len(out) {
			t.Fatalf("%v: %+v of %d bytes, %v", codec, h, len(out), err)
		}
		want := was
		want.BatchLength, want.CRC = h.BatchLength, h.CRC
		want.RecordCount, want.MaxTimestamp, want.BaseTimestamp = 2, 1_700_000_000_002, horizon
		want.Attributes |= flagDeleteHorizon
		if h != want {
			t.Errorf("%v: header %+v, want %+v", codec, h, want)
		}
		if got := left(t, out); got != "101:k1=value-1@1 102:k2=@2 " {
			t.Errorf("%v: records %s", codec, got)
		}
		again, done, err := Filter(nil, out, FilterOptions{Keep: func(base.Offset, []byte, []byte) bool { return true }, Horizon: horizon + 1})
		if err != nil || !done.Same || !bytes.Equal(again, out) {
			t.Errorf("%v: a horizon that is set was set again: %+v, %v", codec, done, err)
		}
	}
}

func TestFilterLeavesAnEmptyBatchOnlyIfAsked(t *testing.T) {
	t.Parallel()
	batch := filterBatch(Zstd)
	if out, done, err := Filter(nil, batch, FilterOptions{}); err != nil || len(out) > 0 || done.Dropped != 4 {
		t.Fatalf("%d bytes, %+v, %v", len(out), done, err)
	}
	out, done, err := Filter(nil, batch, FilterOptions{KeepEmpty: true})
	if err != nil || done.Dropped != 4 || len(out) != HeaderSize || VerifyCRC(out) != nil {
		t.Fatalf("%d bytes, %+v, %v", len(out), done, err)
	}
	h, err := ParseHeader(out)
	if err != nil || h.BaseOffset != 100 || h.LastOffset() != 103 || h.LastSequence() != 14 || h.ProducerID != 7 || h.RecordCount != 0 ||
		h.BaseTimestamp != base.NoTimestamp || h.MaxTimestamp != 1_700_000_000_003 || h.Attributes != 0 {
		t.Fatalf("header %+v, %v", h, err)
	}
	if got := left(t, out); got != "" {
		t.Fatalf("records %s", got)
	}
	if again, done, err := Filter(nil, out, FilterOptions{KeepEmpty: true}); err != nil || !done.Same || !bytes.Equal(again, out) {
		t.Fatalf("an empty batch changes: %+v, %v", done, err)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(filterBatch(None), byte(0))
	f.Add(filterBatch(Zstd), byte(3))
	f.Fuzz(func(t *testing.T, batch []byte, drop byte) {
		out, done, err := Filter(nil, batch, FilterOptions{
			Keep: func(offset base.Offset, _, _ []byte) bool { return byte(offset)%4 != drop%4 }, Horizon: 1_800_000_000_000, KeepEmpty: true,
		})
		if err != nil || done.Same {
			return
		}
		if err := VerifyCRC(out); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range Records(out, DefaultDecompressLimit) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != done.Kept {
			t.Fatalf("%d records, want %d", n, done.Kept)
		}
	})
}

func TestFilterShowsAllKeysBeforeItAsksAboutOne(t *testing.T) {
	t.Parallel()
	for codec := None; codec.Known(); codec++ {
		var seen []string
		_, _, err := Filter(nil, filterBatch(codec), FilterOptions{
			Look: func(key []byte) { seen = append(seen, string(key)) },
			Keep: func(offset base.Offset, key, _ []byte) bool {
				if len(seen) != 4 || seen[offset-100] != string(key) {
					t.Errorf("%v: asked about %s after %q", codec, key, seen)
				}
				return true
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
