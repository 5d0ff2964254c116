package chaos_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/test/chaos/history"
)

// TestJavaQueueHistories is TestQueueHistories with the clients of Apache Kafka. It and the next need Java and the class path of these
// clients in HISTORY_JAVA; `make interop` sees to both.
func TestJavaQueueHistories(t *testing.T) {
	j := startJavaRow(t, "history-java-queue")
	q, reading := newQueue(j.ctx, t, j.network.addr)
	q.groups = []string{committing}
	j.start(t, q, reading, "queue")
	j.strikes(j.ctx, t, j.faults, 60, q.awaitMore)
	q.finish(j.ctx, t, j.broker.output)
	j.finish(t, q)
}

// TestJavaTransactionHistories is TestTransactionHistories with the clients of Apache Kafka.
func TestJavaTransactionHistories(t *testing.T) {
	j := startJavaRow(t, "history-java-transactions")
	w, reading := newTransactions(j.ctx, t, j.network.addr)
	j.start(t, &w.queue, reading, "transactions")
	j.strikes(j.ctx, t, j.faults, 30, w.awaitMore)
	w.finish(j.ctx, t, j.broker.output)
	j.finish(t, &w.queue)
}

// javaRow is a row whose clients are a program in Java.
type javaRow struct {
	*faulty
	ctx     context.Context
	libs    string // class path
	seed    uint64
	faults  int
	said    *output       // what the clients say on standard error
	stopped chan struct{} // closed when no client sends any more
	exited  chan error
}

func startJavaRow(t *testing.T, name string) *javaRow {
	t.Helper()
	faults, seed := proof.Times(t, 12, 12, historyFaults), proof.Seed(t)
	row := proof.Start(t, name, "faults", seed)
	j := &javaRow{libs: os.Getenv("HISTORY_JAVA"), seed: seed, faults: faults, said: &output{}}
	if j.libs == "" {
		row.NotRun("HISTORY_JAVA names no class path of Java clients")
	}
	var cancel context.CancelFunc
	j.ctx, cancel, j.faulty = startFaulty(t, row, map[fault]int{}, faults, seed)
	t.Cleanup(cancel)
	return j
}

// start starts the clients. They are one of the senders and one of the readers of q.
func (j *javaRow) start(t *testing.T, q *queue, reading context.Context, workload string) {
	t.Helper()
	cmd := exec.CommandContext(j.ctx, "java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", j.libs, "java/Histories.java",
		workload, q.addr, strconv.FormatUint(j.seed, 10), strconv.FormatInt(q.history.began.UnixNano(), 10), strconv.Itoa(maxUnacknowledged()))
	cmd.Stderr = j.said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	living.set(cmd.Process, true)
	j.stopped, j.exited = make(chan struct{}), make(chan error, 1)
	var stop sync.Once
	go func() {
		err := listen(out, q.history, func() { stop.Do(func() { close(j.stopped) }) })
		err = errors.Join(err, cmd.Wait())
		living.set(cmd.Process, false)
		j.exited <- err
	}()
	q.senders.Go(func() {
		<-q.stop
		_, err := io.WriteString(in, "stop\n")
		select {
		case <-j.stopped:
		case exit := <-j.exited:
			j.exited <- exit
			t.Errorf("the clients did not stop: %v", errors.Join(err, exit))
		case <-j.ctx.Done():
			t.Errorf("the clients do not stop: %v", context.Cause(j.ctx))
		}
	})
	q.readers.Go(func() {
		<-reading.Done()
		_ = in.Close()
		exit := <-j.exited
		j.exited <- exit
	})
}

// listen notes the operations that clients tell of, until they are done.
func listen(out io.Reader, to *recorder, stopped func()) error {
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		switch {
		case errors.Is(err, io.EOF) && line == "":
			return nil
		case err != nil:
			return fmt.Errorf("what the clients tell ends within a line: %w", err)
		case line == "stopped\n":
			stopped()
			continue
		}
		ops, err := history.Read(strings.NewReader(line))
		if err != nil {
			return fmt.Errorf("the clients tell %q: %w", line, err)
		}
		for _, op := range ops {
			to.told(op)
		}
	}
}

// finish judges the end of the clients, and notes what they did.
func (j *javaRow) finish(t *testing.T, q *queue) {
	t.Helper()
	if err := <-j.exited; err != nil {
		t.Errorf("the clients: %v", err)
	}
	struck := 0
	for _, n := range j.done {
		struck += n
	}
	if struck < j.faults {
		t.Errorf("the clients got on through %d faults of %d", struck, j.faults)
	}
	if t.Failed() {
		t.Logf("the clients said:\n%s", j.said)
	}
	ends := map[history.Outcome]int{}
	for _, op := range q.history.ops {
		if op.Transaction {
			ends[op.Outcome]++
		}
	}
	j.row.Note("%v; transactions %v; %d records acknowledged, %d polled", j.done, ends, q.history.acked.Load(), q.history.polled.Load())
}
