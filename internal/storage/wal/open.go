package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// minFileBytes is the smallest file: a header and some groups.
const minFileBytes = 16 * minBlockBytes

// withDefaults fills in what is zero and clamps what does not fit together.
func (c Config) withDefaults() (Config, error) {
	if c.FS == nil || c.Dir == "" {
		return c, errors.New("wal config: FS and Dir are required")
	}
	if c.MaxBytes < 0 || c.FileBytes < 0 || c.FirstFileBytes < 0 || c.GroupBytes < 0 || c.PendingBytes < 0 || c.IdleMark < 0 || c.FullWait < 0 {
		return c, errors.New("wal config: sizes and durations must not be negative")
	}
	if c.Mode > UnsafeMemory {
		return c, fmt.Errorf("wal config: unknown mode %d", c.Mode)
	}
	setDefault(&c.MaxBytes, DefaultMaxBytes)
	setDefault(&c.FileBytes, DefaultFileBytes)
	setDefault(&c.FirstFileBytes, DefaultFirstFileBytes)
	setDefault(&c.GroupBytes, DefaultGroupBytes)
	setDefault(&c.PendingBytes, DefaultPendingBytes)
	setDefault(&c.IdleMark, DefaultIdleMark)
	setDefault(&c.FullWait, DefaultFullWait)
	setDefault(&c.SpareFiles, DefaultSpareFiles)
	if c.MaxBytes < 5*minFileBytes {
		return c, fmt.Errorf("wal config: MaxBytes is %d, the least is %d", c.MaxBytes, 5*minFileBytes)
	}
	c.FileBytes = max(minFileBytes, min(c.FileBytes, c.MaxBytes/5)) &^ (maxBlockBytes - 1)
	c.FirstFileBytes = max(minFileBytes, min(c.FirstFileBytes, c.FileBytes)) &^ (maxBlockBytes - 1)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Open recovers the wal in cfg.Dir and opens a new file to append to; an old one is never appended to.
//
// It calls replay for every entry of every durable group from `from` on, in order, and returns once what was replayed is known to be on
// stable storage. Groups before `from` count as released. The torn end of a wal that lost power is cut. Damage to what had been durable
// is a *CorruptError: see Config.OnDamage. An error of replay ends Open with it. If the folder holds no wal, the first group will be
// `from`, or 1; if it holds one that ends before from-1, Open returns ErrBeyond, unless that one was written in an unsafe mode: then
// its end was lost with the memory of the machine or the process, and the next group is `from`.
//
// The caller must see to it that a folder is opened once at a time.
func Open(ctx context.Context, cfg Config, from Sequence, replay func(Sequence, Entry) error) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make wal folder: %w", err)
	}
	if err := disk.SyncDir(cfg.FS, cfg.FS.PathDir(cfg.Dir)); err != nil {
		return nil, err
	}
	m := &folder{fs: cfg.FS, dir: cfg.Dir, synced: cfg.Mode == Synced && !plant.On(plant.SkipWALSync)}
	if err := m.discardUnfinished(); err != nil {
		return nil, err
	}
	r := &recovery{cfg: cfg, medium: m, logger: cfg.Logger, from: max(from, 1), replay: replay}
	err = r.run(ctx)
	r.closeFiles()
	if err != nil {
		return nil, err
	}
	return start(cfg, m, r)
}

