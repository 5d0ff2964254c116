package wal

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/errors/oserror"
)

// newestNumber stands for the file `newest`, which holds a copy of the header of the newest file that was put to use. The copy is written
// once that header is durable and before the file's first group, so a file that is named there and has no header has lost it. Without
// the copy a newest file that became zeros would be taken for one that was prepared and never used.
//
// Behind it stands the mark: see writeMark.
//
// It is evidence and no more: a copy that is not whole says nothing, be it of a wal that an older program wrote or because power failed
// while it was written.
const newestNumber = 0

// openNewest opens the file for writing, and makes it if it is not there.
func (l *Log) openNewest() error {
	f, err := l.medium.open(newestNumber)
	if err == nil {
		size, serr := f.Size()
		if serr == nil && size == l.block {
			l.newest = f
			return nil
		}
		if err := errors.Join(serr, f.Close()); err != nil {
			return err
		}
	} else if !oserror.IsNotExist(err) {
		return err
	}
	l.newest, err = l.medium.create(newestNumber, l.block, 0 /* floor */, neverPause)
	return err
}

// readNewest reads the header in the file.
func (r *recovery) readNewest() error {
	f, err := r.medium.open(newestNumber)
	if oserror.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is only read
	b := alignedBuffer(int64(f.Alignment()), int64(f.Alignment()))
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", r.medium.name(newestNumber), err)
	}
	if h, err := decodeFileHeader(b[:n]); err == nil {
		r.newest, r.mark = h, decodeMark(b[:n])
	}
	return nil
}

// mend gives a file its header back, so that the next recovery, which has another newest file, still knows it and the same damage.
func (r *recovery) mend(x *foundFile) error {
	align := int64(x.f.Alignment())
	b := alignedBuffer(max(align, int64(x.h.block)), align)
	_, err := x.f.ReadAt(b, 0)
	if err == nil {
		clear(b[:x.h.block])
		x.h.encode(b)
		_, err = x.f.WriteAt(b, 0)
	}
	if err != nil {
		return fmt.Errorf("mend the header of %s: %w", r.medium.name(x.number), err)
	}
	return nil
}

// newestLost reports whether the newest file that was put to use has lost its header.
func (r *recovery) newestLost() bool {
	for _, x := range r.files {
		if x.state == used && x.number >= r.newest.number {
			return false
		}
	}
	return r.newest.number != 0
}
