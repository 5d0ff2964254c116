package disk

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// MinAlignment is the smallest alignment that a DirectFile asks for, in bytes. It is the physical block of nearly every disk, so that
// two aligned writes never share a block even where the file system would take smaller ones.
const MinAlignment = 4096

// FS is the file system seam of the storage engine: all of pebble's vfs, and direct files.
//
// All methods are safe for concurrent use.
type FS interface {
	vfs.FS

	// OpenDirect opens a file for reading and writing past the page cache.
	//
	// The file must exist unless opts.Create is set. Closing it does not sync it.
	OpenDirect(name string, opts DirectOptions) (DirectFile, error)

	// Truncate makes the file size bytes long, cutting it or extending it with zeros. It does not sync. The file must not be open.
	Truncate(name string, size int64) error

	// SyncAll makes durable everything that was written so far to the file system that dir is in: the bytes of files, open or not, and
	// names. It costs about as much as a few syncs, however many files there are.
	//
	// It returns errors.ErrUnsupported, and has done nothing, where that cannot be had or its errors would not be told.
	SyncAll(dir string) error
}

// DirectOptions says how OpenDirect opens a file.
type DirectOptions struct {
	// Synced makes every WriteAt durable before it returns, as O_DSYNC does.
	Synced bool
	// Create makes the file if it is not there. The caller syncs the folder.
	Create bool
}

// DirectFile is a file read and written past the page cache where the system allows it, and through it where not.
//
// Reads may go on beside writes and beside each other. Writes and syncs too, as long as no two write the same range.
type DirectFile interface {
	// ReadAt reads at any offset into any buffer. It is fastest when buffer, offset and length are aligned.
	io.ReaderAt
	io.Closer

	// WriteAt writes p at off. The address and length of p and off must be multiples of Alignment: see AlignedBuffer.
	// With DirectOptions.Synced the bytes are on stable storage when it returns nil. After an error the content of the range is unknown.
	WriteAt(p []byte, off int64) (int, error)

	// SyncData makes everything written so far durable, with as much metadata as reading it back needs.
	SyncData() error

	// Allocate takes room on the disk for n bytes at off, so that writing them does not find the disk full. Nothing that can be read
	// changes, the size neither. It returns errors.ErrUnsupported where that cannot be had.
	Allocate(off, n int64) error

	// TrimRoom gives back the room beyond the file's size. Nobody may be writing beyond it.
	TrimRoom() error

	// Size is the file's length in bytes.
	Size() (int64, error)

	// Alignment is in bytes: a power of two, at least MinAlignment.
	Alignment() int

	// Direct reports whether writes go past the page cache.
	Direct() bool
}

// ErrMisaligned is returned by DirectFile.WriteAt for a buffer, offset or length that is not a multiple of Alignment.
var ErrMisaligned = errors.New("misaligned direct write")

// AlignedBuffer returns size zero bytes whose first address is a multiple of align, which must be a power of two.
// Its capacity is size.
func AlignedBuffer(size, align int) []byte {
	b := make([]byte, size+align-1)
	skip := 0
	if len(b) > 0 {
		skip = -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (align - 1)
	}
	return b[skip : skip+size : skip+size]
}

// WriteVec writes bufs one after the other at off, in one write of f. The address and length of each must be multiples of f's alignment, as off
// must. It costs no copy where f is a direct file of the machine.
//
// While it runs, bytes of bufs may change that nobody will ever read back.
func WriteVec(f DirectFile, bufs [][]byte, off int64) error {
	total := 0
	for _, b := range bufs {
		if !Aligned(b, off, f.Alignment()) {
			return ErrMisaligned
		}
		total += len(b)
	}
	if v, ok := f.(vectored); ok {
		return v.writeVec(bufs, off)
	}
	if len(bufs) == 1 {
		_, err := f.WriteAt(bufs[0], off)
		return err
	}
	joined := AlignedBuffer(total, f.Alignment())
	n := 0
	for _, b := range bufs {
		n += copy(joined[n:], b)
	}
	_, err := f.WriteAt(joined, off)
	return err
}

