package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/ottlaio/ottla/internal/plant"
)

// recovery reads what an earlier wal left.
//
// The files are chained: the header of each names the file before it, where that one ends and with which group. Only the newest file has
// an open end. So every group of an older file must be whole, and a group of the newest one must be whole if a later header in that file
// says that it was durable; anything else is damage. What follows the last such proof is the torn end of what was being written when
// power was lost, was never acknowledged, and is cut: the file that Open makes says in its header where the wal ended, and what lies
// behind that place is never read again.
type recovery struct {
	cfg    Config
	medium medium
	logger *slog.Logger
	from   Sequence
	replay func(Sequence, Entry) error

	readOnly bool // nothing is to be appended afterwards

	newest fileHeader   // of the newest file that was put to use, as the file `newest` has it; zero if it says nothing
	mark   mark         // in the same place
	files  []*foundFile // in order of number
	chain  []*foundFile // those that hold groups from `from` on

	last    Sequence // newest group seen, where it is and where it ends
	inFile  uint64
	end     int64
	skipped bool // groups before the next one are missing, so its pointer back proves nothing
	windows windows
}

// foundFile is a file of an earlier wal.
type foundFile struct {
	number uint64
	size   int64
	f      mediumFile
	state  fileState
	h      fileHeader

	// What the next file's header says of this one; endKnown is false for the newest file.
	endKnown bool
	endSeq   Sequence
	endPos   int64 // 0 if unknown

	lastSeq Sequence // found by the scan; 0 if there are no groups
}

type fileState uint8

const (
	unused  fileState = iota // never put to use under its number
	used                     // has a header
	adopted                  // its header is damaged, but its first group or the file `newest` says that it was in use
	foreign                  // not ours, or damaged beyond that: left alone
)

// openFiles reads the headers of all files.
func (r *recovery) openFiles() error {
	if err := r.readNewest(); err != nil {
		return err
	}
	numbers, err := r.medium.list()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		f, err := r.medium.open(n)
		if err != nil {
			return err
		}
		x := &foundFile{number: n, f: f}
		r.files = append(r.files, x)
		if x.size, err = f.Size(); err != nil {
			return fmt.Errorf("size of %s: %w", r.medium.name(n), err)
		}
		if err := r.classify(x); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) closeFiles() {
	r.windows.reading.Wait()
	for _, x := range r.files {
		_ = x.f.Close() // what mattered was synced
	}
}

// classify finds out whether a file was in use. A file that was prepared and not used has a block of zeros or, if it was used before, a
// whole header with its former, lower number.
func (r *recovery) classify(x *foundFile) error {
	if x.size < minBlockBytes {
		return nil // see short
	}
	block, err := r.read(x, 0, minBlockBytes)
	if err != nil {
		return err
	}
	h, err := decodeFileHeader(block)
	switch {
	case errors.Is(err, errVersion):
		return fmt.Errorf("%s: %w", r.medium.name(x.number), err)
	case err == nil && h.number == x.number:
		x.h, x.state = h, used
		if x.size < h.size {
			return r.damage(&CorruptError{
				File: r.medium.name(x.number), Offset: x.size, Length: h.size - x.size, First: h.first,
				Reason: fmt.Sprintf("the file has %d bytes and was made with %d", x.size, h.size),
			})
		}
		return nil
	case err == nil && h.number < x.number, isZeros(block):
		if adopt, err := r.adopt(x); err != nil || !adopt {
			return err
		}
		return r.damage(&CorruptError{
			File: r.medium.name(x.number), Length: minBlockBytes, First: x.h.first, Reason: "the file was in use and its header is gone",
		})
	}
	adopt, err := r.adopt(x)
	if err != nil {
		return err
	}
	if !adopt {
		x.state = foreign
	}
	return r.damage(&CorruptError{
		File: r.medium.name(x.number), Length: minBlockBytes, First: x.h.first, Reason: "the header is not one of this file",
	})
}

// adopt looks for what a file without a header was used for: the copy of its header, or its first group. That always stands in the second
// block, where nothing that a client wrote ever begins a block, and names the file's number; older contents of the file have lower ones.
func (r *recovery) adopt(x *foundFile) (bool, error) {
	if x.number == r.newest.number {
		x.state, x.h = adopted, r.newest
		return true, nil
	}
	for block := int64(minBlockBytes); block <= maxBlockBytes && block+minBlockBytes <= x.size; block *= 2 {
		b, err := r.read(x, block, groupHeaderBytes)
		if err != nil {
			return false, err
		}
		if g, ok := decodeGroupHeader(b); ok && g.number == x.number && g.pos == block {
			x.state = adopted
			x.h = fileHeader{block: uint32(block), number: x.number, salt: g.salt, first: g.seq, size: x.size}
			return true, nil
		}
	}
	return false, nil
}

