package storage

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// transact appends a batch of a transaction as a client whose coordinator knows of it.
func transact(p *Partition, id base.ProducerID, epoch base.ProducerEpoch, sequence int32) (Appended, error) {
	batch, h := makeBatch(batchSpec{
		records: 2, size: 100, seed: int(id), transactional: true,
		producer: &record.Producer{ID: id, Epoch: epoch, BaseSequence: sequence},
	})
	v, _ := p.Verify(h, true)
	return p.Append(context.Background(), batch, h, AppendOptions{Verified: v})
}

func mustTransact(t *testing.T, p *Partition, id base.ProducerID, epoch base.ProducerEpoch, sequence int32) base.Offset {
	t.Helper()
	at, err := transact(p, id, epoch, sequence)
	if err == nil {
		err = p.e.Wait(t.Context(), at.Sequence)
	}
	if err != nil {
		t.Fatal(err)
	}
	return at.Base
}

func mustMark(t *testing.T, p *Partition, m Marker) base.Offset {
	t.Helper()
	at, err := p.AppendMarker(t.Context(), m, testTime)
	if err == nil {
		err = p.e.Wait(t.Context(), at.Sequence)
	}
	if err != nil {
		t.Fatal(err)
	}
	return at.Base
}

func stable(p *Partition) base.Offset { return p.Offsets().LastStable }

func TestLastStableOffsetIsTheOldestOpenTransaction(t *testing.T) {
	t.Parallel()
	e := open(t, testConfig(newFS(t), testSpec('a', 0, LogConfig{})))
	p := partition(t, e, testID('a', 0))
	mustAppend(t, p, batchSpec{records: 3})
	first := mustTransact(t, p, 1, 0, 0)
	second := mustTransact(t, p, 2, 0, 0)
	mustAppend(t, p, batchSpec{})
	if got := stable(p); got != first || p.Offsets().HighWatermark != 8 {
		t.Fatalf("last stable offset %d of %+v, want %d", got, p.Offsets(), first)
	}
	committed, err := p.Read(0, ReadOptions{MaxBytes: 1 << 20, Upto: LastStable})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := committed.Bytes()
	if next, err := nextOffset(b); err != nil || next != first {
		t.Fatalf("a reader of committed records got up to %d, %v; want %d", next, err, first)
	}
	mustMark(t, p, Marker{ProducerID: 1, ProducerEpoch: 1, TransactionVersion: 2})
	if got := stable(p); got != second {
		t.Fatalf("last stable offset %d, want %d", got, second)
	}
	marker := mustMark(t, p, Marker{ProducerID: 2, ProducerEpoch: 1, Commit: true, TransactionVersion: 2})
	if got := stable(p); got != marker+1 {
		t.Fatalf("last stable offset %d, want %d", got, marker+1)
	}
	all, err := p.Read(0, ReadOptions{MaxBytes: 1 << 20, Upto: LastStable})
	if err != nil {
		t.Fatal(err)
	}
	aborted, err := p.Aborted(all, 0)
	if want := []AbortedTxn{{ProducerID: 1, FirstOffset: first, LastOffset: marker - 1, LastStable: second}}; err != nil || !reflect.DeepEqual(aborted, want) {
		t.Fatalf("aborted: %+v, %v; want %+v", aborted, err, want)
	}
}

