package segment

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// BlockSize is the unit of verification: ReadAt checks whole blocks, those that it touches. It is written into every sidecar.
const BlockSize = 64 << 10

// Kafka's defaults.
const (
	DefaultIndexInterval = 4096     // index.interval.bytes
	DefaultIndexBytes    = 10 << 20 // segment.index.bytes
)

// maxSize is the largest position that an index entry can hold.
const maxSize = math.MaxInt32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of this package; damage is a *DamageError.
var (
	// ErrSealed refuses writes to a sealed segment.
	ErrSealed = errors.New("segment is sealed")
	// ErrTooLarge refuses a write that positions or relative offsets could not express: see Segment.Fits.
	ErrTooLarge = errors.New("segment would grow past what its indexes can express")
	// ErrRemoved is returned for a segment whose files were removed.
	ErrRemoved = errors.New("segment was removed")
	// ErrBadBatches refuses batches that do not follow what is there or do not add up to the bytes.
	ErrBadBatches = errors.New("batches do not fit the segment")
)

// Options says where a segment lives. FS, Dir, Base and Files are required.
type Options struct {
	FS            disk.FS
	Dir           string // must exist before the first Write
	Base          base.Offset
	Place         uint8 // Create puts the files there; the folder exists
	IndexInterval int   // index.interval.bytes; 0 is DefaultIndexInterval
	IndexBytes    int   // segment.index.bytes; 0 is DefaultIndexBytes
	Files         *FileCache
	// Report is told of damage that did no harm because it could be healed: an index built anew from the log, say. It may be
	// nil, is called without locks held, and must not block.
	Report func(*DamageError)
	// GiveUp is told that the last block of an active segment is damaged, before it is written on: from then on its checksum is that of
	// what is there, so GiveUp must have written down durably that the range can not be served when it returns nil. Without GiveUp such a
	// write fails.
	GiveUp func(*DamageError) error
}

// BatchMeta is what a segment must know of each batch it is given.
type BatchMeta struct {
	FirstOffset, LastOffset base.Offset
	Size                    int32       // bytes, header included
	MaxTimestamp            int64       // milliseconds
	OffsetOfMax             base.Offset // of the record with MaxTimestamp, as far as the caller knows it
	Aborted                 *AbortedTxn // the transaction that the batch, a marker, aborts; nil for all others
}

// Source is where WriteFrom takes bytes from. ReadAt fills p or fails.
type Source interface {
	ReadAt(p []byte, off int64) (int, error)
}

// Viewer is a Source whose memory can be written from.
type Viewer interface {
	Source
	// View returns the memory that holds offset off, up to n bytes of it, or nil if it has it not. Negative offsets are those of bytes
	// that were written before. The memory stays what it is until WriteFrom has returned.
	View(off, n int64) []byte
}

// Segment is one segment of a partition, active or sealed.
//
// Write, WriteFrom, Sync, Seal, RestoreRagged and Shrink are called by one goroutine at a time; everything else is safe at any
// time, beside them too.
type Segment struct {
	o        Options
	side     *ledger // block CRCs
	index    *ledger
	time     *ledger
	txn      *ledger // aborted transactions
	writing  writing
	past     pastReads
	mu       sync.RWMutex // guards the fields below
	current  State        // what was written
	synced   State        // what the last Sync covered
	ragged   []byte       // bytes from the last aligned position to current.Size; never changed in place
	inMemory bool         // ragged is loaded (or empty because Size is aligned)
	room     int64        // position up to which there is room for bodies, 0 if there is none
	placed   []span       // bodies beyond current.Size: see place.go
	err      error        // the first failed write or sync: the files' state is unknown since
	removed  bool
}

// Create returns an empty active segment. Nothing is on disk before the first Write.
func Create(o Options) *Segment {
	st := emptyState(o.Base)
	st.Place = o.Place
	s := newSegment(o, st)
	s.inMemory, s.writing.checked = true, true
	return s
}

// OpenActive returns the active segment that a checkpoint describes. It reads nothing: what follows in the files is written
// again by replay, and damage shows when bytes are used.
func OpenActive(o Options, st State) (*Segment, error) { return open(o, st, false) }

// OpenSealed returns the sealed segment that a checkpoint describes. It reads nothing.
func OpenSealed(o Options, st State) (*Segment, error) { return open(o, st, true) }

func open(o Options, st State, sealed bool) (*Segment, error) {
	if err := st.validate(); err != nil {
		return nil, err
	}
	if st.Base != o.Base || st.Sealed != sealed {
		return nil, fmt.Errorf("segment %d: state is of segment %d (sealed: %t)", o.Base, st.Base, st.Sealed)
	}
	s := newSegment(o, st)
	s.inMemory = st.Size%minAlignment == 0
	return s, nil
}

