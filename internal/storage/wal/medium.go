package wal

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// medium is where a wal's numbered files live, and the one with newestNumber: a folder today. Its methods are called one at a time, except that a file is removed by
// the keeper while others are read or written.
type medium interface {
	// list returns the numbers of all files but newestNumber, in order.
	list() ([]uint64, error)
	// create makes file number of size zero bytes, if that leaves floor bytes free on the disk. File and name are durable when it
	// returns. Between writes it calls pause with how much is written and how long the last write took, and gives up if that
	// reports true.
	create(number uint64, size, floor int64, pause pauseFunc) (mediumFile, error)
	// reuse gives file old a new number. The new name is durable when it returns.
	reuse(old, number uint64) (mediumFile, error)
	// open opens a file for recovery.
	open(number uint64) (mediumFile, error)
	// remove removes a file; the removal need not be durable.
	remove(number uint64) error
	// syncNames makes all names durable.
	syncNames() error
	// name is what messages call a file.
	name(number uint64) string
}

// mediumFile is one file of a medium. Unless the wal is unsafe, blocks are durable when WriteAt returns.
type mediumFile = disk.DirectFile

// fillBytes is the size of the writes that fill a new file with zeros: small, as a group that is to be written waits for one.
const fillBytes = 256 << 10

// pauseFunc is called between the writes that fill a file: it may take its time, and says whether to stop.
type pauseFunc func(done int64, took time.Duration) (stop bool)

// neverPause is for who waits for the file.
func neverPause(int64, time.Duration) bool { return false }

var errStopped = errors.New("stopped")

// folder is a medium of local files, `%020d.wal`, and `newest`.
type folder struct {
	fs     disk.FS
	dir    string
	synced bool
	zeros  []byte // made when first needed
}

const (
	fileSuffix       = ".wal"
	newestName       = "newest"
	unfinishedSuffix = ".new" // of a file that is being made
)

func (d *folder) name(number uint64) string {
	if number == newestNumber {
		return d.fs.PathJoin(d.dir, newestName)
	}
	return d.fs.PathJoin(d.dir, fmt.Sprintf("%020d%s", number, fileSuffix))
}

func (d *folder) list() ([]uint64, error) {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list wal folder %s: %w", d.dir, err)
	}
	var numbers []uint64
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, fileSuffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || len(digits) != 20 || n == 0 {
			return nil, fmt.Errorf("wal folder %s: %q is not the name of a wal file", d.dir, name)
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (d *folder) create(number uint64, size, floor int64, pause pauseFunc) (mediumFile, error) {
	name := d.name(number)
	// Trying without the room would take the last of it from others for a moment.
	if err := disk.CheckRoom(d.fs, d.dir, size, floor); err != nil {
		return nil, fmt.Errorf("make wal file %s: %w", name, err)
	}
	// Under its own name a file is whole from the start, so that a short one is known to have been cut.
	unfinished := name + unfinishedSuffix
	err := d.fill(unfinished, size, pause)
	if err == nil {
		err = d.fs.Rename(unfinished, name)
	}
	if err == nil && !plant.On(plant.SkipWALFolderSync) {
		err = d.syncNames()
	}
	var f disk.DirectFile
	if err == nil {
		f, err = d.fs.OpenDirect(name, disk.DirectOptions{Synced: d.synced})
	}
	if err != nil {
		// A half-filled file holds nothing, and the room it takes is what others may lack.
		return nil, errors.Join(fmt.Errorf("make wal file %s: %w", name, err), d.discard(unfinished), d.discard(name))
	}
	return f, nil
}

// discardUnfinished removes files whose making was cut short.
func (d *folder) discardUnfinished() error {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return fmt.Errorf("list wal folder %s: %w", d.dir, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, fileSuffix+unfinishedSuffix) || name == newestName+unfinishedSuffix {
			if err := d.fs.Remove(d.fs.PathJoin(d.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *folder) discard(name string) error {
	if _, err := d.fs.Stat(name); err != nil {
		return nil // it was not made
	}
	return d.fs.Remove(name)
}

func (d *folder) fill(name string, size int64, pause pauseFunc) (err error) {
	// Create takes the place of what may stand there, so that nothing of it is ever read again.
	c, err := d.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	f, err := d.fs.OpenDirect(name, disk.DirectOptions{})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if chunk := min(fillBytes, size); int64(len(d.zeros)) < chunk {
		d.zeros = disk.AlignedBuffer(int(chunk), max(maxBlockBytes, f.Alignment()))
	}
	took := time.Duration(0)
	for off := int64(0); off < size; {
		if pause(off, took) {
			return errStopped
		}
		start := time.Now()
		n, err := f.WriteAt(d.zeros[:min(int64(len(d.zeros)), size-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
		took = time.Since(start)
	}
	return f.SyncData()
}

func (d *folder) reuse(old, number uint64) (mediumFile, error) {
	name := d.name(number)
	if err := d.fs.Rename(d.name(old), name); err != nil {
		return nil, fmt.Errorf("reuse wal file %s as %s: %w", d.name(old), name, err)
	}
	if err := d.syncNames(); err != nil {
		return nil, err
	}
	return d.open(number)
}

func (d *folder) open(number uint64) (mediumFile, error) {
	f, err := d.fs.OpenDirect(d.name(number), disk.DirectOptions{Synced: d.synced})
	if err != nil {
		return nil, fmt.Errorf("open wal file %s: %w", d.name(number), err)
	}
	return f, nil
}

func (d *folder) remove(number uint64) error {
	if err := d.fs.Remove(d.name(number)); err != nil {
		return fmt.Errorf("remove wal file %s: %w", d.name(number), err)
	}
	return nil
}

func (d *folder) syncNames() error { return disk.SyncDir(d.fs, d.dir) }
