package storage

import (
	"fmt"
	"strings"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// The names in the data folder that are the engine's.
const (
	walFolder    = "wal"
	topicsFolder = "topics"
	asideFolder  = "set-aside"
)

func (e *Engine) path(name string) string { return e.cfg.FS.PathJoin(e.cfg.Dir, name) }
func (e *Engine) topicsDir() string       { return e.path(topicsFolder) }

// relative is a path without the data folder's in front.
func (e *Engine) relative(path string) string { return strings.TrimPrefix(path, e.path("")+"/") }

// folderOf is the name of a partition's folder in topics/.
func folderOf(topic string, partition int32) string { return fmt.Sprintf("%s-%d", topic, partition) }

// removedFolderOf is the name that the folder of a deleted partition gets while it waits to be unlinked.
func removedFolderOf(r removal) string {
	return fmt.Sprintf("%s.%s%s", folderOf(r.Topic, r.ID.Partition), r.ID.ID, removedSuffix)
}

const (
	removedSuffix = "-delete"
	strayedSuffix = "-stray" // of folders that stood in the place of another topic's
)

func (p *Partition) folderName() string { return folderOf(p.topic, p.id.Partition) }

func (p *Partition) dir() string {
	return p.e.cfg.FS.PathJoin(p.e.topicsDir(), p.folderName())
}

// segmentOptions says where the segment with a base offset lives.
func (p *Partition) segmentOptions(first base.Offset) segment.Options {
	p.mu.Lock()
	c := p.config
	p.mu.Unlock()
	return segment.Options{
		FS: p.e.cfg.FS, Dir: p.dir(), Base: first, IndexInterval: c.IndexInterval, IndexBytes: c.SegmentIndex,
		Files: p.e.files, Report: p.healed, GiveUp: func(d *segment.DamageError) error { return p.giveUpEnd(first, d) },
	}
}

// healed reports damage that did no harm.
func (p *Partition) healed(d *segment.DamageError) {
	p.e.cfg.Logger.Warn("damage repaired", "topic", p.topic, "partition", p.id.Partition, "offset", d.FirstOffset,
		"file", d.File, "pos", d.Pos, "bytes", d.Len, "reason", d.Reason)
}

// folderClaims holds the names of folders that still belong to deleted partitions, so that a partition of the same name must
// wait before it makes its own.
type folderClaims struct {
	mu    sync.Mutex
	names map[string]struct{}
}

func (f *folderClaims) claim(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names == nil {
		f.names = make(map[string]struct{})
	}
	f.names[name] = struct{}{}
}

func (f *folderClaims) release(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.names, name)
}

func (f *folderClaims) taken(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.names[name]
	return ok
}