func newSegment(o Options, st State) *Segment {
	if o.IndexInterval <= 0 {
		o.IndexInterval = DefaultIndexInterval
	}
	if o.IndexBytes <= 0 {
		o.IndexBytes = DefaultIndexBytes
	}
	if st.Place > 0 {
		o.Dir = o.FS.PathJoin(o.Dir, PlaceFolder(st.Place))
	}
	s := &Segment{o: o, current: st, synced: st}
	s.side = newLedger(s, sidecarSuffix, sidecarEntrySize, 1024, sidecarHeaderSize, st.Sidecar)
	s.index = newLedger(s, indexSuffix, indexEntrySize, 512, 0, st.Index)
	s.time = newLedger(s, timeIndexSuffix, timeEntrySize, 512, 0, st.TimeIndex)
	s.txn = newLedger(s, txnIndexSuffix, AbortedTxnSize, 128, 0, st.TxnIndex)
	return s
}

// ledgers lists the files beside the log.
func (s *Segment) ledgers() []*ledger { return []*ledger{s.index, s.time, s.txn, s.side} }

// Base returns the offset that names the segment: no record in it has a smaller one.
func (s *Segment) Base() base.Offset { return s.o.Base }

// State returns what a checkpoint stores. It covers what the last Sync covered and no later write.
func (s *Segment) State() State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.synced
}

// Current returns the same of everything written, synced or not.
func (s *Segment) Current() State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.current
}

// NextOffset returns the offset after the last batch written, Base when there is none.
func (s *Segment) NextOffset() base.Offset { return s.Current().NextOffset }

// Size returns the bytes of records written so far, synced or not.
func (s *Segment) Size() int64 { return s.Current().Size }

// Sealed reports whether Seal was called.
func (s *Segment) Sealed() bool { return s.Current().Sealed }

// Full reports whether an index has reached segment.index.bytes, so that the engine should roll before the next Write.
func (s *Segment) Full() bool {
	st := s.Current()
	// As in Kafka, the last place in the time index is kept for the entry that Seal adds.
	return int(st.Index.Entries) >= s.o.IndexBytes/indexEntrySize || int(st.TimeIndex.Entries) >= s.o.IndexBytes/timeEntrySize-1
}

// Fits reports whether n more bytes up to offset last can be expressed by 32-bit positions and relative offsets. A batch that
// does not fit needs a new segment, whatever segment.bytes says.
func (s *Segment) Fits(last base.Offset, n int64) bool {
	st := s.Current()
	return st.Size+n <= maxSize && int64(last-st.Base) <= math.MaxInt32
}

// Close lets go of descriptors and memory. It does not sync.
func (s *Segment) Close() error {
	s.o.Files.forget(s)
	return nil
}

// Remove deletes the segment's files and syncs nothing: after a crash files of a segment that no checkpoint lists may be
// there again. Reads fail with ErrRemoved from now on; those under way may still succeed.
func (s *Segment) Remove() error {
	s.mu.Lock()
	s.removed = true
	s.mu.Unlock()
	s.o.Files.forget(s)
	var first error
	// The log goes last: as long as it is there, the others can be told to belong to it.
	for _, suffix := range []string{txnIndexSuffix, timeIndexSuffix, indexSuffix, sidecarSuffix, logSuffix} {
		err := s.o.FS.Remove(s.path(suffix))
		if err != nil && !isNotExist(err) && first == nil {
			first = fmt.Errorf("remove segment %d: %w", s.o.Base, err)
		}
	}
	return first
}

// Path is where the segment's log is.
func (s *Segment) Path() string { return s.path(logSuffix) }

// path returns the name of one of the segment's files.
func (s *Segment) path(suffix string) string {
	return s.o.FS.PathJoin(s.o.Dir, FileName(s.o.Base, suffix))
}

// fail records the first error of a write or sync, after which the files' state is unknown, and returns what to answer. A full disk
// leaves no such doubt as long as no sync was asked to make good what was written (see syncError): what was not accepted is written
// again, with the same bytes at the same place.
func (s *Segment) fail(err error) error {
	if disk.IsNoSpace(err) {
		s.writing.trimmed = false // part of it may lie past the end
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return err
}

// syncError is a sync that failed because the disk is full. It does not unwrap to that: what the file holds is unknown now, as after
// any sync that failed.
type syncError struct{ err error }

func (e syncError) Error() string { return "sync: " + e.err.Error() }

func syncFailed(err error) error {
	if !disk.IsNoSpace(err) {
		return err
	}
	return syncError{err}
}

func (s *Segment) failed() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.err != nil {
		return fmt.Errorf("segment failed before: %w", s.err)
	}
	if s.removed {
		return ErrRemoved
	}
	return nil
}
