package storage

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
)

func TestProducerSequencesAreCheckedAsKafkaDoes(t *testing.T) {
	t.Parallel()
	type step struct {
		epoch   base.ProducerEpoch
		first   int32
		records int32
		err     error
		dup     base.Offset // of the original; NoOffset = none
	}
	ok := func(epoch base.ProducerEpoch, first, records int32) step {
		return step{epoch: epoch, first: first, records: records, dup: base.NoOffset}
	}
	fails := func(epoch base.ProducerEpoch, first, records int32, err error) step {
		return step{epoch: epoch, first: first, records: records, err: err, dup: base.NoOffset}
	}
	again := func(epoch base.ProducerEpoch, first, records int32, at base.Offset) step {
		return step{epoch: epoch, first: first, records: records, dup: at}
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"in order", []step{ok(0, 0, 2), ok(0, 2, 1), ok(0, 3, 4)}},
		{"a gap", []step{ok(0, 0, 2), fails(0, 3, 1, ErrOutOfOrderSequence), ok(0, 2, 1)}},
		{"unknown with any sequence", []step{ok(3, 77, 2), ok(3, 79, 1)}},
		{"five in flight are known", []step{
			ok(0, 0, 1), ok(0, 1, 1), ok(0, 2, 2), ok(0, 4, 1), ok(0, 5, 1), ok(0, 6, 1),
			again(0, 1, 1, 1), again(0, 2, 2, 2), again(0, 6, 1, 6), fails(0, 0, 1, ErrOutOfOrderSequence),
		}},
		{"another batch at a known sequence", []step{ok(0, 0, 2), fails(0, 0, 1, ErrOutOfOrderSequence), fails(0, 1, 1, ErrOutOfOrderSequence)}},
		{"stale epoch", []step{ok(2, 0, 1), fails(1, 1, 1, ErrInvalidProducerEpoch), fails(1, 0, 1, ErrInvalidProducerEpoch), ok(2, 1, 1)}},
		{"new epoch begins at 0", []step{ok(2, 0, 1), fails(3, 1, 1, ErrOutOfOrderSequence), ok(3, 0, 1), fails(2, 1, 1, ErrInvalidProducerEpoch)}},
		{"sequences wrap", []step{ok(0, math.MaxInt32-1, 2), ok(0, 0, 1), ok(0, 1, 1)}},
		{"sequences wrap within a batch", []step{ok(0, math.MaxInt32, 3), ok(0, 2, 1), again(0, math.MaxInt32, 3, 0)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			table := producerTable{expiry: time.Hour}
			end := base.Offset(0)
			for i, s := range c.steps {
				h := record.Header{
					ProducerID: 7, ProducerEpoch: s.epoch, BaseSequence: s.first, LastOffsetDelta: s.records - 1,
					BaseOffset: end,
				}
				before, err := table.check(h, Client)
				if !errors.Is(err, s.err) || (err == nil) != (s.err == nil) {
					t.Fatalf("step %d: %v, want %v", i, err, s.err)
				}
				dup := base.NoOffset
				if before != nil {
					dup = before.baseOffset()
				}
				if dup != s.dup {
					t.Fatalf("step %d: duplicate of %d, want %d", i, dup, s.dup)
				}
				if err == nil && before == nil {
					table.apply(logged{Header: h}, 1)
					end += base.Offset(s.records)
				}
			}
		})
	}
}

func TestProducersExpireByTimestampsOfTheLog(t *testing.T) {
	t.Parallel()
	table := producerTable{expiry: time.Hour}
	h := record.Header{ProducerID: 7, BaseSequence: 3, MaxTimestamp: testTime}
	table.apply(logged{Header: h}, 1)
	next := record.Header{ProducerID: 7, BaseSequence: 9, MaxTimestamp: testTime}
	if _, err := table.check(next, Client); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Fatalf("before it expires: %v", err)
	}
	table.apply(logged{Header: record.Header{ProducerID: -1, BaseSequence: -1, MaxTimestamp: testTime + time.Hour.Milliseconds()}}, 1)
	if _, err := table.check(next, Client); err != nil {
		t.Fatalf("after it expired: %v", err)
	}
	table.sweep()
	if len(table.byID) != 0 {
		t.Fatalf("left after the sweep: %v", table.ids())
	}
}

func TestProducersAreBounded(t *testing.T) {
	t.Parallel()
	table := producerTable{expiry: time.Hour}
	for i := range base.ProducerID(maxProducers + 10) {
		table.apply(logged{Header: record.Header{ProducerID: i, BaseOffset: base.Offset(i)}}, 1)
	}
	if n := len(table.byID); n > maxProducers {
		t.Fatalf("%d producers, the bound is %d", n, maxProducers)
	}
	if table.byID[maxProducers+9] == nil || table.byID[0] != nil {
		t.Fatal("the oldest should have gone, the newest stayed")
	}
}

func TestCheckpointKeepsProducers(t *testing.T) {
	t.Parallel()
	table := producerTable{expiry: time.Hour}
	for i := range int32(8) {
		table.apply(logged{Header: record.Header{ProducerID: 7, ProducerEpoch: 2, BaseSequence: i, BaseOffset: base.Offset(i), MaxTimestamp: testTime + int64(i)}}, 0)
		table.apply(logged{Header: record.Header{ProducerID: 9, BaseSequence: i * 2, LastOffsetDelta: 1, BaseOffset: base.Offset(100 + 2*i)}}, 0)
	}
	r := &reader{version: checkpointVersion, b: table.appendTo(nil)}
	got := r.producers()
	got.expiry = table.expiry
	if r.err != nil || len(r.b) != 0 || !reflect.DeepEqual(got, table) {
		t.Fatalf("read back %+v, %v; want %+v", got, r.err, table)
	}
}

func TestEpochsAreFoundAsKafkaDoes(t *testing.T) {
	t.Parallel()
	var c epochCache
	c = c.assign(2, 0).assign(4, 10).assign(4, 12).assign(5, 30).assign(7, 30).assign(6, 40)
	for _, q := range []struct {
		epoch, at base.LeaderEpoch
		end       base.Offset
	}{
		{base.NoLeaderEpoch, base.NoLeaderEpoch, base.NoOffset},
		{1, 1, 0}, {2, 2, 10}, {3, 2, 10}, {4, 4, 30}, {5, 4, 30}, {7, 7, 99}, {8, base.NoLeaderEpoch, base.NoOffset},
	} {
		if at, end := c.end(q.epoch, 99); at != q.at || end != q.end {
			t.Errorf("end of epoch %d = %d, %d; want %d, %d", q.epoch, at, end, q.at, q.end)
		}
	}
	for offset, want := range map[base.Offset]base.LeaderEpoch{0: 2, 9: 2, 10: 4, 29: 4, 30: 7, 1000: 7} {
		if got := c.at(offset); got != want {
			t.Errorf("epoch at %d = %d, want %d", offset, got, want)
		}
	}
	c = c.truncateStart(20)
	if c.at(19) != base.NoLeaderEpoch || c.at(20) != 4 || c[0].Start != 20 {
		t.Errorf("after truncation: %v", c)
	}
}
