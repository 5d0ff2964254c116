package chaos_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottlaio/ottla/test/chaos/history"
)

// recorder collects a history from the clients of a workload. Its methods may be called from several goroutines.
type recorder struct {
	began     time.Time
	values    atomic.Int64
	processes atomic.Int64
	acked     atomic.Int64 // records
	polled    atomic.Int64
	accepted  atomic.Int64  // by the share group
	grew      chan struct{} // gets a token when acked or accepted may have grown

	mu  sync.Mutex // guards ops
	ops []history.Op
}

func newRecorder() *recorder { return &recorder{began: time.Now(), grew: make(chan struct{}, 1)} }

func (r *recorder) now() int64 { return int64(time.Since(r.began)) }

// process is a number for a client that does one thing at a time.
func (r *recorder) process() int { return int(r.processes.Add(1)) }

// ended notes an operation that has just ended.
func (r *recorder) ended(op history.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.End = r.now()
	r.addLocked(op)
}

// told notes an operation of which another program tells, by the same clock.
func (r *recorder) told(op history.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addLocked(op)
}

func (r *recorder) addLocked(op history.Op) {
	r.ops = append(r.ops, op)
	for _, s := range op.Steps {
		switch {
		case s.Action == history.Poll || s.Action == history.Deliver:
			r.polled.Add(int64(len(s.Records)))
		case s.Action == history.Accept && op.Outcome == history.OK:
			r.accepted.Add(int64(len(s.Records)))
			wake(r.grew)
		case s.Action == history.Send && op.Outcome == history.OK:
			r.acked.Add(int64(len(s.Records)))
			wake(r.grew)
		}
	}
}

// maxNamedFindings bounds what a failing test prints; the history has everything.
const maxNamedFindings = 4000

// check holds the history against itself. The test fails with the names of the anomalies, and the history is kept in a file.
func (r *recorder) check(t *testing.T, name string, options history.Options) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	report, err := history.Check(r.ops, options)
	if err != nil {
		t.Errorf("the history is none: %v", err)
	} else if anomalies := report.Anomalies(); len(anomalies) > 0 {
		said := report.String()
		t.Errorf("anomalies: %v\n%s", slices.Sorted(maps.Keys(anomalies)), said[:min(len(said), maxNamedFindings)])
	}
	if t.Failed() {
		t.Log(keep(r.ops, name))
	}
}

// keep writes a history beside the other files of the run, and says where.
func keep(ops []history.Op, name string) string {
	f, err := os.CreateTemp("", "history-"+name+"-*.jsonl")
	if err != nil {
		return fmt.Sprintf("the history is not kept: %v", err)
	}
	defer f.Close()
	if err := history.Write(f, ops); err != nil {
		return fmt.Sprintf("the history is not kept: %v", err)
	}
	return "the history is in " + filepath.Clean(f.Name())
}

// valued is a record with a value of its own, and padding behind it.
func valued(topic string, partition int32, value int64, padding int) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Value: []byte(strconv.FormatInt(value, 10) + ":" + strings.Repeat("x", padding))}
}

// seen is a record as a history has it.
func seen(r *kgo.Record) (history.Record, error) {
	digits, _, ok := strings.Cut(string(r.Value), ":")
	value, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return history.Record{}, fmt.Errorf("%s/%d offset %d is not a record of ours: %.40q", r.Topic, r.Partition, r.Offset, r.Value)
	}
	return history.Record{Partition: partitionName(r.Topic, r.Partition), Offset: r.Offset, Value: value}, nil
}

func partitionName(topic string, partition int32) string {
	return fmt.Sprintf("%s-%d", topic, partition)
}
