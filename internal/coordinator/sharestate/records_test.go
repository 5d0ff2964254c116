package sharestate

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/share"
)

func newTestMachine() *Machine {
	return NewMachine(&Environment{Config: Config{MaxBytes: math.MaxInt64}.WithDefaults(), Partitions: func(base.TopicID) int32 { return 3 }})
}

// kafkasRecords yields what Apache Kafka 4.3.1 wrote to partitions of __share_group_state in the conversation of api.TestShareStateAnswersAsKafka.
func kafkasRecords(tb testing.TB, each func(file string, r coordinator.Record)) {
	tb.Helper()
	files, err := filepath.Glob("testdata/kafka-4.3.1/*.log")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no logs: %v", err)
	}
	for _, file := range files {
		log, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		for len(log) > 0 {
			var batch []byte
			if batch, log, err = record.Next(log); err != nil {
				tb.Fatal(err)
			}
			for r, err := range record.Records(batch, 1<<20) {
				if err != nil {
					tb.Fatal(err)
				}
				each(file, coordinator.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value})
			}
		}
	}
}

// TestKafkasRecords reads what Apache Kafka wrote and writes each record again, which must give the same bytes.
func TestKafkasRecords(t *testing.T) {
	t.Parallel()
	m, last := newTestMachine(), ""
	kinds := map[string]int{}
	kafkasRecords(t, func(file string, r coordinator.Record) {
		if file != last {
			m, last = newTestMachine(), file
		}
		if err := m.Replay(r); err != nil {
			t.Fatalf("%s, offset %d: %v", file, r.Offset, err)
		}
		k := kbin.Reader{Src: r.Key[2:]}
		key := share.Key{Group: k.String(), Topic: k.Uuid(), Partition: k.Int32()}
		s := m.states[key]
		var again []byte
		kind := "tombstone"
		switch {
		case r.Value == nil && s != nil:
			t.Errorf("%s, offset %d: %v is there after its tombstone", file, r.Offset, key)
		case r.Value == nil:
		case r.Key[1] == keySnapshot:
			kind, again = "snapshot", s.encode()
		default:
			kind = "update"
			v := kbin.Reader{Src: r.Value[2:]}
			w := share.Persisted{}
			epoch := v.Int32()
			w.LeaderEpoch, w.Start = base.LeaderEpoch(v.Int32()), base.Offset(v.Int64())
			var err error
			if w.Batches, w.DeliveryCompleteCount, err = readBatches(&v); err != nil {
				t.Fatal(err)
			}
			if len(w.Batches) > 0 {
				kind = "update with batches"
			}
			again = encodeUpdate(epoch, w)
		}
		if !bytes.Equal(again, r.Value) || !bytes.Equal(encodeKey(int16(r.Key[1]), key), r.Key) {
			t.Errorf("%s, offset %d: %s\n read  %x\n wrote %x", file, r.Offset, kind, r.Value, again)
		}
		kinds[kind]++
	})
	for _, kind := range []string{"snapshot", "tombstone", "update", "update with batches"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s among %v", kind, kinds)
		}
	}
}

// FuzzReplay: no record makes the machine panic or lose its account of memory, and what it has can be written down and read again.
func FuzzReplay(f *testing.F) {
	kafkasRecords(f, func(_ string, r coordinator.Record) { f.Add(r.Key, r.Value, r.Value == nil) })
	f.Fuzz(func(t *testing.T, key, value []byte, tombstone bool) {
		if tombstone {
			value = nil
		}
		m := newTestMachine()
		known := share.Key{Group: "g", Topic: base.TopicID{1}, Partition: 1}
		fx := coordinator.NewEffects(m, time.UnixMilli(1), 0)
		if err := m.Initialize(fx, known, 1, 5); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := m.Replay(coordinator.Record{Key: key, Value: value}); err != nil {
				return
			}
		}
		again := newTestMachine()
		var used int64
		for k, s := range m.states {
			used += s.size(k)
			if err := again.Replay(coordinator.Record{Key: encodeKey(keySnapshot, k), Value: s.encode()}); err != nil {
				t.Fatal(err)
			}
			if got := again.states[k]; !reflect.DeepEqual(got.Persisted, s.Persisted) && len(got.Batches)+len(s.Batches) > 0 {
				t.Errorf("%+v, read again %+v", s.Persisted, got.Persisted)
			}
		}
		if m.used != used {
			t.Errorf("used is %d, want %d", m.used, used)
		}
	})
}

// TestOldSnapshotsAreRecordedAgain, so that a share partition at rest does not keep the records of others from being pruned.
func TestOldSnapshotsAreRecordedAgain(t *testing.T) {
	t.Parallel()
	m := newTestMachine()
	now := time.UnixMilli(0)
	at := func(d time.Duration) *coordinator.Effects { return coordinator.NewEffects(m, now.Add(d), 100) }
	cold, hot := share.Key{Group: "g"}, share.Key{Group: "g", Partition: 1}
	fx := coordinator.NewEffects(m, now, 0)
	for _, k := range []share.Key{cold, hot} {
		if err := m.Initialize(fx, k, 1, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.Needed(2); got != 0 {
		t.Errorf("needed from %d, want 0", got)
	}
	fx = at(5 * time.Minute)
	if m.Elapsed(coordinator.Timer{Kind: timerCold}, fx); len(fx.Records()) != 2 || m.Needed(102) != 100 {
		t.Errorf("%d records, needed from %d, want 2 and 100", len(fx.Records()), m.Needed(102))
	}
	if fx = at(20 * time.Minute); len(fx.Records()) != 0 {
		t.Error("recorded before the timer")
	}
	if m.Elapsed(coordinator.Timer{Kind: timerCold}, fx); len(fx.Records()) != 0 {
		t.Errorf("%d records though all are at rest", len(fx.Records()))
	}
}

// TestLimits: past its memory nothing is begun and nothing grows; what frees memory goes on.
func TestLimits(t *testing.T) {
	t.Parallel()
	m := newTestMachine()
	k := share.Key{Group: "g"}
	fx := coordinator.NewEffects(m, time.UnixMilli(0), 0)
	if err := m.Initialize(fx, k, 1, 0); err != nil {
		t.Fatal(err)
	}
	w := share.Persisted{StateEpoch: 1, LeaderEpoch: -1, Start: -1, Batches: []share.StateBatch{{First: 0, Last: 9, State: share.Acknowledged, DeliveryCount: 1}}}
	if err := m.Write(fx, k, w); err != nil {
		t.Fatal(err)
	}
	m.env.Config.MaxBytes = m.used
	more := w
	more.Batches = []share.StateBatch{{First: 20, Last: 29, State: share.Archived, DeliveryCount: 1}}
	if err := m.Write(fx, k, more); err != coordinator.ErrUnavailable { //nolint:errorlint // it is returned as it is
		t.Errorf("a write that needs memory: %v", err)
	}
	if err := m.Initialize(fx, share.Key{Group: "h"}, 1, 0); err != coordinator.ErrUnavailable { //nolint:errorlint // it is returned as it is
		t.Errorf("an initialization: %v", err)
	}
	w.Start = 10
	if err := m.Write(fx, k, w); err != nil || len(m.states[k].Batches) != 0 {
		t.Errorf("a write that frees memory: %v, %d batches left", err, len(m.states[k].Batches))
	}
	m.Release()
	if n := m.env.used.Load(); n != 0 {
		t.Errorf("%d bytes are used after Release", n)
	}
}
