package wal

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// file is a wal file that exists.
type file struct {
	number uint64
	size   int64
	f      mediumFile // open while it is current or next
	salt   uint64
	first  Sequence
	last   Sequence // of a live file that is full
}

// space accounts for the room of a wal. Log.mu guards all of it.
//
// Room is zero-filled file: what is granted is there, so that writing a group cannot run out of disk. Groups are placed one after the
// other; one that does not fit into the rest of a file goes to the next file, and wastes less than its own size. With M the largest
// group that may come, files with R1, R2... bytes left therefore hold every sequence of groups whose sizes sum up to at most
//
//	max(0, R1-M) + max(0, R2-M) + ...
//
// (if a group fits nowhere, each file was filled beyond Ri-M), and also every sequence whose sizes sum up to at most the largest Ri. A
// reservation is granted while the sum of what is granted and not placed stays below one of these. Each entry is charged for a group of its own, which is the most that it can need.
type space struct {
	groupBytes int64
	fileBytes  int64
	maxBytes   int64
	maxPending int64
	block      int64
	keepSpares int

	cur  *file
	pos  int64   // where the next group goes in cur
	next []*file // zero-filled or used before, in order of use
	live []*file // full, oldest first
	// leaving was current and is being closed; then it becomes live.
	leaving *file
	// spare files were released and wait to be used again, dead ones to be removed.
	spare, dead []*file
	lastNumber  uint64
	allocated   int64 // sizes of all files on disk, dead ones included
	released    Sequence

	unplaced int64   // bytes granted or appended that have no place yet
	pending  int64   // unplaced, and being written
	big      []int64 // charges above groupBytes that have no place yet

	waiters      []*waiter
	noSpaceUntil time.Time // when the disk may be tried again
	short        bool      // the last try to make a file found no room, which has been logged
}

// waiter is a blocked call of Reserve.
type waiter struct {
	charge int64
	carry  bool
	ready  chan error // capacity 1
}

// Reservation is room for entries. It is used up by Append, or given back by Cancel. It is not safe for concurrent use.
type Reservation struct {
	log     *Log
	entries int
	charge  int64
	big     int64 // what take noted in space.big
}

// use takes the charge of one entry. The caller holds Log.mu and has the entry accounted for by grow.
func (r *Reservation) use(l *Log, bytes int) {
	need := entryCharge(bytes, l.block)
	if r.log != l || r.entries < 1 || need > r.charge {
		panic(fmt.Sprintf("wal: append of %d bytes with a reservation of %d entries and %d bytes", bytes, r.entries, r.charge))
	}
	r.entries--
	if r.entries == 0 {
		need = r.charge
	}
	r.charge -= need
	l.space.giveBack(need)
	if r.charge == 0 {
		l.space.dropBig(r.big)
	}
}

// Cancel gives back what was not used. It does nothing once all is used.
func (r *Reservation) Cancel() {
	if r.log == nil || r.charge == 0 {
		return
	}
	l := r.log
	l.mu.Lock()
	l.space.giveBack(r.charge)
	l.space.dropBig(r.big)
	l.space.grantWaiters()
	l.mu.Unlock()
	*r = Reservation{}
}

// entryCharge is the most room that an entry needs: a group of its own.
func entryCharge(bytes int, block int64) int64 { return groupSize(int64(bytes), 1, block) }

// Reserve takes room for one entry of the given payload size, before anything is changed that the entry will tell of.
//
// It waits while there is no room, up to Config.FullWait, and returns ErrFull: nothing has changed, and the same call may succeed after a
// Release or once the disk has room. Other errors: ErrTooLarge, ErrFailed, ErrClosed, the cause of ctx's end.
func (l *Log) Reserve(ctx context.Context, bytes int) (Reservation, error) {
	return l.reserve(ctx, 1, bytes, false /* carry */)
}

// ReserveEntries takes room for several entries, of the given size together.
func (l *Log) ReserveEntries(ctx context.Context, entries, bytes int) (Reservation, error) {
	return l.reserve(ctx, entries, bytes, false /* carry */)
}

// ReserveCarry is Reserve for what a checkpoint must log to release files: it may use room that Reserve leaves, and goes first.
func (l *Log) ReserveCarry(ctx context.Context, bytes int) (Reservation, error) {
	return l.reserve(ctx, 1, bytes, true /* carry */)
}

