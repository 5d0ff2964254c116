package storage

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// syncAll makes everything that was written durable at once. ok is false where the file system has no such thing.
func (e *Engine) syncAll() (ok bool, err error) {
	if plant.On(plant.SkipSyncAll) {
		return true, nil
	}
	err = e.cfg.FS.SyncAll(e.cfg.Dir)
	if errors.Is(err, errors.ErrUnsupported) {
		e.syncsEach.Store(true)
		return false, nil
	}
	if err != nil { // nobody knows what is on the disk now, so it is not to be tried again, whatever the error
		return false, fmt.Errorf("sync everything: %v", err) //nolint:errorlint // see above
	}
	return true, nil
}

// makeFolders makes the folders of those partitions that have something to flush and none yet, for the price of one sync. What it leaves
// undone is done by the flush of each.
func (e *Engine) makeFolders(partitions []*Partition) error {
	if e.syncsEach.Load() || len(partitions) < e.cfg.SyncAllFrom {
		return nil
	}
	var mu sync.Mutex // guards drafted
	var drafted []*Partition
	err := inParallel(reliefWorkers, partitions, func(p *Partition) error {
		p.flushMu.Lock()
		defer p.flushMu.Unlock()
		p.mu.Lock()
		wanted := p.hwPos > p.flushedPos && !p.deleted
		p.mu.Unlock()
		if !wanted || p.folder {
			return nil
		}
		err := p.draftFolder(draftMetadata)
		if errors.Is(err, errFolderTaken) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("make the folder of %v: %w", p, err)
		}
		mu.Lock()
		defer mu.Unlock()
		drafted = append(drafted, p)
		return nil
	})
	if err != nil || len(drafted) == 0 {
		return err
	}
	if ok, err := e.syncAll(); !ok {
		return err
	}
	for _, p := range drafted {
		p.flushMu.Lock()
		p.folder = true
		p.flushMu.Unlock()
	}
	return nil
}

// draftMetadata names the owner of a folder, and leaves a file alone that does: nothing that is durable is put at risk by a draft.
func draftMetadata(fs disk.FS, dir string, id base.TopicID) error {
	if there, err := segment.ReadPartitionMetadata(fs, dir); err == nil && there == id {
		return nil
	}
	return segment.DraftPartitionMetadata(fs, dir, id)
}

// draftOnly reports whether a folder holds nothing but what names its owner: it was begun, and not durable yet when power was lost.
func (e *Engine) draftOnly(dir string) bool {
	names, err := e.cfg.FS.List(dir)
	return err == nil && !slices.ContainsFunc(names, func(name string) bool {
		return name != segment.PartitionMetadataFile && name != segment.PartitionMetadataFile+".tmp"
	})
}

// captureAll captures the partitions, in the order of their names, and makes durable what the captures count on: file by file, or, where
// many are to be synced, all together at the end.
func (e *Engine) captureAll(partitions []*Partition, next wal.Sequence) ([]*capture, error) {
	together := !e.syncsEach.Load() && countUnsynced(partitions) >= e.cfg.SyncAllFrom
	var mu sync.Mutex // guards captured
	captured := make([]*capture, 0, len(partitions))
	workers := syncsAtOnce
	if together {
		workers = 1 // nothing is synced yet, and the wal's writer is held up by many threads that write
	}
	err := inParallel(workers, partitions, func(p *Partition) error {
		c, err := p.capture(next, together)
		if err != nil {
			return fmt.Errorf("checkpoint of %v: %w", p, err)
		}
		mu.Lock()
		defer mu.Unlock()
		captured = append(captured, c)
		return nil
	})
	if err == nil && together {
		err = e.syncCaptured(captured)
	}
	slices.SortFunc(captured, func(a, b *capture) int {
		return cmp.Or(strings.Compare(a.p.topic, b.p.topic), cmp.Compare(a.p.id.Partition, b.p.id.Partition))
	})
	return captured, err
}

func countUnsynced(partitions []*Partition) (n int) {
	for _, p := range partitions {
		p.flushMu.Lock()
		if p.unsynced {
			n++
		}
		p.flushMu.Unlock()
	}
	return n
}

// syncCaptured makes durable what the captures wrote out.
func (e *Engine) syncCaptured(captured []*capture) error {
	ok, err := e.syncAll()
	if err != nil {
		return err
	}
	for _, c := range captured {
		if c.unsynced == nil {
			continue
		}
		if err := c.p.capturedSynced(c.unsynced, ok); err != nil {
			return fmt.Errorf("checkpoint of %v: %w", c.p, err)
		}
	}
	return nil
}

// capturedSynced notes that what was written out of a segment is durable, or syncs it.
func (p *Partition) capturedSynced(seg *segment.Segment, durable bool) error {
	p.flushMu.Lock()
	defer p.flushMu.Unlock()
	if !durable {
		if err := seg.Sync(); err != nil {
			return err
		}
	}
	if !seg.Synced() || p.flushedSegment() != seg {
		return nil
	}
	p.unsynced = false
	p.mu.Lock()
	idle := p.flushedPos == p.endPos && p.e.now().Sub(p.lastAppend) >= p.e.cfg.IdleFlush
	p.mu.Unlock()
	if idle {
		seg.Shrink()
	}
	return nil
}

// flushedSegment is the segment that is being flushed. p.flushMu is held.
func (p *Partition) flushedSegment() *segment.Segment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.segments[p.flushing].seg
}
