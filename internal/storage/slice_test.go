package storage

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

func TestHeadersAreReadWithTheirBatches(t *testing.T) {
	fs := newFS(t)
	spec := testSpec('a', 0, LogConfig{})
	e := open(t, Config{FS: fs, Dir: "/data", LeaderEpoch: 1, Partitions: []PartitionSpec{spec}})
	p := partition(t, e, spec.ID)
	batch, h := makeBatch(batchSpec{records: 64, size: 1000})
	const batches = 12
	var last Appended
	for range batches {
		var err error
		if last, err = p.Append(t.Context(), batch, h, AppendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Wait(t.Context(), last.Sequence); err != nil {
		t.Fatal(err)
	}
	if err := p.flush(1); err != nil {
		t.Fatal(err)
	}
	p.forgetFlushed()
	var reads atomic.Int32
	fs.SetFault(func(op crashfs.Op) error {
		if op.Kind == crashfs.OpRead && strings.HasSuffix(op.Path, ".log") {
			reads.Add(1)
		}
		return nil
	})
	s, err := p.Read(0, ReadOptions{MaxBytes: batches * len(batch)})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	if err := s.Batches(func(record.Header, int64) bool { seen++; return true }); err != nil || seen != batches {
		t.Fatalf("%d batches of %d, %v", seen, batches, err)
	}
	if n, err := s.WriteTo(io.Discard); err != nil || n != int64(batches*len(batch)) {
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
	if n := reads.Load(); n > 3 {
		t.Errorf("the log was read %d times for %d batches", n, batches)
	}
}
