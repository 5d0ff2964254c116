package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ottlaio/ottla/bench/load"
)

// txnProducers are the numbers of transactional producers that are measured.
var txnProducers = []int{1, 50}

// txnLength is how long a load of transactions goes on at most: they are small, and nothing goes round that they would have to fill.
func (o options) txnLength() time.Duration { return min(o.length(), 6*time.Second) }

// runTxns has producers make small transactions, each as soon as its last one is committed, while consumers read what is committed.
func runTxns(ctx context.Context, r *sideRun, producers int) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	all, err := r.topic(ctx, 12)
	if err != nil {
		return err
	}
	l := load.Transactions{
		Partitions: all, Producers: producers, Touched: 3, Records: 10, RecordBytes: 100, Consumers: 4, Duration: r.txnLength() / 2,
	}
	if _, err := l.Run(ctx, r.broker.Addr); err != nil { // a JVM compiles what it runs often
		return err
	}
	l.Duration = r.txnLength()
	done, err := l.Run(ctx, r.broker.Addr)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("txn-%d", producers)
	r.put(name+"-rate", done.Rate())
	r.put(name+"-p99", done.Latencies.Quantile(0.99))
	r.phase("%.0f transactions/s, p50 %.1f ms, p99 %.1f ms, %d deferred", done.Rate(), done.Latencies.Quantile(0.5), done.Latencies.Quantile(0.99), done.Deferred)
	return nil
}
