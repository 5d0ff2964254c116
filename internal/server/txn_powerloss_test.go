package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
)

// The test of transactions runs one transactional producer, whose transactions write to some partitions and commit an offset, and takes images
// of what a power loss could leave at each write and sync. In each, once the broker has carried out what was decided:
//
//   - a transaction whose commit was acknowledged is whole: its records in every partition, and its offset;
//   - one whose commit was asked for is whole or not there at all;
//   - of any other no committed reader sees anything;
//   - nothing is left open after the producer's id was taken anew.

// lossTxn is what the test knows of a transaction. Its number is the value of its records and the offset that it commits.
type lossTxn struct {
	partitions []int32
	offset     bool // it commits one
	asked      bool // its commit was asked for
	acked      bool
}

// lossyTxns is the workload.
type lossyTxns struct {
	*losses[[]lossTxn]
	broker   *Server
	rng      *rand.Rand
	producer txn.Producer
	topicID  base.TopicID
	model    []lossTxn // guarded by mu
}

// TestTransactionsAreWholeWhenPowerFails is the whole of it. TIMES is the number of transactions, SEED replays them.
func TestTransactionsAreWholeWhenPowerFails(t *testing.T) {
	times, seed := proof.Times(t, 25, 200, 25_000), proof.Seed(t)
	row := proof.Start(t, "power-loss-transactions", "images of the broker", seed)
	points := 0
	const perRun = 100
	for run := uint64(0); times > 0 && !t.Failed(); run++ {
		points += lossyTxnRun(t, row, seed+run, min(times, perRun))
		times -= perRun
	}
	row.Note("at each of %d writes and syncs", points)
}

func lossyTxnRun(t *testing.T, row *proof.Proof, seed uint64, times int) int {
	t.Helper()
	w := &lossyTxns{
		losses: newLosses[[]lossTxn](t, row, seed, "offsets.topic.num.partitions=1", "transaction.state.log.num.partitions=1"),
		rng:    rand.New(rand.NewPCG(seed, 3)),
	}
	w.known, w.check = func() []lossTxn { return slices.Clone(w.model) }, w.checkTxns
	w.keep = func(rng *rand.Rand) []int { return []int{rng.IntN(101)} }
	return w.run(func() error { return w.work(times) })
}

func (w *lossyTxns) withLast(change func(current *lossTxn)) {
	w.with(func() { change(&w.model[len(w.model)-1]) })
}

