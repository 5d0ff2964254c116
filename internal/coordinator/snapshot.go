package coordinator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
)

// Snapshotter is a Machine that can write down its state. It is only asked of a machine that did nothing but replay, so there is no
// soft state to leave out.
type Snapshotter interface {
	Machine
	// Snapshot calls emit with records that give an empty machine the same state by Replay, in an order that does.
	Snapshot(emit func(key, value []byte))
}

// Identified is a Log that knows its partition by the topic's id. Snapshots are kept of such logs only: a topic that was deleted and
// made anew must not come back by a snapshot.
type Identified interface {
	Log
	ID() base.TopicIDPartition
	// Forgotten is the offset before which compaction has removed tombstones: what a snapshot as of an offset before it holds may have been
	// deleted since, and nothing in the log says so any more.
	Forgotten() base.Offset
}

// Snapshots says where and when states are written down, so that loading need not read the log from its start. The zero value keeps
// no snapshots.
type Snapshots struct {
	FS  vfs.FS
	Dir string // exists or can be made
	// Every is how many records of the log a snapshot saves from being read, at least, to be worth it; 0 stands for 100000.
	Every base.Offset
}

// defaultSnapshotEvery: about a tenth of a second of replay.
const defaultSnapshotEvery = 100_000

// The format is told in docs/formats/groups.md. A file is records in batches, then a footer.
const (
	snapshotMagic   = 0x4f54534e41503031 // "OTSNAP01"
	snapshotVersion = 4                  // goes up whenever a type of record becomes known, as a snapshot made before lacks those records
	footerSize      = 8 + 4 + 16 + 4 + 8 + 8 + 4 + 4
	maxBatch        = maxDecompressed
)

// errSnapshot marks a snapshot that is not there or cannot be used. The log is read from its start then.
var errSnapshot = errors.New("no usable snapshot")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// footer says what a snapshot is of.
type footer struct {
	id     base.TopicIDPartition
	offset base.Offset // of the first record that is not in it
	body   int64       // bytes before the footer
	crc    uint32      // CRC32C of the body
}

