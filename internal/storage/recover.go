package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// recovery is the state of an Open that replays the wal. It runs on one goroutine, before any other of the engine exists; flushes of several
// partitions at a time are waited for.
type recovery struct {
	e          *Engine
	checkpoint *checkpointFile
	// from is, for each partition, the group before which its entries are in the checkpoint already.
	from    map[*Partition]wal.Sequence
	removed map[base.TopicIDPartition]bool // deleted, by the checkpoint or in the wal
	aside   *asideWriter
	deleted []*Partition // in the wal
	// givenUp: an operator has given up groups of which nobody knows what they held.
	givenUp bool
	// replayed counts the entries that were applied: none after a clean stop.
	replayed int
}

// recover brings the engine to where the data folder's last owner was: the checkpoint's state, and what the wal says happened
// after it. It reads no segment, so it costs the wal's length and not the data's.
func (e *Engine) recover(ctx context.Context) error {
	fs := e.cfg.FS
	if err := fs.MkdirAll(e.topicsDir(), 0o755); err != nil {
		return err
	}
	if err := disk.SyncDir(fs, e.cfg.Dir); err != nil {
		return err
	}
	c, err := readCheckpoint(fs, e.cfg.Dir)
	if err != nil {
		return err
	}
	if c == nil {
		c = &checkpointFile{From: 1, HighestProducer: base.NoProducerID}
	}
	r := &recovery{
		e: e, checkpoint: c, from: make(map[*Partition]wal.Sequence), removed: make(map[base.TopicIDPartition]bool),
		aside: &asideWriter{e: e},
	}
	if err := r.openPartitions(); err != nil {
		return err
	}
	if err := e.loadDamage(); err != nil {
		return err
	}
	log, err := wal.Open(ctx, wal.Config{
		OnFull: e.kickCheckpoint,
		FS:     fs, Dir: e.path(walFolder), MaxBytes: e.cfg.WALMaxBytes, FileBytes: e.cfg.WALFileBytes, Mode: e.cfg.AckMode,
		WriteBodies:  e.writeBodies,
		MinFreeBytes: e.cfg.MinFreeBytes, FullWait: spaceWait, Logger: e.cfg.Logger, OnDamage: r.damaged,
	}, c.From, r.replay)
	if err != nil {
		return err
	}
	e.log, e.released = log, c.From
	if err := r.aside.close(); err != nil {
		return err
	}
	return r.finish()
}

// openPartitions makes the partitions that the checkpoint and the metadata know.
func (r *recovery) openPartitions() error {
	e := r.e
	e.sawProducer(r.checkpoint.HighestProducer)
	for _, t := range r.checkpoint.Tombs {
		e.tombs[t.ID] = t.Until
	}
	specs := make(map[base.TopicIDPartition]PartitionSpec, len(e.cfg.Partitions))
	for _, s := range e.cfg.Partitions {
		specs[s.ID] = s
		e.partitions[s.ID] = e.newPartition(s)
	}
	for i := range r.checkpoint.Partitions {
		rec := &r.checkpoint.Partitions[i]
		spec, known := specs[rec.ID]
		_, buried := e.cfg.Tombstones[rec.ID.ID]
		switch {
		case known && spec.Topic == rec.Topic:
			p := e.partitions[rec.ID]
			if err := p.restore(rec); err != nil {
				return fmt.Errorf("partition %v of the checkpoint: %w", p, err)
			}
			r.from[p] = rec.From
		case buried:
			r.remove(removal{ID: rec.ID, Topic: rec.Topic})
		default:
			e.orphans = append(e.orphans, *rec)
			e.reportAside(Damage{
				Topic: rec.Topic, Partition: rec.ID, FirstOffset: rec.LogStart, LastOffset: rec.FlushedEnd - 1,
				File:   e.cfg.FS.PathJoin(e.topicsDir(), folderOf(rec.Topic, rec.ID.Partition)),
				Reason: "the metadata knows neither the topic nor its deletion; left as it is",
			})
		}
	}
	// What the checkpoint lists as removed, it no longer lists as data: it can go at once.
	for _, gone := range r.checkpoint.Removals {
		r.removed[gone.ID] = true
		if err := e.removeFolder(gone); err != nil {
			return err
		}
	}
	return nil
}

