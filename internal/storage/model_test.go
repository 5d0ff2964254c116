package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// sliceLog is the model: a log that is a slice.
type sliceLog struct {
	start   base.Offset
	batches []modelBatch
}

func (l *sliceLog) end() base.Offset {
	if len(l.batches) == 0 {
		return 0
	}
	return l.batches[len(l.batches)-1].last + 1
}

// read is what a read of the log must return.
func (l *sliceLog) read(from base.Offset, maxBytes int) (got []byte, err error) {
	if from < l.start || from > l.end() {
		return nil, ErrOffsetOutOfRange
	}
	for _, b := range l.batches {
		if b.last < from {
			continue
		}
		if len(got) > 0 && len(got)+len(b.bytes) > maxBytes {
			break
		}
		got = append(got, b.bytes...)
	}
	return got, nil
}

// byTime is the first offset at or after start whose record has a timestamp of ts or later; records are a millisecond apart.
func (l *sliceLog) byTime(ts int64) (base.Offset, bool) {
	for _, b := range l.batches {
		for o := b.first; o <= b.last; o++ {
			if o >= l.start && b.header.BaseTimestamp+int64(o-b.first) >= ts {
				return o, true
			}
		}
	}
	return 0, false
}

// TestLogBehavesLikeASlice does the same random operations with tiny and huge segments, small and large tails; all must read as the
// slice does.
func TestLogBehavesLikeASlice(t *testing.T) {
	t.Parallel()
	seeds := 12
	if raceEnabled {
		seeds = 3
	}
	for seed := range seeds {
		for _, segmentBytes := range []int64{600, 20_000, 1 << 30} {
			for _, tailBytes := range []int64{64 << 10, 8 << 20} {
				t.Run(fmt.Sprintf("seed %d segments %d tail %d", seed, segmentBytes, tailBytes), func(t *testing.T) {
					t.Parallel()
					runModel(t, uint64(seed), segmentBytes, tailBytes)
				})
			}
		}
	}
}

func runModel(t *testing.T, seed uint64, segmentBytes, tailBytes int64) {
	rng := rand.New(rand.NewPCG(seed, 99))
	fs := newFS(t)
	spec := testSpec('a', 0, LogConfig{SegmentBytes: segmentBytes, IndexInterval: 300})
	cfg := testConfig(fs, spec)
	cfg.TailBytes = tailBytes
	e := open(t, cfg)
	p := partition(t, e, spec.ID)
	model := &sliceLog{}
	for op := range 300 {
		switch k := rng.IntN(100); {
		case k < 50:
			s := batchSpec{records: 1 + rng.IntN(5), size: rng.IntN(1500), seed: op, timestamp: testTime + int64(rng.IntN(50))*100}
			batch, h := makeBatch(s)
			at, err := p.Append(t.Context(), batch, h, AppendOptions{})
			if err != nil || at.Base != model.end() {
				t.Fatalf("op %d: append at %d, %v; want %d", op, at.Base, err, model.end())
			}
			if err := e.Wait(t.Context(), at.Sequence); err != nil {
				t.Fatal(err)
			}
			model.batches = append(model.batches, modelBatch{first: at.Base, last: at.Last, bytes: bytes.Clone(batch), header: h})
		case k < 80:
			compareRead(t, p, model, rng)
		case k < 85:
			ts := testTime + int64(rng.IntN(5100)) - 50
			at, ok, err := p.OffsetForTimestamp(ts)
			want, wantOK := model.byTime(ts)
			if err != nil || ok != wantOK || ok && at.Offset != want {
				t.Fatalf("op %d: OffsetForTimestamp(%d) = %d, %t, %v; want %d, %t", op, ts, at.Offset, ok, err, want, wantOK)
			}
		case k < 88:
			to := model.start + base.Offset(rng.Int64N(int64(model.end()-model.start)/4+1))
			if _, _, err := p.DeleteRecords(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			model.start = to
		case k < 92:
			if err := p.flush(1); err != nil {
				t.Fatal(err)
			}
		case k < 94:
			p.forgetFlushed()
		case k < 97:
			if err := e.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		default:
			if rng.IntN(2) == 0 {
				closeEngine(t, e)
			} else {
				kill(e)
			}
			cfg.LeaderEpoch++
			e = open(t, cfg)
			p = partition(t, e, spec.ID)
		}
	}
	for range 50 {
		compareRead(t, p, model, rng)
	}
}

func compareRead(t *testing.T, p *Partition, model *sliceLog, rng *rand.Rand) {
	t.Helper()
	from := base.Offset(rng.Int64N(int64(model.end()) + 2))
	maxBytes := 1 + rng.IntN(20_000)
	want, wantErr := model.read(from, maxBytes)
	s, err := p.Read(from, ReadOptions{MaxBytes: maxBytes, AtLeastOne: true})
	var got []byte
	if err == nil {
		got, err = s.Bytes()
	}
	if !errors.Is(err, wantErr) || !bytes.Equal(got, want) {
		t.Fatalf("read at %d of %d..%d, %d bytes: %d bytes, %v; want %d, %v", from, model.start, model.end(), maxBytes, len(got), err, len(want), wantErr)
	}
}

func TestMaxTimestampIsTheFirstOfTheLargest(t *testing.T) {
	t.Parallel()
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 2000, IndexInterval: 100})
	e := open(t, testConfig(newFS(t), spec))
	p := partition(t, e, spec.ID)
	if _, ok, err := p.MaxTimestamp(); ok || err != nil {
		t.Fatalf("of an empty log: %t, %v", ok, err)
	}
	for i, ts := range []int64{5, 900, 40, 900, 7} {
		mustAppend(t, p, batchSpec{records: 2, size: 500, timestamp: testTime + ts, seed: i})
		if i == 3 {
			if err := p.flush(1); err != nil {
				t.Fatal(err)
			}
			p.forgetFlushed()
		}
	}
	at, ok, err := p.MaxTimestamp()
	if want := (TimestampOffset{Offset: 3, Timestamp: testTime + 901, Epoch: 1}); !ok || err != nil || at != want {
		t.Fatalf("MaxTimestamp = %+v, %t, %v; want %+v", at, ok, err, want)
	}
}

