package wal

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

const windowBytes = 1 << 20

// window is a piece of a file that was read.
type window struct {
	of   *foundFile
	off  int64
	data []byte // what was read
	buf  []byte
}

// at returns n bytes at off of x if the window has them.
func (w *window) at(x *foundFile, off, n int64) (b []byte, ok bool) {
	if w.of != x || off < w.off || off+n > w.off+int64(len(w.data)) {
		return nil, false
	}
	return w.data[off-w.off:][:n], true
}

// fill reads n bytes at off, which lie in the file, and what follows them.
func (w *window) fill(x *foundFile, off, n int64) error {
	align := int64(max(minBlockBytes, x.f.Alignment()))
	start := off &^ (align - 1)
	want := roundUp(max(off+n-start, min(windowBytes, x.size-start)), align)
	if int64(len(w.buf)) < want {
		w.buf = alignedBuffer(want, max(align, maxBlockBytes))
	}
	w.of = nil
	got, err := x.f.ReadAt(w.buf[:want], start)
	if err != nil && !errors.Is(err, io.EOF) || int64(got) < off+n-start {
		return fmt.Errorf("read at %d: %w", start, err)
	}
	w.of, w.off, w.data = x, start, w.buf[:got]
	return nil
}

// windows reads files in large pieces, the next of them while one is worked on. It is for one goroutine.
type windows struct {
	current, next window
	reading       sync.WaitGroup // of next
}

// read returns n bytes at off, which the caller has checked to lie in the file. They are valid until the next read.
func (w *windows) read(x *foundFile, off, n int64) ([]byte, error) {
	if b, ok := w.current.at(x, off, n); ok {
		return b, nil
	}
	w.reading.Wait()
	if b, ok := w.next.at(x, off, n); ok {
		w.current, w.next = w.next, w.current
		return b, nil
	}
	if err := w.current.fill(x, off, n); err != nil {
		return nil, err
	}
	b, _ := w.current.at(x, off, n)
	return b, nil
}

// readAhead begins to read n bytes at off, if they are not at hand. What comes of it, read tells.
func (w *windows) readAhead(x *foundFile, off, n int64) {
	w.reading.Wait()
	if _, ok := w.current.at(x, off, n); ok || off+n > x.size {
		return
	}
	w.reading.Go(func() {
		_ = w.next.fill(x, off, n) // then read tries it itself
	})
}
