package wal

import (
	"fmt"
	"time"

	"github.com/ottlaio/ottla/internal/plant"
)

// write is the writer's goroutine. It writes one group after the other; what is appended meanwhile makes the next one: the busier the disk,
// the larger the groups. Where the disk is faster than that makes good, see pacer.
func (l *Log) write() {
	idle := time.NewTimer(time.Hour)
	defer idle.Stop()
	for {
		g, ok := l.nextGroup(idle)
		if !ok {
			break
		}
		var err error
		if g == nil {
			err = l.writeMark()
		} else {
			err = l.writeGroup(g)
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
	l.fail(ErrClosed)
}

// nextGroup returns the next group to write; nil and true when a mark is due; or false when the wal is closed and all is written, or it
// failed.
func (l *Log) nextGroup(idle *time.Timer) (*group, bool) {
	behind := true // what is found at the first look came while the last group was written
	for marked := false; ; {
		l.mu.Lock()
		switch {
		case l.err != nil:
			l.mu.Unlock()
			return nil, false
		case len(l.queue) > 0:
			g := l.queue[0]
			l.queue[0] = nil
			l.queue = l.queue[1:]
			l.mu.Unlock()
			return g, true
		case len(l.filling.runs) > 0:
			now := time.Now()
			if left := l.pacer.pause(now, len(l.filling.runs)); left > 0 && !l.closed {
				l.mu.Unlock()
				time.Sleep(left)
				continue
			}
			g := l.filling
			l.pacer.taken(now, len(g.runs), behind)
			l.beginLocked(g.seq + 1)
			l.mu.Unlock()
			return g, true
		case l.closed && !l.markOwed:
			l.mu.Unlock()
			return nil, false
		case l.closed || marked:
			l.mu.Unlock()
			return nil, true
		}
		behind = false
		l.writerIdle = true
		owed := l.markOwed
		l.mu.Unlock()
		if !owed {
			<-l.wakeW
			continue
		}
		idle.Reset(l.cfg.IdleMark)
		select {
		case <-l.wakeW:
		case <-idle.C:
			marked = true
		}
	}
}

// writeGroup finishes a group, writes it and acknowledges it.
func (l *Log) writeGroup(g *group) error {
	table := g.buf[g.end : g.end+int64(len(g.runs))*runBytes]
	for i, r := range g.runs {
		r.encode(table[i*runBytes:])
	}
	clear(g.buf[g.end+int64(len(table)) : g.size])
	f, pos, err := l.placeGroup(g)
	if err != nil {
		return err
	}
	l.headerOf(f, g.seq, pos, g.end-groupHeaderBytes, len(g.runs), crcOf(table)).encode(g.buf)
	if plant.On(plant.AckEarly) {
		l.acknowledgeEarly(g)
	}
	if len(g.bodies) > 0 {
		if err := l.cfg.WriteBodies(g.bodies); err != nil {
			return fmt.Errorf("write the bodies of group %d: %w", g.seq, err)
		}
	}
	start := time.Now()
	if _, err := f.f.WriteAt(g.buf[:g.size], pos); err != nil {
		return fmt.Errorf("write group %d to %s at %d: %w", g.seq, l.medium.name(f.number), pos, err)
	}
	took := time.Since(start)
	l.noteWritten(f, g.seq, pos+g.size)
	seq := g.seq
	if l.cfg.Mode != UnsafeMemory {
		g.committers.tell(seq)
		l.durable.Store(uint64(seq))
	}
	l.mu.Lock()
	l.stats.Groups++
	l.stats.Bodies += uint64(len(g.bodies))
	l.stats.GroupBytes += uint64(g.size)
	l.stats.WriteTime += took
	l.space.pending -= g.size
	var waiting chan struct{}
	if l.cfg.Mode != UnsafeMemory {
		waiting = l.waits[seq]
		delete(l.waits, seq)
	}
	l.recycleLocked(g)
	l.space.grantWaiters()
	wantFile := l.space.wantedFile() > 0
	l.mu.Unlock()
	if waiting != nil {
		close(waiting)
	}
	if wantFile {
		signal(l.wakeK)
	}
	return nil
}

// acknowledgeEarly is a planted bug.
func (l *Log) acknowledgeEarly(g *group) {
	g.committers.tell(g.seq)
	l.durable.Store(uint64(g.seq))
	l.mu.Lock()
	defer l.mu.Unlock()
	if waiting := l.waits[g.seq]; waiting != nil {
		delete(l.waits, g.seq)
		close(waiting)
	}
}

// noteWritten remembers the end of the wal, and that it is durable if the mode says so.
func (l *Log) noteWritten(f *file, seq Sequence, end int64) {
	l.written, l.writtenIn, l.writtenEnd = seq, f.number, end
	if l.cfg.Mode == Synced {
		l.noteSynced()
	}
}

func (l *Log) noteSynced() {
	l.synced, l.syncedFile, l.syncedEnd = l.written, l.writtenIn, l.writtenEnd
}

func (l *Log) headerOf(f *file, seq Sequence, pos, body int64, runs int, tableCRC uint32) groupHeader {
	return groupHeader{
		salt: f.salt, number: f.number, seq: seq, pos: pos,
		durable: l.synced, durFile: l.syncedFile, durEnd: l.syncedEnd,
		body: body, runs: uint32(runs), tableCRC: tableCRC,
	}
}

// placeGroup gives a group its place, and puts the next file to use if it does not fit into this one.
func (l *Log) placeGroup(g *group) (*file, int64, error) {
	for {
		l.mu.Lock()
		f, pos, left, ok := l.space.place(g.size, g.seq)
		if ok {
			l.space.unplaced -= g.size
			l.space.dropBig(g.size)
			l.markOwed = true
		}
		err := l.err
		l.mu.Unlock()
		if err != nil {
			return nil, 0, err
		}
		if ok {
			return f, pos, l.putToUse(f, left)
		}
		// Reservations see to it that there is room. Should they be wrong, waiting is better than overrunning a file.
		signal(l.wakeK)
		<-l.wakeW
	}
}

// putToUse writes the header of a file that takes over from another, once everything before it is durable. That header is a proof of
// it, as a mark is. It does nothing if left is nil.
func (l *Log) putToUse(f, left *file) error {
	if left == nil {
		return nil
	}
	if l.cfg.Mode != Synced {
		if err := left.f.SyncData(); err != nil {
			return fmt.Errorf("sync %s: %w", l.medium.name(left.number), err)
		}
		l.noteSynced()
	}
	if err := left.f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", l.medium.name(left.number), err)
	}
	left.f = nil
	if err := l.writeFileHeader(f); err != nil {
		return err
	}
	l.mu.Lock()
	l.space.hasLeft()
	l.mu.Unlock()
	signal(l.wakeK)
	return nil
}

// writeFileHeader writes the header of a file that is put to use, and its copy.
func (l *Log) writeFileHeader(f *file) error {
	h := fileHeader{
		block: uint32(l.block), number: f.number, salt: f.salt, first: f.first, prev: l.writtenIn, prevEnd: l.writtenEnd, size: f.size,
	}
	if l.cfg.Mode != Synced {
		h.flags = flagUnsynced
	}
	clear(l.headerBuf)
	h.encode(l.headerBuf)
	for _, to := range []mediumFile{f.f, l.newest} { // one after the other: the copy proves that the header was durable
		if err := l.writeHeaderBuf(to); err != nil {
			return fmt.Errorf("write header of %s: %w", l.medium.name(f.number), err)
		}
	}
	return nil
}

func (l *Log) writeHeaderBuf(to mediumFile) error {
	_, err := to.WriteAt(l.headerBuf, 0)
	if err == nil && l.cfg.Mode != Synced {
		err = to.SyncData()
	}
	return err
}

// writeMark says in the file `newest` that all groups so far were durable: a damaged one is then known to be damage, and not the torn end
// of what was being written.
func (l *Log) writeMark() error {
	l.mu.Lock()
	if len(l.queue) > 0 || len(l.filling.runs) > 0 {
		l.mu.Unlock()
		return nil // no longer idle: the next group is as good a proof
	}
	l.markOwed = false
	f := l.space.cur
	l.mu.Unlock()
	start := time.Now()
	if l.cfg.Mode != Synced {
		if err := f.f.SyncData(); err != nil {
			return fmt.Errorf("sync %s: %w", l.medium.name(f.number), err)
		}
		l.noteSynced()
	}
	mark{l.synced, l.syncedEnd}.encode(l.headerBuf)
	if err := l.writeHeaderBuf(l.newest); err != nil {
		return fmt.Errorf("write mark of group %d: %w", l.synced, err)
	}
	took := time.Since(start)
	l.mu.Lock()
	l.stats.Marks++
	l.stats.WriteTime += took
	l.mu.Unlock()
	return nil
}
