package storage

import (
	"encoding/binary"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// BenchmarkCompaction compacts a log on the real disk: KEYS keys (10 million; default one), each written twice, values of 100 bytes,
// with Kafka's memory for keys. It reports bytes of the log a second.
func BenchmarkCompaction(b *testing.B) {
	keys, err := strconv.Atoi(os.Getenv("KEYS"))
	if err != nil {
		keys = 1_000_000
	}
	for b.Loop() {
		b.StopTimer()
		e, p := uncompactedLog(b, keys)
		size := p.SizeBytes()
		b.StartTimer()
		if err := e.Compact(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.SetBytes(size)
		if p.SizeBytes() >= size {
			b.Fatal("nothing was compacted")
		}
		b.ReportMetric(float64(p.SizeBytes())/float64(size), "left/byte")
		closeEngine(b, e)
		b.StartTimer()
	}
}

func uncompactedLog(b *testing.B, keys int) (*Engine, *Partition) {
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 32 << 20, Compact: true, DeleteRetention: time.Hour, MinDirtyRatio: 0.01})
	cfg := testConfig(disk.Default(), spec)
	cfg.Dir = b.TempDir()
	cfg.WALMaxBytes, cfg.WALFileBytes, cfg.TailBytes = 1<<30, 64<<20, 128<<20
	cfg.Cleaner.Backoff = time.Hour
	e := open(b, cfg)
	p := partition(b, e, spec.ID)
	builder := record.NewBuilder(record.BuilderOptions{})
	const perBatch = 4000
	var at Appended
	for i := 0; i < 2*keys; i += perBatch {
		builder.Reset()
		for k := range perBatch {
			builder.Append(testTime+int64(i), binary.BigEndian.AppendUint64(nil, uint64((i+k)%keys)*0x9e3779b97f4a7c15), value(i+k, 100))
		}
		batch := builder.Build(0)
		h, err := record.ParseHeader(batch)
		if err == nil {
			at, err = p.Append(b.Context(), batch, h, AppendOptions{})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Wait(b.Context(), at.Sequence); err != nil {
		b.Fatal(err)
	}
	if err := p.flush(1); err != nil {
		b.Fatal(err)
	}
	if err := e.Checkpoint(b.Context()); err != nil {
		b.Fatal(err)
	}
	return e, p
}
