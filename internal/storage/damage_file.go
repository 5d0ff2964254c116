package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/errors/oserror"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// The file damage remembers damaged ranges across restarts, and which of them were set aside; docs/formats/damage.md.
const (
	damageName    = "damage"
	damageMagic   = "ottla-damage 1" // with the version
	maxDamageFile = 64 << 20
)

// damageRecord is a line of the file. Positions are in the segment.
type damageRecord struct {
	Topic       string      `json:"topic"`
	TopicID     string      `json:"topic_id"`
	Partition   int32       `json:"partition"`
	Segment     base.Offset `json:"segment"`
	From        int64       `json:"from"`
	To          int64       `json:"to"` // From for records that are missing altogether
	FirstOffset base.Offset `json:"first_offset"`
	LastOffset  base.Offset `json:"last_offset"`
	File        string      `json:"file"` // relative to the data folder
	Pos         int64       `json:"pos"`
	Bytes       int64       `json:"bytes"`
	Reason      string      `json:"reason"`
	Structural  bool        `json:"structural,omitempty"`
	Bounded     bool        `json:"bounded,omitempty"`
	SetAside    bool        `json:"set_aside,omitempty"`
	Copy        string      `json:"copy,omitempty"` // of what was set aside, relative to the data folder
}

var errDamageFile = errors.New("the list of damaged ranges is damaged itself")

func encodeDamage(records []damageRecord) ([]byte, error) {
	var body bytes.Buffer
	lines := json.NewEncoder(&body)
	lines.SetEscapeHTML(false)
	for _, r := range records {
		if err := lines.Encode(r); err != nil {
			return nil, err
		}
	}
	head := fmt.Sprintf("%s %08x\n", damageMagic, crc32.Checksum(body.Bytes(), castagnoli))
	return append([]byte(head), body.Bytes()...), nil
}

func decodeDamage(b []byte) ([]damageRecord, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	want := fmt.Sprintf("%s %08x", damageMagic, crc32.Checksum(body, castagnoli))
	if !ok || string(head) != want {
		return nil, fmt.Errorf("%w: it begins with %.40q, want %q", errDamageFile, head, want)
	}
	var records []damageRecord
	lines := json.NewDecoder(bytes.NewReader(body))
	lines.DisallowUnknownFields()
	for {
		var r damageRecord
		err := lines.Decode(&r)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err == nil && (r.From < 0 || r.To < r.From || r.LastOffset < r.FirstOffset) {
			err = fmt.Errorf("range %d to %d, offsets %d to %d", r.From, r.To, r.FirstOffset, r.LastOffset)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errDamageFile, err)
		}
		records = append(records, r)
	}
}

// readDamage reads the list in dir; none if there is no file.
func readDamage(fs disk.FS, dir string) ([]damageRecord, error) {
	f, err := fs.Open(fs.PathJoin(dir, damageName))
	if oserror.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	b, err := io.ReadAll(io.LimitReader(f, maxDamageFile))
	if err != nil {
		return nil, err
	}
	return decodeDamage(b)
}

// writeDamage puts a list in the place of the former one; none removes it.
func writeDamage(fs disk.FS, dir string, records []damageRecord) error {
	name := fs.PathJoin(dir, damageName)
	if len(records) == 0 {
		if err := fs.Remove(name); err != nil {
			if oserror.IsNotExist(err) {
				return nil
			}
			return err
		}
		return disk.SyncDir(fs, dir)
	}
	b, err := encodeDamage(records)
	if err != nil {
		return err
	}
	if err := replaceFile(fs, name, b); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return disk.SyncDir(fs, dir)
}

// loadDamage takes over what earlier lives have found. A list that can not be read is reported and put out of the way: what it said is
// found anew, as errors and never as silence.
func (e *Engine) loadDamage() error {
	records, err := readDamage(e.cfg.FS, e.cfg.Dir)
	if errors.Is(err, errDamageFile) {
		name, aside := e.path(damageName), e.path(damageName+".bad")
		e.reportAside(Damage{
			FirstOffset: base.NoOffset, LastOffset: base.NoOffset, File: aside,
			Reason: err.Error() + "; moved there, and ranges that were set aside give errors again",
		})
		if err := e.cfg.FS.Rename(name, aside); err != nil {
			return err
		}
		return disk.SyncDir(e.cfg.FS, e.cfg.Dir)
	}
	if err != nil {
		return err
	}
	if len(records) > 0 {
		e.cfg.Logger.Warn("damage found earlier is remembered; ottla scrub tells more", "ranges", len(records))
	}
	for _, r := range records {
		id, err := base.ParseTopicID(r.TopicID)
		if err != nil {
			return fmt.Errorf("%s: %w", e.path(damageName), err)
		}
		p := e.partitions[base.TopicIDPartition{ID: id, Partition: r.Partition}]
		switch {
		case p != nil:
			p.recall(r)
		case !e.buried(id):
			e.strayDamage = append(e.strayDamage, r)
		}
	}
	return nil
}

