package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// compactChunk is how much a round collects before it writes.
const compactChunk = 1 << 20

// batchKeys are the keys of a batch's records and their offsets. Null keys have none.
type batchKeys struct {
	hashes  []keyHash
	offsets []base.Offset
}

// errUncleanable says that a round cannot be made, now and until something changes that only an operator can change.
var errUncleanable = errors.New("the log cannot be compacted")

// round is one compaction of a partition, as Kafka's Cleaner makes it: it notes the newest offset of each key in the dirty part of the log,
// as far as the memory for keys goes, and writes every segment up to there anew without the records that have a newer one. It owns its
// segments until they are swapped in, and has nothing to undo when it ends early.
type round struct {
	p     *Partition
	ctx   context.Context // of this round: every I/O looks at it
	pace  *pacer
	job   cleanJob
	keys  *keyMap
	batch batchKeys // of the batch that is being visited
	scan  segment.Scanner
	txns  txnRound
	last  map[base.ProducerID]lastOfProducer
	upto  base.Offset // keys holds every record from job.first up to here
	upper base.Offset // the batch that ends here stays, if empty, so that the end of the cleaned part can be told
	now   int64       // ms

	out       *segment.Segment // that is being written
	outs      []*segment.Segment
	outFirst  base.Offset // base of the next one
	data      []byte
	metas     []segment.BatchMeta
	changed   bool        // something was dropped or changed in the group
	forgotten base.Offset // highest offset of a tombstone or marker that was dropped, plus one

	read, written int64
}

// run makes the round. Errors: ctx's cause; errUncleanable; what IsNoSpace knows; of damage; of the file system.
func (r *round) run() error {
	p := r.p
	if err := p.sweepStrays(); err != nil {
		return err
	}
	aborted, err := p.collectAborted(r.job.segments[0].base)
	if err != nil {
		return err
	}
	r.txns = txnRound{aborted: aborted, committed: map[base.ProducerID]bool{}}
	r.last = p.activeProducers()
	if err := r.mapKeys(); err != nil {
		return err
	}
	r.upper = r.job.bound
	groups := r.job.groups(r.upto)
	for i, g := range groups {
		cleanedTo := base.NoOffset
		if i == len(groups)-1 {
			cleanedTo = r.upto
			if plant.On(plant.CleanedTooFar) {
				cleanedTo = p.Offsets().LogEnd
			}
		}
		if err := r.clean(g, cleanedTo); err != nil {
			r.discard()
			return err
		}
	}
	return nil
}

