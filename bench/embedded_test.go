package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	embed "github.com/ottlaio/ottla"
	"github.com/ottlaio/ottla/bench/load"
)

// The benchmarks of this file run the broker inside the test process and its load in another, so that what `go test` measures and
// profiles is the broker alone:
//
//	go test ./bench -run '^$' -bench Consume -cpuprofile cpu.out
//
// They report the broker's processor time, the garbage collector's share of it, and the broker's allocations, which mean something on a
// machine with other work too, and MB/s.

// loadVariable makes the test binary the load generator of a benchmark.
const loadVariable = "OTTLA_BENCH_LOAD"

// What each load uses.
const (
	benchTopic      = "load"
	benchPartitions = 12
)

// loadSpec tells the process that makes the load what to do.
type loadSpec struct {
	Addr    string
	Consume int64         // bytes to read from the beginning; 0 = produce
	Records int           // per batch
	Wait    time.Duration // time to produce
	Rate    float64       // batches per second; 0 = as fast as answers come
	Follow  []string      // groups that consume what is produced, at the same time; "" is none, and commits nothing
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(loadVariable); spec != "" {
		if err := makeLoad(context.Background(), spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// makeLoad is the other process. It prints how many bytes went over the wire.
func makeLoad(ctx context.Context, encoded string) error {
	var spec loadSpec
	if err := json.Unmarshal([]byte(encoded), &spec); err != nil {
		return err
	}
	all := load.Partitions(benchTopic, benchPartitions)
	if spec.Consume > 0 {
		got, err := load.Consume{Partitions: all, Connections: 4, MinBytes: spec.Consume}.Run(ctx, spec.Addr)
		fmt.Println(got.Bytes)
		return err
	}
	produce := load.Produce{Partitions: all, Batch: benchBatch(spec.Records), Connections: 4, InFlight: 8, Duration: spec.Wait, Rate: spec.Rate}
	if len(spec.Follow) > 0 {
		return makeFollow(ctx, spec.Addr, produce, spec.Follow)
	}
	done, err := produce.Run(ctx, spec.Addr)
	fmt.Println(done.Bytes)
	return err
}

func benchBatch(records int) load.Batch {
	return load.NewBatch(load.BatchOptions{Records: records, RecordBytes: 1000})
}

// makeFollow makes a load beside groups of consumers that keep up with it. It prints what one of them consumed.
func makeFollow(ctx context.Context, addr string, produce load.Produce, groups []string) error {
	consuming, stop := context.WithCancel(ctx)
	defer stop()
	got := make([]load.Consumed, len(groups))
	errs := make([]error, len(groups))
	var consumers sync.WaitGroup
	for i, group := range groups {
		consumers.Go(func() {
			got[i], errs[i] = load.Consume{Partitions: produce.Partitions, Connections: max(2, 4/len(groups)), Group: group}.Run(consuming, addr)
		})
	}
	done, err := produce.Run(ctx, addr)
	stop()
	consumers.Wait()
	err = errors.Join(append(errs, err)...)
	for _, g := range got {
		if err == nil && float64(g.Bytes) < 0.9*float64(done.Bytes) {
			err = fmt.Errorf("the consumers got %d bytes of %d", g.Bytes, done.Bytes)
		}
	}
	fmt.Println(got[0].Bytes)
	return err
}

// runLoad makes a load in a process of its own and returns how many bytes went over the wire.
func runLoad(tb testing.TB, spec loadSpec) int64 {
	tb.Helper()
	encoded, err := json.Marshal(spec)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), loadVariable+"="+string(encoded))
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			tb.Fatalf("load: %v: %s", err, exit.Stderr)
		}
		tb.Fatal(err)
	}
	n, err := strconv.ParseInt(string(out[:len(out)-1]), 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// embedded starts a broker in this process, with the topic of the loads.
func embedded(tb testing.TB) *embed.Broker {
	tb.Helper()
	b, err := embed.Start(tb.Context(), embed.Config{Data: tb.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	if err := load.CreateTopic(tb.Context(), b.Addr(), benchTopic, benchPartitions); err != nil {
		tb.Fatal(err)
	}
	return b
}

// processUse is what the process has used so far.
type processUse struct {
	cpu           time.Duration
	gc, processor float64 // seconds that the garbage collector, and all of the program, had a processor, as the runtime counts them
	mallocs       uint64
	at            time.Time
}

func usage(tb testing.TB) processUse {
	tb.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	runtime.GC() // the runtime adds up what each class of work took when a collection ends
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	classes := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}}
	metrics.Read(classes)
	return processUse{
		cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), mallocs: m.Mallocs, at: time.Now(),
		gc: classes[0].Value.Float64(), processor: classes[1].Value.Float64() - classes[2].Value.Float64(),
	}
}

