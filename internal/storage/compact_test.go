package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

// The model of a compacted log: everything that was appended, in order, and what compaction may and must do to it.
type keyedLog struct {
	records []keyedRecord // offset is the index; markers too
	start   base.Offset
}

type keyedRecord struct {
	key, value string // value "" = a tombstone
	marker     bool
	aborted    bool
	open       bool // of a transaction without marker
	time       int64
}

// newest is, for each key, the offset of its newest committed record.
func (l *keyedLog) newest() map[string]base.Offset {
	newest := map[string]base.Offset{}
	for i, r := range l.records {
		if !r.marker && !r.aborted {
			newest[r.key] = base.Offset(i)
		}
	}
	return newest
}

// check reads the whole log and compares: the newest record of each key is there, unless it is a tombstone whose time has passed; what is
// there is at its offset, in order, as it was appended; of aborted transactions only those that read_committed leaves out are there; and
// between the log start and the end of the cleaned part there is no second record of a key. (The batch that the log starts in keeps what it has
// before the start: nobody is given that, and a round notes no keys of it.)
//
// A round that was cut short may have gone further than the partition knows, up to begun.
func (l *keyedLog) check(p *Partition, tombstonesStay bool, begun base.Offset) error {
	seen := map[base.Offset]bool{}
	from := max(l.start, p.Offsets().LogStart)
	p.mu.Lock()
	cleanedTo := p.cleaner.cleanedTo
	p.mu.Unlock()
	first := from
	if end := p.Offsets().LogEnd; end != base.Offset(len(l.records)) {
		return fmt.Errorf("the log ends at %d, want %d", end, len(l.records))
	}
	markers := 0
	for from < p.Offsets().HighWatermark {
		s, err := p.Read(from, ReadOptions{MaxBytes: 3000, AtLeastOne: true})
		if err != nil {
			return err
		}
		if s.Len() == 0 {
			break
		}
		aborted, err := p.Aborted(s, from)
		if err != nil {
			return err
		}
		b, err := s.Bytes()
		if err != nil {
			return err
		}
		for len(b) > 0 {
			var batch []byte
			if batch, b, err = record.Next(b); err != nil {
				return err
			}
			if err := record.VerifyCRC(batch); err != nil {
				return err
			}
			h, _ := record.ParseHeader(batch)
			if h.LastOffset() < from {
				return fmt.Errorf("batch %d..%d when %d was next", h.BaseOffset, h.LastOffset(), from)
			}
			from = h.LastOffset() + 1
			for r, err := range record.Records(batch, record.DefaultDecompressLimit) {
				if err != nil {
					return err
				}
				if seen[r.Offset] {
					return fmt.Errorf("offset %d twice", r.Offset)
				}
				seen[r.Offset] = true
				want := l.records[r.Offset]
				if h.Attributes.Control() {
					if !want.marker {
						return fmt.Errorf("a marker at offset %d", r.Offset)
					}
					markers++
					continue
				}
				if want.key != string(r.Key) || want.value != string(r.Value) || want.time != r.Timestamp {
					return fmt.Errorf("offset %d is %s=%s at %d, want %+v", r.Offset, r.Key, r.Value, r.Timestamp, want)
				}
				listed := false
				for _, a := range aborted {
					listed = listed || a.ProducerID == h.ProducerID && a.FirstOffset <= r.Offset && r.Offset <= a.LastOffset
				}
				if h.Attributes.Transactional() && want.aborted != listed && !want.open {
					return fmt.Errorf("offset %d: aborted %t, listed %t", r.Offset, want.aborted, listed)
				}
			}
		}
	}
	newest := l.newest()
	for key, at := range newest {
		if at >= first && !seen[at] && (l.records[at].value != "" || tombstonesStay) {
			return fmt.Errorf("the newest record of %s, at offset %d, is gone", key, at)
		}
	}
	bound := map[string]base.Offset{}
	for i, r := range l.records[:min(int(cleanedTo), len(l.records))] {
		if !r.marker && !r.aborted {
			bound[r.key] = base.Offset(i)
		}
	}
	for i, r := range l.records {
		at := base.Offset(i)
		if at >= first && at < cleanedTo && seen[at] && !r.marker && at < bound[r.key] {
			return fmt.Errorf("offset %d of %s is there still, and so is %d; cleaned to %d", at, r.key, bound[r.key], cleanedTo)
		}
		if r.aborted && at < cleanedTo && seen[at] {
			return fmt.Errorf("offset %d of an aborted transaction is there still; cleaned to %d", at, cleanedTo)
		}
		if at >= max(cleanedTo, begun, first) && !seen[at] && !r.aborted {
			return fmt.Errorf("offset %d is gone, though only %d was cleaned", at, cleanedTo)
		}
		if at < first || seen[at] {
			continue
		}
		ts, ok, err := p.OffsetForTimestamp(r.time)
		if err != nil || ok && ts.Timestamp < r.time {
			return fmt.Errorf("OffsetForTimestamp(%d) = %+v, %t, %w", r.time, ts, ok, err)
		}
	}
	return nil
}

