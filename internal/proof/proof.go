// Package proof lets a test be a row of the ledger that `make prove` prints. A test becomes one by calling Start; when it ends, what it
// tried and lost is logged, and written as one line of JSON to the file that PROVE_LEDGER names. test/prove runs such tests, collects the
// lines and judges them.
//
// The environment says how much a proof tries:
//
//	PROVE=quick  the minutes of `make prove`
//	PROVE=long   hours
//	(unset)      the seconds of `go test`
//	TIMES=n      overrides the number of tries
//	SEED=n       replays a run; else the seed is new each time
package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// LedgerVariable names the file that lines are appended to.
const LedgerVariable = "PROVE_LEDGER"

// The states of a row.
const (
	Held    = "held"
	Failed  = "FAILED"
	NotRun  = "not run"
	Running = "running" // how far a row has got that takes long; another line says what came of it
)

// ProgressInterval is how often a row that takes long says how far it has got.
const ProgressInterval = time.Minute

// Line is a row as it stands in the ledger.
type Line struct {
	Row     string  `json:"row"`
	Tried   string  `json:"tried"` // what was tried, in the plural
	Times   int64   `json:"times"`
	Lost    int64   `json:"lost"` // acknowledged records, commits or topics, or whatever else the row is about
	Seed    uint64  `json:"seed"` // 0 where chance has no part
	Seconds float64 `json:"seconds"`
	State   string  `json:"state"`
	Note    string  `json:"note,omitempty"` // why it was not run, or figures
}

// Proof is a row that is being tried. Its methods may be called from several goroutines.
type Proof struct {
	t     testing.TB
	began time.Time
	row   Line
	times atomic.Int64
	lost  atomic.Int64
}

// Start begins a row. tried says what is tried, in the plural: "power losses". The row is written when the test and its cleanups end;
// it has failed if the test has.
func Start(t testing.TB, row, tried string, seed uint64) *Proof {
	t.Helper()
	p := &Proof{t: t, began: time.Now(), row: Line{Row: row, Tried: tried, Seed: seed}}
	if seed != 0 {
		t.Logf("SEED=%d", seed)
	}
	t.Cleanup(p.write)
	if name := os.Getenv(LedgerVariable); name != "" {
		p.tellProgress(name)
	}
	return p
}

// tellProgress writes lines of the state Running until the test has ended.
func (p *Proof) tellProgress(ledger string) {
	running := p.row
	running.State = Running
	stop := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(ProgressInterval)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			running.Times, running.Lost, running.Seconds = p.times.Load(), p.lost.Load(), time.Since(p.began).Seconds()
			if err := appendLine(ledger, running); err != nil {
				p.t.Errorf("write the ledger: %v", err)
			}
		}
	})
	p.t.Cleanup(func() {
		close(stop)
		telling.Wait()
	})
}

// Tried counts n more tries.
func (p *Proof) Tried(n int64) { p.times.Add(n) }

// Lost counts n things that should be there and are not. The test fails by its own words.
func (p *Proof) Lost(n int64) { p.lost.Add(n) }

// Note adds figures to the row.
func (p *Proof) Note(format string, args ...any) { p.row.Note = fmt.Sprintf(format, args...) }

// NotRun ends the test: the machine lacks something, and the row is counted as not run.
func (p *Proof) NotRun(why string) {
	p.t.Helper()
	p.row.Note = why
	p.t.Skip(why)
}

func (p *Proof) write() {
	p.row.Times, p.row.Lost, p.row.Seconds = p.times.Load(), p.lost.Load(), time.Since(p.began).Seconds()
	switch {
	case p.t.Failed():
		p.row.State = Failed
	case p.t.Skipped():
		p.row.State = NotRun
	case p.row.Times == 0:
		p.t.Errorf("the proof %s has tried nothing", p.row.Row)
		p.row.State = Failed
	default:
		p.row.State = Held
	}
	p.t.Log(p.row)
	name := os.Getenv(LedgerVariable)
	if name == "" {
		return
	}
	if err := appendLine(name, p.row); err != nil {
		p.t.Errorf("write the ledger: %v", err)
	}
}

func appendLine(name string, line Line) error {
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Close())
}

// String is the line as people read it.
func (l Line) String() string {
	seed := "-"
	if l.Seed != 0 {
		seed = strconv.FormatUint(l.Seed, 10)
	}
	return fmt.Sprintf("%-7s  %-35s %8d %-28s %d lost  seed %-19s %4.0f s  %s", l.State, l.Row, l.Times, l.Tried, l.Lost, seed, l.Seconds, l.Note)
}

// Seed is the SEED of the environment, or a new one.
func Seed(t testing.TB) uint64 {
	t.Helper()
	return uint64(number(t, "SEED", time.Now().UnixNano()))
}

// Times is how often a proof tries: plain under `go test`, quick under `make prove`, long with PROVE=long.
func Times(t testing.TB, plain, quick, long int) int {
	t.Helper()
	n := plain
	switch scale := os.Getenv("PROVE"); scale {
	case "":
	case "quick":
		n = quick
	case "long":
		n = long
	default:
		t.Fatalf("PROVE=%q is neither quick nor long", scale)
	}
	return int(number(t, "TIMES", int64(n)))
}

// Long reports whether hours are to be spent.
func Long() bool { return os.Getenv("PROVE") == "long" }

func number(t testing.TB, env string, def int64) int64 {
	t.Helper()
	s := os.Getenv(env)
	if s == "" {
		return def
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q is not a number", env, s)
	}
	return n
}
