package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/hugepage"
)

// machine describes where the run took place.
func machine() string {
	model, kernel := "unknown processor", ""
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", Linux " + strings.TrimSpace(string(release))
	}
	return fmt.Sprintf("%d cores of %s%s, %s, %s", runtime.NumCPU(), model, kernel, runtime.GOARCH, runtime.Version())
}

// busyLoad is the load average from which on a machine is not quiet.
const busyLoad = 0.5

// noteLoad says so if the machine does something else already.
func (h *harness) noteLoad() {
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return // not Linux: nothing is known
	}
	first, _, _ := strings.Cut(string(average), " ")
	if load, err := strconv.ParseFloat(first, 64); err == nil && load > busyLoad {
		h.report.Note(fmt.Sprintf("The machine was not quiet when the run began: its load average was %s.", first))
	}
}

// spareBytes are left free on the disk whatever happens.
const spareBytes = 2 * gib

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // another type on other systems
}

// checkDisk returns an error if a run that writes n bytes at most may fill the disk.
func (h *harness) checkDisk(n int64) error {
	free, err := freeBytes(h.scratch)
	if err == nil && free < n+spareBytes {
		err = fmt.Errorf("it may need %d GB of disk, and %d are free in %s (--scratch names another folder, --seconds makes it need less)",
			(n+spareBytes)/1e9, free/1e9, h.scratch)
	}
	return err
}

// errDiskFull ends a run that wrote more than was expected.
var errDiskFull = errors.New("the disk is nearly full")

// watchDisk ends the context when the disk is nearly full.
func (h *harness) watchDisk(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if free, err := freeBytes(h.scratch); err == nil && free < spareBytes {
					cancel(errDiskFull)
				}
			}
		}
	})
	return ctx, func() { cancel(nil); watching.Wait() }
}

// The disk's own rate is measured on that much of what the broker wrote, in pieces of that size, by as many readers as consumers have
// connections.
const (
	directReadMax   = 4 * gib
	directReadPiece = 1 << 20
	directReaders   = 4
)

// directRead reads the segments below dir past the page cache, each from its beginning to its end, and returns the rate in MB/s.
func directRead(ctx context.Context, dir string) (float64, error) {
	var files []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(name, ".log") && !strings.HasPrefix(filepath.Base(name), "output") {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	next := make(chan string, len(files))
	for _, f := range files {
		next <- f
	}
	close(next)
	var (
		readers sync.WaitGroup
		total   atomic.Int64
		mu      sync.Mutex // guards failed
		failed  error
	)
	begin := time.Now()
	for range directReaders {
		readers.Go(func() {
			if err := readFiles(ctx, next, &total); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	}
	readers.Wait()
	return float64(total.Load()) / 1e6 / time.Since(begin).Seconds(), failed
}

// readFiles reads files into huge pages, which is what disks do best.
func readFiles(ctx context.Context, names <-chan string, total *atomic.Int64) error {
	memory, err := hugepage.Map(directReadPiece)
	if err != nil {
		return err
	}
	defer memory.Unmap()
	memory.Prefer(true)
	for name := range names {
		if err := readFile(ctx, name, memory.Bytes, total); err != nil {
			return err
		}
	}
	return nil
}

func readFile(ctx context.Context, name string, buf []byte, total *atomic.Int64) error {
	f, err := disk.Default().OpenDirect(name, disk.DirectOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	// Whole pieces only: what is behind them is not worth a read.
	for at := int64(0); at+directReadPiece <= size && total.Load() < directReadMax; at += directReadPiece {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := f.ReadAt(buf, at); err != nil {
			return err
		}
		total.Add(directReadPiece)
	}
	return nil
}
