package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors/oserror"
	"golang.org/x/sync/errgroup"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// Indirect writes: the whole blocks of a large batch, its body, go straight to where the segment will have them, and the wal gets an entry
// that says where that is (wal.Placed). So the bytes are written once. A body is durable before its entry is written: an entry that can be
// read vouches for it. Everything else is as if the wal held the batch: it waits in the tail until the flusher comes to it, which then
// leaves the body as it stands.
//
// The bodies of a segment cost a sync of their own in each group, so this pays where a group has a long run of a partition: large batches, or many
// that follow one another. Nobody knows a run before it is over. Batches go this way while enough of their partition waits to become durable, or
// of the partitions that wait on average: then the first of a run does as well (Partition.indirectLocked). And they do so only where there is room
// for them (Partition.makeRoom): a full disk is met there, and not by the wal.

const (
	// roomAhead is how much room is taken in a segment at a time, so that syncs of bodies do not wait for the file system to find it.
	roomAhead = 32 << 20
	// bodyWriters is how many segments get bodies of a group at a time.
	bodyWriters = 16
)

// body is what the wal has written before an entry of kind Placed.
type body struct {
	p        *Partition
	seg      *segment.Segment
	start    int64 // stream position of the segment
	from, to int64 // positions in it
}

// indirectLocked reports whether a batch of n bytes goes past the wal: it is likely to be in a long run, and what a recovery would have to read
// stays within the wal's limit.
func (p *Partition) indirectLocked(n int) bool {
	e := p.e
	if e.cfg.AckMode != wal.Synced || int64(n) < e.cfg.IndirectBytes || e.placed.Load() >= e.cfg.WALMaxBytes {
		return false
	}
	least := e.cfg.IndirectWaiting
	return p.endPos-p.hwPos >= least || e.waiting.Load() >= least*e.waitingIn.Load()
}

// payloads is spare memory for those of entries, which the wal copies.
var payloads = sync.Pool{New: func() any { return new([]byte) }}

// entryLocked is the entry of a batch that stands in the tail at pos. It may use what spare points to.
func (p *Partition) entryLocked(batch []byte, h record.Header, pos int64, spare *[]byte) wal.Entry {
	entry := wal.Entry{
		Kind: wal.Batches, Partition: p.id, FirstOffset: h.BaseOffset, LastOffset: h.LastOffset(), Data: batch,
		CRC: record.WholeCRC(batch), Summed: true,
	}
	if !p.indirectLocked(len(batch)) {
		return entry
	}
	s := p.activeLocked()
	at, size := pos-s.start, int64(len(batch))
	p.wantRoomLocked(s, at+size)
	if s.seg == nil {
		return entry
	}
	from, to, ok := s.seg.Place(at, size)
	if !ok {
		return entry
	}
	p.e.placed.Add(to - from)
	entry.Body = &body{p: p, seg: s.seg, start: s.start, from: from, to: to}
	placed := placedPayload{segment: s.base, pos: at, size: size, crc: entry.CRC, head: batch[:from-at], end: batch[to-at:]}
	*spare = placed.appendTo((*spare)[:0])
	entry.Kind, entry.Data, entry.CRC, entry.Summed = wal.Placed, *spare, 0, false
	return entry
}

// wantRoomLocked asks the flusher for room behind a position of the segment that appends go to, if there will soon be none.
func (p *Partition) wantRoomLocked(s *segmentRef, end int64) {
	room := int64(0)
	if s.seg != nil {
		room = s.seg.Room()
	}
	if p.wantsRoom || room >= min(end+roomAhead/2, p.roomLimitLocked()) || p.e.diskFull.Load() || p.e.roomless.Load() {
		return
	}
	p.wantsRoom = true
	if !p.queued {
		p.queued = true
		p.e.flusher.put(p)
	}
}

// roomLimitLocked is the largest position that the segment has.
func (p *Partition) roomLimitLocked() int64 { return min(p.config.SegmentBytes, math.MaxInt32) }

