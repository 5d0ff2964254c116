package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/tail"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// FolderScrub says how to check the log in a data folder that no broker has open.
type FolderScrub struct {
	FS  disk.FS
	Dir string // exists and is locked by the caller
	// Repair mends what can be made anew and sets aside what can not.
	Repair bool
	ScrubOptions
	// Total is told how many bytes there are to read, before Progress. It may be nil.
	Total func(bytes int64)
}

// ScrubFolder checks the log in a data folder: the checkpoint, the wal, and whatever the checkpoint lists. It reports damage and
// writes down, for the next start, which ranges can not be read; with Repair it also gives them up, so that readers go on behind them.
//
// What is in the wal and not in a segment yet is checked there, and replayed by the next start. Errors are those of the file system and
// ctx's cause; damage is none.
func ScrubFolder(ctx context.Context, o FolderScrub) error {
	c, err := readCheckpoint(o.FS, o.Dir)
	if errors.Is(err, errCheckpoint) {
		o.tell(Damage{
			File: o.FS.PathJoin(o.Dir, checkpointName), FirstOffset: base.NoOffset, LastOffset: base.NoOffset,
			Reason: err.Error() + "; without it the folder can not be opened, and segments can not be checked",
		})
		return nil
	}
	if err != nil {
		return err
	}
	if c == nil {
		c = &checkpointFile{From: 1}
	}
	e, err := openFolder(o, c)
	if err != nil {
		return err
	}
	defer func() { _ = e.abandon() }() // nothing was written through it
	f := &folderScrub{FolderScrub: o, e: e, checkpoint: c, ragged: map[*Partition][]byte{}}
	if err := f.wal(ctx); err != nil {
		return err
	}
	if err := f.segments(ctx); err != nil {
		return err
	}
	for _, p := range f.partitions() {
		if o.Repair {
			if err := p.setAside(); err != nil {
				return fmt.Errorf("set aside damaged ranges of %v: %w", p, err)
			}
		}
		for _, d := range p.damage {
			o.tell(d.damage)
		}
	}
	return e.saveDamage()
}

func (o FolderScrub) tell(d Damage) {
	if o.Report != nil {
		o.Report(d)
	}
}

// folderScrub is a run of ScrubFolder.
type folderScrub struct {
	FolderScrub
	e          *Engine
	checkpoint *checkpointFile
	ragged     map[*Partition][]byte // ends of active segments that the wal or the checkpoint has
}

// openFolder makes an engine of what the checkpoint lists. It has no wal and no goroutines.
func openFolder(o FolderScrub, c *checkpointFile) (*Engine, error) {
	e := &Engine{
		cfg:    Config{FS: o.FS, Dir: o.Dir, Logger: slog.New(slog.DiscardHandler)},
		pool:   tail.NewPool(1 << 20),
		files:  segment.NewFileCache(64),
		failed: make(chan struct{}), partitions: make(map[base.TopicIDPartition]*Partition, len(c.Partitions)),
		damageFound: make(chan struct{}, 1),
	}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	for i := range c.Partitions {
		rec := c.Partitions[i]
		rec.Dropped, rec.Ragged = nil, nil // they concern who writes
		p := e.newPartition(PartitionSpec{Topic: rec.Topic, ID: rec.ID})
		if err := p.restore(&rec); err != nil {
			return nil, fmt.Errorf("partition %v of the checkpoint: %w", p, err)
		}
		e.partitions[rec.ID] = p
	}
	return e, e.loadDamage()
}

// wal checks the write-ahead log.
func (f *folderScrub) wal(ctx context.Context) error {
	for i := range f.checkpoint.Partitions {
		if rec := &f.checkpoint.Partitions[i]; len(rec.Ragged) > 0 {
			f.keepRagged(f.e.partitions[rec.ID], rec.RaggedPos, rec.Ragged)
		}
	}
	cfg := wal.Config{FS: f.FS, Dir: f.e.path(walFolder), OnDamage: func(c *wal.CorruptError) error { f.walDamage(c); return nil }}
	from := make(map[*Partition]wal.Sequence, len(f.checkpoint.Partitions))
	for i := range f.checkpoint.Partitions {
		rec := &f.checkpoint.Partitions[i]
		from[f.e.partitions[rec.ID]] = rec.From
	}
	err := wal.Verify(ctx, cfg, f.checkpoint.From, func(group wal.Sequence, entry wal.Entry) error {
		if entry.Kind == wal.Placed {
			if p := f.e.partitions[entry.Partition]; p == nil || group >= from[p] && entry.FirstOffset >= p.end {
				return f.body(p, entry)
			}
		}
		if p := f.e.partitions[entry.Partition]; p != nil && entry.Kind == wal.Carry && len(entry.Data) > 0 && entry.Data[0] == carryRagged {
			return f.carried(p, entry.Data[1:])
		}
		return nil
	})
	if errors.Is(err, wal.ErrBeyond) {
		f.tell(Damage{File: cfg.Dir, FirstOffset: base.NoOffset, LastOffset: base.NoOffset, Reason: err.Error()})
		return nil
	}
	return err
}

