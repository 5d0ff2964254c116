package storage

import (
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/tail"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// Partition is one partition's log. All methods are safe for concurrent use.
//
// Bytes are found by stream position: the bytes of all batches, laid end to end from the oldest segment at Open. A position
// does not change its meaning whatever is rolled, flushed or deleted. Compaction changes it: see layout.go.
type Partition struct {
	e     *Engine
	id    base.TopicIDPartition
	topic string
	tail  *tail.Tail

	// flushMu serialises what writes to the partition's files: flushing, sealing, capturing for a checkpoint, removing.
	// It is taken before mu and held across I/O.
	flushMu sync.Mutex
	// flushed is the producer state as of flushedPos, which is what a checkpoint stores. Guarded by flushMu.
	flushed producerTable
	// folder tells that the partition's folder exists for good and is ours. Guarded by flushMu.
	folder bool
	// covered tells that a checkpoint covers the ragged end of the segment being flushed, so that its bytes must be in the wal
	// before they are rewritten. Guarded by flushMu.
	covered bool
	// unsynced tells that the segment being flushed has writes since its last Sync. Guarded by flushMu.
	unsynced bool
	// strewn are bodies of batches that other segments have. Guarded by flushMu.
	strewn []strewnBody

	mu     sync.Mutex // guards the fields below; never held across I/O
	config LogConfig
	jitter time.Duration // this partition's share of SegmentJitter
	// deleted is set once, with the PartitionDeleted entry.
	deleted bool

	logStart base.Offset
	end      base.Offset // log end offset
	endPos   int64
	hw       base.Offset // high watermark: the durable end
	hwPos    int64
	commits  []commit // ends of groups that are not yet durable, oldest first
	listed   bool     // waiting in Engine.uncommitted

	segments []*segmentRef // by base offset; appends go to the last
	flushing int           // index of the one being flushed
	// flushedPos and flushedEnd are where the segments end and the tail must begin: every byte before them is in a segment.
	flushedPos int64
	flushedEnd base.Offset
	index      tailIndex

	// layout numbers the arrangements of segments, which compaction changes. retired are segments of earlier ones, and those before
	// forgotten are not known any more. holes is the sum of segmentRef.hole.
	layout    uint64
	retired   []retired
	forgotten uint64
	holes     int64
	cleaner   cleanerState

	producers producerTable
	ended     []endedTxn                        // transactions whose end is not durable yet
	aborted   []AbortedTxn                      // by markers that are not flushed; the others are in the segments
	verifying map[base.ProducerID]*verification // of transactions that may begin here
	epochs    epochCache
	damage    []damagedRange // by position
	given     []damagedRange // missing records that were set aside, known before replay finds that they are missing

	dropped    []*droppedSegment // no longer part of the log, but their files are there
	changed    bool              // since encoded was made
	encoded    []byte            // record in the last checkpoint
	queued     bool              // for the flusher
	wantsRoom  bool              // for bodies: see place.go
	lastAppend time.Time
	watchers   map[*Watcher]struct{}
}

// commit is where the partition ends once group is durable.
type commit struct {
	group wal.Sequence
	end   base.Offset
	pos   int64
}

// segmentRef is a segment of a partition, as far as appends and reads need to know of it.
type segmentRef struct {
	base  base.Offset
	start int64            // stream position of its first byte
	hole  int64            // bytes at the end of its range of positions that it does not have
	seg   *segment.Segment // nil until its first flush
	roll  wal.Sequence     // group of the Roll entry that began it; 0 = a checkpoint knows it

	// What follows is as of the last append, and steers the next roll and retention.
	firstTimestamp int64 // maximum timestamp of its first batch, NoTimestamp while it is empty
	maxTimestamp   int64
	indexEntries   int
	sinceIndex     int
}

func newSegmentRef(first base.Offset, start int64) *segmentRef {
	return &segmentRef{base: first, start: start, firstTimestamp: base.NoTimestamp, maxTimestamp: base.NoTimestamp}
}

// ID is the topic id and the partition's number.
func (p *Partition) ID() base.TopicIDPartition { return p.id }

// Topic is the topic's name.
func (p *Partition) Topic() string { return p.topic }

// String is the topic's name and the partition's number, for messages.
func (p *Partition) String() string { return fmt.Sprintf("%s-%d", p.topic, p.id.Partition) }

// Offsets of a partition at one moment.
type Offsets struct {
	LogStart      base.Offset // first offset that can be read
	HighWatermark base.Offset // durable end: consumers read below it
	LastStable    base.Offset // below it no transaction is open
	LogEnd        base.Offset // offset of the next record
}

// Offsets returns the partition's offsets at one moment.
func (p *Partition) Offsets() Offsets {
	p.mu.Lock()
	defer p.mu.Unlock()
	stable, _ := p.stableLocked()
	return Offsets{LogStart: p.logStart, HighWatermark: p.hw, LastStable: stable, LogEnd: p.end}
}

// LeaderEpoch is the epoch with which this broker leads the partition.
func (p *Partition) LeaderEpoch() base.LeaderEpoch { return p.e.cfg.LeaderEpoch }

// SizeBytes is the size of the log: all segments and what is not yet flushed.
func (p *Partition) SizeBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endPos - p.segments[0].start - p.holes
}

