package wal

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// noSpaceRetry is how long the disk is left alone after it was found full.
const noSpaceRetry = 250 * time.Millisecond

// keep is the keeper's goroutine: it removes what is dead and prepares files before they are needed.
func (l *Log) keep() {
	for range l.wakeK {
		for l.keepOnce() {
		}
		l.mu.Lock()
		over := l.err != nil || l.closed
		l.mu.Unlock()
		if over {
			return
		}
	}
}

// keepOnce does one thing, and reports whether it did.
func (l *Log) keepOnce() bool {
	s := &l.space
	l.mu.Lock()
	if l.err != nil || l.closed {
		l.mu.Unlock()
		return false
	}
	if len(s.dead) > 0 {
		f := s.dead[0]
		s.dead = slices.Delete(s.dead, 0, 1)
		l.mu.Unlock()
		return l.remove(f)
	}
	size := s.wantedFile()
	if size == 0 || time.Now().Before(s.noSpaceUntil) {
		l.mu.Unlock()
		return false
	}
	if i := slices.IndexFunc(s.spare, func(f *file) bool { return f.size >= size }); i >= 0 {
		f := s.spare[i]
		s.spare = slices.Delete(s.spare, i, i+1)
		s.lastNumber++
		number := s.lastNumber
		l.mu.Unlock()
		return l.reuse(f, number)
	}
	if s.allocated+size > s.maxBytes {
		// Spares too small for it make room.
		more := len(s.spare) > 0
		s.dead = append(s.dead, s.spare...)
		s.spare = nil
		l.mu.Unlock()
		return more
	}
	s.lastNumber++
	number := s.lastNumber
	s.allocated += size
	l.mu.Unlock()
	return l.create(number, size)
}

func (l *Log) remove(f *file) bool {
	var err error
	if f.f != nil {
		err = f.f.Close()
		f.f = nil
	}
	if rerr := l.medium.remove(f.number); err == nil {
		err = rerr
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		// The file is not needed and does no harm, but it takes room: it stays in the account.
		l.logger.Warn("cannot remove a wal file", "err", err)
		return true
	}
	l.stats.FilesRemoved++
	l.space.allocated -= f.size
	l.space.grantWaiters()
	return true
}

func (l *Log) reuse(f *file, number uint64) bool {
	if f.f != nil { // passed over before it was used
		_ = f.f.Close() // nothing was written to it
		f.f = nil
	}
	h, err := l.medium.reuse(f.number, number)
	if err != nil {
		l.fail(err)
		return false
	}
	l.mu.Lock()
	l.stats.FilesReused++
	l.addNextLocked(&file{number: number, size: f.size, f: h, salt: newSalt()})
	l.mu.Unlock()
	return true
}

func (l *Log) create(number uint64, size int64) bool {
	start := time.Now()
	rest := time.NewTimer(0)
	defer rest.Stop()
	h, err := l.medium.create(number, size, l.cfg.MinFreeBytes, func(done int64, took time.Duration) bool {
		rest.Reset(fillRest * took)
		return l.restFilling(rest, done, size)
	})
	l.mu.Lock()
	l.stats.FillTime += time.Since(start)
	if err == nil {
		l.stats.FilesMade++
		l.addNextLocked(&file{number: number, size: size, f: h, salt: newSalt()})
		l.mu.Unlock()
		return true
	}
	l.space.allocated -= size
	if retriable(err) {
		// Nothing was acknowledged that depends on this file. Those who wait for it are refused, and it is tried again later.
		first := !l.space.short
		l.space.short = true
		l.space.noSpaceUntil = time.Now().Add(noSpaceRetry)
		l.stats.Fulls += uint64(l.space.refuseBlocked(fmt.Errorf("%w: %w", ErrFull, err)))
		l.mu.Unlock()
		if first {
			l.logger.Warn("no room for the next wal file", "err", err)
		}
		return false
	}
	stopped := l.closed || l.err != nil
	l.mu.Unlock()
	if !stopped {
		l.fail(err)
	}
	return false
}

// fillRest is how long the keeper rests after a write that fills a file, in times of what the write took. Groups that are written
// meanwhile find the disk free.
const fillRest = 3

// restFilling rests until the timer ends, unless the new file, of which done bytes of size are there, will be needed soon. It reports
// whether to give up.
func (l *Log) restFilling(rest *time.Timer, done, size int64) (stop bool) {
	for !l.stop.Load() && !l.fillIsUrgent(done, size) {
		select {
		case <-rest.C:
			return l.stop.Load()
		case <-l.wakeK: // keep looks at everything again when the file is there
		}
	}
	return l.stop.Load()
}

// fillIsUrgent reports whether somebody waits for the file, or the share of it that is there is not well ahead of the share of the
// current file that is used up. Filling begins when a quarter of that is.
func (l *Log) fillIsUrgent(done, size int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.space
	used := float64(s.pos) / float64(s.cur.size)
	return len(s.waiters) > 0 || len(s.next) == 0 && float64(done)/float64(size) < 2*(used-0.25)
}

func (l *Log) addNextLocked(f *file) {
	l.space.short = false
	l.space.next = append(l.space.next, f)
	l.space.grantWaiters()
	signal(l.wakeW)
}

// retriable reports whether a failure to make a file says nothing about the disk but that it, or a limit of the process, is full.
func retriable(err error) bool {
	return disk.IsNoSpace(err) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
