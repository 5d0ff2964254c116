package storage

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/segment"
	"github.com/ottlaio/ottla/internal/storage/tail"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// Engine is the storage of one broker: every partition it leads, their shared write-ahead log, and what writes behind.
// All methods are safe for concurrent use.
type Engine struct {
	cfg   Config
	pool  *tail.Pool
	files *segment.FileCache
	log   *wal.Log // nil while Open replays it

	ctx    context.Context // ends when Close or a failure stops the background work
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // the background goroutines

	closing atomic.Bool
	failure atomic.Pointer[error]
	failed  chan struct{}

	mu         sync.RWMutex // guards the fields below
	partitions map[base.TopicIDPartition]*Partition
	removals   []*pendingRemoval
	tombs      map[base.TopicID]wal.Sequence // deleted topics, and the last group that may name them
	orphans    []partitionRecord             // of the checkpoint, unknown to the metadata and kept as they are
	aside      []Damage                      // what was set aside
	// strayDamage are remembered ranges of partitions that the metadata does not know. Written by Open alone.
	strayDamage []damageRecord

	folders folderClaims

	// Making groups visible: see commit.go.
	wakeMu      sync.Mutex    // serialises Committed and guards waking, wake and committing
	waking      []*Watcher    //
	wake        uint64        // counts the calls of Committed
	committing  []*Partition  // spare memory for uncommitted
	commitMu    sync.Mutex    // guards uncommitted
	uncommitted []*Partition  // have entries in groups that are not yet durable
	committed   atomic.Uint64 // the last group that Committed was told of

	waiting   atomic.Int64 // bytes of batches that are not yet durable
	waitingIn atomic.Int64 // partitions that have some
	placed    atomic.Int64 // bytes of bodies since the last checkpoint
	roomless  atomic.Bool  // the file system can not take room for bodies

	flusher    *flusher
	flushAlone chan struct{} // holds a value while one flusher keeps the other waiting, as memory is plentiful
	diskFull   atomic.Bool   // the last flush or checkpoint found no room
	fullTold   atomic.Bool   // that a flush found no room was logged, and none has found room since
	stalled    stalledList
	syncsEach  atomic.Bool   // the file system cannot sync everything at once
	relief     chan struct{} // holds a value when relieve should look

	// Checkpoints: see checkpoint.go.
	checkpointMu sync.Mutex   // one at a time
	previous     wal.Sequence // first group after the last checkpoint began
	released     wal.Sequence // groups before it are gone
	kick         chan struct{}
	trigger      atomic.Int64 // live bytes of the wal at which the next checkpoint is due
	dirty        atomic.Bool  // something changed since the last
	unlinks      unlinkList

	cleanerConfig atomic.Pointer[CleanerConfig]
	cleanerSet    chan struct{} // holds a value when it was changed

	highestProducer atomic.Int64

	// The list of damaged ranges: see damage_file.go.
	damageMu    sync.Mutex    // one write at a time
	damageFound chan struct{} // holds a value when the list has changed
	damageLate  atomic.Bool   // the disk had no room for it
}

// Open opens the data folder: it reads the checkpoint, replays the wal since then, and starts the background work.
// It returns only when everything replayed is durable. ctx bounds opening only.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		cfg:        cfg,
		pool:       tail.NewPool(cfg.TailBytes),
		files:      segment.NewFileCache(cfg.OpenFiles),
		failed:     make(chan struct{}),
		partitions: make(map[base.TopicIDPartition]*Partition, len(cfg.Partitions)),
		tombs:      make(map[base.TopicID]wal.Sequence),
		flusher:    newFlusher(),
		flushAlone: make(chan struct{}, 1),
		kick:       make(chan struct{}, 1),
		relief:     make(chan struct{}, 1),

		cleanerSet:  make(chan struct{}, 1),
		damageFound: make(chan struct{}, 1),
	}
	e.highestProducer.Store(int64(base.NoProducerID))
	e.cleanerConfig.Store(&cfg.Cleaner)
	e.ctx, e.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := e.recover(ctx); err != nil {
		_ = e.abandon() // why it did not start tells more
		return nil, fmt.Errorf("open storage in %s: %w", cfg.Dir, err)
	}
	e.start()
	return e, nil
}

// start begins the background work.
func (e *Engine) start() {
	for range flushWorkers {
		e.goOwned(e.runFlusher)
	}
	e.goOwned(e.runCheckpoints)
	e.goOwned(e.runHousekeeping)
	e.goOwned(e.runRelief)
	e.goOwned(e.runCleaner)
	e.goOwned(e.runDamage)
	e.goOwned(e.watchWAL)
}

// goOwned runs f until it returns; Close waits for it.
func (e *Engine) goOwned(f func()) {
	e.work.Add(1)
	go func() {
		defer e.work.Done()
		f()
	}()
}

// watchWAL turns a failure of the wal into one of the engine.
func (e *Engine) watchWAL() {
	select {
	case <-e.log.Failed():
		e.fail(e.log.Err())
	case <-e.ctx.Done():
	}
}

// usable says why the engine takes no work, if so.
func (e *Engine) usable() error {
	if e.failure.Load() != nil || e.closing.Load() {
		return e.stopped()
	}
	return nil
}

