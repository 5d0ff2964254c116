package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

const (
	// flushBlock is how many bytes of a partition are written to its segment at a time: enough that a direct write runs at the
	// disk's own speed. A partial block waits in the tail and in the wal.
	flushBlock = 1 << 20
	// flushPiece is how much is written at a time while memory is plentiful: an append that has to be on the disk waits for no more than
	// one such write.
	flushPiece = 512 << 10
	// remainder is the most that is copied forward in the wal rather than flushed when a wal file is to be released.
	remainder = 64 << 10
	// fullDiskWait is how long an append waits for tail space while the disk is known to be full, and how often the flush of a
	// partition is tried again then.
	fullDiskWait = 100 * time.Millisecond
)

// errFolderTaken says that the partition's folder still belongs to a deleted partition of the same name. A checkpoint frees it.
var errFolderTaken = errors.New("folder belongs to a deleted partition")

// queueFlushLocked hands p to the flusher if it has a whole block, or a segment to be ended. p.mu is held.
func (p *Partition) queueFlushLocked() {
	if p.queued || p.deleted {
		return
	}
	if p.hwPos-p.flushedPos < flushBlock && !p.sealableLocked() {
		return
	}
	p.queued = true
	p.e.flusher.put(p)
}

// sealableLocked reports whether the segment being flushed was followed by a roll that is durable.
func (p *Partition) sealableLocked() bool {
	if p.flushing+1 >= len(p.segments) {
		return false
	}
	next := p.segments[p.flushing+1]
	// The wal counts a group as durable only once committers were told of it, and it is they who have a segment sealed.
	return p.hwPos >= next.start && next.roll <= max(p.e.durable(), wal.Sequence(p.e.committed.Load()))
}

// flush writes durable batches from the tail to the segments, in order: whole blocks, and the rest too where at least `least`
// bytes wait, or the segment has ended. Ended segments are sealed.
//
// The error wraps what the file system said. After errors that leave no doubt about the files (see retriable) it may be called
// again.
func (p *Partition) flush(least int64) error {
	p.flushMu.Lock()
	defer p.flushMu.Unlock()
	return p.flushHeld(least)
}

// flushHeld is flush with p.flushMu held.
func (p *Partition) flushHeld(least int64) error {
	for {
		if err := p.makeRoom(); err != nil {
			return err
		}
		s, limit, ended := p.flushStep(least)
		switch {
		case s == nil:
			return nil
		case limit > p.flushedPos:
			if err := p.flushChunk(s, limit); err != nil {
				return fmt.Errorf("flush %v: %w", p, err)
			}
		case ended:
			if err := p.seal(s); err != nil {
				return fmt.Errorf("seal a segment of %v: %w", p, err)
			}
		}
	}
}

// flushStep finds what to do next: the segment, the position up to which it can be written, and whether it ends there. nil if
// there is nothing to do.
func (p *Partition) flushStep(least int64) (s *segmentRef, limit int64, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleted {
		return nil, 0, false
	}
	s, limit = p.segments[p.flushing], p.hwPos
	if p.sealableLocked() {
		return s, p.segments[p.flushing+1].start, true
	}
	if p.flushing+1 < len(p.segments) {
		limit = min(limit, p.segments[p.flushing+1].start) // rolled, but the roll is not durable yet
	}
	if waiting := limit - p.flushedPos; waiting == 0 || waiting < min(least, flushBlock) {
		return nil, 0, false
	}
	return s, limit, false
}

// flushScratch is the working memory of a flush.
type flushScratch struct {
	batches []segment.BatchMeta
	logged  []logged // the batches that change the producer state
	clock   int64    // largest timestamp
	header  [record.HeaderSize]byte
}

var flushScratches = sync.Pool{New: func() any { return new(flushScratch) }}

// flushChunk writes about a block of whole batches, or a piece of one, from flushedPos up to limit at most.
func (p *Partition) flushChunk(s *segmentRef, limit int64) error {
	scratch := flushScratches.Get().(*flushScratch)
	defer flushScratches.Put(scratch)
	piece := int64(flushBlock)
	if p.e.plentiful() {
		piece = flushPiece
	}
	n, err := p.scanTail(scratch, min(limit, p.flushedPos+piece), limit)
	if err != nil {
		return err
	}
	if err := p.e.checkRoom(n); err != nil {
		return err
	}
	if err := p.openForWrite(s); err != nil {
		return err
	}
	if err := p.carryRagged(s); err != nil {
		return err
	}
	p.unsynced = true
	p.nameAborted(scratch.batches)
	if err := s.seg.WriteFrom(tailSource{p, p.flushedPos}, n, scratch.batches); err != nil {
		return err
	}
	for _, entry := range scratch.logged {
		entry.pos -= s.start
		p.flushed.apply(entry, 0)
	}
	p.flushedTo(p.flushedPos+n, scratch.batches[len(scratch.batches)-1].LastOffset+1)
	return nil
}

