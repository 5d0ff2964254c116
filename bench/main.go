// Command bench runs the broker and Apache Kafka side by side on this machine: the same clients and loads, in alternation, a new data
// folder each time. It prints each figure of both sides and their ratio, which is what counts: the machine's own speed and noise cancel
// out. docs/benchmarks.md tells what each figure is and how it is measured.
//
// Every acknowledged record of ours is synced; Kafka runs as shipped, which does not sync.
//
//	go run ./bench --quick
//	go run ./bench --figures produce,half --pairs 5 --seconds 60 --plot ratios.svg
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ottlaio/ottla/bench/report"
)

// options are the flags.
type options struct {
	figures    string
	pairs      int
	seconds    int
	quick      bool
	list       bool
	format     string
	plot       string
	profile    string
	against    string
	againstPID int
	noFloor    bool
	binary     string
	scratch    string
	cache      string
}

// quickSeconds is the length of a load in a quick run.
const quickSeconds = 3

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.figures, "figures", "", "workloads or figures to measure, separated by commas (default: all; --list names them)")
	f.IntVar(&o.pairs, "pairs", report.TargetPairs, "how often each side runs each workload, alternating")
	f.IntVar(&o.seconds, "seconds", report.TargetSeconds, "length of each load in seconds; below 60 volumes shrink in proportion")
	f.BoolVar(&o.quick, "quick", false, "one pair of short loads: shows that everything runs, and no more")
	f.BoolVar(&o.list, "list", false, "list workloads, their figures and targets, and how long each takes; measure nothing")
	f.StringVar(&o.format, "format", "text", "output: text or json")
	f.StringVar(&o.plot, "plot", "", "write a plot of the ratios to this file (SVG)")
	f.StringVar(&o.profile, "profile", "", "keep the broker's CPU profiles, one for each run, in this folder")
	f.StringVar(&o.against, "against", "", "compare with the broker that runs at HOST:PORT instead of with Apache Kafka")
	f.IntVar(&o.againstPID, "against-pid", 0, "process id of that broker, if it runs here: gives CPU, memory and bytes written")
	f.BoolVar(&o.noFloor, "no-floor", false, "leave out the floor (bench/floor)")
	f.StringVar(&o.binary, "ottla", "bin/ottla", "the binary to measure (make build)")
	f.StringVar(&o.scratch, "scratch", "", "folder for all sides' data, on a real disk (default: a temporary folder)")
	f.StringVar(&o.cache, "cache", defaultCache(), "where Apache Kafka is kept once fetched")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		o.pairs, o.seconds = 1, quickSeconds
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.format != "text" && o.format != "json":
		return o, fmt.Errorf("--format %q is neither text nor json", o.format)
	case o.pairs < 1 || o.seconds < 1:
		return o, errors.New("--pairs and --seconds are at least 1")
	}
	return o, nil
}

func defaultCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "ottla-interop")
}

// length is that of each load.
func (o options) length() time.Duration { return time.Duration(o.seconds) * time.Second }

// errNotRun is of a run that printed its report but could not measure everything that was asked for.
var errNotRun = errors.New("not everything could be run; see NOT RUN above")

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop) // a second signal ends the process at once
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	chosen, err := choose(o.figures)
	if err != nil {
		return err
	}
	if o.list {
		return list(os.Stdout, chosen, o)
	}
	h, err := newHarness(ctx, o, chosen)
	if err != nil {
		return err
	}
	h.run(ctx)
	if err := os.RemoveAll(h.scratch); err != nil {
		return err
	}
	if o.plot != "" {
		if err := writePlot(h.report, o.plot); err != nil {
			return err
		}
	}
	if o.format == "json" {
		err = h.report.WriteJSON(os.Stdout)
	} else {
		err = h.report.WriteText(os.Stdout)
	}
	if err == nil && len(h.report.Failures()) > 0 {
		err = errNotRun
	}
	return err
}

func writePlot(r *report.Report, name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(r.WriteSVG(f), f.Close())
}
