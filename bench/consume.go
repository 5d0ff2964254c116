package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ottlaio/ottla/bench/load"
)

// followers is how many groups consume at the tail in the fan-out.
const followers = 5

func runTail(ctx context.Context, r *sideRun) error {
	return follow(ctx, r, "tail", 0.5, []string{""})
}

func runFanOut(ctx context.Context, r *sideRun) error {
	var groups []string
	for i := range followers {
		groups = append(groups, fmt.Sprintf("bench-%d", i))
	}
	return follow(ctx, r, "fanout", 1.0/6, groups)
}

// least is the share of what was produced that consumers must have got for a figure to count.
const least = 0.95

// follow produces at a part of the other side's saturation while each group consumes it.
func follow(ctx context.Context, r *sideRun, name string, part float64, groups []string) error {
	all, err := r.startWithTopic(ctx, 12)
	if err != nil {
		return err
	}
	ends, err := load.EndOffsets(ctx, r.broker.Addr, all)
	if err != nil {
		return err
	}
	consuming, stop := context.WithCancel(ctx)
	defer stop()
	var (
		consumers sync.WaitGroup
		got       = make([]load.Consumed, len(groups))
		failed    atomic.Pointer[error]
	)
	for i, group := range groups {
		consumers.Go(func() {
			var err error
			if got[i], err = (load.Consume{Partitions: all, From: ends, Connections: 2, Group: group}).Run(consuming, r.broker.Addr); err != nil {
				failed.Store(&err)
			}
		})
	}
	var done load.Produced
	u, err := r.measure(func() (err error) {
		done, err = r.steady(all, part).Run(ctx, r.broker.Addr)
		return err
	})
	time.Sleep(settle / 4) // what was acknowledged last is on its way to the consumers
	stop()
	consumers.Wait()
	if err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	for _, g := range got {
		if float64(g.Bytes) < least*float64(done.Bytes) {
			return fmt.Errorf("consumers got %d of %d bytes: they did not keep up", g.Bytes, done.Bytes)
		}
	}
	r.putCPU(name+"-cpu", u, done.Bytes)
	r.put(name+"-p99", done.Latencies.Quantile(0.99))
	return r.keptUp(done)
}

// runCatchUp reads a topic from its beginning, again and again, with nothing of it in the page cache.
func runCatchUp(ctx context.Context, r *sideRun) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	all, err := r.topic(ctx, 12)
	if err != nil {
		return err
	}
	n, err := r.fill(ctx, all, max(r.volume(), r.firstCycle()))
	if err != nil {
		return err
	}
	r.phase("%.1f GB written", float64(n)/1e9)
	var total used
	bytes := int64(0)
	for total.took < r.length() {
		r.dropCaches()
		var got load.Consumed
		u, err := r.measure(func() (err error) {
			got, err = load.Consume{Partitions: all, Connections: 4, MinBytes: n}.Run(ctx, r.broker.Addr)
			return err
		})
		if err != nil {
			return err
		}
		bytes += got.Bytes
		total.took += got.Took
		total.cpu += u.cpu
		total.known = u.known
	}
	r.put("catchup-mbps", float64(bytes)/1e6/total.took.Seconds())
	r.putCPU("catchup-cpu", total, bytes)
	r.phase("%.0f MB/s", float64(bytes)/1e6/total.took.Seconds())

	r.dropCaches()
	disk, err := directRead(ctx, r.broker.Dir)
	if err != nil {
		return err
	}
	r.put("catchup-disk", disk)
	return nil
}

// dropCaches has the kernel forget all files that it keeps in memory, or notes that it could not.
func (r *sideRun) dropCaches() {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		r.report.Note("Caches could not be dropped before catch-up consumes (this needs root): what Kafka had in its page cache was not read from the disk.")
	}
}
