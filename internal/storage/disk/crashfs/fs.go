package crashfs

import (
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// OpKind is a kind of operation.
type OpKind uint8

// Operations told to hooks and faults. Those before OpCreate are told to faults only.
const (
	OpRead     OpKind = iota + 1
	OpOpen            // opening what exists
	OpList            // reading a folder
	OpAllocate        // taking room for bytes beyond the end
	OpCreate          // making a file or a link to one
	OpMkdir           // making a folder
	OpWrite           // writing bytes
	OpResize          // changing a file's size
	OpSync            // syncing a file
	OpSyncDir         // syncing a folder
	OpSyncAll         // syncing everything
	OpRename
	OpRemove
)

// String is the operation's name.
func (k OpKind) String() string {
	return [...]string{"none", "read", "open", "list", "allocate", "create", "mkdir", "write", "resize", "sync", "sync-dir", "sync-all", "rename", "remove"}[k]
}

// Changes reports whether the operation changes or syncs something, so that a power loss after it may differ from one before.
func (k OpKind) Changes() bool { return k > OpAllocate }

// Op is one operation.
type Op struct {
	Kind   OpKind
	Path   string // the old name, for a rename
	Offset int64
	Length int
}

// FS is a file system in memory. All methods are safe for concurrent use.
type FS struct {
	mu       sync.Mutex // guards the fields below and all nodes
	root     *node
	changes  []change // of folders not synced since, oldest first
	locks    map[string]bool
	pages    int64 // pages in use
	capacity int64 // pages; 0 means no limit
	fragile  func(path string) bool

	hookMu sync.Mutex // guards the fields below
	hook   func(Op)
	fault  func(Op) error
}

var _ disk.FS = (*FS)(nil)

// New returns an empty file system.
func New() *FS { return &FS{root: newDir(), locks: map[string]bool{}} }

// SetHook sets what is called after every operation that changed or synced something; nil calls nothing.
func (fs *FS) SetHook(hook func(Op)) {
	fs.hookMu.Lock()
	defer fs.hookMu.Unlock()
	fs.hook = hook
}

// SetFault sets what is asked before every operation. If it returns an error the operation fails with it and nothing is applied.
func (fs *FS) SetFault(fault func(Op) error) {
	fs.hookMu.Lock()
	defer fs.hookMu.Unlock()
	fs.fault = fault
}

// SetCapacity limits the bytes of data that all files together may hold; 0 takes the limit away.
func (fs *FS) SetCapacity(bytes int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.capacity = bytes / pageBytes
}

// SetFragile says which files lie on blocks that a write in place may destroy: see the fault model. It takes effect for files opened for
// writing from then on.
func (fs *FS) SetFragile(fragile func(path string) bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.fragile = fragile
}

// UsedBytes is how much of the capacity is in use. Removed files count until they are removed, not until that is synced.
func (fs *FS) UsedBytes() int64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.countPagesLocked()
	return fs.pages * pageBytes
}

func (fs *FS) before(op Op) error {
	fs.hookMu.Lock()
	fault := fs.fault
	fs.hookMu.Unlock()
	if fault != nil {
		return fault(op)
	}
	return nil
}

func (fs *FS) after(op Op) {
	fs.hookMu.Lock()
	hook := fs.hook
	fs.hookMu.Unlock()
	if hook != nil {
		hook(op)
	}
}

// takePage takes one page of the capacity. FS.mu is held.
func (fs *FS) takePage() bool {
	if fs.capacity > 0 && fs.pages >= fs.capacity {
		fs.countPagesLocked() // what was removed is not subtracted at once
		if fs.pages >= fs.capacity {
			return false
		}
	}
	fs.pages++
	return true
}

func (fs *FS) countPagesLocked() {
	fs.pages = 0
	seen := map[*node]bool{}
	var walk func(n *node)
	walk = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		for _, p := range n.table {
			if p != nil {
				fs.pages++
			}
		}
		for _, c := range n.children {
			walk(c)
		}
	}
	walk(fs.root)
}

