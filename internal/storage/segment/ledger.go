package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sort"
	"sync"
)

// ledger is a file of entries of one size that only grows: an index, the aborted transactions, or the block CRCs of the sidecar.
//
// The file's own bytes are checked against the CRC in the state when they are first used. From then on a summary stays in
// memory, one key and one CRC for each page of entries, so that a later lookup reads and checks a single page. The summary
// can be dropped at any time and read again.
//
//	entries  |--------- prefix: in the file, durable ---------|----- tail: in memory -----|
//	         0                                            durable                      count
type ledger struct {
	s           *Segment
	suffix      string
	entrySize   int
	pageEntries int
	header      int64 // bytes before the first entry

	mu      sync.Mutex // guards the fields below
	durable FileState  // what the file holds, synced
	now     FileState  // with the tail
	tail    []byte     // entries after the durable ones; only ever appended to
	prefix  *prefix    // nil: not loaded
}

// prefix is what is kept in memory of the entries in the file. It never changes.
type prefix struct {
	entries int
	fences  []fence // one for each whole page
	last    []byte  // the entries after the whole pages
	rebuilt []byte  // all entries, when the file is damaged: then entries may differ from what the file holds
}

// fence stands for a page.
type fence struct {
	key  int64 // of its first entry
	crc  uint32
	rest uint32 // last four bytes of its first entry: of .index the position, which rises too
}

func newLedger(s *Segment, suffix string, entrySize, pageEntries int, header int64, st FileState) *ledger {
	return &ledger{s: s, suffix: suffix, entrySize: entrySize, pageEntries: pageEntries, header: header, durable: st, now: st}
}

// fileBytes is how much of the file is durable.
func (l *ledger) fileBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.header + int64(l.durable.Entries)*int64(l.entrySize)
}

// key returns what a ledger's entries are sorted by: an offset relative to the base, a timestamp, or the offset of a marker.
func (l *ledger) key(entry []byte) int64 {
	switch l.entrySize {
	case timeEntrySize:
		return int64(binary.BigEndian.Uint64(entry))
	case AbortedTxnSize:
		return int64(binary.BigEndian.Uint64(entry[18:]))
	}
	return int64(binary.BigEndian.Uint32(entry))
}

// append adds entries. It reads nothing.
func (l *ledger) append(entries []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, entries...)
	l.now.Entries += int32(len(entries) / l.entrySize)
	l.now.CRC = crc32.Update(l.now.CRC, castagnoli, entries)
}

// state returns how far the ledger goes, with entries that are not in the file yet.
func (l *ledger) state() FileState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// pending returns the entries that are to be written, and where in the file.
func (l *ledger) pending() (entries []byte, at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail, l.header + int64(l.durable.Entries)*int64(l.entrySize)
}

// flushed says that what pending returned is durable.
func (l *ledger) flushed(entries []byte) {
	l.mu.Lock()
	var note int64
	if l.prefix != nil {
		l.prefix = l.extend(l.prefix, entries)
		note = l.prefix.bytes()
	}
	l.tail = append([]byte(nil), l.tail[len(entries):]...)
	l.durable.Entries += int32(len(entries) / l.entrySize)
	l.durable.CRC = crc32.Update(l.durable.CRC, castagnoli, entries)
	l.mu.Unlock()
	if note > 0 {
		l.s.o.Files.noteLoaded(l, note)
	}
}

// unload drops what can be read again.
func (l *ledger) unload() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prefix = nil
}

func (p *prefix) bytes() int64 {
	return 64 + int64(len(p.fences))*16 + int64(cap(p.last)) + int64(cap(p.rebuilt))
}

// extend returns p with more entries after it. It shares memory with p.
func (l *ledger) extend(p *prefix, entries []byte) *prefix {
	q := &prefix{entries: p.entries + len(entries)/l.entrySize}
	if p.rebuilt != nil {
		q.rebuilt = append(p.rebuilt[:len(p.rebuilt):len(p.rebuilt)], entries...)
		return q
	}
	q.fences = p.fences[:len(p.fences):len(p.fences)]
	rest := append(append(make([]byte, 0, len(p.last)+len(entries)), p.last...), entries...)
	page := l.pageEntries * l.entrySize
	for ; len(rest) >= page; rest = rest[page:] {
		q.fences = append(q.fences, l.fenceOf(rest[:page]))
	}
	q.last = append([]byte(nil), rest...)
	return q
}

