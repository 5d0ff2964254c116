// Command prove runs the proofs that nothing acknowledged is lost, and prints a ledger: a line for each, with what was tried, how
// often, what was lost and the seed to replay it. docs/durability.md says what each of them proves.
//
//	go run ./test/prove            every row, minutes
//	PROVE=long go run ./test/prove every row, hours
//	go run ./test/prove -list      the names of the rows
//	go run ./test/prove NAME...    these rows only; SEED=n and TIMES=n replay
//
// What the machine does not allow is counted as not run, never as passed. The command fails when a row fails, when one that could run has
// not, and when one that was asked for by name was not run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ottlaio/ottla/internal/proof"
)

// parallel is how many rows run at once. Most of them wait for a process or a disk half of their time.
const parallel = 2

func main() {
	list := flag.Bool("list", false, "print the names of the rows and run none")
	flag.Parse()
	if err := run(*list, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "prove:", err)
		os.Exit(1)
	}
}

func run(list bool, names []string) error {
	chosen, plants, err := choose(names)
	if err != nil {
		return err
	}
	if list {
		for _, w := range chosen {
			fmt.Println(w.name)
		}
		fmt.Println(planted)
		return nil
	}
	scale := os.Getenv("PROVE")
	if scale != "" && scale != "quick" && scale != "long" {
		return fmt.Errorf("PROVE=%q is neither quick nor long", scale)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	dir, err := os.MkdirTemp("", "ottla-prove")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l := &ledger{began: time.Now(), asked: len(names) > 0}
	root := strings.TrimSpace(string(out))
	runAll(ctx, newRunner(root, filepath.Join(dir, "plain"), scale == "long"), chosen, l)
	if plants && ctx.Err() == nil {
		runPlanted(ctx, newRunner(root, filepath.Join(dir, planted), false, "plant"), l)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return l.verdict()
}

func choose(names []string) (chosen []row, plants bool, err error) {
	if len(names) == 0 {
		return rows, true, nil
	}
	for _, name := range names {
		if name == planted {
			plants = true
			continue
		}
		i := slices.IndexFunc(rows, func(w row) bool { return w.name == name })
		if i < 0 {
			return nil, false, fmt.Errorf("no row is called %q; -list names them", name)
		}
		chosen = append(chosen, rows[i])
	}
	return chosen, plants, nil
}

// runAll runs what measures time alone, and the rest a few at a time, in the table's order.
func runAll(ctx context.Context, r *runner, chosen []row, l *ledger) {
	for _, w := range chosen {
		if w.alone && ctx.Err() == nil {
			l.judge(w, r.run(ctx, w))
		}
	}
	queue := make(chan row)
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for w := range queue {
				if ctx.Err() == nil {
					l.judge(w, r.run(ctx, w))
				}
			}
		})
	}
	for _, w := range chosen {
		if !w.alone {
			queue <- w
		}
	}
	close(queue)
	workers.Wait()
}

// ledger is what is printed, and counted for the verdict.
type ledger struct {
	began time.Time
	asked bool // the rows were asked for by name

	mu                   sync.Mutex // guards the fields below
	held, failed, notRun int
}

// judge adds a row's lines, and prints what it said if it failed.
func (l *ledger) judge(w row, got result) {
	lines := got.lines
	failed := slices.ContainsFunc(lines, func(line proof.Line) bool { return line.State == proof.Failed })
	if !failed && (got.err != nil || len(lines) == 0) {
		note := fmt.Sprintf("%s in %s did not report: %v", w.test, w.pkg, got.err)
		lines, failed = append(lines, proof.Line{Row: w.name, State: proof.Failed, Note: note}), true
	}
	l.add(lines...)
	if failed {
		quote(w.name, got.output)
		fmt.Printf("--- the seed above replays it: SEED=… go run ./test/prove %s\n", w.name)
	}
}

// quote prints the end of what a row said that failed, and keeps the whole.
func quote(row string, output []byte) {
	said := filepath.Join(os.TempDir(), "prove-"+row+".log")
	if err := os.WriteFile(said, output, 0o600); err != nil {
		said = err.Error()
	}
	fmt.Printf("--- what %s said, in whole in %s\n%s", row, said, lastLines(output, 60))
}

func (l *ledger) add(lines ...proof.Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range lines {
		fmt.Println(line)
		switch line.State {
		case proof.Held:
			l.held++
		case proof.NotRun:
			l.notRun++
		default:
			l.failed++
		}
	}
}

func lastLines(output []byte, n int) string {
	lines := strings.SplitAfter(string(output), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

func (l *ledger) verdict() error {
	fmt.Printf("%d rows held, %d failed, %d not run, in %.0f s\n", l.held, l.failed, l.notRun, time.Since(l.began).Seconds())
	switch {
	case l.failed > 0:
		return fmt.Errorf("%d rows failed", l.failed)
	case l.asked && l.notRun > 0:
		return fmt.Errorf("%d rows that were asked for were not run", l.notRun)
	}
	return nil
}