// The largest timestamp of all may be of a record that is not durable yet: then the largest of the durable ones is the answer.
func TestMaxTimestampIsOfADurableRecord(t *testing.T) {
	t.Parallel()
	for _, flushed := range []bool{false, true} {
		spec := testSpec('a', 0, LogConfig{})
		e := open(t, testConfig(newFS(t), spec))
		p := partition(t, e, spec.ID)
		for i, ts := range []int64{5, 900, 40} {
			mustAppend(t, p, batchSpec{records: 2, size: 500, timestamp: testTime + ts, seed: i})
		}
		if flushed {
			if err := p.flush(1); err != nil {
				t.Fatal(err)
			}
		}
		e.wakeMu.Lock() // what is appended now does not become visible
		batch, h := makeBatch(batchSpec{records: 2, size: 500, timestamp: testTime + 5000, seed: 3})
		_, appendErr := p.Append(t.Context(), batch, h, AppendOptions{})
		at, ok, err := p.MaxTimestamp()
		e.wakeMu.Unlock()
		if appendErr != nil {
			t.Fatal(appendErr)
		}
		if want := (TimestampOffset{Offset: 3, Timestamp: testTime + 901, Epoch: 1}); !ok || err != nil || at != want {
			t.Errorf("flushed %t: MaxTimestamp = %+v, %t, %v; want %+v", flushed, at, ok, err, want)
		}
	}
}

func TestRetentionDropsWhatIsTooOldOrTooMuch(t *testing.T) {
	t.Parallel()
	now := time.Now().UnixMilli()
	for _, c := range []struct {
		name   string
		config LogConfig
		ages   []int64 // of the batches, in seconds; each fills a segment
		start  base.Offset
	}{
		{"none", LogConfig{Delete: true, Retention: -1, RetentionBytes: -1}, []int64{9000, 8000, 10}, 0},
		{"not deleted", LogConfig{Retention: 1, RetentionBytes: 1}, []int64{9000, 8000, 10}, 0},
		{"age", LogConfig{Delete: true, Retention: 5000 * time.Second, RetentionBytes: -1}, []int64{9000, 8000, 10, 10}, 2},
		{"age, the newest too", LogConfig{Delete: true, Retention: 5000 * time.Second, RetentionBytes: -1}, []int64{9000, 8000, 7000}, 3},
		{"age, a young one first", LogConfig{Delete: true, Retention: 5000 * time.Second, RetentionBytes: -1}, []int64{10, 8000, 7000}, 0},
		{"size", LogConfig{Delete: true, Retention: -1, RetentionBytes: 2500}, []int64{10, 10, 10, 10, 10}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fs := newFS(t)
			c.config.SegmentBytes = 1200
			spec := testSpec('a', 0, c.config)
			e := open(t, testConfig(fs, spec))
			p := partition(t, e, spec.ID)
			for i, age := range c.ages {
				mustAppend(t, p, batchSpec{size: 900, seed: i, timestamp: now - 1000*age})
			}
			if err := p.flush(1); err != nil {
				t.Fatal(err)
			}
			if err := e.Retain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if o := p.Offsets(); o.LogStart != c.start || o.LogEnd != base.Offset(len(c.ages)) {
				t.Fatalf("offsets %+v, want the log to start at %d", o, c.start)
			}
			kill(e)
			e = open(t, testConfig(fs, spec))
			if o := partition(t, e, spec.ID).Offsets(); o.LogStart != c.start || o.LogEnd != base.Offset(len(c.ages)) {
				t.Fatalf("after a kill: offsets %+v, want the log to start at %d", o, c.start)
			}
			if err := e.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			names, err := fs.List("/data/topics/topica-0")
			if err != nil {
				t.Fatal(err)
			}
			logs := 0
			for _, n := range names {
				if len(n) > 4 && n[len(n)-4:] == ".log" {
					logs++
				}
			}
			if want := len(c.ages) - int(c.start); logs > want {
				t.Fatalf("%d segment files are left, want %d: %v", logs, want, names)
			}
		})
	}
}