// compactRun is a random workload over one compacted partition.
type compactRun struct {
	t     testing.TB
	rng   *rand.Rand
	fs    *crashfs.FS
	cfg   Config
	spec  PartitionSpec
	e     *Engine
	p     *Partition
	log   *keyedLog
	codec record.Codec
	keys  int
	txns  [2]modelTxn
	opens [2][]int // records of the open transactions
	seq   int32    // of the idempotent producer

	tombstonesGo bool // their time is short
	lossesSeen   int
}

func newCompactRun(t testing.TB, seed uint64) *compactRun {
	rng := rand.New(rand.NewPCG(seed, 7))
	r := &compactRun{t: t, rng: rng, fs: newFS(t), log: &keyedLog{}, codec: record.Codec(rng.IntN(5)), keys: 1 + rng.IntN(40)}
	r.spec = testSpec('a', 0, LogConfig{
		SegmentBytes: int64(1000 + rng.IntN(8000)), IndexInterval: 300, Compact: true, DeleteRetention: time.Hour, MinDirtyRatio: 0.1,
		FileDeleteDelay: time.Duration(rng.IntN(2)) * time.Hour,
	})
	r.cfg = testConfig(r.fs, r.spec)
	r.cfg.Cleaner = CleanerConfig{Backoff: time.Hour}
	if rng.IntN(2) == 0 {
		r.cfg.Cleaner.BufferBytes = int64(60 * keySlotBytes) // so that a round comes to an end before the dirty part does
		r.keys = 200
	}
	r.fs.SetFragile(func(path string) bool { return strings.HasSuffix(path, ".log") })
	r.open()
	return r
}

func (r *compactRun) open() {
	r.e = open(r.t, r.cfg)
	r.p = partition(r.t, r.e, r.spec.ID)
	r.cfg.LeaderEpoch++
}

// append appends a batch of a random kind and tells the model; or it ends a transaction.
func (r *compactRun) append() {
	o := record.BuilderOptions{Codec: r.codec}
	kind := r.rng.IntN(4) - 2 // -2, -1: no producer or an idempotent one; 0, 1: a transaction
	idempotent := kind == -1
	n := 1 + r.rng.IntN(6)
	which := max(kind, 0)
	switch {
	case idempotent:
		o.Producer = &record.Producer{ID: 50, Epoch: 1, BaseSequence: r.seq}
		r.seq += int32(n)
	case kind >= 0:
		txn := &r.txns[which]
		if txn.open && r.rng.IntN(2) == 0 {
			r.end(which)
			return
		}
		o.Producer = &record.Producer{ID: base.ProducerID(200 + which), Epoch: txn.epoch, BaseSequence: txn.sequence}
		o.Transactional = true
		txn.open, txn.sequence = true, txn.sequence+int32(n)
	}
	b := record.NewBuilder(o)
	for range n {
		at := len(r.log.records)
		rec := keyedRecord{key: fmt.Sprintf("key-%d", r.rng.IntN(r.keys)), time: testTime + int64(at)}
		var v []byte
		if r.rng.IntN(5) > 0 {
			rec.value = fmt.Sprintf("value-%d-%s", at, value(at, r.rng.IntN(100)))
			v = []byte(rec.value)
		}
		if kind >= 0 {
			rec.open = true
			r.opens[which] = append(r.opens[which], at)
		}
		r.log.records = append(r.log.records, rec)
		b.Append(rec.time, []byte(rec.key), v)
	}
	batch := b.Build(0)
	h, err := record.ParseHeader(batch)
	if err != nil {
		r.t.Fatal(err)
	}
	var v Verification
	if kind >= 0 {
		v, _ = r.p.Verify(h, true)
	}
	at, err := r.p.Append(r.t.Context(), batch, h, AppendOptions{Verified: v})
	r.wait(at, err)
	if at.Last != base.Offset(len(r.log.records)-1) {
		r.t.Fatalf("appended to %d, the model ends at %d", at.Last, len(r.log.records)-1)
	}
}

