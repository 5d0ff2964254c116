package storage

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors/oserror"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// droppedSegment is a segment that the log no longer has. Its files stay until a checkpoint has said so.
type droppedSegment struct {
	seg   *segment.Segment
	state segment.State
	due   time.Time // readers that were under way may still want it before
	// queued tells that a checkpoint has dropped it. Guarded by Engine.checkpointMu.
	queued bool
}

// pendingRemoval is a deleted partition whose folder is still there. Guarded by Engine.mu.
type pendingRemoval struct {
	removal
	due     time.Time
	renamed bool // its name is free, so others may use it
	done    bool // its folder is gone
}

// unlinkList holds what may be unlinked once it is due: the checkpoint no longer lists it.
type unlinkList struct {
	mu       sync.Mutex // guards the fields below
	segments []unlinkSegment
	folders  []*pendingRemoval
}

type unlinkSegment struct {
	p *Partition
	d *droppedSegment
}

// Delete deletes every partition of a topic. It returns when the deletion is durable; files go away behind it.
// An unknown id is no error. ErrNoSpace changes nothing of the partitions that it had not reached; call it again.
func (e *Engine) Delete(ctx context.Context, id base.TopicID) error {
	if err := e.usable(); err != nil {
		return err
	}
	var doomed []*Partition
	for p := range e.Partitions() {
		if p.id.ID == id {
			doomed = append(doomed, p)
		}
	}
	last := wal.Sequence(0)
	for _, p := range doomed {
		group, err := p.logDeletion(ctx)
		if err != nil {
			return fmt.Errorf("delete %v: %w", p, err)
		}
		last = max(last, group)
	}
	if err := e.Wait(ctx, last); err != nil {
		return err
	}
	for _, p := range doomed {
		e.bury(p, last)
	}
	if len(doomed) > 0 {
		e.kickCheckpoint()
	}
	return nil
}

