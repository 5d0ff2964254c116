package coordinator_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/coordtest"
)

// tally is a state machine that adds numbers up. Its timers add one.
type tally struct {
	sum      int64
	loaded   bool
	released bool
	kept     []*coordinator.Call[int64]
}

func (m *tally) Replay(r coordinator.Record) error {
	switch {
	case string(r.Key) == "unknown":
		return fmt.Errorf("%w: %q", coordinator.ErrUnknownRecord, r.Key)
	case len(r.Value) != 8:
		return errors.New("not a number")
	}
	m.sum += int64(binary.BigEndian.Uint64(r.Value))
	return nil
}

func (m *tally) Loaded(fx *coordinator.Effects) { m.loaded = true }

func (m *tally) Elapsed(t coordinator.Timer, fx *coordinator.Effects) {
	m.add(fx, 1)
	for _, c := range m.kept {
		c.Answer(fx, m.sum)
	}
	m.kept = nil
}

func (m *tally) Snapshot(emit func(key, value []byte)) {
	emit([]byte("n"), binary.BigEndian.AppendUint64(nil, uint64(m.sum)))
}

func (m *tally) add(fx *coordinator.Effects, n int64) {
	fx.Append([]byte("n"), binary.BigEndian.AppendUint64(nil, uint64(n)))
}

type fixture struct {
	*coordinator.Runtime[*tally]
	topic    *coordtest.Topic
	machines []*tally
}

func start(t *testing.T, topic *coordtest.Topic) *fixture {
	t.Helper()
	return startWith(t, topic, coordinator.Snapshots{})
}

func startWith(t *testing.T, topic *coordtest.Topic, snapshots coordinator.Snapshots) *fixture {
	t.Helper()
	f := &fixture{topic: topic}
	r, err := coordinator.New(coordinator.Config[*tally]{
		Name: "__tally", Topic: topic,
		New: func(int32) *tally {
			m := &tally{}
			f.machines = append(f.machines, m)
			return m
		},
		Release:   func(m *tally) { m.released = true },
		Logger:    slog.New(slog.DiscardHandler),
		Snapshots: snapshots,
		Shadow:    func(int32) *tally { return &tally{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Runtime = r
	return f
}

func (f *fixture) add(n int64) *coordinator.Call[int64] {
	return coordinator.Submit(f.Runtime, 0, func(m *tally, fx *coordinator.Effects, c *coordinator.Call[int64]) {
		m.add(fx, n)
		c.Answer(fx, m.sum)
	})
}

func (f *fixture) read() *coordinator.Call[int64] {
	return coordinator.Submit(f.Runtime, 0, func(m *tally, fx *coordinator.Effects, c *coordinator.Call[int64]) { c.Answer(fx, m.sum) })
}

func (f *fixture) keep() *coordinator.Call[int64] {
	return coordinator.Submit(f.Runtime, 0, func(m *tally, _ *coordinator.Effects, c *coordinator.Call[int64]) { m.kept = append(m.kept, c) })
}

func wantAnswer(t *testing.T, c *coordinator.Call[int64], want int64) {
	t.Helper()
	if got, err := c.Wait(t.Context()); err != nil || got != want {
		t.Fatalf("answer %d, %v; want %d", got, err, want)
	}
}

func wantError(t *testing.T, c *coordinator.Call[int64], want error) {
	t.Helper()
	if got, err := c.Wait(t.Context()); !errors.Is(err, want) {
		t.Fatalf("answer %d, %v; want %v", got, err, want)
	}
}

// wantWaiting checks that a call is not answered although everything has come to rest.
func wantWaiting(t *testing.T, c *coordinator.Call[int64]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if got, err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("answer %d, %v; want none yet", got, err)
	}
}

func TestNothingStartsBeforeItsFirstUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(50))
		defer f.Close()
		all := coordinator.SubmitAll(f.Runtime, func(m *tally, fx *coordinator.Effects, c *coordinator.Call[int64]) { c.Answer(fx, m.sum) })
		if len(all) != 0 || len(f.machines) != 0 {
			t.Fatalf("%d calls, %d state machines; want none of an empty topic", len(all), len(f.machines))
		}
		wantAnswer(t, f.add(1), 1)
		synctest.Wait()
		if len(f.machines) != 1 {
			t.Fatalf("%d state machines, want 1", len(f.machines))
		}
	})
}

func TestStateIsReplayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		for i := range int64(10) {
			wantAnswer(t, f.add(i), i*(i+1)/2)
		}
		f.Drop(0)
		synctest.Wait()
		if !f.machines[0].released {
			t.Error("the state that was given up is not released")
		}
		wantAnswer(t, f.read(), 45)
		f.Close()
		again := start(t, f.topic)
		defer again.Close()
		if all := coordinator.SubmitAll(again.Runtime, func(m *tally, fx *coordinator.Effects, c *coordinator.Call[int64]) { c.Answer(fx, m.sum) }); len(all) != 1 {
			t.Fatalf("%d calls, want 1", len(all))
		} else {
			wantAnswer(t, all[0], 45)
		}
	})
}

func TestEventsThatQueueUpAreOneBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		defer f.Close()
		wantAnswer(t, f.add(0), 0)
		resume := f.topic.Of(0).Stall()
		f.Drop(0)
		synctest.Wait()
		var calls []*coordinator.Call[int64]
		for range 100 {
			calls = append(calls, f.add(1)) // wait for the replay
		}
		resume()
		for i, c := range calls {
			wantAnswer(t, c, int64(i+1))
		}
		if n := f.topic.Of(0).Batches(); n != 2 {
			t.Errorf("%d batches, want 2", n)
		}
	})
}

func TestAnswersWaitForTheRecordsThatTheyRestOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		defer f.Close()
		wantAnswer(t, f.add(1), 1)
		f.topic.Of(0).Hold()
		write, read := f.add(1), f.read()
		wantWaiting(t, write)
		wantWaiting(t, read)
		f.topic.Of(0).Release()
		wantAnswer(t, write, 2)
		wantAnswer(t, read, 2)
	})
}

func TestAnswersAfterReloadWaitForWhatTheLastStateAppended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		defer f.Close()
		f.topic.Of(0).Hold()
		write := f.add(1)
		wantWaiting(t, write)
		f.Drop(0)
		read := f.read() // sees the record, which is not durable
		wantWaiting(t, read)
		f.topic.Of(0).Release()
		wantAnswer(t, read, 1)
	})
}

func TestFailedAppendGivesUpTheState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		defer f.Close()
		wantAnswer(t, f.add(1), 1)
		kept := f.keep()
		wantWaiting(t, kept)
		f.topic.Of(0).Refuse(1)
		wantError(t, f.add(5), coordinator.ErrNotCoordinator)
		wantError(t, kept, coordinator.ErrNotCoordinator)
		wantAnswer(t, f.read(), 1)
		wantAnswer(t, f.add(1), 2)
	})
}

func TestFailedLogGivesUpTheState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		defer f.Close()
		wantAnswer(t, f.add(1), 1)
		f.topic.Of(0).Hold()
		write := f.add(1)
		wantWaiting(t, write)
		f.topic.Of(0).Break()
		wantError(t, write, coordinator.ErrNotCoordinator)
		wantError(t, f.read(), coordinator.ErrNotCoordinator) // it would rest on the lost record
		wantError(t, f.add(1), coordinator.ErrNotCoordinator)
	})
}

func TestLoadingAnswersThatItDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		defer f.Close()
		wantAnswer(t, f.add(1), 1)
		resume := f.topic.Of(0).Stall()
		f.Drop(0)
		early := f.read()
		wantWaiting(t, early)
		time.Sleep(time.Second)
		wantError(t, f.read(), coordinator.ErrLoading)
		resume()
		// The one that came early is answered too, at the end of the load or before it.
		if _, err := early.Wait(t.Context()); err != nil && !errors.Is(err, coordinator.ErrLoading) {
			t.Fatal(err)
		}
		synctest.Wait()
		wantAnswer(t, f.read(), 1)
	})
}

func TestFailedLoadIsTriedAgainAfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		defer f.Close()
		wantAnswer(t, f.add(1), 1)
		f.topic.Of(0).FailReads(coordtest.ErrInjected)
		f.Drop(0)
		synctest.Wait()
		wantError(t, f.read(), coordinator.ErrNotCoordinator)
		f.topic.Of(0).FailReads(nil)
		wantError(t, f.read(), coordinator.ErrNotCoordinator)
		time.Sleep(2 * time.Second)
		wantAnswer(t, f.read(), 1)
		for i, m := range f.machines[:len(f.machines)-1] {
			if !m.released {
				t.Errorf("state %d is not released", i)
			}
		}
	})
}

func TestPartitionsThatAreNotLedHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		topic := coordtest.NewTopic(1)
		f := start(t, topic)
		defer f.Close()
		topic.Remove()
		wantError(t, f.read(), coordinator.ErrNotCoordinator)
		if p := f.PartitionFor("g"); p != -1 {
			t.Errorf("partition %d of a topic that does not exist", p)
		}
		if err := f.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, f.add(1), 1)
		topic.Offline(0, true)
		f.Drop(0)
		synctest.Wait()
		wantError(t, f.read(), coordinator.ErrNotCoordinator)
		topic.Offline(0, false)
		time.Sleep(2 * time.Second)
		wantAnswer(t, f.read(), 1)
		wantError(t, coordinator.Submit(f.Runtime, 7, func(*tally, *coordinator.Effects, *coordinator.Call[int64]) {}), coordinator.ErrNotCoordinator)
	})
}

func TestTimersFireInOrderOfTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		defer f.Close()
		set := func(name string, d time.Duration) {
			coordinator.Submit(f.Runtime, 0, func(_ *tally, fx *coordinator.Effects, c *coordinator.Call[int64]) {
				fx.SetTimer(coordinator.Timer{Group: name}, d)
				c.Answer(fx, 0)
			})
		}
		set("a", time.Second)
		set("b", 2*time.Second)
		set("c", 3*time.Second)
		set("a", 10*time.Second) // moved
		coordinator.Submit(f.Runtime, 0, func(_ *tally, fx *coordinator.Effects, c *coordinator.Call[int64]) {
			fx.CancelTimer(coordinator.Timer{Group: "c"})
			fx.CancelTimer(coordinator.Timer{Group: "not set"})
			c.Answer(fx, 0)
		})
		kept := f.keep()
		time.Sleep(1999 * time.Millisecond)
		wantAnswer(t, f.read(), 0)
		wantAnswer(t, kept, 1) // at 2 s
		time.Sleep(7 * time.Second)
		wantAnswer(t, f.read(), 1)
		time.Sleep(2 * time.Second)
		wantAnswer(t, f.read(), 2)
	})
}

func TestPanicGivesUpTheState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(1))
		defer f.Close()
		wantAnswer(t, f.add(1), 1)
		bad := coordinator.Submit(f.Runtime, 0, func(m *tally, fx *coordinator.Effects, c *coordinator.Call[int64]) {
			m.add(fx, 100)
			c.Answer(fx, m.sum)
			panic("a fault in the state machine")
		})
		wantError(t, bad, coordinator.ErrNotCoordinator)
		wantAnswer(t, f.read(), 1)
	})
}

func TestCloseEndsWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, coordtest.NewTopic(2))
		kept := f.keep()
		wantWaiting(t, kept)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, kept, coordinator.ErrClosed)
		wantError(t, f.read(), coordinator.ErrClosed)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRecordsThatCannotBeReadFailTheLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		topic := coordtest.NewTopic(2)
		for p, key := range []string{"unknown", "broken"} {
			if err := topic.Of(int32(p)).Put(t.Context(), []byte(key), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		f := start(t, topic)
		defer f.Close()
		wantAnswer(t, f.read(), 0)
		wantError(t, coordinator.Submit(f.Runtime, 1, func(m *tally, fx *coordinator.Effects, c *coordinator.Call[int64]) {
			c.Answer(fx, m.sum)
		}), coordinator.ErrNotCoordinator)
	})
}

// TestPartitionForIsKafkas holds the hash to java.lang.String.hashCode.
func TestPartitionForIsKafkas(t *testing.T) {
	t.Parallel()
	f := start(t, coordtest.NewTopic(50))
	defer f.Close()
	for group, want := range map[string]int32{
		"": 0, "g": 3, "test": 48, "my-group": 12, "ÄÖÜ": 10, "😀": 49,
		"polygenelubricants": 0, // its hash is the smallest number there is
	} {
		if got := f.PartitionFor(group); got != want {
			t.Errorf("PartitionFor(%q) = %d, want %d", group, got, want)
		}
	}
}

func TestMaintainLoadsPartitionsWithRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		topic := coordtest.NewTopic(3)
		if err := topic.Of(1).Put(t.Context(), []byte("n"), binary.BigEndian.AppendUint64(nil, 5)); err != nil {
			t.Fatal(err)
		}
		f := start(t, topic)
		defer f.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- coordinator.Maintain(ctx, f.Runtime, time.Minute) }()
		time.Sleep(90 * time.Second)
		synctest.Wait()
		if len(f.machines) != 1 || f.machines[0].sum != 5 {
			t.Errorf("%d state machines, want one with sum 5", len(f.machines))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