// stopped is the error of work that came too late.
func (e *Engine) stopped() error {
	if err := e.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// fail gives up the state in memory: a write or sync has failed, so nobody knows what is on the disk until the folder is
// opened again.
func (e *Engine) fail(err error) {
	if !errors.Is(err, ErrFailed) {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	if !e.failure.CompareAndSwap(nil, &err) {
		return
	}
	e.cfg.Logger.Error("storage failed", "err", err)
	close(e.failed)
	e.cancel(err)
	e.wakeAll()
}

// wakeAll signals every watcher: what they wait for may never come.
func (e *Engine) wakeAll() {
	for p := range e.Partitions() {
		p.signalWatchers()
	}
}

// signalWatchers wakes all who watch p.
func (p *Partition) signalWatchers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.watchers {
		w.signal()
	}
}

// Failed is closed when a write or sync has failed. Err then says why.
func (e *Engine) Failed() <-chan struct{} { return e.failed }

// Err is the failure that stopped the engine, which wraps ErrFailed, or nil.
func (e *Engine) Err() error {
	if err := e.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// durable is the newest durable group; while the wal is replayed, all of it is.
func (e *Engine) durable() wal.Sequence {
	if e.log == nil {
		return math.MaxUint64
	}
	return e.log.Durable()
}

// LeaderEpoch is the epoch with which this broker leads all its partitions. It rises with each start.
func (e *Engine) LeaderEpoch() base.LeaderEpoch { return e.cfg.LeaderEpoch }

// Create adds a partition. It costs no file before its first flush. ErrExists if the id is known.
func (e *Engine) Create(spec PartitionSpec) (*Partition, error) {
	if err := e.usable(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.partitions[spec.ID]; ok {
		return nil, fmt.Errorf("create %s-%d: %w", spec.Topic, spec.ID.Partition, ErrExists)
	}
	p := e.newPartition(spec)
	p.lead()
	e.partitions[spec.ID] = p
	return p, nil
}

// newPartition returns an empty partition.
func (e *Engine) newPartition(spec PartitionSpec) *Partition {
	p := &Partition{
		e: e, id: spec.ID, topic: spec.Topic, tail: e.pool.NewTail(0),
		segments:  []*segmentRef{newSegmentRef(0, 0)},
		producers: producerTable{expiry: e.cfg.ProducerExpiry}, flushed: producerTable{expiry: e.cfg.ProducerExpiry},
	}
	p.configureLocked(spec.Config)
	return p
}

// lead begins the engine's leader epoch at the end of the log.
func (p *Partition) lead() { p.epochs = p.epochs.assign(p.e.cfg.LeaderEpoch, p.end) }

// configureLocked takes settings over.
func (p *Partition) configureLocked(c LogConfig) {
	p.config = c.withDefaults()
	p.jitter = 0
	if most := min(p.config.SegmentJitter, p.config.SegmentAge); most > 0 {
		h := fnv.New32a()
		h.Write(p.id.ID[:])
		h.Write([]byte{byte(p.id.Partition), byte(p.id.Partition >> 8)})
		p.jitter = time.Duration(h.Sum32()) * most / math.MaxUint32
	}
}

// Partition finds a partition by id.
func (e *Engine) Partition(id base.TopicIDPartition) (*Partition, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	p, ok := e.partitions[id]
	return p, ok
}

// Partitions ranges over the partitions that exist when it begins, in no order.
func (e *Engine) Partitions() iter.Seq[*Partition] {
	return func(yield func(*Partition) bool) {
		for _, p := range e.snapshot() {
			if !yield(p) {
				return
			}
		}
	}
}

// snapshot lists the partitions.
func (e *Engine) snapshot() []*Partition {
	e.mu.RLock()
	defer e.mu.RUnlock()
	all := make([]*Partition, 0, len(e.partitions))
	for _, p := range e.partitions {
		all = append(all, p)
	}
	return all
}

// SetConfig changes the settings of every partition of a topic.
func (e *Engine) SetConfig(id base.TopicID, c LogConfig) {
	for p := range e.Partitions() {
		if p.id.ID == id {
			p.mu.Lock()
			p.configureLocked(c)
			p.mu.Unlock()
		}
	}
}

// sawProducer raises the highest producer id.
func (e *Engine) sawProducer(id base.ProducerID) {
	for {
		seen := e.highestProducer.Load()
		if int64(id) <= seen || e.highestProducer.CompareAndSwap(seen, int64(id)) {
			return
		}
	}
}

// HighestProducerID is the highest producer id that any partition has ever seen, or NoProducerID. New blocks of producer ids
// must lie above it.
func (e *Engine) HighestProducerID() base.ProducerID {
	return base.ProducerID(e.highestProducer.Load())
}

// Damage lists the damaged ranges known so far, and what was set aside at Open.
func (e *Engine) Damage() []Damage {
	e.mu.RLock()
	all := slices.Clone(e.aside)
	e.mu.RUnlock()
	for p := range e.Partitions() {
		p.mu.Lock()
		for _, d := range p.damage {
			all = append(all, d.damage)
		}
		p.mu.Unlock()
	}
	return all
}

// reportDamage tells the operator.
func (e *Engine) reportDamage(d Damage) {
	e.cfg.Logger.Error("damaged data", "topic", d.Topic, "topic_id", d.Partition.ID, "partition", d.Partition.Partition,
		"offset", d.FirstOffset, "last_offset", d.LastOffset, "file", d.File, "pos", d.Pos, "bytes", d.Len, "reason", d.Reason)
}

// DiskUsage holds sizes in bytes.
type DiskUsage struct{ Total, Usable int64 }

// Usage tells about the disk under the data folder.
func (e *Engine) Usage() (DiskUsage, error) {
	u, err := e.cfg.FS.GetDiskUsage(e.cfg.Dir)
	if err != nil {
		return DiskUsage{}, fmt.Errorf("disk usage of %s: %w", e.cfg.Dir, err)
	}
	return DiskUsage{Total: clampInt64(u.TotalBytes), Usable: clampInt64(u.AvailBytes)}, nil
}

func clampInt64(u uint64) int64 { return int64(min(u, math.MaxInt64)) }

// discardLogger is the default of Config.Logger.
var discardLogger = slog.New(slog.DiscardHandler)
