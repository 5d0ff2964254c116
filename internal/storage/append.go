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
	"github.com/ottlaio/ottla/internal/storage/tail"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// spaceWait bounds how long an append waits for wal and tail space before it is refused with ErrNoSpace. It is long enough for
// a disk that is merely slow, and well within a producer's request timeout.
const spaceWait = 5 * time.Second

// Origin tells who appends.
type Origin uint8

// The origins.
const (
	Client Origin = iota // a client's produce request
	// Coordinator is this broker's own coordinator: its batches carry no producer sequences to check.
	Coordinator
)

// AppendOptions qualify an append.
type AppendOptions struct {
	Origin Origin
	// OffsetOfMax is the offset delta, within the batch, of the record with the largest timestamp
	// (record.Validated.OffsetOfMaxTimestamp).
	OffsetOfMax base.Offset
	// ExpectedEpoch refuses the append with ErrStaleLeaderEpoch unless it is the engine's. 0 and below stand for any.
	ExpectedEpoch base.LeaderEpoch
	// Verified is what Partition.Verify gave for a client's batch that may begin a transaction here, once the coordinator knows of it.
	Verified Verification
	// TransactionVersion is that of a marker.
	TransactionVersion int16
}

// Appended tells where a batch went.
type Appended struct {
	Base, Last base.Offset  // offsets of its first and last record
	Sequence   wal.Sequence // durable once Engine.Wait(Sequence) has returned nil
	Duplicate  bool         // the batch was appended before; offsets and Sequence are those of the original
	LogStart   base.Offset
	// AppendTime is the batch's own maximum timestamp, which under LogAppendTime is the time of the append, in ms.
	AppendTime int64
}

// Append orders a validated batch after every earlier one and returns its offsets. It writes the base offset and the
// leader epoch into batch (both lie outside the batch's CRC) and keeps no reference to it.
//
// The batch is durable once Engine.Wait(Sequence) has returned nil, not when Append returns. ctx bounds only the wait for wal
// and tail space, before anything has changed; once ordered, the append happens whatever becomes of ctx.
//
// Errors: ErrNoSpace (retriable, nothing changed), ErrOutOfOrderSequence, ErrInvalidProducerEpoch, ErrInvalidTxnState,
// ErrStaleLeaderEpoch, ErrDeleted, ErrFailed, ErrClosed, ctx's.
func (p *Partition) Append(ctx context.Context, batch []byte, h record.Header, o AppendOptions) (Appended, error) {
	room, err := p.e.reserve(ctx, len(batch))
	if err != nil {
		return Appended{}, fmt.Errorf("append to %v: %w", p, err)
	}
	defer room.release()
	at, err := p.order(batch, h, o, &room)
	if errors.Is(err, errNeedsRoll) {
		if err = room.reserveRoll(ctx); err == nil {
			at, err = p.order(batch, h, o, &room)
		}
	}
	if err != nil {
		return Appended{}, fmt.Errorf("append to %v: %w", p, err)
	}
	return at, nil
}

// errNeedsRoll asks Append for room for a Roll entry, which must be had before the lock is taken.
var errNeedsRoll = errors.New("the segment must be rolled")