// link finds the files that hold groups from `from` on, going back from the newest.
func (r *recovery) link() error {
	inUse := slices.DeleteFunc(slices.Clone(r.files), func(x *foundFile) bool { return x.state != used && x.state != adopted })
	if err := r.behind(inUse); err != nil || len(inUse) == 0 {
		return err
	}
	x := inUse[len(inUse)-1]
	r.chain = []*foundFile{x}
	for x.h.first > r.from {
		prev := r.before(x, inUse)
		if prev == nil {
			if x.state == used && x.h.prev == 0 || x.h.first == 1 {
				return nil // nothing was ever before it
			}
			return r.damage(&CorruptError{
				File: r.medium.name(max(x.h.prev, 1)), First: r.from, Last: x.h.first - 1,
				Reason: fmt.Sprintf("the file that holds these groups is missing or has no header, and %s follows it", r.medium.name(x.number)),
			})
		}
		prev.endKnown, prev.endSeq, prev.endPos = true, x.h.first-1, x.h.prevEnd
		r.chain = slices.Insert(r.chain, 0, prev)
		x = prev
	}
	return nil
}

// behind looks for files behind those in use that may have been too: one that was cut to less than a header, even if it was never put to
// use, and one that is named by the file `newest` and is not there.
func (r *recovery) behind(inUse []*foundFile) error {
	last := uint64(0)
	if n := len(inUse); n > 0 {
		last = inUse[n-1].number
	}
	missing := r.newest.number > last
	for _, x := range r.files {
		if x.size >= minBlockBytes || x.number <= last {
			continue
		}
		missing = missing && x.number != r.newest.number
		err := r.damage(&CorruptError{
			File: r.medium.name(x.number), Length: x.size, Reason: "the file was cut short; if it was in use, nothing says what it held",
		})
		if err != nil {
			return err
		}
	}
	if !missing {
		return nil
	}
	return r.damage(&CorruptError{
		File: r.medium.name(r.newest.number), First: r.newest.first, Reason: "the file was in use and is missing",
	})
}

// before is the file that holds the group before x's first.
func (r *recovery) before(x *foundFile, inUse []*foundFile) *foundFile {
	var prev *foundFile
	for _, y := range inUse {
		if y.number < x.number && (x.state == adopted || y.number == x.h.prev) && y.h.first < x.h.first {
			prev = y
		}
	}
	return prev
}

// run replays everything. After it, last is the newest group, or the one before the first that Open will write.
func (r *recovery) run(ctx context.Context) error {
	if err := r.openFiles(); err != nil {
		return err
	}
	if err := r.link(); err != nil {
		return err
	}
	if err := r.scanChain(ctx); err != nil {
		return err
	}
	if r.newestLost() {
		// Nobody knows how many groups it had. Their numbers are not given again: a checkpoint may name one of them.
		r.last = max(r.last, r.newest.first-1+Sequence(r.newest.size/minBlockBytes), r.from-1)
	}
	if r.from > r.last+1 {
		if r.chain[len(r.chain)-1].h.flags&flagUnsynced == 0 {
			return fmt.Errorf("%w: group %d of %s, which ends with group %d", ErrBeyond, r.from, r.cfg.Dir, r.last)
		}
		// Groups that were never synced are lost, but a checkpoint holds what they did.
		r.logger.Warn("the wal was not synced and ends before the checkpoint", "dir", r.cfg.Dir, "group", r.last, "checkpoint", r.from)
		r.last = r.from - 1
	}
	if r.readOnly {
		return nil
	}
	return r.syncAgain()
}

