package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

const testDir = "/data"

// testTime is the timestamp of the first record of most tests, in ms.
const testTime int64 = 1_700_000_000_000

// testID is the id of a partition whose topic id begins with topic.
func testID(topic byte, partition int32) base.TopicIDPartition {
	return base.TopicIDPartition{ID: base.TopicID{topic, 1, 2, 3, 4, 5, 0x40, 7, 0x80, 15: 1}, Partition: partition}
}

func testSpec(topic byte, partition int32, c LogConfig) PartitionSpec {
	return PartitionSpec{Topic: fmt.Sprintf("topic%c", topic), ID: testID(topic, partition), Config: c}
}

// testSpecs is the first n partitions of one topic.
func testSpecs(n int) []PartitionSpec {
	specs := make([]PartitionSpec, n)
	for i := range specs {
		specs[i] = testSpec('a', int32(i), LogConfig{})
	}
	return specs
}

// newFS returns a file system that holds an empty data folder.
func newFS(t testing.TB) *crashfs.FS {
	t.Helper()
	fs := crashfs.New()
	if err := fs.MkdirAll(testDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := disk.SyncDir(fs, "/"); err != nil {
		t.Fatal(err)
	}
	return fs
}

// testConfig is a small engine: 1 MiB of wal, 4 MiB of tail, nothing done by the clock within a test.
func testConfig(fs disk.FS, specs ...PartitionSpec) Config {
	return Config{
		FS: fs, Dir: testDir, WALMaxBytes: 4 << 20, WALFileBytes: 512 << 10, TailBytes: 4 << 20, LeaderEpoch: 1,
		CheckpointInterval: time.Hour, IdleFlush: time.Hour, Partitions: specs,
	}
}

func open(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	return e
}

func closeEngine(t testing.TB, e *Engine) {
	t.Helper()
	if err := e.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// kill ends an engine as the end of its process would: nothing more is flushed, and no checkpoint written.
func kill(e *Engine) {
	e.closing.Store(true)
	e.fail(errKilled)
	_ = e.abandon()
}

var errKilled = errors.New("killed by a test")

func partition(t testing.TB, e *Engine, id base.TopicIDPartition) *Partition {
	t.Helper()
	p, ok := e.Partition(id)
	if !ok {
		t.Fatalf("partition %v is not there", id)
	}
	return p
}

// wantRoom has the next flush take room for bodies, so that large batches can go past the wal.
func wantRoom(p *Partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wantsRoom = true
}

// batchSpec says what makeBatch makes.
type batchSpec struct {
	records   int // 1 if 0
	size      int // bytes of each value
	timestamp int64
	seed      int
	producer  *record.Producer

	transactional bool
}

func makeBatch(s batchSpec) ([]byte, record.Header) {
	b := record.NewBuilder(record.BuilderOptions{Producer: s.producer, Transactional: s.transactional})
	if s.timestamp == 0 {
		s.timestamp = testTime
	}
	for i := range max(s.records, 1) {
		b.Append(s.timestamp+int64(i), fmt.Appendf(nil, "key-%d-%d", s.seed, i), value(s.seed+i, s.size))
	}
	batch := b.Build(0)
	h, err := record.ParseHeader(batch)
	if err != nil {
		panic(err)
	}
	return batch, h
}

// value is n bytes that depend on seed.
func value(seed, n int) []byte {
	v := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range v {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		v[i] = byte(x)
	}
	return v
}

// mustAppend appends a batch and waits until it is durable.
func mustAppend(t testing.TB, p *Partition, s batchSpec) Appended {
	t.Helper()
	batch, h := makeBatch(s)
	at, err := p.Append(t.Context(), batch, h, AppendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.e.Wait(t.Context(), at.Sequence); err != nil {
		t.Fatal(err)
	}
	return at
}

// readAll reads p from an offset to the high watermark, in steps of maxBytes.
func readAll(p *Partition, from base.Offset, maxBytes int) ([]byte, error) {
	all := make([]byte, 0, p.SizeBytes())
	for {
		s, err := p.Read(from, ReadOptions{MaxBytes: maxBytes, AtLeastOne: true})
		if err != nil {
			return all, err
		}
		if s.Len() == 0 {
			return all, nil
		}
		b, err := s.Bytes()
		if err != nil {
			return all, err
		}
		if len(b) != s.Len() {
			return all, fmt.Errorf("%d bytes of a slice of %d", len(b), s.Len())
		}
		all = append(all, b...)
		next, err := nextOffset(b)
		if err != nil || next <= from {
			return all, fmt.Errorf("read at %d ends at %d: %w", from, next, err)
		}
		from = next
	}
}

// nextOffset is the offset after the last record of whole batches.
func nextOffset(batches []byte) (next base.Offset, err error) {
	for len(batches) > 0 {
		var batch []byte
		if batch, batches, err = record.Next(batches); err != nil {
			return next, err
		}
		h, err := record.ParseHeader(batch)
		if err != nil {
			return next, err
		}
		next = h.LastOffset() + 1
	}
	return next, nil
}

// testLogger sends the engine's log to the test's.
func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