func (l *ledger) fenceOf(page []byte) fence {
	return fence{key: l.key(page), crc: crc32.Checksum(page, castagnoli), rest: binary.BigEndian.Uint32(page[l.entrySize-4:])}
}

// view is a ledger's entries at one moment, loaded.
type view struct {
	l        *ledger
	prefix   *prefix
	tail     []byte
	tailFrom int // number of the first entry in tail; more than prefix.entries when the file is damaged
}

func (l *ledger) viewLocked() view {
	return view{l: l, prefix: l.prefix, tail: l.tail[:len(l.tail):len(l.tail)], tailFrom: int(l.durable.Entries)}
}

// view returns the entries, loading what is not in memory. Errors: of opening the file, and damage that could not be healed.
func (l *ledger) view() (view, error) {
	for {
		l.mu.Lock()
		v, durable := l.viewLocked(), l.durable
		l.mu.Unlock()
		if v.prefix != nil {
			l.s.o.Files.touchLoaded(l)
			return v, nil
		}
		p, err := l.load(durable)
		if err != nil {
			return view{}, err
		}
		l.mu.Lock()
		current := l.durable == durable
		if current {
			l.prefix = p
			v = l.viewLocked()
		}
		l.mu.Unlock()
		if current {
			l.s.o.Files.noteLoaded(l, p.bytes())
			return v, nil
		}
	}
}

// load reads and checks the durable entries. Damage to the file is reported and healed.
func (l *ledger) load(durable FileState) (*prefix, error) {
	if durable.Entries == 0 {
		return &prefix{}, nil
	}
	p, bad, err := l.loadFile(durable, l.s.report)
	if err != nil || bad == nil {
		return p, err
	}
	entries, err := l.heal(durable)
	if err == nil && entries != nil {
		bad.Reason += "; made anew in memory from the log, as far as that is whole"
	}
	l.s.report(bad)
	switch {
	case err != nil:
		return nil, err
	case entries == nil:
		return p, nil // nothing better is to be had
	}
	return &prefix{entries: len(entries) / l.entrySize, rebuilt: entries}, nil
}

// loadFile reads the file. bad is what is wrong with its entries; p then holds what could be read of them. A damaged footer only is
// reported: the state says all that it does.
func (l *ledger) loadFile(durable FileState, report func(*DamageError)) (p *prefix, bad *DamageError, err error) {
	s := l.s
	size := int64(durable.Entries) * int64(l.entrySize)
	all := l.header + size
	f, err := s.o.Files.acquire(s, l.suffix, false, false)
	if err != nil {
		err = s.readDamage(l.suffix, 0, all, err)
		return &prefix{}, asDamage(err), notDamage(err)
	}
	defer s.o.Files.release(f)

	head := make([]byte, l.header)
	if err := readFull(f, head, 0); err != nil {
		err = s.readDamage(l.suffix, 0, l.header, err)
		return &prefix{}, asDamage(err), notDamage(err)
	}
	crc := crc32.Checksum(head, castagnoli)
	p = &prefix{}
	// Pages a few at a time: the largest index is 10 MiB, and a temporary buffer of that size is not worth having.
	buf := make([]byte, min(size, int64(16*l.pageEntries*l.entrySize)))
	for at := int64(0); at < size; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-at)]
		if err := readFull(f, buf, l.header+at); err != nil {
			err = s.readDamage(l.suffix, l.header+at, int64(len(buf)), err)
			return p, asDamage(err), notDamage(err)
		}
		crc = crc32.Update(crc, castagnoli, buf)
		p = l.extend(p, buf)
	}
	if crc != durable.CRC {
		bad = s.damage(l.suffix, 0, all, fmt.Sprintf("CRC32C is %#08x, want %#08x", crc, durable.CRC))
	} else if s.Sealed() && l.suffix == sidecarSuffix {
		if d := s.checkFooter(f); d != nil {
			report(d)
		}
	}
	return p, bad, nil
}

// asDamage and notDamage split an error of readDamage.
func asDamage(err error) *DamageError {
	var d *DamageError
	errors.As(err, &d)
	return d
}

func notDamage(err error) error {
	if asDamage(err) != nil {
		return nil
	}
	return err
}