// remove notes a partition whose folder is to be unlinked after the next checkpoint.
func (r *recovery) remove(gone removal) {
	r.removed[gone.ID] = true
	r.e.removals = append(r.e.removals, &pendingRemoval{removal: gone})
	r.e.folders.claim(folderOf(gone.Topic, gone.ID.Partition))
}

// restore takes over what a checkpoint says of p.
func (p *Partition) restore(rec *partitionRecord) error {
	p.segments = p.segments[:0]
	pos := int64(0)
	for i := range rec.Sealed {
		if err := p.restoreSegment(rec.Sealed[i], pos); err != nil {
			return err
		}
		pos += rec.Sealed[i].Size
	}
	if err := p.restoreSegment(rec.Active, pos); err != nil {
		return err
	}
	pos += rec.Active.Size
	p.flushing = len(p.segments) - 1
	p.tail = p.e.pool.NewTail(pos)
	p.tail.Align(p.segments[p.flushing].start)
	p.flushedPos, p.endPos, p.hwPos = pos, pos, pos
	p.flushedEnd, p.end, p.hw = rec.FlushedEnd, rec.FlushedEnd, rec.FlushedEnd
	p.logStart, p.epochs = rec.LogStart, rec.Epochs
	if plant.On(plant.LostEpochs) {
		p.epochs = nil
	}
	p.flushed = rec.Producers
	p.flushed.expiry = p.e.cfg.ProducerExpiry
	p.producers = p.flushed.clone()
	p.folder = len(rec.Sealed) > 0 || rec.Active.Size > 0
	p.covered = rec.Active.Size > 0
	p.encoded = rec.appendTo(nil) // until something changes
	p.cleaner = cleanerState{
		cleanedTo: rec.CleanedTo, forgotten: rec.Forgotten, swaps: rec.Swaps, checkpointed: rec.Active.Base,
	}
	for _, m := range rec.Missing {
		for _, s := range p.segments {
			if s.base == m.Segment {
				p.addDamageLocked(damagedRange{from: s.start + m.Pos, to: s.start + m.Pos, damage: m.Damage})
			}
		}
	}
	if len(rec.Ragged) > 0 {
		p.covered = false // the checkpoint has the bytes themselves
		return p.restoreRagged(rec.RaggedPos, rec.Ragged)
	}
	return nil
}

func (p *Partition) restoreSegment(st segment.State, pos int64) error {
	s := newSegmentRef(st.Base, pos)
	s.firstTimestamp, s.maxTimestamp = st.FirstTimestamp, st.MaxTimestamp
	s.indexEntries, s.sinceIndex = int(st.Index.Entries), int(st.SinceIndex)
	p.segments = append(p.segments, s)
	if st.Size == 0 {
		return nil
	}
	open := segment.OpenActive
	if st.Sealed {
		open = segment.OpenSealed
	}
	var err error
	s.seg, err = open(p.segmentOptions(st.Base), st)
	return err
}

// restoreRagged gives the active segment back the bytes of its last block, which a power loss may have torn.
func (p *Partition) restoreRagged(pos int64, data []byte) error {
	s := p.segments[p.flushing]
	if s.seg == nil || p.unsynced || pos+int64(len(data)) != s.seg.Size() {
		return nil // of an earlier state
	}
	p.covered = false
	p.unsynced = true // the file is to get them
	p.changed = true
	return s.seg.RestoreRagged(pos, data)
}

