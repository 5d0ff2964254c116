package segment

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// Bodies are whole aligned blocks of the log that are written before those ahead of them: the wal holds the rest of their batches, and the
// place of the body. They lie where Write would put them, and Write, which comes to them later, leaves them as they are, with what was
// written between them.
//
//	0             Size()                                      room
//	|--- written ---|.......|==== body ====|.......|==== body ===|.......|
//
// Their bytes are durable and may be acknowledged, so nothing may touch them: see trim.

// span is a range of positions.
type span struct{ from, to int64 }

// Reserve takes room on the disk for bodies up to position to, in a file whose name is durable. It does nothing while bodies that an earlier
// life left stand beyond Size(), and cuts off what else it left there, which Sync makes good. For the goroutine that writes.
//
// Errors: errors.ErrUnsupported where bodies can not be had, a full disk (disk.IsNoSpace), and others of the file system, after which the
// segment refuses further writes.
func (s *Segment) Reserve(to int64) error {
	if err := s.failed(); err != nil {
		return err
	}
	if err := s.reserve(to); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		return s.fail(fmt.Errorf("reserve room in segment %d: %w", s.o.Base, err))
	}
	return nil
}

func (s *Segment) reserve(to int64) error {
	if err := s.trim(); err != nil || !s.writing.trimmed {
		return err
	}
	f, err := s.o.Files.acquire(s, logSuffix, true, true)
	if err != nil {
		return err
	}
	defer s.o.Files.release(f)
	if f.direct.Alignment() != disk.MinAlignment {
		return errors.ErrUnsupported // nobody has seen such a disk; the tail's memory would not fit it
	}
	from := s.roomFrom()
	if to <= from {
		return nil
	}
	if err := f.direct.Allocate(from, to-from); err != nil {
		_ = s.trimRoom() // it may have got a part of it; what went wrong before tells more
		return err
	}
	if !s.writing.listed {
		if err := disk.SyncDir(s.o.FS, s.o.Dir); err != nil {
			return syncFailed(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = to
	return nil
}

// roomFrom is where room that is taken now begins.
func (s *Segment) roomFrom() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return max(s.room, s.current.Size)
}

// Room is the position up to which there is room for bodies.
func (s *Segment) Room() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.room
}

// Place says that the n bytes at pos come with a body, and which of them that is: their whole blocks. ok is false if they have none or there
// is no room. From now on Write leaves the body alone, so WriteBodies has to come before Write gets there.
func (s *Segment) Place(pos, n int64) (from, to int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to = Blocks(pos, n)
	if from >= to || to > s.room {
		return 0, 0, false
	}
	s.placed = append(s.placed, span{from, to})
	return from, to, true
}

// Keep says that a body stands in the file that an earlier life wrote: it is neither written nor cut off.
func (s *Segment) Keep(from, to int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.placed = append(s.placed, span{from, to})
}

// Blocks returns the range of the whole blocks in n bytes at pos.
func Blocks(pos, n int64) (from, to int64) {
	return (pos + minAlignment - 1) &^ (minAlignment - 1), (pos + n) &^ (minAlignment - 1)
}

// WriteBodies writes the bodies that were placed between two positions, where the first begins and the last ends, and what lies between them,
// which Write leaves alone then as well; src has it where the log will. SyncBodies makes them durable. Both are safe at any time.
func (s *Segment) WriteBodies(src Viewer, from, to int64) error {
	f, err := s.o.Files.acquire(s, logSuffix, true, false)
	if err != nil {
		return err
	}
	defer s.o.Files.release(f)
	var views [][]byte
	for at := from; at < to; {
		v := src.View(at, to-at)
		if len(v) == 0 || !disk.Aligned(v, 0, minAlignment) {
			views = nil // it does not lie in memory as the disk wants it
			break
		}
		views, at = append(views, v), at+int64(len(v))
	}
	if views == nil {
		b := disk.AlignedBuffer(int(to-from), minAlignment)
		if err := readFull(src, b, from); err != nil {
			return err
		}
		views = [][]byte{b}
	}
	if plant.On(plant.RunGap) {
		b, err := s.withoutGaps(src, from, to)
		if err != nil {
			return err
		}
		views = [][]byte{b}
	}
	at := from
	if plant.On(plant.BodyElsewhere) {
		at += minAlignment
	}
	if err := disk.WriteVec(f.direct, views, at); err != nil {
		return fmt.Errorf("write bodies of segment %d: %w", s.o.Base, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.placed = slices.DeleteFunc(s.placed, func(p span) bool { return from <= p.from && p.to <= to })
	s.placed = append(s.placed, span{from, to})
	return nil
}

// withoutGaps is a planted bug: it gives the bodies between two positions, and zeros for what lies between them.
func (s *Segment) withoutGaps(src Viewer, from, to int64) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := disk.AlignedBuffer(int(to-from), minAlignment)
	for _, p := range s.placed {
		if from <= p.from && p.to <= to {
			if err := readFull(src, b[p.from-from:p.to-from], p.from); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// SyncBodies makes the bodies durable that WriteBodies has written.
func (s *Segment) SyncBodies() error {
	if plant.On(plant.BodyUnsynced) {
		return nil
	}
	f, err := s.o.Files.acquire(s, logSuffix, true, false)
	if err != nil {
		return err
	}
	defer s.o.Files.release(f)
	if err := f.direct.SyncData(); err != nil {
		return fmt.Errorf("sync bodies of segment %d: %w", s.o.Base, err)
	}
	return nil
}

// TrimRoom gives back the room beyond the end, if there is any and nothing is placed in it. File systems write the block in which the log ends
// again then, which Sync makes good. For the goroutine that writes.
func (s *Segment) TrimRoom() error {
	if s.Room() == 0 {
		return nil
	}
	return s.trimRoom()
}

func (s *Segment) trimRoom() error {
	if !s.bare() {
		return nil
	}
	f, err := s.o.Files.acquire(s, logSuffix, true, false)
	if err != nil {
		return err
	}
	defer s.o.Files.release(f)
	s.writing.dirty = true
	return f.direct.TrimRoom()
}

// CutBodies cuts off what stands behind the end of a sealed segment.
func (s *Segment) CutBodies() error {
	s.mu.Lock()
	s.placed = nil
	s.mu.Unlock()
	s.o.Files.forget(s) // a file to be cut must not be open
	return s.o.FS.Truncate(s.path(logSuffix), s.Size())
}

// bare reports that no body stands past the end, and sees to it that none will before the next Reserve.
func (s *Segment) bare() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.placed) > 0 {
		return false
	}
	s.room = 0
	return true
}

// placedAt reports whether a body stands at pos, and up to where that goes.
func (s *Segment) placedAt(pos int64) (placed bool, to int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	to = maxSize + 1
	for _, p := range s.placed {
		if p.from <= pos && pos < p.to {
			return true, p.to
		}
		if p.from > pos {
			to = min(to, p.from)
		}
	}
	return false, to
}

// passLocked forgets the bodies that Write has passed.
func (s *Segment) passLocked() {
	s.placed = slices.DeleteFunc(s.placed, func(p span) bool { return p.to <= s.current.Size })
}
