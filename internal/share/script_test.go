package share

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/scripttest"
)

// TestScripts runs testdata/*.script: commands, each followed by the output that it gives. See runner.commands.
func TestScripts(t *testing.T) {
	t.Parallel()
	scripttest.Files(t, func(t *testing.T, script string) string {
		r := &runner{t: t, now: time.Unix(1_700_000_000, 0), persisted: Persisted{Start: 0},
			settings: Settings{LockDuration: 30 * time.Second, DeliveryLimit: 5, MaxLocks: 2000, Renewable: true}}
		r.restart()
		return scripttest.Play(script, r.run)
	})
}

// run carries out a command and returns its answer, what is to be persisted, and the window if it has changed.
func (r *runner) run(line string) []string {
	before := r.window()
	answer := scripttest.Do(r.t, r, commands, line)
	answer += r.write()
	if after := r.window(); after != before {
		answer += "window: " + after + "\n"
	}
	if answer == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(answer, "\n"), "\n")
}

// runner is a share partition over a log that the script describes.
type runner struct {
	t         *testing.T
	now       time.Time
	settings  Settings
	log       []Span
	persisted Persisted // as a persister holds it
	p         *Partition
}

// commands of scripts. Offsets are written 3-7, or 3 for a single one.
//
//	log 0-4 5-9 10h         the log's batches; h marks hidden ones
//	limits locks=3 deliveries=2 lock=30s renew=false
//	acquire a max=500 exact batch=10 cramped
//	ack a 0-4:accept 5-7:accept,release,reject
//	release a               what the member has
//	advance 30s             time passes
//	logstart 7              the log begins there now
//	restart                 from what was persisted
//	persisted start=3 4-6:archived/2
var commands = map[string]func(r *runner, args []string) string{
	"log": func(r *runner, args []string) string {
		r.log = nil
		for _, a := range args {
			text, hidden := strings.CutSuffix(a, "h")
			first, last := r.offsets(text)
			r.log = append(r.log, Span{First: first, Last: last, Hidden: hidden})
		}
		return ""
	},
	"limits": func(r *runner, args []string) string {
		for _, a := range args {
			name, value, _ := strings.Cut(a, "=")
			switch name {
			case "locks":
				r.settings.MaxLocks = r.number(value)
			case "deliveries":
				r.settings.DeliveryLimit = int16(r.number(value))
			case "lock":
				r.settings.LockDuration = r.duration(value)
			case "renew":
				r.settings.Renewable = value == "true"
			default:
				r.t.Fatalf("no such limit: %s", a)
			}
		}
		return ""
	},
	"acquire": func(r *runner, args []string) string {
		a := Acquisition{Member: args[0], MaxRecords: 500, BatchSize: 500}
		for _, option := range args[1:] {
			name, value, _ := strings.Cut(option, "=")
			switch name {
			case "max":
				a.MaxRecords = r.number(value)
			case "batch":
				a.BatchSize = r.number(value)
			case "exact":
				a.Exact = true
			case "cramped":
				a.Cramped = true
			default:
				r.t.Fatalf("no such option: %s", option)
			}
		}
		elapsed := r.elapse()
		from, ok := r.p.Next(r.settings)
		if !ok {
			return elapsed + "full\n"
		}
		var spans []Span
		for _, s := range r.log {
			if s.Last >= from {
				spans = append(spans, s)
			}
		}
		got := ""
		for _, b := range r.p.Acquire(r.now, r.settings, a, from, spans) {
			got += fmt.Sprintf(" %s (%d)", offsets(b.First, b.Last), b.DeliveryCount)
		}
		if got == "" {
			got = " nothing"
		}
		return elapsed + "got" + got + "\n"
	},
	"ack": func(r *runner, args []string) string {
		elapsed := r.elapse()
		var batches []AckBatch
		renews := false
		for _, a := range args[1:] {
			at, types, _ := strings.Cut(a, ":")
			b := AckBatch{}
			b.First, b.Last = r.offsets(at)
			for _, name := range strings.Split(types, ",") {
				b.Types = append(b.Types, ackTypes[name])
				renews = renews || name == "renew"
			}
			batches = append(batches, b)
		}
		err := CheckAcks(batches, renews)
		if err == nil {
			err = r.p.Acknowledge(r.now, r.settings, args[0], batches)
		}
		for _, known := range []error{ErrInvalidAck, ErrInvalidRecordState, ErrRenewDisabled} {
			if errors.Is(err, known) {
				return elapsed + "refused: " + err.Error() + "\n"
			}
		}
		if err != nil {
			r.t.Fatal(err)
		}
		return elapsed
	},
	"release": func(r *runner, args []string) string {
		r.p.Release(args[0], r.settings)
		return ""
	},
	"advance": func(r *runner, args []string) string {
		r.now = r.now.Add(r.duration(args[0]))
		return r.elapse()
	},
	"logstart": func(r *runner, args []string) string {
		r.p.LogStart(base.Offset(r.number(args[0])))
		return ""
	},
	"restart": func(r *runner, _ []string) string {
		r.restart()
		return ""
	},
	"persisted": func(r *runner, args []string) string {
		r.persisted = Persisted{}
		for _, a := range args {
			if start, ok := strings.CutPrefix(a, "start="); ok {
				r.persisted.Start = base.Offset(r.number(start))
				continue
			}
			at, rest, _ := strings.Cut(a, ":")
			state, count, _ := strings.Cut(rest, "/")
			b := StateBatch{DeliveryCount: int16(r.number(count))}
			b.First, b.Last = r.offsets(at)
			for s, name := range stateNames {
				if name == state {
					b.State = s
				}
			}
			r.persisted.Batches = append(r.persisted.Batches, b)
		}
		return ""
	},
}

var ackTypes = map[string]AckType{"gap": Gap, "accept": Accept, "release": Release, "reject": Reject, "renew": Renew, "wrong": 7}

var stateNames = map[State]string{Available: "available", Acquired: "acquired", Acknowledged: "acknowledged", Archived: "archived"}

func (r *runner) restart() {
	p, err := NewPartition(r.persisted)
	if err != nil {
		r.t.Fatal(err)
	}
	r.p = p
}

func (r *runner) elapse() string {
	r.p.Elapse(r.now, r.settings)
	return r.write()
}

// write persists what has to be, and tells.
func (r *runner) write() string {
	w, ok := r.p.TakeWrite()
	if !ok {
		return ""
	}
	r.persisted = merge(r.persisted, w)
	out := fmt.Sprintf("write: start %d, %d complete", w.Start, w.DeliveryCompleteCount)
	for _, b := range w.Batches {
		out += fmt.Sprintf(", %s %s/%d", offsets(b.First, b.Last), stateNames[b.State], b.DeliveryCount)
	}
	return out + "\n"
}

func (r *runner) window() string {
	out := fmt.Sprintf("%d to %d", r.p.start, r.p.end)
	for _, run := range r.p.runs {
		out += fmt.Sprintf(", %s %s/%d", offsets(run.first, run.last), stateNames[run.state], run.deliveries)
		if run.state == Acquired {
			out += " " + run.member + " " + run.lockedUntil.Sub(r.now).String()
		}
	}
	return out
}

func (r *runner) offsets(text string) (first, last base.Offset) {
	a, b, ok := strings.Cut(text, "-")
	if !ok {
		b = a
	}
	return base.Offset(r.number(a)), base.Offset(r.number(b))
}

func offsets(first, last base.Offset) string {
	if first == last {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, last)
}

func (r *runner) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func (r *runner) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}