// change runs one operation on the namespace, between fault and hook.
func (fs *FS) change(op Op, do func() error) error {
	if err := fs.before(op); err != nil {
		return err
	}
	fs.mu.Lock()
	err := do()
	fs.mu.Unlock()
	if err != nil {
		return &os.PathError{Op: op.Kind.String(), Path: op.Path, Err: err}
	}
	if op.Kind.Changes() {
		fs.after(op)
	}
	return nil
}

// split walks to the folder that holds name. FS.mu is held.
func (fs *FS) split(name string) (dir *node, base string, err error) {
	dir = fs.root
	parts := elements(name)
	if len(parts) == 0 {
		return dir, "", nil
	}
	for _, e := range parts[:len(parts)-1] {
		dir = dir.children[e]
		if dir == nil {
			return nil, "", os.ErrNotExist
		}
		if !dir.isDir {
			return nil, "", syscall.ENOTDIR
		}
	}
	return dir, parts[len(parts)-1], nil
}

func elements(name string) []string {
	return slices.DeleteFunc(strings.Split(path.Clean(name), "/"), func(e string) bool { return e == "" || e == "." })
}

func (fs *FS) find(name string) (*node, error) {
	dir, base, err := fs.split(name)
	if err != nil || base == "" {
		return dir, err
	}
	n := dir.children[base]
	if n == nil {
		return nil, os.ErrNotExist
	}
	return n, nil
}

