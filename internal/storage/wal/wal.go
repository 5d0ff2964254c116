package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// Kind says what an entry is. The wal stores it and gives it back; what it means is the engine's affair.
type Kind uint8

// Kinds of entry. The numbers are part of the format: never change or reuse one.
const (
	// Batches holds record batches as they stand in the segment.
	Batches Kind = 1
	// Roll says that a segment begins at FirstOffset.
	Roll Kind = 2
	// LogStart says that the log start offset moved to FirstOffset.
	LogStart Kind = 3
	// LeaderEpoch says that a leader epoch begins at FirstOffset.
	LeaderEpoch Kind = 4
	// SegmentsDeleted names segments that are no longer part of the partition.
	SegmentsDeleted Kind = 5
	// PartitionDeleted says that the partition is gone.
	PartitionDeleted Kind = 6
	// Carry holds bytes of an earlier group, logged again so that the file they stood in could be released.
	Carry Kind = 7
	// SegmentsSwapped names segments replaced by others, as compaction does.
	SegmentsSwapped Kind = 8
	// Placed stands for a record batch of which the segment holds the body: see Entry.Body.
	Placed Kind = 9
)

// String is the kind's name.
func (k Kind) String() string {
	names := [...]string{"none", "batches", "roll", "log-start", "leader-epoch", "segments-deleted", "partition-deleted", "carry", "segments-swapped", "placed"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Holds reports whether an entry of the kind holds record batches, or stands for one.
func (k Kind) Holds() bool { return k == Batches || k == Carry || k == Placed }

// Sequence numbers the commit groups. It rises by one from group to group over all files and restarts; the first is 1, and 0 stands
// for "before every group".
type Sequence uint64

// Entry is what one Append logs: one run of bytes of one partition.
type Entry struct {
	Kind      Kind
	Partition base.TopicIDPartition
	// FirstOffset and LastOffset are stored with the entry and name the damage if its bytes rot. The wal does not interpret them.
	FirstOffset, LastOffset base.Offset
	// Data is the payload. Append copies it; in replay it is valid only until the callback returns.
	Data []byte
	// CRC is the CRC32C of Data if Summed says that the caller knows it; else Append computes it.
	CRC    uint32
	Summed bool
	// Body is what the entry stands for and the wal does not hold, nil if that is nothing. Config.WriteBodies makes it durable before the
	// entry is written. There is none in replay.
	Body any
}

// Committer is told when a group that holds one of its entries became durable: once per group, however many entries it holds, on the
// wal's goroutine, before those who Wait for the group are woken. It must not block nor call Reserve. It must be comparable, as
// pointers are.
//
// With UnsafeMemory it may be told more than once of the same group, each time for the entries appended since.
type Committer interface {
	Committed(seq Sequence)
}

// AckMode says when a group counts as durable.
type AckMode uint8

// Modes of acknowledgement.
const (
	// Synced: when it is on stable storage.
	Synced AckMode = iota
	// UnsafeWritten: when it was written but not synced. A power loss may lose it, the end of the process does not.
	UnsafeWritten
	// UnsafeMemory: when it was appended. It is written behind; the end of the process may lose it.
	UnsafeMemory
)

// Limits and defaults. Sizes are in bytes.
const (
	DefaultMaxBytes       = 1 << 30
	DefaultFileBytes      = 64 << 20
	DefaultGroupBytes     = 2 << 20
	DefaultPendingBytes   = 64 << 20
	DefaultIdleMark       = 5 * time.Millisecond
	DefaultFullWait       = 2 * time.Second
	DefaultFirstFileBytes = 4 << 20
	DefaultSpareFiles     = 8
	// MaxEntryBytes is the largest Entry.Data.
	MaxEntryBytes = 1 << 30
)

// Config says where a wal lives and how large it may be. Zero values stand for the documented defaults.
type Config struct {
	FS  disk.FS // required
	Dir string  // required; made if it is missing

	// MaxBytes bounds the sizes of all files of the wal together; it is also what recovery may have to read. Default 1 GiB.
	MaxBytes int64
	// MinFreeBytes is what a new file leaves free on the disk for others; the file that Open needs may go below it. Default 0.
	MinFreeBytes int64
	// FileBytes is the size of a file but the first, at most a quarter of MaxBytes. Default 64 MiB.
	FileBytes int64
	// FirstFileBytes is the size of the file that Open makes, before the larger ones are filled behind it. Default 4 MiB.
	FirstFileBytes int64
	// GroupBytes caps a commit group. An entry that is larger gets a group of its own. Default 2 MiB.
	GroupBytes int
	// PendingBytes bounds the memory for groups that are reserved, filling or being written. One reservation that is larger is granted
	// alone. Default 64 MiB.
	PendingBytes int64
	// IdleMark is how long the wal is idle before it writes a mark. Default 5 ms.
	IdleMark time.Duration
	// FullWait bounds how long Reserve waits for room. Default 2 s.
	FullWait time.Duration
	// SpareFiles is how many released files are kept to be used again, so that a load goes on without making and removing files: checkpoints
	// free up to eight at once. Default 8; negative keeps none.
	SpareFiles int
	// Mode says when an entry is acknowledged. Default Synced.
	Mode AckMode

	// OnDamage is told of each damaged range that recovery finds. If it returns nil recovery goes on past the range, replaying whatever
	// is whole; if it returns an error, Open fails with it. If OnDamage is nil, Open fails with the CorruptError.
	OnDamage func(*CorruptError) error

	// WriteBodies makes the bodies of a group's entries durable. It is called on the wal's goroutine before the group is written; an error
	// of it ends the wal as one of writing the group does. Required if there are bodies.
	WriteBodies func(bodies []any) error

	// OnFull is called when a reservation begins to wait for room, so that whoever can Release may do so. It must not block. May be nil.
	OnFull func()

	// Logger gets rare messages of the life of the wal. Default: none.
	Logger *slog.Logger
}

// Errors of the wal.
var (
	// ErrFull says that there is no room for the entry. Nothing has changed; the same call may succeed after a Release, or once there is
	// room on the disk.
	ErrFull = errors.New("wal is full")
	// ErrFailed says that a write or sync failed. The wal takes no more entries, and what was not acknowledged never will be.
	ErrFailed = errors.New("wal failed")
	// ErrClosed says that the wal was closed.
	ErrClosed = errors.New("wal is closed")
	// ErrTooLarge says that an entry can never fit.
	ErrTooLarge = errors.New("entry too large for the wal")
	// ErrBeyond says that Open was asked for groups after the end of a wal that is not empty.
	ErrBeyond = errors.New("wal ends before the sequence asked for")
)

// DamagedRun is an entry whose bytes are not what was written.
type DamagedRun struct {
	Kind                    Kind
	Partition               base.TopicIDPartition
	FirstOffset, LastOffset base.Offset
	Offset                  int64 // of the bytes in the file
	Length                  int64
}

// CorruptError says that bytes of the wal that had been durable are damaged or missing.
type CorruptError struct {
	File   string // path of the file
	Offset int64  // first damaged byte range in the file
	Length int64  // 0 if unknown
	// First and Last are the groups concerned.
	First, Last Sequence
	// Runs names the damaged entries, if the group's table can be read. If it is empty any partition may be concerned.
	Runs   []DamagedRun
	Reason string
}

// Error names the file, the offset and the damaged runs.
func (e *CorruptError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "wal file %s is corrupt at offset %d (groups %d to %d): %s", e.File, e.Offset, e.First, e.Last, e.Reason)
	for i, r := range e.Runs {
		if i == 8 {
			fmt.Fprintf(&b, "; and %d more runs", len(e.Runs)-i)
			break
		}
		fmt.Fprintf(&b, "; %s of %s, offsets %d to %d", r.Kind, r.Partition, r.FirstOffset, r.LastOffset)
	}
	return b.String()
}

// Stats counts what a wal has done since Open.
type Stats struct {
	Entries      uint64
	EntryBytes   uint64 // payload
	Bodies       uint64 // of entries, made durable elsewhere
	Groups       uint64 // without marks
	GroupBytes   uint64 // written, with headers, tables and padding
	Marks        uint64
	WriteTime    time.Duration // spent writing and syncing groups
	FilesMade    uint64        // zero-filled
	FilesReused  uint64
	FilesRemoved uint64
	FillTime     time.Duration // spent zero-filling
	FullWaits    uint64        // reservations that had to wait
	Fulls        uint64        // reservations refused
	LiveBytes    int64
	DiskBytes    int64 // sizes of all files
	PendingBytes int64
	Direct       bool // writes go past the page cache
}
