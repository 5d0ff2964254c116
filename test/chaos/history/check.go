package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Anomaly is the name of something that must not be seen.
type Anomaly string

// The anomalies; the package's comment says what each means.
const (
	InconsistentOffsets Anomaly = "inconsistent-offsets"
	Duplicate           Anomaly = "duplicate"
	LostWrite           Anomaly = "lost-write"
	Unseen              Anomaly = "unseen"
	AbortedRead         Anomaly = "aborted-read"
	PrecommittedRead    Anomaly = "precommitted-read"
	TornTransaction     Anomaly = "torn-transaction"
	PollSkip            Anomaly = "poll-skip"
	NonmonotonicPoll    Anomaly = "nonmonotonic-poll"
	NonmonotonicSend    Anomaly = "nonmonotonic-send"
	LostCommit          Anomaly = "lost-commit"
	LostAccept          Anomaly = "lost-accept"
	IntPollSkip         Anomaly = "int-poll-skip"
	IntNonmonotonicPoll Anomaly = "int-nonmonotonic-poll"
	IntNonmonotonicSend Anomaly = "int-nonmonotonic-send"
)

// maxFindings bounds the findings that are kept of one anomaly; all are counted.
const maxFindings = 10

// Report is what Check found.
type Report struct {
	Operations   int // of the history
	Acknowledged int // records
	Polled       int // records, each time they were polled or delivered
	counts       map[Anomaly]int
	findings     map[Anomaly][]string
}

// Options say what a history may be held to.
type Options struct {
	// PolledAll says that the last polls of the history, after all sends had ended, reached the end of every partition.
	PolledAll bool
	// Groups have been given everything: after all sends had ended, members polled until the end of every partition, or accepted all.
	Groups []string
	// Ungrouped are the partitions that none of Groups subscribes to.
	Ungrouped []string
}

// Check holds a history against itself. An error says that it is no history: a value was sent twice, or polled and never sent.
func Check(ops []Op, options Options) (*Report, error) {
	report := &Report{Operations: len(ops), counts: map[Anomaly]int{}, findings: map[Anomaly][]string{}}
	l, err := rebuild(ops, report)
	if err != nil {
		return nil, err
	}
	for i := range ops {
		report.Polled += len(ops[i].given())
		if ops[i].Outcome == OK {
			report.Acknowledged += len(ops[i].records(Send))
		}
	}
	l.checkDuplicates(report)
	l.checkWrites(options.PolledAll, report)
	l.checkAborted(ops, report)
	l.checkPrecommitted(ops, report)
	l.checkTorn(ops, options.PolledAll, report)
	l.checkProcessed(ops, report)
	l.checkPolls(ops, report)
	checkSends(ops, report)
	checkCommits(ops, report)
	checkAccepts(ops, report)
	for _, group := range options.Groups {
		l.checkGiven(ops, group, options.Ungrouped, report)
	}
	return report, nil
}

func (r *Report) add(a Anomaly, format string, args ...any) {
	r.counts[a]++
	if len(r.findings[a]) < maxFindings {
		r.findings[a] = append(r.findings[a], fmt.Sprintf(format, args...))
	}
}

// Anomalies returns how often each anomaly was found; it is empty for a history without any.
func (r *Report) Anomalies() map[Anomaly]int { return maps.Clone(r.counts) }

// String tells what was checked and, line by line, what was found.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d operations, %d records acknowledged, %d polled", r.Operations, r.Acknowledged, r.Polled)
	for _, a := range slices.Sorted(maps.Keys(r.counts)) {
		fmt.Fprintf(&b, "\n%s: %d", a, r.counts[a])
		for _, f := range r.findings[a] {
			fmt.Fprintf(&b, "\n  %s", f)
		}
	}
	return b.String()
}
