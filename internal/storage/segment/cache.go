package segment

import (
	"container/list"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// Bounds of a FileCache.
const (
	// DefaultOpenFiles bounds descriptors when NewFileCache is given 0.
	DefaultOpenFiles = 512
	// loadedBytes bounds what is kept in memory of indexes and sidecars.
	loadedBytes = 32 << 20
)

// FileCache bounds what all segments of a broker keep at hand: open descriptors, verified blocks, and summaries of indexes. Of all
// three the least recently used go first. Safe for concurrent use.
type FileCache struct {
	maxOpen int
	extents extents
	block   sync.Pool // of *[BlockSize]byte
	write   sync.Pool // of *[writeBytes]byte

	mu     sync.Mutex // guards the fields below; files are opened and closed without it
	files  map[fileKey]*openFile
	idle   list.List // of *openFile without users, most recently used first
	loaded map[*ledger]*list.Element
	used   list.List // of loadedEntry, most recently used first
	bytes  int64     // of loaded
}

// fileKey names an open file. A file may be open both ways.
type fileKey struct {
	owner  *Segment
	suffix string
	direct bool
}

// openFile is a descriptor and how many use it.
type openFile struct {
	key    fileKey
	file   vfs.File        // when !key.direct
	direct disk.DirectFile // when key.direct
	users  int
	gone   bool          // forgotten: closed when the last user is done
	place  *list.Element // in idle when users == 0
}

func (f *openFile) Close() error {
	if f.key.direct {
		return f.direct.Close()
	}
	return f.file.Close()
}

func (f *openFile) ReadAt(p []byte, off int64) (int, error) {
	if f.key.direct {
		return f.direct.ReadAt(p, off)
	}
	return f.file.ReadAt(p, off)
}

// openError marks an error of opening a file, as opposed to reading it.
type openError struct{ err error }

func (e *openError) Error() string { return e.err.Error() }
func (e *openError) Unwrap() error { return e.err }

type loadedEntry struct {
	ledger *ledger
	bytes  int64
}

// NewFileCache returns a cache of at most maxOpen descriptors, DefaultOpenFiles when it is 0. Descriptors in use are not closed,
// so that more are open while more are in use at once.
func NewFileCache(maxOpen int) *FileCache {
	if maxOpen <= 0 {
		maxOpen = DefaultOpenFiles
	}
	return &FileCache{
		maxOpen: maxOpen,
		files:   map[fileKey]*openFile{},
		loaded:  map[*ledger]*list.Element{},
	}
}

// Close closes every descriptor that is not in use; those in use follow when they are released.
func (c *FileCache) Close() error {
	c.mu.Lock()
	var closing []*openFile
	for _, f := range c.files {
		closing = c.dropLocked(f, closing)
	}
	c.loaded = map[*ledger]*list.Element{}
	c.used.Init()
	c.bytes = 0
	c.mu.Unlock()
	c.Trim()
	return closeAll(closing)
}

// Open returns how many descriptors are open.
func (c *FileCache) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.files)
}

// acquire returns the descriptor of one of s's files; release must follow. create makes a direct file that is not there.
func (c *FileCache) acquire(s *Segment, suffix string, direct, create bool) (*openFile, error) {
	key := fileKey{s, suffix, direct}
	if f := c.reuse(key); f != nil {
		return f, nil
	}
	if s.isRemoved() {
		return nil, &openError{ErrRemoved}
	}
	f, path := &openFile{key: key, users: 1}, s.path(suffix)
	var err error
	if direct {
		f.direct, err = s.o.FS.OpenDirect(path, disk.DirectOptions{Create: create})
	} else {
		// The kernel's own readahead fits: catching up is sequential, and it leaves lookups alone.
		f.file, err = s.o.FS.Open(path)
	}
	if err != nil {
		return nil, &openError{fmt.Errorf("open %s: %w", path, err)}
	}

	c.mu.Lock()
	var closing []*openFile
	if other := c.files[key]; other != nil {
		f.gone = true // opened twice at once: the first stays, this one is closed after its use
	} else {
		c.files[key] = f
		closing = c.trimLocked(nil)
	}
	c.mu.Unlock()
	_ = closeAll(closing) // see release
	return f, nil
}

