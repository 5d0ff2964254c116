package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ottlaio/ottla/bench/report"
)

// TestEveryFigureHasAWorkload holds the two tables together: what the report knows is measured, and what is measured the report knows.
func TestEveryFigureHasAWorkload(t *testing.T) {
	t.Parallel()
	measured := map[string]string{}
	for _, w := range workloads {
		if len(w.figures) == 0 {
			t.Errorf("%s gives no figure", w.name)
		}
		for _, f := range w.figures {
			if !report.Known(f) {
				t.Errorf("%s gives %s, which the report does not know", w.name, f)
			}
			if other := measured[f]; other != "" {
				t.Errorf("%s and %s both give %s", w.name, other, f)
			}
			measured[f] = w.name
		}
	}
	for _, f := range report.Figures {
		if measured[f.Name] == "" {
			t.Errorf("no workload gives %s", f.Name)
		}
	}
}

func TestChooseTakesWorkloadsAndFigures(t *testing.T) {
	t.Parallel()
	chosen, err := choose("half-p99, start,half-p999")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range chosen {
		got = append(got, s.name+": "+strings.Join(s.wanted, " "))
	}
	if want := []string{"start: start", "half: half-p99 half-p999"}; !slices.Equal(got, want) {
		t.Errorf("chosen %q, want %q", got, want)
	}
	if all, err := choose(""); err != nil || len(all) != len(workloads) {
		t.Errorf("nothing named: %d workloads, %v", len(all), err)
	}
	if _, err := choose("start,speed"); err == nil || !strings.Contains(err.Error(), `"speed"`) {
		t.Errorf("an unknown name gives %v", err)
	}
}

func TestVolumesAreFullForFullLoadsOnly(t *testing.T) {
	t.Parallel()
	full := options{seconds: report.TargetSeconds}
	if got := full.volume(); got != 4*(walBytes+tailBytes) {
		t.Errorf("a full load writes %d bytes", got)
	}
	if full.firstCycle() <= walBytes || full.idle() != time.Minute {
		t.Errorf("a full load begins after %d bytes, idle is read after %v", full.firstCycle(), full.idle())
	}
	if quick := (options{seconds: quickSeconds}); quick.volume() >= full.volume()/10 {
		t.Errorf("a quick load writes %d bytes", quick.volume())
	}
}

func TestToolsOutputIsRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		output string
		read   func(string) ([]float64, error)
		want   []float64
	}{
		{"producer-perf", "120 records sent, 10.0 records/sec (0.1 MB/sec), 1.0 ms avg latency, 2.0 ms max latency.\n" +
			"360000 records sent, 160714.3 records/sec (156.95 MB/sec), 12.38 ms avg latency, 347.00 ms max latency, 6 ms 50th, 35 ms 95th, 86 ms 99th, 92 ms 99.9th.\n",
			func(s string) ([]float64, error) { return numbers(s, producerPerfLine) }, []float64{360000, 160714.3, 86}},
		{"e2e-latency", "0\t12.3\nAvg latency: 1.0000 ms\n\nPercentiles: 50th = 0, 99th = 3, 99.9th = 10\n",
			func(s string) ([]float64, error) { return numbers(s, endToEndLine) }, []float64{0, 3, 10}},
		{"consumer-perf", "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n" +
			"2026-01-01 10:00:00:000, 2026-01-01 10:00:04:000, 858.3, 214.6, 878906, 219726.5, 3300, 700, 1226.2, 1255580.0\n",
			func(s string) ([]float64, error) { return numbers(s, consumerPerfLine) }, []float64{858.3, 1226.2}},
		{"rdkafka_performance", "% 450000 messages produced (460800000 bytes), 450000 delivered (offset 0, 0 failed) in 2100ms: 214285 msgs/s and 219.43 MB/s, 0 produce failures\n",
			func(s string) ([]float64, error) { return numbers(s, rdkafkaLine) }, []float64{2100, 214285}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.read(c.output)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("read %v, %v, want %v", got, err, c.want)
			}
			if _, err := c.read("something else"); err == nil {
				t.Error("other output is read as well")
			}
		})
	}
}