// order decides whether the batch may be appended, gives it its offsets, and hands it to the wal and the tail, all under the
// partition's lock. From then on it happens.
func (p *Partition) order(batch []byte, h record.Header, o AppendOptions, room *room) (Appended, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return Appended{}, err
	}
	if o.ExpectedEpoch > 0 && o.ExpectedEpoch != p.e.cfg.LeaderEpoch {
		return Appended{}, fmt.Errorf("%w: %d, the partition is led with %d", ErrStaleLeaderEpoch, o.ExpectedEpoch, p.e.cfg.LeaderEpoch)
	}
	if h.HasProducer() {
		before, err := p.checkProducerLocked(batch, h, o)
		if err != nil {
			return Appended{}, err
		}
		if before != nil {
			if plant.On(plant.DuplicateEarly) {
				before.group = 0
			}
			first := before.baseOffset()
			if plant.On(plant.DuplicateOneOff) {
				first++
			}
			return Appended{
				Base: first, Last: before.lastOffset, Sequence: before.group,
				Duplicate: true, LogStart: p.logStart, AppendTime: before.timestamp,
			}, nil
		}
	}
	roll := p.mustRollLocked(h, len(batch))
	if roll && !room.rollHeld {
		return Appended{}, errNeedsRoll
	}

	h.BaseOffset, h.LeaderEpoch = p.end, p.e.cfg.LeaderEpoch
	record.SetBaseOffset(batch, h.BaseOffset)
	if !plant.On(plant.UnstampedEpoch) {
		record.SetLeaderEpoch(batch, h.LeaderEpoch)
	}
	if roll {
		p.tail.Align(p.endPos)
	}
	pos, err := p.tail.Append(batch)
	if err != nil {
		return Appended{}, fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	room.tailUsed()
	p.e.expectCommitLocked(p)
	var rollGroup wal.Sequence
	if roll {
		rollGroup = p.e.log.Append(&room.roll, wal.Entry{Kind: wal.Roll, Partition: p.id, FirstOffset: p.end, LastOffset: p.end}, p.e)
		room.rollHeld = false
		p.rollLocked(rollGroup)
	}
	spare := payloads.Get().(*[]byte)
	group := p.e.log.Append(&room.wal, p.entryLocked(batch, h, pos, spare), p.e)
	payloads.Put(spare)
	p.e.waiting.Add(int64(len(batch)))
	p.acceptLocked(batch, h, pos, group)
	p.commits = appendCommit(p.commits, commit{group, p.end, p.endPos})
	p.lastAppend = time.Now()
	if plant.On(plant.VisibleEarly) {
		p.hw, p.hwPos = p.end, p.endPos
	}
	return Appended{Base: h.BaseOffset, Last: h.LastOffset(), Sequence: group, LogStart: p.logStart, AppendTime: h.MaxTimestamp}, nil
}

func appendCommit(commits []commit, c commit) []commit {
	if n := len(commits); n > 0 && commits[n-1].group == c.group {
		commits[n-1] = c
		return commits
	}
	return append(commits, c)
}

// mustRollLocked decides as Kafka's LogSegment.shouldRoll does whether the batch begins a new segment.
func (p *Partition) mustRollLocked(h record.Header, size int) bool {
	s := p.activeLocked()
	used := p.endPos - s.start
	if used == 0 {
		return false
	}
	c := &p.config
	switch {
	case used > min(c.SegmentBytes, math.MaxInt32)-int64(size):
		return true
	case int64(p.end)+int64(h.LastOffsetDelta)-int64(s.base) > math.MaxInt32:
		return true // the index holds offsets relative to the base in 32 bits
	case s.indexEntries+1 >= c.SegmentIndex/timeIndexEntrySize:
		return true
	}
	age := time.Duration(h.MaxTimestamp-s.firstTimestamp) * time.Millisecond
	return s.firstTimestamp >= 0 && h.MaxTimestamp >= 0 && age > c.SegmentAge-p.jitter
}

// timeIndexEntrySize is the larger of the sizes of the entries of Kafka's two indexes, in bytes.
const timeIndexEntrySize = 12

// rollLocked begins a segment at the end of the log. The caller has logged it in group.
func (p *Partition) rollLocked(group wal.Sequence) {
	s := newSegmentRef(p.end, p.endPos)
	s.roll = group
	p.segments = append(p.segments, s)
	p.tail.Align(s.start)
	p.changed = true
}

