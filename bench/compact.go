package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ottlaio/ottla/bench/load"
	"github.com/ottlaio/ottla/internal/record"
)

const (
	compactKeysMax     = 10_000_000
	compactRecordBytes = 100
	compactPoll        = 100 * time.Millisecond
	compactTolerance   = 0.01 // of the size of a clean log
)

// compactKeys is how many keys the compacted log has; fewer in a quick run.
func (o options) compactKeys() int {
	const whole = 20 // seconds from which on loads are worth the time
	return compactKeysMax / whole * min(o.seconds, whole)
}

// runCompact fills a log with keys while nothing may be compacted, lets the cleaner go, and waits until no key has two records.
func runCompact(ctx context.Context, r *sideRun) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	// A pause in which a cleaner does not look whether there is something to do is not its speed.
	if err := load.Set(ctx, r.broker.Addr, load.AllBrokers, map[string]string{"log.cleaner.backoff.ms": "100"}); err != nil {
		return err
	}
	all, err := r.topic(ctx, 1)
	if err != nil {
		return err
	}
	addr, one, topic := r.broker.Addr, all[0], load.Topic(all[0].Topic)
	if err := load.Set(ctx, addr, topic, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000"}); err != nil {
		return err
	}
	keys := load.Keyed{Partition: one, Keys: r.compactKeys(), RecordBytes: compactRecordBytes, Connections: 8}
	written, err := keys.Run(ctx, addr)
	if err != nil {
		return err
	}
	if err := r.roll(ctx, one); err != nil {
		return err
	}
	before, err := load.Size(ctx, addr, one)
	if err != nil {
		return err
	}
	headers := written.Batches * record.HeaderSize
	clean := float64((written.Bytes-headers)/2 + headers) // each key has one record of two, and nearly every batch some of them
	r.phase("%.2f GB written", float64(before)/1e9)
	begin := time.Now()
	u, err := r.measure(func() error {
		err := load.Set(ctx, addr, topic, map[string]string{"min.compaction.lag.ms": "0", "min.cleanable.dirty.ratio": "0.001"})
		for size := before; err == nil && float64(size) > clean*(1+compactTolerance); {
			if err = wait(ctx, compactPoll); err == nil {
				size, err = load.Size(ctx, addr, one)
			}
			if float64(size) < clean*(1-compactTolerance) && err == nil {
				err = fmt.Errorf("the log has %d bytes left, and its keys alone have %.0f", size, clean)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	mbps := float64(before) / 1e6 / time.Since(begin).Seconds()
	r.put("compact-mbps", mbps)
	if u.known {
		r.put("compact-memory", mib(u.peak))
		r.put("compact-cpu", perGB(u.cpu, before))
	}
	r.phase("compacted in %v: %.0f MB/s, %.0f MiB", time.Since(begin).Round(time.Millisecond), mbps, mib(u.peak))
	return nil
}

// roll has the partition begin a new segment, so that all that was written can be compacted.
func (r *sideRun) roll(ctx context.Context, one load.Partition) error {
	topic := load.Topic(one.Topic)
	if err := load.Set(ctx, r.broker.Addr, topic, map[string]string{"segment.ms": "1"}); err != nil {
		return err
	}
	if err := wait(ctx, compactPoll); err != nil {
		return err
	}
	if _, err := (load.Keyed{Partition: one, Keys: 1, RecordBytes: compactRecordBytes, Connections: 1}).Run(ctx, r.broker.Addr); err != nil {
		return err
	}
	return load.Set(ctx, r.broker.Addr, topic, map[string]string{"segment.ms": "604800000"})
}
