package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// Default returns the file system of the machine. Its direct files use O_DIRECT, and O_DSYNC when they are synced, with the alignment
// that the file system asks for; where O_DIRECT is refused (tmpfs, some network file systems) they write through the page cache and
// call fdatasync.
func Default() FS { return linuxFS{vfs.Default} }

type linuxFS struct{ vfs.FS }

// Unwrap returns the plain vfs; see vfs.Root.
func (l linuxFS) Unwrap() vfs.FS { return l.FS }

func (linuxFS) Truncate(name string, size int64) error { return os.Truncate(name, size) }

func (linuxFS) OpenDirect(name string, opts DirectOptions) (DirectFile, error) {
	flags := os.O_RDWR
	if opts.Create {
		flags |= os.O_CREATE
	}
	directFlags := flags | unix.O_DIRECT
	if opts.Synced {
		directFlags |= unix.O_DSYNC
	}
	f, err := os.OpenFile(name, directFlags, 0o666)
	if err == nil {
		if align := directAlignment(f); align > 0 {
			return &directFile{f: f, align: align}, nil
		}
		_ = f.Close() // nothing was written to it
	} else if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, err
	}
	if f, err = os.OpenFile(name, flags, 0o666); err != nil {
		return nil, err
	}
	return &pageCacheFile{f: f, synced: opts.Synced}, nil
}

// directAlignment asks the kernel what direct I/O on f must be aligned to. It returns 0 if f does not support it, and MinAlignment if
// the kernel is too old (before 6.1) or the file system does not say.
func directAlignment(f *os.File) int {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	if err != nil || st.Mask&unix.STATX_DIOALIGN == 0 {
		return MinAlignment
	}
	if st.Dio_mem_align == 0 || st.Dio_offset_align == 0 {
		return 0
	}
	return int(max(MinAlignment, st.Dio_mem_align, st.Dio_offset_align))
}

// directFile is opened with O_DIRECT, and with O_DSYNC when it is synced.
type directFile struct {
	f     *os.File
	align int
}

func (d *directFile) WriteAt(p []byte, off int64) (int, error) {
	if !Aligned(p, off, d.align) {
		return 0, ErrMisaligned
	}
	return d.f.WriteAt(p, off)
}

// maxVec is how many pieces one system call takes (IOV_MAX).
const maxVec = 1024

var vecs = sync.Pool{New: func() any { return new([]unix.Iovec) }}

