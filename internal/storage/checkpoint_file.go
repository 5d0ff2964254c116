package storage

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// The checkpoint file; docs/formats/checkpoint.md has it byte by byte.
const (
	checkpointName    = "checkpoint"
	checkpointMagic   = "OTTLACKP"
	checkpointVersion = 3                 // 1 knows nothing of transactions, 2 nothing of compaction; they are still read
	checkpointHeader  = 8 + 4 + 8 + 4 + 4 // magic, version, body length, body CRC, header CRC
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkpointFile is what a checkpoint says. Integers are big-endian in the file, strings and lists have a length before them.
type checkpointFile struct {
	From            wal.Sequence // replay begins here
	HighestProducer base.ProducerID
	Partitions      []partitionRecord
	Removals        []removal
	Tombs           []tomb

	encoded [][]byte // more records, encoded already
}

// partitionRecord is a partition as of its flushed offset. What came later is in the wal, from group From on.
type partitionRecord struct {
	ID         base.TopicIDPartition
	Topic      string
	From       wal.Sequence
	LogStart   base.Offset
	FlushedEnd base.Offset
	Sealed     []segment.State
	Active     segment.State
	Dropped    []segment.State // to be unlinked now that no list holds them
	Epochs     epochCache
	Producers  producerTable
	Missing    []missingRecord
	Ragged     []byte // the bytes after Active's last aligned position, where the checkpoint must hold them
	RaggedPos  int64

	CleanedTo, Forgotten base.Offset // cleanerState
	Swaps                uint64
}

// missingRecord is a range of offsets that damage in the wal has cost.
type missingRecord struct {
	Segment base.Offset // base of the segment in which the gap is
	Pos     int64       // where in it
	Damage  Damage
}

// removal is a deleted partition whose folder is to be unlinked.
type removal struct {
	ID    base.TopicIDPartition
	Topic string
}

// tomb says up to which group the wal may hold entries of a deleted topic.
type tomb struct {
	ID    base.TopicID
	Until wal.Sequence
}

var errCheckpoint = errors.New("damaged checkpoint")

// encode returns the whole file.
func (c *checkpointFile) encode() []byte {
	size := checkpointHeader + 256 + 300*len(c.Partitions)
	for i := range c.Partitions {
		size += len(c.Partitions[i].Ragged)
	}
	b := make([]byte, checkpointHeader, size)
	b = binary.BigEndian.AppendUint64(b, uint64(c.From))
	b = binary.BigEndian.AppendUint64(b, uint64(c.HighestProducer))
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Partitions)+len(c.encoded)))
	for i := range c.Partitions {
		b = c.Partitions[i].appendTo(b)
	}
	for _, r := range c.encoded {
		b = append(b, r...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Removals)))
	for _, r := range c.Removals {
		b = appendPartition(b, r.ID)
		b = appendString(b, r.Topic)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Tombs)))
	for _, t := range c.Tombs {
		b = append(b, t.ID[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(t.Until))
	}
	return sealCheckpoint(b)
}

// sealCheckpoint fills in the header of a file whose body is complete.
func sealCheckpoint(b []byte) []byte {
	body := b[checkpointHeader:]
	h := append(b[:0], checkpointMagic...)
	h = binary.BigEndian.AppendUint32(h, checkpointVersion)
	h = binary.BigEndian.AppendUint64(h, uint64(len(body)))
	h = binary.BigEndian.AppendUint32(h, crc32.Checksum(body, castagnoli))
	binary.BigEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	return b
}

func (r *partitionRecord) appendTo(b []byte) []byte {
	b = appendPartition(b, r.ID)
	b = appendString(b, r.Topic)
	b = binary.BigEndian.AppendUint64(b, uint64(r.From))
	b = binary.BigEndian.AppendUint64(b, uint64(r.LogStart))
	b = binary.BigEndian.AppendUint64(b, uint64(r.FlushedEnd))
	b = appendStates(b, r.Sealed)
	b = r.Active.AppendTo(b)
	b = appendStates(b, r.Dropped)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Epochs)))
	for _, e := range r.Epochs {
		b = binary.BigEndian.AppendUint32(b, uint32(e.Epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(e.Start))
	}
	b = r.Producers.appendTo(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Missing)))
	for _, m := range r.Missing {
		b = binary.BigEndian.AppendUint64(b, uint64(m.Segment))
		b = binary.BigEndian.AppendUint64(b, uint64(m.Pos))
		b = binary.BigEndian.AppendUint64(b, uint64(m.Damage.FirstOffset))
		b = binary.BigEndian.AppendUint64(b, uint64(m.Damage.LastOffset))
		b = binary.BigEndian.AppendUint64(b, uint64(m.Damage.Pos))
		b = binary.BigEndian.AppendUint64(b, uint64(m.Damage.Len))
		b = appendString(b, m.Damage.File)
		b = appendString(b, m.Damage.Reason)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(r.RaggedPos))
	b = appendString(b, string(r.Ragged))
	b = binary.BigEndian.AppendUint64(b, uint64(r.CleanedTo))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Forgotten))
	return binary.BigEndian.AppendUint64(b, r.Swaps)
}