// makeRoom takes room for bodies if that is wanted. Where there is none batches go through the wal. p.flushMu is held.
func (p *Partition) makeRoom() error {
	p.mu.Lock()
	s := p.activeLocked()
	wanted := p.wantsRoom && !p.deleted && p.flushing == len(p.segments)-1
	p.wantsRoom = false
	to := min(p.endPos-s.start+roomAhead, p.roomLimitLocked())
	p.mu.Unlock()
	if !wanted {
		return nil
	}
	err := p.openForWrite(s)
	if err == nil {
		err = p.carryRagged(s) // what an earlier life left behind the segment's end is cut off first
	}
	if err == nil {
		err = p.e.checkRoom(to - max(s.seg.Room(), s.seg.Size()))
	}
	if err == nil {
		p.unsynced = true
		err = s.seg.Reserve(to)
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		p.e.roomless.Store(true)
		return nil
	case err != nil && !retriable(err):
		return fmt.Errorf("room for bodies of %v: %w", p, err)
	}
	return nil
}

// hasRoomLocked reports whether room was taken in the segment that appends go to.
func (p *Partition) hasRoomLocked() bool {
	seg := p.activeLocked().seg
	return seg != nil && seg.Room() > 0
}

// trimRoom gives back room that nothing has come for.
func (p *Partition) trimRoom() error {
	p.flushMu.Lock()
	defer p.flushMu.Unlock()
	return p.trimRoomHeld()
}

// trimRoomHeld is trimRoom with p.flushMu held.
func (p *Partition) trimRoomHeld() error {
	p.mu.Lock()
	s := p.segments[p.flushing]
	p.mu.Unlock()
	if s.seg == nil || s.seg.Room() == 0 {
		return nil
	}
	if err := p.carryRagged(s); err != nil {
		return fmt.Errorf("give back room of %v: %w", p, err)
	}
	p.unsynced = true
	return s.seg.TrimRoom()
}

// writeBodies is the wal's: it makes the bodies of a group durable, with one write and one sync for each segment. What lies between two bodies
// is in the group as well, so the tail has it and nobody else has written it yet.
//
// All is written before anything is synced: a journal that has to be committed for one of the files is then committed for all of them.
func (e *Engine) writeBodies(bodies []any) error {
	runs := make(map[*segment.Segment]body)
	for _, b := range bodies {
		b := b.(*body)
		run, begun := runs[b.seg]
		if !begun {
			run = *b
		}
		if !plant.On(plant.RunEndShort) {
			run.to = b.to
		}
		runs[b.seg] = run
	}
	var writes, syncs errgroup.Group
	writes.SetLimit(bodyWriters)
	syncs.SetLimit(bodyWriters)
	for seg, run := range runs {
		writes.Go(func() error { return seg.WriteBodies(tailSource{run.p, run.start}, run.from, run.to) })
	}
	if err := writes.Wait(); err != nil {
		return err
	}
	for seg := range runs {
		syncs.Go(seg.SyncBodies)
	}
	return syncs.Wait()
}

// placedPayload is the payload of wal.Placed: a batch whose body the segment has.
type placedPayload struct {
	segment   base.Offset // base offset of the segment
	pos       int64       // of the batch in it
	size      int64       // of the batch
	crc       uint32      // CRC32C of the batch
	head, end []byte      // what comes before the body, and after it
}

const placedHeader = 8 + 8 + 8 + 4

func (b placedPayload) appendTo(dst []byte) []byte {
	dst = slices.Grow(dst, placedHeader+len(b.head)+len(b.end))
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.segment))
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.pos))
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.size))
	dst = binary.BigEndian.AppendUint32(dst, b.crc)
	return append(append(dst, b.head...), b.end...)
}

