package wal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// Log is an open wal. All methods are safe for concurrent use.
//
// Lock order: Log.mu is a leaf. It is held for copies of memory and never across I/O, callbacks or channel operations that block.
type Log struct {
	cfg    Config
	medium medium
	block  int64
	logger *slog.Logger

	durable atomic.Uint64 // Sequence, after its committers were told
	failed  chan struct{}
	over    chan struct{} // closed when the wal failed or was closed
	stop    atomic.Bool   // the keeper gives up what it is doing
	wakeW   chan struct{}
	wakeK   chan struct{}
	wakeA   chan struct{} // UnsafeMemory only
	done    sync.WaitGroup
	closing sync.Once

	// Owned by the writer.
	synced     Sequence // newest group on stable storage, where it is and where it ends
	syncedFile uint64
	syncedEnd  int64
	written    Sequence   // newest group written
	writtenIn  uint64     // file it is in
	writtenEnd int64      // where it ends
	headerBuf  []byte     // what newest holds
	newest     mediumFile // see newestNumber
	pacer      pacer

	mu         sync.Mutex // guards the fields below
	err        error
	closed     bool
	writerIdle bool
	markOwed   bool // the newest group has no mark yet
	filling    *group
	queue      []*group // sealed, not yet written
	free       []*group
	waits      map[Sequence]chan struct{}
	untold     committerSet // UnsafeMemory only
	telling    bool         // UnsafeMemory only: a set taken from untold is being told
	space      space
	stats      Stats
}

// group is a commit group in memory. Its buffer is laid out as on disk: header, body, and once it is finished the table and padding.
type group struct {
	seq        Sequence
	buf        []byte
	end        int64 // of the body so far
	runs       []run
	size       int64 // on disk; kept up to date while it fills
	bodies     []any // see Entry.Body
	committers committerSet
}

func (g *group) reset(seq Sequence) {
	g.committers.reset()
	*g = group{seq: seq, buf: g.buf, end: groupHeaderBytes, runs: g.runs[:0], committers: g.committers}
}

func (g *group) add(e Entry, crc uint32) {
	copy(g.buf[g.end:], e.Data)
	g.runs = append(g.runs, run{
		kind: e.Kind, partition: e.Partition, first: e.FirstOffset, last: e.LastOffset, at: g.end, length: int64(len(e.Data)), crc: crc,
	})
	g.end += int64(len(e.Data))
	if e.Body != nil {
		g.bodies = append(g.bodies, e.Body)
	}
}

// never is the sequence of an entry that goes nowhere.
const never = ^Sequence(0)

// Append adds e to the filling group and returns that group's sequence: e is durable once Wait for it returns nil. It copies e.Data and
// never blocks on I/O, so it may be called under the partition's lock; the order of calls is the order of replay.
//
// The reservation must have been made for at least len(e.Data) bytes; one entry of it is used up. c may be nil.
// After the wal failed or was closed the entry goes nowhere, and Wait for the returned sequence says so.
func (l *Log) Append(r *Reservation, e Entry, c Committer) Sequence {
	crc := e.CRC
	if !e.Summed {
		crc = crcOf(e.Data)
	}
	var own *group // an entry too large for the others gets its own group, made outside the lock
	if size := groupSize(int64(len(e.Data)), 1, l.block); size > int64(l.cfg.GroupBytes) {
		own = &group{buf: disk.AlignedBuffer(int(size), int(l.block)), end: groupHeaderBytes}
		own.add(e, crc)
	}
	l.mu.Lock()
	r.use(l, len(e.Data))
	if l.err != nil || l.closed {
		l.mu.Unlock()
		return never
	}
	var g *group
	if own != nil {
		g = l.appendOwnLocked(own)
	} else {
		g = l.appendLocked(e, crc)
	}
	if l.cfg.Mode == UnsafeMemory {
		l.untold.add(c)
	} else {
		g.committers.add(c)
	}
	l.stats.Entries++
	l.stats.EntryBytes += uint64(len(e.Data))
	seq := g.seq
	wake := l.writerIdle
	l.writerIdle = false
	l.mu.Unlock()
	if wake {
		signal(l.wakeW)
	}
	if l.wakeA != nil {
		signal(l.wakeA)
	}
	return seq
}

func (l *Log) appendLocked(e Entry, crc uint32) *group {
	size := groupSize(l.filling.end-groupHeaderBytes+int64(len(e.Data)), len(l.filling.runs)+1, l.block)
	if size > int64(l.cfg.GroupBytes) {
		l.sealLocked()
		size = groupSize(int64(len(e.Data)), 1, l.block)
	}
	g := l.filling
	l.space.grow(g, size)
	g.add(e, crc)
	return g
}

func (l *Log) appendOwnLocked(g *group) *group {
	if len(l.filling.runs) > 0 {
		l.sealLocked()
	}
	g.seq = l.filling.seq
	l.filling.seq++
	l.space.grow(g, groupSize(g.end-groupHeaderBytes, 1, l.block))
	l.queue = append(l.queue, g)
	return g
}

// sealLocked puts the filling group into the writer's queue and begins the next one.
func (l *Log) sealLocked() {
	g := l.filling
	l.queue = append(l.queue, g)
	l.beginLocked(g.seq + 1)
}

// beginLocked makes a new filling group.
func (l *Log) beginLocked(seq Sequence) {
	if n := len(l.free); n > 0 {
		l.filling, l.free = l.free[n-1], l.free[:n-1]
	} else {
		l.filling = &group{buf: disk.AlignedBuffer(l.cfg.GroupBytes, int(l.block))}
	}
	l.filling.reset(seq)
}

// maxFreeGroups is how many group buffers are kept for later: one that fills, one being written, and some for bursts.
const maxFreeGroups = 3

