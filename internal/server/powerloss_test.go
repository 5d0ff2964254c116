package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/api"
	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

// What storage's power-loss test does to the engine alone is done here to the broker's parts together, put together as Start does:
// engine, group coordinator, and the metadata in its twin in memory, which is durable at once. After each write, sync, rename and folder
// sync images are taken of what a power loss could leave (see crashfs), with the metadata as it was at that moment. Each is opened, and
//
//   - topics whose creation was acknowledged are there, those whose deletion was acknowledged are not, and an id never comes back;
//   - every acknowledged batch is at its offset, and behind them comes what was appended next, or nothing;
//   - the log start is at least what was acknowledged and at most what was asked for; size retention leaves as many bytes as it must;
//   - a committed offset is at least what was acknowledged and at most what was asked for.

const (
	lossDir        = "/data"
	lossRetention  = 12_000 // retention.bytes
	lossTopics     = 4      // at a time
	lossPartitions = 2      // of a topic
	lossGroups     = 3
)

// parts are a broker without sockets and etcd.
type parts struct {
	metadata *metadata.Metadata
	engine   *storage.Engine
	topics   *topicSync
	groups   *group.Service
	txns     *txn.Service
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

func openParts(ctx context.Context, cfg *config.Broker, fs disk.FS, store metadata.Store) (*parts, error) {
	m, err := metadata.Open(ctx, metadata.Options{Store: store, BrokerID: 1, ClusterID: "lossylossylossylossyAA", DefaultPartitions: lossPartitions, DefaultReplicationFactor: 1})
	if err != nil {
		return nil, err
	}
	epoch, err := m.BeginEpoch(ctx)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	image := m.Image()
	e, err := storage.Open(ctx, storage.Config{
		FS: fs, Dir: lossDir, WALMaxBytes: 1 << 20, WALFileBytes: 64 << 10, TailBytes: 256 << 10, LeaderEpoch: epoch,
		CheckpointInterval: time.Hour, IdleFlush: time.Hour, RetentionInterval: time.Hour,
		Partitions: partitionSpecs(image, cfg), Tombstones: tombstoneIDs(image),
	})
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	p := &parts{metadata: m, engine: e, topics: newTopicSync(e, cfg, slog.New(slog.DiscardHandler))}
	p.topics.follow(m)
	p.groups, err = group.New(groupConfig(cfg), group.Deps{
		Topic: offsetsTopic(cfg, m, e), Topics: api.GroupTopics(m), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, errors.Join(err, e.Close(ctx), m.Close())
	}
	p.txns, err = txn.New(txn.Config{}, txn.Deps{
		Topic: transactionTopic(cfg, m, e), Markers: &api.Markers{Metadata: m, Engine: e, Groups: p.groups, Logger: slog.New(slog.DiscardHandler)},
		ProducerIDs: api.NewProducerIDs(m), Logger: slog.New(slog.DiscardHandler), CoordinatorEpoch: int32(epoch),
	})
	if err != nil {
		return nil, errors.Join(err, e.Close(ctx), m.Close())
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.work.Go(func() { p.topics.run(ctx) })
	p.work.Go(func() { _ = p.txns.Run(ctx) })
	return p, nil
}

func (p *parts) close() error {
	p.cancel()
	p.work.Wait()
	return errors.Join(p.txns.Close(), p.groups.Close(), p.engine.Close(context.Background()), p.metadata.Close())
}

// kill ends the parts as the end of the process does: nothing more gets to the disk.
func (p *parts) kill(fs *crashfs.FS) {
	fs.SetFault(func(crashfs.Op) error { return errKilled })
	_ = p.close() // says so
	fs.SetFault(nil)
}

var errKilled = errors.New("killed by a test")

// lossTopic is what the test knows of a topic.
type lossTopic struct {
	name                 string
	id                   base.TopicID
	deleting, deleted    bool // was asked for, was acknowledged
	logs                 [lossPartitions]lossLog
	committed, committer map[string]int64 // by group: acknowledged, asked for
}

// lossLog is what the test knows of a partition.
type lossLog struct {
	batches            []lossBatch
	acked              int // of them
	startAck, startAsk base.Offset
	retained           bool // retention may have moved the start as well
}

type lossBatch struct {
	first, last base.Offset
	bytes       []byte
}

// clone is the topic at this moment. Batches are only added, and their bytes never change.
func (l *lossTopic) clone() lossTopic {
	c := *l
	c.committed, c.committer = maps.Clone(l.committed), maps.Clone(l.committer)
	return c
}

// lossy is the workload.
type lossy struct {
	t     *testing.T
	row   *proof.Proof
	seed  uint64
	rng   *rand.Rand
	cfg   *config.Broker
	fs    *crashfs.FS
	store *metadata.Memory
	*parts

	mu      sync.Mutex // guards the fields below, and the topics
	topics  []*lossTopic
	hookRNG *rand.Rand
	points  int

	failed atomic.Bool
	images chan lossyImage
}

type lossyImage struct {
	n      int
	at     string
	fs     *crashfs.FS
	store  metadata.Snapshot
	before []lossTopic // what was acknowledged by then is there
	after  []lossTopic // what was not asked for by then is not
}

// TestNothingOfTheBrokerIsLostWhenPowerFails is the whole of it. TIMES is the number of operations, SEED replays them.
func TestNothingOfTheBrokerIsLostWhenPowerFails(t *testing.T) {
	ops, seed := proof.Times(t, 60, 1000, 500_000), proof.Seed(t)
	row := proof.Start(t, "power-loss-broker", "images of the broker", seed)
	points := 0
	const perRun = 500
	for run := uint64(0); ops > 0 && !t.Failed(); run++ {
		points += lossyRun(t, row, seed+run, min(ops, perRun))
		ops -= perRun
	}
	row.Note("at each of %d writes and syncs", points)
}

func lossyRun(t *testing.T, row *proof.Proof, seed uint64, ops int) int {
	t.Helper()
	cfg, err := config.Load(config.Sources{Sets: []string{
		"node.id=1", "log.dirs=" + t.TempDir(), "offsets.topic.num.partitions=2", "log.retention.ms=-1",
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := &lossy{
		t: t, row: row, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), hookRNG: rand.New(rand.NewPCG(seed, 2)),
		cfg: cfg, fs: crashfs.New(), store: metadata.NewMemory(), images: make(chan lossyImage, 64),
	}
	if err := errors.Join(w.fs.MkdirAll(lossDir, 0o755), disk.SyncDir(w.fs, "/")); err != nil {
		t.Fatal(err)
	}
	var checkers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		checkers.Go(func() {
			for image := range w.images {
				if w.failed.Load() {
					continue
				}
				if err := w.check(image); err != nil {
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
	err = w.run(ops)
	w.fs.SetHook(nil)
	close(w.images)
	checkers.Wait()
	if err != nil {
		t.Errorf("SEED=%d: %v", seed, err)
	}
	return w.points
}

// hook takes images: one with nothing that was not synced, one with all of it, and others in between.
func (w *lossy) hook(op crashfs.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.points++
	choices := []int{0, 100, 1 + w.hookRNG.IntN(99), 1 + w.hookRNG.IntN(99)}
	if w.fs.Settled() {
		choices = choices[:1]
	}
	before := w.viewLocked()
	for _, percent := range choices {
		image := lossyImage{n: w.points, at: fmt.Sprintf("%v %s @%d+%d", op.Kind, op.Path, op.Offset, op.Length), before: before}
		image.fs = w.fs.CrashImageKeeping(w.hookRNG, percent)
		store, err := w.store.Get(context.Background(), "", 0)
		if err != nil {
			w.t.Errorf("read the metadata: %v", err)
			return
		}
		image.store, image.after = store, w.viewLocked()
		w.images <- image
	}
}

func (w *lossy) viewLocked() []lossTopic {
	view := make([]lossTopic, len(w.topics))
	for i, t := range w.topics {
		view[i] = t.clone()
	}
	return view
}

// with changes the model.
func (w *lossy) with(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *lossy) run(ops int) (err error) {
	ctx := w.t.Context()
	if w.parts, err = openParts(ctx, w.cfg, w.fs, w.store); err != nil {
		return err
	}
	// As the first client that looks for a group's coordinator has it done.
	if err := w.groups.Ensure(ctx); err != nil {
		return err
	}
	for op := 0; op < ops && !w.failed.Load() && err == nil; op++ {
		var live []*lossTopic
		for _, t := range w.topics {
			if !t.deleting {
				live = append(live, t)
			}
		}
		if len(live) < lossTopics {
			err = w.create(ctx, fmt.Sprintf("topic-%d", w.rng.IntN(2*lossTopics)))
			continue
		}
		t := live[w.rng.IntN(len(live))]
		switch k := w.rng.IntN(100); {
		case k < 50:
			err = w.append(ctx, t, w.rng.IntN(lossPartitions))
		case k < 75:
			err = w.commit(ctx, t, fmt.Sprintf("group-%d", w.rng.IntN(lossGroups)))
		case k < 80:
			err = w.deleteRecords(ctx, t, w.rng.IntN(lossPartitions))
		case k < 85:
			err = w.retain(ctx)
		case k < 92:
			err = w.engine.Checkpoint(ctx)
		case k < 96:
			err = w.delete(ctx, t)
		default:
			if w.rng.IntN(2) == 0 {
				w.kill(w.fs)
			} else if err = w.close(); err != nil {
				return err
			}
			w.parts, err = openParts(ctx, w.cfg, w.fs, w.store)
		}
	}
	return errors.Join(err, w.close())
}

// create makes a topic, unless there is one of that name.
func (w *lossy) create(ctx context.Context, name string) error {
	result := w.metadata.CreateTopics(ctx, []metadata.NewTopic{{
		Name: name, Partitions: lossPartitions, ReplicationFactor: 1,
		Configs: map[string]string{"retention.bytes": strconv.Itoa(lossRetention), "segment.bytes": "6000"},
	}}, false)[0]
	if errors.Is(result.Err, metadata.ErrTopicExists) {
		return nil
	}
	if result.Err != nil {
		return result.Err
	}
	w.with(func() {
		w.topics = append(w.topics, &lossTopic{name: name, id: result.Topic.ID, committed: map[string]int64{}, committer: map[string]int64{}})
	})
	return nil
}

func (w *lossy) delete(ctx context.Context, t *lossTopic) error {
	w.with(func() { t.deleting = true })
	if err := w.metadata.DeleteTopics(ctx, []base.TopicID{t.id})[0]; err != nil {
		return err
	}
	w.with(func() { t.deleted = true })
	return nil
}

func (w *lossy) partition(t *lossTopic, partition int) (*storage.Partition, error) {
	p, ok := w.engine.Partition(base.TopicIDPartition{ID: t.id, Partition: int32(partition)})
	if !ok {
		return nil, fmt.Errorf("%s-%d is not there", t.name, partition)
	}
	return p, nil
}

func (w *lossy) append(ctx context.Context, t *lossTopic, partition int) error {
	p, err := w.partition(t, partition)
	if err != nil {
		return err
	}
	builder := record.NewBuilder(record.BuilderOptions{})
	for range 1 + w.rng.IntN(3) {
		value := bytes.Repeat([]byte{byte(w.rng.Uint32())}, w.rng.IntN(1500))
		builder.Append(time.Now().UnixMilli(), nil, value)
	}
	batch := builder.Build(0)
	header, err := record.ParseHeader(batch)
	if err != nil {
		return err
	}
	log, first := &t.logs[partition], p.Offsets().LogEnd
	b := lossBatch{first: first, last: first + base.Offset(header.LastOffsetDelta), bytes: bytes.Clone(batch[record.HeaderSize:])}
	w.with(func() { log.batches = append(log.batches, b) })
	at, err := p.Append(ctx, batch, header, storage.AppendOptions{})
	if err != nil {
		return err
	}
	if at.Base != first {
		return fmt.Errorf("%s-%d: appended at %d, the log ended at %d", t.name, partition, at.Base, first)
	}
	if err := w.engine.Wait(ctx, at.Sequence); err != nil {
		return err
	}
	w.with(func() { log.acked = len(log.batches) })
	return nil
}

func (w *lossy) commit(ctx context.Context, t *lossTopic, name string) error {
	offset := t.committer[name] + 1
	w.with(func() { t.committer[name] = offset })
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 9, name, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = offset
	done, err := w.groups.CommitOffsets(req, []group.CommitTopic{{Name: t.name, ID: t.id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}).Wait(ctx)
	if err != nil {
		return err
	}
	if done.Code != nil || done.Partitions[0][0] != 0 {
		return fmt.Errorf("commit of %s in %s: %v", name, t.name, done)
	}
	w.with(func() { t.committed[name] = offset })
	return nil
}

func (w *lossy) deleteRecords(ctx context.Context, t *lossTopic, partition int) error {
	p, err := w.partition(t, partition)
	if err != nil {
		return err
	}
	log, o := &t.logs[partition], p.Offsets()
	to := o.LogStart + base.Offset(w.rng.Int64N(int64(o.HighWatermark-o.LogStart)+1))
	w.with(func() { log.startAsk = max(log.startAsk, to) })
	_, seq, err := p.DeleteRecords(ctx, to)
	if err != nil {
		return err
	}
	if err := w.engine.Wait(ctx, seq); err != nil {
		return err
	}
	w.with(func() { log.startAck = max(log.startAck, to) })
	return nil
}

func (w *lossy) retain(ctx context.Context) error {
	w.with(func() {
		for _, t := range w.topics {
			for i := range t.logs {
				t.logs[i].retained = true
			}
		}
	})
	return w.engine.Retain(ctx)
}

// restoreMetadata puts what a store held into an empty one.
func restoreMetadata(ctx context.Context, store *metadata.Memory, from metadata.Snapshot) error {
	all := metadata.Txn{}
	for _, kv := range from.KVs {
		all.Ops = append(all.Ops, metadata.Op{Key: kv.Key, Value: kv.Value})
	}
	if len(all.Ops) == 0 {
		return nil
	}
	_, err := store.Commit(ctx, all)
	return err
}

// check opens an image and compares it with what is known.
func (w *lossy) check(i lossyImage) error {
	ctx := context.Background()
	store := metadata.NewMemory()
	if err := restoreMetadata(ctx, store, i.store); err != nil {
		return err
	}
	p, err := openParts(ctx, w.cfg, i.fs, store)
	if err != nil {
		return err
	}
	defer p.kill(i.fs)
	if d := p.engine.Damage(); len(d) > 0 {
		return fmt.Errorf("damage found: %+v", d)
	}
	image := p.metadata.Image()
	for n, t := range i.before {
		after := i.after[n]
		topic, ok := image.TopicByID(t.id)
		switch {
		case ok && t.deleted:
			return fmt.Errorf("%s was deleted, and is there", t.name)
		case !ok && !after.deleting:
			return fmt.Errorf("%s is gone", t.name)
		case !ok:
			if _, there := p.engine.Partition(base.TopicIDPartition{ID: t.id}); there {
				return fmt.Errorf("the metadata has no %s any more, the log has", t.name)
			}
			continue
		}
		for partition := range t.logs {
			log, ok := p.engine.Partition(base.TopicIDPartition{ID: topic.ID, Partition: int32(partition)})
			if !ok {
				return fmt.Errorf("%s-%d has no log", t.name, partition)
			}
			if err := checkLossLog(log, t.logs[partition], after.logs[partition]); err != nil {
				return fmt.Errorf("%s-%d: %w", t.name, partition, err)
			}
		}
		if err := p.checkOffsets(ctx, t, after); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

func checkLossLog(p *storage.Partition, before, after lossLog) error {
	o := p.Offsets()
	n, size := 0, 0
	for _, b := range after.batches {
		if b.last < o.LogEnd {
			n++
		}
		if b.last >= o.LogStart && b.last < o.LogEnd {
			size += record.HeaderSize + len(b.bytes)
		}
	}
	switch {
	case n < before.acked:
		return fmt.Errorf("%d batches of %d acknowledged are there: the log ends at %d", n, before.acked, o.LogEnd)
	case n > 0 && o.LogEnd != after.batches[n-1].last+1 || n == 0 && o.LogEnd != 0:
		return fmt.Errorf("the log ends at %d, in the middle of a batch", o.LogEnd)
	case o.LogStart < before.startAck:
		return fmt.Errorf("the log starts at %d, records before %d were deleted", o.LogStart, before.startAck)
	case o.LogStart > after.startAsk && !after.retained:
		return fmt.Errorf("the log starts at %d, only records before %d were to be deleted", o.LogStart, after.startAsk)
	case o.LogStart > after.startAsk && size < lossRetention:
		return fmt.Errorf("the log starts at %d, of %d bytes to retain %d are there", o.LogStart, lossRetention, size)
	}
	var got []byte
	for at := o.LogStart; at < o.HighWatermark; {
		slice, err := p.Read(at, storage.ReadOptions{MaxBytes: 1 << 20, AtLeastOne: true})
		if err != nil {
			return err
		}
		some, err := slice.Bytes()
		if err != nil {
			return err
		}
		for rest := some; len(rest) > 0; {
			h, err := record.ParseHeader(rest)
			if err != nil {
				return err
			}
			rest, at = rest[h.Size():], h.LastOffset()+1
		}
		got = append(got, some...)
	}
	for _, b := range after.batches[:n] {
		if b.last < o.LogStart {
			continue
		}
		if len(got) < record.HeaderSize+len(b.bytes) || !bytes.Equal(got[record.HeaderSize:record.HeaderSize+len(b.bytes)], b.bytes) {
			return fmt.Errorf("batch %d..%d is not what was appended", b.first, b.last)
		}
		got = got[record.HeaderSize+len(b.bytes):]
	}
	if len(got) > 0 {
		return fmt.Errorf("%d bytes too many", len(got))
	}
	return nil
}

// checkOffsets asks the coordinator for the offsets of each group.
func (p *parts) checkOffsets(ctx context.Context, before, after lossTopic) error {
	if _, ok := p.metadata.Image().Topic(group.Topic); !ok && len(before.committed) == 0 {
		return nil
	}
	for name, asked := range after.committer {
		fetched, err := p.fetchOffsets(ctx, name, before)
		if err != nil {
			return fmt.Errorf("offsets of %s: %w", name, err)
		}
		got := max(fetched.Topics[0].Partitions[0].Offset, 0)
		if acked := before.committed[name]; got < acked || got > asked {
			return fmt.Errorf("%s has committed %d; %d was acknowledged, %d asked for", name, got, acked, asked)
		}
	}
	return nil
}

// fetchOffsets asks again while the coordinator loads, which may take its time on a busy machine.
func (p *parts) fetchOffsets(ctx context.Context, name string, t lossTopic) (group.Fetched, error) {
	for {
		fetched, err := p.groups.FetchOffsets(name, nil, -1, []group.FetchTopic{{Name: t.name, ID: t.id, Partitions: []int32{0}}}, false).Wait(ctx)
		if !errors.Is(err, coordinator.ErrLoading) {
			return fetched, err
		}
		runtime.Gosched()
	}
}
