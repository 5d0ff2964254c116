package chaos_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/proof"
)

// A real file system loses power under the real binary, again and again, at random moments under the load of TestKillNineLosesNothing,
// and what is promised there holds. The file system's shutdown call cuts it off from its device: what was not synced by then is gone, a
// write in flight fails. The broker ends by itself, because a write failed, or is killed; the file system is mounted anew, which
// recovers its journal, and the broker starts on what is left. TIMES says how often, SEED replays the moments.

func TestPowerLossOnExt4(t *testing.T) { powerLossOn(t, "ext4") }

func TestPowerLossOnXFS(t *testing.T) { powerLossOn(t, "xfs") }

func powerLossOn(t *testing.T, kind string) {
	if os.Getenv("PROVE") == "" {
		t.Skip("mounts file systems; `make prove` runs it")
	}
	losses, seed := proof.Times(t, 0, 15, 600), proof.Seed(t)
	row := proof.Start(t, "power-loss-"+kind, "shutdowns of "+kind+" under load", seed)
	needVolumes(row, kind)
	var p powerLosses
	inFolders(t, losses, 40, seed, func(t *testing.T, losses int, seed uint64) { p.lose(t, row, kind, losses, seed) })
	row.Note("%d records acknowledged, %d commits, %d topics came and went; %d times the broker ended by itself", p.acked, p.commits, p.topics, p.byItself)
}

// powerLosses is what brokers did whose file system was shut down.
type powerLosses struct {
	acked, commits   int64
	topics, byItself int
}

// lose starts a broker on a new file system and shuts that down so many times.
func (p *powerLosses) lose(t *testing.T, row *proof.Proof, kind string, losses int, seed uint64) {
	image := filepath.Join(t.TempDir(), "image")
	makeImage(t, kind, image, 1<<30)
	v := newVolume(t, kind, image)
	if err := v.mount(); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	broker := newProcessIn(t, filepath.Join(v.dir, "data"), smallBroker...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(losses)*5*time.Second)
	defer cancel()
	load := startLoad(ctx, t, broker, loadOptions{seed: seed})
	passing := startPassing(ctx, t, broker.addr, nil)
	for loss := range losses {
		switch k := random.IntN(10); {
		case k < 2:
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		case k < 4:
			awaitMore(ctx, t, "commits", load.group.commits.Load, load.group.grew, 1+random.IntN(3))
		default:
			awaitMore(ctx, t, "records acknowledged", load.acked.count, load.acked.grew, 1+random.IntN(2000))
		}
		if broker.output.trouble() {
			t.Fatalf("before loss %d the broker had a problem of its own:\n%s", loss, broker.output)
		}
		passing.losses.Add(1)
		if err := v.powerFails(); err != nil {
			t.Fatal(err)
		}
		if random.IntN(2) == 0 {
			broker.kill()
		} else {
			broker.endsByItself(ctx, t)
			p.byItself++
		}
		if err := v.unmount(); err != nil {
			t.Fatalf("unmount after loss %d: %v", loss, err)
		}
		if err := v.mount(); err != nil {
			t.Fatalf("after loss %d: %v", loss, err)
		}
		if err := broker.start(); err != nil {
			t.Fatal(err)
		}
		if err := broker.serving(ctx); err != nil {
			t.Fatalf("after loss %d: %v", loss, err)
		}
		row.Tried(1)
		if t.Failed() {
			t.Fatalf("at loss %d; the broker says:\n%s", loss, broker.output)
		}
	}
	topics := passing.finish(ctx, t)
	load.finish(ctx, t)
	if err := broker.stop(); err != nil {
		t.Errorf("the last stop, by SIGTERM: %v", err)
	}
	p.acked += load.acked.count()
	p.commits += load.group.commits.Load()
	p.topics += topics
}

// endsByItself waits for the end of a broker whose disk fails: with status 3, soon.
func (p *process) endsByItself(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case err := <-p.exited:
		p.cmd = nil
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("the broker's disk fails, and it ends with %v\n%s", err, p.output)
		}
	case <-time.After(30 * time.Second):
		p.kill()
		t.Errorf("30 s after its disk failed the broker still runs:\n%s", p.output)
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	}
}
