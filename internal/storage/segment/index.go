package segment

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/record"
)

// Sizes of index entries in bytes.
const (
	indexEntrySize = 8
	timeEntrySize  = 12
)

// indexEntry is an entry of .index: the last offset of a batch, relative to the base, and the batch's position.
func indexEntry(dst []byte, relative, position int32) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(relative))
	return binary.BigEndian.AppendUint32(dst, uint32(position))
}

// timeEntry is an entry of .timeindex: the greatest timestamp so far, and the last offset of the first batch that has it.
func timeEntry(dst []byte, timestamp int64, relative int32) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(timestamp))
	return binary.BigEndian.AppendUint32(dst, uint32(relative))
}

// indexer decides which batches get index entries, exactly as LogSegment.append of Kafka 4.3 does. It is a pure function of the
// batches and of where they lie, so that replay and rebuilding give the same bytes.
type indexer struct {
	st       State // advanced by add
	interval int
	index    []byte // new entries of .index
	time     []byte // new entries of .timeindex
	txn      []byte // new entries of .txnindex
}

// add takes the next batch, which lies at st.Size.
func (x *indexer) add(b BatchMeta) {
	st := &x.st
	if st.Size == 0 {
		st.FirstTimestamp = b.MaxTimestamp
	}
	if b.MaxTimestamp > st.MaxTimestamp {
		st.MaxTimestamp, st.OffsetOfMax, st.LastOffsetOfMax = b.MaxTimestamp, b.OffsetOfMax, b.LastOffset
	}
	if int(st.SinceIndex) > x.interval {
		x.index = indexEntry(x.index, int32(b.LastOffset-st.Base), int32(st.Size))
		st.Index.Entries++
		x.addTime()
		st.SinceIndex = 0
	}
	if b.Aborted != nil {
		x.txn = b.Aborted.AppendTo(x.txn)
		st.TxnIndex.Entries++
	}
	st.SinceIndex += b.Size
	st.Size += int64(b.Size)
	st.NextOffset = b.LastOffset + 1
}

// addTime adds a time index entry, unless the last one says the same.
func (x *indexer) addTime() {
	st := &x.st
	if st.MaxTimestamp > st.LastIndexedTimestamp {
		x.time = timeEntry(x.time, st.MaxTimestamp, int32(st.LastOffsetOfMax-st.Base))
		st.TimeIndex.Entries++
		st.LastIndexedTimestamp = st.MaxTimestamp
	}
}

// Lookup returns the position of a batch at or before the one that holds off: the reader goes on from there by batch headers. For
// an offset below the base that is 0, for one past the end the last indexed batch.
//
// Errors: *DamageError when neither the index nor the log that it could be made from can be read.
func (s *Segment) Lookup(off base.Offset) (pos int64, err error) {
	v, err := s.index.view()
	if err != nil {
		return 0, err
	}
	if plant.On(plant.IndexTooFar) {
		off += 64
	}
	e, ok, err := v.search(int64(off - s.o.Base))
	if err != nil || !ok {
		return 0, err
	}
	return int64(binary.BigEndian.Uint32(e[4:])), nil
}

// Boundary returns the greatest position up to limit at which the index knows a batch to begin; 0 if it knows none. It reads no log.
//
// Errors are those of Lookup.
func (s *Segment) Boundary(limit int64) (pos int64, err error) {
	v, err := s.index.view()
	if err != nil {
		return 0, err
	}
	e, ok, err := v.searchBy(indexPosition, limit)
	if err != nil || !ok {
		return 0, err
	}
	return int64(binary.BigEndian.Uint32(e[4:])), nil
}

// LookupTime returns the position from which to look for the first record with a timestamp of at least ts (milliseconds), Size()
// if there can be none. Errors are those of Lookup.
func (s *Segment) LookupTime(ts int64) (pos int64, err error) {
	st := s.Current()
	if ts > st.MaxTimestamp {
		return st.Size, nil
	}
	v, err := s.time.view()
	if err != nil {
		return 0, err
	}
	e, ok, err := v.search(ts)
	if err != nil || !ok {
		return 0, err
	}
	return s.Lookup(s.o.Base + base.Offset(binary.BigEndian.Uint32(e[8:])))
}

// heal makes the durable entries of a damaged file anew, from the log. nil entries without an error mean that the file's own are
// the best there is.
func (l *ledger) heal(durable FileState) ([]byte, error) {
	switch l.suffix {
	case sidecarSuffix:
		return l.s.healSidecar(durable), nil
	case txnIndexSuffix: // its transactions may have begun in earlier segments
		return nil, l.s.damage(l.suffix, 0, int64(durable.Entries)*AbortedTxnSize, "the aborted transactions cannot be told")
	}
	index, time, err := l.s.reindex()
	if asDamage(err) == nil && err != nil {
		return nil, err
	}
	// Entries up to the damage in the log are right, if not all: a look-up finds a batch at or before the one it looks for, and who goes
	// on from there meets the damage.
	if l.suffix == indexSuffix {
		return index, nil
	}
	return time, nil
}

// reindex computes both indexes from the verified log, as far as it is synced. With a *DamageError it returns the entries before the
// damage.
func (s *Segment) reindex() (index, time []byte, err error) {
	end := s.State()
	x := indexer{st: emptyState(s.o.Base), interval: s.o.IndexInterval, index: []byte{}, time: []byte{}}
	head := make([]byte, record.HeaderSize)
	for x.st.Size < end.Size {
		n, err := s.ReadAt(head, x.st.Size)
		if err != nil && !errors.Is(err, io.EOF) {
			return x.index, x.time, err
		}
		h, err := record.ParseHeader(head[:n])
		if err != nil || x.st.Size+int64(h.Size()) > end.Size || h.LastOffset() < x.st.NextOffset {
			d := s.damage(logSuffix, x.st.Size, record.HeaderSize, "there is no batch where the last one ends")
			d.Err = err
			return x.index, x.time, d
		}
		x.add(BatchMeta{FirstOffset: h.BaseOffset, LastOffset: h.LastOffset(), Size: int32(h.Size()), MaxTimestamp: h.MaxTimestamp, OffsetOfMax: h.LastOffset()})
	}
	if end.Sealed {
		x.addTime()
	}
	return x.index, x.time, nil
}