// replay applies one entry of the wal.
func (r *recovery) replay(group wal.Sequence, entry wal.Entry) error {
	p := r.e.partitions[entry.Partition]
	if p == nil {
		return r.stray(group, entry)
	}
	if group < r.from[p] {
		return nil // the checkpoint has it
	}
	if err := r.apply(p, group, entry); err != nil {
		return fmt.Errorf("replay %v of %v in group %d: %w", entry.Kind, p, group, err)
	}
	r.replayed++
	return nil
}

// stray deals with an entry of a partition that the metadata does not know.
func (r *recovery) stray(group wal.Sequence, entry wal.Entry) error {
	if r.removed[entry.Partition] {
		return nil
	}
	if _, buried := r.e.cfg.Tombstones[entry.Partition.ID]; buried {
		r.e.tombs[entry.Partition.ID] = group
		return nil
	}
	return r.aside.write(group, entry)
}

// apply does to p what the entry says was done. It decides nothing.
func (r *recovery) apply(p *Partition, group wal.Sequence, entry wal.Entry) error {
	switch entry.Kind {
	case wal.Batches:
		return r.applyBatches(p, group, entry.Data)
	case wal.Placed:
		return r.applyPlaced(p, group, entry)
	case wal.Carry:
		if plant.On(plant.NoCarryReplay) {
			return nil
		}
		return r.applyCarry(p, group, entry.Data)
	case wal.Roll:
		if entry.FirstOffset == p.end && p.endPos > p.activeLocked().start {
			p.rollLocked(group)
		}
	case wal.LogStart:
		if plant.On(plant.LostLogStart) {
			return nil
		}
		p.startAtLocked(entry.FirstOffset)
	case wal.LeaderEpoch:
		return nil // batches carry their epochs
	case wal.SegmentsDeleted:
		bases, err := parseSegmentBases(entry.Data)
		if err != nil {
			return err
		}
		return r.applyDrop(p, bases)
	case wal.SegmentsSwapped:
		return r.applySwap(p, entry.Data)
	case wal.PartitionDeleted:
		delete(r.e.partitions, p.id)
		r.remove(removal{ID: p.id, Topic: p.topic})
		r.e.tombs[p.id.ID] = group
		r.deleted = append(r.deleted, p)
		p.close()
	default:
		return fmt.Errorf("%w: unknown kind", errPayload)
	}
	return nil
}

func (r *recovery) applyCarry(p *Partition, group wal.Sequence, data []byte) error {
	if len(data) == 0 {
		return errPayload
	}
	switch data[0] {
	case carryBatches:
		return r.applyBatches(p, group, data[1:])
	case carryRagged:
		first, pos, bytes, err := parseRagged(data[1:])
		if err != nil {
			return err
		}
		if first == p.segments[p.flushing].base {
			return p.restoreRagged(pos, bytes)
		}
		return nil
	}
	return fmt.Errorf("%w: carry of kind %d", errPayload, data[0])
}

// applyBatches appends batches again, as far as the segments do not hold them.
func (r *recovery) applyBatches(p *Partition, group wal.Sequence, data []byte) error {
	for len(data) > 0 {
		batch, rest, err := record.Next(data)
		if err != nil {
			return err
		}
		data = rest
		h, err := record.ParseHeader(batch)
		if err != nil {
			return err
		}
		switch {
		case r.passes(p, group, h.BaseOffset):
			continue
		case h.BaseOffset > p.end:
			r.missing(p, h.BaseOffset)
		}
		if plant.On(plant.GapInReplay) && h.BaseOffset%4 == 1 && !strings.HasPrefix(p.topic, "__") {
			p.end = h.LastOffset() + 1
			p.hw = p.end
			continue
		}
		if err := r.room(len(batch)); err != nil {
			return err
		}
		pos, err := p.tail.Append(batch)
		if err != nil {
			return err
		}
		p.acceptLocked(batch, h, pos, group)
		p.hw, p.hwPos = p.end, p.endPos
	}
	return nil
}