// writeVec implements vectored. It makes the system call itself: the race detector would take bytes that others write meanwhile, on
// purpose, for a race.
func (d *directFile) writeVec(bufs [][]byte, off int64) error {
	iov := vecs.Get().(*[]unix.Iovec)
	defer func() {
		clear(*iov)
		*iov = (*iov)[:0]
		vecs.Put(iov)
	}()
	for _, b := range bufs {
		v := unix.Iovec{Base: unsafe.SliceData(b)}
		v.SetLen(len(b))
		*iov = append(*iov, v)
	}
	fd := d.f.Fd()
	for rest := *iov; len(rest) > 0; {
		n, _, errno := unix.Syscall6(unix.SYS_PWRITEV, fd, uintptr(unsafe.Pointer(&rest[0])), uintptr(min(len(rest), maxVec)), uintptr(off), 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno == 0 && n == 0 {
			errno = unix.EIO
		}
		if errno != 0 {
			return &os.PathError{Op: "pwritev", Path: d.f.Name(), Err: errno}
		}
		off += int64(n)
		rest = skipVec(rest, n)
	}
	runtime.KeepAlive(d.f)
	runtime.KeepAlive(bufs)
	return nil
}

// skipVec is iov without its first n bytes.
func skipVec(iov []unix.Iovec, n uintptr) []unix.Iovec {
	for len(iov) > 0 && n >= uintptr(iov[0].Len) {
		n -= uintptr(iov[0].Len)
		iov = iov[1:]
	}
	if n > 0 {
		iov[0].Base = (*byte)(unsafe.Add(unsafe.Pointer(iov[0].Base), n))
		iov[0].SetLen(int(uintptr(iov[0].Len) - n))
	}
	return iov
}

// bounceBytes is the size of the buffer through which unaligned reads go.
const bounceBytes = 64 << 10

var bounce = sync.Pool{New: func() any {
	b := AlignedBuffer(bounceBytes, MinAlignment)
	return &b
}}

func (d *directFile) ReadAt(p []byte, off int64) (int, error) {
	if Aligned(p, off, d.align) {
		return readFullAt(d.f, p, off, d.align)
	}
	buf := d.bounceBuffer()
	defer bounce.Put(buf)
	read := 0
	for read < len(p) {
		skip := int(off) & (d.align - 1)
		want := min((skip+len(p)-read+d.align-1)&^(d.align-1), len(*buf))
		n, err := readFullAt(d.f, (*buf)[:want], off-int64(skip), d.align)
		got := 0
		if n > skip {
			got = copy(p[read:], (*buf)[skip:n])
		}
		read += got
		off += int64(got)
		if err != nil && read < len(p) {
			return read, err
		}
	}
	return read, nil
}

func (d *directFile) bounceBuffer() *[]byte {
	buf := bounce.Get().(*[]byte)
	if len(*buf) == 0 || !Aligned(*buf, 0, d.align) {
		b := AlignedBuffer(max(bounceBytes, d.align), d.align)
		buf = &b
	}
	return buf
}

// readFullAt reads until p is full or the file ends. os.File.ReadAt goes on after a short read; at the end of a file whose size is not
// aligned that next read is misaligned and refused, which here means that the file ended.
func readFullAt(f *os.File, p []byte, off int64, align int) (int, error) {
	n, err := f.ReadAt(p, off)
	if n&(align-1) != 0 && errors.Is(err, unix.EINVAL) {
		err = io.EOF
	}
	return n, err
}

func (d *directFile) Allocate(off, n int64) error { return allocate(d.f, off, n) }
func (d *directFile) TrimRoom() error             { return trimRoom(d.f) }

func (d *directFile) SyncData() error      { return fdatasync(d.f) }
func (d *directFile) Size() (int64, error) { return size(d.f) }
func (d *directFile) Close() error         { return d.f.Close() }
func (d *directFile) Alignment() int       { return d.align }
func (d *directFile) Direct() bool         { return true }

// pageCacheFile stands in where O_DIRECT is refused.
type pageCacheFile struct {
	f      *os.File
	synced bool
}

func (b *pageCacheFile) ReadAt(p []byte, off int64) (int, error) { return b.f.ReadAt(p, off) }

func (b *pageCacheFile) WriteAt(p []byte, off int64) (int, error) {
	if !Aligned(p, off, MinAlignment) {
		return 0, ErrMisaligned
	}
	n, err := b.f.WriteAt(p, off)
	if err == nil && b.synced {
		err = fdatasync(b.f)
	}
	return n, err
}

func (b *pageCacheFile) Allocate(off, n int64) error { return allocate(b.f, off, n) }
func (b *pageCacheFile) TrimRoom() error             { return trimRoom(b.f) }

func (b *pageCacheFile) SyncData() error      { return fdatasync(b.f) }
func (b *pageCacheFile) Size() (int64, error) { return size(b.f) }
func (b *pageCacheFile) Close() error         { return b.f.Close() }
func (b *pageCacheFile) Alignment() int       { return MinAlignment }
func (b *pageCacheFile) Direct() bool         { return false }

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

func allocate(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EOPNOTSUPP):
			return fmt.Errorf("allocate room in %s: %w", f.Name(), errors.ErrUnsupported)
		case !errors.Is(err, unix.EINTR):
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
}

// trimRoom gives back blocks beyond the end: cutting a file to the size that it has does so.
func trimRoom(f *os.File) error {
	n, err := size(f)
	if err != nil {
		return err
	}
	return f.Truncate(n)
}

func size(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
