package segment

import (
	"context"

	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// scanBytes is how much Scan reads at a time.
const scanBytes = 4 * BlockSize

// Scanner is the memory of scans, for one at a time. The zero Scanner is ready.
type Scanner struct {
	buf   []byte // aligned
	ahead []byte // read and not yet visited
}

// Scan calls visit for each batch of a sealed segment, in order. It reads the log past the page cache and past the cache of blocks that
// readers share, checks every block, and calls pace before each read of n bytes, which may wait. The batch is valid during the call only.
//
// Errors: *DamageError, also where there is no batch though the checksum is right, those of the system, and of pace and visit.
func (s *Segment) Scan(ctx context.Context, sc *Scanner, pace func(ctx context.Context, n int64) error, visit func(batch []byte, h record.Header) error) error {
	im, err := s.image()
	if err != nil || im.size == 0 {
		return err
	}
	f, err := s.o.FS.OpenDirect(s.path(logSuffix), disk.DirectOptions{})
	if err != nil {
		return s.readDamage(logSuffix, 0, im.size, &openError{err})
	}
	defer func() { _ = f.Close() }() // it is only read
	if sc.buf == nil {
		sc.buf = disk.AlignedBuffer(scanBytes, minAlignment)
	}
	sc.ahead = sc.ahead[:0]
	done := 0 // of ahead
	for pos := int64(0); pos < im.size; {
		b := sc.buf[:min(scanBytes, im.size-pos)]
		if err := pace(ctx, int64(len(b))); err != nil {
			return err
		}
		if err := s.scanBlocks(f, im, b, pos); err != nil {
			return err
		}
		pos += int64(len(b))
		sc.ahead = append(sc.ahead[:copy(sc.ahead, sc.ahead[done:])], b...)
		done = 0
		for {
			rest := sc.ahead[done:]
			h, err := record.ParseHeader(rest)
			if len(rest) < record.HeaderSize || err == nil && h.Size() > len(rest) {
				break
			}
			if err != nil {
				d := s.damage(logSuffix, pos-int64(len(rest)), record.HeaderSize, "there is no batch where the last one ends")
				d.Err = err
				return d
			}
			if err := visit(rest[:h.Size():h.Size()], h); err != nil {
				return err
			}
			done += h.Size()
		}
	}
	if rest := len(sc.ahead) - done; rest > 0 {
		return s.damage(logSuffix, im.size-int64(rest), int64(rest), "the segment ends within a batch")
	}
	return nil
}

// scanBlocks reads and checks the blocks that fill b from pos on.
func (s *Segment) scanBlocks(f disk.DirectFile, im image, b []byte, pos int64) error {
	first := pos / BlockSize
	crcs, err := s.blockCRCs(im, first, first+int64(len(b)+BlockSize-1)/BlockSize)
	if err != nil {
		return err
	}
	if err := readFull(f, b, pos); err != nil {
		return s.readDamage(logSuffix, pos, int64(len(b)), err)
	}
	for n := 0; n < len(b); n += BlockSize {
		block := b[n:min(n+BlockSize, len(b))]
		if err := s.checkBlock(block, first+int64(n/BlockSize), crcs[n/BlockSize*sidecarEntrySize:]); err != nil {
			return err
		}
	}
	return nil
}