// logDeletion logs that p is gone and refuses its use from then on.
func (p *Partition) logDeletion(ctx context.Context) (wal.Sequence, error) {
	r, err := p.e.log.ReserveCarry(ctx, 0)
	if err != nil {
		return 0, p.e.walError(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleted {
		r.Cancel()
		return p.e.log.Durable(), nil
	}
	group := p.e.log.Append(&r, wal.Entry{Kind: wal.PartitionDeleted, Partition: p.id, FirstOffset: p.logStart, LastOffset: p.end}, p.e)
	p.deleted = true
	for w := range p.watchers {
		w.signal()
	}
	return group, nil
}

// bury takes a partition whose deletion is durable out of the engine. Its folder is due for removal after the next checkpoint.
func (e *Engine) bury(p *Partition, group wal.Sequence) {
	p.stopCleaning()
	p.flushMu.Lock()
	defer p.flushMu.Unlock()
	delay := p.Config().FileDeleteDelay
	e.mu.Lock()
	if e.partitions[p.id] != p {
		e.mu.Unlock()
		return
	}
	delete(e.partitions, p.id)
	e.removals = append(e.removals, &pendingRemoval{removal: removal{ID: p.id, Topic: p.topic}, due: e.now().Add(delay)})
	e.tombs[p.id.ID] = max(e.tombs[p.id.ID], group)
	e.folders.claim(p.folderName())
	e.mu.Unlock()
	p.close()
}

// close lets go of p's memory and descriptors. p.flushMu is held.
func (p *Partition) close() {
	p.mu.Lock()
	segments := slices.Clone(p.segments)
	p.mu.Unlock()
	p.tail.Close()
	for _, s := range segments {
		if s.seg != nil {
			if err := s.seg.Close(); err != nil {
				p.e.cfg.Logger.Warn("close segment", "topic", p.topic, "partition", p.id.Partition, "offset", s.base, "err", err)
			}
		}
	}
}

// dropListed queues for unlinking what a checkpoint, which is durable now, no longer lists. The folders of deleted partitions are
// renamed at once, so that their names are free. e.checkpointMu is held.
func (e *Engine) dropListed(captured []*capture, removals []*pendingRemoval) {
	e.unlinks.mu.Lock()
	for _, c := range captured {
		for _, d := range c.dropped {
			if !d.queued {
				d.queued = true
				e.unlinks.segments = append(e.unlinks.segments, unlinkSegment{c.p, d})
			}
		}
	}
	e.unlinks.mu.Unlock()
	for _, r := range removals {
		if r.renamed {
			continue
		}
		if err := e.setFolderAside(r.removal); err != nil {
			e.cfg.Logger.Warn("rename the folder of a deleted partition", "topic", r.Topic, "partition", r.ID.Partition, "err", err)
			continue
		}
		e.mu.Lock()
		r.renamed = true
		e.mu.Unlock()
		e.folders.release(folderOf(r.Topic, r.ID.Partition))
		e.unlinks.mu.Lock()
		e.unlinks.folders = append(e.unlinks.folders, r)
		e.unlinks.mu.Unlock()
	}
	e.unlinkDue(e.now())
}

// setFolderAside renames the folder of a deleted partition, if it is still there under its own name.
func (e *Engine) setFolderAside(r removal) error {
	fs := e.cfg.FS
	dir := fs.PathJoin(e.topicsDir(), folderOf(r.Topic, r.ID.Partition))
	id, err := segment.ReadPartitionMetadata(fs, dir)
	if oserror.IsNotExist(err) {
		return nil // nothing was ever flushed, or it was renamed before
	}
	if err != nil && e.draftOnly(dir) {
		return nil // a power loss came while somebody began to make it
	}
	if err != nil {
		return err
	}
	if id != r.ID.ID {
		return nil // another topic's by now
	}
	if err := fs.Rename(dir, fs.PathJoin(e.topicsDir(), removedFolderOf(r))); err != nil {
		return err
	}
	return disk.SyncDir(fs, e.topicsDir())
}

// removeFolder renames and unlinks the folder of a deleted partition that no checkpoint lists.
func (e *Engine) removeFolder(r removal) error {
	if err := e.setFolderAside(r); err != nil {
		return fmt.Errorf("rename the folder of deleted partition %s: %w", folderOf(r.Topic, r.ID.Partition), err)
	}
	e.unlinkFolder(&pendingRemoval{removal: r})
	return nil
}

// buried reports whether a topic was deleted, as far as that is remembered.
func (e *Engine) buried(id base.TopicID) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	_, known := e.tombs[id]
	if !known {
		_, known = e.cfg.Tombstones[id]
	}
	return known
}

// unlinkDue unlinks what was queued and is due at now.
func (e *Engine) unlinkDue(now time.Time) {
	e.unlinks.mu.Lock()
	var segments []unlinkSegment
	e.unlinks.segments = slices.DeleteFunc(e.unlinks.segments, func(u unlinkSegment) bool {
		if u.d.due.After(now) {
			return false
		}
		segments = append(segments, u)
		return true
	})
	var folders []*pendingRemoval
	e.unlinks.folders = slices.DeleteFunc(e.unlinks.folders, func(r *pendingRemoval) bool {
		if r.due.After(now) {
			return false
		}
		folders = append(folders, r)
		return true
	})
	e.unlinks.mu.Unlock()
	for _, u := range segments {
		u.p.unlink(u.d)
	}
	for _, r := range folders {
		e.unlinkFolder(r)
	}
}

// unlink removes the files of a dropped segment. What can not be removed is left where it is: it does no harm.
func (p *Partition) unlink(d *droppedSegment) {
	if err := d.seg.Remove(); err != nil {
		p.e.cfg.Logger.Warn("unlink segment", "topic", p.topic, "partition", p.id.Partition, "offset", d.state.Base, "err", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped = slices.DeleteFunc(p.dropped, func(other *droppedSegment) bool { return other == d })
	p.changed = true
}

// unlinkFolder removes the folder of a deleted partition, which was renamed before.
func (e *Engine) unlinkFolder(r *pendingRemoval) {
	dir := e.cfg.FS.PathJoin(e.topicsDir(), removedFolderOf(r.removal))
	if err := e.cfg.FS.RemoveAll(dir); err != nil && !oserror.IsNotExist(err) {
		e.cfg.Logger.Warn("unlink the folder of a deleted partition", "topic", r.Topic, "partition", r.ID.Partition, "err", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r.done = true
	e.removals = slices.DeleteFunc(e.removals, func(other *pendingRemoval) bool { return other == r })
	e.dirty.Store(true)
}

// ForgetTombstones returns the ids of deleted topics that no folder and no wal entry names any more: the metadata may drop their
// tombstones.
func (e *Engine) ForgetTombstones() []base.TopicID {
	oldest := e.log.OldestLive()
	e.mu.Lock()
	defer e.mu.Unlock()
	named := make(map[base.TopicID]bool)
	for _, r := range e.removals {
		named[r.ID.ID] = true
	}
	var free []base.TopicID
	for id, until := range e.tombs {
		if !named[id] && until < oldest {
			free = append(free, id)
			delete(e.tombs, id)
		}
	}
	return free
}