func (r *compactRun) wait(at Appended, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.e.Wait(r.t.Context(), at.Sequence); err != nil {
		r.t.Fatal(err)
	}
}

// end ends a transaction.
func (r *compactRun) end(which int) {
	txn := &r.txns[which]
	txn.epoch++
	commit := r.rng.IntN(2) == 0
	for _, at := range r.opens[which] {
		r.log.records[at].open, r.log.records[at].aborted = false, !commit
	}
	r.opens[which] = nil
	m := Marker{ProducerID: base.ProducerID(200 + which), ProducerEpoch: txn.epoch, Commit: commit, TransactionVersion: 2}
	txn.open, txn.sequence = false, 0
	now := testTime + int64(len(r.log.records))
	r.log.records = append(r.log.records, keyedRecord{marker: true, time: now})
	r.wait(r.p.AppendMarker(r.t.Context(), m, now))
}

// compact makes a checkpoint, so that there is something to compact, and compacts.
func (r *compactRun) compact() {
	checkpointFlushed(r.t, r.p)
	images := r.losses()
	if err := r.e.Compact(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	if r.rng.IntN(2) == 0 { // and what was replaced is unlinked; else only the wal knows of the swaps
		if err := r.e.Checkpoint(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, image := range images() {
		r.checkLoss(image)
	}
	if r.p.cleaner.uncleanable {
		r.t.Fatal("it is not to be compacted any more")
	}
}

// losses takes images of what a loss of power would leave at writes and syncs of a compaction, in which nothing is appended, until it is
// called for them.
func (r *compactRun) losses() func() []*crashfs.FS {
	var mu sync.Mutex
	var images []*crashfs.FS
	rng := rand.New(rand.NewPCG(r.rng.Uint64(), 1))
	seen := 0
	r.fs.SetHook(func(crashfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		seen++
		if len(images) < maxLosses {
			images = append(images, r.fs.CrashImageKeeping(rng, rng.IntN(101)))
		} else if i := rng.IntN(seen); i < maxLosses {
			images[i] = r.fs.CrashImageKeeping(rng, rng.IntN(101))
		}
	})
	return func() []*crashfs.FS {
		r.fs.SetHook(nil)
		mu.Lock()
		defer mu.Unlock()
		return images
	}
}

// maxLosses is how many images of one compaction are looked at.
const maxLosses = 8

// checkLoss opens an image, and compacts what is left to compact.
func (r *compactRun) checkLoss(image *crashfs.FS) {
	cfg := r.cfg
	cfg.FS = image
	e, err := Open(context.Background(), cfg)
	if err != nil {
		r.t.Fatalf("open after a loss of power: %v", err)
	}
	defer kill(e)
	p := partition(r.t, e, r.spec.ID)
	if d := e.Damage(); len(d) > 0 {
		r.t.Fatalf("damage after a loss of power: %+v", d)
	}
	if err := r.log.check(p, !r.tombstonesGo, r.p.cleaner.cleanedTo); err != nil {
		r.t.Fatalf("after a loss of power: %v", err)
	}
	if err := errors.Join(e.Checkpoint(context.Background()), e.Compact(context.Background())); err != nil {
		r.t.Fatal(err)
	}
	if err := r.log.check(p, !r.tombstonesGo, r.p.cleaner.cleanedTo); err != nil {
		r.t.Fatalf("compacted again after a loss of power: %v", err)
	}
	r.lossesSeen++
}

func (r *compactRun) run(ops int) {
	for op := range ops {
		var held []heldSlice
		switch k := r.rng.IntN(100); {
		case k < 80:
			r.append()
		case k < 90:
			held = r.hold()
			r.compact()
		case k < 92:
			to := r.log.start + base.Offset(r.rng.Int64N(int64(len(r.log.records))-int64(r.log.start)+1)/4)
			if _, seq, err := r.p.DeleteRecords(r.t.Context(), to); err != nil {
				r.t.Fatal(err)
			} else if err := r.e.Wait(r.t.Context(), seq); err != nil {
				r.t.Fatal(err)
			}
			r.log.start = to
		case k < 94:
			r.p.forgetFlushed()
		default:
			r.restart()
		}
		for _, h := range held {
			if got, err := h.slice.Bytes(); err != nil || string(got) != string(h.bytes) {
				r.t.Fatalf("op %d: a slice that was held over a compaction: %d bytes, %v; want %d", op, len(got), err, len(h.bytes))
			}
		}
		if op%10 == 9 {
			if err := r.log.check(r.p, true, 0); err != nil {
				r.t.Fatalf("op %d: %v", op, err)
			}
		}
	}
}

// heldSlice is one that a slow consumer has not read yet.
type heldSlice struct {
	slice Slice
	bytes []byte
}

func (r *compactRun) hold() []heldSlice {
	var held []heldSlice
	o := r.p.Offsets()
	for from := o.LogStart; from < o.HighWatermark && len(held) < 20; {
		s, err := r.p.Read(from, ReadOptions{MaxBytes: 2000, AtLeastOne: true})
		if err != nil {
			r.t.Fatal(err)
		}
		if s.Len() == 0 {
			break
		}
		b, err := s.Bytes()
		if err != nil {
			r.t.Fatalf("slice at %d of %d..: %d bytes of layout %d: %v", s.pos, from, s.n, s.layout, err)
		}
		held = append(held, heldSlice{s, b})
		next, err := nextOffset(b)
		if err != nil {
			r.t.Fatal(err)
		}
		from = next
	}
	return held
}

func (r *compactRun) restart() {
	r.p.mu.Lock()
	before := r.p.cleaner
	r.p.mu.Unlock()
	if r.rng.IntN(2) == 0 {
		closeEngine(r.t, r.e)
	} else {
		r.append() // a later group than the last swap's is durable, and so is that
		kill(r.e)
	}
	r.open()
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if after := r.p.cleaner; after.cleanedTo != before.cleanedTo || after.swaps != before.swaps || after.forgotten != before.forgotten {
		r.t.Fatalf("after a start the cleaner's state is %+v, before it was %+v", after, before)
	}
}

// TestCompactionKeepsTheNewestOfEachKey is the proof of compaction: random workloads with transactions, tombstones, crashes and slices that
// are held across it, against a model.
func TestCompactionKeepsTheNewestOfEachKey(t *testing.T) {
	t.Parallel()
	seeds, seed := proof.Times(t, 12, 48, 2000), proof.Seed(t)
	if raceEnabled {
		seeds = min(seeds, 3)
	}
	row := proof.Start(t, "compaction", "workloads", seed)
	losses := 0
	for i := range seeds {
		t.Run(fmt.Sprintf("SEED=%d", seed+uint64(i)), func(t *testing.T) {
			r := newCompactRun(t, seed+uint64(i))
			r.run(300)
			closeEngine(t, r.e)
			row.Tried(1)
			losses += r.lossesSeen
		})
	}
	row.Note("and %d losses of power while they compact", losses)
}

func TestTombstonesAndMarkersGoAfterTheirTime(t *testing.T) {
	t.Parallel()
	r := newCompactRun(t, 3)
	c := r.spec.Config
	c.DeleteRetention, r.tombstonesGo = 0, true
	c.SegmentBytes = 800
	r.e.SetConfig(r.spec.ID.ID, c)
	for range 3 {
		for range 40 {
			r.append()
		}
		for which := range r.txns {
			if r.txns[which].open {
				r.end(which)
			}
		}
		time.Sleep(2 * time.Millisecond) // the horizon is the clock's
		r.compact()
		if err := r.log.check(r.p, false, 0); err != nil {
			t.Fatal(err)
		}
	}
	if r.p.Forgotten() == 0 {
		t.Fatal("no tombstone has gone")
	}
}

// openForTombstones opens an engine with one compacted partition, of small segments, that keeps tombstones.
func openForTombstones(t *testing.T) (Config, *Partition) {
	t.Helper()
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 700, IndexInterval: 300, Compact: true, DeleteRetention: 300 * 24 * time.Hour})
	cfg := testConfig(newFS(t), spec)
	cfg.Cleaner.Backoff = time.Hour
	return cfg, partition(t, open(t, cfg), spec.ID)
}

// appendTombstones appends a batch of tombstones of keys that only i decides. Compaction adds to each batch when they were deleted, so that it
// grows.
func appendTombstones(t *testing.T, p *Partition, i int) {
	t.Helper()
	b := record.NewBuilder(record.BuilderOptions{})
	for k := range 20 {
		b.Append(testTime+int64(i), fmt.Appendf(nil, "%d-%d", i, k), nil)
	}
	appendDurable(t, p, b)
}

// checkpointFlushed makes a checkpoint that covers all of p, so that there is something to compact.
func checkpointFlushed(t testing.TB, p *Partition) {
	t.Helper()
	if err := errors.Join(p.flush(1), p.e.Checkpoint(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func TestASegmentThatGrowsMovesThoseBeforeIt(t *testing.T) {
	t.Parallel()
	cfg, p := openForTombstones(t)
	e := p.e
	for i := range 20 {
		appendTombstones(t, p, i)
	}
	checkpointFlushed(t, p)
	held, err := p.Read(0, ReadOptions{MaxBytes: 600, AtLeastOne: true})
	if err != nil {
		t.Fatal(err)
	}
	was, err := held.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	before := p.SizeBytes()
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.SizeBytes() <= before {
		t.Fatalf("%d bytes after %d: it did not grow", p.SizeBytes(), before)
	}
	if got, err := held.Bytes(); err != nil || string(got) != string(was) {
		t.Fatalf("a slice from before: %d bytes, %v", len(got), err)
	}
	all, err := readAll(p, 0, 1000)
	if err != nil || int64(len(all)) != p.SizeBytes() {
		t.Fatalf("%d bytes, %v; want %d", len(all), err, p.SizeBytes())
	}
	kill(e)
	e = open(t, cfg)
	again, err := readAll(partition(t, e, p.id), 0, 1000)
	if err != nil && !errors.Is(err, io.EOF) || string(again) != string(all) {
		t.Fatalf("after a kill: %d bytes, %v; want %d", len(again), err, len(all))
	}
}

// The first segment grows, so that it begins before position zero, and then loses all of its records.
func TestASegmentBeforePositionZeroIsEmptied(t *testing.T) {
	t.Parallel()
	_, p := openForTombstones(t)
	e := p.e
	for range 2 {
		for i := range 6 {
			appendTombstones(t, p, i)
		}
		checkpointFlushed(t, p)
		if err := e.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p.mu.Lock()
	first := p.segments[0]
	p.mu.Unlock()
	if first.start >= 0 || first.seg != nil {
		t.Fatalf("the first segment begins at %d and is empty: %t", first.start, first.seg == nil)
	}
	all, err := readAll(p, 0, 1000)
	if err != nil || int64(len(all)) != p.SizeBytes() {
		t.Fatalf("%d bytes, %v; want %d", len(all), err, p.SizeBytes())
	}
	if _, ok, err := p.OffsetForTimestamp(testTime); err != nil || !ok {
		t.Fatalf("OffsetForTimestamp: %t, %v", ok, err)
	}
}

// TestWhatIsDueForCompaction has three segments of one batch each, a minute apart, the last active.
func TestWhatIsDueForCompaction(t *testing.T) {
	t.Parallel()
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 700, Compact: true, DeleteRetention: time.Hour})
	cfg := testConfig(newFS(t), spec)
	cfg.Cleaner.Backoff = time.Hour
	e := open(t, cfg)
	p := partition(t, e, spec.ID)
	var ends []base.Offset
	for i := range 3 { // a second batch does not fit into the segment of the first
		ends = append(ends, appendOfOneKey(t, p, i, time.Duration(i)*time.Minute).Last+1)
	}
	checkpointFlushed(t, p)
	for _, c := range []struct {
		minLag, maxLag time.Duration
		ratio          float64
		age            time.Duration // of the first record
		upTo           base.Offset   // 0: nothing is due
	}{
		{ratio: 0.5, upTo: ends[1]},
		{ratio: 1}, // everything is dirty, and that is not more than all
		{ratio: 1, maxLag: time.Hour, age: time.Hour},
		{ratio: 1, maxLag: time.Hour, age: time.Hour + time.Second, upTo: ends[1]},
		{minLag: time.Hour, age: time.Hour - time.Second},
		{minLag: time.Hour, age: time.Hour + time.Second, upTo: ends[0]},
		{minLag: time.Hour, age: time.Hour + 2*time.Minute, upTo: ends[1]},
		{minLag: time.Hour, maxLag: 2 * time.Hour, ratio: 1, age: time.Hour + 2*time.Minute},
		{minLag: time.Hour, maxLag: 2 * time.Hour, ratio: 1, age: 3 * time.Hour, upTo: ends[1]},
	} {
		config := spec.Config
		config.MinLag, config.MaxLag, config.MinDirtyRatio = c.minLag, c.maxLag, c.ratio
		e.SetConfig(spec.ID.ID, config)
		job, due, _ := p.cleanable(time.UnixMilli(testTime).Add(c.age))
		if due != (c.upTo != 0) || due && job.bound != c.upTo {
			t.Errorf("%+v: due %v, up to %d", c, due, job.bound)
		}
	}
}

// TestWhatARollEndsIsCompactedWithoutMoreAppends also changes the pause between looks while one is under way.
func TestWhatARollEndsIsCompactedWithoutMoreAppends(t *testing.T) {
	t.Parallel()
	spec := testSpec('a', 0, LogConfig{SegmentBytes: 700, Compact: true, DeleteRetention: time.Hour})
	cfg := testConfig(newFS(t), spec)
	cfg.Cleaner.Backoff = time.Hour
	e := open(t, cfg)
	p := partition(t, e, spec.ID)
	for i := range 2 { // the second batch does not fit into the segment of the first
		appendOfOneKey(t, p, i, time.Duration(i)*time.Millisecond)
	}
	before := p.SizeBytes()
	e.SetCleaner(CleanerConfig{Backoff: time.Millisecond})
	for deadline := time.Now().Add(time.Minute); p.SizeBytes() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was compacted")
		}
	}
}

// appendOfOneKey appends a batch of 20 records of one key, as old as testTime and after, and waits until it is durable.
func appendOfOneKey(t *testing.T, p *Partition, i int, after time.Duration) Appended {
	t.Helper()
	b := record.NewBuilder(record.BuilderOptions{})
	for range 20 {
		b.Append(testTime+after.Milliseconds(), []byte("key"), value(i, 20))
	}
	return appendDurable(t, p, b)
}

// appendDurable appends what b has built, and waits for it.
func appendDurable(t *testing.T, p *Partition, b *record.Builder) Appended {
	t.Helper()
	batch := b.Build(0)
	h, err := record.ParseHeader(batch)
	if err != nil {
		t.Fatal(err)
	}
	at, err := p.Append(t.Context(), batch, h, AppendOptions{})
	if err == nil {
		err = p.e.Wait(t.Context(), at.Sequence)
	}
	if err != nil {
		t.Fatal(err)
	}
	return at
}
