package proof

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestARowIsWrittenWhenTheTestEnds(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ledger")
	t.Setenv(LedgerVariable, name)
	t.Run("held", func(t *testing.T) {
		p := Start(t, "row", "tries", 7)
		p.Tried(3)
		p.Lost(0)
		p.Note("%d ms", 5)
	})
	t.Run("not run", func(t *testing.T) {
		Start(t, "other", "tries", 0).NotRun("needs root")
	})
	lines := linesOf(t, name)
	for i := range lines {
		lines[i].Seconds = 0
	}
	want := []Line{
		{Row: "row", Tried: "tries", Times: 3, Seed: 7, State: Held, Note: "5 ms"},
		{Row: "other", Tried: "tries", State: NotRun, Note: "needs root"},
	}
	if !slices.Equal(lines, want) {
		t.Errorf("the ledger holds %+v, want %+v", lines, want)
	}
}

func TestARowThatTakesLongSaysHowFarItHasGot(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ledger")
	t.Setenv(LedgerVariable, name)
	synctest.Test(t, func(t *testing.T) {
		p := Start(t, "row", "tries", 7)
		for range 3 {
			p.Tried(5)
			time.Sleep(ProgressInterval * 3 / 4)
		}
	})
	got := linesOf(t, name)
	want := []Line{
		{Row: "row", Tried: "tries", Times: 10, Seed: 7, State: Running, Seconds: 60},
		{Row: "row", Tried: "tries", Times: 15, Seed: 7, State: Running, Seconds: 120},
		{Row: "row", Tried: "tries", Times: 15, Seed: 7, State: Held, Seconds: 135},
	}
	if !slices.Equal(got, want) {
		t.Errorf("the ledger holds %+v, want %+v", got, want)
	}
}

func linesOf(t *testing.T, ledger string) []Line {
	t.Helper()
	data, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	var lines []Line
	for s := range strings.Lines(string(data)) {
		var l Line
		if err := json.Unmarshal([]byte(s), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

func TestTimesFollowTheEnvironment(t *testing.T) {
	for env, want := range map[string]int{"": 1, "quick": 2, "long": 3} {
		t.Setenv("PROVE", env)
		if got := Times(t, 1, 2, 3); got != want {
			t.Errorf("PROVE=%s: %d, want %d", env, got, want)
		}
	}
	t.Setenv("TIMES", "9")
	t.Setenv("SEED", "5")
	if times, seed := Times(t, 1, 2, 3), Seed(t); times != 9 || seed != 5 {
		t.Errorf("TIMES=9 SEED=5 give %d and %d", times, seed)
	}
}