// reuse returns the open file of a key, nil if there is none.
func (c *FileCache) reuse(key fileKey) *openFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.files[key]
	if f != nil {
		c.useLocked(f)
	}
	return f
}

func (c *FileCache) useLocked(f *openFile) {
	f.users++
	if f.place != nil {
		c.idle.Remove(f.place)
		f.place = nil
	}
}

// trimLocked takes idle descriptors out until the bound holds, for the caller to close.
func (c *FileCache) trimLocked(closing []*openFile) []*openFile {
	for len(c.files) > c.maxOpen && c.idle.Len() > 0 {
		closing = c.dropLocked(c.idle.Back().Value.(*openFile), closing)
	}
	return closing
}

// dropLocked forgets f and adds it to closing if nobody uses it.
func (c *FileCache) dropLocked(f *openFile, closing []*openFile) []*openFile {
	delete(c.files, f.key)
	f.gone = true
	if f.place != nil {
		c.idle.Remove(f.place)
		f.place = nil
	}
	if f.users == 0 {
		closing = append(closing, f)
	}
	return closing
}

func (c *FileCache) release(f *openFile) {
	c.mu.Lock()
	f.users--
	var closing []*openFile
	if f.users == 0 {
		if f.gone {
			closing = append(closing, f)
		} else {
			f.place = c.idle.PushFront(f)
			closing = c.trimLocked(closing)
		}
	}
	c.mu.Unlock()
	// These were read from, or written directly and synced by a descriptor of Sync's own: nothing can be lost in closing them.
	_ = closeAll(closing)
}

// forget drops everything of s.
func (c *FileCache) forget(s *Segment) {
	c.mu.Lock()
	var closing []*openFile
	for _, suffix := range []string{logSuffix, indexSuffix, timeIndexSuffix, sidecarSuffix} {
		for _, direct := range []bool{false, true} {
			if f := c.files[fileKey{s, suffix, direct}]; f != nil {
				closing = c.dropLocked(f, closing)
			}
		}
	}
	for _, l := range s.ledgers() {
		c.unloadLocked(l)
	}
	c.mu.Unlock()
	for _, l := range s.ledgers() {
		l.unload()
	}
	c.forgetExtents(s)
	_ = closeAll(closing)
}

func closeAll(files []*openFile) error {
	var first error
	for _, f := range files {
		if err := f.Close(); err != nil && first == nil {
			first = &openError{err}
		}
	}
	return first
}

var _ io.ReaderAt = (*openFile)(nil)

// noteLoaded counts bytes that l keeps in memory, or counts them anew, and makes others let go of theirs.
func (c *FileCache) noteLoaded(l *ledger, bytes int64) {
	c.mu.Lock()
	c.unloadLocked(l)
	c.loaded[l] = c.used.PushFront(loadedEntry{l, bytes})
	c.bytes += bytes
	var unload []*ledger
	for c.bytes > loadedBytes && c.used.Len() > 1 {
		last := c.used.Back().Value.(loadedEntry)
		c.unloadLocked(last.ledger)
		unload = append(unload, last.ledger)
	}
	c.mu.Unlock()
	for _, other := range unload {
		other.unload()
	}
}

// touchLoaded marks l as used.
func (c *FileCache) touchLoaded(l *ledger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.loaded[l]; e != nil {
		c.used.MoveToFront(e)
	}
}

func (c *FileCache) unloadLocked(l *ledger) {
	if e := c.loaded[l]; e != nil {
		c.bytes -= e.Value.(loadedEntry).bytes
		c.used.Remove(e)
		delete(c.loaded, l)
	}
}
