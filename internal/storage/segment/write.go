package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

const (
	// minAlignment bounds the ragged end before a file has been opened and says what it really needs.
	minAlignment = disk.MinAlignment
	// writeBytes is how much one direct write carries.
	writeBytes = 1 << 20
)

// writing belongs to the one goroutine that writes.
type writing struct {
	align   int      // of the log's direct writes, 0 before the first
	trimmed bool     // what an earlier life may have left behind the files' ends is gone
	listed  bool     // the files are in the folder, durably
	dirty   bool     // something was written since the last Sync or WriteOut
	out     *State   // what the last WriteOut wrote and nobody has synced, nil if there is nothing
	checked bool     // the last block is what the state says, or was given up
	sealing *State   // what Seal has begun to write
	views   [][]byte // spare memory of writeViews

	// Spare memory for entries of sidecar and indexes.
	whole, index, time []byte
}

// Write extends the segment at Size() by data, which is exactly batches in order. Only batches that can never be taken back may be
// written: the bytes of the files are a function of the batches alone, and nothing is ever cut off.
//
// Whole aligned blocks go to the disk at once, past the page cache; the rest, and the indexes, follow at Sync. Write keeps no
// reference to data.
//
// Errors: ErrSealed, ErrTooLarge, ErrBadBatches, and a full disk (disk.IsNoSpace), after which the segment is as it was; others of the
// file system, after which the segment refuses further writes.
func (s *Segment) Write(data []byte, batches []BatchMeta) error {
	return s.WriteFrom(bytes.NewReader(data), int64(len(data)), batches)
}

// WriteFrom is Write with the n bytes of src from 0 on, which are read straight into the aligned buffers that are written, or, where src
// is a Viewer and has them in memory as the file will have them, written without a copy. An error of src is returned as it is and leaves the segment failed, as that of a write does.
func (s *Segment) WriteFrom(src Source, n int64, batches []BatchMeta) error {
	if err := s.failed(); err != nil {
		return err
	}
	x, err := s.plan(n, batches)
	if err != nil || n == 0 {
		return err
	}
	f, err := s.o.Files.acquire(s, logSuffix, true, true) // a file that went missing is no reason to refuse what comes
	if err != nil {
		return s.fail(err)
	}
	defer s.o.Files.release(f)
	s.writing.align = f.direct.Alignment()
	ragged, err := s.loadRagged()
	if err == nil {
		err = s.checkLast(ragged)
	}
	if err != nil {
		return s.fail(err)
	}
	s.writing.dirty = true

	blocks := blockSummer{crc: s.Current().BlockCRC, size: s.Size(), whole: s.writing.whole[:0]}
	ragged, err = s.writeAligned(f.direct, src, n, ragged, &blocks)
	if err != nil {
		return s.fail(fmt.Errorf("write segment %d: %w", s.o.Base, err))
	}
	s.side.append(blocks.whole)
	s.index.append(x.index)
	s.time.append(x.time)
	s.writing.whole, s.writing.index, s.writing.time = blocks.whole, x.index, x.time
	s.txn.append(x.txn)
	x.st.BlockCRC = blocks.crc
	x.st.Sidecar, x.st.Index, x.st.TimeIndex, x.st.TxnIndex = s.side.state(), s.index.state(), s.time.state(), s.txn.state()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.ragged, s.inMemory = x.st, ragged, true
	s.passLocked()
	return nil
}

// plan checks batches and computes the state and the index entries that they lead to.
func (s *Segment) plan(n int64, batches []BatchMeta) (*indexer, error) {
	w := &s.writing
	x := &indexer{st: s.Current(), interval: s.o.IndexInterval, index: w.index[:0], time: w.time[:0]}
	if x.st.Sealed {
		return nil, ErrSealed
	}
	end := x.st.Size + n
	if len(batches) > 0 && !s.Fits(batches[len(batches)-1].LastOffset, n) {
		return nil, fmt.Errorf("%w: %d bytes at %d", ErrTooLarge, n, x.st.Size)
	}
	for _, b := range batches {
		if b.FirstOffset < x.st.NextOffset || b.LastOffset < b.FirstOffset || b.Size <= 0 || int64(b.LastOffset-x.st.Base) > math.MaxInt32 {
			return nil, fmt.Errorf("%w: %+v after offset %d", ErrBadBatches, b, x.st.NextOffset)
		}
		x.add(b)
	}
	if x.st.Size != end {
		return nil, fmt.Errorf("%w: %d batches end at %d, the bytes at %d", ErrBadBatches, len(batches), x.st.Size, end)
	}
	return x, nil
}