// start opens the new file and starts the goroutines.
func start(cfg Config, m medium, r *recovery) (*Log, error) {
	l := &Log{
		cfg: cfg, medium: m, logger: cfg.Logger,
		failed: make(chan struct{}), over: make(chan struct{}), wakeW: make(chan struct{}, 1), wakeK: make(chan struct{}, 1),
		waits: map[Sequence]chan struct{}{},
	}
	if cfg.Mode == UnsafeMemory {
		l.wakeA = make(chan struct{}, 1)
	}
	l.written, l.writtenIn, l.writtenEnd = r.last, r.inFile, r.end
	l.noteSynced()
	l.durable.Store(uint64(r.last))

	first, err := l.firstFile(r)
	if err != nil {
		return nil, err
	}
	l.block = int64(max(minBlockBytes, first.f.Alignment()))
	l.headerBuf = alignedBuffer(l.block, l.block)
	if err := l.openNewest(); err != nil {
		return nil, errors.Join(err, first.f.Close())
	}
	if err := l.writeFileHeader(first); err != nil {
		return nil, errors.Join(err, first.f.Close(), l.newest.Close())
	}
	l.cfg.GroupBytes = int(max(l.block, min(int64(cfg.GroupBytes), cfg.FirstFileBytes/2)&^(l.block-1)))
	l.takeOver(r, first)
	l.beginLocked(r.last + 1)
	l.stats.Direct = first.f.Direct()
	if !l.stats.Direct {
		l.logger.Info("the wal's file system has no direct I/O; it is written through the page cache and synced", "dir", cfg.Dir)
	}

	l.done.Go(l.write)
	l.done.Go(l.keep)
	if l.wakeA != nil {
		l.done.Go(l.acknowledge)
	}
	signal(l.wakeK)
	return l, nil
}

// firstFile makes the file that this start appends to. It is small, as Open waits for it; on a full disk it is smaller still, so that
// the broker starts and serves what it has.
func (l *Log) firstFile(r *recovery) (*file, error) {
	number := uint64(1)
	if n := len(r.files); n > 0 {
		number = r.files[n-1].number + 1
	}
	for size := l.cfg.FirstFileBytes; ; size = max(size/4&^(maxBlockBytes-1), minFileBytes) {
		start := time.Now()
		h, err := l.medium.create(number, size, 0 /* floor */, neverPause)
		if err == nil {
			l.stats.FilesMade++
			l.stats.FillTime += time.Since(start)
			return &file{number: number, size: size, f: h, salt: newSalt(), first: r.last + 1}, nil
		}
		if !disk.IsNoSpace(err) {
			return nil, err
		}
		if size == minFileBytes {
			return l.reuseFirst(r, number, err)
		}
	}
}

// reuseFirst takes a file that holds nothing that is needed, when the disk has no room for a new one.
func (l *Log) reuseFirst(r *recovery, number uint64, full error) (*file, error) {
	i := slices.IndexFunc(r.files, func(x *foundFile) bool {
		return x.state != foreign && x.size >= minFileBytes && x.size%maxBlockBytes == 0 && !slices.Contains(r.chain, x)
	})
	if i < 0 {
		return nil, full
	}
	x := r.files[i]
	h, err := l.medium.reuse(x.number, number)
	if err != nil {
		return nil, errors.Join(full, err)
	}
	r.files = slices.Delete(r.files, i, i+1)
	l.stats.FilesReused++
	return &file{number: number, size: x.size, f: h, salt: newSalt(), first: r.last + 1}, nil
}

// takeOver puts the files that recovery found to where they belong.
func (l *Log) takeOver(r *recovery, first *file) {
	s := &l.space
	*s = space{
		groupBytes: int64(l.cfg.GroupBytes), fileBytes: l.cfg.FileBytes, maxPending: l.cfg.PendingBytes, block: l.block,
		keepSpares: l.cfg.SpareFiles,
		// The next start must have room for its first file.
		maxBytes: l.cfg.MaxBytes - l.cfg.FirstFileBytes,
		cur:      first, pos: l.block, lastNumber: first.number, allocated: first.size, released: r.from,
	}
	for _, x := range r.files {
		f := &file{number: x.number, size: x.size, first: x.h.first, last: x.lastSeq}
		switch {
		case x.state == foreign:
			continue // not ours to touch
		case slices.Contains(r.chain, x) && x.lastSeq >= r.from:
			s.live = append(s.live, f)
		default:
			s.retire(f)
		}
		s.allocated += x.size
	}
}

func alignedBuffer(size, align int64) []byte { return disk.AlignedBuffer(int(size), int(align)) }
