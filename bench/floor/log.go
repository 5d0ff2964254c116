package main

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// The sizes are those that the broker uses: groups of up to 8 MiB, a log of 1 GiB that is written over, segment writes of 1 MiB.
const (
	align      = 4096
	groupBytes = 8 << 20
	logBytes   = 1 << 30
	chunkBytes = 1 << 20
	// fullChunks bounds what waits to be written to segments: when there are as many, producers wait.
	fullChunks = 64
)

// place is a partition.
type place struct {
	topic string
	index int32
}

// group is what is written and synced at once.
type group struct {
	buf     []byte // aligned, of groupBytes
	n       int
	durable chan struct{} // closed when it is
}

// chunk is a piece of a segment.
type chunk struct {
	to  *segment
	at  int64
	buf []byte
}

type segment struct {
	file  disk.DirectFile
	end   int64 // offset of the next batch
	size  int64 // written or on its way
	chunk []byte
}

type log struct {
	dir      string
	file     disk.DirectFile
	segments bool

	full  chan chunk  // to be written behind
	spare chan []byte // chunks to be used again

	mu         sync.Mutex // guards the fields below
	changed    sync.Cond  // the filling group has something, or has room again
	filling    *group
	free       *group
	partitions map[place]*segment
}

func openLog(dir string, segments bool) (*log, error) {
	file, err := disk.Default().OpenDirect(filepath.Join(dir, "log"), disk.DirectOptions{Synced: true, Create: true})
	if err != nil {
		return nil, err
	}
	l := &log{
		dir: dir, file: file, segments: segments, full: make(chan chunk, fullChunks), spare: make(chan []byte, fullChunks),
		filling: newGroup(), free: newGroup(), partitions: map[place]*segment{},
	}
	l.changed.L = &l.mu
	return l, nil
}

func newGroup() *group {
	return &group{buf: disk.AlignedBuffer(groupBytes, align), durable: make(chan struct{})}
}

// append puts a batch into the filling group and into its partition's segment. The batch is durable when the channel is closed.
func (l *log) append(p place, batch []byte) (offset int64, durable <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.filling.n+len(batch) > groupBytes {
		l.changed.Wait()
	}
	s := l.partitions[p]
	if s == nil {
		s = &segment{}
		l.partitions[p] = s
	}
	offset = s.end
	s.end++
	l.filling.n += copy(l.filling.buf[l.filling.n:], batch)
	if l.segments {
		l.keep(s, batch)
	}
	l.changed.Broadcast()
	return offset, l.filling.durable
}

// keep copies a batch into the segment's chunks. It may wait for the disk, with the log locked: then all producers wait.
func (l *log) keep(s *segment, batch []byte) {
	for len(batch) > 0 {
		if s.chunk == nil {
			select {
			case s.chunk = <-l.spare:
			default:
				s.chunk = disk.AlignedBuffer(chunkBytes, align)[:0]
			}
		}
		n := copy(s.chunk[len(s.chunk):chunkBytes], batch)
		s.chunk, batch = s.chunk[:len(s.chunk)+n], batch[n:]
		if len(s.chunk) == chunkBytes {
			l.full <- chunk{s, s.size, s.chunk}
			s.size += chunkBytes
			s.chunk = nil
		}
	}
}

// write is the goroutine that makes groups durable.
func (l *log) write() error {
	at := int64(0)
	for {
		g := l.next()
		n := (g.n + align - 1) &^ (align - 1)
		if at+int64(n) > logBytes {
			at = 0
		}
		if _, err := l.file.WriteAt(g.buf[:n], at); err != nil {
			return fmt.Errorf("write the log: %w", err)
		}
		at += int64(n)
		close(g.durable)
		g.n, g.durable = 0, make(chan struct{})
		l.mu.Lock()
		l.free = g
		l.changed.Broadcast()
		l.mu.Unlock()
	}
}

// next takes the filling group once it has something and a free one can take its place.
func (l *log) next() *group {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.filling.n == 0 {
		l.changed.Wait()
	}
	g := l.filling
	l.filling, l.free = l.free, nil
	l.changed.Broadcast()
	return g
}

// flush is the goroutine that writes segments.
func (l *log) flush() error {
	files := 0
	for c := range l.full {
		if c.to.file == nil {
			name := filepath.Join(l.dir, "segments", fmt.Sprintf("%06d.log", files))
			files++
			file, err := disk.Default().OpenDirect(name, disk.DirectOptions{Create: true})
			if err != nil {
				return err
			}
			c.to.file = file
		}
		if _, err := c.to.file.WriteAt(c.buf, c.at); err != nil {
			return fmt.Errorf("write a segment: %w", err)
		}
		select {
		case l.spare <- c.buf[:0]:
		default: // enough are kept
		}
	}
	return nil
}
