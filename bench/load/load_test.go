package load_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ottlaio/ottla"
	"github.com/ottlaio/ottla/bench/load"
	"github.com/ottlaio/ottla/internal/record"
)

func broker(t *testing.T) string {
	t.Helper()
	b, err := ottla.Start(t.Context(), ottla.Config{
		Data: t.TempDir(), Listen: "127.0.0.1:0",
		Settings: map[string]string{"group.initial.rebalance.delay.ms": "0", "group.consumer.assignment.interval.ms": "0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b.Addr()
}

func topic(t *testing.T, addr string, partitions int) []load.Partition {
	t.Helper()
	if err := load.CreateTopic(t.Context(), addr, "t", partitions); err != nil {
		t.Fatal(err)
	}
	return load.Partitions("t", partitions)
}

// TestWhatIsProducedIsWhatIsThere counts records by offsets and bytes by consuming them, with each codec.
func TestWhatIsProducedIsWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.Lz4, record.Zstd} {
		t.Run(codec.String(), func(t *testing.T) {
			t.Parallel()
			addr := broker(t)
			all := topic(t, addr, 3)
			before, err := load.EndOffsets(t.Context(), addr, all)
			if err != nil {
				t.Fatal(err)
			}
			done, err := load.Produce{
				Partitions: all, Batch: load.Batch64KiB(1<<10, codec), Connections: 2, InFlight: 3, Burst: 2, MinBytes: 1 << 20,
			}.Run(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			after, err := load.EndOffsets(t.Context(), addr, all)
			if err != nil {
				t.Fatal(err)
			}
			records := int64(0)
			for p := range after {
				if after[p] == before[p] {
					t.Errorf("%v was not written to", p)
				}
				records += after[p] - before[p]
			}
			if records != done.Records || done.Bytes < 1<<20 || done.Latencies.Count() != done.Requests {
				t.Errorf("the broker has %d records; the load says %+v", records, done)
			}
			got, err := load.Consume{Partitions: all, From: before, Connections: 2, MinBytes: done.Bytes}.Run(t.Context(), addr)
			if err != nil || got.Bytes != done.Bytes {
				t.Errorf("consumed %d bytes of %d: %v", got.Bytes, done.Bytes, err)
			}
		})
	}
}

func TestAPacedLoadKeepsItsRate(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	all := topic(t, addr, 2)
	done, err := load.Produce{Partitions: all, Batch: load.OneKiB(), Connections: 2, InFlight: 64, Rate: 200, Duration: 500 * time.Millisecond}.Run(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	if done.Requests != 100 { // every request that was due is sent, however late
		t.Errorf("%d requests in half a second at 200 a second", done.Requests)
	}
}

func TestEndToEndCountsEveryBatch(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	all := topic(t, addr, 4)
	produce := load.Produce{Partitions: all, Batch: load.NewBatch(load.BatchOptions{Records: 10, RecordBytes: 100}), Connections: 2, InFlight: 16, Rate: 200,
		Duration: 500 * time.Millisecond}
	for _, one := range []bool{false, true} {
		e := load.EndToEnd{Produce: produce, Consumers: 2, OneAtATime: one}
		if one {
			e.Produce.Rate = 0
		}
		latencies, err := e.Run(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if n := latencies.Count(); n == 0 || !one && n != 100 {
			t.Errorf("one at a time %v: %d latencies", one, n)
		}
		if latencies.Quantile(0.5) <= 0 || latencies.Quantile(0.999) < latencies.Quantile(0.5) {
			t.Errorf("one at a time %v: p50 %v ms, p99.9 %v ms", one, latencies.Quantile(0.5), latencies.Quantile(0.999))
		}
	}
}

func TestWhatTransactionsCommitIsConsumed(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	l := load.Transactions{Partitions: topic(t, addr, 4), Producers: 3, Touched: 2, Records: 2, RecordBytes: 100, Consumers: 2, Duration: 300 * time.Millisecond}
	for range 2 { // the second time producers take over what the first have left
		done, err := l.Run(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if n := done.Transactions; n < 3 || done.Latencies.Count() != 2*n || done.Rate() <= 0 {
			t.Errorf("%d transactions, %d latencies, %v a second", n, done.Latencies.Count(), done.Rate())
		}
	}
}

func TestAGroupSettlesInBothProtocols(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	topic(t, addr, 7)
	for _, consumer := range []bool{false, true} {
		l := load.Settle{Topic: "t", Partitions: 7, Group: "classic", Members: 5, Consumer: consumer, Leaves: 2}
		if consumer {
			l.Group = "consumer"
		}
		done, err := l.Run(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if done.Joined <= 0 || len(done.Left) != 2 || slices.Min(done.Left) <= 0 {
			t.Errorf("%s: %+v", l.Group, done)
		}
	}
}

// TestAGroupThatCannotSettleEndsWithItsContext has a group wait for a partition that does not exist.
func TestAGroupThatCannotSettleEndsWithItsContext(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	topic(t, addr, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := load.Settle{Topic: "t", Partitions: 3, Group: "g", Members: 1, Consumer: true}.Run(ctx, addr)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestAShareGroupReadsEverythingOnce(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	all := topic(t, addr, 5)
	written, err := load.Produce{Partitions: all, Batch: load.Batch64KiB(1<<10, 0), Connections: 1, InFlight: 2, MinBytes: 4 << 20}.Run(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := load.EndOffsets(t.Context(), addr, all)
	if err != nil {
		t.Fatal(err)
	}
	records := int64(0)
	for _, end := range ends {
		records += end
	}
	for _, members := range []int{2, 7} { // some have several partitions, then some partitions have several members
		got, err := load.Share{Partitions: all, Group: fmt.Sprintf("g-%d", members), Members: members, MaxRecords: 100}.Run(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if got.Records != records || got.Bytes < written.Bytes || got.Took <= 0 {
			t.Errorf("%d members: %+v of %d records, at least %d bytes", members, got, records, written.Bytes)
		}
	}
}

func TestKeysAreWrittenOnceAndAgain(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	one := topic(t, addr, 1)[0]
	before, err := load.Size(t.Context(), addr, one)
	if err != nil {
		t.Fatal(err)
	}
	if err := load.Set(t.Context(), addr, load.Topic(one.Topic), map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000"}); err != nil {
		t.Fatal(err)
	}
	written, err := load.Keyed{Partition: one, Keys: 1000, RecordBytes: 100, Connections: 2}.Run(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	after, err := load.Size(t.Context(), addr, one)
	if err != nil || after-before != written.Bytes {
		t.Errorf("the log has grown by %d bytes, the load says %+v (%v)", after-before, written, err)
	}
	records := written.Bytes - written.Batches*record.HeaderSize
	if records < 2000*98 || records > 2000*102 {
		t.Errorf("%d bytes of 2000 records", records)
	}
	if err := load.Set(t.Context(), addr, load.Topic(one.Topic), map[string]string{"no.such.setting": "1"}); err == nil {
		t.Error("a setting that does not exist is taken")
	}
}

func TestConsumersOfAGroupCommit(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	all := topic(t, addr, 2)
	consuming, stop := context.WithCancel(t.Context())
	consumed := make(chan error, 1)
	go func() {
		_, err := load.Consume{Partitions: all, Connections: 1, Group: "g"}.Run(consuming, addr)
		consumed <- err
	}()
	_, err := load.Produce{Partitions: all, Batch: load.OneKiB(), Connections: 1, InFlight: 1, Rate: 100, Duration: 1500 * time.Millisecond}.Run(t.Context(), addr)
	stop()
	if err := errors.Join(err, <-consumed); err != nil {
		t.Fatal(err)
	}
}

// TestAnErrorOfTheBrokerEndsTheLoad also shows that nothing of the load is left waiting.
func TestAnErrorOfTheBrokerEndsTheLoad(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	topic(t, addr, 1)
	_, err := load.Produce{Partitions: []load.Partition{{Topic: "t", Index: 7}}, Batch: load.OneKiB(), Connections: 2, InFlight: 4, Duration: time.Hour}.Run(t.Context(), addr)
	if err == nil {
		t.Error("a load to a partition that does not exist succeeds")
	}
	if _, err = (load.Consume{Partitions: []load.Partition{{Topic: "t", Index: 7}}, Connections: 1, MinBytes: 1}).Run(t.Context(), addr); err == nil {
		t.Error("a consumer of a partition that does not exist succeeds")
	}
}

func TestACancelledLoadEnds(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	all := topic(t, addr, 1)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(enough) })
	if _, err := (load.Produce{Partitions: all, Batch: load.OneKiB(), Connections: 2, InFlight: 4, Duration: time.Hour}).Run(ctx, addr); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestLatenciesAddUp(t *testing.T) {
	t.Parallel()
	a, b := load.NewLatencies(), load.NewLatencies()
	for i := range 1000 {
		if i%2 == 0 {
			a.Record(time.Duration(i+1) * time.Millisecond)
		} else {
			b.Record(time.Duration(i+1) * time.Millisecond)
		}
	}
	a.Add(b)
	if a.Count() != 1000 {
		t.Errorf("%d latencies", a.Count())
	}
	for q, want := range map[float64]float64{0.5: 500, 0.99: 990, 0.999: 999} {
		if got := a.Quantile(q); got < want*0.998 || got > want*1.002 {
			t.Errorf("the %v quantile is %v ms, want %v", q, got, want)
		}
	}
	a.Record(-time.Second) // a clock may be read in any order
	a.Record(time.Hour)    // counts as the longest
	if a.Count() != 1002 || a.Quantile(1) < 599_000 {
		t.Errorf("%d latencies, the longest %v ms", a.Count(), a.Quantile(1))
	}
}