// Config returns the settings in force.
func (p *Partition) Config() LogConfig {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config
}

// ProducerState is what a partition knows of an idempotent producer (DescribeProducers, KIP-664).
type ProducerState struct {
	ID               base.ProducerID
	Epoch            base.ProducerEpoch
	LastSequence     int32
	LastTimestamp    int64 // ms
	CoordinatorEpoch int32
	TxnStartOffset   base.Offset // NoOffset = no transaction is open
}

// Producers lists the producers of the partition that have not expired, by id.
func (p *Partition) Producers() []ProducerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.producers.states(p.e.now())
}

// EpochEndOffset answers OffsetForLeaderEpoch (KIP-101, KIP-279): the largest known epoch not above the one asked for, and
// the offset at which it ended. (NoLeaderEpoch, NoOffset) if none is known.
func (p *Partition) EpochEndOffset(epoch base.LeaderEpoch) (base.LeaderEpoch, base.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epochs.end(epoch, p.end)
}

// EpochAt is the leader epoch of the record at offset, or NoLeaderEpoch if it is not known.
func (p *Partition) EpochAt(offset base.Offset) base.LeaderEpoch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epochs.at(offset)
}

// activeLocked is the segment that appends go to.
func (p *Partition) activeLocked() *segmentRef { return p.segments[len(p.segments)-1] }

// segmentAtLocked is the index of the segment that holds stream position pos, -1 if that was deleted.
func (p *Partition) segmentAtLocked(pos int64) int {
	return sort.Search(len(p.segments), func(i int) bool { return p.segments[i].start > pos }) - 1
}

// segmentEndLocked is the stream position where the range of segment i ends. Its bytes may end earlier: see dataEnd.
func (p *Partition) segmentEndLocked(i int) int64 {
	if i+1 < len(p.segments) {
		return p.segments[i+1].start
	}
	return p.endPos
}

// usableLocked says why the partition can not be used, if so.
func (p *Partition) usableLocked() error {
	if p.deleted {
		return ErrDeleted
	}
	return p.e.usable()
}

// neededLocked is the oldest group that replay needs for what is not in the segments; ok is false if it needs none.
func (p *Partition) neededLocked() (group wal.Sequence, ok bool) {
	if p.endPos > p.flushedPos {
		if at, found := p.index.floorPos(p.flushedPos); found {
			group, ok = at.group, true
		}
	}
	if p.flushing+1 < len(p.segments) {
		if roll := p.segments[p.flushing+1].roll; roll != 0 && (!ok || roll < group) {
			group, ok = roll, true
		}
	}
	return group, ok
}