// gcShare is the garbage collector's share of the processor time since u.
func (u processUse) gcShare(now processUse) float64 {
	return (now.gc - u.gc) / (now.processor - u.processor)
}

// report reports what was used for n bytes of batches of the given size.
func (u processUse) report(b *testing.B, n, batchBytes int64) {
	now := usage(b)
	b.ReportMetric(0, "ns/op") // an iteration is a load, whose length says nothing
	b.ReportMetric((now.cpu-u.cpu).Seconds()/(float64(n)/1e9), "cpu-s/GB")
	b.ReportMetric(float64(n)/1e6/now.at.Sub(u.at).Seconds(), "MB/s")
	b.ReportMetric(float64(now.mallocs-u.mallocs)/(float64(n)/float64(batchBytes)), "allocs/batch")
	b.ReportMetric(100*u.gcShare(now), "gc-%")
}

var batchSizes = []struct {
	name    string
	records int
}{{"batch=64KiB", 64}, {"batch=1KiB", 1}}

func BenchmarkProduce(b *testing.B) {
	for _, size := range batchSizes {
		b.Run(size.name, func(b *testing.B) {
			running := embedded(b)
			spec := loadSpec{Addr: running.Addr(), Records: size.records, Wait: time.Second}
			runLoad(b, spec)
			spec.Wait = 4 * time.Second
			before, n := usage(b), int64(0)
			for b.Loop() {
				n += runLoad(b, spec)
			}
			before.report(b, n, int64(len(benchBatch(size.records).Raw)))
		})
	}
}

// BenchmarkFollow produces 100 MB/s beside consumers that keep up, so that they are served from memory. Its figures are of both,
// and of one iteration: in another the consumers would begin with what there is already (-benchtime 1x).
func BenchmarkFollow(b *testing.B) { benchmarkFollow(b, 100e6, "") }

// BenchmarkFanOut produces 30 MB/s beside five groups that keep up and commit. Its figures are of all together, for each batch that was
// produced, and of one iteration.
func BenchmarkFanOut(b *testing.B) { benchmarkFollow(b, 30e6, "a", "b", "c", "d", "e") }

func benchmarkFollow(b *testing.B, bytesPerSecond float64, groups ...string) {
	running := embedded(b)
	const batchBytes = 65e3
	before, n := usage(b), int64(0)
	for b.Loop() {
		n += runLoad(b, loadSpec{Addr: running.Addr(), Records: 64, Wait: 4 * time.Second, Rate: bytesPerSecond / batchBytes, Follow: groups})
	}
	before.report(b, n, int64(len(benchBatch(64).Raw)))
}

// BenchmarkConsume reads a topic that was written long ago from its beginning, so that it comes from segments.
func BenchmarkConsume(b *testing.B) {
	for _, size := range batchSizes {
		b.Run(size.name, func(b *testing.B) {
			running := embedded(b)
			n := int64(0)
			for n < 2e9 && (n == 0 || size.records > 1) {
				n += runLoad(b, loadSpec{Addr: running.Addr(), Records: size.records, Wait: 4 * time.Second})
			}
			before, got := usage(b), int64(0)
			for b.Loop() {
				got += runLoad(b, loadSpec{Addr: running.Addr(), Consume: n})
			}
			before.report(b, got, int64(len(benchBatch(size.records).Raw)))
		})
	}
}