// get copies the entries from number from to number to into dst, which must be large enough, checking the pages they come from.
func (v view) get(dst []byte, from, to int) error {
	size := v.l.entrySize
	for from < to {
		b, first := v.tail, v.tailFrom
		if from < v.tailFrom {
			if from >= v.prefix.entries {
				pos := v.l.header + int64(from*size)
				return v.l.s.damage(v.l.suffix, pos, int64((to-from)*size), "the file is too short")
			}
			var err error
			if b, first, err = v.page(from); err != nil {
				return err
			}
		}
		n := copy(dst, b[(from-first)*size:min((to-first)*size, len(b))])
		dst, from = dst[n:], from+n/size
	}
	return nil
}

// page returns the entries of the prefix on the page of number i, and the number of the first of them.
func (v view) page(i int) (entries []byte, first int, err error) {
	p, l := v.prefix, v.l
	switch whole := len(p.fences) * l.pageEntries; {
	case p.rebuilt != nil:
		return p.rebuilt, 0, nil
	case i >= whole:
		return p.last, whole, nil
	}
	n := i / l.pageEntries
	b := make([]byte, l.pageEntries*l.entrySize)
	pos := l.header + int64(n)*int64(len(b))
	f, err := l.s.o.Files.acquire(l.s, l.suffix, false, false)
	if err != nil {
		return nil, 0, l.s.readDamage(l.suffix, pos, int64(len(b)), err)
	}
	defer l.s.o.Files.release(f)
	if err := readFull(f, b, pos); err != nil {
		return nil, 0, l.s.readDamage(l.suffix, pos, int64(len(b)), err)
	}
	if l.fenceOf(b) != p.fences[n] {
		return nil, 0, l.s.damage(l.suffix, pos, int64(len(b)), "bytes have changed since they were checked")
	}
	return b, n * l.pageEntries, nil
}

// search returns the last entry with a key of at most target; ok is false if there is none.
func (v view) search(target int64) (entry []byte, ok bool, err error) {
	return v.searchBy(v.l.byKey(), target)
}

// order is something that rises from entry to entry, and how to get it from an entry and from the fence of a page.
type order struct {
	entry func([]byte) int64
	fence func(fence) int64
}

// byKey orders entries by their keys.
func (l *ledger) byKey() order {
	return order{l.key, func(f fence) int64 { return f.key }}
}

// indexPosition orders the entries of .index by the position of the batch.
var indexPosition = order{
	func(entry []byte) int64 { return int64(binary.BigEndian.Uint32(entry[4:])) },
	func(f fence) int64 { return int64(f.rest) },
}

// searchBy returns the last entry at or before target in an order; ok is false if there is none.
func (v view) searchBy(o order, target int64) (entry []byte, ok bool, err error) {
	b := v.tail
	if len(b) == 0 || o.entry(b) > target {
		i := v.pageFor(o, target)
		if i < 0 {
			return nil, false, nil
		}
		if b, _, err = v.page(i); err != nil {
			return nil, false, err
		}
	}
	size := v.l.entrySize
	n := sort.Search(len(b)/size, func(i int) bool { return o.entry(b[i*size:]) > target })
	if n == 0 {
		return nil, false, nil
	}
	return b[(n-1)*size : n*size], true, nil
}

// pageFor returns the number of an entry of the page that holds the prefix's last entry at or before target, -1 if there is none.
func (v view) pageFor(o order, target int64) int {
	p, l := v.prefix, v.l
	switch {
	case p.entries == 0:
		return -1
	case p.rebuilt != nil:
		return 0
	case len(p.last) > 0 && o.entry(p.last) <= target:
		return len(p.fences) * l.pageEntries
	}
	n := sort.Search(len(p.fences), func(i int) bool { return o.fence(p.fences[i]) > target })
	if n == 0 {
		return -1
	}
	return (n - 1) * l.pageEntries
}

// entries is the number of all entries.
func (v view) entries() int { return v.tailFrom + len(v.tail)/v.l.entrySize }

// after returns the number of the first entry with a key above target.
func (v view) after(target int64) (int, error) {
	b, first, size := v.tail, v.tailFrom, v.l.entrySize
	if len(b) == 0 || v.l.key(b) > target {
		i := v.pageFor(v.l.byKey(), target)
		if i < 0 {
			return 0, nil
		}
		var err error
		if b, first, err = v.page(i); err != nil {
			return 0, err
		}
	}
	return first + sort.Search(len(b)/size, func(i int) bool { return v.l.key(b[i*size:]) > target }), nil
}
