package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ottlaio/ottla/bench/report"
)

// workload is a load with the figures that it gives.
type workload struct {
	name    string
	figures []string
	// floor says whether the floor can take the load too.
	floor bool
	// starts says that brokers are started and stopped in it, which cannot be done to one that runs elsewhere.
	starts bool
	// saturation says that the load is a share of what the other side takes at most, which is measured before it.
	saturation bool
	// takes is how long one side takes, roughly; disk is how much it writes at most.
	takes func(o options) time.Duration
	disk  func(o options) int64
	run   func(ctx context.Context, r *sideRun) error
}

// saturating is the workload whose MB/s on the other side is its saturation.
const saturating = "produce"

// workloads are all there are, in the order in which they run. Those that others need come first.
var workloads = makeWorkloads()

func makeWorkloads() []workload {
	all := []workload{
		{name: "start", figures: []string{"start"}, starts: true, takes: fixed(8 * time.Second), disk: fixedBytes(gib), run: runStart},
		{name: "idle", figures: []string{"idle-memory", "idle-cpu"}, starts: true, takes: func(o options) time.Duration { return 10*time.Second + o.idle() },
			disk: fixedBytes(gib), run: runIdle},
	}
	for _, l := range produceLoads {
		all = append(all, workload{
			name: l.name, figures: l.figures(), floor: l.floor, takes: l.takes, disk: saturatedBytes,
			run: func(ctx context.Context, r *sideRun) error { return runProduce(ctx, r, l) },
		})
	}
	for _, l := range halfLoads {
		all = append(all, workload{
			name: l.name, figures: []string{l.name + "-p50", l.name + "-p99", l.name + "-p999", l.name + "-cpu"}, floor: l.floor, saturation: true,
			takes: filled(1), disk: saturatedBytes,
			run: func(ctx context.Context, r *sideRun) error { return runHalf(ctx, r, l) },
		})
	}
	all = append(all,
		workload{name: "tail", figures: []string{"tail-cpu", "tail-p99"}, saturation: true, takes: filled(1), disk: saturatedBytes, run: runTail},
		workload{name: "fanout", figures: []string{"fanout-cpu", "fanout-p99"}, saturation: true, takes: filled(1), disk: saturatedBytes, run: runFanOut},
		workload{name: "catchup", figures: []string{"catchup-mbps", "catchup-cpu", "catchup-disk"}, starts: true, takes: filled(2), disk: saturatedBytes, run: runCatchUp},
	)
	for _, l := range endToEndLoads {
		all = append(all, workload{
			name: l.name, figures: []string{l.name + "-p50", l.name + "-p99", l.name + "-p999"}, takes: filled(1), disk: saturatedBytes,
			run: func(ctx context.Context, r *sideRun) error { return runEndToEnd(ctx, r, l) },
		})
	}
	for _, n := range txnProducers {
		name := fmt.Sprintf("txn-%d", n)
		all = append(all, workload{
			name: name, figures: []string{name + "-rate", name + "-p99"}, disk: fixedBytes(4 * gib),
			takes: func(o options) time.Duration { return 5*time.Second + o.txnLength()*3/2 },
			run:   func(ctx context.Context, r *sideRun) error { return runTxns(ctx, r, n) },
		})
	}
	for _, l := range settleLoads {
		all = append(all, workload{
			name: l.name, figures: []string{l.name + "-join", l.name + "-leave"}, takes: fixed(15 * time.Second), disk: fixedBytes(gib),
			run: func(ctx context.Context, r *sideRun) error { return runSettle(ctx, r, l) },
		})
	}
	return append(all,
		workload{name: "share", figures: []string{"share-mbps", "share-cpu"}, takes: filled(2), disk: saturatedBytes, run: runShare},
		workload{name: "compact", figures: []string{"compact-mbps", "compact-memory", "compact-cpu"}, takes: fixed(time.Minute), disk: fixedBytes(8 * gib), run: runCompact},
		workload{name: "many", figures: []string{"many-create", "many-cpu", "many-memory", "many-restart", "many-recover"}, starts: true,
			takes: func(o options) time.Duration { return 4*time.Minute + o.length() }, disk: fixedBytes(8 * gib), run: runMany},
		workload{name: "conns-idle", figures: []string{"conns-idle-memory", "conns-idle-cpu"}, takes: filled(1), disk: fixedBytes(gib), run: runIdleConnections},
		workload{name: "conns-active", figures: []string{"conns-active-rate", "conns-active-per-cpu", "conns-active-p99"}, takes: filled(1),
			disk: fixedBytes(20 * gib), run: runActiveConnections},
		workload{name: "jvm-linger0", figures: []string{"jvm-linger0-mbps", "jvm-linger0-cpu", "jvm-linger0-p99"}, takes: filled(2), disk: fixedBytes(12 * gib),
			run: func(ctx context.Context, r *sideRun) error { return runProducerPerf(ctx, r, 0) }},
		workload{name: "jvm-linger5", figures: []string{"jvm-linger5-mbps", "jvm-linger5-cpu", "jvm-linger5-p99"}, takes: filled(2), disk: fixedBytes(12 * gib),
			run: func(ctx context.Context, r *sideRun) error { return runProducerPerf(ctx, r, 5) }},
		workload{name: "jvm-consume", figures: []string{"jvm-consume-mbps", "jvm-consume-cpu"}, takes: filled(1), disk: fixedBytes(24 * gib), run: runConsumerPerf},
		workload{name: "jvm-e2e", figures: []string{"jvm-e2e-p50", "jvm-e2e-p99", "jvm-e2e-p999"}, takes: filled(1), disk: fixedBytes(4 * gib), run: runEndToEndTool},
		workload{name: "rdkafka-linger0", figures: []string{"rdkafka-linger0-mbps", "rdkafka-linger0-cpu"}, takes: filled(2), disk: fixedBytes(24 * gib),
			run: func(ctx context.Context, r *sideRun) error { return runRdkafkaProduce(ctx, r, 0) }},
		workload{name: "rdkafka-linger5", figures: []string{"rdkafka-linger5-mbps", "rdkafka-linger5-cpu"}, takes: filled(2), disk: fixedBytes(24 * gib),
			run: func(ctx context.Context, r *sideRun) error { return runRdkafkaProduce(ctx, r, 5) }},
		workload{name: "rdkafka-consume", figures: []string{"rdkafka-consume-mbps", "rdkafka-consume-cpu"}, takes: filled(1), disk: fixedBytes(24 * gib), run: runRdkafkaConsume},
	)
}