// parsePlaced decodes the payload of Placed. head and end alias b.
func parsePlaced(b []byte) (placedPayload, error) {
	if len(b) < placedHeader {
		return placedPayload{}, fmt.Errorf("%w: placed with %d bytes", errPayload, len(b))
	}
	x := placedPayload{
		segment: base.Offset(binary.BigEndian.Uint64(b)), pos: int64(binary.BigEndian.Uint64(b[8:])),
		size: int64(binary.BigEndian.Uint64(b[16:])), crc: binary.BigEndian.Uint32(b[24:]),
	}
	b = b[placedHeader:]
	if x.segment < 0 || x.pos < 0 || x.pos > math.MaxInt32 || x.size < 0 || x.size > math.MaxInt32 {
		return x, fmt.Errorf("%w: placed: %+v", errPayload, x)
	}
	from, to := x.body()
	if from > to || int64(len(b)) != x.size-(to-from) {
		return x, fmt.Errorf("%w: placed: %d bytes beside a body from %d to %d of %d at %d", errPayload, len(b), from, to, x.size, x.pos)
	}
	x.head, x.end = b[:from-x.pos], b[from-x.pos:]
	return x, nil
}

// body is the range of the segment that the body is in.
func (b placedPayload) body() (from, to int64) { return segment.Blocks(b.pos, b.size) }