// vectored is a DirectFile that gathers what it writes.
type vectored interface {
	writeVec(bufs [][]byte, off int64) error
}

// SyncDir makes the entries of dir durable: files made in it, renamed into it and removed from it.
func SyncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", dir, err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// IsNoSpace reports whether err says that the disk or the quota is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// CheckRoom returns an error that IsNoSpace knows if n more bytes below dir would leave less than floor bytes free. A file system that
// cannot tell has room.
func CheckRoom(fs vfs.FS, dir string, n, floor int64) error {
	u, err := fs.GetDiskUsage(dir)
	if err != nil || u.AvailBytes >= uint64(n+floor) {
		return nil //nolint:nilerr // the write itself will say when there is no room
	}
	return fmt.Errorf("%d bytes more in %s would leave less than %d free, %d are: %w", n, dir, floor, u.AvailBytes, syscall.ENOSPC)
}

// Wrap gives any vfs a direct twin: a direct write is a WriteAt of the vfs, followed by its SyncData when the file is synced. Faults
// injected by the vfs and crash clones taken of it therefore see direct writes too. Direct() of its files is false.
func Wrap(fs vfs.FS) FS {
	if d, ok := fs.(FS); ok {
		return d
	}
	return wrapped{fs}
}

type wrapped struct{ vfs.FS }

// Unwrap returns the wrapped file system; see vfs.Root.
func (w wrapped) Unwrap() vfs.FS { return w.FS }

func (w wrapped) OpenDirect(name string, opts DirectOptions) (DirectFile, error) {
	if !opts.Create {
		if _, err := w.Stat(name); err != nil {
			return nil, err
		}
	}
	f, err := w.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return &bufferedFile{f: f, synced: opts.Synced}, nil
}

// SyncAll is not to be had.
func (w wrapped) SyncAll(string) error { return errors.ErrUnsupported }

// Truncate rewrites the file, as vfs cannot cut one: it copies what stays to a temporary file, syncs it and renames it.
func (w wrapped) Truncate(name string, size int64) error {
	src, err := w.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }() // it is only read
	st, err := src.Stat()
	if err != nil {
		return err
	}
	data := make([]byte, size)
	if _, err := src.ReadAt(data[:min(size, st.Size())], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	tmp := name + ".truncated"
	dst, err := w.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = dst.Write(data)
	if err == nil {
		err = dst.Sync()
	}
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return w.Rename(tmp, name)
}

// bufferedFile is a DirectFile on top of a vfs.File.
type bufferedFile struct {
	f      vfs.File
	synced bool
	mu     sync.Mutex // vfs files take one write or sync at a time
}

func (b *bufferedFile) ReadAt(p []byte, off int64) (int, error) { return b.f.ReadAt(p, off) }

func (b *bufferedFile) WriteAt(p []byte, off int64) (int, error) {
	if !Aligned(p, off, MinAlignment) {
		return 0, ErrMisaligned
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.f.WriteAt(p, off)
	if err == nil && b.synced {
		err = b.f.SyncData()
	}
	return n, err
}

func (b *bufferedFile) SyncData() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.f.SyncData()
}

func (b *bufferedFile) Allocate(off, n int64) error { return b.f.Preallocate(off, n) }
func (b *bufferedFile) TrimRoom() error             { return nil } // a vfs cannot

func (b *bufferedFile) Size() (int64, error) {
	st, err := b.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (b *bufferedFile) Close() error   { return b.f.Close() }
func (b *bufferedFile) Alignment() int { return MinAlignment }
func (b *bufferedFile) Direct() bool   { return false }

// Aligned reports whether p and off may be used for a direct write.
func Aligned(p []byte, off int64, align int) bool {
	mask := align - 1
	return len(p)&mask == 0 && int(off)&mask == 0 && off >= 0 &&
		(len(p) == 0 || int(uintptr(unsafe.Pointer(unsafe.SliceData(p))))&mask == 0)
}