func appendStates(b []byte, states []segment.State) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(states)))
	for _, s := range states {
		b = s.AppendTo(b)
	}
	return b
}

func (t *producerTable) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t.clock))
	b = binary.BigEndian.AppendUint32(b, uint32(len(t.byID)))
	for _, id := range t.ids() {
		s := t.byID[id]
		b = binary.BigEndian.AppendUint64(b, uint64(id))
		b = binary.BigEndian.AppendUint16(b, uint16(s.epoch))
		b = binary.BigEndian.AppendUint32(b, uint32(s.coordinatorEpoch))
		b = binary.BigEndian.AppendUint64(b, uint64(s.lastTimestamp))
		b = binary.BigEndian.AppendUint64(b, uint64(s.txnFirst))
		b = binary.BigEndian.AppendUint32(b, uint32(t.positionOf(s)))
		b = append(b, byte(len(s.batches)))
		for _, w := range s.batches {
			b = binary.BigEndian.AppendUint32(b, uint32(w.firstSequence))
			b = binary.BigEndian.AppendUint32(b, uint32(w.lastSequence))
			b = binary.BigEndian.AppendUint64(b, uint64(w.lastOffset))
			b = binary.BigEndian.AppendUint32(b, uint32(w.offsetDelta))
			b = binary.BigEndian.AppendUint64(b, uint64(w.timestamp))
		}
	}
	return b
}

