package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/disk"
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
	return s.readAt(p, pos, true /* ahead */)
}

// PeekAt is ReadAt for a caller that will not go on from there: it never reads more blocks than it needs.
func (s *Segment) PeekAt(p []byte, pos int64) (int, error) {
	return s.readAt(p, pos, false /* ahead */)
}

func (s *Segment) readAt(p []byte, pos int64, ahead bool) (int, error) {
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
	n, err := s.readVerified(im, want, pos, ahead)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// readVerified fills p from pos on; all of it lies before im.size.
func (s *Segment) readVerified(im image, p []byte, pos int64, ahead bool) (n int, err error) {
	for n < len(p) {
		at := pos + int64(n)
		e, err := s.extentAt(im, at/BlockSize, int64(len(p)-n)+at%BlockSize, ahead)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], e.data[at-e.pos():])
		s.o.Files.releaseExtent(e, false)
	}
	return n, nil
}

// Piece is a run of a segment's verified bytes in memory. It is held until Release, and the bytes do not change before.
type Piece struct {
	files  *FileCache
	extent *extent
	bytes  []byte
}

// Bytes are valid until Release.
func (b Piece) Bytes() []byte { return b.bytes }

// Release gives the memory back. It must be called once.
func (b Piece) Release() {
	end := &b.extent.data[len(b.extent.data)-1]
	b.files.releaseExtent(b.extent, &b.bytes[len(b.bytes)-1] == end)
}

// Borrow returns verified bytes from pos on without copying them: at most n, at least one, for the caller to release.
//
// Errors: io.EOF at the segment's end, and those of ReadAt.
func (s *Segment) Borrow(pos, n int64) (Piece, error) {
	im, err := s.image()
	if err != nil {
		return Piece{}, err
	}
	if pos < 0 || n <= 0 {
		return Piece{}, fmt.Errorf("read %d bytes of segment %d at %d", n, s.o.Base, pos)
	}
	if pos >= im.size {
		return Piece{}, io.EOF
	}
	n = min(n, im.size-pos)
	e, err := s.extentAt(im, pos/BlockSize, n+pos%BlockSize, true /* ahead */)
	if err != nil {
		return Piece{}, err
	}
	b := e.data[pos-e.pos():]
	return Piece{files: s.o.Files, extent: e, bytes: b[:min(n, int64(len(b)))]}, nil
}

// extentAt returns verified blocks from the cache or the disk, block the first that is wanted, for the caller to release. want says
// how many bytes from the start of block on the caller will need.
//
// With ahead set, a short read that goes on where cached blocks end is taken for one of many: it gets as much as an extent holds, so
// that a consumer that catches up costs one large direct read for a MiB. When there are more such readers than the cache has room
// for, their blocks are gone before they come back, and each reads only what it needs.
func (s *Segment) extentAt(im image, block, want int64, ahead bool) (*extent, error) {
	e, blocks := s.o.Files.findExtent(s, block, (want+BlockSize-1)/BlockSize, ahead)
	if e != nil {
		return e, nil
	}
	blocks = min(blocks, (im.size+BlockSize-1)/BlockSize-block)
	if whole := min(block+blocks, im.size/BlockSize) - block; whole > 0 && s.throughPageCache(block, whole) {
		if e, err := s.readExtent(im, block, blocks, false /* direct */); err == nil {
			return e, nil
		}
		// What the disk has decides.
	}
	e, err := s.readExtent(im, block, blocks, true /* direct */)
	if err != nil && blocks > 1 {
		e, err = s.readExtent(im, block, 1, true /* direct */) // the trouble may lie further on
	}
	return e, err
}

