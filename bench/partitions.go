package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/bench/load"
)

// Ten topics of a thousand partitions: Kafka makes no more than ten thousand in one request.
const (
	manyTopics     = 10
	manyPartitions = 1000
)

// steadyMany is the rate of the steady state, in bytes per second.
const steadyMany = 10e6

// runMany follows a broker with 10,000 partitions: creation, steady state, a clean restart, and a restart after a crash with a full wal.
func runMany(ctx context.Context, r *sideRun) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	begin := time.Now()
	var all []load.Partition
	for i := range manyTopics {
		name := fmt.Sprintf("many-%d", i)
		if err := load.CreateTopic(ctx, r.broker.Addr, name, manyPartitions); err != nil {
			return err
		}
		all = append(all, load.Partitions(name, manyPartitions)...)
	}
	r.put("many-create", time.Since(begin).Seconds())
	r.phase("%d partitions made", len(all))

	batch := load.NewBatch(load.BatchOptions{Records: 4, RecordBytes: 1 << 10})
	trickle := load.Produce{
		Partitions: all, Batch: batch, Connections: 4, InFlight: 64, Duration: r.length(), Rate: steadyMany / float64(len(batch.Raw)),
	}
	u, err := r.measure(func() error {
		done, err := trickle.Run(ctx, r.broker.Addr)
		if err != nil {
			return err
		}
		return r.keptUp(done)
	})
	if err != nil {
		return err
	}
	r.put("many-cpu", share(u))
	r.put("many-memory", mib(u.peak))
	r.phase("steady state measured")

	if err := r.broker.Stop(); err != nil {
		return err
	}
	if err := r.restart(ctx, "many-restart", all); err != nil {
		return err
	}
	if err := r.fillThrough(ctx, all, max(r.firstCycle(), walBytes)); err != nil {
		return err
	}
	r.phase("filled")
	if err := r.broker.Kill(); err != nil {
		return err
	}
	return r.restart(ctx, "many-recover", all)
}

// retryAfter is how long a client waits before it sends again what was refused, as retry.backoff.ms has it.
const retryAfter = 100 * time.Millisecond

// fillThrough fills as clients do: what the broker refuses for the moment is sent again. It notes how often that was.
func (r *sideRun) fillThrough(ctx context.Context, all []load.Partition, n int64) error {
	refused := 0
	var last error
	for written := int64(0); written < n; {
		more, err := r.fill(ctx, all, n-written)
		written += more
		if err != nil {
			if ctx.Err() != nil || !kerr.IsRetriable(err) {
				return err
			}
			refused, last = refused+1, err
			if err := wait(ctx, retryAfter); err != nil {
				return err
			}
		}
	}
	if refused > 0 {
		r.report.Note(fmt.Sprintf("While %d partitions were filled %s refused records %d times, and they were sent again: %v", len(all), r.side.Name, refused, last))
	}
	return nil
}

// restart starts the stopped broker again and puts the time until it has acknowledged a record to one partition of each topic. It returns
// when all partitions have: Kafka takes up their leadership one after the other.
func (r *sideRun) restart(ctx context.Context, figure string, all []load.Partition) error {
	var some []load.Partition
	for i := 0; i < len(all); i += manyPartitions {
		some = append(some, all[i+manyPartitions/2])
	}
	if err := r.broker.Restart(); err != nil {
		return err
	}
	if err := load.WaitWritable(ctx, r.broker.Addr, some); err != nil {
		return err
	}
	took := time.Since(r.broker.Started)
	r.put(figure, took.Seconds()*1e3)
	r.phase("%s: %v", figure, took.Round(time.Millisecond))
	return load.WaitWritable(ctx, r.broker.Addr, all)
}