// acceptLocked takes a batch that stands in the tail at pos into the partition's state. Replay uses it too: it decides nothing.
func (p *Partition) acceptLocked(batch []byte, h record.Header, pos int64, group wal.Sequence) {
	size := h.Size()
	s := p.activeLocked()
	if s.firstTimestamp == base.NoTimestamp && pos == s.start {
		s.firstTimestamp = h.MaxTimestamp
	}
	s.maxTimestamp = max(s.maxTimestamp, h.MaxTimestamp)
	if s.sinceIndex > p.config.IndexInterval {
		s.indexEntries++
		s.sinceIndex = 0
	}
	s.sinceIndex += size
	p.index.add(pos, h.BaseOffset, h.MaxTimestamp, group, pos == p.flushedPos)
	if p.e.log != nil || !plant.On(plant.NoProducerReplay) {
		entry := logged{Header: h, pos: pos - s.start}
		if h.Attributes.Control() {
			entry.marker = markerOf(batch)
		}
		if txn, ended := p.producers.apply(entry, group); ended {
			p.endLocked(txn, entry.marker, h.BaseOffset)
		}
	}
	if h.HasProducer() {
		p.e.sawProducer(h.ProducerID)
		if len(p.verifying) > 0 {
			p.settleVerificationLocked(h)
		}
	}
	p.epochs = p.epochs.assign(h.LeaderEpoch, h.BaseOffset)
	p.end = h.LastOffset() + 1
	p.endPos = pos + int64(size)
	p.changed = true
}

// room is what one append has reserved.
type room struct {
	e        *Engine
	tail     int // bytes acquired from the pool
	wal      wal.Reservation
	roll     wal.Reservation
	rollHeld bool
}

// reserve waits for space in the tail and in the wal, before anything is decided: this is where back-pressure waits.
func (e *Engine) reserve(ctx context.Context, n int) (room, error) {
	if err := e.usable(); err != nil {
		return room{}, err
	}
	if err := e.acquireTail(ctx, n); err != nil {
		return room{}, err
	}
	r, err := e.reserveWAL(ctx, n)
	if err != nil {
		e.pool.Unacquire(n)
		return room{}, err
	}
	return room{e: e, tail: n, wal: r}, nil
}

// acquireTail takes n bytes of the tail's budget, waiting for flushes to free them.
func (e *Engine) acquireTail(ctx context.Context, n int) error {
	if e.pool.TryAcquire(n) {
		return nil
	}
	bounded, cancel := context.WithTimeoutCause(ctx, e.patience(), ErrNoSpace)
	defer cancel()
	err := e.pool.Acquire(bounded, n)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tail.ErrClosed):
		return e.stopped()
	case errors.Is(err, ErrNoSpace):
		return fmt.Errorf("%w: the memory for new records is full", ErrNoSpace)
	}
	return err
}

// reserveWAL takes room for an entry with n bytes of payload.
func (e *Engine) reserveWAL(ctx context.Context, n int) (wal.Reservation, error) {
	if e.diskFull.Load() { // then the wal will not empty soon
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, e.patience(), wal.ErrFull)
		defer cancel()
	}
	r, err := e.log.Reserve(ctx, n)
	if errors.Is(err, wal.ErrFull) {
		e.kickCheckpoint()
	}
	return r, e.walError(err)
}

// patience is how long an append waits for room.
func (e *Engine) patience() time.Duration {
	if e.diskFull.Load() {
		return fullDiskWait
	}
	return spaceWait
}

// walError gives errors of the wal their meaning here.
func (e *Engine) walError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrFull):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, wal.ErrFailed):
		return fmt.Errorf("%w: %w", ErrFailed, err)
	case errors.Is(err, wal.ErrClosed):
		return e.stopped()
	}
	return err
}

// reserveRoll takes room for a Roll entry.
func (r *room) reserveRoll(ctx context.Context) (err error) {
	r.roll, err = r.e.reserveWAL(ctx, 0)
	r.rollHeld = err == nil
	return err
}

// tailUsed notes that the tail has taken its bytes.
func (r *room) tailUsed() { r.tail = 0 }

// release gives back what was not used.
func (r *room) release() {
	if r.tail > 0 {
		r.e.pool.Unacquire(r.tail)
		r.tail = 0
	}
	r.wal.Cancel()
	if r.rollHeld {
		r.roll.Cancel()
		r.rollHeld = false
	}
}
