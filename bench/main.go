// Command bench runs the broker and Apache Kafka side by side on this machine: the same load, in alternation, a new data folder each
// time. It prints each figure of both and their ratio, which is what counts: the machine's own speed and noise cancel out.
//
// The load generator sends batches that were encoded beforehand, so that the broker and not the client is what saturates. Every
// acknowledged record of ours is synced; Kafka runs as shipped, which does not sync.
//
//	go run ./bench --pairs 5 --seconds 20
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type options struct {
	pairs   int
	seconds int
	idle    int
	binary  string
	scratch string
	cache   string
}

func main() {
	var o options
	flag.IntVar(&o.pairs, "pairs", 3, "how often each broker runs, alternating")
	flag.IntVar(&o.seconds, "seconds", 10, "length of each load in seconds")
	flag.IntVar(&o.idle, "idle", 10, "seconds after a start until idle memory is read")
	flag.StringVar(&o.binary, "ottla", "bin/ottla", "the binary to measure (make build)")
	flag.StringVar(&o.scratch, "scratch", "", "folder for both brokers' data, on a real disk (default: a temporary folder)")
	flag.StringVar(&o.cache, "cache", defaultCache(), "where Apache Kafka is kept once fetched")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func defaultCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "ottla-interop")
}

// figure is one row of the table.
type figure struct {
	name, unit string
	better     string // "less" or "more"
}

var figures = []figure{
	{"start to first acknowledged record", "ms", "less"},
	{"resident memory, idle", "MiB", "less"},
	{"produce, saturated", "MB/s", "more"},
	{"produce, broker CPU", "s/GB", "less"},
	{"produce, p50", "ms", "less"},
	{"produce, p99", "ms", "less"},
	{"resident memory, under load", "MiB", "less"},
	{"consume", "MB/s", "more"},
	{"consume, broker CPU", "s/GB", "less"},
	{"produce at 20 MB/s, p50", "ms", "less"},
	{"produce at 20 MB/s, p99", "ms", "less"},
}

func run(ctx context.Context, o options) error {
	if _, err := os.Stat(o.binary); err != nil {
		return fmt.Errorf("%w; make build makes it", err)
	}
	if _, err := exec.LookPath("java"); err != nil {
		return fmt.Errorf("the reference broker needs a JVM: %w", err)
	}
	classPath, err := kafkaClassPath(ctx, o.cache)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(o.scratch, "ottla-bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()

	products := []product{ottla(o.binary), kafka(classPath)}
	results := map[string][][]float64{} // product → run → figure
	for pair := range o.pairs {
		for i := range products {
			p := products[(i+pair)%2] // who goes first alternates too
			fmt.Fprintf(os.Stderr, "pair %d of %d: %s\n", pair+1, o.pairs, p.name)
			values, err := measure(ctx, p, o, scratch)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			results[p.name] = append(results[p.name], values)
		}
	}
	return printTable(results, o)
}

// measure starts a broker, drives every workload, and returns the figures in their order.
func measure(ctx context.Context, p product, o options, scratch string) (values []float64, err error) {
	b, err := p.start(ctx, scratch)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	defer func() {
		if err != nil {
			output, _ := os.ReadFile(b.log.Name())
			err = fmt.Errorf("%w\noutput of the broker:\n%s", err, output[max(0, len(output)-2000):])
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.seconds*6+o.idle+120)*time.Second)
	defer cancel()

	if err := autoCreate(ctx, b.addr, "first"); err != nil {
		return nil, err
	}
	values = append(values, time.Since(b.started).Seconds()*1e3)

	select {
	case <-time.After(time.Duration(o.idle) * time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	rss, err := b.resident()
	if err != nil {
		return nil, err
	}
	values = append(values, float64(rss)/(1<<20))

	const partitions = 12
	if err := createTopic(ctx, b.addr, "load", partitions); err != nil {
		return nil, err
	}
	seconds := time.Duration(o.seconds) * time.Second
	load := produceLoad{topic: "load", partitions: partitions, connections: 4, inFlight: 8, batch: batch(64, 1000), duration: seconds}
	warm := load
	warm.duration = min(seconds, 3*time.Second)
	warmed, err := warm.run(ctx, b.addr)
	if err != nil {
		return nil, err
	}
	before, err := b.cpu()
	if err != nil {
		return nil, err
	}
	done, err := load.run(ctx, b.addr)
	if err != nil {
		return nil, err
	}
	after, err := b.cpu()
	if err != nil {
		return nil, err
	}
	if rss, err = b.resident(); err != nil {
		return nil, err
	}
	values = append(values, rate(done.bytes, done.took), perGB(after-before, done.bytes),
		quantile(done.latencies, 0.5), quantile(done.latencies, 0.99), float64(rss)/(1<<20))

	if before, err = b.cpu(); err != nil {
		return nil, err
	}
	begin := time.Now()
	got, err := consume(ctx, b.addr, "load", partitions, 4, warmed.bytes+done.bytes)
	if err != nil {
		return nil, err
	}
	took := time.Since(begin)
	if after, err = b.cpu(); err != nil {
		return nil, err
	}
	values = append(values, rate(got, took), perGB(after-before, got))

	steady := load
	steady.batch, steady.rate = batch(16, 1000), 20e6/16e3
	paced, err := steady.run(ctx, b.addr)
	if err != nil {
		return nil, err
	}
	return append(values, quantile(paced.latencies, 0.5), quantile(paced.latencies, 0.99)), nil
}

// autoCreate sends records to a topic that does not exist until one is acknowledged: what a first user of a fresh broker does.
func autoCreate(ctx context.Context, addr, topic string) error {
	produce := produceFrame(topic, 0, batch(1, 100))
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = 12, true
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	for {
		err := request(ctx, addr, req, kmsg.NewPtrMetadataResponse())
		if err == nil {
			return firstAnswer(ctx, addr, produce)
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func rate(bytes int64, took time.Duration) float64 { return float64(bytes) / 1e6 / took.Seconds() }

func perGB(cpu time.Duration, bytes int64) float64 { return cpu.Seconds() / (float64(bytes) / 1e9) }

// quantile is in milliseconds. It sorts values.
func quantile(values []time.Duration, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)].Seconds() * 1e3
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// printTable prints medians, and of the ratios, which are taken pair by pair, the median and the extremes.
func printTable(results map[string][][]float64, o options) error {
	fmt.Printf("%d pairs, %d s each load, medians; ratio = ottla / kafka, pair by pair: median (least to greatest)\n\n", o.pairs, o.seconds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tottla\tkafka\tunit\tratio\tbetter")
	for i, f := range figures {
		var ours, theirs, ratios []float64
		for run := range results["ottla"] {
			a, b := results["ottla"][run][i], results["kafka"][run][i]
			ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, a/b)
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%s\t%.2f (%.2f to %.2f)\t%s\n", f.name, median(ours), median(theirs), f.unit,
			median(ratios), slices.Min(ratios), slices.Max(ratios), f.better)
	}
	return w.Flush()
}