func (l *Log) reserve(ctx context.Context, entries, bytes int, carry bool) (Reservation, error) {
	charge := entryCharge(bytes, l.block) + int64(entries-1)*entryCharge(0, l.block)
	if entries > 1 {
		charge += int64(entries) * l.block // each may begin a block
	}
	r := Reservation{log: l, entries: entries, charge: charge}
	s := &l.space
	if charge > s.groupBytes {
		r.big = charge
	}
	l.mu.Lock()
	if err := l.stateErrLocked(); err != nil {
		l.mu.Unlock()
		return Reservation{}, err
	}
	if entries < 1 || bytes < 0 || bytes > MaxEntryBytes || 2*s.fileFor(charge) > s.maxBytes {
		l.mu.Unlock()
		return Reservation{}, fmt.Errorf("%w: %d bytes with a wal of %d", ErrTooLarge, bytes, s.maxBytes)
	}
	if (carry || len(s.waiters) == 0) && s.grantable(charge, carry) {
		s.take(charge)
		wantFile := s.wantedFile() > 0
		l.mu.Unlock()
		if wantFile {
			signal(l.wakeK)
		}
		return r, nil
	}
	if time.Now().Before(s.noSpaceUntil) && s.lacksFile(charge, carry) {
		l.stats.Fulls++
		l.mu.Unlock()
		return Reservation{}, fmt.Errorf("%w: no space on the disk for the next file", ErrFull)
	}
	w := &waiter{charge: charge, carry: carry, ready: make(chan error, 1)}
	s.enqueue(w)
	l.stats.FullWaits++
	l.mu.Unlock()
	signal(l.wakeK)
	if l.cfg.OnFull != nil {
		l.cfg.OnFull()
	}
	if err := l.await(ctx, w); err != nil {
		return Reservation{}, err
	}
	return r, nil
}

// await waits until w is granted or refused, its time is up or ctx ends.
func (l *Log) await(ctx context.Context, w *waiter) error {
	timer := time.NewTimer(l.cfg.FullWait)
	defer timer.Stop()
	var err error
	select {
	case err := <-w.ready:
		return err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = fmt.Errorf("%w: waited %s for room", ErrFull, l.cfg.FullWait)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.space.waiters, w); i >= 0 {
		l.space.waiters = slices.Delete(l.space.waiters, i, i+1)
		l.stats.Fulls++
		l.space.grantWaiters() // it may have stood in the way
		return err
	}
	return <-w.ready // it was decided meanwhile
}

// enqueue puts w behind those before it; what a checkpoint needs goes before everything else.
func (s *space) enqueue(w *waiter) {
	at := len(s.waiters)
	if w.carry {
		at = 0
		for at < len(s.waiters) && s.waiters[at].carry {
			at++
		}
	}
	s.waiters = slices.Insert(s.waiters, at, w)
}

// grantWaiters grants in order until one must wait.
func (s *space) grantWaiters() {
	for len(s.waiters) > 0 && s.grantable(s.waiters[0].charge, s.waiters[0].carry) {
		w := s.waiters[0]
		s.waiters = slices.Delete(s.waiters, 0, 1)
		s.take(w.charge)
		w.ready <- nil
	}
}

func (s *space) refuseWaiters(err error) {
	for _, w := range s.waiters {
		w.ready <- err
	}
	s.waiters = nil
}

// refuseBlocked refuses those who wait for a file that cannot be made.
func (s *space) refuseBlocked(err error) (refused int) {
	s.waiters = slices.DeleteFunc(s.waiters, func(w *waiter) bool {
		if !s.lacksFile(w.charge, w.carry) {
			return false
		}
		w.ready <- err
		refused++
		return true
	})
	s.grantWaiters()
	return refused
}

// largest is M: the largest group that may be placed next, if charge is granted too.
func (s *space) largest(charge int64) int64 {
	m := max(s.groupBytes, charge)
	for _, b := range s.big {
		m = max(m, b)
	}
	return m
}

// usable is the sum over files of what is left beyond m, and the room of the emptiest.
func (s *space) usable(m int64) (sum, most int64) {
	add := func(left int64) {
		sum += max(0, left-m)
		most = max(most, left)
	}
	add(s.cur.size - s.pos)
	for _, f := range s.next {
		add(f.size - s.block)
	}
	return sum, most
}

// grantable reports whether charge may be granted now.
func (s *space) grantable(charge int64, carry bool) bool {
	return (s.pending == 0 || s.pending+charge <= s.maxPending) && !s.lacksRoom(charge, carry)
}

// lacksRoom reports whether the files at hand may not hold charge beside what is granted.
func (s *space) lacksRoom(charge int64, carry bool) bool {
	need := charge + s.unplaced
	if !carry && !s.canExtend(s.fileBytes) {
		need += s.headroom()
	}
	sum, most := s.usable(s.largest(charge))
	// All that is granted fits into one file in any order if its sum does.
	return sum < need && most < need
}

