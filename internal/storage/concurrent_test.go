package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
)

// Appends, reads, waits, flushes, retention, checkpoints, deletions and new topics all at once, and then a clean stop.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	const partitions, writers, batches = 4, 3, 150
	fs := newFS(t)
	specs := make([]PartitionSpec, partitions)
	for i := range specs {
		specs[i] = testSpec('a'+byte(i), 0, LogConfig{SegmentBytes: 30_000})
	}
	cfg := testConfig(fs, specs...)
	cfg.TailBytes = 512 << 10
	e := open(t, cfg)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writing, background sync.WaitGroup
	for _, spec := range specs {
		p := partition(t, e, spec.ID)
		for w := range writers {
			writing.Go(func() {
				for i := range batches {
					batch, h := makeBatch(batchSpec{
						size: 500 + i*11, seed: i, producer: &record.Producer{ID: base.ProducerID(w), BaseSequence: int32(i)},
					})
					at, err := p.Append(ctx, batch, h, AppendOptions{})
					if err == nil {
						err = e.Wait(ctx, at.Sequence)
					}
					if err == nil && p.Offsets().HighWatermark <= at.Last {
						err = fmt.Errorf("high watermark %d after waiting for %d", p.Offsets().HighWatermark, at.Last)
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		background.Go(func() { follow(t, p, writers*batches) })
	}
	every := func(d time.Duration, f func() error) {
		background.Go(func() {
			tick := time.NewTicker(d)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					if err := f(); err != nil && ctx.Err() == nil && !errors.Is(err, ErrNoSpace) {
						t.Error(err)
					}
				}
			}
		})
	}
	every(2*time.Millisecond, func() error { return e.Checkpoint(ctx) })
	every(time.Millisecond, func() error { return e.Retain(ctx) })
	every(time.Millisecond, func() error {
		for p := range e.Partitions() {
			p.Producers()
			p.SizeBytes()
			if _, _, err := p.MaxTimestamp(); err != nil && !errors.Is(err, ErrDeleted) {
				return err
			}
		}
		e.flushIdle(time.Now().Add(2 * time.Hour))
		return nil
	})
	life := byte(0)
	every(3*time.Millisecond, func() error {
		life++
		spec := testSpec('z', 0, LogConfig{})
		spec.ID.ID[14] = life
		p, err := e.Create(spec)
		if err != nil {
			return err
		}
		batch, h := makeBatch(batchSpec{size: 3000})
		if _, err := p.Append(ctx, batch, h, AppendOptions{}); err != nil {
			return err
		}
		return e.Delete(ctx, spec.ID.ID)
	})
	writing.Wait()
	stop()
	background.Wait()
	closeEngine(t, e)
	e = open(t, cfg)
	for _, spec := range specs {
		if hw := partition(t, e, spec.ID).Offsets().HighWatermark; hw != writers*batches {
			t.Errorf("%s: high watermark %d, want %d", spec.Topic, hw, writers*batches)
		}
	}
}

// follow reads p as a consumer does, waiting for a watcher, until it has seen n records.
func follow(t *testing.T, p *Partition, n base.Offset) {
	w := NewWatcher()
	defer w.Close()
	w.Watch(p)
	for from := base.Offset(0); from < n; {
		s, err := p.Read(from, ReadOptions{MaxBytes: 20_000, AtLeastOne: true})
		if err != nil {
			t.Error(err)
			return
		}
		if s.Len() == 0 {
			select {
			case <-w.C():
			case <-time.After(30 * time.Second):
				t.Errorf("no signal at offset %d", from)
				return
			}
			continue
		}
		b, err := s.Bytes()
		if err == nil {
			from, err = nextOffset(b)
		}
		if err != nil || len(b) != s.Len() {
			t.Errorf("read %d of %d bytes, %v", len(b), s.Len(), err)
			return
		}
	}
}

// Many partitions with less than a block each share a tail that is too small for them: none waits for another's block to fill.
func TestSmallTailGoesOn(t *testing.T) {
	t.Parallel()
	specs := testSpecs(16)
	cfg := testConfig(newFS(t), specs...)
	cfg.TailBytes = 128 << 10
	e := open(t, cfg)
	start := time.Now()
	var writing sync.WaitGroup
	for _, spec := range specs {
		p := partition(t, e, spec.ID)
		writing.Go(func() {
			for i := range 50 {
				batch, h := makeBatch(batchSpec{size: 3000, seed: i})
				if _, err := p.Append(t.Context(), batch, h, AppendOptions{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	t.Logf("took %v", time.Since(start))
}