// A marker that is late or repeated ends no later transaction (KIP-1228).
func TestMarkersAreFenced(t *testing.T) {
	t.Parallel()
	type step struct {
		begin  base.ProducerEpoch // NoProducerEpoch = it is a marker
		marker Marker
		want   error
	}
	data := func(epoch base.ProducerEpoch) step { return step{begin: epoch} }
	mark := func(epoch base.ProducerEpoch, coordinator int32, version int16, want error) step {
		return step{base.NoProducerEpoch, Marker{ProducerEpoch: epoch, CoordinatorEpoch: coordinator, TransactionVersion: version}, want}
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"version 2, repeated after the end", []step{data(0), mark(1, 0, 2, nil), mark(1, 0, 2, nil)}},
		{"version 2, repeated into the next transaction", []step{data(0), mark(1, 0, 2, nil), data(1), mark(1, 0, 2, ErrInvalidProducerEpoch)}},
		{"version 2, the records' own epoch", []step{data(3), mark(3, 0, 2, ErrInvalidProducerEpoch)}},
		{"version 1, the records' own epoch", []step{data(3), mark(3, 0, 1, nil)}},
		{"version 1, an older epoch", []step{data(3), mark(2, 0, 1, ErrInvalidProducerEpoch)}},
		{"older coordinator", []step{data(0), mark(0, 5, 1, nil), mark(0, 4, 1, ErrCoordinatorFenced)}},
		{"unknown producer", []step{mark(7, 0, 2, nil)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := open(t, testConfig(newFS(t), testSpec('a', 0, LogConfig{})))
			p := partition(t, e, testID('a', 0))
			for i, s := range c.steps {
				if s.begin != base.NoProducerEpoch {
					mustTransact(t, p, 1, s.begin, 0)
					continue
				}
				before := p.Offsets()
				s.marker.ProducerID = 1
				at, err := p.AppendMarker(t.Context(), s.marker, testTime)
				if !errors.Is(err, s.want) {
					t.Fatalf("step %d: %v, want %v", i, err, s.want)
				}
				if err != nil && p.Offsets() != before {
					t.Fatalf("step %d: a refused marker changed %+v to %+v", i, before, p.Offsets())
				}
				if err := e.Wait(t.Context(), at.Sequence); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestTransactionalAppendsAreVerified(t *testing.T) {
	t.Parallel()
	e := open(t, testConfig(newFS(t), testSpec('a', 0, LogConfig{})))
	p := partition(t, e, testID('a', 0))
	spec := batchSpec{transactional: true, producer: &record.Producer{ID: 1}}
	batch, h := makeBatch(spec)
	if _, err := p.Append(t.Context(), batch, h, AppendOptions{}); !errors.Is(err, ErrInvalidTxnState) {
		t.Fatalf("not verified: %v", err)
	}
	late, known := p.Verify(h, false)
	if known {
		t.Fatal("a transaction is known before it began")
	}
	mustMark(t, p, Marker{ProducerID: 1, ProducerEpoch: 0})
	if _, err := p.Append(t.Context(), batch, h, AppendOptions{Verified: late}); !errors.Is(err, ErrInvalidTxnState) {
		t.Fatalf("the transaction ended while it was verified: %v", err)
	}
	mustTransact(t, p, 1, 0, 0)
	spec.producer.BaseSequence = 2
	batch, h = makeBatch(spec)
	if _, known := p.Verify(h, true); !known {
		t.Fatal("the open transaction is not known")
	}
	if _, err := p.Append(t.Context(), batch, h, AppendOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, known := p.Verify(h, true); !known {
		t.Fatal("a batch sent again is to be verified")
	}
	spec = batchSpec{producer: &record.Producer{ID: 1, BaseSequence: 3}}
	batch, h = makeBatch(spec)
	if _, err := p.Append(t.Context(), batch, h, AppendOptions{}); !errors.Is(err, ErrInvalidTxnState) {
		t.Fatalf("outside the transaction: %v", err)
	}
	_, h = makeBatch(batchSpec{transactional: true, producer: &record.Producer{ID: 2, BaseSequence: 4}})
	later, _ := p.Verify(h, false)
	_, h0 := makeBatch(batchSpec{transactional: true, producer: &record.Producer{ID: 2}})
	p.Verify(h0, false)
	if _, err := p.Append(t.Context(), batch, h, AppendOptions{Verified: later}); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Fatalf("the first sequence overtaken: %v", err)
	}
}

// The client goes on as soon as the end of its transaction is decided, so the marker may come while the next one is verified (KIP-890).
func TestAMarkerOfTheFormerTransactionLeavesTheNextVerified(t *testing.T) {
	t.Parallel()
	e := open(t, testConfig(newFS(t), testSpec('a', 0, LogConfig{})))
	p := partition(t, e, testID('a', 0))
	mustTransact(t, p, 1, 0, 0)
	next := batchSpec{transactional: true, producer: &record.Producer{ID: 1, Epoch: 1}}
	batch, h := makeBatch(next)
	v, _ := p.Verify(h, true)
	mustMark(t, p, Marker{ProducerID: 1, ProducerEpoch: 1, Commit: true, TransactionVersion: 2})
	if _, err := p.Append(t.Context(), batch, h, AppendOptions{Verified: v}); err != nil {
		t.Fatal(err)
	}
	mustMark(t, p, Marker{ProducerID: 1, ProducerEpoch: 2, TransactionVersion: 2})
	next.producer.Epoch = 2
	batch, h = makeBatch(next)
	v, _ = p.Verify(h, true)
	mustMark(t, p, Marker{ProducerID: 1, ProducerEpoch: 3, TransactionVersion: 2})
	if _, err := p.Append(t.Context(), batch, h, AppendOptions{Verified: v}); !errors.Is(err, ErrInvalidProducerEpoch) {
		t.Fatalf("after a marker of its own: %v", err)
	}
}

// What a partition knows of transactions is the same after a stop, after a crash, and out of segments.
func TestTransactionsSurvive(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	cfg := testConfig(fs, testSpec('a', 0, LogConfig{SegmentBytes: 2000}))
	e := open(t, cfg)
	p := partition(t, e, testID('a', 0))
	var want []AbortedTxn
	for i := range base.ProducerID(20) {
		first := mustTransact(t, p, i, 0, 0)
		mustAppend(t, p, batchSpec{size: 300})
		mustTransact(t, p, i, 0, 2)
		m := Marker{ProducerID: i, ProducerEpoch: 1, Commit: i%2 == 0, TransactionVersion: 2, CoordinatorEpoch: 9}
		at := mustMark(t, p, m)
		if !m.Commit {
			want = append(want, AbortedTxn{ProducerID: i, FirstOffset: first, LastOffset: at, LastStable: at + 1})
		}
		if i == 13 {
			if err := p.flush(1); err != nil {
				t.Fatal(err)
			}
		}
	}
	openFirst := mustTransact(t, p, 100, 4, 0)
	mustAppend(t, p, batchSpec{})
	check := func(how string) {
		t.Helper()
		if got := stable(p); got != openFirst {
			t.Fatalf("%s: last stable offset %d, want %d", how, got, openFirst)
		}
		s, err := p.Read(0, ReadOptions{MaxBytes: 1 << 20, Upto: LastStable})
		if err != nil {
			t.Fatal(err)
		}
		if end, err := p.endOffset(s); err != nil || end != openFirst {
			t.Fatalf("%s: committed records end at %d, %v; want %d", how, end, err, openFirst)
		}
		if got, err := p.Aborted(s, 0); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s: aborted %+v, %v; want %+v", how, got, err, want)
		}
		part, err := p.Read(want[3].FirstOffset+1, ReadOptions{MaxBytes: 1, AtLeastOne: true, Upto: LastStable})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Aborted(part, want[3].FirstOffset+1); err != nil || !slices.Equal(got, want[3:4]) {
			t.Fatalf("%s: aborted in one batch %+v, %v; want %+v", how, got, err, want[3:4])
		}
		for _, s := range p.Producers() {
			if s.ID == 3 && (s.Epoch != 1 || s.CoordinatorEpoch != 9 || s.TxnStartOffset != base.NoOffset || s.LastSequence != -1) ||
				s.ID == 100 && (s.Epoch != 4 || s.CoordinatorEpoch != -1 || s.TxnStartOffset != openFirst || s.LastSequence != 1) {
				t.Fatalf("%s: producer %+v", how, s)
			}
		}
	}
	reopen := func() {
		cfg.LeaderEpoch++
		e = open(t, cfg)
		p = partition(t, e, testID('a', 0))
	}
	check("live")
	kill(e)
	reopen()
	check("after a crash")
	if err := e.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after a checkpoint")
	closeEngine(t, e)
	reopen()
	check("after a stop")
	kill(e)
	reopen()
	check("after a second crash")
	names, err := fs.List(p.dir())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(names, func(name string) bool {
		_, suffix, _ := segment.ParseFileName(name)
		return suffix == ".txnindex"
	}) {
		t.Fatalf("no transaction index among %v", names)
	}
	mustMark(t, p, Marker{ProducerID: 100, ProducerEpoch: 5, Commit: true, TransactionVersion: 2})
	if o := p.Offsets(); o.LastStable != o.HighWatermark {
		t.Fatalf("offsets %+v after the last end", o)
	}
}
