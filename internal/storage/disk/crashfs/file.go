package crashfs

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

const (
	pageBytes   = 4096
	sectorBytes = 512
)

// page holds bytes of a file. It is never changed once it is in a table, so tables share it freely.
type page [pageBytes]byte

var zeroPage page

// node is a file or a folder. All fields are guarded by FS.mu.
type node struct {
	isDir    bool
	children map[string]*node // of a folder: the entries as the running system sees them
	synced   map[string]*node // of a folder: the entries as of its last sync

	table   []*page // of a file; nil stands for a page never written
	shared  bool    // table is shared with another file system and must be copied before it is changed
	size    int64
	modTime time.Time

	fragile    bool // see FS.SetFragile
	syncedSize int64
	dirty      map[int]*versions // pages written since the last sync
}

// versions is the history of one page since its file was last synced.
type versions struct {
	synced *page
	later  []*page
}

func newDir() *node {
	return &node{isDir: true, children: map[string]*node{}, synced: map[string]*node{}}
}

// readAt copies what there is at off, and reports io.EOF if p is not filled.
func (n *node) readAt(p []byte, off int64) (int, error) {
	if off >= n.size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), n.size-off))
	for done := 0; done < want; {
		i, at := int((off+int64(done))/pageBytes), int((off+int64(done))%pageBytes)
		src := &zeroPage
		if i < len(n.table) && n.table[i] != nil {
			src = n.table[i]
		}
		done += copy(p[done:want], src[at:])
	}
	if want < len(p) {
		return want, io.EOF
	}
	return want, nil
}

// writeAt writes p and returns how many bytes were written before the room that take grants ran out.
func (n *node) writeAt(p []byte, off int64, take func() bool) int {
	n.own()
	done := 0
	for done < len(p) {
		i, at := int((off+int64(done))/pageBytes), int((off+int64(done))%pageBytes)
		for len(n.table) <= i {
			n.table = append(n.table, nil)
		}
		old := n.table[i]
		if old == nil && !take() {
			break
		}
		chunk := p[done:min(done+pageBytes-at, len(p))]
		n.setPage(i, patched(old, chunk, at))
		done += len(chunk)
	}
	n.size = max(n.size, off+int64(done))
	n.modTime = time.Now()
	return done
}

// patched returns a page like old with chunk at `at`.
func patched(old *page, chunk []byte, at int) *page {
	if len(chunk) == pageBytes && isZero(chunk) {
		return &zeroPage
	}
	fresh := new(page)
	if old != nil {
		*fresh = *old
	}
	copy(fresh[at:], chunk)
	return fresh
}

func isZero(b []byte) bool { return len(b) == pageBytes && page(b) == zeroPage }

func (n *node) setPage(i int, p *page) {
	v := n.dirty[i]
	if v == nil {
		if n.dirty == nil {
			n.dirty = map[int]*versions{}
		}
		v = &versions{synced: n.table[i]}
		n.dirty[i] = v
	}
	v.later = append(v.later, p)
	n.table[i] = p
}

func (n *node) truncate(size int64) {
	n.own()
	if size < n.size {
		keep := int((size + pageBytes - 1) / pageBytes)
		for i := keep; i < len(n.table); i++ {
			if n.table[i] != nil {
				n.setPage(i, nil)
			}
		}
		if at := size % pageBytes; at != 0 && keep <= len(n.table) && n.table[keep-1] != nil {
			fresh := *n.table[keep-1]
			clear(fresh[at:])
			n.setPage(keep-1, &fresh)
		}
	}
	n.size = size
	n.modTime = time.Now()
}

func (n *node) own() {
	if n.shared {
		n.table = append([]*page(nil), n.table...)
		n.shared = false
	}
}

func (n *node) syncData() {
	clear(n.dirty)
	n.syncedSize = n.size
}

// file is an open file or folder.
type file struct {
	fs     *FS
	n      *node
	name   string
	pos    int64
	write  bool
	synced bool // a direct file opened with DirectOptions.Synced
	closed bool
}

