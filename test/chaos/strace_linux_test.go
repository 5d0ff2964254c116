package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottlaio/ottla/internal/proof"
)

// TestASystemCallFailsUnderTheRealBinary lets the n-th call of a kind fail in one of the real binary's threads, as a disk that breaks does, while
// records are produced. Whatever the broker makes of it: what it acknowledged is there after the next start, in order.
func TestASystemCallFailsUnderTheRealBinary(t *testing.T) {
	times, seed := proof.Times(t, 2, 5, 2000), proof.Seed(t)
	row := proof.Start(t, "errors-binary", "failed system calls", seed)
	strace, err := exec.LookPath("strace")
	if err != nil {
		row.NotRun("strace is not installed")
	}
	if out, err := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-o", filepath.Join(t.TempDir(), "probe"), "-e", "inject=getcwd:error=EIO", "true").CombinedOutput(); err != nil {
		row.NotRun(fmt.Sprintf("strace can not trace here: %v: %s", err, out))
	}
	random := rand.New(rand.NewPCG(seed, 4))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(times)*time.Minute)
	defer cancel()
	calls := []struct {
		name, errno string
		most        int
	}{{"fdatasync", "EIO", 30}, {"fsync", "EIO", 20}, {"pwrite64", "EIO", 120}, {"renameat", "EIO", 4}, {"openat", "EMFILE", 60}, {"pwrite64", "ENOSPC", 120}}
	stopped := 0
	for i := range times {
		c := calls[(i+int(seed%uint64(len(calls))))%len(calls)]
		call := failingCall{c.name, c.errno, 1 + random.IntN(c.most)}
		t.Run(call.String(), func(t *testing.T) { // in a folder that is removed before the next
			if call.strike(ctx, t, row, strace) {
				stopped++
			}
		})
		row.Tried(1)
	}
	row.Note("the broker stopped itself %d times", stopped)
}

// failingCall is the nth call of a name in each thread, and the error that it returns instead of being made.
type failingCall struct {
	name, errno string
	nth         int
}

func (c failingCall) String() string {
	return fmt.Sprintf("%s %d fails with %s", c.name, c.nth, c.errno)
}

// strike has the call fail under a broker, and looks for what was acknowledged after the next start. It reports whether the broker ended by itself.
func (c failingCall) strike(ctx context.Context, t *testing.T, row *proof.Proof, strace string) (ended bool) {
	broker := newProcess(t, "ottla.wal.max.bytes=16777216", "log.segment.bytes=1048576")
	plain, args := broker.binary, broker.args
	broker.binary = strace
	broker.args = append([]string{
		"-D", "-f", "-qq", "-o", filepath.Join(t.TempDir(), "trace"), "-e", "trace=" + c.name,
		"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", c.name, c.errno, c.nth), plain,
	}, args...)
	if err := broker.start(); err != nil {
		t.Fatal(err)
	}
	acked, err := produceUntilItFails(ctx, broker)
	if err != nil {
		t.Errorf("%v\n%s", err, broker.output)
	}
	select {
	case <-broker.exited:
		broker.cmd = nil
		ended = true
	default:
		broker.kill()
	}
	broker.binary, broker.args = plain, args
	said := broker.output
	if err := broker.start(); err != nil {
		t.Fatal(err)
	}
	if err := broker.serving(ctx); err != nil {
		row.Lost(int64(acked))
		t.Fatalf("the next start: %v\nbefore:\n%s", err, said)
	}
	if acked > 0 {
		if lost, err := missing(ctx, broker.addr, acked); err != nil || lost > 0 {
			row.Lost(int64(lost))
			t.Errorf("%d of %d acknowledged records are missing, %v\n%s", lost, acked, err, said)
		}
	}
	broker.kill()
	return ended
}

const failingTopic = "failing"

// produceUntilItFails sends records one by one until one is not acknowledged or there are enough, and returns how many were. A broker that
// neither answers nor ends is an error.
func produceUntilItFails(ctx context.Context, broker *process) (acked int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	exited := broker.exited
	go func() { // nobody answers once it has ended
		select {
		case err := <-exited:
			exited <- err
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	waiting, cancelWaiting := context.WithTimeout(ctx, 15*time.Second)
	defer cancelWaiting()
	if broker.serving(waiting) != nil {
		return 0, nil
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.addr), kgo.AllowAutoTopicCreation(), kgo.RecordDeliveryTimeout(3*time.Second), kgo.ProducerLinger(0))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	answers := make(chan error, 1)
	for acked < 200 {
		// Not ProduceSync: what was sent and not answered, an idempotent producer does not give up with its context.
		client.Produce(ctx, &kgo.Record{Topic: failingTopic, Partition: 0, Value: failingValue(acked)}, func(_ *kgo.Record, err error) { answers <- err })
		select {
		case err := <-answers:
			if err != nil {
				return acked, nil
			}
			acked++
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errEnded) {
				return acked, nil
			}
			return acked, ctx.Err()
		case <-time.After(30 * time.Second):
			return acked, fmt.Errorf("record %d is not answered for 30 s, and the broker has not ended", acked)
		}
	}
	return acked, nil
}

// errEnded says that the broker's process has ended.
var errEnded = errors.New("the broker has ended")

func failingValue(n int) []byte {
	return append(fmt.Appendf(nil, "%d ", n), bytes.Repeat([]byte{'x'}, 2000)...)
}

// missing reads the records back and returns how many of the first n are not there, in their order.
func missing(ctx context.Context, addr string, n int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(failingTopic))
	if err != nil {
		return n, err
	}
	defer client.Close()
	found := 0
	for found < n {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return n - found, err
		}
		for r := range fetches.RecordsAll() {
			if found < n && bytes.Equal(r.Value, failingValue(found)) {
				found++
			}
		}
	}
	return 0, nil
}
