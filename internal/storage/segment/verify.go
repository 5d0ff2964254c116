package segment

import (
	"context"
	"fmt"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// VerifyOptions say how to verify.
type VerifyOptions struct {
	// Report is told of each damaged range; damaged blocks that follow one another are one range. Required.
	Report func(DamageError)
	// Pace is called before n bytes are read, and may wait. An error ends Verify, which returns it. It may be nil.
	Pace func(ctx context.Context, n int64) error
	// Ragged stands in for the last bytes of an active segment's log, whose block in the file a power loss may have torn, as what
	// RestoreRagged was given does: until the next Sync only memory has it whole.
	Ragged []byte
}

// Verify reads everything that the last Sync covered, from the disk and not from the page cache where that can be told apart, and
// reports each damaged range. It goes on after damage; what it returns is ctx's cause, an error of Pace, or trouble that is no damage.
func (s *Segment) Verify(ctx context.Context, o VerifyOptions) error {
	st, ragged := s.syncedEnd()
	if st.Size == 0 {
		return nil
	}
	if len(o.Ragged) == 0 {
		o.Ragged = ragged
	}
	if o.Pace == nil {
		o.Pace = func(ctx context.Context, _ int64) error { return context.Cause(ctx) }
	}
	for _, l := range s.ledgers() {
		if err := o.Pace(ctx, l.fileBytes()); err != nil {
			return err
		}
		if err := s.verifyLedger(l, o.Report); err != nil {
			return err
		}
	}
	f, err := s.o.FS.OpenDirect(s.path(logSuffix), disk.DirectOptions{})
	if err != nil {
		return s.reportOr(s.readDamage(logSuffix, 0, st.Size, &openError{err}), o.Report)
	}
	err = s.verifyLog(ctx, f, st, o)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// syncedEnd returns what the last Sync covered, and the last bytes of it as far as memory has them.
func (s *Segment) syncedEnd() (st State, ragged []byte) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	have := s.current.Size - int64(len(s.ragged))
	if s.inMemory && have < s.synced.Size {
		ragged = s.ragged[:s.synced.Size-have]
	}
	return s.synced, ragged
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
func (s *Segment) verifyLog(ctx context.Context, f disk.DirectFile, st State, o VerifyOptions) error {
	im := image{size: st.Size, blockCRC: st.BlockCRC}
	inFile := st.Size - int64(len(o.Ragged))
	full := s.o.Files.blockBuffer()
	defer s.o.Files.recycle(full)
	runs := damageRuns{report: o.Report}
	defer runs.flush()
	for pos := int64(0); pos < st.Size; pos += BlockSize {
		buf := full[:min(BlockSize, st.Size-pos)]
		if err := o.Pace(ctx, int64(len(buf))); err != nil {
			return err
		}
		read := min(int64(len(buf)), inFile-pos)
		copy(buf[read:], o.Ragged)
		err := s.verifyBlock(f, im, buf, read, pos)
		if d := asDamage(err); d != nil {
			runs.add(*d)
		} else if err != nil {
			return err
		}
	}
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("verify segment %d: %w", s.o.Base, err)
	}
	if st.Sealed && size > st.Size {
		runs.add(*s.damage(logSuffix, st.Size, size-st.Size, "there are bytes after the end"))
	}
	return nil
}

// verifyBlock reads the first n bytes of the block at pos into buf, which has the others, and checks it.
func (s *Segment) verifyBlock(f disk.DirectFile, im image, buf []byte, n, pos int64) error {
	crcs, err := s.blockCRCs(im, pos/BlockSize, pos/BlockSize+1)
	if err != nil {
		return err
	}
	if err := readFull(f, buf[:n], pos); err != nil {
		return s.readDamage(logSuffix, pos, int64(len(buf)), err)
	}
	return s.checkBlock(buf, pos/BlockSize, crcs)
}

// damageRuns puts damaged blocks that follow one another together.
type damageRuns struct {
	report func(DamageError)
	run    DamageError // Len 0: none
}

func (r *damageRuns) add(d DamageError) {
	if r.run.Len > 0 && r.run.File == d.File && r.run.Pos+r.run.Len == d.Pos {
		r.run.Len += d.Len
		return
	}
	r.flush()
	r.run = d
}

func (r *damageRuns) flush() {
	if r.run.Len > 0 {
		r.report(r.run)
	}
	r.run = DamageError{}
}

// reportOr reports err if it is damage and returns it if it is not.
func (s *Segment) reportOr(err error, report func(DamageError)) error {
	if d := asDamage(err); d != nil {
		report(*d)
		return nil
	}
	return err
}