var (
	_ vfs.File        = (*file)(nil)
	_ disk.DirectFile = (*directFile)(nil)
)

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return os.ErrClosed
	}
	f.closed = true
	return nil
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.before(Op{Kind: OpRead, Path: f.name, Offset: off, Length: len(p)}); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	if f.n.isDir {
		return 0, syscall.EISDIR
	}
	return f.n.readAt(p, off)
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	op := Op{Kind: OpWrite, Path: f.name, Offset: off, Length: len(p)}
	if err := f.fs.before(op); err != nil {
		return 0, err
	}
	n, err := f.writeLocked(p, off)
	f.fs.after(op)
	if err == nil && f.synced {
		err = f.SyncData()
	}
	return n, err
}

func (f *file) writeLocked(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch {
	case f.closed:
		return 0, os.ErrClosed
	case !f.write || f.n.isDir:
		return 0, syscall.EBADF
	}
	n := f.n.writeAt(p, off, f.fs.takePage)
	if n < len(p) {
		return n, &os.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	return n, nil
}

func (f *file) Sync() error     { return f.SyncData() }
func (f *file) SyncData() error { return f.fs.sync(f) }

// SyncTo queues nothing and promises nothing.
func (f *file) SyncTo(int64) (bool, error)  { return false, nil }
func (f *file) Prefetch(int64, int64) error { return nil }
func (f *file) Fd() uintptr                 { return vfs.InvalidFd }

// Preallocate takes pages of the capacity, and changes nothing that can be read.
func (f *file) Preallocate(off, length int64) error {
	if err := f.fs.before(Op{Kind: OpAllocate, Path: f.name, Offset: off, Length: int(length)}); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.n.own()
	for i := int(off / pageBytes); int64(i)*pageBytes < off+length; i++ {
		for len(f.n.table) <= i {
			f.n.table = append(f.n.table, nil)
		}
		if f.n.table[i] == nil {
			if !f.fs.takePage() {
				return &os.PathError{Op: "preallocate", Path: f.name, Err: syscall.ENOSPC}
			}
			f.n.table[i] = &zeroPage
		}
	}
	return nil
}

func (f *file) Stat() (vfs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return infoOf(f.name, f.n), nil
}

// directFile checks alignment as a real direct file does.
type directFile struct{ *file }

func (d *directFile) WriteAt(p []byte, off int64) (int, error) {
	if !disk.Aligned(p, off, disk.MinAlignment) {
		return 0, disk.ErrMisaligned
	}
	return d.file.WriteAt(p, off)
}

func (d *directFile) Size() (int64, error) {
	st, err := d.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Allocate is Preallocate.
func (d *directFile) Allocate(off, n int64) error { return d.Preallocate(off, n) }

// TrimRoom gives back pages beyond the end. As a real file system it does so by cutting the file where it ends, which writes the page there again.
func (d *directFile) TrimRoom() error {
	return d.fs.change(Op{Kind: OpResize, Path: d.name, Offset: d.n.size}, func() error {
		d.n.own()
		last := int((d.n.size + pageBytes - 1) / pageBytes)
		for i := last; i < len(d.n.table); i++ {
			if d.n.dirty[i] == nil {
				d.n.table[i] = nil
			}
		}
		if d.n.size%pageBytes != 0 && last <= len(d.n.table) && d.n.table[last-1] != nil {
			d.n.setPage(last-1, d.n.table[last-1])
		}
		return nil
	})
}

func (d *directFile) Alignment() int { return disk.MinAlignment }
func (d *directFile) Direct() bool   { return true }

type info struct {
	name    string
	size    int64
	dir     bool
	modTime time.Time
}

func infoOf(name string, n *node) info {
	return info{name: name, size: n.size, dir: n.isDir, modTime: n.modTime}
}

func (i info) Name() string           { return i.name }
func (i info) Size() int64            { return i.size }
func (i info) IsDir() bool            { return i.dir }
func (i info) ModTime() time.Time     { return i.modTime }
func (i info) Sys() any               { return nil }
func (i info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
func (i info) Mode() os.FileMode {
	if i.dir {
		return os.ModeDir | 0o755
	}
	return 0o644
}
