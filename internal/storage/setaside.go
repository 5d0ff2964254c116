package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

const (
	// asideBytes is the kind of an entry that holds bytes of a damaged range as they were found. No kind of the wal.
	asideBytes wal.Kind = 255
	// asidePiece is how many bytes such an entry holds.
	asidePiece   = 64 << 10
	damagedAside = ".damaged" // suffix of files of such entries
)

// setAside gives up every range of p that is known to be damaged: it copies the bytes, as far as they can be read, and makes readers go on
// behind them. For a folder that no broker has open.
func (p *Partition) setAside() error {
	var kept []damagedRange
	for _, d := range p.damage {
		if d.missing() && !d.aside {
			d.aside, d.damage.SetAside = true, true
			p.given = append(p.given, d)
		}
		if !d.aside {
			var err error
			if d, err = p.widen(d); err != nil {
				return err
			}
		}
		if n := len(kept); n > 0 && !d.missing() && !kept[n-1].missing() && d.from < kept[n-1].to {
			d.absorb(kept[n-1]) // one gap with the range before it
			kept = kept[:n-1]
		}
		kept = append(kept, d)
	}
	for i := range kept {
		if kept[i].missing() || kept[i].copy != "" {
			continue
		}
		var err error
		if kept[i].copy, err = p.copyAside(kept[i]); err != nil {
			return err
		}
	}
	p.damage = kept
	return nil
}

// absorb makes d cover the range before it too.
func (d *damagedRange) absorb(before damagedRange) {
	if before.from <= d.from && d.to <= before.to {
		*d = before
		return
	}
	d.from, d.to, d.copy = min(d.from, before.from), max(d.to, before.to), ""
	d.damage.FirstOffset = min(d.damage.FirstOffset, before.damage.FirstOffset)
	d.damage.LastOffset = max(d.damage.LastOffset, before.damage.LastOffset)
	d.damage.Pos = min(d.damage.Pos, before.damage.Pos)
	d.damage.Len = d.to - d.from
}

// widen turns damaged bytes into a range of whole batches: from the end of the last batch before them to the first behind them whose
// place an index knows, or to the segment's end.
func (p *Partition) widen(d damagedRange) (damagedRange, error) {
	i := p.segmentAtLocked(d.from)
	s := p.segments[i]
	st := s.seg.State()
	lo, hi := d.from-s.start, min(d.to-s.start, st.Size)
	from, first, err := batchBefore(s.seg, lo)
	if err != nil {
		return d, err
	}
	to, last := st.Size, p.flushedEnd-1
	if i+1 < len(p.segments) {
		last = min(last, p.segments[i+1].base-1)
	}
	count := int(last - s.base + 1)
	n := sort.Search(count, func(i int) bool {
		pos, err := s.seg.Lookup(s.base + base.Offset(i))
		return err != nil || pos >= hi
	})
	if n < count {
		pos, err := s.seg.Lookup(s.base + base.Offset(n))
		if err != nil {
			return d, err
		}
		to, last = pos, s.base+base.Offset(n)-1
		if h, err := headerAt(s.seg, pos); err == nil {
			last = h.BaseOffset - 1
		}
	}
	d.from, d.to, d.aside = s.start+from, s.start+to, true
	d.damage.FirstOffset, d.damage.LastOffset = first, max(first, last)
	d.damage.Pos, d.damage.Len, d.damage.SetAside = from, to-from, true
	return d, nil
}

// batchBefore returns where the batch begins that holds position pos of a segment, and its base offset, or where the readable batches before
// it end.
func batchBefore(seg *segment.Segment, pos int64) (at int64, first base.Offset, err error) {
	at, err = seg.Boundary(pos)
	if err != nil {
		return 0, 0, err
	}
	first = seg.Base()
	for {
		h, err := headerAt(seg, at)
		if err != nil {
			return at, first, nil
		}
		if at+int64(h.Size()) > pos {
			return at, h.BaseOffset, nil
		}
		at, first = at+int64(h.Size()), h.LastOffset()+1
	}
}