const gib = 1 << 30

func fixed(d time.Duration) func(options) time.Duration {
	return func(options) time.Duration { return d }
}

func fixedBytes(n int64) func(options) int64 { return func(options) int64 { return n } }

// filled is the time of a load of n lengths on a broker that was filled before, with its start and stop.
func filled(n int) func(options) time.Duration {
	return func(o options) time.Duration { return 15*time.Second + time.Duration(n)*o.length() }
}

// fastest is what no side has been seen to exceed, in bytes per second.
const fastest = 800e6

// saturatedBytes is what a saturating load writes at most.
func saturatedBytes(o options) int64 {
	return 4*gib + max(o.volume(), int64(float64(o.seconds)*fastest))
}

// The broker's defaults, in which volumes are counted.
const (
	walBytes  = gib
	tailBytes = gib / 4
)

// volume is the least that a saturating load writes: four times the wal and the tail, so that what is measured is the steady state. It
// shrinks with loads that are shorter than the targets ask for.
func (o options) volume() int64 {
	return 4 * (walBytes + tailBytes) * int64(min(o.seconds, report.TargetSeconds)) / report.TargetSeconds
}

// firstCycle is what is written before anything is measured: the wal once, and a little.
func (o options) firstCycle() int64 {
	const whole = 20 // seconds from which on loads are worth the time
	return 5 * walBytes / 4 * int64(min(o.seconds, whole)) / whole
}

// idle is how long after a start idle memory is read.
func (o options) idle() time.Duration { return min(max(o.length(), 5*time.Second), time.Minute) }

// selected is a workload with those of its figures that were asked for.
type selected struct {
	workload
	wanted []string
	byName bool // the figures were named one by one, or the workload was
}

// choose finds the workloads of a list of names of workloads and figures; an empty list is all of them.
func choose(names string) ([]selected, error) {
	var wanted []string
	for name := range strings.SplitSeq(names, ",") {
		if name = strings.TrimSpace(name); name != "" {
			wanted = append(wanted, name)
		}
	}
	known := map[string]bool{}
	var chosen []selected
	for _, w := range workloads {
		s := selected{workload: w, byName: len(wanted) > 0}
		known[w.name] = true
		for _, f := range w.figures {
			known[f] = true
			if len(wanted) == 0 || slices.Contains(wanted, w.name) || slices.Contains(wanted, f) {
				s.wanted = append(s.wanted, f)
			}
		}
		if len(s.wanted) > 0 {
			chosen = append(chosen, s)
		}
	}
	for _, name := range wanted {
		if !known[name] {
			return nil, fmt.Errorf("--figures: no workload or figure is called %q (--list names them)", name)
		}
	}
	return chosen, nil
}

// list prints what would be measured.
func list(w io.Writer, chosen []selected, o options) error {
	targets := map[string]report.Figure{}
	for _, f := range report.Figures {
		targets[f.Name] = f
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "workload\tfigure\tunit\ttarget\twhat\ttime for all pairs")
	total := time.Duration(0)
	for _, s := range chosen {
		takes := s.takes(o) * time.Duration(o.pairs*s.sides(o))
		total += takes
		for i, name := range s.wanted {
			f := targets[name]
			first, duration := "", ""
			if i == 0 {
				first, duration = s.name, takes.Round(time.Second).String()
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", first, name, f.Unit, f.Target, f.Title, duration)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nabout %v for %d pairs of %d s\n", total.Round(time.Minute), o.pairs, o.seconds)
	return err
}

// sides is how many sides take the workload.
func (s selected) sides(o options) int {
	if s.floor && !o.noFloor {
		return 3
	}
	return 2
}
