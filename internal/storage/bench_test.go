package storage

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// BenchmarkAppend appends to twelve partitions on the machine's own disk, five batches of each in flight, every one synced. Large batches go past
// the wal, and for comparison through it.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		size          int
		indirectBytes int64
	}{{1 << 10, 0}, {64 << 10, 0}, {1 << 20, 0}, {1 << 20, 1 << 30}} {
		size := c.size
		b.Run(fmt.Sprintf("batch=%dKiB/past=%t", size>>10, c.indirectBytes == 0 && size > 256<<10), func(b *testing.B) {
			const partitions, inFlight = 12, 5
			specs := testSpecs(partitions)
			e := open(b, Config{FS: disk.Default(), Dir: b.TempDir(), LeaderEpoch: 1, Partitions: specs, IndirectBytes: c.indirectBytes})
			batch, h := makeBatch(batchSpec{size: size})
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			b.SetParallelism(partitions / 2)
			next := make(chan base.TopicIDPartition, partitions)
			for _, s := range specs {
				next <- s.ID
			}
			b.RunParallel(func(pb *testing.PB) {
				id := <-next
				defer func() { next <- id }()
				p := partition(b, e, id)
				mine := bytes.Clone(batch)
				var waiting []wal.Sequence
				for pb.Next() {
					at, err := p.Append(b.Context(), mine, h, AppendOptions{})
					if err != nil {
						b.Error(err)
						return
					}
					if waiting = append(waiting, at.Sequence); len(waiting) == inFlight {
						if err := e.Wait(b.Context(), waiting[0]); err != nil {
							b.Error(err)
							return
						}
						waiting = append(waiting[:0], waiting[1:]...)
					}
				}
			})
		})
	}
}
