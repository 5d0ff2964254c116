package main

import (
	"context"
	"time"

	"github.com/ottlaio/ottla/bench/load"
)

// endToEndLoad is a rate at which end-to-end latency is measured: a thousand requests a second, as a producer with linger.ms=1 sends.
type endToEndLoad struct {
	name    string
	records int // in each request; 0 = one at a time
}

var endToEndLoads = []endToEndLoad{{"e2e-one", 0}, {"e2e-1k", 1}, {"e2e-10k", 10}, {"e2e-50k", 50}}

// requestRate is that of all fixed rates, per second.
const requestRate = 1000

func runEndToEnd(ctx context.Context, r *sideRun, l endToEndLoad) error {
	all, err := r.startWithTopic(ctx, 12)
	if err != nil {
		return err
	}
	e := load.EndToEnd{
		Produce: load.Produce{
			Partitions: all, Batch: load.NewBatch(load.BatchOptions{Records: max(l.records, 1), RecordBytes: 1 << 10}),
			Connections: 4, InFlight: 64, Rate: requestRate, Duration: min(r.length(), 3*time.Second),
		},
		Consumers: 4,
	}
	if l.records == 0 {
		e.OneAtATime, e.Consumers, e.Produce.Rate = true, 1, 0
	}
	if _, err := e.Run(ctx, r.broker.Addr); err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	e.Produce.Duration = r.length()
	latencies, err := e.Run(ctx, r.broker.Addr)
	if err != nil {
		return err
	}
	putQuantiles(r, l.name, latencies)
	return nil
}