// Create makes an empty file, taking the place of one that is there.
func (fs *FS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	f := &file{fs: fs, name: name, write: true}
	err := fs.change(Op{Kind: OpCreate, Path: name}, func() error {
		dir, base, err := fs.split(name)
		if err != nil {
			return err
		}
		if base == "" || dir.children[base] != nil && dir.children[base].isDir {
			return syscall.EISDIR
		}
		f.n = &node{}
		fs.enter(dir, base, f.n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Link makes a second name for a file.
func (fs *FS) Link(oldname, newname string) error {
	return fs.change(Op{Kind: OpCreate, Path: newname}, func() error {
		n, err := fs.find(oldname)
		if err != nil {
			return err
		}
		dir, base, err := fs.split(newname)
		if err != nil {
			return err
		}
		if dir.children[base] != nil {
			return os.ErrExist
		}
		fs.enter(dir, base, n)
		return nil
	})
}

func (fs *FS) open(name string, write bool) (*file, error) {
	f := &file{fs: fs, name: name, write: write}
	err := fs.change(Op{Kind: OpOpen, Path: name}, func() (err error) {
		f.n, err = fs.find(name)
		if err == nil && write && f.n.isDir {
			err = syscall.EISDIR
		}
		if err == nil && write && fs.fragile != nil {
			f.n.fragile = fs.fragile(name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Open opens a file for reading.
func (fs *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.open(name, false /* write */)
	if err != nil {
		return nil, err
	}
	for _, o := range opts {
		o.Apply(f)
	}
	return f, nil
}

// OpenReadWrite opens a file for reading and writing, and makes it if it is not there.
func (fs *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.open(name, true /* write */)
	if errors.Is(err, os.ErrNotExist) {
		return fs.Create(name, c)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// OpenDirect opens a file that behaves as one written past the page cache.
func (fs *FS) OpenDirect(name string, opts disk.DirectOptions) (disk.DirectFile, error) {
	f, err := fs.open(name, true /* write */)
	if opts.Create && errors.Is(err, os.ErrNotExist) {
		var v vfs.File
		if v, err = fs.Create(name, vfs.WriteCategoryUnspecified); err == nil {
			f = v.(*file)
		}
	}
	if err != nil {
		return nil, err
	}
	f.synced = opts.Synced
	return &directFile{f}, nil
}

// Truncate changes a file's size.
func (fs *FS) Truncate(name string, size int64) error {
	return fs.change(Op{Kind: OpResize, Path: name, Offset: size}, func() error {
		n, err := fs.find(name)
		if err != nil {
			return err
		}
		if n.isDir {
			return syscall.EISDIR
		}
		n.truncate(size)
		return nil
	})
}

// SyncAll makes everything durable.
func (fs *FS) SyncAll(dir string) error {
	return fs.change(Op{Kind: OpSyncAll, Path: dir}, func() error {
		if _, err := fs.find(dir); err != nil {
			return err
		}
		fs.syncAllLocked()
		return nil
	})
}

// OpenDir opens a folder for syncing.
func (fs *FS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.open(name, false /* write */)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Remove removes a file or an empty folder.
func (fs *FS) Remove(name string) error {
	return fs.change(Op{Kind: OpRemove, Path: name}, func() error {
		dir, base, err := fs.split(name)
		if err != nil {
			return err
		}
		n := dir.children[base]
		switch {
		case n == nil:
			return os.ErrNotExist
		case len(n.children) > 0:
			return syscall.ENOTEMPTY
		}
		fs.leave(dir, base)
		return nil
	})
}

// RemoveAll removes a file or folder and all below it. It is one change.
func (fs *FS) RemoveAll(name string) error {
	err := fs.change(Op{Kind: OpRemove, Path: name}, func() error {
		dir, base, err := fs.split(name)
		if err == nil && dir.children[base] != nil {
			fs.leave(dir, base)
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Rename renames a file, taking the place of one that is there.
func (fs *FS) Rename(oldname, newname string) error {
	return fs.change(Op{Kind: OpRename, Path: oldname}, func() error {
		from, oldBase, err := fs.split(oldname)
		if err != nil {
			return err
		}
		to, newBase, err := fs.split(newname)
		if err != nil {
			return err
		}
		if from.children[oldBase] == nil {
			return os.ErrNotExist
		}
		fs.move(from, oldBase, to, newBase)
		return nil
	})
}

// ReuseForWrite renames a file and opens it for writing.
func (fs *FS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return fs.OpenReadWrite(newname, c)
}

// MkdirAll makes a folder and its parents. Each new one is a change to its parent.
func (fs *FS) MkdirAll(name string, _ os.FileMode) error {
	return fs.change(Op{Kind: OpMkdir, Path: name}, func() error {
		dir := fs.root
		for _, e := range elements(name) {
			child := dir.children[e]
			if child == nil {
				child = newDir()
				fs.enter(dir, e, child)
			}
			if !child.isDir {
				return syscall.ENOTDIR
			}
			dir = child
		}
		return nil
	})
}

// Lock makes the file and holds it against other calls of Lock on this file system. Images are not locked.
func (fs *FS) Lock(name string) (io.Closer, error) {
	fs.mu.Lock()
	held := fs.locks[name]
	fs.locks[name] = true
	fs.mu.Unlock()
	if held {
		return nil, syscall.EAGAIN
	}
	unlock := closer(func() error {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		delete(fs.locks, name)
		return nil
	})
	if _, err := fs.Create(name, vfs.WriteCategoryUnspecified); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

type closer func() error

func (c closer) Close() error { return c() }

// List returns the names in a folder, sorted.
func (fs *FS) List(name string) ([]string, error) {
	var names []string
	err := fs.change(Op{Kind: OpList, Path: name}, func() error {
		n, err := fs.find(name)
		if err != nil {
			return err
		}
		if !n.isDir {
			return syscall.ENOTDIR
		}
		for e := range n.children {
			names = append(names, e)
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

// Stat describes a file or folder.
func (fs *FS) Stat(name string) (vfs.FileInfo, error) {
	var i info
	err := fs.change(Op{Kind: OpOpen, Path: name}, func() error {
		n, err := fs.find(name)
		if err == nil {
			i = infoOf(path.Base(name), n)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return i, nil
}

// PathBase implements vfs.FS. Paths have forward slashes.
func (*FS) PathBase(p string) string { return path.Base(p) }

// PathJoin implements vfs.FS.
func (*FS) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir implements vfs.FS.
func (*FS) PathDir(p string) string { return path.Dir(p) }

// GetDiskUsage reports the capacity, or a TiB if there is none.
func (fs *FS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.countPagesLocked()
	total := fs.capacity
	if total == 0 {
		total = 1 << 40 / pageBytes
	}
	return vfs.DiskUsage{
		TotalBytes: uint64(total * pageBytes), UsedBytes: uint64(fs.pages * pageBytes),
		AvailBytes: uint64(max(0, total-fs.pages) * pageBytes),
	}, nil
}

// Unwrap returns nil: there is nothing below.
func (*FS) Unwrap() vfs.FS { return nil }