// mapKeys reads the dirty part.
func (r *round) mapKeys() error {
	r.upto = r.job.first
	full := errors.New("full")
	for _, ref := range r.job.segments {
		if ref.seg == nil || ref.end <= r.job.first {
			continue
		}
		err := ref.seg.Scan(r.ctx, &r.scan, r.pace.wait, func(batch []byte, h record.Header) error {
			if h.LastOffset() < r.job.first {
				return nil
			}
			if !h.Attributes.Control() && h.RecordCount > 0 && (!h.Attributes.Transactional() || r.txns.aborted.of(h) == nil) {
				room, err := r.mapBatch(batch)
				if err != nil {
					return fmt.Errorf("%w: batch at offset %d: %w", errUncleanable, h.BaseOffset, err)
				}
				if !room {
					return full
				}
			}
			r.upto = h.LastOffset() + 1
			return nil
		})
		if errors.Is(err, full) {
			if r.upto == r.job.first {
				return fmt.Errorf("%w: the keys of one batch after offset %d need more than log.cleaner.dedupe.buffer.size", errUncleanable, r.upto)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	r.upto = r.job.bound
	return nil
}

// mapBatch notes the keys of a batch. It returns false if there is no room for all of them.
func (r *round) mapBatch(batch []byte) (room bool, err error) {
	keys := &r.batch
	keys.hashes, keys.offsets = keys.hashes[:0], keys.offsets[:0]
	err = record.Keys(batch, func(offset base.Offset, key []byte) bool {
		if key != nil && offset >= r.job.first {
			keys.hashes, keys.offsets = append(keys.hashes, r.keys.hash(key)), append(keys.offsets, offset)
		}
		return true
	})
	if err != nil {
		return false, err
	}
	r.keys.warm(keys.hashes)
	for i, h := range keys.hashes {
		if !r.keys.put(h, keys.offsets[i]) {
			return false, nil
		}
	}
	return true, nil
}

// clean writes the segments of a group anew and swaps them in.
func (r *round) clean(group []dirtySegment, cleanedTo base.Offset) error {
	r.outFirst, r.outs, r.out, r.changed = group[0].base, nil, nil, len(group) > 1
	for _, ref := range group {
		if ref.seg == nil {
			continue
		}
		r.read += ref.seg.Size()
		if err := ref.seg.Scan(r.ctx, &r.scan, r.pace.wait, r.filter); err != nil {
			return err
		}
	}
	if err := r.finish(); err != nil {
		return err
	}
	if !r.changed { // it is as it was
		r.discard()
		return r.p.logSwap(r.ctx, swap{cleanedTo: cleanedTo, forgotten: r.forgotten})
	}
	err := r.p.logSwap(r.ctx, swap{old: group, fresh: r.outs, cleanedTo: cleanedTo, forgotten: r.forgotten})
	if err == nil {
		for _, s := range r.outs {
			r.written += s.Size()
		}
		r.outs = nil
	}
	return err
}

// discard removes what was written for nothing.
func (r *round) discard() {
	for _, s := range r.outs {
		if err := s.Remove(); err != nil {
			r.p.e.cfg.Logger.Warn("unlink an unused segment", "topic", r.p.topic, "partition", r.p.id.Partition, "offset", s.Base(), "err", err)
		}
	}
	r.outs, r.out, r.data, r.metas = nil, nil, r.data[:0], r.metas[:0]
}

// filter takes a batch over, or what is left of it.
func (r *round) filter(batch []byte, h record.Header) error {
	var m marker
	control := h.Attributes.Control()
	if control {
		m = markerOf(batch)
	}
	discard := r.txns.discards(h, m)
	horizonPassed := h.Attributes.DeleteHorizon() && h.BaseTimestamp <= r.now
	if plant.On(plant.TombstoneEarly) {
		horizonPassed = true
	}
	last, active := r.last[h.ProducerID]
	o := record.FilterOptions{
		Horizon:   r.now + r.job.config.DeleteRetention.Milliseconds(),
		KeepEmpty: h.HasProducer() && active && last.holds(h) || h.LastOffset()+1 == r.upper,
	}
	switch {
	case control:
		if !discard || !horizonPassed {
			o.Keep, o.MarkHorizon = keepAll, discard
		}
	case !discard:
		hashes := r.batch.hashes[:0]
		o.Look = func(key []byte) { hashes = append(hashes, r.keys.hash(key)) }
		at := -1 // of the record in hashes
		o.Keep = func(offset base.Offset, key, value []byte) bool {
			if at++; at == 0 {
				r.keys.warm(hashes)
				r.batch.hashes = hashes
			}
			if offset >= r.upto {
				return true
			}
			if key == nil {
				return false // Kafka drops it too: it was written before the topic was compacted
			}
			newest := r.keys.newest(hashes[at])
			if plant.On(plant.DropNewest) && newest == offset && offset%7 == 3 {
				return false
			}
			if offset < newest {
				return false
			}
			if value == nil && horizonPassed {
				r.forgotten = max(r.forgotten, offset+1)
				return false
			}
			return true
		}
	}
	before := len(r.data)
	data, done, err := record.Filter(r.data, batch, o)
	if err != nil {
		return fmt.Errorf("%w: batch at offset %d: %w", errUncleanable, h.BaseOffset, err)
	}
	r.data = data
	r.changed = r.changed || !done.Same
	if control && done.Kept == 0 {
		r.forgotten = max(r.forgotten, h.LastOffset()+1)
	}
	size := len(data) - before
	if size == 0 {
		return nil
	}
	kept, err := record.ParseHeader(data[before:])
	if err != nil {
		return err
	}
	meta := segment.BatchMeta{
		FirstOffset: kept.BaseOffset, LastOffset: kept.LastOffset(), Size: int32(size),
		MaxTimestamp: kept.MaxTimestamp, OffsetOfMax: kept.LastOffset(),
	}
	if m.ends && !m.commit {
		if txn := r.txns.aborted.of(h); txn != nil && txn.seen {
			meta.Aborted = &txn.AbortedTxn
		}
	}
	return r.emit(meta)
}

func keepAll(base.Offset, []byte, []byte) bool { return true }

// emit hands the batch that was appended to r.data on.
func (r *round) emit(meta segment.BatchMeta) error {
	if r.out != nil && (r.out.Full() || !r.out.Fits(meta.LastOffset, int64(len(r.data)))) {
		// It cannot be expressed any more, which only happens where batches have grown.
		batch := r.data[len(r.data)-int(meta.Size):]
		r.data = r.data[:len(r.data)-len(batch)]
		if err := r.finish(); err != nil {
			return err
		}
		r.data = append(r.data, batch...)
		r.outFirst = meta.FirstOffset
	}
	r.metas = append(r.metas, meta)
	if r.out == nil {
		out, err := r.p.createCompacted(r.outFirst)
		if err != nil {
			return err
		}
		r.out, r.outs = out, append(r.outs, out)
	}
	if len(r.data) < compactChunk {
		return nil
	}
	return r.flush()
}

// flush writes what was collected.
func (r *round) flush() error {
	if len(r.data) == 0 {
		return nil
	}
	if err := r.p.e.checkRoom(int64(len(r.data))); err != nil {
		return err
	}
	if err := r.pace.wait(r.ctx, int64(len(r.data))); err != nil {
		return err
	}
	err := r.out.Write(r.data, r.metas)
	r.data, r.metas = r.data[:0], r.metas[:0]
	if err != nil {
		return compactWrite{err}
	}
	return nil
}

// finish seals the segment that is being written.
func (r *round) finish() error {
	if r.out == nil {
		return nil
	}
	if err := r.flush(); err != nil {
		return err
	}
	err := r.out.Seal()
	r.out = nil
	if err != nil {
		return compactWrite{err}
	}
	return nil
}

// compactWrite is an error of writing. As everywhere such an error ends the engine, unless the disk is full.
type compactWrite struct{ error }

func (e compactWrite) Unwrap() error { return e.error }

// pacer holds compaction back: to so many bytes a second, and while appends wait for memory.
type pacer struct {
	e     *Engine
	limit func() float64 // bytes a second
	began time.Time
	bytes int64
}

func (c *pacer) wait(ctx context.Context, n int64) error {
	for c.e.pool.Waiting() > 0 {
		if err := pause(ctx, pressureWait); err != nil {
			return err
		}
	}
	if limit := c.limit(); limit < math.MaxInt64 {
		now := time.Now()
		due := c.began.Add(time.Duration(float64(c.bytes) / limit * float64(time.Second)))
		if now.Sub(due) > time.Second {
			c.began, c.bytes = now, 0
		}
		if err := pause(ctx, due.Sub(now)); err != nil {
			return err
		}
	}
	c.bytes += n
	return context.Cause(ctx)
}

// noSpace reports that a round was stopped by a full disk, and may be tried again.
func noSpace(err error) bool { return errors.Is(err, ErrNoSpace) || disk.IsNoSpace(err) }
