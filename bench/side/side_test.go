package side_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/ottlaio/ottla/bench/side"
)

// shell is a side whose broker is a shell script.
func shell(script string) side.Side {
	return side.Side{Name: "shell", Command: func(dir, _ string) *exec.Cmd {
		return exec.Command("sh", "-c", script, "sh", filepath.Join(dir, "mark"))
	}}
}

// waitFor waits for a file that a script makes.
func waitFor(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not appear", name)
		}
	}
}

func TestABrokerStopsStartsAgainAndIsDiscarded(t *testing.T) {
	t.Parallel()
	b, err := shell(`trap 'echo stopped; exit' TERM; : >"$1"; while :; do sleep 0.01; done`).Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(b.Dir, "mark")
	waitFor(t, mark)
	if err := b.Stop(); err != nil || b.LastOutput() != "stopped\n" {
		t.Errorf("Stop: %v, output %q", err, b.LastOutput())
	}
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	if err := b.Restart(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, mark)
	if err := b.Discard(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(b.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	if err := b.Kill(); err != nil {
		t.Errorf("killing it again: %v", err)
	}
}

func TestUsageOfAProcessThatWorks(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("/proc is Linux's")
	}
	b, err := side.At("127.0.0.1:1", os.Getpid()).Start(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	before, err := b.Usage()
	if err != nil {
		t.Fatal(err)
	}
	own, err := side.OwnCPU()
	if err != nil {
		t.Fatal(err)
	}
	for cpu := own; cpu < own+100*time.Millisecond; {
		if cpu, err = side.OwnCPU(); err != nil {
			t.Fatal(err)
		}
	}
	after, err := b.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if spent := after.CPU - before.CPU; spent < 70*time.Millisecond || after.Resident < 1<<20 {
		t.Errorf("100 ms of work are %v; %d bytes are resident", spent, after.Resident)
	}
}

func TestARemoteBrokerIsLeftAlone(t *testing.T) {
	t.Parallel()
	b, err := side.At("127.0.0.1:1", 0).Start(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Stop(), b.Kill(), b.Discard()); err != nil {
		t.Error(err)
	}
	if _, err := b.Usage(); err == nil {
		t.Error("the usage of an unknown process is known")
	}
}
