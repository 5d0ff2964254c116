package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// ScrubOptions say how to look for damage.
type ScrubOptions struct {
	// BytesPerSecond is the pace; 0 = as fast as the disk. Whatever it says, a scrub waits while appends wait for the flushers.
	BytesPerSecond int64
	// Report is told of each range that can not be read, known before or not. It may be nil.
	Report func(Damage)
	// Progress is told how many bytes were read since it was last told. It may be nil.
	Progress func(n int64)
}

// Scrub reads every segment with its indexes and its sidecar, the files for Kafka's tools and the checkpoint, and checks them. Damaged
// ranges are remembered and reported; ranges that read right again are forgotten. Indexes and sidecars of sealed segments, and the
// checkpoint, are mended where that can be done. It begins somewhere at random, so that scrubs that are cut short come to every segment in
// time.
//
// It returns ctx's cause, or an error of the file system that is no damage.
func (e *Engine) Scrub(ctx context.Context, o ScrubOptions) error {
	s := scrub{e: e, o: o, mend: true, began: time.Now()}
	partitions := e.snapshot()
	slices.SortFunc(partitions, comparePartitions)
	if n := len(partitions); n > 0 {
		at := rand.IntN(n)
		partitions = slices.Concat(partitions[at:], partitions[:at])
	}
	if err := e.scrubCheckpoint(); err != nil {
		return err
	}
	for _, p := range partitions {
		if err := s.partition(ctx, p); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// scrub is one pass over the segments.
type scrub struct {
	e          *Engine
	o          ScrubOptions
	mend       bool                  // files that can be made anew
	mendActive bool                  // those of active segments too: nobody writes
	ragged     map[*Partition][]byte // ends of active segments which the wal or the checkpoint has; those in the files may be torn
	logLater   bool                  // damage in logs is reported by the caller
	began      time.Time
	read       int64 // bytes since began
}

// pressureWait is how long a scrub stands back while appends wait.
const pressureWait = 100 * time.Millisecond

// pace waits until n more bytes may be read.
func (s *scrub) pace(ctx context.Context, n int64) error {
	for s.e.log != nil && s.e.pool.Waiting() > 0 {
		if err := pause(ctx, pressureWait); err != nil {
			return err
		}
	}
	if s.o.BytesPerSecond > 0 {
		due := s.began.Add(time.Duration(float64(s.read) / float64(s.o.BytesPerSecond) * float64(time.Second)))
		if err := pause(ctx, time.Until(due)); err != nil {
			return err
		}
		if time.Since(due) > time.Second { // it stood back: what was missed is not made up for in a burst
			s.began, s.read = time.Now(), 0
		}
	}
	s.read += n
	if s.o.Progress != nil {
		s.o.Progress(n)
	}
	return context.Cause(ctx)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *scrub) partition(ctx context.Context, p *Partition) error {
	p.mu.Lock()
	segments := slices.Clone(p.segments)
	p.mu.Unlock()
	for _, ref := range segments {
		p.mu.Lock()
		seg := ref.seg
		p.mu.Unlock()
		if seg == nil {
			continue
		}
		err := s.segment(ctx, p, ref, seg)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, segment.ErrRemoved) || p.gone(ref):
			continue // deleted or compacted meanwhile
		default:
			return fmt.Errorf("scrub %v: %w", p, err)
		}
	}
	return s.smallFiles(p)
}

// gone reports whether a segment has left the log.
func (p *Partition) gone(s *segmentRef) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.inLogLocked(s)
}

// segment verifies one segment.
func (s *scrub) segment(ctx context.Context, p *Partition, ref *segmentRef, seg *segment.Segment) error {
	p.mu.Lock()
	before := slices.Clone(p.damage)
	p.mu.Unlock()
	var inLog, beside []segment.DamageError
	var ragged []byte
	if !seg.Sealed() {
		ragged = s.ragged[p]
	}
	err := seg.Verify(ctx, segment.VerifyOptions{
		Pace: s.pace, Ragged: ragged,
		Report: func(d segment.DamageError) {
			if d.File == seg.Path() {
				inLog = append(inLog, d)
			} else {
				beside = append(beside, d)
			}
		},
	})
	if err != nil {
		return err
	}
	for i := range inLog {
		if d := p.remember(ref, &inLog[i], false); !s.logLater {
			s.report(d)
		}
	}
	p.forgetMended(ref, before, inLog)
	return s.beside(p, ref, seg, beside)
}

