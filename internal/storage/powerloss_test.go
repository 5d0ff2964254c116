package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
	"github.com/ottlaio/ottla/internal/storage/wal"
)

// The power-loss test runs a workload on a file system that remembers what was synced. After each operation that wrote or synced
// anything it takes images of what a power loss at that moment could leave (see crashfs for the fault model), opens each, and
// compares what is there with a model:
//
//   - every record whose append was acknowledged is at its offset, once, with the bytes that were appended; an answer to a duplicate
//     acknowledges the original;
//   - what readers could see is there;
//   - the block of a segment that is rewritten in place may be destroyed by it, and nothing is lost;
//   - what comes after the last acknowledged one is what was appended next, or nothing;
//   - the log start is at least where the last acknowledged move put it, and no further than one was asked for;
//   - each producer's last acknowledged batch, sent again, is known as a duplicate at its offset, and its next one is accepted;
//   - the leader epochs are those in the batches;
//   - the last stable offset, the open transactions and the aborted ones are those that the batches give, and no transaction is open
//     that readers of committed records saw;
//   - a deleted topic is gone, one whose deletion was not acknowledged is whole or gone.

const (
	powerLossOps     = 2000 // operations of a workload
	powerLossChoices = 8    // images after each write and sync
)

// modelPartition is what the test knows of one life of a partition: from its creation to its deletion.
type modelPartition struct {
	spec      PartitionSpec
	batches   []modelBatch // everything ever handed to Append, in order
	appended  atomic.Int64 // how many of them
	acked     atomic.Int64 // how many of them are acknowledged
	visible   atomic.Int64 // high watermark, as readers saw it
	stable    atomic.Int64 // last stable offset, as readers saw it
	startAsk  atomic.Int64 // log start that was asked for
	startAck  atomic.Int64 // log start that was acknowledged
	deleteAsk atomic.Bool
	deleteAck atomic.Bool
	sequences [3]int32 // of the producers
	txns      [2]modelTxn
}

// modelTxn is a transactional producer, whose epoch rises with each transaction.
type modelTxn struct {
	epoch    base.ProducerEpoch
	sequence int32
	open     bool
}

type modelBatch struct {
	first, last base.Offset
	bytes       []byte // as appended, with offset and epoch
	producer    *record.Producer
	header      record.Header
	marker      *Marker
}

// view is a modelPartition at the moment of an image.
type modelView struct {
	m                  *modelPartition
	batches            []modelBatch
	acked, appended    int
	visible, stable    base.Offset
	startAck, startAsk base.Offset
	deleted, mayDelete bool
}

// powerLoss is the workload and its model.
type powerLoss struct {
	t     testing.TB
	rng   *rand.Rand
	fs    *crashfs.FS
	e     *Engine
	epoch base.LeaderEpoch

	mu         sync.Mutex // guards the fields below; held while an image is taken
	partitions []*modelPartition
	tombs      map[base.TopicID]struct{}
	hookRNG    *rand.Rand
	choices    int
	every      int
	failed     atomic.Bool
	points     int
	bodies     uint64 // written past the wal in all lives

	images chan lossImage
}

type lossImage struct {
	fs    *crashfs.FS
	views []modelView
	tombs map[base.TopicID]struct{}
	epoch base.LeaderEpoch
	at    string
	n     int
}

func (w *powerLoss) config(fs *crashfs.FS, specs []PartitionSpec, tombs map[base.TopicID]struct{}, epoch base.LeaderEpoch) Config {
	return Config{
		FS: fs, Dir: testDir, WALMaxBytes: 1 << 20, WALFileBytes: 64 << 10, TailBytes: 256 << 10, LeaderEpoch: epoch,
		CheckpointInterval: time.Hour, IdleFlush: time.Hour, Partitions: specs, Tombstones: tombs,
		IndirectBytes: 5000, IndirectWaiting: -1,
		SyncAllFrom: 1 + int(epoch%2)*100, // every other life syncs everything at once
	}
}