// carried keeps the ragged end of a segment that the wal has.
func (f *folderScrub) carried(p *Partition, data []byte) error {
	first, pos, ragged, err := parseRagged(data)
	if err == nil && first == p.segments[p.flushing].base {
		f.keepRagged(p, pos, ragged)
	}
	return err
}

// keepRagged keeps the ragged end that the next start will give an active segment.
func (f *folderScrub) keepRagged(p *Partition, pos int64, ragged []byte) {
	if seg := p.segments[p.flushing].seg; seg != nil && pos+int64(len(ragged)) == seg.Size() { // else it is of an earlier state
		f.ragged[p] = bytes.Clone(ragged)
	}
}

// body checks the body of an entry that the next start will replay. p is nil if the checkpoint does not know the partition.
func (f *folderScrub) body(p *Partition, entry wal.Entry) error {
	dir, topic := "", ""
	var err error
	if p != nil {
		dir, topic = p.dir(), p.topic
	} else if dir, err = f.e.folderFor(entry.Partition); err != nil || dir == "" {
		return err // of a topic that was deleted
	}
	_, err = f.e.readBody(entry, dir)
	var found *segment.DamageError
	if !errors.As(err, &found) {
		return err
	}
	d := bodyDamage(topic, entry, found)
	if p != nil {
		d = f.lost(p, d)
	}
	f.tell(d)
	return nil
}

// lost gives up records that are not in the segments, if that is asked for.
func (f *folderScrub) lost(p *Partition, d Damage) Damage {
	lost := damagedRange{damage: d}
	lost.giveUp(p.given)
	if f.Repair && !lost.aside {
		lost.aside, lost.damage.SetAside = true, true
		p.given = append(p.given, lost)
	}
	return lost.damage
}

// walDamage reports damage in the wal, and gives up what it held if that is asked for.
func (f *folderScrub) walDamage(c *wal.CorruptError) {
	if len(c.Runs) == 0 {
		d := Damage{
			File: c.File, Pos: c.Offset, Len: c.Length, FirstOffset: base.NoOffset, LastOffset: base.NoOffset,
			Reason: fmt.Sprintf("groups %d to %d of the wal: %s", c.First, c.Last, c.Reason), SetAside: f.Repair || f.e.groupsGivenUp(c),
		}
		if f.Repair && !f.e.groupsGivenUp(c) {
			f.e.strayDamage = append(f.e.strayDamage, givenGroups(f.e, c))
		}
		f.tell(d)
		return
	}
	for _, run := range c.Runs {
		d := Damage{
			Partition: run.Partition, FirstOffset: run.FirstOffset, LastOffset: run.LastOffset,
			File: c.File, Pos: run.Offset, Len: run.Length, Reason: c.Reason,
		}
		p := f.e.partitions[run.Partition]
		if p != nil {
			d.Topic = p.topic
			if run.Kind.Holds() {
				d = f.lost(p, d)
			}
		}
		f.tell(d)
	}
}

// segments checks what the checkpoint lists.
func (f *folderScrub) segments(ctx context.Context) error {
	s := scrub{
		e: f.e, o: f.ScrubOptions, mend: f.Repair, mendActive: true, logLater: true,
		ragged: f.ragged,
	}
	total := int64(0)
	for _, p := range f.partitions() {
		total += p.SizeBytes()
	}
	if f.Total != nil {
		f.Total(total)
	}
	for _, p := range f.partitions() {
		if err := s.partition(ctx, p); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// partitions lists what the checkpoint lists, in order.
func (f *folderScrub) partitions() []*Partition {
	all := f.e.snapshot()
	slices.SortFunc(all, comparePartitions)
	return all
}

// givenGroups is the record that gives up damaged groups of which the wal does not say whose they were.
func givenGroups(e *Engine, c *wal.CorruptError) damageRecord {
	return damageRecord{
		TopicID: base.TopicID{}.String(), FirstOffset: base.Offset(c.First), LastOffset: base.Offset(max(c.First, c.Last)),
		File: e.relative(c.File), Pos: c.Offset, Bytes: c.Length, Reason: c.Reason, SetAside: true,
	}
}

// groupsGivenUp reports whether an operator has given up damaged groups of which the wal does not say whose they were.
func (e *Engine) groupsGivenUp(c *wal.CorruptError) bool {
	for _, r := range e.strayDamage {
		if r.TopicID == (base.TopicID{}).String() && r.FirstOffset == base.Offset(c.First) && r.File == e.relative(c.File) {
			return true
		}
	}
	return false
}

// comparePartitions orders partitions by topic and number.
func comparePartitions(a, b *Partition) int {
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.id.Partition, b.id.Partition))
}
