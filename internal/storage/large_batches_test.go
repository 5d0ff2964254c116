package storage

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

// TestLargeBatchesSurviveFlushesRollsAndKills appends batches of up to 200 KB and small ones, in segments of 700 KB, and flushes, makes
// room in the tail, checkpoints, kills and opens again at random. Small batches go through the tail, the wal and the segment as large ones
// do not: large ones straddle slabs and blocks, are written from where they lie, and their checksum in the wal is made of their own.
func TestLargeBatchesSurviveFlushesRollsAndKills(t *testing.T) {
	t.Parallel()
	const seed = 7
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 700_000})
	cfg := testConfig(newFS(t), spec)
	cfg.WALMaxBytes, cfg.WALFileBytes = 32<<20, 4<<20
	e := open(t, cfg)
	p := partition(t, e, spec.ID)
	type appended struct {
		base base.Offset
		spec batchSpec
	}
	var all []appended
	check := func() {
		t.Helper()
		from := all[random.IntN(len(all))].base
		got, err := readAll(p, from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			if a.base < from {
				continue
			}
			const covered = 21 // offset, length and epoch come before what the batch's checksum covers
			want, _ := makeBatch(a.spec)
			if len(got) < len(want) || !bytes.Equal(got[covered-4:len(want)], want[covered-4:]) {
				t.Fatalf("the batch at offset %d is not what was appended", a.base)
			}
			got = got[len(want):]
		}
		if len(got) > 0 {
			t.Fatalf("%d bytes too many", len(got))
		}
	}
	for i := range 150 {
		s := batchSpec{seed: i, records: 1 + random.IntN(3), size: 1 + random.IntN(300)}
		if random.IntN(3) > 0 {
			s.size = 1 + random.IntN(200_000/s.records)
		}
		all = append(all, appended{mustAppend(t, p, s).Base, s})
		var err error
		switch random.IntN(8) {
		case 0:
			err = p.flush(1)
		case 1:
			err = p.flush(flushBlock)
		case 2:
			p.forgetFlushed()
			p.shrinkTail()
		case 3:
			err = e.Checkpoint(t.Context())
		case 4:
			if random.IntN(3) > 0 {
				break
			}
			kill(e)
			cfg.LeaderEpoch++
			e = open(t, cfg)
			p = partition(t, e, spec.ID)
		case 5:
			check()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	check()
	if err := e.Scrub(t.Context(), ScrubOptions{}); err != nil {
		t.Fatal(err)
	}
	if damage := e.Damage(); len(damage) > 0 {
		t.Fatalf("damage: %+v", damage)
	}
}