// checkRoom refuses a flush of n bytes that would take the room of Config.MinFreeBytes. Recovery and a stop may take it.
func (e *Engine) checkRoom(n int64) error {
	if e.log == nil || e.closing.Load() {
		return nil
	}
	return disk.CheckRoom(e.cfg.FS, e.cfg.Dir, n, e.cfg.MinFreeBytes)
}

// scanTail lists the batches from flushedPos to the first boundary at or after enough, which lies at or before limit.
func (p *Partition) scanTail(scratch *flushScratch, enough, limit int64) (n int64, err error) {
	scratch.batches, scratch.logged, scratch.clock = scratch.batches[:0], scratch.logged[:0], 0
	pos := p.flushedPos
	for pos < enough {
		if got, ok := p.tail.ReadAt(scratch.header[:], pos); !ok || got < record.HeaderSize {
			panic(fmt.Sprintf("storage: %v: the tail lacks position %d, flushed to %d", p, pos, p.flushedPos))
		}
		h, err := record.ParseHeader(scratch.header[:])
		if err != nil {
			return 0, fmt.Errorf("batch at stream position %d of the tail: %w", pos, err)
		}
		scratch.batches = append(scratch.batches, segment.BatchMeta{
			FirstOffset: h.BaseOffset, LastOffset: h.LastOffset(), Size: int32(h.Size()),
			MaxTimestamp: h.MaxTimestamp, OffsetOfMax: h.LastOffset(),
		})
		if h.HasProducer() || h.MaxTimestamp > scratch.clock {
			entry := logged{Header: h, pos: pos}
			if h.Attributes.Control() {
				batch := make([]byte, h.Size())
				if n, ok := p.tail.ReadAt(batch, pos); ok && n == len(batch) {
					entry.marker = markerOf(batch)
				}
			}
			scratch.logged = append(scratch.logged, entry)
			scratch.clock = max(scratch.clock, h.MaxTimestamp)
		}
		pos += int64(h.Size())
	}
	if pos > limit {
		panic(fmt.Sprintf("storage: %v: a batch ends at %d, past the durable end %d", p, pos, limit))
	}
	return pos - p.flushedPos, nil
}

// nameAborted says of each batch which transaction it aborts.
func (p *Partition) nameAborted(batches []segment.BatchMeta) {
	if plant.On(plant.AbortNotIndexed) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.aborted {
		i := sort.Search(len(batches), func(i int) bool { return batches[i].FirstOffset >= a.LastOffset })
		if i < len(batches) && batches[i].FirstOffset == a.LastOffset {
			batches[i].Aborted = &a
		}
	}
}

// tailSource gives a segment the tail's bytes from start on.
type tailSource struct {
	p     *Partition
	start int64
}

// ReadAt implements segment.Source.
func (t tailSource) ReadAt(b []byte, off int64) (int, error) {
	n, ok := t.p.tail.ReadAt(b, t.start+off)
	if !ok || n < len(b) {
		return n, fmt.Errorf("the tail holds %d of %d bytes at stream position %d", n, len(b), t.start+off)
	}
	return n, nil
}

// View implements segment.Viewer. The tail keeps the bytes from flushedPos on, and with them the block that they are in, as long as
// p.flushMu is held.
func (t tailSource) View(off, n int64) []byte { return t.p.tail.View(t.start+off, n) }

// flushedTo notes that every byte before pos is in a segment, and lets the tail forget what consumers that keep up have
// probably read.
func (p *Partition) flushedTo(pos int64, end base.Offset) {
	keep := int64(0)
	if p.e.pool.InUse() < p.e.pool.Budget()/2 {
		keep = flushBlock
	}
	p.mu.Lock()
	p.flushedPos, p.flushedEnd = pos, end
	if len(p.aborted) > 0 {
		p.aborted = slices.DeleteFunc(p.aborted, func(a AbortedTxn) bool { return a.LastOffset < end })
	}
	p.changed = true
	release := pos - keep
	p.index.trim(release)
	p.mu.Unlock()
	p.tail.ReleaseTo(release)
}

// forgetFlushed lets the tail forget everything that is in a segment.
func (p *Partition) forgetFlushed() {
	p.mu.Lock()
	pos := p.flushedPos
	if pos == p.endPos {
		p.index.clear()
	} else {
		p.index.trim(pos)
	}
	p.mu.Unlock()
	p.tail.ReleaseTo(pos)
}

