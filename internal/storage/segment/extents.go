package segment

import (
	"container/list"
	"sync"
)

const (
	// extentBlocks is the largest extent, and what one direct read brings at most: the blocks that a MiB of a log touches, as much as
	// consumers ask for by default (max.partition.fetch.bytes).
	extentBlocks = 1<<20/BlockSize + 1
	extentSize   = extentBlocks * BlockSize
	// extentBytes bounds the extents that are kept: one for each of so many readers that catch up at the same time.
	extentBytes = 16 << 20
	// borrowedBytes bounds all large extents, kept or in use by readers. Beyond it a reader gets a block at a time, so that a
	// thousand slow consumers hold a block each.
	borrowedBytes = 64 << 20
)

// extents is a cache of verified blocks.
type extents struct {
	mu     sync.Mutex // guards the fields below and the users of extents
	blocks map[blockKey]*extent
	recent list.List // of *extent, most recently used first
	bytes  int64
	live   int64 // bytes of all extents, kept or in use
	large  arenas
}

type blockKey struct {
	segment *Segment
	block   int64
}

// extent is a run of verified blocks. Its data does not change while it has users.
type extent struct {
	segment *Segment
	first   int64         // number of its first block
	data    []byte        // its capacity is that of the buffer
	arena   *arena        // that the buffer is of, nil for one of a block
	users   int           // readers, and the cache while it keeps it
	place   *list.Element // in recent while the cache keeps it
}

func (e *extent) pos() int64 { return e.first * BlockSize }

// newExtent returns an extent with room for blocks, which the caller fills and then keeps or releases.
func (c *FileCache) newExtent(s *Segment, first, blocks int64) *extent {
	e := &extent{segment: s, first: first, users: 1}
	if blocks == 1 {
		e.data = c.blockBuffer()
	}
	c.extents.mu.Lock()
	defer c.extents.mu.Unlock()
	if blocks > 1 {
		e.data, e.arena = c.extents.large.take()
	}
	c.extents.live += int64(cap(e.data))
	return e
}

// findExtent returns the extent that holds a block, for the caller to release. If there is none, blocks says how many to read: want,
// as much as an extent holds if that is little, ahead is set and the block before is there, or one when memory is short.
//
// Of what is much no more is read than is wanted now: the rest would have left the processor's caches by the time it is sent.
func (c *FileCache) findExtent(s *Segment, block, want int64, ahead bool) (e *extent, blocks int64) {
	x := &c.extents
	x.mu.Lock()
	defer x.mu.Unlock()
	if e = x.blocks[blockKey{s, block}]; e != nil {
		e.users++
		x.recent.MoveToFront(e.place)
		return e, 0
	}
	switch {
	case x.live+extentSize > borrowedBytes:
		return nil, 1
	case ahead && want < extentBlocks/2 && x.blocks[blockKey{s, block - 1}] != nil:
		return nil, extentBlocks
	}
	return nil, min(want, extentBlocks)
}

// keepExtent puts the whole blocks of e into the cache; the caller goes on using e and releases it as before.
func (c *FileCache) keepExtent(e *extent) {
	whole := int64(len(e.data) / BlockSize)
	if whole == 0 {
		return
	}
	x := &c.extents
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blocks == nil {
		x.blocks = map[blockKey]*extent{}
	}
	for n := e.first; n < e.first+whole; n++ {
		key := blockKey{e.segment, n}
		if old := x.blocks[key]; old != nil {
			c.dropExtentLocked(old)
		}
		x.blocks[key] = e
	}
	e.users++
	e.place = x.recent.PushFront(e)
	x.bytes += int64(cap(e.data))
	for x.bytes > extentBytes && x.recent.Len() > 1 {
		c.dropExtentLocked(x.recent.Back().Value.(*extent))
	}
}

// releaseExtent ends one use. exhausted says that its last bytes were read: of what is kept, it is needed least.
func (c *FileCache) releaseExtent(e *extent, exhausted bool) {
	x := &c.extents
	x.mu.Lock()
	defer x.mu.Unlock()
	if exhausted && e.place != nil {
		x.recent.MoveToBack(e.place)
	}
	c.unuseLocked(e)
}

func (c *FileCache) unuseLocked(e *extent) {
	e.users--
	if e.users == 0 {
		c.extents.live -= int64(cap(e.data))
		if e.arena != nil {
			c.extents.large.give(e.data, e.arena)
		} else {
			c.recycle(e.data)
		}
		e.data = nil
	}
}

// dropExtentLocked takes an extent out of the cache.
func (c *FileCache) dropExtentLocked(e *extent) {
	x := &c.extents
	for n := e.first; n < e.first+int64(len(e.data)/BlockSize); n++ {
		if key := (blockKey{e.segment, n}); x.blocks[key] == e {
			delete(x.blocks, key)
		}
	}
	x.recent.Remove(e.place)
	e.place = nil
	x.bytes -= int64(cap(e.data))
	c.unuseLocked(e)
}

// forgetExtents drops the extents of s.
func (c *FileCache) forgetExtents(s *Segment) {
	c.dropExtents(func(e *extent) bool { return e.segment == s })
}

// Trim drops all cached blocks, and the memory that they had. Meant for quiet times.
func (c *FileCache) Trim() {
	c.dropExtents(func(*extent) bool { return true })
	c.extents.mu.Lock()
	defer c.extents.mu.Unlock()
	c.extents.large.trim()
}

func (c *FileCache) dropExtents(which func(*extent) bool) {
	x := &c.extents
	x.mu.Lock()
	defer x.mu.Unlock()
	for at := x.recent.Front(); at != nil; {
		next := at.Next()
		if e := at.Value.(*extent); which(e) {
			c.dropExtentLocked(e)
		}
		at = next
	}
}