// writeAligned writes ragged and n bytes of src from the last aligned position on, as far as they fill aligned blocks, and returns
// what is left.
func (s *Segment) writeAligned(f disk.DirectFile, src Source, n int64, ragged []byte, blocks *blockSummer) ([]byte, error) {
	align := int64(f.Alignment())
	viewer, _ := src.(Viewer)
	off := -int64(len(ragged)) // in src; negative in the ragged block
	for n-off >= align {
		at := s.Size() + off
		placed, until := s.placedAt(at)
		piece := min((n-off)&^(align-1), writeBytes, until-at)
		wrote, err := int64(0), error(nil)
		if placed {
			wrote, err = piece, s.sumBody(src, off, piece, blocks)
		} else if viewer != nil {
			wrote, err = s.writeViews(f, viewer, off, piece, blocks)
		}
		if wrote == 0 && err == nil {
			if viewer != nil && off < 0 {
				piece = align // what comes after the ragged block may be in memory as it has to be
			}
			wrote, err = piece, s.writeCopy(f, src, off, piece, ragged, blocks)
		}
		if err != nil {
			return nil, err
		}
		off += wrote
	}
	left := make([]byte, n-off)
	have := 0
	if off < 0 {
		have = copy(left, ragged)
	}
	if err := readFull(src, left[have:], off+int64(have)); err != nil {
		return nil, err
	}
	blocks.add(left[have:])
	return left, nil
}

// sumBody adds n bytes of a body, which stand in the file, to the sums. Those before offset 0 are in them already.
func (s *Segment) sumBody(src Source, off, n int64, blocks *blockSummer) error {
	end := off + n
	off = max(off, 0)
	viewer, _ := src.(Viewer)
	for viewer != nil && off < end {
		v := viewer.View(off, end-off)
		if len(v) == 0 {
			break
		}
		blocks.add(v)
		off += int64(len(v))
	}
	if off == end {
		return nil
	}
	buf := s.o.Files.writeBuffer(minAlignment)
	defer s.o.Files.recycle(buf)
	rest := buf[:end-off]
	err := readFull(src, rest, off)
	blocks.add(rest)
	return err
}

// writeViews writes up to n bytes from offset off of src on, which is at an aligned position, straight from where they are. It returns
// how many: none if they do not lie in memory as a direct write needs it.
func (s *Segment) writeViews(f disk.DirectFile, src Viewer, off, n int64, blocks *blockSummer) (int64, error) {
	align := f.Alignment()
	views, have := s.writing.views[:0], int64(0)
	for have < n {
		v := src.View(off+have, n-have)
		v = v[:len(v)&^(align-1)]
		if len(v) == 0 || !disk.Aligned(v, 0, align) {
			break
		}
		views, have = append(views, v), have+int64(len(v))
	}
	if have == 0 {
		return 0, nil
	}
	summed := max(0, -off) // those of the ragged block
	for _, v := range views {
		blocks.add(v[summed:])
		summed = 0
	}
	err := disk.WriteVec(f, views, s.Size()+off)
	clear(views)
	s.writing.views = views
	return have, err
}

// writeCopy writes n bytes from offset off of src on, through a buffer; before offset 0 they are those of ragged.
func (s *Segment) writeCopy(f disk.DirectFile, src Source, off, n int64, ragged []byte, blocks *blockSummer) error {
	buf := s.o.Files.writeBuffer(f.Alignment())
	defer s.o.Files.recycle(buf)
	have := 0
	if off < 0 {
		have = copy(buf[:n], ragged)
	}
	fresh := buf[have:n]
	if err := readFull(src, fresh, off+int64(have)); err != nil {
		return err
	}
	blocks.add(fresh)
	_, err := f.WriteAt(buf[:n], s.Size()+off)
	return err
}

// blockSummer computes block CRCs of bytes as they are appended.
type blockSummer struct {
	size  int64
	crc   uint32
	whole []byte // sidecar entries of the blocks that were filled
}

func (b *blockSummer) add(p []byte) {
	for len(p) > 0 {
		n := int(min(int64(len(p)), BlockSize-b.size%BlockSize))
		warm(p[:n]) // what waited in the tail has left the processor's caches
		b.crc = crc32.Update(b.crc, castagnoli, p[:n])
		b.size += int64(n)
		p = p[n:]
		if b.size%BlockSize == 0 {
			b.whole = binary.BigEndian.AppendUint32(b.whole, b.crc)
			b.crc = 0
		}
	}
}

