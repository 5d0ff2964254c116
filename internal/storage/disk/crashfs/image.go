package crashfs

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
)

// change is one change to the namespace that has not been synced: an entry made, removed, or both (a rename).
type change struct {
	remove, enter *node // folders; nil if the change does not remove or does not enter
	oldName, name string
	n             *node
}

func (c change) touches(dir *node) bool { return c.remove == dir || c.enter == dir }

func (c change) applyTo(entries func(dir *node) map[string]*node) {
	if c.remove != nil {
		if m := entries(c.remove); m != nil && (m[c.oldName] == c.n) {
			delete(m, c.oldName)
		}
	}
	if c.enter != nil {
		if m := entries(c.enter); m != nil {
			m[c.name] = c.n
		}
	}
}

func (fs *FS) apply(c change) {
	c.applyTo(func(dir *node) map[string]*node { return dir.children })
	fs.changes = append(fs.changes, c)
}

func (fs *FS) enter(dir *node, name string, n *node) { fs.apply(change{enter: dir, name: name, n: n}) }

func (fs *FS) leave(dir *node, name string) {
	fs.apply(change{remove: dir, oldName: name, n: dir.children[name]})
}

func (fs *FS) move(from *node, oldName string, to *node, name string) {
	fs.apply(change{remove: from, oldName: oldName, enter: to, name: name, n: from.children[oldName]})
}

// sync makes an open file or folder durable.
func (fs *FS) sync(f *file) error {
	op := Op{Kind: OpSync, Path: f.name}
	if f.n.isDir {
		op.Kind = OpSyncDir
	}
	if err := fs.before(op); err != nil {
		return err
	}
	fs.mu.Lock()
	if f.closed {
		fs.mu.Unlock()
		return os.ErrClosed
	}
	if f.n.isDir {
		fs.syncDirLocked(f.n)
	} else {
		f.n.syncData()
	}
	fs.mu.Unlock()
	fs.after(op)
	return nil
}

// syncAllLocked makes everything durable.
func (fs *FS) syncAllLocked() {
	for _, c := range fs.changes {
		c.applyTo(func(d *node) map[string]*node { return d.synced })
	}
	fs.changes = nil
	var walk func(n *node)
	walk = func(n *node) {
		n.syncData()
		for _, c := range n.children {
			walk(c)
		}
	}
	walk(fs.root)
}

// syncDirLocked commits the changes that touch dir. If one of them is a rename to or from another folder, everything is committed, as
// a journal would.
func (fs *FS) syncDirLocked(dir *node) {
	all := slices.ContainsFunc(fs.changes, func(c change) bool {
		return c.touches(dir) && c.remove != nil && c.enter != nil && c.remove != c.enter
	})
	fs.changes = slices.DeleteFunc(fs.changes, func(c change) bool {
		if !all && !c.touches(dir) {
			return false
		}
		c.applyTo(func(d *node) map[string]*node { return d.synced })
		return true
	})
}

// CrashImage returns what a power loss now could leave. How much of what was not synced survives is drawn first: one image in eight
// keeps nothing of it, one in eight keeps all of it.
func (fs *FS) CrashImage(rng *rand.Rand) *FS {
	percent := 0
	switch k := rng.IntN(8); k {
	case 0:
	case 1:
		percent = 100
	default:
		percent = 1 + rng.IntN(99)
	}
	return fs.CrashImageKeeping(rng, percent)
}

// CrashImageKeeping is CrashImage where each sector, size and change that was not synced survives with the given probability in percent.
// With 0 nothing of it and with 100 all of it survives, and rng may be nil.
func (fs *FS) CrashImageKeeping(rng *rand.Rand, percent int) *FS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	m := &imageMaker{rng: rng, percent: percent, copies: map[*node]*node{}, entries: map[*node]map[string]*node{}}
	image := New()
	image.capacity = fs.capacity

	// Changes are drawn in order and applied to copies of the synced entries of the folders.
	entries := func(dir *node) map[string]*node {
		e, ok := m.entries[dir]
		if !ok {
			e = maps.Clone(dir.synced)
			m.entries[dir] = e
		}
		return e
	}
	for _, c := range fs.changes {
		if m.keeps() {
			c.applyTo(entries)
		}
	}
	image.root = m.copyOf(fs.root)
	if image.capacity > 0 {
		image.countPagesLocked()
	}
	return image
}

