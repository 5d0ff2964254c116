package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/ottlaio/ottla/internal/base"
)

// FileState is how far an append-only file of entries goes, and the CRC32C of its header and entries.
type FileState struct {
	Entries int32
	CRC     uint32
}

// State is what a checkpoint stores of a segment: with it the segment opens without reading anything, and all that is read
// later can be checked.
type State struct {
	Base           base.Offset
	NextOffset     base.Offset // after the last batch; Base when empty
	Size           int64       // bytes of the log
	FirstTimestamp int64       // max timestamp of the first batch, for segment.ms; base.NoTimestamp when empty
	MaxTimestamp   int64       // base.NoTimestamp when empty
	OffsetOfMax    base.Offset // BatchMeta.OffsetOfMax of the first batch that reached MaxTimestamp
	Sealed         bool
	// Place is the number of the folder that the files are in: 0 for the partition's own, else see PlaceFolder. Compaction writes a segment
	// anew under the name that the former one has, so the two are never in the same folder.
	Place uint8

	// What follows is for the segment itself.

	LastOffsetOfMax      base.Offset // last offset of that batch: what Kafka's time index holds
	LastIndexedTimestamp int64       // of the last time index entry
	SinceIndex           int32       // bytes since the last index entry
	BlockCRC             uint32      // CRC32C of the last block as far as it is filled
	Index                FileState
	TimeIndex            FileState
	Sidecar              FileState
	TxnIndex             FileState // no file where it has no entries
}

// StateSize is the length of an encoded State in bytes, of a segment without aborted transactions. With them it has
// txnStateSize more.
const (
	StateSize    = 100
	txnStateSize = 8
)

// Bits of the flags.
const (
	stateSealed  = 1
	stateAborted = 2 // the state of the transaction index follows
	statePlace   = 8 // bits from which on the place stands
)

// errState is wrapped by every error of ParseState.
var errState = errors.New("segment state is not valid")

func emptyState(b base.Offset) State {
	return State{
		Base: b, NextOffset: b,
		FirstTimestamp: base.NoTimestamp, MaxTimestamp: base.NoTimestamp,
		OffsetOfMax: b, LastOffsetOfMax: b, LastIndexedTimestamp: base.NoTimestamp,
		Sidecar: FileState{CRC: crc32.Checksum(sidecarHeader(b), castagnoli)},
	}
}

// AppendTo appends the encoding of st to dst. It has no checksum: the file that it goes into has.
func (st State) AppendTo(dst []byte) []byte {
	u64 := func(v int64) { dst = binary.BigEndian.AppendUint64(dst, uint64(v)) }
	u32 := func(v uint32) { dst = binary.BigEndian.AppendUint32(dst, v) }
	u64(int64(st.Base))
	u64(int64(st.NextOffset))
	u64(st.Size)
	u64(st.FirstTimestamp)
	u64(st.MaxTimestamp)
	u64(int64(st.OffsetOfMax))
	u64(int64(st.LastOffsetOfMax))
	u64(st.LastIndexedTimestamp)
	var flags uint32
	if st.Sealed {
		flags |= stateSealed
	}
	flags |= uint32(st.Place) << statePlace
	files := []FileState{st.Index, st.TimeIndex, st.Sidecar}
	if st.TxnIndex.Entries > 0 {
		flags |= stateAborted
		files = append(files, st.TxnIndex)
	}
	u32(flags)
	u32(uint32(st.SinceIndex))
	u32(st.BlockCRC)
	for _, f := range files {
		u32(uint32(f.Entries))
		u32(f.CRC)
	}
	return dst
}

// ParseState reads what AppendTo wrote and returns the bytes after it. It fails on states that cannot be.
func ParseState(b []byte) (st State, rest []byte, err error) {
	if len(b) < StateSize {
		return State{}, nil, fmt.Errorf("%w: %d bytes, want %d", errState, len(b), StateSize)
	}
	u64 := func() int64 { v := binary.BigEndian.Uint64(b); b = b[8:]; return int64(v) }
	u32 := func() uint32 { v := binary.BigEndian.Uint32(b); b = b[4:]; return v }
	st.Base = base.Offset(u64())
	st.NextOffset = base.Offset(u64())
	st.Size = u64()
	st.FirstTimestamp = u64()
	st.MaxTimestamp = u64()
	st.OffsetOfMax = base.Offset(u64())
	st.LastOffsetOfMax = base.Offset(u64())
	st.LastIndexedTimestamp = u64()
	flags := u32()
	st.Sealed, st.Place = flags&stateSealed != 0, uint8(flags>>statePlace)
	st.SinceIndex = int32(u32())
	st.BlockCRC = u32()
	files := []*FileState{&st.Index, &st.TimeIndex, &st.Sidecar}
	if flags&stateAborted != 0 {
		files = append(files, &st.TxnIndex)
	}
	if flags&^(stateSealed|stateAborted|math.MaxUint8<<statePlace) != 0 || len(b) < txnStateSize*len(files) {
		return State{}, nil, fmt.Errorf("%w: flags %#x", errState, flags)
	}
	for _, f := range files {
		f.Entries = int32(u32())
		f.CRC = u32()
	}
	if err := st.validate(); err != nil {
		return State{}, nil, err
	}
	if aborted := flags&stateAborted != 0; aborted != (st.TxnIndex.Entries > 0) {
		return State{}, nil, fmt.Errorf("%w: flags %#x, %d aborted transactions", errState, flags, st.TxnIndex.Entries)
	}
	return st, b, nil
}

// validate checks that the parts of a state can go together, so that nothing is allocated by a number that cannot be.
func (st State) validate() error {
	switch {
	case st.Base < 0, st.NextOffset < st.Base, st.Size < 0, st.Size > maxSize, st.SinceIndex < 0:
	case (st.Size == 0) != (st.NextOffset == st.Base):
	case st.Index.Entries < 0, st.TimeIndex.Entries < 0, int64(st.Sidecar.Entries) != st.Size/BlockSize:
	case int64(st.Index.Entries) > st.Size, int64(st.TimeIndex.Entries) > st.Size: // a batch has at most one entry of each
	case st.TxnIndex.Entries < 0, int64(st.TxnIndex.Entries) > st.Size:
	default:
		return nil
	}
	return fmt.Errorf("%w: %+v", errState, st)
}
