package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ottlaio/ottla/bench/load"
	"github.com/ottlaio/ottla/bench/side"
)

// sideRun is one workload on one side, once.
type sideRun struct {
	*harness
	side       side.Side
	broker     *side.Broker
	put        func(figure string, value float64)
	saturation float64 // of the other side, in bytes per second, for workloads that ask for it
	began      time.Time
	topics     []string // to be deleted on a broker that stays
}

// start starts the broker on a new folder and waits until it answers.
func (r *sideRun) start(ctx context.Context) error {
	b, err := r.side.Start(ctx, r.scratch)
	if err != nil {
		return err
	}
	r.broker = b
	return load.WaitReady(ctx, b.Addr)
}

// end stops the broker and removes what it wrote, then has the disk finish, so that the next run finds it quiet.
func (r *sideRun) end(ctx context.Context, failed bool) error {
	if r.broker == nil {
		return nil
	}
	var err error
	if r.broker.Remote() {
		for _, topic := range r.topics {
			if ctx.Err() == nil {
				err = errors.Join(err, load.DeleteTopic(ctx, r.broker.Addr, topic))
			}
		}
		return err
	}
	if !failed && ctx.Err() == nil && r.profile != "" {
		err = r.broker.Stop() // a profile is written at the end
	}
	err = errors.Join(err, r.broker.Discard())
	unix.Sync()
	return err
}

// topic makes a topic.
func (r *sideRun) topic(ctx context.Context, partitions int) ([]load.Partition, error) {
	return r.topicNamed(ctx, "bench", partitions)
}

// topicNamed makes a topic whose name is new for a broker that may have had one of that name before.
func (r *sideRun) topicNamed(ctx context.Context, name string, partitions int) ([]load.Partition, error) {
	if r.broker.Remote() {
		name += "-" + strconv.FormatUint(rand.Uint64(), 36)
	}
	r.topics = append(r.topics, name)
	return load.Partitions(name, partitions), load.CreateTopic(ctx, r.broker.Addr, name, partitions)
}

// startWithTopic starts the broker, makes a topic, and writes to it until the first cycle of the wal is over.
func (r *sideRun) startWithTopic(ctx context.Context, partitions int) ([]load.Partition, error) {
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	all, err := r.topic(ctx, partitions)
	if err != nil {
		return nil, err
	}
	_, err = r.fill(ctx, all, r.firstCycle())
	return all, err
}

// fill writes at least n bytes of batches as fast as they are taken, and returns how many it wrote.
func (r *sideRun) fill(ctx context.Context, all []load.Partition, n int64) (int64, error) {
	done, err := load.Produce{Partitions: all, Batch: load.Batch64KiB(1<<10, 0), Connections: 4, InFlight: 8, MinBytes: n}.Run(ctx, r.broker.Addr)
	return done.Bytes, err
}

// used is what a load took of broker and load generator.
type used struct {
	took    time.Duration
	known   bool          // whether the broker's process is: if not, only took and client count
	cpu     time.Duration // the broker's
	written int64         // by the broker, bytes
	peak    int64         // the most resident memory of the broker that was seen, bytes
	client  time.Duration // CPU of this process
}

// sampleEvery is how often resident memory is looked at.
const sampleEvery = 200 * time.Millisecond

// measure runs a load and tells what it took.
func (r *sideRun) measure(do func() error) (used, error) {
	if r.broker.Process() == 0 {
		begin := time.Now()
		err := do()
		return used{took: time.Since(begin)}, err
	}
	before, err := r.broker.Usage()
	if err != nil {
		return used{}, err
	}
	clientBefore, err := side.OwnCPU()
	if err != nil {
		return used{}, err
	}
	peak := before.Resident
	stop := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if now, err := r.broker.Usage(); err == nil { // if it is gone the load says so
					peak = max(peak, now.Resident)
				}
			case <-stop:
				return
			}
		}
	})
	begin := time.Now()
	err = do()
	took := time.Since(begin)
	close(stop)
	sampling.Wait()
	if err != nil {
		return used{}, err
	}
	after, err := r.broker.Usage()
	if err != nil {
		return used{}, err
	}
	clientAfter, err := side.OwnCPU()
	return used{
		took: took, known: true, cpu: after.CPU - before.CPU, written: after.Written - before.Written, peak: max(peak, after.Resident),
		client: clientAfter - clientBefore,
	}, err
}

// putCPU puts the broker's CPU seconds per 10⁹ bytes.
func (r *sideRun) putCPU(figure string, u used, bytes int64) {
	if u.known {
		r.put(figure, perGB(u.cpu, bytes))
	}
}

func perGB(cpu time.Duration, bytes int64) float64 { return cpu.Seconds() / (float64(bytes) / 1e9) }

// share is CPU in milliseconds per second.
func share(u used) float64 { return float64(u.cpu.Milliseconds()) / u.took.Seconds() }

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func putQuantiles(r *sideRun, name string, l *load.Latencies) {
	r.put(name+"-p50", l.Quantile(0.5))
	r.put(name+"-p99", l.Quantile(0.99))
	r.put(name+"-p999", l.Quantile(0.999))
}

// wait waits, unless ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// phase tells what a long run does now.
func (r *sideRun) phase(format string, args ...any) {
	r.progress("  %v: %s", time.Since(r.began).Round(time.Second), fmt.Sprintf(format, args...))
}
