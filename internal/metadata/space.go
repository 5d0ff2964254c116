package metadata

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// DefaultSpaceFloor leaves room for what etcd writes on its own account: its next wal file, the growth of its database and
	// a snapshot.
	DefaultSpaceFloor = 64 << 20
	// DefaultBallastBytes is enough for etcd to start and for topics to be deleted on a disk that others have filled up.
	DefaultBallastBytes = 16 << 20

	ballastName   = "ballast"
	spaceInterval = time.Second
)

// spaceGuard keeps etcd from meeting a full disk, which it would not survive. It has three marks:
//
//	floor      below it only essential transactions are let through
//	floor/4    below it the ballast file is removed
//	floor/16   below it nothing is let through, and etcd is not started
//
// Above floor plus twice the ballast the ballast is made anew.
type spaceGuard struct {
	dir     string
	floor   int64
	ballast int64 // bytes; 0 = none is kept
	free    func(dir string) (int64, error)
	log     *slog.Logger

	mu    sync.Mutex // guards the fields below, and the ballast file
	short bool       // free was below floor when last looked at
}

func newSpaceGuard(cfg EtcdConfig) *spaceGuard {
	g := &spaceGuard{dir: cfg.Dir, floor: cfg.SpaceFloor, ballast: cfg.BallastBytes, free: cfg.DiskFree, log: cfg.Logger}
	if g.floor == 0 {
		g.floor = DefaultSpaceFloor
	}
	if g.ballast == 0 {
		g.ballast = DefaultBallastBytes
	}
	g.ballast = max(g.ballast, 0)
	if g.free == nil {
		g.free = diskFree
	}
	return g
}

// diskFree asks the file system for what an unprivileged process may still write.
func diskFree(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // Bsize is narrower on other systems
}

// makeRoom is called before etcd starts.
func (g *spaceGuard) makeRoom() error {
	free, err := g.look()
	if err != nil {
		return err
	}
	if free < g.floor/16 {
		return fmt.Errorf("%w: %d bytes are free in %s, %d are needed", ErrNoSpace, free, g.dir, g.floor/16)
	}
	return nil
}

// admit says whether a transaction may be written now.
func (g *spaceGuard) admit(essential bool) error {
	free, err := g.look()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case free >= g.floor, essential && free >= g.floor/16:
		return nil
	}
	return fmt.Errorf("%w: %d bytes are free in %s, the floor is %d", ErrNoSpace, free, g.dir, g.floor)
}

// look measures the free space, gives up the ballast if need be, and returns what is free then.
func (g *spaceGuard) look() (int64, error) {
	free, err := g.free(g.dir)
	if err != nil {
		return 0, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if free < g.floor/4 && g.dropLocked() {
		if free, err = g.free(g.dir); err != nil {
			return 0, err
		}
	}
	switch short := free < g.floor; {
	case short && !g.short:
		g.short = true
		g.log.Warn("disk space is short: metadata takes little more than deletions", "free_bytes", free, "floor_bytes", g.floor, "dir", g.dir)
	case !short && g.short:
		g.short = false
		g.log.Info("disk space suffices again: metadata takes all writes", "free_bytes", free, "dir", g.dir)
	}
	return free, nil
}

func (g *spaceGuard) dropLocked() bool {
	err := os.Remove(filepath.Join(g.dir, ballastName))
	if err == nil {
		g.log.Warn("gave up the ballast file to make room for metadata", "dir", g.dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		g.log.Warn("cannot remove the ballast file", "dir", g.dir, "err", err)
	}
	return err == nil
}

// watch looks at the space now and then, because etcd also writes when nobody commits, and keeps the ballast. It returns when
// ctx ends.
func (g *spaceGuard) watch(ctx context.Context) {
	tick := time.NewTicker(spaceInterval)
	defer tick.Stop()
	for {
		if free, err := g.look(); err == nil {
			g.keepBallast(free)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// keepBallast writes the ballast if it is missing and there is plenty of space.
func (g *spaceGuard) keepBallast(free int64) {
	if g.ballast == 0 || free < g.floor+2*g.ballast {
		return
	}
	path := filepath.Join(g.dir, ballastName)
	g.mu.Lock()
	defer g.mu.Unlock()
	if st, err := os.Stat(path); err == nil && st.Size() == g.ballast {
		return
	}
	if err := writeBallast(path, g.ballast); err != nil {
		g.log.Warn("cannot write the ballast file", "err", err)
		_ = os.Remove(path) // half a ballast is none; it is tried again
	}
}

// writeBallast fills a file with noise: zeros would take no space where the file system compresses.
func writeBallast(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{})
	chunk := make([]byte, 256<<10)
	for left := size; left > 0 && err == nil; left -= int64(len(chunk)) {
		chunk = chunk[:min(left, int64(len(chunk)))]
		_, _ = noise.Read(chunk) // never fails
		_, err = f.Write(chunk)
	}
	return errors.Join(err, f.Close())
}