// throughPageCache notes that whole blocks are read now, and reports whether it is through the page cache: to put them there, or because it
// has kept them. Where nobody can say whether it has, it is taken to have.
func (s *Segment) throughPageCache(block, blocks int64) bool {
	by := s.past.next(block, blocks)
	if by != resident {
		return by == filling
	}
	f, err := s.o.Files.acquire(s, logSuffix, false, false)
	if err != nil {
		return false
	}
	defer s.o.Files.release(f)
	all, err := disk.Resident(f.file, block*BlockSize, blocks*BlockSize)
	switch {
	case errors.Is(err, errors.ErrUnsupported) || err == nil && all:
		s.past.kept()
		return true
	case err == nil:
		s.past.lapsed(block, blocks)
	}
	return false
}

// readExtent reads and checks blocks, past the page cache or through it. Damage in the first is an error; before damage in a later one the
// extent ends.
func (s *Segment) readExtent(im image, block, blocks int64, direct bool) (*extent, error) {
	crcs, err := s.blockCRCs(im, block, block+blocks)
	if err != nil {
		return nil, err
	}
	e := s.o.Files.newExtent(s, block, blocks)
	e.data = e.data[:min(blocks*BlockSize, im.size-e.pos())]
	err = s.readRaw(im, e, direct)
	for n := 0; err == nil && n < len(e.data); n += BlockSize {
		b := e.data[n:min(n+BlockSize, len(e.data))]
		if err = s.checkBlock(b, block+int64(n/BlockSize), crcs[n/BlockSize*sidecarEntrySize:]); err != nil && n > 0 {
			e.data, err = e.data[:n], nil
		}
	}
	if err != nil {
		s.o.Files.releaseExtent(e, false)
		return nil, err
	}
	// The last block grows; only what is complete may stay.
	s.o.Files.keepExtent(e)
	return e, nil
}

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

func (s *Segment) checkBlock(b []byte, block int64, crcs []byte) error {
	warm(b)
	got, want := crc32.Checksum(b, castagnoli), binary.BigEndian.Uint32(crcs)
	if got != want && !plant.On(plant.NoBlockCRC) {
		return s.damage(logSuffix, block*BlockSize, int64(len(b)), fmt.Sprintf("CRC32C is %#08x, want %#08x", got, want))
	}
	return nil
}

// cacheLine is that of nearly every processor; nothing depends on it but speed.
const cacheLine = 64

// warm brings b into the processor's caches, in the order in which they foresee what is wanted next. What a disk has just brought is in
// none of them, and crc32 works at three places of it at a time: see BenchmarkColdBlock.
//
//go:noinline
func warm(b []byte) (sum byte) {
	for i := 0; i < len(b); i += cacheLine {
		sum += b[i]
	}
	return sum // or the compiler leaves the loop out
}

// readRaw fills e with the segment's bytes, unchecked: from the file, past the page cache or through it, and the ragged end from memory.
func (s *Segment) readRaw(im image, e *extent, direct bool) error {
	pos := e.pos()
	fromFile := int64(len(e.data))
	if ragged := im.size - int64(len(im.ragged)); len(im.ragged) > 0 && pos+fromFile > ragged {
		fromFile = max(0, ragged-pos)
	}
	if fromFile > 0 {
		f, err := s.o.Files.acquire(s, logSuffix, direct, false)
		if err == nil {
			defer s.o.Files.release(f)
			if direct {
				err = readDirect(f.direct, e.data[:cap(e.data)], fromFile, pos)
			} else {
				err = readFull(f, e.data[:fromFile], pos)
			}
		}
		if err != nil {
			return s.readDamage(logSuffix, pos, int64(len(e.data)), err)
		}
	}
	if inMemory := int64(len(e.data)) - fromFile; inMemory > 0 {
		copy(e.data[fromFile:], im.ragged[int64(len(im.ragged))-(im.size-pos-fromFile):])
	}
	return nil
}

// readDirect reads n bytes at pos into buf, and may read more to end at an aligned position.
func readDirect(f disk.DirectFile, buf []byte, n, pos int64) error {
	align := int64(f.Alignment())
	end := min((n+align-1)&^(align-1), int64(len(buf)))
	got, err := f.ReadAt(buf[:end], pos)
	switch {
	case int64(got) >= n:
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	default:
		return err
	}
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