// loadRagged returns the bytes after the last aligned position, from the file if they are not in memory. They are not checked, and what
// the file does not give is zeros: see checkLast.
func (s *Segment) loadRagged() ([]byte, error) {
	s.mu.RLock()
	ragged, ok, size := s.ragged, s.inMemory, s.current.Size
	s.mu.RUnlock()
	align, err := s.alignment()
	if err != nil {
		return nil, err
	}
	n := int(size % int64(align))
	if ok && len(ragged) == n {
		return ragged, nil
	}
	// What is in memory is newer than the file; what comes before it, if the alignment grew, is in the file.
	loaded := make([]byte, n)
	if _, err := s.readEnd(loaded[:n-len(ragged)], size-int64(n)); err != nil {
		return nil, err
	}
	copy(loaded[n-len(ragged):], ragged)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ragged, s.inMemory = loaded, true
	return loaded, nil
}

// readEnd fills b with what the log's file holds at pos, and zeros where it holds nothing that can be read. bad says why.
func (s *Segment) readEnd(b []byte, pos int64) (bad *DamageError, err error) {
	f, err := s.o.Files.acquire(s, logSuffix, false, false)
	if err == nil {
		defer s.o.Files.release(f)
		if err = readFull(f, b, pos); err == nil {
			return nil, nil
		}
	}
	err = s.readDamage(logSuffix, pos, int64(len(b)), err)
	return asDamage(err), notDamage(err)
}

// checkLast checks the last, partial block before the first write after it was read from the file. A damaged one would take what is
// written into it along, as one CRC covers both: so its bytes are given up as they are, the block's CRC becomes that of what is there, and
// Options.GiveUp writes down, before anything relies on that CRC, that they can not be served.
func (s *Segment) checkLast(ragged []byte) error {
	st := s.Current()
	n := st.Size % BlockSize
	if s.writing.checked || n == 0 {
		s.writing.checked = true
		return nil
	}
	full := s.o.Files.blockBuffer()
	defer s.o.Files.recycle(full)
	block := full[:n]
	clear(block)
	bad, err := s.readEnd(block[:n-int64(len(ragged))], st.Size-n)
	if err != nil {
		return err
	}
	copy(block[n-int64(len(ragged)):], ragged)
	crc := crc32.Checksum(block, castagnoli)
	if crc != st.BlockCRC {
		if bad == nil {
			bad = s.damage(logSuffix, st.Size-n, n, fmt.Sprintf("CRC32C is %#08x, want %#08x", crc, st.BlockCRC))
		}
		bad.Pos, bad.Len = st.Size-n, n
		if s.o.GiveUp == nil {
			return bad
		}
		if err := s.o.GiveUp(bad); err != nil {
			return err
		}
		s.mu.Lock()
		s.current.BlockCRC = crc
		s.mu.Unlock()
	}
	s.writing.checked = true
	return nil
}

// alignment returns what the log's direct writes are aligned to.
func (s *Segment) alignment() (int, error) {
	if s.writing.align != 0 {
		return s.writing.align, nil
	}
	if s.Size() == 0 {
		return minAlignment, nil
	}
	f, err := s.o.Files.acquire(s, logSuffix, true, false)
	if isNotExist(err) {
		return minAlignment, nil // the next Write makes it
	}
	if err != nil {
		return 0, err
	}
	defer s.o.Files.release(f)
	s.writing.align = f.direct.Alignment()
	return s.writing.align, nil
}

// RaggedBytes returns the last aligned position and a copy of the bytes from there to Size(). The next Write rewrites their block in
// place, so if a checkpoint counts on them they have to be in the live wal first. For the goroutine that writes.
//
// Errors: those of reading the file, when they are not in memory.
func (s *Segment) RaggedBytes() (pos int64, data []byte, err error) {
	ragged, err := s.loadRagged()
	if err != nil {
		return 0, nil, err
	}
	return s.Size() - int64(len(ragged)), bytes.Clone(ragged), nil
}