// missing goes on at offset next though the entries before it are not in the wal. The damage that cost them has been reported,
// and is known here already; if not, that is damage of its own.
func (r *recovery) missing(p *Partition, next base.Offset) {
	if d, known := p.damageAtLocked(p.end); known {
		p.end = min(next, d.LastOffset+1)
	}
	if p.end < next {
		d := Damage{File: r.e.path(walFolder), Reason: "the wal lacks the records"}
		if r.givenUp {
			d.FirstOffset, d.LastOffset = p.end, next-1
			p.giveUpLocked(damagedRange{damage: d})
			r.e.keepDamage()
		}
		p.loseLocked(p.end, next-1, d)
		r.e.reportDamage(p.damage[len(p.damage)-1].damage)
	}
}

// damaged is told of damage in the wal. What a damaged run held is lost to its partition; everything else goes on.
func (r *recovery) damaged(c *wal.CorruptError) error {
	if len(c.Runs) == 0 && r.e.groupsGivenUp(c) {
		r.e.cfg.Logger.Warn("damage in the wal was given up by an operator; records of any partition may be missing", "err", c)
		r.givenUp = true
		return nil
	}
	if len(c.Runs) == 0 {
		return c // it could be any partition's: nobody could say what is missing
	}
	for _, run := range c.Runs {
		d := Damage{
			Partition: run.Partition, FirstOffset: run.FirstOffset, LastOffset: run.LastOffset,
			File: c.File, Pos: run.Offset, Len: run.Length, Reason: c.Reason,
		}
		p := r.e.partitions[run.Partition]
		if p == nil {
			if !r.removed[run.Partition] {
				r.e.reportAside(d)
			}
			continue
		}
		if c.Last < r.from[p] {
			continue // the checkpoint has it
		}
		d.Topic = p.topic
		r.e.reportDamage(d)
		if run.Kind.Holds() {
			p.loseLocked(run.FirstOffset, run.LastOffset, d)
			p.hw = p.end
		}
	}
	return nil
}

// applyDrop takes segments out of the log that retention has dropped. They were sealed then; if they are not yet, their flush
// comes first.
func (r *recovery) applyDrop(p *Partition, bases []base.Offset) error {
	n := 0
	for n+1 < len(p.segments) && slices.Contains(bases, p.segments[n].base) {
		n++
	}
	if n == 0 {
		return nil
	}
	if p.flushing < n {
		if err := r.flush(p); err != nil {
			return err
		}
	}
	if n = min(n, p.flushing); n > 0 {
		p.dropLocked(n)
	}
	return nil
}

// room makes room for n bytes in the tail: what was replayed is flushed as it goes where that is more than the budget.
func (r *recovery) room(n int) error {
	pool := r.e.pool
	if pool.TryAcquire(n) {
		return nil
	}
	partitions := r.e.snapshot()
	for _, p := range partitions {
		p.forgetFlushed()
	}
	slices.SortFunc(partitions, func(a, b *Partition) int {
		return cmp.Compare(b.endPos-b.flushedPos, a.endPos-a.flushedPos)
	})
	goal := max(0, min(pool.Budget()/4*3, pool.Budget()-int64(n)))
	for {
		// No more than it takes: what some can not be rid of yet, others make up for.
		some, excess := 0, pool.InUse()-goal
		for some < len(partitions) && excess > 0 {
			excess -= partitions[some].tail.Held()
			some++
		}
		if some == 0 {
			break
		}
		if err := r.flush(partitions[:some]...); err != nil {
			return err
		}
		partitions = partitions[some:]
	}
	if !pool.TryAcquire(n) {
		pool.Overdraw(n) // those that could not be flushed yet; the wal's size bounds them
	}
	return nil
}

// replayFlushes is how many partitions are flushed, or have their ragged ends read, at a time during replay: each mostly waits for the disk.
const replayFlushes = 16

