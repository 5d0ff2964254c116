package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// asideWriter copies wal entries of partitions that the metadata does not know, and whose deletion it does not know either, into
// files of their own: the wal will forget them. docs/formats/checkpoint.md has the format.
type asideWriter struct {
	e     *Engine
	files map[base.TopicIDPartition]vfs.File
}

const asideHeader = 4 + 4 + 1 + 8 + 8 + 8 // data length, CRC of all that follows, kind, group, first and last offset

// write adds an entry. The file is named for the first group in it, so that opening again after a crash writes the same again.
func (a *asideWriter) write(group wal.Sequence, entry wal.Entry) error {
	f := a.files[entry.Partition]
	if f == nil {
		var err error
		if f, err = a.create(group, entry); err != nil {
			return err
		}
	}
	var err error
	if entry.Kind == wal.Placed {
		entry, err = a.e.placedAside(entry)
	}
	if found := (*segment.DamageError)(nil); errors.As(err, &found) {
		a.e.reportAside(bodyDamage("", entry, found))
	} else if err != nil {
		return err
	}
	_, err = f.Write(appendAside(nil, asideEntry{
		kind: entry.Kind, at: uint64(group), first: entry.FirstOffset, last: entry.LastOffset, data: entry.Data,
	}))
	return err
}

// asideEntry is an entry of a file in set-aside/.
type asideEntry struct {
	kind        wal.Kind
	at          uint64 // the group, or the position of damaged bytes
	first, last base.Offset
	data        []byte
}

func appendAside(b []byte, e asideEntry) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.data)))
	b = append(b, 0, 0, 0, 0)
	b = append(b, byte(e.kind))
	b = binary.BigEndian.AppendUint64(b, e.at)
	b = binary.BigEndian.AppendUint64(b, uint64(e.first))
	b = binary.BigEndian.AppendUint64(b, uint64(e.last))
	b = append(b, e.data...)
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], castagnoli))
	return b
}

func (a *asideWriter) create(group wal.Sequence, entry wal.Entry) (vfs.File, error) {
	fs := a.e.cfg.FS
	dir := a.e.path(asideFolder)
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	name := fs.PathJoin(dir, fmt.Sprintf("%v.%020d", entry.Partition, group))
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	if a.files == nil {
		a.files = make(map[base.TopicIDPartition]vfs.File)
	}
	a.files[entry.Partition] = f
	a.e.reportAside(Damage{
		Partition: entry.Partition, FirstOffset: entry.FirstOffset, LastOffset: base.NoOffset, File: name,
		Reason: "the metadata knows neither the topic nor its deletion; its entries of the wal are set aside",
	})
	return f, nil
}

// close makes what was written durable.
func (a *asideWriter) close() error {
	if len(a.files) == 0 {
		return nil
	}
	for id, f := range a.files {
		err := f.Sync()
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("set aside entries of %v: %w", id, err)
		}
	}
	fs := a.e.cfg.FS
	if err := disk.SyncDir(fs, a.e.path(asideFolder)); err != nil {
		return err
	}
	return disk.SyncDir(fs, a.e.cfg.Dir)
}
