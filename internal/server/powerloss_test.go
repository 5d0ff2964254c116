package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
)

// The workload is topics that come and go, their records, and offsets that groups commit. In each image
//
//   - topics whose creation was acknowledged are there, those whose deletion was acknowledged are not, and an id never comes back;
//   - every acknowledged batch is at its offset, and behind them comes what was appended next, or nothing;
//   - the log start is at least what was acknowledged and at most what was asked for; size retention leaves as many bytes as it must;
//   - a committed offset is at least what was acknowledged and at most what was asked for.

const (
	lossRetention  = 12_000 // retention.bytes
	lossTopics     = 4      // at a time
	lossPartitions = 2      // of a topic
	lossGroups     = 3
)

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
	*losses[[]lossTopic]
	broker *Server
	rng    *rand.Rand
	topics []*lossTopic // guarded by mu
}

// TestNothingOfTheBrokerIsLostWhenPowerFails is the whole of it. TIMES is the number of operations, SEED replays them.
func TestNothingOfTheBrokerIsLostWhenPowerFails(t *testing.T) {
	ops, seed := proof.Times(t, 60, 800, 25_000), proof.Seed(t)
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
	w := &lossy{
		losses: newLosses[[]lossTopic](t, row, seed, "offsets.topic.num.partitions=2", "log.retention.ms=-1"), rng: rand.New(rand.NewPCG(seed, 1)),
	}
	w.known, w.check = w.viewLocked, checkLossTopics
	// One with nothing that was not synced, one with all of it, and others in between.
	w.keep = func(rng *rand.Rand) []int { return []int{0, 100, 1 + rng.IntN(99), 1 + rng.IntN(99)} }
	w.watch()
	return w.run(func() error { return w.work(ops) })
}

func (w *lossy) viewLocked() []lossTopic {
	view := make([]lossTopic, len(w.topics))
	for i, t := range w.topics {
		view[i] = t.clone()
	}
	return view
}

func (w *lossy) work(ops int) (err error) {
	ctx := w.t.Context()
	if w.broker, err = w.open(); err != nil {
		return err
	}
	// As the first client that looks for a group's coordinator has it done.
	if err := w.broker.groups.Ensure(ctx); err != nil {
		return err
	}
	for op := 0; op < ops && !w.failed.Load() && err == nil; op++ {
		w.release()
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
			err = w.broker.engine.Checkpoint(ctx)
		case k < 96:
			err = w.delete(ctx, t)
		default:
			if w.rng.IntN(2) == 0 {
				w.broker.kill(w.fs)
			} else if err = w.broker.Close(ctx); err != nil {
				return err
			}
			w.broker, err = w.open()
		}
	}
	if w.broker != nil {
		err = errors.Join(err, w.broker.Close(ctx))
	}
	return err
}

// create makes a topic, unless there is one of that name.
func (w *lossy) create(ctx context.Context, name string) error {
	result := w.broker.metadata.CreateTopics(ctx, []metadata.NewTopic{{
		Name: name, Partitions: lossPartitions, ReplicationFactor: 1,
		Configs: map[string]string{"retention.bytes": strconv.Itoa(lossRetention), "internal.segment.bytes": "6000"},
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
	if err := w.broker.metadata.DeleteTopics(ctx, []base.TopicID{t.id})[0]; err != nil {
		return err
	}
	w.with(func() { t.deleted = true })
	return nil
}

func (w *lossy) partition(t *lossTopic, partition int) (*storage.Partition, error) {
	p, ok := w.broker.engine.Partition(base.TopicIDPartition{ID: t.id, Partition: int32(partition)})
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
	if err := w.broker.engine.Wait(ctx, at.Sequence); err != nil {
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
	done, err := whenLoaded(ctx, func() (group.Committed, error) {
		return w.broker.groups.CommitOffsets(req, []group.CommitTopic{{Name: t.name, ID: t.id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}).Wait(ctx)
	})
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
	if err := w.broker.engine.Wait(ctx, seq); err != nil {
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
	return w.broker.engine.Retain(ctx)
}

func checkLossTopics(ctx context.Context, s *Server, topics []lossTopic) error {
	image := s.metadata.Image()
	for _, t := range topics {
		topic, ok := image.TopicByID(t.id)
		switch {
		case ok && t.deleted:
			return fmt.Errorf("%s was deleted, and is there", t.name)
		case !ok && !t.deleting:
			return fmt.Errorf("%s is gone", t.name)
		case !ok:
			if _, there := s.engine.Partition(base.TopicIDPartition{ID: t.id}); there {
				return fmt.Errorf("the metadata has no %s any more, the log has", t.name)
			}
			continue
		}
		for partition := range t.logs {
			log, ok := s.engine.Partition(base.TopicIDPartition{ID: topic.ID, Partition: int32(partition)})
			if !ok {
				return fmt.Errorf("%s-%d has no log", t.name, partition)
			}
			if err := checkLossLog(log, t.logs[partition]); err != nil {
				return fmt.Errorf("%s-%d: %w", t.name, partition, err)
			}
		}
		if err := s.checkOffsets(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

func checkLossLog(p *storage.Partition, known lossLog) error {
	o := p.Offsets()
	n, size := 0, 0
	for _, b := range known.batches {
		if b.last < o.LogEnd {
			n++
		}
		if b.last >= o.LogStart && b.last < o.LogEnd {
			size += record.HeaderSize + len(b.bytes)
		}
	}
	switch {
	case n < known.acked:
		return fmt.Errorf("%d batches of %d acknowledged are there: the log ends at %d", n, known.acked, o.LogEnd)
	case n > 0 && o.LogEnd != known.batches[n-1].last+1 || n == 0 && o.LogEnd != 0:
		return fmt.Errorf("the log ends at %d, in the middle of a batch", o.LogEnd)
	case o.LogStart < known.startAck:
		return fmt.Errorf("the log starts at %d, records before %d were deleted", o.LogStart, known.startAck)
	case o.LogStart > known.startAsk && !known.retained:
		return fmt.Errorf("the log starts at %d, only records before %d were to be deleted", o.LogStart, known.startAsk)
	case o.LogStart > known.startAsk && size < lossRetention:
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
	for _, b := range known.batches[:n] {
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
func (s *Server) checkOffsets(ctx context.Context, t lossTopic) error {
	if _, ok := s.metadata.Image().Topic(group.Topic); !ok && len(t.committed) == 0 {
		return nil
	}
	for name, asked := range t.committer {
		fetched, err := s.fetchOffsets(ctx, name, t.name, t.id, false)
		if err != nil {
			return fmt.Errorf("offsets of %s: %w", name, err)
		}
		got := max(fetched.Topics[0].Partitions[0].Offset, 0)
		if acked := t.committed[name]; got < acked || got > asked {
			return fmt.Errorf("%s has committed %d; %d was acknowledged, %d asked for", name, got, acked, asked)
		}
	}
	return nil
}

func (s *Server) fetchOffsets(ctx context.Context, name, topic string, id base.TopicID, stable bool) (group.Fetched, error) {
	return whenLoaded(ctx, func() (group.Fetched, error) {
		return s.groups.FetchOffsets(name, nil, -1, []group.FetchTopic{{Name: topic, ID: id, Partitions: []int32{0}}}, stable).Wait(ctx)
	})
}

// whenLoaded asks again while a coordinator loads, as clients do: it may take its time on a busy machine.
func whenLoaded[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	for {
		got, err := ask()
		if !errors.Is(err, coordinator.ErrLoading) {
			return got, err
		}
		if err := pause(ctx); err != nil {
			return got, err
		}
	}
}
