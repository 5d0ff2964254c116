package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/plant"
)

// proof is a test that was written for no planted bug. It runs as a process of its own, built with the tag `plant`.
type proof struct {
	name string
	pkg  string // folder of the package
	run  string // name of the test
	args []string
	env  []string
}

var (
	powerLoss    = proof{"power loss", "internal/storage", "TestNothingAcknowledgedIsLostWhenPowerFails", nil, []string{"SEED=1", "POWERLOSS_OPS=60"}}
	flippedBits  = proof{"flipped bits", "internal/storage", "TestFlippedBitsAreFoundOrHarmless", nil, nil}
	walPowerLoss = proof{"power loss of the wal", "internal/storage/wal", "TestAcknowledgedEntriesSurvivePowerLossAtEveryStep", []string{"-test.short"}, nil}
	sigkill      = proof{"SIGKILL", "test/chaos", "TestKillNineLosesNothing", nil, []string{"SEED=1", "KILLS=10"}}
)

// longer makes a proof try more often.
func longer(p proof, env ...string) proof {
	p.env = append(slices.Clone(p.env), env...)
	return p
}

// caughtBy says which proofs catch which planted bug: the cheapest that do so every time.
var caughtBy = map[plant.Bug][]proof{
	plant.AckEarly:                 {powerLoss},
	plant.SkipWALSync:              {powerLoss},
	plant.SkipWALFolderSync:        {powerLoss},
	plant.RecycledGroup:            {walPowerLoss},
	plant.NoRunCRC:                 {walPowerLoss},
	plant.DamageIsTorn:             {flippedBits},
	plant.SkipSegmentSync:          {longer(powerLoss, "POWERLOSS_OPS=300")},
	plant.NoBlockCRC:               {flippedBits},
	plant.NoCarry:                  {longer(powerLoss, "POWERLOSS_OPS=300")},
	plant.ReleaseEarly:             {longer(powerLoss, "POWERLOSS_OPS=600")},
	plant.SkipCheckpointFolderSync: {longer(powerLoss, "POWERLOSS_OPS=600")},
	plant.ReplayTooLate:            {longer(powerLoss, "POWERLOSS_OPS=300")},
	plant.NoProducerReplay:         {powerLoss, sigkill},
	plant.ProducersOfNow:           {longer(powerLoss, "POWERLOSS_OPS=300")},
	plant.DuplicateEarly:           {longer(powerLoss, "POWERLOSS_OPS=300")},
	plant.VisibleEarly:             {powerLoss},
	plant.EpochOffByOne:            {powerLoss},
	plant.LostEpochs:               {longer(powerLoss, "POWERLOSS_OPS=300")},
	plant.LostLogStart:             {longer(powerLoss, "POWERLOSS_OPS=300")},
}

// TestProofsCatchPlantedBugs runs proofs with bugs planted in the code that they are about, and requires that each fails; and that they
// pass in the same build without one. PLANTED=all tries every bug with every proof and says who catches what.
func TestProofsCatchPlantedBugs(t *testing.T) {
	for _, bug := range plant.Bugs {
		if len(caughtBy[bug]) == 0 {
			t.Errorf("no proof is named for the planted bug %s", bug)
		}
	}
	builds := &proofBuilds{dir: t.TempDir(), made: map[string]func() (string, error){}}
	for _, p := range []proof{powerLoss, flippedBits, walPowerLoss, sigkill} {
		t.Run("nothing planted/"+p.name, func(t *testing.T) {
			t.Parallel()
			if out, err := builds.run(t, p, ""); err != nil {
				t.Errorf("with nothing planted the proof fails: %v\n%s", err, out)
			}
		})
	}
	for bug, proofs := range caughtBy {
		for _, p := range proofs {
			t.Run(string(bug)+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				out, err := builds.run(t, p, bug)
				verdict, caught := verdictOf(out, err)
				if !caught {
					t.Fatalf("%s does not catch %s: %s\n%s", p.name, bug, verdict, out)
				}
				t.Logf("%s is caught by %s in %.1f s: %s", bug, p.name, time.Since(began).Seconds(), verdict)
			})
		}
		if os.Getenv("PLANTED") == "all" {
			for _, p := range []proof{longer(powerLoss, "POWERLOSS_OPS=2000"), flippedBits, walPowerLoss, sigkill} {
				t.Run("all/"+string(bug)+"/"+p.name, func(t *testing.T) {
					out, err := builds.run(t, p, bug)
					verdict, caught := verdictOf(out, err)
					t.Logf("caught: %t: %s", caught, verdict)
				})
			}
		}
	}
}

var errLine = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (?:.*: )?(?:power loss|image after|bit \d|partition \d|[a-z].*).*$|^panic: .*$`)

// verdictOf tells a proof that failed from one that passed or did not get to its end.
func verdictOf(out string, err error) (verdict string, caught bool) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "it passes", false
	case !errors.As(err, &exit) || strings.Contains(out, "panic: test timed out"):
		return fmt.Sprintf("it did not end: %v", err), false
	case !strings.Contains(out, "--- FAIL") && !strings.Contains(out, "panic: "):
		return fmt.Sprintf("it did not run: %v", err), false
	}
	verdict = strings.TrimSpace(errLine.FindString(out))
	return verdict[:min(len(verdict), 240)], true
}

// proofBuilds builds each package's tests once.
type proofBuilds struct {
	dir  string
	mu   sync.Mutex // guards made
	made map[string]func() (string, error)
}

func (b *proofBuilds) binary(pkg string) (string, error) {
	b.mu.Lock()
	build := b.made[pkg]
	if build == nil {
		build = sync.OnceValues(func() (string, error) {
			name := filepath.Join(b.dir, strings.ReplaceAll(pkg, "/", "-")+".test")
			out, err := exec.Command("go", "test", "-c", "-tags", "plant", "-o", name, "github.com/ottlaio/ottla/"+pkg).CombinedOutput()
			if err != nil {
				return "", fmt.Errorf("build the tests of %s: %w\n%s", pkg, err, out)
			}
			return name, nil
		})
		b.made[pkg] = build
	}
	b.mu.Unlock()
	return build()
}

// run runs a proof with a bug planted and returns what it printed.
func (b *proofBuilds) run(t *testing.T, p proof, bug plant.Bug) (string, error) {
	t.Helper()
	binary, err := b.binary(p.pkg)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 3 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), limit+10*time.Second)
	defer cancel()
	args := append([]string{"-test.run=^" + p.run + "$", "-test.timeout=" + limit.String()}, p.args...)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = filepath.Join("..", "..", filepath.FromSlash(p.pkg))
	cmd.Env = append(append(os.Environ(), p.env...), "OTTLA_PLANT="+string(bug))
	out, err := cmd.CombinedOutput()
	return string(out), err
}