// shrinkTail lets the tail take less memory for what is left in it, if nobody is writing that.
func (p *Partition) shrinkTail() {
	if !p.flushMu.TryLock() {
		return
	}
	defer p.flushMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hwPos == p.endPos {
		p.tail.Shrink()
	}
}

// openForWrite makes the segment, and the partition's folder, if they do not exist.
func (p *Partition) openForWrite(s *segmentRef) error {
	if err := p.makeFolder(); err != nil {
		return err
	}
	if s.seg == nil {
		seg := segment.Create(p.segmentOptions(s.base))
		p.mu.Lock()
		s.seg = seg
		p.mu.Unlock()
	}
	return nil
}

// makeFolder makes the partition's folder and says in it whose it is.
func (p *Partition) makeFolder() error {
	if p.folder {
		return nil
	}
	if err := p.draftFolder(segment.WritePartitionMetadata); err != nil {
		return err
	}
	if err := disk.SyncDir(p.e.cfg.FS, p.e.topicsDir()); err != nil {
		return err
	}
	p.folder = true
	return nil
}

// draftFolder makes the partition's folder, and has write say in it whose it is. Until that is synced a power loss may take it away, and nothing
// may be put into it.
func (p *Partition) draftFolder(write func(fs disk.FS, dir string, id base.TopicID) error) error {
	dir := p.dir()
	if p.e.folders.taken(p.folderName()) {
		p.e.kickCheckpoint()
		return fmt.Errorf("%w: %s", errFolderTaken, dir)
	}
	if err := p.clearFolder(dir); err != nil {
		return err
	}
	if err := p.e.cfg.FS.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return write(p.e.cfg.FS, dir, p.id.ID)
}

// clearFolder sets a folder aside that stands in p's place but belongs to another topic.
func (p *Partition) clearFolder(dir string) error {
	id, err := segment.ReadPartitionMetadata(p.e.cfg.FS, dir)
	if err != nil || id == p.id.ID {
		return nil // none, or one whose owner never came to say so
	}
	if p.e.buried(id) {
		return p.e.removeFolder(removal{ID: base.TopicIDPartition{ID: id, Partition: p.id.Partition}, Topic: p.topic})
	}
	aside := fmt.Sprintf("%s.%s%s", dir, id, strayedSuffix)
	p.e.reportDamage(Damage{
		Topic: p.topic, Partition: base.TopicIDPartition{ID: id, Partition: p.id.Partition}, FirstOffset: base.NoOffset,
		LastOffset: base.NoOffset, File: aside, Reason: "the folder of a topic that neither the metadata nor the log knows; set aside",
	})
	return p.e.cfg.FS.Rename(dir, aside)
}

// carryRagged puts the bytes after the segment's last aligned position into the wal, if a checkpoint counts on them: the next
// write rewrites their block in place, as a cut of the file there does, and a power loss in the middle of it may leave anything there.
func (p *Partition) carryRagged(s *segmentRef) error {
	if !p.covered || plant.On(plant.NoCarry) {
		return nil
	}
	pos, data, err := s.seg.RaggedBytes()
	if err != nil {
		return err
	}
	if len(data) > 0 {
		ctx := context.WithoutCancel(p.e.ctx) // the wal answers in any case, and Close flushes when the background work has ended
		entry := wal.Entry{
			Kind: wal.Carry, Partition: p.id, FirstOffset: s.base, LastOffset: p.flushedEnd - 1,
			Data: appendRagged(nil, s.base, pos, data),
		}
		r, err := p.e.log.ReserveCarry(ctx, len(entry.Data))
		if err != nil {
			return p.e.walError(err)
		}
		p.mu.Lock()
		group := p.e.log.Append(&r, entry, nil)
		p.mu.Unlock()
		if err := p.e.walError(p.e.log.Wait(ctx, group)); err != nil {
			return err
		}
	}
	p.covered = false
	p.markChanged() // the next checkpoint covers it again, and may let go of what was carried
	return nil
}

// seal ends the segment being flushed, whose last byte is flushed, and goes on to the next.
func (p *Partition) seal(s *segmentRef) error {
	if s.seg != nil {
		if err := p.carryRagged(s); err != nil {
			return err
		}
		if err := s.seg.Seal(); err != nil {
			return err
		}
	}
	p.unsynced, p.covered = false, false
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushing++
	p.flushedEnd = max(p.flushedEnd, p.segments[p.flushing].base)
	p.changed = true
	return nil
}

// retriable reports whether a flush that failed with err may be tried again: no write has been left in doubt.
func retriable(err error) bool {
	return errors.Is(err, errFolderTaken) || errors.Is(err, ErrNoSpace) || disk.IsNoSpace(err)
}