// hook takes the images.
func (w *powerLoss) hook(op crashfs.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.points++
	if w.points%w.every != 0 {
		return
	}
	choices := w.choices
	if w.fs.Settled() {
		choices = 1 // they would all be the same
	}
	for i := range choices {
		image := lossImage{at: fmt.Sprintf("%v %s @%d+%d", op.Kind, op.Path, op.Offset, op.Length), n: w.points, epoch: w.epoch + 1}
		image.tombs = make(map[base.TopicID]struct{}, len(w.tombs))
		for id := range w.tombs {
			image.tombs[id] = struct{}{}
		}
		views := make([]modelView, len(w.partitions))
		for j, m := range w.partitions { // what is acknowledged now is durable in the image
			views[j] = modelView{
				m: m, acked: int(m.acked.Load()), visible: base.Offset(m.visible.Load()), stable: base.Offset(m.stable.Load()),
				startAck: base.Offset(m.startAck.Load()), deleted: m.deleteAck.Load(),
			}
		}
		switch i {
		case 0:
			image.fs = w.fs.CrashImageKeeping(w.hookRNG, 0)
		case 1:
			image.fs = w.fs.CrashImageKeeping(w.hookRNG, 100)
		default:
			image.fs = w.fs.CrashImageKeeping(w.hookRNG, 1+w.hookRNG.IntN(99))
		}
		for j, m := range w.partitions { // what the image holds has been asked for by now
			v := &views[j]
			v.appended, v.startAsk, v.mayDelete = int(m.appended.Load()), base.Offset(m.startAsk.Load()), m.deleteAsk.Load()
			v.batches = m.batches[:v.appended:v.appended]
		}
		image.views = views
		w.images <- image
	}
}

// newTopic makes the next life of a topic.
func (w *powerLoss) newTopic(name byte, life byte) *modelPartition {
	spec := testSpec(name, 0, LogConfig{SegmentBytes: 6000, IndexInterval: 512})
	if name == 'c' {
		spec.Config.SegmentBytes = 50_000 // of large batches, which go past the wal
	}
	spec.ID.ID[14] = life
	m := &modelPartition{spec: spec}
	w.mu.Lock()
	w.partitions = append(w.partitions, m)
	w.mu.Unlock()
	return m
}

func (w *powerLoss) specs() []PartitionSpec {
	var specs []PartitionSpec
	for _, m := range w.partitions {
		if !m.deleteAsk.Load() {
			specs = append(specs, m.spec)
		}
	}
	return specs
}

// pending is an append that was not waited for yet.
type pendingAppend struct {
	m   *modelPartition
	n   int64
	seq wal.Sequence
}

