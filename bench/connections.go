package main

import (
	"context"
	"errors"
	"time"

	"github.com/ottlaio/ottla/bench/load"
)

// connections is how many there are, idle or active.
const connections = 1000

func runIdleConnections(ctx context.Context, r *sideRun) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	if r.broker.Process() == 0 {
		return errors.New("the broker's process is not known, and it alone tells what connections cost")
	}
	closeAll, err := load.Connections(ctx, r.broker.Addr, connections)
	if err != nil {
		return err
	}
	defer closeAll()
	u, err := r.measure(func() error { return wait(ctx, r.length()) })
	if err != nil {
		return err
	}
	r.put("conns-idle-memory", mib(u.peak))
	r.put("conns-idle-cpu", share(u))
	return nil
}

// runActiveConnections has each of a thousand connections wait for its answer before it sends the next batch.
func runActiveConnections(ctx context.Context, r *sideRun) error {
	all, err := r.startWithTopic(ctx, 12)
	if err != nil {
		return err
	}
	produce := load.Produce{
		Partitions: all, Batch: load.OneKiB(), Connections: connections, InFlight: 1, Duration: min(r.length(), 3*time.Second),
	}
	if _, err := produce.Run(ctx, r.broker.Addr); err != nil {
		return err
	}
	produce.Duration = r.length()
	var done load.Produced
	u, err := r.measure(func() (err error) {
		done, err = produce.Run(ctx, r.broker.Addr)
		return err
	})
	if err != nil {
		return err
	}
	r.put("conns-active-rate", float64(done.Requests)/done.Took.Seconds())
	r.put("conns-active-p99", done.Latencies.Quantile(0.99))
	if u.known {
		r.put("conns-active-per-cpu", float64(done.Requests)/u.cpu.Seconds())
	}
	return nil
}
