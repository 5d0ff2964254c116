package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ottlaio/ottla/bench/load"
	"github.com/ottlaio/ottla/bench/report"
	"github.com/ottlaio/ottla/internal/record"
)

// produceLoad is a load that saturates.
type produceLoad struct {
	name        string
	partitions  int
	batch       func() load.Batch
	connections int
	inFlight    int
	burst       int  // requests in a row to one partition
	floor       bool // the floor takes it too
	small       bool // batches of one record, for which requests are counted
	shrinks     int  // how many bytes of records make a byte of batches
}

func records(bytes int, codec record.Codec) func() load.Batch {
	return func() load.Batch { return load.Batch64KiB(bytes, codec) }
}

// A batch of 64 KiB is as large before it is compressed.
var produceLoads = []produceLoad{
	{name: "produce", partitions: 12, batch: records(1<<10, 0), connections: 4, inFlight: 8, floor: true},
	{name: "produce-long", partitions: 12, batch: longBatch, connections: 4, inFlight: 4, floor: true},
	{name: "produce-bursts", partitions: 12, batch: records(1<<10, 0), connections: 4, inFlight: 16, burst: 16, floor: true},
	{name: "produce-1p", partitions: 1, batch: records(1<<10, 0), connections: 4, inFlight: 8, floor: true},
	{name: "produce-1000p", partitions: 1000, batch: records(1<<10, 0), connections: 4, inFlight: 8},
	{name: "produce-100b", partitions: 12, batch: records(100, 0), connections: 4, inFlight: 8, floor: true},
	{name: "produce-gzip", partitions: 12, batch: records(1<<10, record.Gzip), connections: 4, inFlight: 8, shrinks: 5},
	{name: "produce-snappy", partitions: 12, batch: records(1<<10, record.Snappy), connections: 4, inFlight: 8, shrinks: 5},
	{name: "produce-lz4", partitions: 12, batch: records(1<<10, record.Lz4), connections: 4, inFlight: 8, shrinks: 5},
	{name: "produce-zstd", partitions: 12, batch: records(1<<10, record.Zstd), connections: 4, inFlight: 8, shrinks: 5},
	{name: "single", partitions: 12, batch: load.OneKiB, connections: 8, inFlight: 16, floor: true, small: true},
}

// longBatch is as large as a batch may be: message.max.bytes is 1 MiB and a little.
func longBatch() load.Batch {
	return load.NewBatch(load.BatchOptions{Records: 1000, RecordBytes: 1 << 10})
}

// figures are those of what a produce load gives that the report knows for this one.
func (l produceLoad) figures() []string {
	var all []string
	for _, f := range []string{"mbps", "cpu", "p50", "p99", "p999", "memory", "written", "client", "per-cpu"} {
		if name := l.name + "-" + f; report.Known(name) {
			all = append(all, name)
		}
	}
	return all
}

// slowest is what small batches are expected to come to, in bytes per second.
const slowest = 20e6

func (l produceLoad) takes(o options) time.Duration {
	if l.small {
		return max(filled(1)(o), 15*time.Second+time.Duration(float64(o.volume())/slowest*1e9))
	}
	return filled(1)(o)
}

func runProduce(ctx context.Context, r *sideRun, l produceLoad) error {
	all, err := r.startWithTopic(ctx, l.partitions)
	if err != nil {
		return err
	}
	produce := load.Produce{
		Partitions: all, Batch: l.batch(), Connections: l.connections, InFlight: l.inFlight, Burst: l.burst,
		Duration: min(r.length(), 3*time.Second), // a JVM compiles what it runs often
	}
	if _, err := produce.Run(ctx, r.broker.Addr); err != nil {
		return err
	}
	produce.Duration, produce.MinBytes = r.length(), r.volume()/int64(max(l.shrinks, 1))
	var done load.Produced
	u, err := r.measure(func() (err error) {
		done, err = produce.Run(ctx, r.broker.Addr)
		return err
	})
	if err != nil {
		return err
	}
	r.put(l.name+"-mbps", done.MBps())
	putQuantiles(r, l.name, done.Latencies)
	r.putCPU(l.name+"-cpu", u, done.Bytes)
	if u.known {
		r.put(l.name+"-memory", mib(u.peak))
		r.put(l.name+"-written", float64(u.written)/float64(done.Bytes))
		r.put(l.name+"-client", perGB(u.client, done.Bytes))
		r.put(l.name+"-per-cpu", float64(done.Requests)/u.cpu.Seconds())
	}
	r.phase("%.0f MB/s", done.MBps())
	return nil
}

// steady is a produce load of 64 KiB batches at a part of the other side's saturation.
func (r *sideRun) steady(all []load.Partition, part float64) load.Produce {
	batch := load.Batch64KiB(1<<10, 0)
	return load.Produce{
		Partitions: all, Batch: batch, Connections: 4, InFlight: 64, Duration: r.length(), Rate: part * r.saturation / float64(len(batch.Raw)),
	}
}

// settle is how long a broker has after it was filled and before it is measured at a steady rate.
const settle = 2 * time.Second

// halfLoad is a load at half of the other side's saturation.
type halfLoad struct {
	name       string
	partitions int
	floor      bool // the floor takes it too
}

var halfLoads = []halfLoad{{name: "half", partitions: 12, floor: true}, {name: "half-1000p", partitions: 1000}}

func runHalf(ctx context.Context, r *sideRun, l halfLoad) error {
	all, err := r.startWithTopic(ctx, l.partitions)
	if err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	var done load.Produced
	u, err := r.measure(func() (err error) {
		done, err = r.steady(all, 0.5).Run(ctx, r.broker.Addr)
		return err
	})
	if err != nil {
		return err
	}
	putQuantiles(r, l.name, done.Latencies)
	r.putCPU(l.name+"-cpu", u, done.Bytes)
	return r.keptUp(done)
}

// keptUp notes that a side could not take the rate that it was sent.
func (r *sideRun) keptUp(done load.Produced) error {
	if done.Took > r.length()+r.length()/20+time.Second {
		return fmt.Errorf("it took %v to answer what was sent in %v", done.Took.Round(time.Millisecond), r.length())
	}
	return nil
}
