package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ottlaio/ottla/internal/proof"
)

const module = "github.com/ottlaio/ottla"

// cleanupTime is what a row has to take down its file systems and processes when it is told to end.
const cleanupTime = 20 * time.Second

// runner builds each package's tests and the broker once, and runs rows.
type runner struct {
	root string   // of the module
	dir  string   // scratch
	tags []string // of the builds
	long bool

	mu     sync.Mutex // guards builds
	builds map[string]func() (string, error)
}

func newRunner(root, dir string, long bool, tags ...string) *runner {
	return &runner{root: root, dir: dir, tags: tags, long: long, builds: map[string]func() (string, error){}}
}

// broker is the binary under test.
func (r *runner) broker(ctx context.Context) (string, error) {
	return r.build(ctx, "cmd/ottla", "build")
}

// tests are a package's tests.
func (r *runner) tests(ctx context.Context, pkg string) (string, error) {
	return r.build(ctx, pkg, "test", "-c")
}

func (r *runner) build(ctx context.Context, pkg string, how ...string) (string, error) {
	r.mu.Lock()
	build := r.builds[pkg]
	if build == nil {
		build = sync.OnceValues(func() (string, error) {
			binary := filepath.Join(r.dir, strings.ReplaceAll(pkg, "/", "-"))
			args := append(how, "-o", binary)
			if len(r.tags) > 0 {
				args = append(args, "-tags", strings.Join(r.tags, ","))
			}
			cmd := exec.CommandContext(ctx, "go", append(args, module+"/"+pkg)...)
			cmd.Dir = r.root
			if out, err := cmd.CombinedOutput(); err != nil {
				return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
			}
			return binary, nil
		})
		r.builds[pkg] = build
	}
	r.mu.Unlock()
	return build()
}

// result is what became of a row.
type result struct {
	lines  []proof.Line
	output []byte
	err    error // the process's
}

// run runs a row to its end, or until ctx ends.
func (r *runner) run(ctx context.Context, w row, env ...string) result {
	binary, err := r.tests(ctx, w.pkg)
	if err != nil {
		return result{err: err}
	}
	broker, err := r.broker(ctx)
	if err != nil {
		return result{err: err}
	}
	scratch, err := os.MkdirTemp(r.dir, w.name+"-")
	if err != nil {
		return result{err: err}
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	ledger := filepath.Join(scratch, "ledger")
	scale, limit := "quick", 6*time.Minute
	if r.long {
		scale = "long"
	}
	if r.long || os.Getenv("TIMES") != "" {
		limit = 24 * time.Hour
	}
	cmd := exec.CommandContext(ctx, binary, "-test.run=^("+w.test+")$", "-test.v", "-test.timeout="+limit.String())
	cmd.Dir = filepath.Join(r.root, filepath.FromSlash(w.pkg))
	cmd.Env = append(os.Environ(), "PROVE="+scale, "PROVE_BINARY="+broker, "TMPDIR="+scratch, proof.LedgerVariable+"="+ledger)
	cmd.Env = append(append(cmd.Env, w.env...), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = cleanupTime
	ended := make(chan struct{})
	go showProgress(ledger, ended)
	output, err := cmd.CombinedOutput()
	close(ended)
	lines, readErr := readLedger(ledger)
	lines = slices.DeleteFunc(lines, func(l proof.Line) bool { return l.State == proof.Running })
	return result{lines, output, errors.Join(err, readErr)}
}

// showProgress prints how far a row has got that takes minutes.
func showProgress(ledger string, ended <-chan struct{}) {
	tick := time.NewTicker(proof.ProgressInterval / 20)
	defer tick.Stop()
	for shown := 0; ; {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		// A line that is just being written is shown the next time.
		if lines, _ := readLedger(ledger); len(lines) > shown && lines[len(lines)-1].State == proof.Running {
			fmt.Println(lines[len(lines)-1])
			shown = len(lines)
		}
	}
}

func readLedger(name string) ([]proof.Line, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // judged by who asked for lines
	}
	if err != nil {
		return nil, err
	}
	var lines []proof.Line
	for decoder := json.NewDecoder(bytes.NewReader(data)); decoder.More(); {
		var l proof.Line
		if err := decoder.Decode(&l); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}
