package segment

import (
	"context"
	"fmt"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// Verify reads everything that the last Sync covered, from the disk and not from the page cache where that can be told apart, and
// reports each damaged range. It goes on after damage; what it returns is ctx's cause or trouble that is no damage.
func (s *Segment) Verify(ctx context.Context, report func(DamageError)) error {
	st := s.State()
	if st.Size == 0 {
		return nil
	}
	for _, l := range []*ledger{s.index, s.time, s.side} {
		if err := s.verifyLedger(l, report); err != nil {
			return err
		}
	}
	f, err := s.o.FS.OpenDirect(s.path(logSuffix), disk.DirectOptions{})
	if err != nil {
		return s.reportOr(s.readDamage(logSuffix, 0, st.Size, &openError{err}), report)
	}
	err = s.verifyLog(ctx, f, st, report)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// verifyLedger checks one file of entries afresh.
func (s *Segment) verifyLedger(l *ledger, report func(DamageError)) error {
	l.mu.Lock()
	durable := l.durable
	l.mu.Unlock()
	if durable.Entries == 0 && l.header == 0 {
		return nil
	}
	_, bad, err := l.loadFile(durable, func(d *DamageError) { report(*d) })
	if bad != nil {
		report(*bad)
	}
	return err
}

// verifyLog checks every block. The one at the end may have grown since st was taken; its CRC is that of st's part of it.
func (s *Segment) verifyLog(ctx context.Context, f disk.DirectFile, st State, report func(DamageError)) error {
	im := image{size: st.Size, blockCRC: st.BlockCRC}
	full := s.o.Files.blockBuffer()
	defer s.o.Files.recycle(full)
	for block := int64(0); block*BlockSize < st.Size; block++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		crcs, err := s.blockCRCs(im, block, block+1)
		if err == nil {
			buf := full[:min(BlockSize, st.Size-block*BlockSize)]
			if err = readFull(f, buf, block*BlockSize); err != nil {
				err = s.readDamage(logSuffix, block*BlockSize, int64(len(buf)), err)
			} else {
				err = s.checkBlock(buf, block, crcs)
			}
		}
		if err := s.reportOr(err, report); err != nil {
			return err
		}
	}
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("verify segment %d: %w", s.o.Base, err)
	}
	if st.Sealed && size > st.Size {
		report(*s.damage(logSuffix, st.Size, size-st.Size, "there are bytes after the end"))
	}
	return nil
}

// reportOr reports err if it is damage and returns it if it is not.
func (s *Segment) reportOr(err error, report func(DamageError)) error {
	if d := asDamage(err); d != nil {
		report(*d)
		return nil
	}
	return err
}
