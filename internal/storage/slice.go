package storage

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
)

// Slice is a run of whole batches of one partition. It holds positions, never memory: its bytes are taken anew, from the
// tail or from a segment, each time they are written out. The zero Slice is empty.
type Slice struct {
	p      *Partition
	pos, n int64 // stream position and length
	first  base.Offset
	layout uint64 // that pos is of
}

// slicePiece is how much of a slice is copied out of the tail at a time.
const slicePiece = 64 << 10

var slicePieces = sync.Pool{New: func() any {
	b := make([]byte, slicePiece)
	return &b
}}

// Len is the size in bytes; 0 = nothing to read.
func (s Slice) Len() int { return int(s.n) }

// FirstOffset is the base offset of the first batch, which may lie below the offset asked for.
func (s Slice) FirstOffset() base.Offset { return s.first }

// WriteTo writes the batches to w in bounded pieces: copies of what the tail holds, and the segment's own verified blocks. An error
// of the partition (damage, deletion, failure) may come after some bytes were written; the caller can then only give up the
// connection.
func (s Slice) WriteTo(w io.Writer) (int64, error) {
	for written := int64(0); written < s.n; {
		n, err := s.writePiece(w, s.pos+written, s.n-written)
		written += n
		if err != nil {
			return written, err
		}
	}
	return s.n, nil
}

// writePiece writes up to n bytes from pos on.
func (s Slice) writePiece(w io.Writer, pos, n int64) (int64, error) {
	if pos >= s.p.tail.Start() {
		n, ok, err := s.writeTail(w, pos, n)
		if ok || err != nil {
			return n, err
		}
	}
	ref, seg, left, err := s.p.flushedAt(place{pos, s.layout})
	if err != nil {
		return 0, fmt.Errorf("read %v: %w", s.p, err)
	}
	piece, err := seg.Borrow(pos-ref.start, min(n, left))
	if err != nil {
		return 0, fmt.Errorf("read %v: %w", s.p, s.p.noteDamage(ref, err))
	}
	defer piece.Release()
	written, err := w.Write(piece.Bytes())
	return int64(written), err
}

// writeTail writes up to n bytes from pos on as far as the tail holds them; ok is false if it does not any more.
func (s Slice) writeTail(w io.Writer, pos, n int64) (written int64, ok bool, err error) {
	buf := slicePieces.Get().(*[]byte)
	defer slicePieces.Put(buf)
	got, ok := s.p.tail.ReadAt((*buf)[:min(int64(len(*buf)), n)], pos)
	switch {
	case !ok:
		return 0, false, nil
	case got == 0:
		return 0, false, fmt.Errorf("read %v: %w", s.p, io.ErrUnexpectedEOF)
	}
	m, err := w.Write((*buf)[:got])
	return int64(m), true, err
}

// Bytes returns a copy of the batches.
func (s Slice) Bytes() ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(s.n))
	_, err := s.WriteTo(&b)
	return b.Bytes(), err
}

// Batches calls visit with the header of each batch and where it begins in the slice, in order, until visit returns false. It is for who
// will write these batches out, and reads segments ahead. Errors as Partition.Read.
func (s Slice) Batches(visit func(h record.Header, at int64) bool) error {
	if s.n == 0 {
		return nil
	}
	end := s.pos + s.n
	w := &walker{p: s.p, pos: s.pos, limit: end, stop: end, layout: s.layout, ahead: true}
	defer w.close()
	for w.pos < end {
		h, pos, err := w.next()
		if err != nil {
			return fmt.Errorf("read %v: %w", s.p, err)
		}
		if !visit(h, pos-s.pos) {
			return nil
		}
	}
	return nil
}

// Part returns the batches from one that begins at a position in the slice to one that ends at another, as Batches tells them. first is the
// base offset of the first.
func (s Slice) Part(from, to int64, first base.Offset) Slice {
	if from < 0 || from > to || to > s.n {
		panic(fmt.Sprintf("storage: part %d to %d of a slice of %d bytes", from, to, s.n))
	}
	s.pos, s.n, s.first = s.pos+from, to-from, first
	return s
}