func appendPartition(b []byte, id base.TopicIDPartition) []byte {
	b = append(b, id.ID[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(id.Partition))
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// decodeCheckpoint reads what encode wrote. Errors wrap errCheckpoint.
func decodeCheckpoint(b []byte) (*checkpointFile, error) {
	if len(b) < checkpointHeader {
		return nil, fmt.Errorf("%w: %d bytes, the header has %d", errCheckpoint, len(b), checkpointHeader)
	}
	header, body := b[:checkpointHeader], b[checkpointHeader:]
	switch {
	case string(header[:8]) != checkpointMagic:
		return nil, fmt.Errorf("%w: it does not begin as a checkpoint", errCheckpoint)
	case binary.BigEndian.Uint32(header[24:]) != crc32.Checksum(header[:24], castagnoli):
		return nil, fmt.Errorf("%w: wrong checksum of the header", errCheckpoint)
	case binary.BigEndian.Uint32(header[8:]) < 1 || binary.BigEndian.Uint32(header[8:]) > checkpointVersion:
		return nil, fmt.Errorf("checkpoint of version %d, this program knows version %d", binary.BigEndian.Uint32(header[8:]), checkpointVersion)
	case binary.BigEndian.Uint64(header[12:]) != uint64(len(body)):
		return nil, fmt.Errorf("%w: body of %d bytes, the header says %d", errCheckpoint, len(body), binary.BigEndian.Uint64(header[12:]))
	case binary.BigEndian.Uint32(header[20:]) != crc32.Checksum(body, castagnoli) && !plant.On(plant.NoCheckpointCRC):
		return nil, fmt.Errorf("%w: wrong checksum of the body", errCheckpoint)
	}
	r := &reader{b: body, version: binary.BigEndian.Uint32(header[8:])}
	c := &checkpointFile{From: wal.Sequence(r.u64()), HighestProducer: base.ProducerID(r.u64())}
	for range r.count(60) {
		c.Partitions = append(c.Partitions, r.partitionRecord())
	}
	for range r.count(24) {
		c.Removals = append(c.Removals, removal{ID: r.partition(), Topic: r.string()})
	}
	for range r.count(24) {
		c.Tombs = append(c.Tombs, tomb{ID: r.topicID(), Until: wal.Sequence(r.u64())})
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", errCheckpoint, r.err)
	}
	return c, nil
}

// reader takes fields off b until one does not fit.
type reader struct {
	b       []byte
	version uint32
	err     error
}

func (r *reader) take(n int) []byte {
	if r.err == nil && n > len(r.b) {
		r.err = io.ErrUnexpectedEOF
	}
	if r.err != nil {
		return make([]byte, min(n, 16)) // of the fixed fields only; strings check first
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) u8() byte    { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) offset() base.Offset {
	return base.Offset(r.u64())
}

// count reads the length of a list whose elements have at least size bytes.
func (r *reader) count(size int) int {
	n := int(r.u32())
	if r.err == nil && n > len(r.b)/size {
		r.err = fmt.Errorf("list of %d elements in %d bytes", n, len(r.b))
	}
	if r.err != nil {
		return 0
	}
	return n
}

func (r *reader) string() string { return string(r.take(r.count(1))) }

func (r *reader) topicID() (id base.TopicID) {
	copy(id[:], r.take(len(id)))
	return id
}

func (r *reader) partition() base.TopicIDPartition {
	return base.TopicIDPartition{ID: r.topicID(), Partition: int32(r.u32())}
}

func (r *reader) state() (s segment.State) {
	if r.err != nil {
		return s
	}
	s, rest, err := segment.ParseState(r.b)
	if err != nil {
		r.err = err
		return s
	}
	r.b = rest
	return s
}

func (r *reader) states() (states []segment.State) {
	for range r.count(segment.StateSize) {
		states = append(states, r.state())
	}
	return states
}

func (r *reader) partitionRecord() (p partitionRecord) {
	p.ID, p.Topic = r.partition(), r.string()
	p.From = wal.Sequence(r.u64())
	p.LogStart, p.FlushedEnd = r.offset(), r.offset()
	p.Sealed, p.Active, p.Dropped = r.states(), r.state(), r.states()
	for range r.count(12) {
		p.Epochs = append(p.Epochs, segment.EpochStart{Epoch: base.LeaderEpoch(r.u32()), Start: r.offset()})
	}
	p.Producers = r.producers()
	for range r.count(56) {
		p.Missing = append(p.Missing, r.missing(&p))
	}
	p.RaggedPos = int64(r.u64())
	if n := r.count(1); n > 0 {
		p.Ragged = slices.Clone(r.take(n))
	}
	if r.version >= 3 {
		p.CleanedTo, p.Forgotten, p.Swaps = r.offset(), r.offset(), r.u64()
	}
	return p
}

func (r *reader) missing(p *partitionRecord) missingRecord {
	m := missingRecord{Segment: r.offset(), Pos: int64(r.u64())}
	m.Damage = Damage{
		Topic: p.Topic, Partition: p.ID, FirstOffset: r.offset(), LastOffset: r.offset(),
		Pos: int64(r.u64()), Len: int64(r.u64()), File: r.string(), Reason: r.string(),
	}
	return m
}

func (r *reader) producers() (t producerTable) {
	t.clock = int64(r.u64())
	for range r.count(11) {
		id, s := base.ProducerID(r.u64()), newProducer(base.ProducerEpoch(r.u16()))
		var pos int32
		if r.version >= 2 {
			s.coordinatorEpoch, s.lastTimestamp, s.txnFirst, pos = int32(r.u32()), int64(r.u64()), r.offset(), int32(r.u32())
		}
		n := int(r.u8())
		if r.err == nil && (n == 0 && r.version < 2 || n > producerWindow || s.txnFirst < base.NoOffset || pos < 0) {
			r.err = fmt.Errorf("producer %d with %d batches, a transaction from offset %d, position %d", id, n, s.txnFirst, pos)
		}
		for range n {
			if r.err != nil {
				return t
			}
			s.batches = append(s.batches, producerBatch{
				firstSequence: int32(r.u32()), lastSequence: int32(r.u32()),
				lastOffset: r.offset(), offsetDelta: int32(r.u32()), timestamp: int64(r.u64()),
			})
		}
		if r.err != nil {
			return t
		}
		if r.version < 2 {
			s.lastTimestamp = s.last().timestamp
		}
		if plant.On(plant.OpenForgotten) {
			s.txnFirst = base.NoOffset
		}
		if s.txnFirst != base.NoOffset {
			t.open = append(t.open, openTxn{producer: id, first: s.txnFirst, pos: pos})
		}
		if t.byID == nil {
			t.byID = make(map[base.ProducerID]*producer)
		}
		t.byID[id] = s
	}
	slices.SortFunc(t.open, func(a, b openTxn) int { return cmp.Compare(a.first, b.first) })
	return t
}

// positionOf is where the open transaction of s begins in its segment, 0 without one.
func (t *producerTable) positionOf(s *producer) int32 {
	if i, ok := t.openAt(s.txnFirst); ok {
		return t.open[i].pos
	}
	return 0
}

// writeCheckpoint makes c the checkpoint of dir: by temporary file, sync, rename and folder sync.
func writeCheckpoint(fs disk.FS, dir string, c *checkpointFile) error {
	name := fs.PathJoin(dir, checkpointName)
	if err := replaceFile(fs, name, c.encode()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if plant.On(plant.SkipCheckpointFolderSync) {
		return nil
	}
	return disk.SyncDir(fs, dir)
}

// replaceFile puts data in the place of the file name, synced. The caller syncs the folder.
func replaceFile(fs disk.FS, name string, data []byte) error {
	tmp := name + ".tmp"
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && !plant.On(plant.SkipCheckpointSync) {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return fs.Rename(tmp, name)
}

// readCheckpoint reads the checkpoint of dir; nil if there is none.
func readCheckpoint(fs disk.FS, dir string) (*checkpointFile, error) {
	name := fs.PathJoin(dir, checkpointName)
	f, err := fs.Open(name)
	if oserror.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	c, err := decodeCheckpoint(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}
