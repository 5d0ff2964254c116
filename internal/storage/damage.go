package storage

import (
	"cmp"
	"errors"
	"slices"
	"sort"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// Damage is a range of a partition that can not be read: the bytes on disk are not those that were written.
type Damage struct {
	Topic     string
	Partition base.TopicIDPartition
	// FirstOffset and LastOffset bound the range, both inclusive. They may be wider than the damage, which is known in bytes.
	FirstOffset, LastOffset base.Offset
	File                    string // path of the damaged file, as the file system knows it
	Pos, Len                int64  // damaged bytes in File; Len 0 = not known
	Reason                  string
	// SetAside: an operator has given the range up (ottla scrub --repair). Readers go on behind it, as behind compacted records.
	SetAside bool
	// Mended: the file was made anew, and nothing is lost.
	Mended bool
}

// damagedRange is a range of a partition that can not be read. from and to are stream positions; they are equal where bytes
// are missing, as after damage in the wal: then every offset from first to last is lost.
type damagedRange struct {
	from, to int64
	damage   Damage
	// structural: the checksums are right, and what they guard is no batch. Reading the bytes again proves nothing.
	structural bool
	// bounded: a batch begins at to, the first after damage.LastOffset.
	bounded bool
	// aside: set aside by an operator. from and to are then batch boundaries, or where the readable part of a segment ends.
	aside bool
	copy  string // of the bytes that were set aside, relative to the data folder
}

// gap is a range that readers do not enter: from anywhere in it they jump to its end.
type gap struct{ from, to int64 }

// gapsLocked lists the gaps, and for one who looks for offset the damaged ranges that lie before it and whose end is known. closed are
// the ranges beside them whose checksums are right though what they guard is not, so that not even a header in them is to be trusted. Both
// are nil in a log without damage, which is nearly all.
func (p *Partition) gapsLocked(offset base.Offset) (gaps, closed []gap) {
	for _, d := range p.damage {
		switch {
		case d.missing():
		case d.aside || d.bounded && d.damage.LastOffset < offset:
			gaps = append(gaps, gap{d.from, d.to})
		case d.structural:
			closed = append(closed, gap{d.from, d.to})
		}
	}
	return gaps, closed
}

// missing reports that the bytes are not there at all, so that offsets, and not positions, tell what is lost.
func (d damagedRange) missing() bool { return d.from == d.to }

// damageAtLocked finds the missing range that holds offset.
func (p *Partition) damageAtLocked(offset base.Offset) (Damage, bool) {
	for _, d := range p.damage {
		if d.missing() && !d.aside && d.damage.FirstOffset <= offset && offset <= d.damage.LastOffset {
			return d.damage, true
		}
	}
	return Damage{}, false
}

// Damaged reports whether a part of the partition is known to be damaged, so that reads of it fail.
func (p *Partition) Damaged() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.damage, func(d damagedRange) bool { return !d.aside })
}

// edgeLocked is the position where a read from pos must stop: the start of the first damaged range that ends after pos, or limit.
func (p *Partition) edgeLocked(pos, limit int64) int64 {
	for _, d := range p.damage {
		if d.from >= limit {
			break
		}
		if d.to > pos {
			return max(d.from, pos)
		}
	}
	return limit
}

// damageFrom is the error of a read that looked for offset and was stopped at pos by a damaged range; nil if a range that was set aside
// reaches to the end of what may be read.
func (p *Partition) damageFrom(offset base.Offset, pos int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	skipped := false
	for _, d := range p.damage {
		if d.aside {
			skipped = skipped || d.to == pos
			continue
		}
		if d.to > pos || d.missing() && d.from == pos {
			found := d.damage
			if !d.missing() {
				found.FirstOffset = min(found.FirstOffset, offset)
				found.LastOffset = max(found.LastOffset, offset)
			}
			return &DamageError{found}
		}
	}
	if err := p.usableLocked(); err != nil || skipped || p.layout > 0 && offset >= p.logStart {
		return err // nil also where compaction has left nothing up to the end
	}
	return ErrOffsetOutOfRange // deleted since it was looked up
}

// noteDamage remembers damage that a segment has reported, and gives it the partition's terms. Other errors it returns as they
// are, unless the partition is gone, which then explains them.
func (p *Partition) noteDamage(s *segmentRef, err error) error {
	var found *segment.DamageError
	if !errors.As(err, &found) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if unusable := p.usableLocked(); unusable != nil {
			return unusable
		}
		if p.segments[0].base > s.base {
			return errors.Join(ErrOffsetOutOfRange, err) // deleted while it was read
		}
		if !p.inLogLocked(s) && errors.Is(err, segment.ErrRemoved) {
			return errors.Join(errSwapped, err)
		}
		return err
	}
	return &DamageError{p.remember(s, found, false)}
}

// noteDamageAt remembers that what stands at a stream position is not a batch, though its checksum is right or it never was in
// a segment.
func (p *Partition) noteDamageAt(pos, n int64, reason error) error {
	p.mu.Lock()
	i := p.segmentAtLocked(pos)
	if i < 0 {
		p.mu.Unlock()
		return errors.Join(ErrOffsetOutOfRange, reason)
	}
	s := p.segments[i]
	inFile := s.seg != nil
	p.mu.Unlock()
	found := &segment.DamageError{Pos: pos - s.start, Len: max(n, 1), FirstOffset: base.NoOffset, Reason: reason.Error()}
	if inFile {
		found.File = s.seg.Path()
	}
	return &DamageError{p.remember(s, found, true)}
}