// recycleLocked keeps a written group for later, unless its buffer is of unusual size.
func (l *Log) recycleLocked(g *group) {
	if len(l.free) < maxFreeGroups && len(g.buf) == l.cfg.GroupBytes {
		l.free = append(l.free, g)
	}
}

// signal wakes the owner of a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Durable returns the newest group that is durable in the sense of Config.Mode and whose committers have been told.
func (l *Log) Durable() Sequence { return Sequence(l.durable.Load()) }

// Wait returns nil once the group seq is durable and its committers have been told; an error that wraps ErrFailed if it never will be;
// ErrClosed if the wal was closed before the group was appended; or the cause of ctx's end. Thousands may wait for one group: they
// share one channel.
func (l *Log) Wait(ctx context.Context, seq Sequence) error { return l.WaitFor(ctx, seq, 0) }

// WaitFor is Wait, and returns context.DeadlineExceeded if that takes longer than patience. 0 stands for any time. It costs less than
// a context for each call.
func (l *Log) WaitFor(ctx context.Context, seq Sequence, patience time.Duration) error {
	if seq != never && l.cfg.Mode != UnsafeMemory && Sequence(l.durable.Load()) >= seq {
		return nil
	}
	var late <-chan time.Time
	if patience > 0 {
		timer, ok := timers.Get().(*time.Timer)
		if ok {
			timer.Reset(patience)
		} else {
			timer = time.NewTimer(patience)
		}
		defer func() {
			timer.Stop() // nothing can be received from it afterwards
			timers.Put(timer)
		}()
		late = timer.C
	}
	return l.wait(ctx, seq, late)
}

// timers are stopped timers, to be used again.
var timers sync.Pool

func (l *Log) wait(ctx context.Context, seq Sequence, late <-chan time.Time) error {
	if seq == never {
		select {
		case <-l.over:
			return l.Err()
		case <-late:
			return context.DeadlineExceeded
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if l.cfg.Mode == UnsafeMemory {
		return l.waitTold(ctx, late)
	}
	l.mu.Lock()
	if Sequence(l.durable.Load()) >= seq {
		l.mu.Unlock()
		return nil
	}
	if l.err != nil {
		l.mu.Unlock()
		return l.err
	}
	ch := l.waitChannelLocked(seq)
	l.mu.Unlock()
	select {
	case <-ch:
	case <-l.over:
	case <-late:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if Sequence(l.durable.Load()) >= seq {
		return nil
	}
	return l.Err()
}

// waitChannelLocked returns the channel that is closed when those who wait under the key are to go on.
func (l *Log) waitChannelLocked(key Sequence) chan struct{} {
	ch := l.waits[key]
	if ch == nil {
		ch = make(chan struct{})
		l.waits[key] = ch
	}
	return ch
}

// LiveBytes is how much of MaxBytes holds groups that were not released: the sizes of full files and the used part of the newest one.
func (l *Log) LiveBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.space.liveBytes()
}

// OldestLive is the oldest group that has not been released.
func (l *Log) OldestLive() Sequence {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.space.released
}

// Release says that groups before `before` are no longer needed, because a durable checkpoint holds what they did. Files that hold no
// other groups are used again or removed, by the wal's own goroutine. It does not wait. A lower `before` than earlier does nothing.
func (l *Log) Release(before Sequence) error {
	l.mu.Lock()
	if err := l.stateErrLocked(); err != nil {
		l.mu.Unlock()
		return err
	}
	freed := l.space.release(before)
	if freed {
		l.space.noSpaceUntil = time.Time{}
		l.space.grantWaiters()
	}
	l.mu.Unlock()
	if freed {
		signal(l.wakeK)
	}
	return nil
}

// stateErrLocked says why the wal takes no more entries.
func (l *Log) stateErrLocked() error {
	if l.err != nil {
		return l.err
	}
	if l.closed {
		return ErrClosed
	}
	return nil
}

// Failed is closed when the wal failed; Err says why. A wal that was closed has not failed.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err returns why the wal takes no more entries: an error that wraps ErrFailed, ErrClosed after Close, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// fail ends the wal: nothing that is not yet acknowledged will ever be.
func (l *Log) fail(cause error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	if errors.Is(cause, ErrClosed) {
		l.err = cause
	} else {
		l.err = fmt.Errorf("%w: %w", ErrFailed, cause)
		l.logger.Error("wal failed", "dir", l.cfg.Dir, "err", cause)
		close(l.failed)
	}
	l.stop.Store(true)
	l.space.refuseWaiters(l.err)
	close(l.over)
	l.mu.Unlock()
	signal(l.wakeW)
	signal(l.wakeK)
	if l.wakeA != nil {
		signal(l.wakeA)
	}
}

// Stats returns what the wal has done since Open.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.LiveBytes = l.space.liveBytes()
	s.DiskBytes = l.space.allocated
	s.PendingBytes = l.space.pending
	return s
}

// Close refuses new reservations, writes out what was appended and a mark, and ends the wal's goroutines. It returns nil if everything
// that was appended became durable. Further calls return nil.
func (l *Log) Close() error {
	var err error
	l.closing.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.stop.Store(true)
		l.space.refuseWaiters(ErrClosed)
		l.mu.Unlock()
		signal(l.wakeW)
		signal(l.wakeK)
		l.done.Wait() // the writer's last act is to fail the log with ErrClosed, which ends the others
		l.mu.Lock()
		if !errors.Is(l.err, ErrClosed) {
			err = l.err
		}
		l.mu.Unlock()
		if cerr := errors.Join(l.space.closeFiles(), l.newest.Close()); err == nil {
			err = cerr
		}
	})
	return err
}

// newSalt returns a random number that no client can guess, so that nothing a client wrote can be taken for a group of ours.
func newSalt() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return le.Uint64(b[:])
}
