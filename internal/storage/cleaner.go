package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ottlaio/ottla/internal/base"
)

// CleanerConfig says how logs are compacted. A zero field stands for its documented default.
type CleanerConfig struct {
	Threads        int           // log.cleaner.threads: partitions at a time; default 1, negative = none
	BufferBytes    int64         // log.cleaner.dedupe.buffer.size: for the keys of all threads; default 128 MiB
	LoadFactor     float64       // log.cleaner.io.buffer.load.factor: how full the table of keys may get; default 0.9
	BytesPerSecond float64       // log.cleaner.io.max.bytes.per.second: read and written by all threads; 0 = no limit
	Backoff        time.Duration // log.cleaner.backoff.ms: between looks when there was nothing to do; default 15 s
}

func (c CleanerConfig) withDefaults() CleanerConfig {
	c.Threads = cmp.Or(c.Threads, 1)
	c.BufferBytes = cmp.Or(c.BufferBytes, 128<<20)
	c.LoadFactor = cmp.Or(c.LoadFactor, 0.9)
	if c.BytesPerSecond <= 0 {
		c.BytesPerSecond = math.MaxFloat64
	}
	c.Backoff = cmp.Or(c.Backoff, 15*time.Second)
	return c
}

// cleanerState is what a partition knows of its compaction. Guarded by Partition.mu.
type cleanerState struct {
	// cleanedTo is where the dirty part begins: before it, no key has two records, unless a round ended early.
	cleanedTo base.Offset
	forgotten base.Offset // see Partition.Forgotten
	swaps     uint64      // number of the last one
	// checkpointed is the end of the segments that a durable checkpoint lists as sealed. Others are not touched.
	checkpointed base.Offset
	running      *runningRound
	uncleanable  bool // told, and left alone until the next start
}

// runningRound lets others end a round, and wait for it.
type runningRound struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// cleanJob is what a round is about, as of one moment.
type cleanJob struct {
	p        *Partition
	config   LogConfig
	segments []dirtySegment // all up to bound
	first    base.Offset    // where the dirty part begins
	bound    base.Offset    // where it ends
	ratio    float64        // of dirty bytes
}

// dirtySegment is a segment and the offset at which it ends.
type dirtySegment struct {
	*segmentRef
	end base.Offset
}

// SetCleaner changes how logs are compacted, from the next round on. A pause that is under way begins anew.
func (e *Engine) SetCleaner(c CleanerConfig) {
	c = c.withDefaults()
	e.cleanerConfig.Store(&c)
	select {
	case e.cleanerSet <- struct{}{}:
	default:
	}
}

// runCleaner compacts what is due, looking every log.cleaner.backoff.ms.
func (e *Engine) runCleaner() {
	for {
		timer := time.NewTimer(e.cleanerConfig.Load().Backoff)
		select {
		case <-e.ctx.Done():
			timer.Stop()
			return
		case <-e.cleanerSet:
			timer.Stop()
			continue
		case <-timer.C:
		}
		if err := e.Compact(e.ctx); err != nil && e.ctx.Err() == nil {
			e.fail(err)
		}
	}
}

// Compact compacts what is due now, the dirtiest partitions first, until nothing is. It returns ctx's cause, or an error of writing.
func (e *Engine) Compact(ctx context.Context) error {
	var stopped sync.Map // of *Partition: those whose round came to no end, for the next call
	for {
		made, err := e.compactOnce(ctx, &stopped)
		if err != nil || !made {
			return err
		}
	}
}

// compactOnce makes one round of each partition that is due.
func (e *Engine) compactOnce(ctx context.Context, stopped *sync.Map) (made bool, err error) {
	c := e.cleanerConfig.Load()
	jobs, jobCtx := errgroup.WithContext(ctx)
	jobs.SetLimit(max(c.Threads, 1))
	pace := e.newPacer(max(c.Threads, 1))
	tried := map[*Partition]bool{}
	stopped.Range(func(p, _ any) bool {
		tried[p.(*Partition)] = true
		return true
	})
	for c.Threads > 0 && jobCtx.Err() == nil {
		job, ok := e.dirtiest(tried)
		if !ok {
			break
		}
		tried[job.p], made = true, true
		jobs.Go(func() error {
			done, err := e.cleanPartition(jobCtx, job, pace())
			if !done {
				stopped.Store(job.p, true)
			}
			return err
		})
	}
	if err := jobs.Wait(); err != nil {
		return made, err
	}
	return made, context.Cause(ctx)
}

// newPacer shares log.cleaner.io.max.bytes.per.second between threads.
func (e *Engine) newPacer(threads int) func() *pacer {
	limit := func() float64 { return e.cleanerConfig.Load().BytesPerSecond / float64(threads) }
	return func() *pacer { return &pacer{e: e, limit: limit, began: time.Now()} }
}

// dirtiest finds the partition with the greatest share of dirty bytes among those that are due. Where only a checkpoint is missing it asks
// for one.
func (e *Engine) dirtiest(tried map[*Partition]bool) (best cleanJob, ok bool) {
	now := e.now()
	for p := range e.Partitions() {
		if tried[p] {
			continue
		}
		job, due, early := p.cleanable(now)
		if early {
			e.kickCheckpoint()
		}
		if due && (!ok || job.ratio > best.ratio) {
			best, ok = job, true
		}
	}
	return best, ok
}