func headerAt(seg *segment.Segment, pos int64) (record.Header, error) {
	b := make([]byte, record.HeaderSize)
	if n, err := seg.PeekAt(b, pos); n < len(b) {
		return record.Header{}, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return record.ParseHeader(b)
}

// copyAside copies the bytes of a range to a file in set-aside/ and returns its name in the data folder.
func (p *Partition) copyAside(d damagedRange) (name string, err error) {
	fs := p.e.cfg.FS
	s := p.segments[p.segmentAtLocked(d.from)]
	dir := p.e.path(asideFolder)
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	name = fs.PathJoin(asideFolder, fmt.Sprintf("%v.%020d-%d%s", p.id, s.base, d.from-s.start, damagedAside))
	var b []byte
	log, err := fs.Open(s.seg.Path())
	if err == nil {
		defer func() { _ = log.Close() }() // it is only read
	} else if !oserror.IsNotExist(err) {
		return "", err
	}
	f, err := fs.Create(p.e.path(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", err
	}
	for pos := d.from - s.start; pos < d.to-s.start && err == nil && log != nil; pos += asidePiece {
		piece := make([]byte, min(asidePiece, d.to-s.start-pos))
		n, _ := log.ReadAt(piece, pos) // what can not be read at all is not there
		if n > 0 {
			b = appendAside(b[:0], asideEntry{
				kind: asideBytes, at: uint64(pos), first: d.damage.FirstOffset, last: d.damage.LastOffset, data: piece[:n],
			})
			_, err = f.Write(b)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = disk.SyncDir(fs, dir)
	}
	if err == nil {
		err = disk.SyncDir(fs, p.e.cfg.Dir)
	}
	return name, err
}

// AsideFile is a file in set-aside/.
type AsideFile struct {
	Name      string // in set-aside/
	Partition base.TopicIDPartition
	// Damaged: bytes of a damaged range as they were found. If not: entries of the wal of a topic that the metadata does not know.
	Damaged                 bool
	FirstOffset, LastOffset base.Offset
	Bytes                   int64
	Batches                 int  // whole ones
	Bad                     bool // an entry of the file is damaged; those before it are counted
}

// ListAside lists what was set aside in a data folder.
func ListAside(fs disk.FS, dir string) ([]AsideFile, error) {
	folder := fs.PathJoin(dir, asideFolder)
	names, err := fs.List(folder)
	if oserror.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var files []AsideFile
	for _, name := range names {
		a := AsideFile{Name: name, Damaged: strings.HasSuffix(name, damagedAside), FirstOffset: base.NoOffset, LastOffset: base.NoOffset}
		var ok bool
		if a.Partition, ok = parseAsideName(name); !ok {
			continue
		}
		err := ReadAside(fs, dir, name, func(batch []byte) error { a.Batches++; return nil }, &a)
		if errors.Is(err, ErrDamage) {
			a.Bad = true
		} else if err != nil {
			return nil, err
		}
		files = append(files, a)
	}
	return files, nil
}

// AsidePartition returns the partition that a file in set-aside/ is of.
func AsidePartition(name string) (base.TopicIDPartition, error) {
	id, ok := parseAsideName(name)
	if !ok {
		return id, fmt.Errorf("%q is not the name of a file in %s", name, asideFolder)
	}
	return id, nil
}

// parseAsideName reads "<topic id>-<partition>.<rest>".
func parseAsideName(name string) (id base.TopicIDPartition, ok bool) {
	head, _, ok := strings.Cut(name, ".")
	dash := strings.LastIndexByte(head, '-')
	if !ok || dash < 0 {
		return id, false
	}
	topic, err := base.ParseTopicID(head[:dash])
	n, err2 := strconv.ParseInt(head[dash+1:], 10, 32)
	return base.TopicIDPartition{ID: topic, Partition: int32(n)}, err == nil && err2 == nil
}

// ReadAside gives each whole record batch of a file in set-aside/ to yield, in the order of the file; of damaged bytes those batches whose
// own CRC is right. about, if it is not nil, gets what the entries say. An error that is ErrDamage means that the file itself is damaged;
// what comes before that has been given.
func ReadAside(fs disk.FS, dir, name string, yield func(batch []byte) error, about *AsideFile) error {
	path := fs.PathJoin(dir, asideFolder, name)
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is only read
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if about == nil {
		about = &AsideFile{}
	}
	var damaged []byte // pieces that follow one another
	var first, last base.Offset
	next := uint64(0)
	for len(b) > 0 {
		e, rest, ok := parseAside(b)
		if !ok {
			if err := salvage(damaged, first, last, yield); err != nil {
				return err
			}
			return fmt.Errorf("%w: %s is damaged %d bytes before its end", ErrDamage, path, len(b))
		}
		b = rest
		about.Bytes += int64(len(e.data))
		if e.first >= 0 && (about.FirstOffset < 0 || e.first < about.FirstOffset) {
			about.FirstOffset = e.first
		}
		about.LastOffset = max(about.LastOffset, e.last)
		switch e.kind {
		case asideBytes:
			if e.at != next {
				if err := salvage(damaged, first, last, yield); err != nil {
					return err
				}
				damaged = nil
			}
			damaged, first, last, next = append(damaged, e.data...), e.first, e.last, e.at+uint64(len(e.data))
		case wal.Batches:
			err = salvage(e.data, e.first, e.last, yield)
		case wal.Carry:
			if len(e.data) > 0 && e.data[0] == carryBatches {
				err = salvage(e.data[1:], e.first, e.last, yield)
			}
		default: // of a partition that is gone: rolls, moves of the log start
		}
		if err != nil {
			return err
		}
	}
	return salvage(damaged, first, last, yield)
}

func parseAside(b []byte) (e asideEntry, rest []byte, ok bool) {
	if len(b) < asideHeader {
		return e, nil, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n > int64(len(b)-asideHeader) || crc32.Checksum(b[8:asideHeader+n], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return e, nil, false
	}
	e = asideEntry{
		kind: wal.Kind(b[8]), at: binary.BigEndian.Uint64(b[9:]), first: base.Offset(binary.BigEndian.Uint64(b[17:])),
		last: base.Offset(binary.BigEndian.Uint64(b[25:])), data: b[asideHeader : asideHeader+n],
	}
	return e, b[asideHeader+n:], true
}

// salvage gives every batch in b whose CRC is right and whose offsets lie between first and last to yield. A batch's CRC does not cover
// its base offset, so those must rise as well.
func salvage(b []byte, first, last base.Offset, yield func([]byte) error) error {
	for len(b) >= record.HeaderSize {
		batch, rest, err := record.Next(b)
		if err == nil {
			err = record.VerifyCRC(batch)
		}
		if err == nil {
			h, herr := record.ParseHeader(batch)
			if herr == nil && h.BaseOffset >= first && h.LastOffset() <= last {
				if err := yield(batch); err != nil {
					return err
				}
				first, b = h.LastOffset()+1, rest
				continue
			}
		}
		b = b[1:]
	}
	return nil
}