func (w *powerLoss) run(ops int) {
	w.open()
	live := []*modelPartition{}
	for _, name := range []byte("abc") {
		m := w.newTopic(name, 0)
		live = append(live, m)
		w.create(m)
	}
	var waiting []pendingAppend
	settle := func() {
		for _, a := range waiting {
			if err := w.e.Wait(context.Background(), a.seq); err != nil {
				w.t.Fatalf("wait: %v", err)
			}
			a.m.acked.Store(max(a.m.acked.Load(), a.n))
		}
		waiting = waiting[:0]
	}
	life := byte(0)
	for op := range ops {
		if w.failed.Load() {
			break
		}
		i := w.rng.IntN(len(live))
		m := live[i]
		p, ok := w.e.Partition(m.spec.ID)
		if !ok {
			w.t.Fatalf("op %d: partition %v is gone", op, m.spec.ID)
		}
		switch k := w.rng.IntN(100); {
		case k < 70:
			for range w.burst(m) {
				waiting = append(waiting, w.append(m, p))
			}
			if w.rng.IntN(2) == 0 || len(waiting) > 4 {
				settle()
			}
		case k < 80:
			if err := p.flush(1); err != nil && !retriable(err) {
				w.t.Fatalf("flush: %v", err)
			}
		case k < 84:
			settle()
			w.deleteRecords(m, p)
		case k < 88:
			if err := w.e.Checkpoint(context.Background()); err != nil {
				w.t.Fatalf("checkpoint: %v", err)
			}
		case k < 91:
			p.forgetFlushed()
			if err := p.carryNow(); err != nil {
				w.t.Fatalf("carry: %v", err)
			}
		case k < 92:
			settle()
			life++
			w.deleteTopic(m)
			live[i] = w.newTopic(m.spec.Topic[5], life)
			w.create(live[i])
		case k < 94:
			settle()
			w.bodies += w.e.log.Stats().Bodies
			if w.rng.IntN(2) == 0 {
				kill(w.e)
			} else if err := w.e.Close(context.Background()); err != nil {
				w.t.Fatalf("close: %v", err)
			}
			w.open()
		default:
			settle()
		}
	}
	settle()
	w.bodies += w.e.log.Stats().Bodies
	if err := w.e.Close(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *powerLoss) open() {
	w.mu.Lock()
	w.epoch++
	specs, epoch := w.specs(), w.epoch
	tombs := make(map[base.TopicID]struct{})
	for id := range w.tombs {
		tombs[id] = struct{}{}
	}
	w.mu.Unlock()
	e, err := Open(context.Background(), w.config(w.fs, specs, tombs, epoch))
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	w.e = e
}

func (w *powerLoss) create(m *modelPartition) {
	if _, err := w.e.Create(m.spec); err != nil {
		w.t.Fatal(err)
	}
}

// appendTxn begins a transaction, goes on with it, or ends it.
func (w *powerLoss) appendTxn(m *modelPartition, p *Partition) pendingAppend {
	which := w.rng.IntN(len(m.txns))
	txn := &m.txns[which]
	id := base.ProducerID(200 + which)
	var marker *Marker
	var batch []byte
	if txn.open && w.rng.IntN(2) == 0 {
		txn.epoch++
		marker = &Marker{ProducerID: id, ProducerEpoch: txn.epoch, Commit: w.rng.IntN(2) == 0, CoordinatorEpoch: int32(w.epoch), TransactionVersion: 2}
		kind := record.ControlAbort
		if marker.Commit {
			kind = record.ControlCommit
		}
		batch = record.EndTxnMarker(record.Producer{ID: id, Epoch: txn.epoch}, kind, marker.CoordinatorEpoch, testTime)
		txn.open, txn.sequence = false, 0
	} else {
		batch, _ = makeBatch(batchSpec{
			records: 2, size: w.rng.IntN(100), seed: w.rng.Int(), transactional: true,
			producer: &record.Producer{ID: id, Epoch: txn.epoch, BaseSequence: txn.sequence},
		})
		txn.open, txn.sequence = true, txn.sequence+2
	}
	h, err := record.ParseHeader(batch)
	if err != nil {
		w.t.Fatal(err)
	}
	n := w.expect(m, p, batch, &h, modelBatch{marker: marker})
	var at Appended
	if marker != nil {
		at, err = p.AppendMarker(context.Background(), *marker, testTime)
	} else {
		v, _ := p.Verify(h, true)
		at, err = p.Append(context.Background(), batch, h, AppendOptions{Verified: v})
	}
	if err != nil || at.Base != h.BaseOffset || at.Duplicate {
		w.t.Fatalf("append at %d: %+v, %v", h.BaseOffset, at, err)
	}
	m.read(p)
	return pendingAppend{m, n, at.Sequence}
}

// read notes what readers see.
func (m *modelPartition) read(p *Partition) {
	o := p.Offsets()
	m.visible.Store(int64(o.HighWatermark))
	m.stable.Store(int64(o.LastStable))
}

// expect tells the model of a batch that is about to be appended, and gives it its offset and epoch.
func (w *powerLoss) expect(m *modelPartition, p *Partition, batch []byte, h *record.Header, b modelBatch) int64 {
	h.BaseOffset, h.LeaderEpoch = p.Offsets().LogEnd, w.epoch
	record.SetBaseOffset(batch, h.BaseOffset)
	record.SetLeaderEpoch(batch, h.LeaderEpoch)
	b.first, b.last, b.bytes, b.header = h.BaseOffset, h.LastOffset(), bytes.Clone(batch), *h
	w.mu.Lock() // so that a view never sees the slice without its length
	defer w.mu.Unlock()
	m.batches = append(m.batches, b)
	return m.appended.Add(1)
}

// burst is how many batches are appended at once. While the first of several is written, the others come into the next group, and those of
// them that go past the wal are a run.
func (w *powerLoss) burst(m *modelPartition) int {
	if m.spec.Config.SegmentBytes > 6000 && w.rng.IntN(3) == 0 {
		return 3 + w.rng.IntN(4)
	}
	return 1
}

func (w *powerLoss) append(m *modelPartition, p *Partition) pendingAppend {
	if w.rng.IntN(3) == 0 {
		return w.appendTxn(m, p)
	}
	spec := batchSpec{
		records: 1 + w.rng.IntN(3), size: w.rng.IntN(400), seed: w.rng.Int(),
		timestamp: testTime + w.rng.Int64N(1_000_000),
	}
	if m.spec.Config.SegmentBytes > 6000 && w.rng.IntN(4) > 0 {
		spec.size = 3000 + w.rng.IntN(5000)
		if w.rng.IntN(4) > 0 {
			wantRoom(p)
			if err := p.flush(flushBlock); err != nil && !retriable(err) {
				w.t.Fatalf("flush: %v", err)
			}
		}
	}
	if which := w.rng.IntN(4); which < len(m.sequences) {
		spec.producer = &record.Producer{ID: base.ProducerID(100 + which), Epoch: 1, BaseSequence: m.sequences[which]}
		m.sequences[which] += int32(spec.records)
	}
	batch, h := makeBatch(spec)
	n := w.expect(m, p, batch, &h, modelBatch{producer: spec.producer})
	first := h.BaseOffset
	at, err := p.Append(context.Background(), batch, h, AppendOptions{})
	if err != nil || at.Base != first || at.Duplicate {
		w.t.Fatalf("append at %d: %+v, %v", first, at, err)
	}
	if spec.producer != nil && w.rng.IntN(4) == 0 { // the answer is slow, the client sends it again and takes the second
		at, err = p.Append(context.Background(), bytes.Clone(batch), h, AppendOptions{})
		if err != nil || at.Base != first || !at.Duplicate {
			w.t.Fatalf("append at %d, sent again: %+v, %v", first, at, err)
		}
	}
	m.read(p)
	return pendingAppend{m, n, at.Sequence}
}

func (w *powerLoss) deleteRecords(m *modelPartition, p *Partition) {
	o := p.Offsets()
	to := o.LogStart + base.Offset(w.rng.Int64N(int64(o.HighWatermark-o.LogStart)+1))
	m.startAsk.Store(max(m.startAsk.Load(), int64(to)))
	start, seq, err := p.DeleteRecords(context.Background(), to)
	if err != nil || start != to {
		w.t.Fatalf("delete records before %d: %d, %v", to, start, err)
	}
	if err := w.e.Wait(context.Background(), seq); err != nil {
		w.t.Fatal(err)
	}
	m.startAck.Store(int64(to))
}

func (w *powerLoss) deleteTopic(m *modelPartition) {
	w.mu.Lock()
	w.tombs[m.spec.ID.ID] = struct{}{}
	m.deleteAsk.Store(true)
	w.mu.Unlock()
	if err := w.e.Delete(context.Background(), m.spec.ID.ID); err != nil {
		w.t.Fatal(err)
	}
	m.deleteAck.Store(true)
}

// carryNow copies what waits in the tail forward, whatever it is.
func (p *Partition) carryNow() error {
	p.e.checkpointMu.Lock() // no checkpoint may name the copy before it is durable
	defer p.e.checkpointMu.Unlock()
	p.flushMu.Lock()
	group, err := p.carryForward()
	p.flushMu.Unlock()
	if errors.Is(err, ErrNoSpace) {
		return nil
	}
	return errors.Join(err, p.e.log.Wait(context.Background(), group))
}

// check opens an image and compares it with the model.
func (i lossImage) check(w *powerLoss) error {
	var specs []PartitionSpec
	for _, v := range i.views {
		if !v.mayDelete {
			specs = append(specs, v.m.spec)
		}
	}
	e, err := Open(context.Background(), w.config(i.fs, specs, i.tombs, i.epoch))
	if err != nil {
		return err
	}
	defer kill(e)
	if d := e.Damage(); len(d) > 0 {
		return fmt.Errorf("damage found: %+v", d)
	}
	for _, v := range i.views {
		if v.mayDelete {
			continue
		}
		p, ok := e.Partition(v.m.spec.ID)
		if !ok {
			return fmt.Errorf("%v is gone", v.m.spec.ID)
		}
		if err := v.check(p); err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
	}
	if i.n%64 == 0 { // and it goes on from there
		if err := i.goOn(w, e, specs); err != nil {
			return fmt.Errorf("going on: %w", err)
		}
	}
	return nil
}

// goOn checkpoints and flushes a recovered image, kills it, and looks again.
func (i lossImage) goOn(w *powerLoss, e *Engine, specs []PartitionSpec) error {
	for p := range e.Partitions() {
		if err := p.flush(1); err != nil && !retriable(err) {
			return err
		}
	}
	if i.n%128 == 0 {
		if err := e.Checkpoint(context.Background()); err != nil {
			return err
		}
	}
	kill(e)
	again, err := Open(context.Background(), w.config(i.fs, specs, i.tombs, i.epoch+1))
	if err != nil {
		return err
	}
	defer kill(again)
	for _, v := range i.views {
		if p, ok := again.Partition(v.m.spec.ID); ok {
			if err := v.checkLog(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v modelView) check(p *Partition) error {
	if err := v.checkLog(p); err != nil {
		return err
	}
	if err := v.checkTxns(p); err != nil {
		return err
	}
	return v.checkProducers(p)
}

// txns is what the batches below end leave open, and what they aborted.
func (v modelView) txns(end base.Offset) (open map[base.ProducerID]base.Offset, aborted []AbortedTxn) {
	open = map[base.ProducerID]base.Offset{}
	for _, b := range v.batches {
		id := b.header.ProducerID
		if b.last >= end || id < 200 {
			continue
		}
		first, began := open[id]
		switch {
		case b.marker == nil && !began:
			open[id] = b.first
		case b.marker != nil && began:
			delete(open, id)
			if !b.marker.Commit {
				aborted = append(aborted, AbortedTxn{ProducerID: id, FirstOffset: first, LastOffset: b.first, LastStable: oldest(open, b.first+1)})
			}
		}
	}
	return open, aborted
}

// oldest is the first offset of the oldest open transaction, or none.
func oldest(open map[base.ProducerID]base.Offset, none base.Offset) base.Offset {
	for _, first := range open {
		none = min(none, first)
	}
	return none
}

// checkTxns compares what is open and what was aborted.
func (v modelView) checkTxns(p *Partition) error {
	o := p.Offsets()
	open, aborted := v.txns(o.LogEnd)
	if want := max(oldest(open, o.LogEnd), o.LogStart); o.LastStable != want {
		return fmt.Errorf("the last stable offset is %d, want %d: %v open", o.LastStable, want, open)
	}
	if o.LastStable < v.stable {
		return fmt.Errorf("the last stable offset is %d, readers of committed records saw up to %d", o.LastStable, v.stable)
	}
	for _, s := range p.Producers() {
		if first, began := open[s.ID]; began && s.TxnStartOffset != first || !began && s.TxnStartOffset != base.NoOffset {
			return fmt.Errorf("producer %+v, the batches give %v open", s, open)
		}
	}
	for from := o.LogStart; ; {
		s, err := p.Read(from, ReadOptions{MaxBytes: v.readBytes(), AtLeastOne: true})
		if err != nil || s.Len() == 0 {
			return err
		}
		end, err := p.endOffset(s)
		if err != nil {
			return err
		}
		got, err := p.Aborted(s, from)
		if err != nil {
			return err
		}
		want := slices.DeleteFunc(slices.Clone(aborted), func(a AbortedTxn) bool { return a.LastOffset < from || a.FirstOffset >= end })
		if !slices.Equal(got, want) {
			return fmt.Errorf("aborted transactions in offsets %d to %d: %+v, want %+v", from, end, got, want)
		}
		from = end
	}
}

// readBytes is how much is read at a time: a part of a segment.
func (v modelView) readBytes() int { return int(v.m.spec.Config.SegmentBytes) * 2 / 3 }

// checkLog compares offsets and bytes.
func (v modelView) checkLog(p *Partition) error {
	o := p.Offsets()
	if o.LogStart < v.startAck || o.LogStart > max(v.startAsk, v.startAck) {
		return fmt.Errorf("log start %d, want %d to %d", o.LogStart, v.startAck, v.startAsk)
	}
	if o.LogEnd < v.visible {
		return fmt.Errorf("the log ends at %d, readers saw up to %d", o.LogEnd, v.visible)
	}
	n := 0
	for n < len(v.batches) && v.batches[n].last < o.LogEnd {
		n++
	}
	if n < v.acked {
		return fmt.Errorf("%d batches of %d acknowledged are there: log end %d", n, v.acked, o.LogEnd)
	}
	if n > 0 && o.LogEnd != v.batches[n-1].last+1 || n == 0 && o.LogEnd != 0 {
		return fmt.Errorf("log end %d is not the end of batch %d", o.LogEnd, n)
	}
	got, err := readAll(p, o.LogStart, v.readBytes())
	if err != nil {
		return err
	}
	for _, b := range v.batches[:n] {
		if b.last < o.LogStart {
			continue
		}
		if !bytes.HasPrefix(got, b.bytes) {
			return fmt.Errorf("batch %d..%d is not what was appended", b.first, b.last)
		}
		got = got[len(b.bytes):]
		if epoch := p.EpochAt(max(b.first, o.LogStart)); epoch != b.header.LeaderEpoch {
			return fmt.Errorf("epoch of offset %d is %d, its batch says %d", b.first, epoch, b.header.LeaderEpoch)
		}
	}
	if len(got) > 0 {
		return fmt.Errorf("%d bytes too many", len(got))
	}
	return nil
}

// checkProducers sends each producer's last acknowledged batches again.
func (v modelView) checkProducers(p *Partition) error {
	end := p.Offsets().LogEnd
	sent := map[base.ProducerID]int{}
	for i := len(v.batches) - 1; i >= 0; i-- {
		b := v.batches[i]
		if b.producer == nil || b.last >= end || sent[b.producer.ID] == producerWindow {
			continue
		}
		sent[b.producer.ID]++
		at, err := p.Append(context.Background(), bytes.Clone(b.bytes), b.header, AppendOptions{})
		if err != nil {
			return fmt.Errorf("batch %d of producer %d sent again: %w; known: %+v", b.first, b.producer.ID, err, p.producers.byID[b.producer.ID])
		}
		if !at.Duplicate || at.Base != b.first || at.Sequence != 0 {
			return fmt.Errorf("batch %d of producer %d sent again: %+v; known: %+v", b.first, b.producer.ID, at, p.producers.byID[b.producer.ID])
		}
	}
	return nil
}

// TestNothingAcknowledgedIsLostWhenPowerFails is the whole of it. TIMES is the number of operations, SEED replays them.
func TestNothingAcknowledgedIsLostWhenPowerFails(t *testing.T) {
	ops, seed := proof.Times(t, 400, 1000, 10*powerLossOps), proof.Seed(t)
	row := proof.Start(t, "power-loss", "images of the engine", seed)
	every := 1
	if raceEnabled {
		every = 10
	}
	points, bodies := 0, uint64(0)
	for run := uint64(0); ops > 0 && !t.Failed(); run++ {
		w := powerLossRun(t, row, seed+run, min(ops, powerLossOps), powerLossChoices, every)
		points, bodies = points+w.points, bodies+w.bodies
		ops -= powerLossOps
	}
	if bodies == 0 {
		t.Error("no batch has gone past the wal")
	}
	row.Note("at each of %d writes and syncs; %d batches went past the wal", points, bodies)
}

// powerLossRun is one workload. It returns it when it has ended.
func powerLossRun(t *testing.T, row *proof.Proof, seed uint64, ops, choices, every int) *powerLoss {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // engines come and go by the ten thousand
	w := &powerLoss{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), hookRNG: rand.New(rand.NewPCG(seed, 2)),
		fs: newFS(t), tombs: make(map[base.TopicID]struct{}), choices: choices, every: every,
		images: make(chan lossImage, 64),
	}
	var checkers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		checkers.Go(func() {
			for image := range w.images {
				if w.failed.Load() {
					continue
				}
				if err := image.check(w); err != nil {
					w.failed.Store(true)
					row.Lost(1)
					t.Errorf("SEED=%d: power loss after operation %d (%s): %v", seed, image.n, image.at, err)
				}
				row.Tried(1)
			}
		})
	}
	w.fs.SetFragile(func(path string) bool { return strings.HasSuffix(path, ".log") })
	w.fs.SetHook(w.hook)
	w.run(ops)
	w.fs.SetHook(nil)
	close(w.images)
	checkers.Wait()
	return w
}
