package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// ProducerEntry is what a producer snapshot says of one producer: its last batch (Kafka's ProducerStateManager, version 1).
type ProducerEntry struct {
	ProducerID       base.ProducerID
	ProducerEpoch    base.ProducerEpoch
	LastSequence     int32       // of the last batch, -1 if none
	LastOffset       base.Offset // of the last batch, -1 if none
	OffsetDelta      int32       // last offset less first offset of the last batch
	Timestamp        int64       // max timestamp of the last batch, milliseconds
	CoordinatorEpoch int32       // of the last transaction marker, -1 if none
	CurrentTxnFirst  base.Offset // first offset of the open transaction, base.NoOffset if none
}

// Layout of a snapshot: version, CRC32C of what follows it, and an array of entries.
const (
	snapshotVersion   = 1
	snapshotCRCStart  = 2
	snapshotCRCEnd    = 6
	snapshotHeader    = 10
	snapshotEntrySize = 46
)

var errSnapshot = errors.New("producer snapshot is not valid")

// WriteProducerSnapshot writes <offset>.snapshot into dir, the producers as they were when the log ended at offset, by temporary file,
// sync, rename and folder sync.
func WriteProducerSnapshot(fs disk.FS, dir string, offset base.Offset, entries []ProducerEntry) error {
	return replaceFile(fs, dir, FileName(offset, snapshotSuffix), formatSnapshot(entries))
}

// ReadProducerSnapshot reads <offset>.snapshot. Errors: of the file system (a missing file among them), and *DamageError.
func ReadProducerSnapshot(fs disk.FS, dir string, offset base.Offset) ([]ProducerEntry, error) {
	var entries []ProducerEntry
	err := readSmall(fs, dir, FileName(offset, snapshotSuffix), func(b []byte) (err error) {
		entries, err = parseSnapshot(b)
		return err
	})
	return entries, err
}

// RemoveProducerSnapshot deletes <offset>.snapshot if it is there.
func RemoveProducerSnapshot(fs disk.FS, dir string, offset base.Offset) error {
	path := fs.PathJoin(dir, FileName(offset, snapshotSuffix))
	if err := fs.Remove(path); err != nil && !isNotExist(err) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

func formatSnapshot(entries []ProducerEntry) []byte {
	b := make([]byte, snapshotCRCEnd, snapshotHeader+len(entries)*snapshotEntrySize)
	binary.BigEndian.PutUint16(b, snapshotVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, uint64(e.ProducerID))
		b = binary.BigEndian.AppendUint16(b, uint16(e.ProducerEpoch))
		b = binary.BigEndian.AppendUint32(b, uint32(e.LastSequence))
		b = binary.BigEndian.AppendUint64(b, uint64(e.LastOffset))
		b = binary.BigEndian.AppendUint32(b, uint32(e.OffsetDelta))
		b = binary.BigEndian.AppendUint64(b, uint64(e.Timestamp))
		b = binary.BigEndian.AppendUint32(b, uint32(e.CoordinatorEpoch))
		b = binary.BigEndian.AppendUint64(b, uint64(e.CurrentTxnFirst))
	}
	binary.BigEndian.PutUint32(b[snapshotCRCStart:], crc32.Checksum(b[snapshotCRCEnd:], castagnoli))
	return b
}

func parseSnapshot(b []byte) ([]ProducerEntry, error) {
	if len(b) < snapshotHeader {
		return nil, fmt.Errorf("%w: %d bytes", errSnapshot, len(b))
	}
	if v := binary.BigEndian.Uint16(b); v != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errSnapshot, v, snapshotVersion)
	}
	if got, want := crc32.Checksum(b[snapshotCRCEnd:], castagnoli), binary.BigEndian.Uint32(b[snapshotCRCStart:]); got != want {
		return nil, fmt.Errorf("%w: CRC32C is %#08x, want %#08x", errSnapshot, got, want)
	}
	count := binary.BigEndian.Uint32(b[snapshotCRCEnd:])
	b = b[snapshotHeader:]
	if uint64(count)*snapshotEntrySize != uint64(len(b)) {
		return nil, fmt.Errorf("%w: %d producers in %d bytes", errSnapshot, count, len(b))
	}
	entries := make([]ProducerEntry, count)
	for i := range entries {
		entries[i] = ProducerEntry{
			ProducerID:       base.ProducerID(binary.BigEndian.Uint64(b)),
			ProducerEpoch:    base.ProducerEpoch(binary.BigEndian.Uint16(b[8:])),
			LastSequence:     int32(binary.BigEndian.Uint32(b[10:])),
			LastOffset:       base.Offset(binary.BigEndian.Uint64(b[14:])),
			OffsetDelta:      int32(binary.BigEndian.Uint32(b[22:])),
			Timestamp:        int64(binary.BigEndian.Uint64(b[26:])),
			CoordinatorEpoch: int32(binary.BigEndian.Uint32(b[34:])),
			CurrentTxnFirst:  base.Offset(binary.BigEndian.Uint64(b[38:])),
		}
		b = b[snapshotEntrySize:]
	}
	return entries, nil
}
