package storage

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
)

// Slice is a run of whole batches of one partition. It holds positions, never memory: its bytes are taken anew, from the
// tail or from a segment, each time they are written out. The zero Slice is empty.
type Slice struct {
	p           *Partition
	pos, n      int64 // stream position and length
	first, next base.Offset
}

// slicePiece is how much of a slice is in memory at a time.
const slicePiece = 64 << 10

var slicePieces = sync.Pool{New: func() any {
	b := make([]byte, slicePiece)
	return &b
}}

// Len is the size in bytes; 0 = nothing to read.
func (s Slice) Len() int { return int(s.n) }

// FirstOffset is the base offset of the first batch, which may lie below the offset asked for.
func (s Slice) FirstOffset() base.Offset { return s.first }

// NextOffset is the offset after the last record of the slice.
func (s Slice) NextOffset() base.Offset { return s.next }

// WriteTo writes the batches to w in bounded pieces. An error of the partition (damage, deletion, failure) may come after
// some bytes were written; the caller can then only give up the connection.
func (s Slice) WriteTo(w io.Writer) (int64, error) {
	if s.n == 0 {
		return 0, nil
	}
	buf := slicePieces.Get().(*[]byte)
	defer slicePieces.Put(buf)
	written := int64(0)
	for written < s.n {
		piece := (*buf)[:min(int64(len(*buf)), s.n-written)]
		n, err := s.p.readSome(piece, s.pos+written, 1)
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return written, fmt.Errorf("read %v: %w", s.p, err)
		}
		n, err = w.Write(piece[:n])
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// Bytes returns a copy of the batches.
func (s Slice) Bytes() ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(s.n))
	_, err := s.WriteTo(&b)
	return b.Bytes(), err
}