func (w *lossyTxns) work(times int) (err error) {
	ctx := w.t.Context()
	if w.broker, err = w.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.broker.Close(ctx)) }()
	result := w.broker.metadata.CreateTopics(ctx, []metadata.NewTopic{{Name: "t", Partitions: 3, ReplicationFactor: 1, Configs: map[string]string{"internal.segment.bytes": "2000"}}}, false)[0]
	if err := errors.Join(result.Err, w.broker.groups.Ensure(ctx)); err != nil {
		return err
	}
	w.topicID = result.Topic.ID
	if w.producer, err = w.broker.take(ctx); err != nil {
		return err
	}
	w.watch()
	for i := 0; i < times && !w.failed.Load(); i++ {
		w.release()
		if err = w.transact(ctx, int64(i)); err != nil {
			return err
		}
		switch w.rng.IntN(8) {
		case 0:
			err = w.broker.engine.Checkpoint(ctx)
		case 1:
			w.broker.kill(w.fs)
			var next *Server
			if next, err = w.open(); err != nil {
				return err
			}
			if w.broker = next; w.rng.IntN(2) == 0 {
				w.producer, err = w.broker.take(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take has the transactional id's next producer begin, which ends what is open.
func (s *Server) take(ctx context.Context) (txn.Producer, error) {
	for {
		o, err := whenLoaded(ctx, func() (txn.Outcome, error) {
			return s.txns.InitProducerID(ctx, txn.Producer{TransactionalID: "x", ID: base.NoProducerID, Epoch: base.NoProducerEpoch}, 900_000)
		})
		switch {
		case err != nil:
			return txn.Producer{}, err
		case o.Code == kerr.ConcurrentTransactions && ctx.Err() == nil:
			time.Sleep(time.Millisecond) // as clients do
		case o.Code != nil:
			return txn.Producer{}, o.Code
		default:
			return txn.Producer{TransactionalID: "x", ID: o.ID, Epoch: o.Epoch}, nil
		}
	}
}

func (w *lossyTxns) transact(ctx context.Context, number int64) error {
	x := lossTxn{offset: w.rng.IntN(2) == 0}
	for p := range int32(3) {
		if w.rng.IntN(3) > 0 {
			x.partitions = append(x.partitions, p)
		}
	}
	x.offset = x.offset || len(x.partitions) == 0 // clients do not end a transaction that has nothing
	w.with(func() { w.model = append(w.model, x) })
	for _, p := range x.partitions {
		if err := w.append(ctx, p, number); err != nil {
			return fmt.Errorf("append to t-%d: %w", p, err)
		}
	}
	if x.offset {
		if err := w.commitOffset(ctx, number); err != nil {
			return fmt.Errorf("commit an offset: %w", err)
		}
	}
	commit := w.rng.IntN(3) > 0
	w.withLast(func(x *lossTxn) { x.asked = commit })
	for {
		o, err := whenLoaded(ctx, func() (txn.Outcome, error) { return w.broker.txns.EndTxn(ctx, w.producer, commit, 2) })
		switch {
		case err != nil:
			return fmt.Errorf("end: %w", err)
		case o.Code == kerr.ConcurrentTransactions:
			time.Sleep(time.Millisecond)
			continue
		case o.Code != nil:
			return fmt.Errorf("end: %w", o.Code)
		default:
			w.producer.ID, w.producer.Epoch = o.ID, o.Epoch
		}
		w.withLast(func(x *lossTxn) { x.acked = true })
		return nil
	}
}

// begin adds a partition to the transaction.
func (w *lossyTxns) begin(ctx context.Context, at base.TopicPartition) error {
	for {
		code, err := whenLoaded(ctx, func() (*kerr.Error, error) {
			return w.broker.txns.AddPartitions(w.producer, []base.TopicPartition{at}, 2).Applied(ctx)
		})
		switch {
		case err != nil:
			return err
		case code == kerr.ConcurrentTransactions:
			time.Sleep(time.Millisecond)
			continue
		case code != nil:
			return code
		}
		return nil
	}
}

// append writes one record of the transaction, as a produce does.
func (w *lossyTxns) append(ctx context.Context, partition int32, number int64) error {
	p, ok := w.broker.engine.Partition(base.TopicIDPartition{ID: w.topicID, Partition: partition})
	if !ok {
		return errors.New("the partition is not there")
	}
	b := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{ID: w.producer.ID, Epoch: w.producer.Epoch}})
	b.Append(time.Now().UnixMilli(), nil, bytes.Repeat(fmt.Appendf(nil, "%d.", number), 1+w.rng.IntN(50)))
	batch := b.Build(0)
	h, err := record.ParseHeader(batch)
	if err != nil {
		return err
	}
	verified, _ := p.Verify(h, true)
	if err := w.begin(ctx, base.TopicPartition{Topic: "t", Partition: partition}); err != nil {
		return err
	}
	at, err := p.Append(ctx, batch, h, storage.AppendOptions{Verified: verified})
	if err == nil && w.rng.IntN(2) == 0 {
		err = w.broker.engine.Wait(ctx, at.Sequence)
	}
	return err
}

func (w *lossyTxns) commitOffset(ctx context.Context, number int64) error {
	if err := w.begin(ctx, base.TopicPartition{Topic: group.Topic}); err != nil {
		return err
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 5, "g", -1
	req.ProducerID, req.ProducerEpoch = int64(w.producer.ID), int16(w.producer.Epoch)
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = number
	topics := []group.CommitTopic{{Name: "t", ID: w.topicID, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	done, err := whenLoaded(ctx, func() (group.Committed, error) {
		return w.broker.groups.CommitTxnOffsets(group.TxnCommit{Request: req, Topics: topics, Ends: group.AnyEnds}).Wait(ctx)
	})
	if err == nil && done.Code != nil {
		err = done.Code
	}
	return err
}

// checkTxns takes the transactional id anew, and compares what a reader of committed records sees with what is known.
func (w *lossyTxns) checkTxns(ctx context.Context, s *Server, known []lossTxn) error {
	if _, err := s.take(ctx); err != nil {
		return fmt.Errorf("take the transactional id: %w", err)
	}
	seen := make(map[int32][]int64)
	for partition := range int32(3) {
		records, stable, err := s.committed(w.topicID, partition)
		if err == nil && !stable {
			err = errors.New("something is open")
		}
		if err != nil {
			return fmt.Errorf("t-%d: %w", partition, err)
		}
		for _, r := range records {
			var number int64
			if _, err := fmt.Sscanf(string(r.Value), "%d.", &number); err != nil {
				return err
			}
			seen[partition] = append(seen[partition], number)
		}
	}
	fetched, err := s.fetchOffsets(ctx, "g", "t", w.topicID, true)
	if err != nil {
		return err
	}
	at := fetched.Topics[0].Partitions[0]
	if at.ErrorCode != 0 {
		return fmt.Errorf("the committed offset: %w", kerr.ErrorForCode(at.ErrorCode))
	}
	last := int64(-1) // the newest transaction there is that committed an offset
	for i, x := range known {
		there := 0
		for _, partition := range x.partitions {
			if slices.Contains(seen[partition], int64(i)) {
				there++
			}
		}
		whole := there == len(x.partitions)
		committed := x.acked && x.asked
		switch {
		case committed && !whole:
			return fmt.Errorf("transaction %d was committed, and is in %d of %d partitions: %v", i, there, len(x.partitions), seen)
		case !x.asked && there > 0:
			return fmt.Errorf("transaction %d was not committed, and is in %d partitions", i, there)
		case !whole && there > 0:
			return fmt.Errorf("transaction %d is torn: in %d of %d partitions", i, there, len(x.partitions))
		}
		// One without records may or may not be there, where it is not acknowledged.
		if x.offset && (committed || there > 0 || x.asked && len(x.partitions) == 0 && at.Offset == int64(i)) {
			last = int64(i)
		}
	}
	if at.Offset != last {
		return fmt.Errorf("the committed offset is %d, the last transaction that committed one is %d", at.Offset, last)
	}
	return nil
}

// committed are the records that a reader of committed records sees in a partition. It is stable if nothing is open.
func (s *Server) committed(topic base.TopicID, partition int32) (records []record.Record, stable bool, err error) {
	log, ok := s.engine.Partition(base.TopicIDPartition{ID: topic, Partition: partition})
	if !ok {
		return nil, false, errors.New("the partition is not there")
	}
	o := log.Offsets()
	for from := o.LogStart; ; {
		slice, err := log.Read(from, storage.ReadOptions{MaxBytes: 3000, AtLeastOne: true, Upto: storage.LastStable})
		if err != nil || slice.Len() == 0 {
			return records, o.LastStable == o.HighWatermark, err
		}
		aborted, err := log.Aborted(slice, from)
		if err != nil {
			return nil, false, err
		}
		b, err := slice.Bytes()
		if err != nil {
			return nil, false, err
		}
		for h, err := range record.Headers(b) {
			if err != nil {
				return nil, false, err
			}
			batch := b[:h.Size()]
			b = b[h.Size():]
			from = h.LastOffset() + 1
			if h.Attributes.Control() || slices.ContainsFunc(aborted, func(a storage.AbortedTxn) bool {
				return a.ProducerID == h.ProducerID && a.FirstOffset <= h.BaseOffset && h.BaseOffset <= a.LastOffset
			}) {
				continue
			}
			for r, err := range record.Records(batch, 1<<20) {
				if err != nil {
					return nil, false, err
				}
				records = append(records, r)
			}
		}
	}
}