// remember adds a damaged range of a segment, once.
func (p *Partition) remember(s *segmentRef, found *segment.DamageError, structural bool) Damage {
	d := Damage{
		Topic: p.topic, Partition: p.id, File: found.File, Pos: found.Pos, Len: found.Len, Reason: found.Reason,
	}
	d.FirstOffset, d.LastOffset = p.offsetsAround(s, found)
	r := damagedRange{from: s.start + found.Pos, to: s.start + found.Pos + max(found.Len, 1), damage: d, structural: structural}
	p.mu.Lock()
	at := slices.IndexFunc(p.damage, func(k damagedRange) bool { return k.from <= r.from && r.to <= k.to })
	known := at >= 0
	if known {
		d.SetAside = p.damage[at].aside
	}
	// Damage in an index hides no records of itself: it stays an error of each read that needs the index.
	inLog := found.File == "" || s.seg != nil && found.File == s.seg.Path()
	if !known && inLog && p.inLogLocked(s) {
		p.damage = slices.DeleteFunc(p.damage, func(k damagedRange) bool {
			return !k.aside && !k.missing() && r.from <= k.from && k.to <= r.to // told anew, with its surroundings
		})
		p.addDamageLocked(r)
		p.e.keepDamage()
	}
	p.mu.Unlock()
	if !known {
		p.e.reportDamage(d)
	}
	return d
}

func (p *Partition) addDamageLocked(r damagedRange) {
	p.damage = append(p.damage, r)
	slices.SortFunc(p.damage, func(a, b damagedRange) int { return cmp.Compare(a.from, b.from) })
}

// offsetsAround bounds the offsets that damaged bytes of a segment may have held, as well as its index can tell.
func (p *Partition) offsetsAround(s *segmentRef, found *segment.DamageError) (first, last base.Offset) {
	p.mu.Lock()
	seg, next := s.seg, p.flushedEnd
	for i, other := range p.segments[:len(p.segments)-1] {
		if other == s {
			next = min(next, p.segments[i+1].base)
		}
	}
	p.mu.Unlock()
	first, last = s.base, next-1
	if found.FirstOffset >= 0 {
		first = found.FirstOffset
	}
	if seg == nil {
		return first, last
	}
	if _, at, err := batchBefore(seg, found.Pos); err == nil {
		first = max(first, at)
	}
	// The index's positions rise with the offsets: the first offset that it places after the damage lies outside it.
	n := sort.Search(int(max(last-first+1, 0)), func(i int) bool {
		pos, err := seg.Lookup(first + base.Offset(i))
		return err != nil || pos >= found.Pos+found.Len
	})
	return first, max(first, first+base.Offset(n)-1)
}

// lose notes that the offsets from first to last are missing from here on: the wal that held them is damaged. The log goes on
// after them.
func (p *Partition) loseLocked(first, last base.Offset, d Damage) {
	if last < p.end {
		return // safe in a segment
	}
	d.Topic, d.Partition = p.topic, p.id
	d.FirstOffset, d.LastOffset = max(first, p.end), last
	lost := damagedRange{from: p.endPos, to: p.endPos, damage: d}
	lost.giveUp(p.given)
	p.addDamageLocked(lost)
	p.end = last + 1
	p.changed = true
}

// giveUpEnd remembers that the last block of the segment with a base offset is damaged though its checksum will not say so any more, and
// returns once that is durable.
func (p *Partition) giveUpEnd(first base.Offset, found *segment.DamageError) error {
	p.mu.Lock()
	i := slices.IndexFunc(p.segments, func(s *segmentRef) bool { return s.base == first })
	if i < 0 {
		p.mu.Unlock()
		return found
	}
	s := p.segments[i]
	p.mu.Unlock()
	p.remember(s, found, true)
	p.mu.Lock()
	for k := range p.damage {
		d := &p.damage[k]
		if end := s.start + found.Pos + found.Len; d.from < end && s.start+found.Pos < d.to {
			d.structural, d.bounded = true, d.to == end
		}
	}
	p.mu.Unlock()
	return p.e.saveDamage()
}

// giveUpLocked notes that an operator has given up missing records, whether replay has found yet that they are missing or not.
func (p *Partition) giveUpLocked(d damagedRange) {
	d.aside, d.damage.SetAside = true, true
	p.given = append(p.given, d)
	for i := range p.damage {
		if p.damage[i].missing() {
			p.damage[i].giveUp(p.given)
		}
	}
}

// giveUp marks missing records as set aside if given names them.
func (d *damagedRange) giveUp(given []damagedRange) {
	for _, g := range given {
		if g.damage.FirstOffset <= d.damage.FirstOffset && d.damage.LastOffset <= g.damage.LastOffset {
			d.aside, d.copy, d.damage.SetAside = true, g.copy, true
		}
	}
}
