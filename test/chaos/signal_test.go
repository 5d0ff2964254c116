package chaos_test

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestStopUnderLoadIsClean sends SIGTERM while clients are at work: the broker ends with status 0, the next one replays nothing, and the
// clients go on where they were.
func TestStopUnderLoadIsClean(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	broker := newProcess(t, smallBroker...)
	load := startLoad(ctx, t, broker, loadOptions{seed: 1})
	for range 3 {
		awaitMore(ctx, t, "records acknowledged", load.acked.count, load.acked.grew, 300)
		out := broker.output
		began := time.Now()
		if err := broker.stop(); err != nil {
			t.Fatalf("SIGTERM under load: %v", err)
		}
		t.Logf("stopped in %d ms", time.Since(began).Milliseconds())
		if out.trouble() {
			t.Fatalf("SIGTERM under load:\n%s", out)
		}
		if err := broker.start(); err != nil {
			t.Fatal(err)
		}
		if err := broker.serving(ctx); err != nil {
			t.Fatal(err)
		}
		// The port is bound before the log is open.
		if said, err := broker.says(ctx, "entries_replayed="); err != nil || !strings.Contains(said, "entries_replayed=0") {
			t.Fatalf("the start after a clean stop replays something: %v\n%s", err, said)
		}
	}
	load.finish(ctx, t)
	if err := broker.stop(); err != nil {
		t.Error(err)
	}
	t.Logf("%d records acknowledged", load.acked.count())
}

// TestPauseUnderLoadLosesNothing stops the process for a second with SIGSTOP, as a suspended machine does: clients time out or wait, and
// nothing is lost or doubled.
func TestPauseUnderLoadLosesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	broker := newProcess(t, smallBroker...)
	load := startLoad(ctx, t, broker, loadOptions{seed: 1})
	for range 2 {
		awaitMore(ctx, t, "records acknowledged", load.acked.count, load.acked.grew, 300)
		if err := broker.pause(time.Second); err != nil {
			t.Fatal(err)
		}
	}
	awaitMore(ctx, t, "records acknowledged", load.acked.count, load.acked.grew, 300)
	load.finish(ctx, t)
	out := broker.output
	if err := broker.stop(); err != nil {
		t.Error(err)
	}
	if out.trouble() {
		t.Errorf("the broker had a problem of its own:\n%s", out)
	}
}