// lacksFile reports whether charge waits for room that only another file can give.
func (s *space) lacksFile(charge int64, carry bool) bool {
	if !s.lacksRoom(charge, carry) {
		return false
	}
	if charge > s.groupBytes && s.unplaced > 0 {
		if _, most := s.usable(0); most >= charge+s.headroom()+s.groupBytes {
			return false // it only waits for what was granted before it
		}
	}
	return true
}

// headroom is what Reserve leaves to ReserveCarry when no further file can be had.
func (s *space) headroom() int64 {
	return max(8*s.block, min(s.fileBytes/4, s.maxBytes/16))
}

// canExtend reports whether the limit allows another file of the given size.
func (s *space) canExtend(size int64) bool {
	var idle int64
	for _, f := range s.spare {
		idle += f.size
	}
	return s.allocated-idle+size <= s.maxBytes && !time.Now().Before(s.noSpaceUntil)
}

func (s *space) take(charge int64) {
	s.unplaced += charge
	s.pending += charge
	if charge > s.groupBytes {
		s.big = append(s.big, charge)
	}
}

// giveBack undoes take, for all or part of a charge. Once all is given back, dropBig must follow.
func (s *space) giveBack(charge int64) {
	s.unplaced -= charge
	s.pending -= charge
}

func (s *space) dropBig(charge int64) {
	if i := slices.Index(s.big, charge); i >= 0 {
		s.big = slices.Delete(s.big, i, i+1)
	}
}

// grow accounts for a filling group that becomes size bytes.
func (s *space) grow(g *group, size int64) {
	delta := size - g.size
	s.unplaced += delta
	s.pending += delta
	if size > s.groupBytes {
		s.big = append(s.big, size)
	}
	g.size = size
}

// place finds the place of a group with the given sequence. If that puts another file to use, left is the one before it, and
// the caller closes it and calls hasLeft. ok is false if there is no room at all.
func (s *space) place(size int64, seq Sequence) (f *file, pos int64, left *file, ok bool) {
	if s.pos+size > s.cur.size {
		i := slices.IndexFunc(s.next, func(f *file) bool { return f.size-s.block >= size })
		if i < 0 {
			return nil, 0, nil, false
		}
		left = s.cur
		left.last = seq - 1
		s.leaving = left
		// Files too small for the group are passed over; they hold nothing and serve later.
		s.cur = s.next[i]
		s.cur.first = seq
		s.spare = append(s.spare, s.next[:i]...)
		s.next = slices.Delete(s.next, 0, i+1)
		s.pos = s.block
	}
	pos = s.pos
	s.pos += size
	return s.cur, pos, left, true
}

// hasLeft says that the file left by place is closed.
func (s *space) hasLeft() {
	s.live = append(s.live, s.leaving)
	s.leaving = nil
	s.release(s.released)
}

// liveBytes is what holds groups not released.
func (s *space) liveBytes() int64 {
	n := s.pos
	if s.leaving != nil {
		n += s.leaving.size
	}
	for _, f := range s.live {
		n += f.size
	}
	return n
}

// release frees files whose groups are all before `before`.
func (s *space) release(before Sequence) (freed bool) {
	s.released = max(s.released, before)
	for len(s.live) > 0 && s.live[0].last < s.released {
		s.retire(s.live[0])
		s.live = slices.Delete(s.live, 0, 1)
		freed = true
	}
	return freed
}

// retire makes a file that is not needed a spare if it has the usual size and there are few, and else gives it to be removed.
func (s *space) retire(f *file) {
	if f.size == s.fileBytes && len(s.spare) < s.keepSpares {
		s.spare = append(s.spare, f)
	} else {
		s.dead = append(s.dead, f)
	}
}

// fileFor is the size of a file that is sure to hold charge.
func (s *space) fileFor(charge int64) int64 {
	if charge+s.headroom()+4*s.block <= s.fileBytes-s.groupBytes {
		return s.fileBytes
	}
	return roundUp(max(s.fileBytes, charge+s.headroom()+s.groupBytes+4*s.block), s.block)
}

// wantedFile is the size of the file to prepare next, or 0: one for those who wait, or one ahead of need.
func (s *space) wantedFile() int64 {
	for _, w := range s.waiters {
		if s.lacksFile(w.charge, w.carry) {
			return s.fileFor(w.charge)
		}
		if !w.carry {
			break
		}
	}
	if left := s.cur.size - s.pos; len(s.next) == 0 && left < s.cur.size/4*3 {
		return s.fileBytes
	}
	return 0
}

// closeFiles closes what is open.
func (s *space) closeFiles() error {
	var err error
	for _, f := range append([]*file{s.cur}, append(s.next, s.spare...)...) {
		if f == nil || f.f == nil {
			continue
		}
		if cerr := f.f.Close(); err == nil {
			err = cerr
		}
		f.f = nil
	}
	return err
}
