package segment

import (
	"errors"
	"fmt"
	"io"

	"github.com/ottlaio/ottla/internal/base"
)

// DamageError names bytes of a file that are not what was written there. Ranges that it does not name can still be read.
type DamageError struct {
	File        string
	Pos, Len    int64
	FirstOffset base.Offset // an offset at or before the damage: the segment's base unless more is known
	Reason      string
	Err         error // of the system, nil if the read itself succeeded
}

// Error names file, range, offset and reason.
func (e *DamageError) Error() string {
	msg := fmt.Sprintf("%s is damaged in bytes %d to %d (offset %d or later): %s", e.File, e.Pos, e.Pos+e.Len, e.FirstOffset, e.Reason)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Unwrap returns the system's error, if one is the reason.
func (e *DamageError) Unwrap() error { return e.Err }

// damage builds the error for bytes of one of the segment's files.
func (s *Segment) damage(suffix string, pos, n int64, reason string) *DamageError {
	return &DamageError{File: s.path(suffix), Pos: pos, Len: n, FirstOffset: s.o.Base, Reason: reason}
}

// readDamage turns the error of a read into damage: bytes that are known to have been written cannot be read. Errors of opening a
// file (no descriptors left, say) are no damage, unless the file is gone.
func (s *Segment) readDamage(suffix string, pos, n int64, err error) error {
	var op *openError
	switch {
	case s.isRemoved():
		return ErrRemoved
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return s.damage(suffix, pos, n, "the file is too short")
	case isNotExist(err):
		return s.damage(suffix, pos, n, "the file is missing")
	case errors.As(err, &op):
		return err
	default:
		d := s.damage(suffix, pos, n, "reading failed")
		d.Err = err
		return d
	}
}

func (s *Segment) isRemoved() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.removed
}

func (s *Segment) report(d *DamageError) {
	if s.o.Report != nil {
		s.o.Report(d)
	}
}