// CheckedRaggedBytes is RaggedBytes that reads the whole last block and checks it. torn tells that it is not what the segment's state says;
// then nothing of it is kept. What was checked here the next Write does not read again. For the goroutine that writes.
func (s *Segment) CheckedRaggedBytes() (pos int64, data []byte, torn bool, err error) {
	align, err := s.alignment()
	if err != nil {
		return 0, nil, false, err
	}
	im, err := s.image()
	if err != nil {
		return 0, nil, false, err
	}
	n := int(im.size % int64(align))
	pos = im.size - int64(n)
	if n == 0 {
		return pos, nil, false, nil
	}
	last, err := s.readExtent(im, im.size/BlockSize, 1, true /* direct */)
	if err != nil {
		return pos, nil, asDamage(err) != nil, notDamage(err)
	}
	defer s.o.Files.releaseExtent(last, false)
	ragged := bytes.Clone(last.data[len(last.data)-n:])
	s.mu.Lock()
	s.ragged, s.inMemory = ragged, true
	s.mu.Unlock()
	s.writing.checked = true
	return pos, bytes.Clone(ragged), false, nil
}

// RestoreRagged gives back what RaggedBytes returned, after a crash that may have torn the block: the next Write and reads use it
// instead of what is in the file. Bytes that end before Size() are of an earlier state, from before the checkpoint, and of no more
// use; they are ignored. For the goroutine that writes.
func (s *Segment) RestoreRagged(pos int64, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Sealed || pos+int64(len(data)) < s.current.Size {
		return nil
	}
	if pos+int64(len(data)) > s.current.Size || pos < 0 || pos%minAlignment != 0 {
		return fmt.Errorf("%w: ragged bytes %d to %d of %d", ErrBadBatches, pos, pos+int64(len(data)), s.current.Size)
	}
	s.ragged, s.inMemory = bytes.Clone(data), true
	s.writing.dirty = true // so that the file gets them
	return nil
}

// Shrink drops what can be read again, for a segment that has gone idle. It does nothing while something is not synced. For the
// goroutine that writes.
func (s *Segment) Shrink() {
	if s.writing.dirty || s.writing.out != nil {
		return
	}
	s.mu.Lock()
	if len(s.ragged) > 0 {
		s.ragged, s.inMemory = nil, false
	}
	s.writing.checked = false
	s.mu.Unlock()
	s.o.Files.forget(s)
}

// Sync makes everything written so far durable: records, indexes, sidecar and the files' names. Afterwards every file is exactly as
// long as Kafka expects it, and State covers all of it.
//
// After an error the files' state is unknown and the segment refuses further writes; only when the disk was full (disk.IsNoSpace)
// before anything was to be synced, Sync and Seal may be called again.
func (s *Segment) Sync() error {
	if err := s.failed(); err != nil {
		return err
	}
	if !s.writing.dirty && s.writing.out == nil {
		return nil
	}
	if err := s.sync(); err != nil {
		return s.fail(fmt.Errorf("sync segment %d: %w", s.o.Base, err))
	}
	s.writing.dirty, s.writing.out = false, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = s.current
	return nil
}

// WriteOut is Sync without the syncs, for many segments at a time: disk.FS.SyncAll and then Synced follow. Sync may come in between.
func (s *Segment) WriteOut() error {
	if err := s.failed(); err != nil {
		return err
	}
	if !s.writing.dirty {
		return nil
	}
	if err := s.writeFiles(false); err != nil {
		return s.fail(fmt.Errorf("write segment %d: %w", s.o.Base, err))
	}
	st := s.Current()
	s.writing.dirty, s.writing.out = false, &st
	return nil
}

// Synced says that what WriteOut wrote is durable, names included. It reports whether nothing was written since.
func (s *Segment) Synced() bool {
	if s.writing.out != nil {
		s.mu.Lock()
		s.synced = *s.writing.out
		s.mu.Unlock()
		s.writing.out, s.writing.listed = nil, true
	}
	return !s.writing.dirty
}

// writeFiles brings the files up to the state, and syncs each of them if sync is set.
func (s *Segment) writeFiles(sync bool) error {
	if err := s.trim(); err != nil {
		return err
	}
	if err := s.writeLogEnd(sync); err != nil {
		return err
	}
	for _, l := range s.ledgers() {
		if err := s.writeLedger(l, sync); err != nil {
			return err
		}
	}
	return nil
}

func (s *Segment) sync() error {
	if err := s.writeFiles(true); err != nil {
		return err
	}
	if s.writing.listed {
		return nil
	}
	if plant.On(plant.SkipSegmentFolderSync) {
		return nil
	}
	if err := disk.SyncDir(s.o.FS, s.o.Dir); err != nil {
		return syncFailed(err)
	}
	s.writing.listed = true
	return nil
}