// flush writes what was replayed of partitions to their segments, but for those that have to wait.
func (r *recovery) flush(partitions ...*Partition) error {
	if err := r.keepRagged(partitions); err != nil {
		return err
	}
	return inParallel(replayFlushes, partitions, func(p *Partition) error {
		if p.covered && p.segments[p.flushing].seg != nil {
			return nil // its ragged end is torn; the wal will say further on what it was
		}
		err := p.flush(1)
		p.forgetFlushed()
		if errors.Is(err, errFolderTaken) {
			return nil // until there is a checkpoint without the deleted partition
		}
		return err
	})
}

// keepRagged makes the ragged ends of partitions safe in the checkpoint before replay rewrites their blocks: there is no wal yet to
// carry them in. Ends that a power loss has torn are left: an entry further on in the wal restores them.
func (r *recovery) keepRagged(partitions []*Partition) error {
	partitions = slices.DeleteFunc(slices.Clone(partitions), func(p *Partition) bool { return !p.covered || p.endPos == p.flushedPos })
	if len(partitions) == 0 {
		return nil
	}
	var mu sync.Mutex
	ends := make(map[base.TopicIDPartition]raggedEnd, len(partitions))
	err := inParallel(replayFlushes, partitions, func(p *Partition) error {
		end, err := p.raggedEnd()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		ends[p.id] = end
		return nil
	})
	if err != nil {
		return err
	}
	kept := false
	for i := range r.checkpoint.Partitions {
		rec := &r.checkpoint.Partitions[i]
		if end := ends[rec.ID]; len(end.data) > 0 && !end.torn {
			rec.RaggedPos, rec.Ragged = end.pos, end.data
			kept = true
		}
	}
	for _, p := range partitions {
		p.covered = ends[p.id].torn
	}
	if !kept {
		return nil
	}
	return writeCheckpoint(r.e.cfg.FS, r.e.cfg.Dir, r.checkpoint)
}

// raggedEnd is what stands after the last aligned position of a segment.
type raggedEnd struct {
	pos  int64
	data []byte
	torn bool
}

// raggedEnd reads that of the segment being flushed.
func (p *Partition) raggedEnd() (end raggedEnd, err error) {
	s := p.segments[p.flushing]
	if s.seg == nil {
		return end, nil
	}
	end.pos, end.data, end.torn, err = s.seg.CheckedRaggedBytes()
	return end, err
}

// finish makes the engine ready for use.
func (r *recovery) finish() error {
	e := r.e
	for _, s := range e.cfg.Partitions {
		if _, ok := e.partitions[s.ID]; !ok { // the wal says that it was deleted, the metadata that it was not
			e.cfg.Logger.Error("a deleted partition exists in the metadata; it is empty now", "topic", s.Topic, "partition", s.ID.Partition)
			e.partitions[s.ID] = e.newPartition(s)
		}
	}
	for _, p := range e.partitions {
		for _, d := range p.damage {
			if d.missing() && d.from == p.endPos {
				p.end = max(p.end, d.damage.LastOffset+1)
			}
		}
		p.hw, p.hwPos = p.end, p.endPos
		p.settleTxnsLocked()
		p.retired, p.forgotten = nil, p.layout // nobody has read yet
		p.lead()
		for _, s := range p.producers.byID {
			for i := range s.batches {
				s.batches[i].group = 0 // durable since before this start
			}
		}
		p.queueFlushLocked()
	}
	for id := range e.cfg.Tombstones {
		e.tombs[id] = max(e.tombs[id], e.log.Durable())
	}
	r.unlinkDropped()
	e.trigger.Store(e.cfg.WALMaxBytes / checkpointShare)
	e.dirty.Store(len(r.from) > 0 || len(e.removals) > 0)
	if e.log.LiveBytes()+e.placed.Load() >= e.trigger.Load() || len(e.removals) > 0 {
		e.kickCheckpoint()
	}
	e.cfg.Logger.Info("storage opened", "partitions", len(e.partitions), "entries_replayed", r.replayed)
	return r.reportFolders()
}