// scanChain goes through the files that hold groups from `from` on.
func (r *recovery) scanChain(ctx context.Context) error {
	if len(r.chain) == 0 {
		r.last = r.from - 1
		return nil
	}
	first := r.chain[0]
	r.last, r.inFile, r.end = first.h.first-1, first.h.prev, first.h.prevEnd
	r.skipped = first.state == adopted
	for _, x := range r.chain {
		if x.h.first != r.last+1 {
			r.skipped = true
			r.last = x.h.first - 1
		}
		if err := r.scan(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// syncAgain makes durable what was replayed: it may have been read from a cache that an earlier process never saw synced.
func (r *recovery) syncAgain() error {
	for _, x := range r.chain {
		if x.state == adopted && x.number == r.newest.number {
			if err := r.mend(x); err != nil {
				return err
			}
		}
		if err := x.f.SyncData(); err != nil {
			return fmt.Errorf("sync %s: %w", r.medium.name(x.number), err)
		}
	}
	return r.medium.syncNames()
}

// damage reports a damaged range, and returns nil if recovery may go on past it.
func (r *recovery) damage(e *CorruptError) error {
	if e.Last != 0 && e.Last < r.from {
		r.logger.Warn("damage in a part of the wal that is no longer needed", "err", e)
		return nil
	}
	if r.cfg.OnDamage == nil {
		return e
	}
	return r.cfg.OnDamage(e)
}

// read returns n bytes at off, which the caller has checked to lie in the file. They are valid until the next read.
func (r *recovery) read(x *foundFile, off, n int64) ([]byte, error) {
	b, err := r.windows.read(x, off, n)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.medium.name(x.number), err)
	}
	return b, nil
}

// readAhead begins to read the group at pos, as far as is known where it ends.
func (r *recovery) readAhead(x *foundFile, pos int64) {
	if x.endPos != 0 && pos >= x.endPos {
		return
	}
	n := int64(groupHeaderBytes)
	if b, ok := r.windows.current.at(x, pos, n); ok {
		if h, ok := decodeGroupHeader(b); ok && h.size(int64(x.h.block)) <= x.size-pos {
			n = h.content()
		}
	}
	r.windows.readAhead(x, pos, n)
}

func isZeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// badGroup says what is wrong with a group.
type badGroup struct {
	reason string
	header bool // the header can be trusted, and so can the group's size
	table  bool // so can the table
	runs   []run
	broken []bool // by run
}

// scan goes through the groups of one file.
func (r *recovery) scan(ctx context.Context, x *foundFile) error {
	block := int64(x.h.block)
	pos, want := block, x.h.first
	// The next file's header may name more groups than end there: see newestLost.
	for !x.endKnown || want <= x.endSeq && pos != x.endPos {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, bad, err := r.group(x, pos, want)
		if err != nil {
			return err
		}
		if bad != nil {
			pos, want, err = r.pastBad(x, pos, want, h, bad)
			if err != nil || pos == 0 {
				return err
			}
			continue
		}
		pos += h.size(block)
		r.seen(x, want, pos)
		want++
	}
	return nil
}

// seen notes a whole group.
func (r *recovery) seen(x *foundFile, seq Sequence, end int64) {
	r.last, r.inFile, r.end, r.skipped = seq, x.number, end, false
	x.lastSeq = seq
}

// group reads the group `want` at pos and replays it if it is whole and asked for.
func (r *recovery) group(x *foundFile, pos int64, want Sequence) (groupHeader, *badGroup, error) {
	h, reason, err := r.header(x, pos)
	if err != nil {
		return h, nil, err
	}
	switch {
	case reason == "" && h.seq != want && !plant.On(plant.RecycledGroup):
		reason = fmt.Sprintf("group %d stands where %d should", h.seq, want)
	case reason == "" && !r.skipped && h.durable == r.last && h.durable != 0 && (h.durFile != r.inFile || h.durEnd != r.end):
		reason = "the group does not follow the one before it"
	}
	if reason != "" {
		return h, &badGroup{reason: reason}, nil
	}
	if want < r.from {
		return h, nil, nil
	}
	b, err := r.read(x, pos, h.content())
	if err != nil {
		return h, nil, err
	}
	if bad := checkGroup(h, b); bad != nil {
		return h, bad, nil
	}
	r.readAhead(x, pos+h.size(int64(x.h.block)))
	return h, nil, r.replayGroup(h, b, nil)
}

// header reads a group's header at pos, and says what is wrong with it.
func (r *recovery) header(x *foundFile, pos int64) (h groupHeader, reason string, err error) {
	end := x.size
	if x.endPos != 0 {
		end = min(end, x.endPos)
	}
	if pos+int64(x.h.block) > end {
		return h, "the file ends before the group", nil
	}
	b, err := r.read(x, pos, groupHeaderBytes)
	if err != nil {
		return h, "", err
	}
	h, ok := decodeGroupHeader(b)
	switch {
	case !ok:
		reason = "no whole group header"
	case (h.number != x.number || h.salt != x.h.salt || h.pos != pos) && !plant.On(plant.RecycledGroup):
		reason = "the group header belongs elsewhere"
	case h.size(int64(x.h.block)) > end-pos:
		reason = "the group reaches beyond the end of the file"
	}
	return h, reason, nil
}

// checkGroup checks table and runs of a group whose header is whole. b holds it up to the padding.
func checkGroup(h groupHeader, b []byte) *badGroup {
	table := b[groupHeaderBytes+h.body:]
	if crcOf(table) != h.tableCRC {
		return &badGroup{reason: "the table of runs is damaged", header: true}
	}
	var bad *badGroup
	at := int64(groupHeaderBytes)
	for i := range int(h.runs) {
		run, ok := decodeRun(table[i*runBytes:], h.body)
		if !ok || run.at != at { // the entries follow one another, so that checking them takes time in proportion to the group
			return &badGroup{reason: "the table of runs is not consistent", header: true}
		}
		at += run.length
		if crcOf(b[run.at:run.at+run.length]) == run.crc || plant.On(plant.NoRunCRC) {
			continue
		}
		if bad == nil {
			bad = &badGroup{reason: "entries are damaged", header: true, table: true, broken: make([]bool, h.runs)}
		}
		bad.broken[i] = true
		bad.runs = append(bad.runs, run)
	}
	return bad
}

// replayGroup hands on the entries of a group, except broken ones.
func (r *recovery) replayGroup(h groupHeader, b []byte, broken []bool) error {
	table := b[groupHeaderBytes+h.body:]
	for i := range int(h.runs) {
		if broken != nil && broken[i] {
			continue
		}
		run, _ := decodeRun(table[i*runBytes:], h.body)
		err := r.replay(h.seq, Entry{
			Kind: run.kind, Partition: run.partition, FirstOffset: run.first, LastOffset: run.last,
			Data: b[run.at : run.at+run.length : run.at+run.length],
		})
		if err != nil {
			return fmt.Errorf("replay group %d: %w", h.seq, err)
		}
	}
	return nil
}

// pastBad decides what a bad group means. It returns where to go on, or position 0 if the file ends here.
func (r *recovery) pastBad(x *foundFile, pos int64, want Sequence, h groupHeader, bad *badGroup) (int64, Sequence, error) {
	block := int64(x.h.block)
	after := pos + block
	if bad.header {
		after = pos + h.size(block)
	}
	next, at, proven, err := r.laterHeader(x, after, pos, want)
	if err != nil {
		return 0, 0, err
	}
	endSeq, endPos := x.endSeq, x.endPos
	if !x.endKnown && x.number == r.newest.number {
		endSeq, endPos = r.mark.seq, r.mark.end
		proven = proven || want <= endSeq
	}
	if !x.endKnown && !proven || plant.On(plant.DamageIsTorn) {
		if at != 0 || bad.reason != "" && bad.header {
			r.logger.Info("cut the torn end of the wal", "file", r.medium.name(x.number), "offset", pos, "group", want, "reason", bad.reason)
		}
		return 0, 0, nil
	}
	e := &CorruptError{File: r.medium.name(x.number), Offset: pos, First: want, Last: want, Reason: bad.reason}
	switch {
	case bad.header:
		at, next = after, want+1
		if bad.table {
			for _, run := range bad.runs {
				e.Runs = append(e.Runs, DamagedRun{
					Kind: run.kind, Partition: run.partition, FirstOffset: run.first, LastOffset: run.last,
					Offset: pos + run.at, Length: run.length,
				})
			}
		}
	case at == 0: // nothing whole follows in this file
		next = endSeq + 1
		e.Last = endSeq
		e.Length = max(0, endPos-pos)
	default:
		e.Last = next - 1
	}
	if at != 0 {
		e.Length = at - pos
	}
	if err := r.damage(e); err != nil {
		return 0, 0, err
	}
	if bad.table {
		b, err := r.read(x, pos, h.content())
		if err == nil {
			err = r.replayGroup(h, b, bad.broken)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if at == 0 {
		at = max(endPos, pos)
		r.seen(x, next-1, at)
		r.skipped = true
		return 0, 0, nil
	}
	r.seen(x, next-1, at)
	r.skipped = !bad.header
	return at, next, nil
}

// laterHeader looks for whole group headers of this file behind a bad group. It returns the sequence and place of the first, and whether
// one of them proves that the bad group had been durable. The salt keeps what clients wrote from being taken for a header.
func (r *recovery) laterHeader(x *foundFile, after, pos int64, want Sequence) (seq Sequence, at int64, proven bool, err error) {
	block := int64(x.h.block)
	for p := after; p+block <= x.size; p += block {
		h, reason, err := r.header(x, p)
		if err != nil {
			return 0, 0, false, err
		}
		// Every group takes a block at least.
		if reason != "" || h.seq <= want || uint64(h.seq-want) > uint64((p-pos)/block) || x.endKnown && h.seq > x.endSeq {
			continue
		}
		if at == 0 {
			seq, at = h.seq, p
		}
		if x.endKnown || h.durable >= want {
			return seq, at, true, nil
		}
	}
	return seq, at, false, nil
}
