package storage

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Records leave the last of the disk to what makes room: deleting a topic goes on when appends are refused, and heals the broker.
func TestFullDiskIsHelpedByDeletingATopic(t *testing.T) {
	t.Parallel()
	const capacity, floor = 6 << 20, 1 << 20
	fs := newFS(t)
	big, other := testSpec('a', 0, LogConfig{SegmentBytes: 300_000}), testSpec('b', 0, LogConfig{SegmentBytes: 300_000})
	cfg := testConfig(fs, big, other)
	cfg.WALMaxBytes, cfg.WALFileBytes, cfg.TailBytes, cfg.MinFreeBytes = 1<<20, 128<<10, 1<<20, floor
	cfg.Logger = testLogger(t)
	e := open(t, cfg)
	fs.SetCapacity(capacity)

	add := func(p *Partition, seed int) error {
		batch, h := makeBatch(batchSpec{size: 4000, seed: seed})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		at, err := p.Append(ctx, batch, h, AppendOptions{})
		if err != nil {
			return err
		}
		return e.Wait(t.Context(), at.Sequence)
	}
	var err error
	for i := 0; err == nil; i++ {
		err = add(partition(t, e, big.ID), i)
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	usage, err := e.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if usage.Usable < floor/2 {
		t.Errorf("%d bytes are left of the disk, want about %d", usage.Usable, floor)
	}
	if err := e.Delete(t.Context(), big.ID.ID); err != nil {
		t.Fatalf("delete a topic on a full disk: %v", err)
	}
	healed := time.Now().Add(20 * time.Second)
	for err = add(partition(t, e, other.ID), 0); errors.Is(err, ErrNoSpace) && time.Now().Before(healed); err = add(partition(t, e, other.ID), 0) {
		<-time.After(10 * time.Millisecond) // the engine looks for room by the clock
	}
	if err != nil {
		t.Fatalf("append after the deletion: %v", err)
	}
}

// A stop on a full disk loses nothing and is no error: what segments have no room for is in the wal, and the next start replays it.
func TestCloseOnAFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	fs := newFS(t)
	spec := testSpec('a', 0, LogConfig{})
	cfg := testConfig(fs, spec)
	var said bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&said, nil))
	e := open(t, cfg)
	const batches = 20
	for i := range batches {
		batch, h := makeBatch(batchSpec{size: 4000, seed: i})
		at, err := partition(t, e, spec.ID).Append(t.Context(), batch, h, AppendOptions{})
		if err == nil {
			err = e.Wait(t.Context(), at.Sequence)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for e.log.Stats().FilesMade < 2 && t.Context().Err() == nil { // one that is cut short would give its room back
		<-time.After(time.Millisecond)
	}
	fs.SetCapacity(fs.UsedBytes())
	if err := e.Close(t.Context()); err != nil {
		t.Fatalf("a stop on a full disk failed: %v", err)
	}
	if !strings.Contains(said.String(), "the disk is full") {
		t.Errorf("it was not said that the disk is full:\n%s", said.String())
	}
	fs.SetCapacity(0)
	cfg.LeaderEpoch++
	e = open(t, cfg)
	if end := partition(t, e, spec.ID).Offsets().HighWatermark; end != batches {
		t.Errorf("the log ends at %d after the next start, want %d", end, batches)
	}
}