// writeLogEnd writes the ragged end through the page cache, exactly as long as it is, and syncs the log if sync is set. A direct write of
// its block meets a dirty page only between WriteOut and Synced; the kernel writes that out first.
func (s *Segment) writeLogEnd(sync bool) error {
	s.mu.RLock()
	ragged, size := s.ragged, s.current.Size
	s.mu.RUnlock()
	if len(ragged) == 0 && !sync {
		return nil
	}
	if len(ragged) == 0 {
		f, err := s.o.Files.acquire(s, logSuffix, true, false)
		if err != nil {
			return err
		}
		defer s.o.Files.release(f)
		if plant.On(plant.SkipSegmentSync) {
			return nil
		}
		return syncFailed(f.direct.SyncData())
	}
	return s.writeCached(logSuffix, ragged, size-int64(len(ragged)), sync)
}

// writeLedger appends a ledger's new entries. The file is made even when there are none, as Kafka expects all of them but the
// transaction index.
func (s *Segment) writeLedger(l *ledger, sync bool) error {
	entries, at := l.pending()
	data, pos := entries, at
	if l == s.side && at == sidecarHeaderSize {
		data, pos = append(sidecarHeader(s.o.Base), entries...), 0
	}
	if len(entries) == 0 && (l == s.txn && at == 0 || (s.writing.listed || l == s.txn) && (!sync || s.writing.out == nil)) {
		return nil
	}
	if l == s.txn && at == 0 {
		s.writing.listed = false // the transaction index may begin long after the other files
	}
	if err := s.writeCached(l.suffix, data, pos, sync); err != nil {
		return err
	}
	l.flushed(entries)
	return nil
}

// writeCached writes through the page cache, and syncs the file if sync is set.
func (s *Segment) writeCached(suffix string, data []byte, pos int64, sync bool) error {
	f, err := s.o.FS.OpenReadWrite(s.path(suffix), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		// vfs allows a write to change what it is given: never hand it bytes that readers use.
		_, err = f.WriteAt(bytes.Clone(data), pos)
	}
	if err == nil && sync && !plant.On(plant.SkipSegmentSync) {
		err = syncFailed(f.SyncData())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// trim cuts off, once after opening, what an earlier life wrote past the ends that the state knows. Replay would write the same bytes
// again, except where index.interval.bytes has changed since or a footer was written. While there are bodies past the end it waits.
func (s *Segment) trim() error {
	if s.writing.trimmed || !s.bare() {
		return nil
	}
	logEnd := s.Size()
	ends := map[string]int64{logSuffix: logEnd}
	for _, l := range s.ledgers() {
		_, at := l.pending()
		ends[l.suffix] = at
	}
	for suffix, end := range ends {
		info, err := s.o.FS.Stat(s.path(suffix))
		switch {
		case isNotExist(err):
			continue
		case err != nil:
			return err
		case info.Size() <= end:
			continue
		}
		s.o.Files.forget(s) // a file to be cut must not be open
		if err := s.o.FS.Truncate(s.path(suffix), end); err != nil {
			return err
		}
		s.writing.listed = false
		s.writing.dirty = true // the block in which the log ends is written again
	}
	s.writing.trimmed = true
	return nil
}

// Seal ends the segment: it adds the last time index entry and the sidecar's footer, and syncs everything. No Write may follow. The
// decision to seal must be durable before it is carried out, as the batches are: replay repeats it.
func (s *Segment) Seal() error {
	if err := s.failed(); err != nil {
		return err
	}
	if s.Sealed() {
		return nil
	}
	if s.writing.sealing == nil { // else a full disk stopped it before
		x := &indexer{st: s.Current()}
		if x.st.Size > 0 {
			x.addTime()
			s.time.append(x.time)
			x.st.TimeIndex = s.time.state()
		}
		x.st.Sealed = true
		s.writing.sealing = &x.st
	}
	st := *s.writing.sealing
	if st.Size > 0 {
		if err := s.finish(st); err != nil {
			return s.fail(fmt.Errorf("seal segment %d: %w", s.o.Base, err))
		}
	}
	s.writing.dirty, s.writing.out, s.writing.sealing = false, nil, nil
	s.mu.Lock()
	s.current, s.synced = st, st
	s.mu.Unlock()
	s.Shrink()
	return nil
}

// finish syncs everything and adds the footer.
func (s *Segment) finish(st State) error {
	if err := s.trimRoom(); err != nil {
		return err
	}
	if err := s.sync(); err != nil {
		return err
	}
	_, end := s.side.pending()
	return s.writeCached(sidecarSuffix, sidecarFooter(st), end, true)
}
