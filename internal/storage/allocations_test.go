package storage

import (
	"io"
	"math"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// TestTheHotPathsHardlyAllocate bounds what an append and a fetch of a consumer that catches up cost the garbage collector. The bounds
// are a little above what was measured: one allocation more for each batch would break them.
func TestTheHotPathsHardlyAllocate(t *testing.T) {
	spec := testSpec('a', 0, LogConfig{})
	cfg := Config{FS: disk.Default(), Dir: t.TempDir(), LeaderEpoch: 1, Partitions: []PartitionSpec{spec}}
	e := open(t, cfg)
	p := partition(t, e, spec.ID)
	batch, h := makeBatch(batchSpec{records: 64, size: 1000})
	var last Appended
	appendOne := func() {
		var err error
		if last, err = p.Append(t.Context(), batch, h, AppendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	factor := 1.0
	if raceEnabled {
		factor = 10 // the race detector empties pools at random
	}
	n := math.Inf(1)
	for range 3 { // other work on the machine makes groups smaller, and more of them
		n = min(n, testing.AllocsPerRun(200, appendOne))
	}
	if n > 2*factor {
		t.Errorf("%v allocations for an append, its share of the wal and of the flush", n)
	}
	if err := e.Wait(t.Context(), last.Sequence); err != nil {
		t.Fatal(err)
	}
	if err := p.flush(1); err != nil {
		t.Fatal(err)
	}
	p.forgetFlushed()

	from, batches := base.Offset(0), 0
	perRead := testing.AllocsPerRun(10, func() {
		s, err := p.Read(from, ReadOptions{MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteTo(io.Discard); err != nil {
			t.Fatal(err)
		}
		batches = s.Len() / len(batch)
		from = s.FirstOffset() + base.Offset(batches)*(h.LastOffset()-h.BaseOffset+1)
	})
	if batches < 10 || perRead > float64(batches)*factor {
		t.Errorf("%v allocations for a fetch of %d batches", perRead, batches)
	}
}
