package storage

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// Close flushes everything, writes a checkpoint and ends the background work: the next Open replays nothing. It returns after
// every goroutine of the engine has ended. Appends get ErrClosed from its start on. ctx bounds waiting for the wal; what is
// not flushed then is replayed by the next Open. So is what a full disk has no room for: that is logged and no error, because the wal
// has everything that was acknowledged.
//
// Later calls return nil at once. The error of an engine that has failed is that of Err.
func (e *Engine) Close(ctx context.Context) error {
	if e.closing.Swap(true) {
		return nil
	}
	e.wakeAll()
	e.drainAppends()
	err := e.Err()
	if err == nil {
		err = e.waitAll(ctx)
	}
	e.cancel(ErrClosed)
	e.work.Wait()
	if err == nil {
		err = e.Err()
	}
	settled := false
	if err == nil {
		err = e.settle(ctx)
		settled = err == nil
		if retriable(err) {
			e.cfg.Logger.Warn("the disk is full: stopping without writing segments and checkpoint; nothing acknowledged is lost, it is in the wal, "+
				"and the next start replays it", "err", err)
			err = nil
		}
	}
	switch walErr := e.abandon(); {
	case walErr == nil || err != nil:
	case settled:
		e.cfg.Logger.Warn("close the wal", "err", walErr)
	default:
		err = walErr
	}
	if err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}

// drainAppends returns once no append that began before closing was set is still ordering its batch.
func (e *Engine) drainAppends() {
	for p := range e.Partitions() {
		p.mu.Lock()
		p.mu.Unlock() //nolint:staticcheck // the empty section is the point
	}
}

// waitAll waits until everything ordered is durable and visible.
func (e *Engine) waitAll(ctx context.Context) error {
	last := wal.Sequence(0)
	for p := range e.Partitions() {
		p.mu.Lock()
		if n := len(p.commits); n > 0 {
			last = max(last, p.commits[n-1].group)
		}
		p.mu.Unlock()
	}
	if last == 0 {
		return nil
	}
	return e.walError(e.log.Wait(ctx, last))
}

// settle makes the data folder one that needs no replay: everything in segments, with the files that Kafka's tools expect.
func (e *Engine) settle(ctx context.Context) error {
	settle := func() error {
		partitions := e.snapshot()
		if err := e.makeFolders(partitions); err != nil {
			return err
		}
		return inParallel(syncsAtOnce, partitions, (*Partition).settle)
	}
	err := settle()
	if errors.Is(err, errFolderTaken) { // by a topic deleted just now: a checkpoint without it makes room
		if err = e.checkpoint(ctx); err == nil {
			err = settle()
		}
	}
	if err != nil {
		return err
	}
	select {
	case <-e.damageFound:
		if err := e.saveDamage(); err != nil && !disk.IsNoSpace(err) {
			return err
		}
	default:
	}
	return e.checkpoint(ctx)
}

// inParallel calls f for each partition in order, some at a time, and returns the first error.
func inParallel(atOnce int, partitions []*Partition, f func(*Partition) error) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, p := range partitions {
		g.Go(func() error { return f(p) })
	}
	return g.Wait()
}

// syncsAtOnce is how many partitions are synced at a time for a checkpoint: the disk merges the syncs.
const syncsAtOnce = 16

func (p *Partition) settle() error {
	p.flushMu.Lock()
	defer p.flushMu.Unlock()
	if err := p.flushHeld(1); err != nil {
		return err
	}
	if err := p.trimRoomHeld(); err != nil {
		return err
	}
	p.mu.Lock()
	changed, end, epochs, deleted := p.changed, p.flushedEnd, p.epochs, p.deleted
	p.mu.Unlock()
	if !p.folder || !changed || deleted {
		return nil
	}
	fs, dir := p.e.cfg.FS, p.dir()
	if err := segment.WriteLeaderEpochs(fs, dir, epochs); err != nil {
		return err
	}
	if len(p.flushed.byID) == 0 {
		return nil
	}
	if err := p.removeSnapshots(); err != nil {
		return err
	}
	return segment.WriteProducerSnapshot(fs, dir, end, p.flushed.snapshot())
}

// removeSnapshots removes the producer snapshots of earlier stops.
func (p *Partition) removeSnapshots() error {
	fs, dir := p.e.cfg.FS, p.dir()
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if at, suffix, ok := segment.ParseFileName(name); ok && suffix == ".snapshot" {
			if err := segment.RemoveProducerSnapshot(fs, dir, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// abandon ends what is left without writing anything but what the wal already took. Its error is that of the wal, if it could not.
func (e *Engine) abandon() error {
	e.cancel(ErrClosed)
	e.work.Wait()
	var err error
	if e.log != nil {
		err = e.walError(e.log.Close())
	}
	for p := range e.Partitions() {
		p.flushMu.Lock()
		p.close()
		p.flushMu.Unlock()
	}
	if err := e.files.Close(); err != nil {
		e.cfg.Logger.Warn("close segment files", "err", err)
	}
	e.pool.Close()
	return err
}
