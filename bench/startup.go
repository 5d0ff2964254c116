package main

import (
	"context"
	"time"

	"github.com/ottlaio/ottla/bench/load"
)

func runStart(ctx context.Context, r *sideRun) (err error) {
	if r.broker, err = r.side.Start(ctx, r.scratch); err != nil {
		return err
	}
	if err := load.AutoCreate(ctx, r.broker.Addr, "first"); err != nil {
		return err
	}
	r.put("start", time.Since(r.broker.Started).Seconds()*1e3)
	return nil
}

// runIdle leaves a broker without topics alone. It is asked nothing after it has answered once.
func runIdle(ctx context.Context, r *sideRun) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	last := r.idle() / 2 // of the time until memory is read, in which CPU is counted
	if err := wait(ctx, r.idle()-last); err != nil {
		return err
	}
	u, err := r.measure(func() error { return wait(ctx, last) })
	if err != nil {
		return err
	}
	now, err := r.broker.Usage()
	if err != nil {
		return err
	}
	r.put("idle-memory", mib(now.Resident))
	r.put("idle-cpu", share(u))
	return nil
}