type imageMaker struct {
	rng     *rand.Rand
	percent int
	copies  map[*node]*node
	entries map[*node]map[string]*node // of folders with drawn changes
}

func (m *imageMaker) keeps() bool {
	return m.percent >= 100 || m.percent > 0 && m.rng.IntN(100) < m.percent
}

// older reports whether, of what survives, an older state is kept rather than the newest: never in an image that keeps everything.
func (m *imageMaker) older(oneIn int) bool { return m.percent < 100 && m.rng.IntN(oneIn) == 0 }

func (m *imageMaker) copyOf(n *node) *node {
	if c := m.copies[n]; c != nil {
		return c
	}
	c := &node{isDir: n.isDir, modTime: n.modTime}
	m.copies[n] = c
	if n.isDir {
		from, ok := m.entries[n]
		if !ok {
			from = n.synced
		}
		c.children = make(map[string]*node, len(from))
		for _, name := range slices.Sorted(maps.Keys(from)) { // in order: the generator decides the same for the same seed
			c.children[name] = m.copyOf(from[name])
		}
		c.synced = maps.Clone(c.children)
		return c
	}
	m.copyData(n, c)
	return c
}

func (m *imageMaker) copyData(n, c *node) {
	c.size = n.syncedSize
	if n.size != n.syncedSize && m.keeps() {
		c.size = n.size
		if m.older(2) { // or one between
			low, high := min(n.size, n.syncedSize)/sectorBytes, max(n.size, n.syncedSize)/sectorBytes
			c.size = max(min(n.size, n.syncedSize), (low+m.rng.Int64N(high-low+1))*sectorBytes)
		}
	}
	c.syncedSize = c.size
	if len(n.dirty) == 0 && c.size == n.size {
		c.table, c.shared, n.shared = n.table, true, true
		return
	}
	c.table = slices.Clone(n.table)
	for _, i := range slices.Sorted(maps.Keys(n.dirty)) {
		c.table[i] = m.tornPage(n.dirty[i])
		if n.fragile && n.dirty[i].synced != nil && m.percent > 0 && m.older(4) {
			c.table[i] = m.destroyedPage()
		}
	}
	// What lies beyond the size is gone; what lies below it and was never written reads as zeros.
	grown := c.size
	c.size = int64(len(c.table)) * pageBytes
	c.truncate(min(grown, c.size))
	c.size = grown
	c.syncData()
}

// destroyedPage is what a disk with blocks larger than a sector may leave of one that it was rewriting.
func (m *imageMaker) destroyedPage() *page {
	p := new(page)
	for at := 0; at < pageBytes; at += 8 {
		binary.LittleEndian.PutUint64(p[at:], m.rng.Uint64())
	}
	return p
}

// tornPage draws for each sector of a page which of its versions is on the disk.
func (m *imageMaker) tornPage(v *versions) *page {
	p := new(page)
	same := true
	first := -2
	for at := 0; at < pageBytes; at += sectorBytes {
		pick := -1
		if m.keeps() {
			pick = len(v.later) - 1
			if pick > 0 && m.older(4) {
				pick = m.rng.IntN(len(v.later))
			}
		}
		src := v.synced
		if pick >= 0 {
			src = v.later[pick]
		}
		if src != nil {
			copy(p[at:at+sectorBytes], src[at:])
		}
		if first == -2 {
			first = pick
		}
		same = same && pick == first
	}
	if same { // share the page
		if first < 0 {
			return v.synced
		}
		return v.later[first]
	}
	return p
}
