package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ottlaio/ottla/bench/report"
	"github.com/ottlaio/ottla/bench/side"
)

// harness runs the chosen workloads on the sides.
type harness struct {
	options
	chosen  []selected
	scratch string
	// Tools are the command-line clients; classPath also holds the reference broker. It is empty if Kafka could not be fetched, and
	// kafkaErr says why.
	classPath string
	kafkaErr  error
	sides     []side.Side // ours, theirs, and the floor unless it was left out
	report    *report.Report
	profiles  string // path of the next profile, without its number
	profiled  int

	done, total int // runs
	began       time.Time
}

func newHarness(ctx context.Context, o options, chosen []selected) (*harness, error) {
	if _, err := os.Stat(o.binary); err != nil {
		return nil, fmt.Errorf("%w; make build makes it", err)
	}
	h := &harness{options: o, chosen: chosen, report: &report.Report{Machine: machine(), Other: report.Kafka, Pairs: o.pairs, Seconds: o.seconds, Quick: o.quick}}
	h.noteLoad()
	h.classPath, h.kafkaErr = side.KafkaClassPath(ctx, o.cache)
	theirs := side.Kafka(h.classPath)
	if o.against != "" {
		theirs = side.At(o.against, o.againstPID)
		h.report.Other = theirs.Name
	} else if h.kafkaErr != nil {
		return nil, h.kafkaErr
	}
	var profile func() string
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return nil, err
		}
		profile = h.nextProfile
		h.report.Note("Our broker wrote CPU profiles while it was measured, which costs it a little.")
	}
	h.sides = []side.Side{side.Ottla(o.binary, profile), theirs}
	scratch, err := os.MkdirTemp(o.scratch, "ottla-bench")
	if err != nil {
		return nil, err
	}
	h.scratch = scratch
	if !o.noFloor && slices.ContainsFunc(chosen, func(s selected) bool { return s.floor }) {
		binary := filepath.Join(scratch, "floor.bin")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./bench/floor").CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("build the floor: %w: %s", err, out), os.RemoveAll(scratch))
		}
		h.sides = append(h.sides, side.FloorProgram(binary))
	}
	return h, nil
}

// nextProfile names the file of the CPU profile of a start of ours.
func (h *harness) nextProfile() string {
	h.profiled++
	return fmt.Sprintf("%s-%d.pprof", h.profiles, h.profiled)
}

// run measures everything. What cannot be measured is put into the report, and so is what an interrupt left out.
func (h *harness) run(ctx context.Context) {
	h.began = time.Now()
	for _, s := range h.chosen {
		h.total += h.pairs * s.sides(h.options)
	}
	for _, s := range h.chosen {
		h.workload(ctx, s)
	}
}

// workload runs all pairs of one workload. Who goes first alternates.
func (h *harness) workload(ctx context.Context, s selected) {
	defer func(done int) { h.done = done }(h.done + h.pairs*s.sides(h.options)) // however it ends
	fail := func(reason string) {
		for _, f := range s.wanted {
			h.report.Fail(f, reason)
		}
	}
	if s.starts && h.sides[1].Remote() {
		fail(fmt.Sprintf("it starts and stops brokers, and %s cannot be started from here", h.sides[1].Name))
		return
	}
	if s.saturation {
		if err := h.findSaturation(ctx); err != nil {
			fail(fmt.Sprintf("the other side's saturation could not be measured: %v", err))
			return
		}
	}
	for pair := range h.pairs {
		order := slices.Clone(h.sides[:2])
		if pair%2 == 1 {
			slices.Reverse(order)
		}
		if s.floor {
			order = append(order, h.sides[2:]...)
		}
		for _, one := range order {
			err := h.one(ctx, s, one, pair)
			h.done++
			if err != nil {
				fail(fmt.Sprintf("%s, pair %d: %v", one.Name, pair+1, err))
				h.progress("%s on %s failed: %v", s.name, one.Name, err)
				return
			}
		}
	}
	h.findMissing(s)
}

// findMissing puts figures into the report that have no value though nothing failed: those of a process that is not known.
func (h *harness) findMissing(s selected) {
	for _, f := range s.wanted {
		switch {
		case len(h.report.Values(f, report.Ours)) == 0:
			h.report.Fail(f, "the workload gave no value")
		case len(h.report.Values(f, h.report.Other)) > 0:
		case s.byName:
			h.report.Fail(f, "the process of "+h.report.Other+" is not known: --against-pid tells it")
		default:
			h.report.Note("CPU, memory and bytes written of " + h.report.Other + " are not known without --against-pid.")
		}
	}
}

// findSaturation measures what the other side takes at most, unless this run has done so already.
func (h *harness) findSaturation(ctx context.Context) error {
	if len(h.report.Values(saturating+"-mbps", h.report.Other)) > 0 {
		return nil
	}
	i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == saturating })
	return h.one(ctx, selected{workload: workloads[i], wanted: []string{saturating + "-mbps"}}, h.sides[1], 0)
}

// one runs a workload on one side once.
func (h *harness) one(ctx context.Context, s selected, on side.Side, pair int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := h.checkDisk(s.disk(h.options)); err != nil {
		return err
	}
	h.progress("%s, pair %d: %s", s.name, pair+1, on.Name)
	h.profiles, h.profiled = filepath.Join(h.profile, fmt.Sprintf("%s-pair%d", s.name, pair+1)), 0
	ctx, cancel := context.WithTimeoutCause(ctx, 10*s.takes(h.options)+5*time.Minute, errors.New("it took more than ten times as long as expected"))
	defer cancel()
	ctx, stop := h.watchDisk(ctx)
	defer stop()
	r := &sideRun{
		harness: h, side: on, began: time.Now(),
		put: func(figure string, value float64) {
			if slices.Contains(s.wanted, figure) {
				h.report.Add(figure, on.Name, pair, value)
			}
		},
	}
	if rates := h.report.Values(saturating+"-mbps", h.report.Other); len(rates) > 0 {
		r.saturation = report.SpreadOf(rates).Median * 1e6
	}
	err := s.run(ctx, r)
	if err != nil && ctx.Err() == nil && r.broker != nil && !on.Remote() {
		err = fmt.Errorf("%w\noutput of %s:\n%s", err, on.Name, strings.TrimSpace(r.broker.LastOutput()))
	}
	return errors.Join(err, r.end(ctx, err != nil))
}

// progress tells how far the run has come, on standard error.
func (h *harness) progress(format string, args ...any) {
	left := ""
	if h.done > 0 {
		each := time.Since(h.began) / time.Duration(h.done)
		left = fmt.Sprintf(", about %v left", (each * time.Duration(h.total-h.done)).Round(time.Minute))
	}
	fmt.Fprintf(os.Stderr, "[%d/%d, %v%s] %s\n", h.done+1, h.total, time.Since(h.began).Round(time.Second), left, fmt.Sprintf(format, args...))
}