// beside deals with damage in indexes and sidecar: it costs no record as long as the log is whole.
func (s *scrub) beside(p *Partition, ref *segmentRef, seg *segment.Segment, found []segment.DamageError) error {
	if len(found) == 0 {
		return nil
	}
	var mended []string
	if s.mend && (s.mendActive || seg.Sealed()) {
		var err error
		if mended, err = seg.Mend(); err != nil {
			return err
		}
	}
	for i := range found {
		d := Damage{
			Topic: p.topic, Partition: p.id, FirstOffset: ref.base, LastOffset: seg.NextOffset() - 1,
			File: found[i].File, Pos: found[i].Pos, Len: found[i].Len, Reason: found[i].Reason,
		}
		if slices.Contains(mended, s.e.cfg.FS.PathBase(d.File)) {
			d.Reason += "; mended from the log"
			d.Mended = true
			p.healed(&found[i])
		} else {
			s.e.reportDamage(d)
		}
		s.report(d)
	}
	return nil
}

func (s *scrub) report(d Damage) {
	if s.o.Report != nil {
		s.o.Report(d)
	}
}

// forgetMended drops ranges of a segment that were known before it was verified and have not been found again.
func (p *Partition) forgetMended(ref *segmentRef, before []damagedRange, found []segment.DamageError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.segments, ref)
	if i < 0 {
		return
	}
	end := p.segmentEndLocked(i)
	known := len(p.damage)
	p.damage = slices.DeleteFunc(p.damage, func(d damagedRange) bool {
		if d.missing() || d.structural || d.from < ref.start || d.from >= end || !slices.ContainsFunc(before, func(b damagedRange) bool { return b.from == d.from && b.to == d.to }) {
			return false
		}
		return !slices.ContainsFunc(found, func(f segment.DamageError) bool {
			return ref.start+f.Pos < d.to && d.from < ref.start+f.Pos+f.Len
		})
	})
	if len(p.damage) < known {
		p.e.cfg.Logger.Info("a damaged range reads right again", "topic", p.topic, "partition", p.id.Partition, "offset", ref.base)
		p.e.keepDamage()
	}
}

// smallFiles checks what lies in p's folder for Kafka's tools. The broker reads none of it.
func (s *scrub) smallFiles(p *Partition) error {
	fs, dir := s.e.cfg.FS, p.dir()
	names, err := fs.List(dir)
	if err != nil || len(names) == 0 {
		return nil // it has none yet, or is gone
	}
	note := func(name string, err error) {
		var bad *segment.DamageError
		if !errors.As(err, &bad) {
			return
		}
		d := Damage{
			Topic: p.topic, Partition: p.id, FirstOffset: base.NoOffset, LastOffset: base.NoOffset, File: fs.PathJoin(dir, name),
			Len: bad.Len, Reason: bad.Error(),
		}
		s.e.reportDamage(d)
		s.report(d)
	}
	for _, name := range names {
		at, suffix, ok := segment.ParseFileName(name)
		switch {
		case ok && suffix == ".snapshot":
			_, err := segment.ReadProducerSnapshot(fs, dir, at)
			note(name, err)
		case name == segment.LeaderEpochFile:
			_, err := segment.ReadLeaderEpochs(fs, dir)
			note(name, err)
		case name == segment.PartitionMetadataFile:
			id, err := segment.ReadPartitionMetadata(fs, dir)
			if err == nil && id != p.id.ID {
				err = &segment.DamageError{File: fs.PathJoin(dir, name), FirstOffset: base.NoOffset, Reason: "it names another topic: " + id.String()}
			}
			note(name, err)
		}
	}
	return nil
}

// scrubCheckpoint reads the checkpoint as the next start will. A damaged one is replaced at once: its state is in memory.
func (e *Engine) scrubCheckpoint() error {
	_, err := readCheckpoint(e.cfg.FS, e.cfg.Dir)
	if !errors.Is(err, errCheckpoint) {
		return err
	}
	name := e.path(checkpointName)
	e.reportDamage(Damage{FirstOffset: base.NoOffset, LastOffset: base.NoOffset, File: name, Reason: err.Error() + "; it is written anew"})
	e.kickCheckpoint()
	return nil
}
