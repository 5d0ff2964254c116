package wal

import (
	"fmt"
	"sync"
	"testing"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// BenchmarkAppendAndWait appends to a wal on the machine's disk and waits for each entry, as a produce with acks=all does. What was
// written is released at once, so that after a while files are used again and only groups are written.
func BenchmarkAppendAndWait(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		for _, producers := range []int{1, 16} {
			b.Run(fmt.Sprintf("size=%dKiB/producers=%d", size>>10, producers), func(b *testing.B) {
				benchmarkAppend(b, size, producers)
			})
		}
	}
}

func benchmarkAppend(b *testing.B, size, producers int) {
	cfg := Config{FS: disk.Default(), Dir: b.TempDir()}
	l := mustOpen(b, cfg, 0, nil)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 7)
	}
	e := Entry{Kind: Batches, Partition: testPartition, Data: data}
	work := make(chan struct{}, producers)
	var wg sync.WaitGroup
	for range producers {
		c := &nobody{}
		wg.Go(func() {
			for range work {
				r, err := l.Reserve(b.Context(), size)
				if err != nil {
					b.Error(err)
					return
				}
				seq := l.Append(&r, e, c)
				if err := l.Wait(b.Context(), seq); err != nil {
					b.Error(err)
					return
				}
				if err := l.Release(seq); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.StopTimer()
	s := l.Stats()
	b.ReportMetric(float64(s.Entries)/float64(s.Groups), "entries/group")
	b.ReportMetric(float64(s.WriteTime.Microseconds())/float64(s.Groups), "µs/group")
	mustClose(b, l)
}

type nobody struct{ _ int }

func (*nobody) Committed(Sequence) {}