func (f footer) encode() []byte {
	b := make([]byte, 0, footerSize)
	b = binary.BigEndian.AppendUint64(b, snapshotMagic)
	b = binary.BigEndian.AppendUint32(b, snapshotVersion)
	b = append(b, f.id.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(f.id.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(f.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(f.body))
	b = binary.BigEndian.AppendUint32(b, f.crc)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeFooter(b []byte) (footer, error) {
	var f footer
	if len(b) != footerSize || binary.BigEndian.Uint64(b) != snapshotMagic {
		return f, errors.New("no footer")
	}
	if crc32.Checksum(b[:footerSize-4], castagnoli) != binary.BigEndian.Uint32(b[footerSize-4:]) {
		return f, errors.New("the footer's checksum does not match")
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != snapshotVersion {
		return f, fmt.Errorf("version %d, want %d", v, snapshotVersion)
	}
	copy(f.id.ID[:], b[12:])
	f.id.Partition = int32(binary.BigEndian.Uint32(b[28:]))
	f.offset = base.Offset(binary.BigEndian.Uint64(b[32:]))
	f.body = int64(binary.BigEndian.Uint64(b[40:]))
	f.crc = binary.BigEndian.Uint32(b[48:])
	return f, nil
}

func (s *Snapshots) path(topic string, partition int32) string {
	return s.FS.PathJoin(s.Dir, fmt.Sprintf("%s-%d.snapshot", topic, partition))
}

// write writes a snapshot of m beside the former one and puts it in its place.
func (s *Snapshots) write(path string, f footer, m Snapshotter) (err error) {
	if err := s.FS.MkdirAll(s.Dir, 0o750); err != nil {
		return err
	}
	if err := s.syncDir(s.FS.PathDir(s.Dir)); err != nil {
		return err
	}
	next := path + ".next"
	file, err := s.FS.Create(next, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	b := record.NewBuilder(record.BuilderOptions{})
	var at base.Offset
	flush := func() error {
		if b.Len() == 0 {
			return nil
		}
		batch := b.Build(at)
		at += base.Offset(b.Len())
		f.body += int64(len(batch))
		f.crc = crc32.Update(f.crc, castagnoli, batch)
		b.Reset()
		_, err := file.Write(batch)
		return err
	}
	m.Snapshot(func(key, value []byte) {
		b.Append(0, key, value)
		if b.Size() >= maxBatchBytes && err == nil {
			err = flush()
		}
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	if _, err := file.Write(f.encode()); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	closing := file
	file = nil
	if err := closing.Close(); err != nil {
		return err
	}
	if err := s.FS.Rename(next, path); err != nil {
		return err
	}
	return s.syncDir(s.Dir)
}

func (s *Snapshots) syncDir(name string) error {
	dir, err := s.FS.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// read replays a snapshot into m and returns the offset from which on the log is to be read. An error that is errSnapshot leaves m
// empty; after any other, m is not to be used.
func (s *Snapshots) read(path string, id base.TopicIDPartition, start, end base.Offset, m Machine) (base.Offset, error) {
	unusable := func(err error) (base.Offset, error) { return 0, fmt.Errorf("%w: %w", errSnapshot, err) }
	file, err := s.FS.Open(path)
	if err != nil {
		return unusable(err)
	}
	defer func() { _ = file.Close() }() // it was only read
	f, err := checkFile(file)
	switch {
	case err != nil:
		return unusable(err)
	case f.id != id:
		return unusable(fmt.Errorf("it is of %v, not of %v", f.id, id))
	case f.offset > end || f.offset < start:
		return unusable(fmt.Errorf("offset %d is not among those from %d to %d, after which the log tells all that came", f.offset, start, end))
	}
	body := io.NewSectionReader(file, 0, f.body)
	for at := int64(0); at < f.body; {
		batch, err := readBatch(body, at)
		if err != nil {
			return 0, fmt.Errorf("snapshot %s: %w", path, err)
		}
		at += int64(len(batch))
		if _, _, err := replay(m, batch, replaying{from: 0, upto: noLimit}); err != nil {
			return 0, fmt.Errorf("snapshot %s: %w", path, err)
		}
	}
	return f.offset, nil
}

// checkFile checks that a snapshot is what was written, and returns its footer.
func checkFile(file vfs.File) (footer, error) {
	info, err := file.Stat()
	if err != nil {
		return footer{}, err
	}
	b := make([]byte, footerSize)
	if info.Size() < footerSize {
		return footer{}, errors.New("too short")
	}
	if _, err := file.ReadAt(b, info.Size()-footerSize); err != nil {
		return footer{}, err
	}
	f, err := decodeFooter(b)
	if err != nil {
		return f, err
	}
	if f.body != info.Size()-footerSize {
		return f, fmt.Errorf("%d bytes, want %d", info.Size()-footerSize, f.body)
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, f.body)); err != nil {
		return f, err
	}
	if sum.Sum32() != f.crc {
		return f, errors.New("the body's checksum does not match")
	}
	return f, nil
}

// Verify checks every snapshot in the folder and reports those that are not what was written: they cost time, and nothing else. It ends with
// the first error of report, or of reading the folder; a folder that does not exist has none.
func (s *Snapshots) Verify(report func(path string, reason error) error) error {
	names, err := s.FS.List(s.Dir)
	if oserror.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".snapshot") {
			continue
		}
		path := s.FS.PathJoin(s.Dir, name)
		file, err := s.FS.Open(path)
		if oserror.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		_, reason := checkFile(file)
		_ = file.Close() // it was only read
		if reason == nil {
			continue
		}
		if err := report(path, reason); err != nil {
			return err
		}
	}
	return nil
}

func readBatch(r io.ReaderAt, at int64) ([]byte, error) {
	head := make([]byte, record.HeaderSize)
	if _, err := r.ReadAt(head, at); err != nil {
		return nil, err
	}
	h, err := record.ParseHeader(head)
	if err != nil {
		return nil, err
	}
	if h.Size() > maxBatch {
		return nil, fmt.Errorf("a batch of %d bytes", h.Size())
	}
	batch := make([]byte, h.Size())
	if _, err := r.ReadAt(batch, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return batch, record.VerifyCRC(batch)
}

// Maintain does what is to be done from time to time, every interval until ctx ends; see MaintainNow. It returns nil when ctx ends.
func Maintain[M Machine](ctx context.Context, r *Runtime[M], interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		MaintainNow(ctx, r)
	}
}

// MaintainNow loads the partitions that hold state and are not loaded, so that their timers run, and writes snapshots of those that have grown.
func MaintainNow[M Machine](ctx context.Context, r *Runtime[M]) {
	ends := SubmitAll(r, func(_ M, fx *Effects, c *Call[partitionEnd]) { c.Answer(fx, partitionEnd{fx.partition, fx.next}) })
	for _, c := range ends {
		end, err := c.Wait(ctx)
		if err != nil {
			continue // it is not led here, or cannot be loaded, which has been logged
		}
		if err := r.snapshot(ctx, end); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("a snapshot of the coordinator's state could not be written", "topic", r.cfg.Name, "partition", end.partition, "err", err)
		}
	}
}

// partitionEnd is an offset of a partition before which everything is durable.
type partitionEnd struct {
	partition int32
	offset    base.Offset
}

// snapshot writes a snapshot of a partition's state at an offset that is durable, if enough records have come since the last one. The
// state is made from the last snapshot and the log, beside the event loop, and not taken from it: so it holds nothing that is not
// recorded, and costs the event loop nothing.
func (r *Runtime[M]) snapshot(ctx context.Context, end partitionEnd) error {
	s := &r.cfg.Snapshots
	if s.FS == nil || r.cfg.Shadow == nil {
		return nil
	}
	log, err := r.cfg.Topic.Log(end.partition)
	if err != nil {
		return nil
	}
	identified, ok := log.(Identified)
	if !ok {
		return nil
	}
	every := s.Every
	if every == 0 {
		every = defaultSnapshotEvery
	}
	r.mu.Lock()
	last := r.snapshots[end.partition]
	r.mu.Unlock()
	if end.offset-last < every {
		return nil
	}
	shadow := r.cfg.Shadow(end.partition)
	m, ok := any(shadow).(Snapshotter)
	if !ok {
		return nil
	}
	path := s.path(r.cfg.Name, end.partition)
	start, _ := log.Offsets()
	from, err := s.read(path, identified.ID(), max(start, identified.Forgotten()), end.offset, m)
	if errors.Is(err, errSnapshot) {
		from = start
	} else if err != nil {
		return err
	}
	if end.offset-from >= every {
		if from, _, err = replayLog(ctx, m, log, replaying{from: from, upto: end.offset, logger: r.cfg.Logger}); err != nil {
			return err
		}
		if err := s.write(path, footer{id: identified.ID(), offset: from}, m); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.snapshots[end.partition] = from
	r.mu.Unlock()
	return nil
}
