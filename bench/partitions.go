package main

import (
	"context"
	"fmt"
	"time"

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
	if _, err := r.fill(ctx, all, max(r.firstCycle(), walBytes)); err != nil {
		return err
	}
	if err := r.broker.Kill(); err != nil {
		return err
	}
	return r.restart(ctx, "many-recover", all)
}

// restart starts the stopped broker again and puts the time until it has acknowledged a record to one partition of each topic.
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
	return nil
}
