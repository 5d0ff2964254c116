package storage

import (
	"sort"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// tailIndexInterval is how many bytes of the tail one entry of its index stands for. Everything else about a batch stands in
// its header, so the index costs well under a hundredth of the tail.
const tailIndexInterval = 4 << 10

// tailEntry stands for the batches from pos up to the next entry.
type tailEntry struct {
	pos          int64       // stream position of a batch
	offset       base.Offset // its base offset
	maxTimestamp int64       // largest of the batches it stands for
	group        wal.Sequence
}

// tailIndex finds batches in the tail. Entries rise in pos, offset and group. It is not safe for concurrent use.
type tailIndex struct {
	entries []tailEntry
}

// add notes a batch that was appended at pos. fresh asks for an entry of its own: everything before is flushed, so that the
// batch alone decides which groups of the wal are needed.
func (x *tailIndex) add(pos int64, offset base.Offset, maxTimestamp int64, group wal.Sequence, fresh bool) {
	if n := len(x.entries); n > 0 && !fresh && pos-x.entries[n-1].pos < tailIndexInterval {
		last := &x.entries[n-1]
		last.maxTimestamp = max(last.maxTimestamp, maxTimestamp)
		return
	}
	x.entries = append(x.entries, tailEntry{pos, offset, maxTimestamp, group})
}

// floorOffset is the last entry at or below offset.
func (x *tailIndex) floorOffset(offset base.Offset) (tailEntry, bool) {
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].offset > offset })
	if i == 0 {
		return tailEntry{}, false
	}
	return x.entries[i-1], true
}

// floorPos is the last entry at or below pos.
func (x *tailIndex) floorPos(pos int64) (tailEntry, bool) {
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].pos > pos })
	if i == 0 {
		return tailEntry{}, false
	}
	return x.entries[i-1], true
}

// trim forgets the entries that stand only for batches before pos.
func (x *tailIndex) trim(pos int64) {
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].pos > pos })
	if i <= 1 {
		return
	}
	kept := x.entries[i-1:]
	if cap(x.entries) > 4*len(kept) || cap(x.entries) > 1024 {
		x.entries = append(make([]tailEntry, 0, len(kept)+8), kept...)
		return
	}
	x.entries = x.entries[:copy(x.entries, kept)]
}

// dropBefore forgets what stands before pos, where the batch that holds offset begins, or the next one will. An entry for batches on both
// sides stands for the later ones from now on.
func (x *tailIndex) dropBefore(pos int64, offset base.Offset) {
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].pos >= pos })
	if i > 0 && (i == len(x.entries) || x.entries[i].pos > pos) {
		i--
		x.entries[i].pos, x.entries[i].offset = pos, offset
	}
	x.entries = x.entries[:copy(x.entries, x.entries[i:])]
}

// clear forgets everything, and the memory too.
func (x *tailIndex) clear() { x.entries = nil }
