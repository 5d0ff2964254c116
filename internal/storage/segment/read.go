package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// image is what a read must know of the segment at one moment.
type image struct {
	size     int64
	blockCRC uint32 // of the last, partial block
	ragged   []byte // the last bytes, if they are in memory: they may not be in the file yet
}

func (s *Segment) image() (image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.removed {
		return image{}, ErrRemoved
	}
	im := image{size: s.current.Size, blockCRC: s.current.BlockCRC}
	if s.inMemory {
		im.ragged = s.ragged
	}
	return im, nil
}

// ReadAt reads the segment's bytes at pos into p. What comes from the disk has been checked against the CRC of its 64 KiB block. It
// returns io.EOF with fewer than len(p) bytes when the segment ends before that, and with other errors the bytes before the
// trouble.
//
// Errors: *DamageError, ErrRemoved, and the system's when a file cannot be opened.
func (s *Segment) ReadAt(p []byte, pos int64) (int, error) {
	im, err := s.image()
	if err != nil {
		return 0, err
	}
	if pos < 0 {
		return 0, fmt.Errorf("read segment %d at %d", s.o.Base, pos)
	}
	if pos >= im.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), im.size-pos)]
	n, err := s.readVerified(im, want, pos)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// readVerified fills p from pos on; all of it lies before im.size.
func (s *Segment) readVerified(im image, p []byte, pos int64) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	first, last := pos/BlockSize, (pos+int64(len(p))-1)/BlockSize
	crcs, err := s.blockCRCs(im, first, last+1)
	if err != nil {
		if first == last {
			return 0, err
		}
		// What lies before the trouble can be had: the blocks one by one.
		n, err := s.readVerified(im, p[:(first+1)*BlockSize-pos], pos)
		if err == nil {
			var m int
			m, err = s.readVerified(im, p[n:], pos+int64(n))
			n += m
		}
		return n, err
	}
	for n < len(p) {
		at := pos + int64(n)
		block := at / BlockSize
		skip := int(at % BlockSize)
		rest := p[n:]
		if whole := im.wholeBlocks(rest, at); skip == 0 && whole > 0 {
			m, err := s.readWhole(im, rest[:whole], block, crcs[4*(block-first):])
			n += m
			if err != nil {
				return n, err
			}
			continue
		}
		m, err := s.readEdge(im, rest, block, skip, crcs[4*(block-first):])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// wholeBlocks returns how many bytes of p, which is to hold what lies at the block boundary at, can be checked in place: whole blocks,
// and the last block when p reaches the end of the segment.
func (im image) wholeBlocks(p []byte, at int64) int {
	if at+int64(len(p)) == im.size {
		return len(p)
	}
	return len(p) &^ (BlockSize - 1)
}

// blockLen returns how many bytes block n has.
func (im image) blockLen(n int64) int { return int(min(BlockSize, im.size-n*BlockSize)) }

// blockCRCs returns the CRCs of the blocks from number from to number to, four bytes each.
func (s *Segment) blockCRCs(im image, from, to int64) ([]byte, error) {
	crcs := make([]byte, sidecarEntrySize*(to-from))
	whole := min(to, im.size/BlockSize)
	if from < whole {
		v, err := s.side.view()
		if err == nil {
			err = v.get(crcs, int(from), int(whole))
		}
		if err != nil {
			return nil, err
		}
	}
	if to > whole {
		binary.BigEndian.PutUint32(crcs[sidecarEntrySize*(whole-from):], im.blockCRC)
	}
	return crcs, nil
}

// readWhole reads blocks into p and checks them there. It returns the bytes before the first damaged block.
func (s *Segment) readWhole(im image, p []byte, block int64, crcs []byte) (int, error) {
	if err := s.readRaw(im, p, block*BlockSize); err != nil {
		if len(p) <= BlockSize {
			return 0, err
		}
		// One bad block must not hide those before it.
		return s.readBlocks(im, p, block, crcs)
	}
	for n := 0; n < len(p); n += BlockSize {
		if err := s.checkBlock(p[n:min(n+BlockSize, len(p))], block+int64(n/BlockSize), crcs[n/BlockSize*sidecarEntrySize:]); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// readBlocks is readWhole one by one.
func (s *Segment) readBlocks(im image, p []byte, block int64, crcs []byte) (n int, err error) {
	for n < len(p) {
		m, err := s.readWhole(im, p[n:min(n+BlockSize, len(p))], block, crcs)
		n += m
		if err != nil {
			return n, err
		}
		block++
		crcs = crcs[sidecarEntrySize:]
	}
	return n, nil
}

// readEdge fills p from skip on in a block of which p wants only a part. A whole block read for that is kept for the next read,
// which often wants the rest of it.
func (s *Segment) readEdge(im image, p []byte, block int64, skip int, crcs []byte) (int, error) {
	n := im.blockLen(block)
	p = p[:min(len(p), n-skip)]
	if n == BlockSize && s.o.Files.copyBlock(s, block, p, skip) {
		return len(p), nil
	}
	full := s.o.Files.blockBuffer()
	buf := full[:n]
	err := s.readRaw(im, buf, block*BlockSize)
	if err == nil {
		err = s.checkBlock(buf, block, crcs)
	}
	if err != nil {
		s.o.Files.recycleBlock(full)
		return 0, err
	}
	copy(p, buf[skip:])
	if n == BlockSize {
		full = s.o.Files.keepBlock(s, block, full)
	}
	s.o.Files.recycleBlock(full)
	return len(p), nil
}

func (s *Segment) checkBlock(b []byte, block int64, crcs []byte) error {
	got, want := crc32.Checksum(b, castagnoli), binary.BigEndian.Uint32(crcs)
	if got != want {
		return s.damage(logSuffix, block*BlockSize, int64(len(b)), fmt.Sprintf("CRC32C is %#08x, want %#08x", got, want))
	}
	return nil
}

// readRaw fills p with the segment's bytes at pos, unchecked: from the file, and its end from memory.
func (s *Segment) readRaw(im image, p []byte, pos int64) error {
	fromFile := p
	if over := pos + int64(len(p)) - (im.size - int64(len(im.ragged))); over > 0 && len(im.ragged) > 0 {
		over = min(over, int64(len(p)))
		fromFile = p[:int64(len(p))-over]
		start := pos + int64(len(fromFile)) - (im.size - int64(len(im.ragged)))
		copy(p[len(fromFile):], im.ragged[start:])
	}
	if len(fromFile) == 0 {
		return nil
	}
	f, err := s.o.Files.acquire(s, logSuffix, false, false)
	if err == nil {
		defer s.o.Files.release(f)
		err = readFull(f, fromFile, pos)
	}
	if err != nil {
		return s.readDamage(logSuffix, pos, int64(len(fromFile)), err)
	}
	return nil
}

// readFull is io.ReaderAt.ReadAt without io.EOF for a read that ends where the file does.
func readFull(r io.ReaderAt, p []byte, pos int64) error {
	n, err := r.ReadAt(p, pos)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}
