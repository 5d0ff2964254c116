package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ottlaio/ottla/bench/report"
	"github.com/ottlaio/ottla/bench/side"
)

// pretend is a harness whose sides are names, and a workload that does what run says.
func pretend(t *testing.T, pairs int, run func(r *sideRun) error) (*harness, selected) {
	t.Helper()
	h := &harness{
		options: options{pairs: pairs, seconds: 1}, scratch: t.TempDir(), began: time.Now(),
		sides:  []side.Side{{Name: report.Ours}, {Name: report.Kafka}, {Name: report.Floor}},
		report: &report.Report{Other: report.Kafka},
	}
	w := workload{
		name: "half", figures: []string{"half-p50", "half-p99"}, floor: true, takes: fixed(time.Second), disk: fixedBytes(0),
		run: func(_ context.Context, r *sideRun) error { return run(r) },
	}
	s := selected{workload: w, wanted: w.figures}
	h.chosen = []selected{s}
	return h, s
}

func TestSidesAlternate(t *testing.T) {
	t.Parallel()
	var order []string
	h, _ := pretend(t, 2, func(r *sideRun) error {
		order = append(order, r.side.Name)
		r.put("half-p50", float64(len(order)))
		r.put("half-p99", 1)
		r.put("half-cpu", 1) // nobody asked for it
		return nil
	})
	h.run(t.Context())
	if want := []string{"ottla", "kafka", "floor", "kafka", "ottla", "floor"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if got := h.report.Values("half-p50", report.Ours); !slices.Equal(got, []float64{1, 5}) {
		t.Errorf("values of ours: %v", got)
	}
	if len(h.report.Failures()) > 0 || len(h.report.Values("half-cpu", report.Ours)) > 0 || h.done != h.total {
		t.Errorf("failures %v, %d of %d runs done", h.report.Failures(), h.done, h.total)
	}
}

func TestWhatFailsIsReportedAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	h, s := pretend(t, 3, func(r *sideRun) error {
		if r.side.Name == report.Kafka {
			return errors.New("no such tool")
		}
		r.put("half-p50", 1)
		return nil
	})
	rest := s
	rest.name, rest.wanted = "rest", []string{"half-cpu"}
	rest.run = func(_ context.Context, r *sideRun) error { r.put("half-cpu", 2); return nil }
	h.chosen = append(h.chosen, rest)
	h.run(t.Context())
	want := []report.Failure{{Figure: "half-p50", Reason: "kafka, pair 1: no such tool"}, {Figure: "half-p99", Reason: "kafka, pair 1: no such tool"}}
	if got := h.report.Failures(); !slices.Equal(got, want) {
		t.Errorf("failures %v", got)
	}
	if len(h.report.Values("half-cpu", report.Kafka)) != 3 || h.done != h.total {
		t.Errorf("the workload behind it did not run: %d of %d", h.done, h.total)
	}
}

func TestAnInterruptLeavesWhatWasMeasured(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	h, _ := pretend(t, 2, func(r *sideRun) error {
		if r.side.Name == report.Floor {
			cancel()
		}
		r.put("half-p50", 1)
		r.put("half-p99", 1)
		return nil
	})
	h.run(ctx)
	if len(h.report.Failures()) != 2 || len(h.report.Values("half-p50", report.Ours)) != 1 {
		t.Errorf("failures %v, values %v", h.report.Failures(), h.report.Values("half-p50", report.Ours))
	}
}

func TestAFigureWithoutTheOthersProcessIsAFailureOnlyIfItWasNamed(t *testing.T) {
	t.Parallel()
	for _, byName := range []bool{false, true} {
		h, _ := pretend(t, 1, func(r *sideRun) error {
			r.put("half-p50", 1)
			if r.side.Name == report.Ours {
				r.put("half-p99", 1)
			}
			return nil
		})
		h.chosen[0].byName = byName
		h.run(t.Context())
		if failed := len(h.report.Failures()) > 0; failed != byName || len(h.report.Notes) > 0 == byName {
			t.Errorf("named %v: failures %v, notes %v", byName, h.report.Failures(), h.report.Notes)
		}
	}
}

func TestTooLittleDiskIsSaidBeforehand(t *testing.T) {
	t.Parallel()
	ran := false
	h, s := pretend(t, 1, func(*sideRun) error { ran = true; return nil })
	s.disk = fixedBytes(1 << 60)
	h.chosen = []selected{s}
	h.run(t.Context())
	if ran || len(h.report.Failures()) != 2 {
		t.Errorf("ran %v, failures %v", ran, h.report.Failures())
	}
}