// cleanable looks whether the partition is due, as Kafka's LogCleanerManager does. early says that it would be if a checkpoint had come
// since its segments were sealed.
func (p *Partition) cleanable(now time.Time) (job cleanJob, due, early bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.cleaner
	if !p.config.Compact || p.deleted || c.running != nil || c.uncleanable || p.flushing == 0 {
		return cleanJob{}, false, false
	}
	stable, _ := p.stableLocked()
	job = cleanJob{p: p, config: p.config, first: max(c.cleanedTo, p.logStart)}
	var clean, dirty, sealedDirty int64
	oldest := int64(math.MaxInt64)
	for i, s := range p.segments[:p.flushing] {
		end := p.segments[i+1].base
		if end > stable || p.config.MinLag > 0 && s.maxTimestamp > now.Add(-p.config.MinLag).UnixMilli() && end > job.first {
			break
		}
		size := s.dataEnd(p.segmentEndLocked(i)) - s.start
		listed := end <= c.checkpointed
		switch {
		case end <= job.first:
			clean += size
		default:
			sealedDirty += size
			if s.firstTimestamp > 0 {
				oldest = min(oldest, s.firstTimestamp)
			}
			if listed {
				dirty += size
			}
		}
		if listed {
			job.segments = append(job.segments, dirtySegment{s, end})
			job.bound = end
		}
	}
	late := p.config.MaxLag > 0 && oldest < now.Add(-p.config.MaxLag).UnixMilli()
	isDue := func(dirty int64) bool {
		return dirty > 0 && (late || float64(dirty)/float64(clean+dirty) > p.config.MinDirtyRatio)
	}
	if dirty > 0 {
		job.ratio = float64(dirty) / float64(clean+dirty)
	}
	if !isDue(dirty) {
		return job, false, isDue(sealedDirty)
	}
	if len(p.damage) > 0 && p.damagedBeforeLocked(p.segments[len(job.segments)].start) {
		c.uncleanable = true
		p.e.cfg.Logger.Warn("a log is not compacted, because it is damaged", "topic", p.topic, "partition", p.id.Partition)
		return job, false, false
	}
	return job, true, false
}

// groups cuts the segments that begin before upto into runs that will make one segment each, as Kafka does.
func (j *cleanJob) groups(upto base.Offset) [][]dirtySegment {
	var groups [][]dirtySegment
	var size int64
	var index, times int
	for _, s := range j.segments {
		if s.base >= upto {
			break
		}
		var bytes int64
		var i, t int
		if s.seg != nil {
			st := s.seg.State()
			bytes, i, t = st.Size, int(st.Index.Entries), int(st.TimeIndex.Entries)
		}
		n := len(groups)
		if n == 0 || size+bytes > j.config.SegmentBytes || (index+i)*8 > j.config.SegmentIndex || (times+t)*timeIndexEntrySize > j.config.SegmentIndex ||
			int64(s.end-groups[n-1][0].base) > math.MaxInt32 {
			groups = append(groups, nil)
			size, index, times = 0, 0, 0
			n++
		}
		groups[n-1] = append(groups[n-1], s)
		size, index, times = size+bytes, index+i, times+t
	}
	return groups
}

// cleanPartition makes a round. Only errors of writing are returned; whatever else goes wrong is told, and costs this partition its
// compaction.
func (e *Engine) cleanPartition(ctx context.Context, job cleanJob, pace *pacer) (done bool, err error) {
	p := job.p
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running := &runningRound{cancel: cancel, done: make(chan struct{})}
	p.mu.Lock()
	if p.cleaner.running != nil || p.deleted {
		p.mu.Unlock()
		return false, nil
	}
	p.cleaner.running = running
	p.mu.Unlock()
	began := time.Now()
	r := &round{p: p, ctx: ctx, pace: pace, job: job, now: e.now().UnixMilli()}
	err = r.withKeys(e.cleanerConfig.Load(), r.run)
	p.mu.Lock()
	p.cleaner.running = nil
	p.mu.Unlock()
	close(running.done)
	switch {
	case err == nil:
		e.cfg.Logger.Info("log compacted", "topic", p.topic, "partition", p.id.Partition, "from", job.first, "to", r.upto,
			"keys", r.keys.used, "read_bytes", r.read, "written_bytes", r.written, "took", time.Since(began))
		return true, nil
	case ctx.Err() != nil, p.usable() != nil, errors.Is(err, errOvertaken):
		return false, nil
	case noSpace(err):
		e.cfg.Logger.Warn("no space to compact a log", "topic", p.topic, "partition", p.id.Partition, "err", err)
		return false, nil
	case errors.As(err, new(compactWrite)):
		return false, fmt.Errorf("compact %v: %w", p, err)
	}
	p.mu.Lock()
	p.cleaner.uncleanable = true
	p.mu.Unlock()
	e.cfg.Logger.Error("a log can not be compacted, and is left alone until the next start", "topic", p.topic, "partition", p.id.Partition, "err", err)
	return false, nil
}

// withKeys runs f with memory for the keys of the dirty part, or as many as a thread's share of the buffer holds.
func (r *round) withKeys(c *CleanerConfig, f func() error) (err error) {
	records := int64(r.job.bound - r.job.first)
	if r.keys, err = newKeyMap(records, c.BufferBytes/int64(max(c.Threads, 1)), c.LoadFactor); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.keys.close()) }()
	return f()
}

// usable says why the partition can not be used, if so.
func (p *Partition) usable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.usableLocked()
}

// stopCleaning ends a round that is under way, and waits for it.
func (p *Partition) stopCleaning() {
	p.mu.Lock()
	running := p.cleaner.running
	p.mu.Unlock()
	if running != nil {
		running.cancel(ErrDeleted)
		<-running.done
	}
}