// read gives the batch, with its body from the segment's log in a partition's folder.
//
// Errors: *segment.DamageError if that is not what was written there, and the system's when the file can not be opened.
func (b placedPayload) read(fs disk.FS, dir string) ([]byte, error) {
	name := fs.PathJoin(dir, segment.FileName(b.segment, ".log"))
	from, to := b.body()
	damage := &segment.DamageError{File: name, Pos: from, Len: to - from, FirstOffset: b.segment}
	f, err := fs.OpenDirect(name, disk.DirectOptions{})
	if oserror.IsNotExist(err) {
		damage.Reason = "the file that the wal says has a batch is missing"
		return nil, damage
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	batch := make([]byte, b.size)
	copy(batch, b.head)
	copy(batch[to-b.pos:], b.end)
	if n, err := f.ReadAt(batch[from-b.pos:to-b.pos], from); n < int(to-from) {
		damage.Reason, damage.Err = "the part of a batch that the wal says is there can not be read", err
		return nil, damage
	}
	if crc := crc32.Checksum(batch, castagnoli); crc != b.crc && !plant.On(plant.BodyUnchecked) {
		damage.Reason = fmt.Sprintf("CRC32C of a batch whose body this is is %#08x, want %#08x", crc, b.crc)
		return nil, damage
	}
	return batch, nil
}

// readBody gives the batch of an entry of kind Placed. Errors as those of placedPayload.read.
func (e *Engine) readBody(entry wal.Entry, dir string) ([]byte, error) {
	placed, err := parsePlaced(entry.Data)
	if err != nil {
		return nil, err
	}
	return placed.read(e.cfg.FS, dir)
}

// placedAside makes of an entry of a partition that the metadata does not know one that holds the batch itself, if its folder is there.
func (e *Engine) placedAside(entry wal.Entry) (wal.Entry, error) {
	dir, err := e.folderFor(entry.Partition)
	if err != nil || dir == "" {
		return entry, err
	}
	batch, err := e.readBody(entry, dir)
	if err == nil {
		entry.Kind, entry.Data = wal.Batches, batch
	}
	return entry, err
}

// folderFor finds the folder of a partition that the metadata does not know; "" if there is none.
func (e *Engine) folderFor(id base.TopicIDPartition) (dir string, err error) {
	names, err := e.cfg.FS.List(e.topicsDir())
	if err != nil && !oserror.IsNotExist(err) {
		return "", err
	}
	for _, name := range names {
		own := strings.TrimSuffix(name, "."+id.ID.String()+strayedSuffix)
		if !strings.HasSuffix(own, folderOf("", id.Partition)) {
			continue
		}
		dir := e.cfg.FS.PathJoin(e.topicsDir(), name)
		if owner, err := segment.ReadPartitionMetadata(e.cfg.FS, dir); err == nil && owner == id.ID {
			return dir, nil
		}
	}
	return "", nil
}

// applyPlaced appends a batch again of which the segment has the body.
func (r *recovery) applyPlaced(p *Partition, group wal.Sequence, entry wal.Entry) error {
	placed, err := parsePlaced(entry.Data)
	if err != nil || r.passes(p, group, entry.FirstOffset) {
		return err
	}
	batch, err := placed.read(r.e.cfg.FS, p.dir())
	var damage *segment.DamageError
	if errors.As(err, &damage) {
		r.loseBody(p, entry, damage)
		return nil
	}
	if err != nil {
		return err
	}
	from, to := placed.body()
	r.e.placed.Add(to - from)
	r.keepBody(p, group, entry, placed)
	return r.applyBatches(p, group, batch)
}

// passes reports whether a batch is in the segments already, or will be told once more further on in the group.
func (r *recovery) passes(p *Partition, group wal.Sequence, first base.Offset) bool {
	return first < p.end || first > p.end && group == r.from[p]
}

// loseBody notes that a batch is lost: its body is damaged. Everything else goes on.
func (r *recovery) loseBody(p *Partition, entry wal.Entry, found *segment.DamageError) {
	if entry.FirstOffset > p.end {
		r.missing(p, entry.FirstOffset)
	}
	d := bodyDamage(p.topic, entry, found)
	r.e.reportDamage(d)
	p.loseLocked(d.FirstOffset, d.LastOffset, d)
	p.hw = p.end
}

// bodyDamage is the damage of an entry whose body is damaged.
func bodyDamage(topic string, entry wal.Entry, found *segment.DamageError) Damage {
	return Damage{
		Topic: topic, Partition: entry.Partition, FirstOffset: entry.FirstOffset, LastOffset: entry.LastOffset,
		File: found.File, Pos: found.Pos, Len: found.Len, Reason: found.Reason,
	}
}

// keepBody sees to it that nothing touches a body that the wal counts on.
//
// Batches that were lost to damage leave those after them nearer to the segment's start than they were. Then the body is not where the segment
// will have the batch, and what comes must not be written over it: the batch begins a segment of its own.
func (r *recovery) keepBody(p *Partition, group wal.Sequence, entry wal.Entry, placed placedPayload) {
	if plant.On(plant.BodyRewritten) {
		return
	}
	i := slices.IndexFunc(p.segments, func(s *segmentRef) bool { return s.base == placed.segment })
	if i < p.flushing {
		return
	}
	s := p.segments[i]
	if s.seg == nil {
		s.seg = segment.Create(p.segmentOptions(s.base))
	}
	s.seg.Keep(placed.body())
	active := s == p.activeLocked()
	if active && p.endPos-s.start == placed.pos {
		return
	}
	p.strewn = append(p.strewn, strewnBody{s.seg, entry.LastOffset})
	if active {
		if entry.FirstOffset > p.end {
			r.missing(p, entry.FirstOffset)
		}
		p.rollLocked(group)
	}
}

// strewnBody stands in a segment that does not have its batch.
type strewnBody struct {
	seg  *segment.Segment
	last base.Offset // of the batch
}

// cutStrewn cuts bodies off that stand behind the ends of segments which do not have their batches, now that a checkpoint has them.
func (p *Partition) cutStrewn(flushedEnd base.Offset) error {
	p.flushMu.Lock()
	defer p.flushMu.Unlock()
	for len(p.strewn) > 0 && p.strewn[0].last < flushedEnd && p.strewn[0].seg.Sealed() {
		if err := p.strewn[0].seg.CutBodies(); err != nil {
			return fmt.Errorf("cut bodies from the end of a segment of %v: %w", p, err)
		}
		p.strewn = p.strewn[1:]
	}
	return nil
}