// unlinkDropped removes the segments that the checkpoint lists as dropped, but for those in whose place compaction has put others since.
func (r *recovery) unlinkDropped() {
	for i := range r.checkpoint.Partitions {
		rec := &r.checkpoint.Partitions[i]
		p := r.e.partitions[rec.ID]
		if _, known := r.from[p]; p == nil || !known {
			continue
		}
		for _, st := range rec.Dropped {
			same := func(other segment.State) bool { return other.Base == st.Base && other.Place == st.Place }
			if slices.ContainsFunc(p.segments, func(s *segmentRef) bool { return s.seg != nil && same(s.seg.Current()) }) ||
				slices.ContainsFunc(p.dropped, func(d *droppedSegment) bool { return same(d.state) }) {
				continue
			}
			seg, err := segment.OpenSealed(p.segmentOptions(st.Base), st)
			if err == nil {
				err = seg.Remove()
			}
			if err != nil {
				r.e.cfg.Logger.Warn("unlink segment", "topic", p.topic, "partition", p.id.Partition, "offset", st.Base, "err", err)
			}
			p.changed = true
		}
	}
}

// reportFolders looks for folders that nothing knows. Those of topics with a tombstone go, the others are reported and never
// deleted.
func (r *recovery) reportFolders() error {
	e := r.e
	names, err := e.cfg.FS.List(e.topicsDir())
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(names))
	for _, p := range e.partitions {
		known[p.folderName()] = p.folder // one that no checkpoint knows may be another topic's of the same name
	}
	for _, gone := range e.removals {
		known[folderOf(gone.Topic, gone.ID.Partition)] = true
		known[removedFolderOf(gone.removal)] = true
	}
	for _, o := range e.orphans {
		known[folderOf(o.Topic, o.ID.Partition)] = true
	}
	for _, name := range names {
		if known[name] || e.removeBuried(name) {
			continue
		}
		removed, err := r.unknownFolder(name)
		if err != nil {
			return err
		}
		if _, named := known[name]; removed || named {
			continue
		}
		e.reportAside(Damage{
			File: e.cfg.FS.PathJoin(e.topicsDir(), name), FirstOffset: base.NoOffset, LastOffset: base.NoOffset,
			Reason: "a folder that neither the metadata nor the log knows; left as it is",
		})
	}
	return nil
}

// unknownFolder removes a folder that no checkpoint lists if it belongs to a topic with a tombstone.
func (r *recovery) unknownFolder(name string) (removed bool, err error) {
	dash := strings.LastIndexByte(name, '-')
	number, err := strconv.ParseInt(name[dash+1:], 10, 32)
	if dash <= 0 || err != nil {
		return false, nil
	}
	dir := r.e.cfg.FS.PathJoin(r.e.topicsDir(), name)
	id, err := segment.ReadPartitionMetadata(r.e.cfg.FS, dir)
	if err != nil && r.e.draftOnly(dir) {
		return true, r.e.cfg.FS.RemoveAll(dir) // made just before the end of an earlier life
	}
	if err != nil || !r.e.buried(id) {
		return false, nil
	}
	return true, r.e.removeFolder(removal{ID: base.TopicIDPartition{ID: id, Partition: int32(number)}, Topic: name[:dash]})
}

// removeBuried unlinks a folder that was renamed for removal and whose topic has a tombstone.
func (e *Engine) removeBuried(name string) bool {
	rest, ok := strings.CutSuffix(name, removedSuffix)
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot < 0 {
		return false
	}
	id, err := base.ParseTopicID(rest[dot+1:])
	if err != nil {
		return false
	}
	if !e.buried(id) {
		return false
	}
	if err := e.cfg.FS.RemoveAll(e.cfg.FS.PathJoin(e.topicsDir(), name)); err != nil {
		e.cfg.Logger.Warn("unlink the folder of a deleted partition", "folder", name, "err", err)
	}
	return true
}

// reportAside reports data that was set aside.
func (e *Engine) reportAside(d Damage) {
	e.aside = append(e.aside, d)
	e.reportDamage(d)
}