// recall adds a remembered range, if its segment is still there. What lies past the segment's flushed end is written anew by replay.
func (p *Partition) recall(r damageRecord) {
	fs, dir := p.e.cfg.FS, p.e.cfg.Dir
	d := damagedRange{structural: r.Structural, bounded: r.Bounded, aside: r.SetAside, copy: r.Copy, damage: Damage{
		Topic: p.topic, Partition: p.id, FirstOffset: r.FirstOffset, LastOffset: r.LastOffset,
		File: fs.PathJoin(dir, r.File), Pos: r.Pos, Len: r.Bytes, Reason: r.Reason, SetAside: r.SetAside,
	}}
	if r.From == r.To {
		p.giveUpLocked(d)
		return
	}
	for _, s := range p.segments {
		if s.base == r.Segment && s.seg != nil && r.From < s.seg.Size() {
			d.from, d.to = s.start+r.From, s.start+min(r.To, s.seg.Size())
			p.addDamageLocked(d)
		}
	}
}

// damageRecords lists what is to be remembered.
func (e *Engine) damageRecords() []damageRecord {
	all := slices.Clone(e.strayDamage)
	all = slices.DeleteFunc(all, func(r damageRecord) bool { // groups that the wal no longer holds
		return r.TopicID == (base.TopicID{}).String() && e.log != nil && wal.Sequence(r.LastOffset) < e.log.OldestLive()
	})
	for p := range e.Partitions() {
		p.mu.Lock()
		all = p.appendRecordsLocked(all)
		p.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b damageRecord) int {
		if c := strings.Compare(a.TopicID, b.TopicID); c != 0 {
			return c
		}
		if a.Partition != b.Partition {
			return int(a.Partition) - int(b.Partition)
		}
		return int(min(max(a.FirstOffset-b.FirstOffset, -1), 1))
	})
	return all
}

func (p *Partition) appendRecordsLocked(all []damageRecord) []damageRecord {
	p.given = slices.DeleteFunc(p.given, func(d damagedRange) bool { return d.damage.LastOffset < p.logStart })
	for _, d := range slices.Concat(slices.DeleteFunc(slices.Clone(p.damage), damagedRange.missing), p.given) { // the checkpoint has missing ones
		r := damageRecord{
			Topic: p.topic, TopicID: p.id.ID.String(), Partition: p.id.Partition, FirstOffset: d.damage.FirstOffset, LastOffset: d.damage.LastOffset,
			File: p.e.relative(d.damage.File), Pos: d.damage.Pos, Bytes: d.damage.Len,
			Reason: d.damage.Reason, Structural: d.structural, Bounded: d.bounded, SetAside: d.aside, Copy: d.copy,
		}
		if !d.missing() {
			i := p.segmentAtLocked(d.from)
			if i < 0 {
				continue
			}
			s := p.segments[i]
			r.Segment, r.From, r.To = s.base, d.from-s.start, d.to-s.start
		}
		all = append(all, r)
	}
	return all
}

// saveDamage writes the list down.
func (e *Engine) saveDamage() error {
	e.damageMu.Lock()
	defer e.damageMu.Unlock()
	return writeDamage(e.cfg.FS, e.cfg.Dir, e.damageRecords())
}

// runDamage writes the list down when it has changed.
func (e *Engine) runDamage() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.damageFound:
		}
		err := e.saveDamage()
		switch {
		case err == nil, e.ctx.Err() != nil:
		case disk.IsNoSpace(err):
			e.damageLate.Store(true) // tried again by the clock
		default:
			e.fail(fmt.Errorf("remember damage: %w", err))
		}
	}
}

// keepDamage asks for the list to be written.
func (e *Engine) keepDamage() {
	select {
	case e.damageFound <- struct{}{}:
	default:
	}
}
