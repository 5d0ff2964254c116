package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/sharestate"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/share"
)

// The test of groups sends the requests of clients, one after the other: members of a classic, a consumer, a streams and a share group report, come
// and go and commit offsets, records are delivered and acknowledged, and a producer writes to a compacted topic in transactions that commit
// offsets as well. Offsets of the share group are altered and deleted, and so are groups. The internal topics and that of the transactions are compacted
// meanwhile, snapshots of the coordinators are written, and the log of the share coordinator is pruned. In each image,
// once the broker has carried out what was decided:
//
//   - what can be asked of groups, their members and offsets is as it was before the request that was under way, or as it was after it: epochs,
//     assignments, static members and topologies among it. Once the request was answered only the latter will do;
//   - the newest committed value of each key and the offset that was committed with it are of the same transaction;
//   - a record that was accepted or rejected with an answer is finished, one that nobody finished is not, and deliveries of released ones are counted;
//     where the offsets of the share group were altered or deleted with an answer, that is from where they were set to.

// TestGroupsAreKeptWhenPowerFails is the whole of it. TIMES is the number of steps, SEED replays them.
func TestGroupsAreKeptWhenPowerFails(t *testing.T) {
	times, seed := proof.Times(t, 60, 600, 80_000), proof.Seed(t)
	row := proof.Start(t, "power-loss-groups", "images of the broker", seed)
	points := 0
	for run := uint64(0); times > 0 && !t.Failed(); run++ {
		points += lossyGroupRun(t, row, seed+run, min(times, groupStepsPerRun))
		times -= groupStepsPerRun
	}
	row.Note("of %d writes and syncs", points)
}

const groupStepsPerRun = 150

// The topics: one is compacted and has transactions, the share group works on the other.
const (
	compactedTopic = "compacted"
	sharedTopic    = "shared"
	lossKeys       = 6
	deliveryLimit  = 5 // Kafka's default
)

// lossyGroups is the workload.
type lossyGroups struct {
	*losses[lossMoment]
	broker    *Server
	rng       *rand.Rand
	conn      net.Conn
	members   map[group.Kind][]*lossMember
	producer  lossTxnState
	offsets   map[string]int64 // committed last, by group
	topics    map[string]base.TopicID
	compacted int64 // bytes that compaction has saved

	state map[string]string // as described after the last step

	// Guarded by mu.
	step   *lossStep
	shared [lossPartitions]lossDeliveries
}

// lossMoment is what is known at a moment.
type lossMoment struct {
	step   *lossStep
	shared [lossPartitions]lossDeliveries
}

// lossStep is a request, or something else of which nobody sees a half, but that a new classic group is recorded, as empty, before its members are.
// Both states are known once images of it are released.
type lossStep struct {
	name          string
	before, after map[string]string
	begun         bool // what was recorded of a new group is there
}

// allows reports whether something can be in a state after a power loss in the step.
func (s *lossStep) allows(about, is string) bool {
	before := s.before[about]
	return is == before || is == s.after[about] || s.begun && about == string(group.Classic) && is == strings.Replace(before, `"Dead"`, `"Empty"`, 1)
}

// lossMember is a member of a group, or is to become one.
type lossMember struct {
	name, id string
	instance *string
	lives    int
	epoch    int32 // or generation; 0: it is not a member
	topics   []kmsg.ConsumerGroupHeartbeatRequestTopic
	active   []kmsg.TaskIDs
	standby  []kmsg.TaskIDs

	session  int32 // share session epoch
	acquired [lossPartitions]map[int64]int16
}

// lossDeliveries is what is known of a share partition, by offset.
type lossDeliveries struct {
	acquired      map[int64]bool
	asked, done   map[int64]bool  // to finish it
	deliveryCount map[int64]int16 // of a release that was acknowledged

	start int64           // where the group was made to begin; 0 also where it was made to forget
	or    *lossDeliveries // what a request that is under way makes of it
}

// beginningAt is a share partition of which nothing has been delivered yet.
func beginningAt(start int64) lossDeliveries {
	return lossDeliveries{acquired: map[int64]bool{}, asked: map[int64]bool{}, done: map[int64]bool{}, deliveryCount: map[int64]int16{}, start: start}
}

func (d lossDeliveries) clone() lossDeliveries {
	return lossDeliveries{maps.Clone(d.acquired), maps.Clone(d.asked), maps.Clone(d.done), maps.Clone(d.deliveryCount), d.start, d.or}
}

// lossTxnState is what committed transactions have left.
type lossTxnState struct {
	id     int64
	epoch  int16
	number int64
	values [lossPartitions]map[string]string
	offset int64
	open   *lossOpenTxn // nil if no transaction is
}

// lossOpenTxn is a transaction that may go on while others make their steps.
type lossOpenTxn struct {
	keys   map[int32][]string
	value  string
	offset bool // it commits one: its number
}

func (s *lossTxnState) String() string { return fmt.Sprint(s.values, s.offset) }

func lossyGroupRun(t *testing.T, row *proof.Proof, seed uint64, times int) int {
	t.Helper()
	sets := []string{
		"offsets.topic.num.partitions=1", "transaction.state.log.num.partitions=1", "share.coordinator.state.topic.num.partitions=1",
		"share.coordinator.snapshot.update.records.per.snapshot=3",
		"log.cleaner.delete.retention.ms=0", "log.cleaner.min.cleanable.ratio=0", "log.cleaner.dedupe.buffer.size=1048576",
		"group.initial.rebalance.delay.ms=0", "group.streams.initial.rebalance.delay.ms=0", "group.streams.num.standby.replicas=1",
	}
	for _, kind := range []string{"consumer", "streams", "share"} { // no session ends, and nothing waits for time to pass
		for _, name := range []string{"max.session.timeout.ms=3600000", "session.timeout.ms=3600000", "assignment.interval.ms=0"} {
			sets = append(sets, "group."+kind+"."+name)
		}
	}
	w := &lossyGroups{
		losses: newLosses[lossMoment](t, row, seed, sets...), rng: rand.New(rand.NewPCG(seed, 5)),
		members: map[group.Kind][]*lossMember{}, offsets: map[string]int64{}, topics: map[string]base.TopicID{},
	}
	for _, kind := range []group.Kind{group.Consumer, group.Streams, group.Share} {
		w.members[kind] = []*lossMember{{name: string(kind) + "-a"}, {name: string(kind) + "-b"}}
	}
	w.members[group.Classic] = []*lossMember{{instance: kmsg.StringPtr("static-classic")}}
	w.members[group.Consumer][0].instance = kmsg.StringPtr("static-consumer")
	w.producer.offset = -1
	for p := range lossPartitions {
		w.producer.values[p] = map[string]string{}
		w.shared[p] = beginningAt(0)
	}
	w.known = func() lossMoment {
		m := lossMoment{step: w.step}
		for p := range m.shared {
			m.shared[p] = w.shared[p].clone()
		}
		return m
	}
	w.check = w.checkGroups
	w.keep = func(rng *rand.Rand) []int {
		if !proof.Long() && rng.IntN(2) == 0 {
			return nil
		}
		return []int{rng.IntN(101)}
	}
	return w.run(func() error { return w.work(times) })
}

func (w *lossyGroups) work(times int) (err error) {
	ctx := w.t.Context()
	if err := w.reopen(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.broker.Close(ctx)) }()
	for name, configs := range map[string]map[string]string{
		compactedTopic: {"internal.segment.bytes": "1500", "cleanup.policy": "compact"}, sharedTopic: {"internal.segment.bytes": "2000"},
	} {
		r := w.broker.metadata.CreateTopics(ctx, []metadata.NewTopic{{Name: name, Partitions: lossPartitions, ReplicationFactor: 1, Configs: configs}}, false)[0]
		if r.Err != nil {
			return r.Err
		}
		w.topics[name] = r.Topic.ID
	}
	err = w.broker.metadata.AlterConfigs(ctx, metadata.Resource{Type: metadata.ResourceGroup, Name: string(group.Share)}, func(map[string]string) (map[string]string, error) {
		return map[string]string{"share.auto.offset.reset": "earliest"}, nil
	})
	if err := errors.Join(err, w.broker.groups.Ensure(ctx), w.broker.shareState.Ensure(ctx), w.take(ctx)); err != nil {
		return err
	}
	for _, name := range []string{group.Topic, txn.Topic, sharestate.Topic} {
		topic := metadata.Resource{Type: metadata.ResourceTopic, Name: name}
		if err := w.broker.metadata.AlterConfigs(ctx, topic, func(configs map[string]string) (map[string]string, error) {
			configs = maps.Clone(configs)
			configs["internal.segment.bytes"] = "2000"
			return configs, nil
		}); err != nil {
			return err
		}
	}
	if w.state, err = w.describe(ctx, w.broker, false /* open */); err != nil {
		return err
	}
	w.with(func() { w.step = &lossStep{before: w.state, after: w.state} })
	w.watch()
	for i := 0; i < times && !w.failed.Load(); i++ {
		if err := w.next(ctx); err != nil {
			return err
		}
	}
	if err := w.compact(ctx); err != nil {
		return err
	}
	if times < groupStepsPerRun || w.failed.Load() {
		return nil
	}
	if w.compacted == 0 {
		return errors.New("compaction has found nothing to do")
	}
	if names, err := w.fs.List(w.broker.snapshots().Dir); err != nil || len(names) == 0 {
		return fmt.Errorf("no snapshots were written: %w", err)
	}
	return nil
}

// reopen starts the broker, on what the last one left.
func (w *lossyGroups) reopen() (err error) {
	if w.broker, err = w.open(); err != nil {
		return err
	}
	w.conn, err = w.broker.Dial(w.t.Context())
	for _, m := range w.members[group.Share] {
		m.session, m.acquired = 0, [lossPartitions]map[int64]int16{}
	}
	return err
}

// next makes a step.
func (w *lossyGroups) next(ctx context.Context) error {
	kind := []group.Kind{group.Classic, group.Consumer, group.Streams, group.Share}[w.rng.IntN(4)]
	member := w.members[kind][w.rng.IntN(len(w.members[kind]))]
	switch n := w.rng.IntN(100); {
	case n < 28:
		return w.change(string(kind)+" member reports", func() error { return w.report(ctx, kind, member) })
	case n < 33:
		return w.change(string(kind)+" member leaves", func() error { return w.leave(ctx, kind, member) })
	case n < 36:
		return w.change(string(kind)+" group is deleted", func() error { return w.deleteGroup(ctx, kind) })
	case n < 39:
		return w.changeEmptyShare(ctx)
	case n < 48:
		return w.change("offset of "+string(kind)+" group", func() error { return w.commit(ctx, kind, member) })
	case n < 56:
		return w.change("records to share", func() error { return w.produceShared(ctx) })
	case n < 74:
		return w.change("shared records", func() error { return w.consumeShared(ctx, w.members[group.Share][w.rng.IntN(2)]) })
	case n < 86:
		return w.change("transaction", func() error { return w.transact(ctx) })
	case n < 88:
		return w.keepState("checkpoint", func() error { return w.broker.engine.Checkpoint(ctx) })
	case n < 92:
		return w.keepState("snapshots", func() error {
			w.broker.groups.Maintain(ctx)
			w.broker.txns.Maintain(ctx)
			return nil
		})
	case n < 95:
		return w.compact(ctx)
	case n < 97:
		return w.keepState("pruning", func() error {
			w.broker.shareState.Prune(ctx)
			return nil
		})
	default:
		return w.keepState("restart", func() error { return w.restart(ctx) })
	}
}

// changeEmptyShare has the members of the share group leave, mostly, and then the group begin elsewhere, or forget where it was.
func (w *lossyGroups) changeEmptyShare(ctx context.Context) error {
	for _, m := range w.members[group.Share] {
		if w.rng.IntN(8) == 0 {
			continue // the change will be refused
		}
		if err := w.change("share member leaves", func() error { return w.leave(ctx, group.Share, m) }); err != nil {
			return err
		}
	}
	switch w.rng.IntN(4) {
	case 0:
		return w.change("share group is deleted", func() error { return w.deleteGroup(ctx, group.Share) })
	case 1:
		return w.change("offsets of the share group deleted", func() error { return w.deleteShareOffsets(ctx) })
	default:
		return w.change("offset of the share group altered", func() error { return w.alterShareOffset(ctx) })
	}
}

// compact compacts what is due.
func (w *lossyGroups) compact(ctx context.Context) error {
	size := func() (bytes int64) {
		for p := range w.broker.engine.Partitions() {
			bytes += p.SizeBytes()
		}
		return bytes
	}
	return w.keepState("compaction", func() error {
		before := size()
		err := errors.Join(w.broker.engine.Checkpoint(ctx), w.broker.engine.Compact(ctx))
		w.compacted += before - size()
		return err
	})
}

// change makes a step that clients see the effects of.
func (w *lossyGroups) change(name string, do func() error) error {
	during, done := &lossStep{name: "during: " + name, before: w.state, begun: true}, &lossStep{name: "after: " + name}
	w.with(func() { w.step = during })
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w.with(func() { w.step = done })
	after, err := w.describe(w.t.Context(), w.broker, w.producer.open != nil)
	if err != nil {
		return fmt.Errorf("after: %s: %w", name, err)
	}
	if got, want := after[transactions], w.producer.String(); got != want {
		return fmt.Errorf("after: %s: transactions have left %s, want %s", name, got, want)
	}
	during.after, done.before, done.after = after, after, after
	w.state = after
	w.release()
	return nil
}

// keepState makes a step that nobody sees anything of.
func (w *lossyGroups) keepState(name string, do func() error) error {
	before := w.state
	if err := w.change(name, do); err != nil {
		return err
	}
	for about, want := range before {
		if w.state[about] != want {
			return fmt.Errorf("%s: %s is\n%s\nand was\n%s", name, about, w.state[about], want)
		}
	}
	return nil
}

// restart stops the broker in order or not. A transaction may go on after it, or be given up.
func (w *lossyGroups) restart(ctx context.Context) error {
	_ = w.conn.Close()
	if w.rng.IntN(2) == 0 {
		w.broker.kill(w.fs)
	} else if err := w.broker.Close(ctx); err != nil {
		return err
	}
	if err := w.reopen(); err != nil || w.rng.IntN(2) == 0 {
		return err
	}
	return w.take(ctx)
}

// report has a member send what it sends next.
func (w *lossyGroups) report(ctx context.Context, kind group.Kind, m *lossMember) error {
	joins := m.epoch == 0
	if joins && kind != group.Classic {
		m.lives++
		m.id = fmt.Sprintf("%s-%d", m.name, m.lives)
	}
	switch kind {
	case group.Classic:
		return w.join(ctx, m)
	case group.Consumer:
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID, req.Topics = 1, string(kind), m.id, m.epoch, m.instance, m.topics
		if joins {
			req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}
		if joins || w.rng.IntN(5) == 0 {
			req.RebalanceTimeoutMillis = 3_600_000
			req.SubscribedTopicNames = [][]string{{compactedTopic}, {compactedTopic, sharedTopic}}[w.rng.IntN(2)]
		}
		resp, err := ask(ctx, w.conn, req, func(r *kmsg.ConsumerGroupHeartbeatResponse) int16 { return r.ErrorCode })
		if err != nil {
			return err
		}
		m.epoch = resp.MemberEpoch
		if resp.Assignment != nil {
			m.topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			for _, t := range resp.Assignment.Topics {
				m.topics = append(m.topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.TopicID, Partitions: t.Partitions})
			}
		}
	case group.Streams:
		req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch, req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = string(kind), m.id, m.epoch, m.active, m.standby, []kmsg.TaskIDs{}
		if joins {
			req.ActiveTasks, req.StandbyTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
			req.RebalanceTimeoutMillis, req.ProcessID = 3_600_000, &m.id
			req.Topology = &kmsg.StreamsGroupHeartbeatRequestTopology{Subtopologies: []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{
				{SubtopologyID: "0", SourceTopics: []string{sharedTopic}},
				{SubtopologyID: "1", SourceTopics: []string{compactedTopic}, StateChangelogTopics: []kmsg.TopicInfo{{Topic: "store"}}},
			}}
		}
		resp, err := ask(ctx, w.conn, req, func(r *kmsg.StreamsGroupHeartbeatResponse) int16 { return r.ErrorCode })
		if err != nil {
			return err
		}
		if m.epoch = resp.MemberEpoch; resp.ActiveTasks != nil {
			m.active, m.standby = resp.ActiveTasks, resp.StandbyTasks
		}
	case group.Share:
		req := kmsg.NewPtrShareGroupHeartbeatRequest()
		req.Version, req.GroupID, req.MemberID, req.MemberEpoch = 1, string(kind), m.id, m.epoch
		if joins {
			req.SubscribedTopicNames = []string{sharedTopic}
		}
		resp, err := ask(ctx, w.conn, req, func(r *kmsg.ShareGroupHeartbeatResponse) int16 { return r.ErrorCode })
		if err != nil {
			return err
		}
		m.epoch = resp.MemberEpoch
	}
	return nil
}

// join has the classic group's member join and bring an assignment, which names the generation.
func (w *lossyGroups) join(ctx context.Context, m *lossMember) error {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.ProtocolType = 9, string(group.Classic), m.id, m.instance, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 1_800_000, 1_800_000
	subscription := kmsg.NewConsumerMemberMetadata()
	subscription.Topics = []string{compactedTopic}
	if w.rng.IntN(3) == 0 {
		req.MemberID = "" // it comes back as another, in its own place
	}
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription.AppendTo(nil)}}
	joined, err := ask(ctx, w.conn, req, func(r *kmsg.JoinGroupResponse) int16 { return r.ErrorCode })
	if err != nil {
		return err
	}
	m.id, m.epoch = joined.MemberID, joined.Generation
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.Generation, sync.MemberID, sync.InstanceID = 5, string(group.Classic), joined.Generation, m.id, m.instance
	sync.ProtocolType, sync.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	if joined.LeaderID == m.id {
		sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: m.id, MemberAssignment: fmt.Append(nil, joined.Generation)}}
	}
	_, err = ask(ctx, w.conn, sync, func(r *kmsg.SyncGroupResponse) int16 { return r.ErrorCode })
	return err
}

// leave has a member leave; a static one of the consumer group may come back.
func (w *lossyGroups) leave(ctx context.Context, kind group.Kind, m *lossMember) (err error) {
	if m.epoch == 0 {
		return nil
	}
	switch kind {
	case group.Classic:
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group, req.Members = 5, string(kind), []kmsg.LeaveGroupRequestMember{{MemberID: m.id, InstanceID: m.instance}}
		_, err = ask(ctx, w.conn, req, func(r *kmsg.LeaveGroupResponse) int16 { return r.ErrorCode })
		m.id = ""
	case group.Consumer:
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = 1, string(kind), m.id, -1, m.instance
		if m.instance != nil && w.rng.IntN(2) == 0 {
			req.MemberEpoch = -2
		}
		_, err = ask(ctx, w.conn, req, func(r *kmsg.ConsumerGroupHeartbeatResponse) int16 { return r.ErrorCode })
	case group.Streams:
		req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch = string(kind), m.id, -1
		_, err = ask(ctx, w.conn, req, func(r *kmsg.StreamsGroupHeartbeatResponse) int16 { return r.ErrorCode })
	case group.Share:
		req := kmsg.NewPtrShareGroupHeartbeatRequest()
		req.Version, req.GroupID, req.MemberID, req.MemberEpoch = 1, string(kind), m.id, -1
		_, err = ask(ctx, w.conn, req, func(r *kmsg.ShareGroupHeartbeatResponse) int16 { return r.ErrorCode })
		m.session, m.acquired = 0, [lossPartitions]map[int64]int16{}
	}
	m.epoch, m.topics, m.active, m.standby = 0, nil, nil, nil
	return err
}

// deleteGroup deletes a group without members.
func (w *lossyGroups) deleteGroup(ctx context.Context, kind group.Kind) error {
	if kind == group.Share {
		return w.restartShare(0, []int{0, 1}, func() error {
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Version, req.Groups = 2, []string{string(kind)}
			_, err := ask(ctx, w.conn, req, func(r *kmsg.DeleteGroupsResponse) int16 { return r.Groups[0].ErrorCode })
			return err
		})
	}
	if slices.ContainsFunc(w.members[kind], func(m *lossMember) bool { return m.epoch != 0 }) {
		return nil
	}
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Version, req.Groups = 2, []string{string(kind)}
	_, err := ask(ctx, w.conn, req, func(r *kmsg.DeleteGroupsResponse) int16 { return r.Groups[0].ErrorCode })
	if errors.Is(err, kerr.GroupIDNotFound) || errors.Is(err, kerr.NonEmptyGroup) { // a static member that left may come back
		return nil
	}
	return err
}

// restartShare makes a request by which the share group begins anew in some partitions. One that is refused, because the group has members,
// does not exist or has no such topic, changes nothing.
func (w *lossyGroups) restartShare(start int64, partitions []int, request func() error) error {
	anew := beginningAt(start)
	w.with(func() {
		for _, p := range partitions {
			w.shared[p].or = &anew
		}
	})
	err := request()
	w.with(func() {
		for _, p := range partitions {
			if w.shared[p].or = nil; err == nil {
				w.shared[p] = beginningAt(start)
			}
		}
	})
	if errors.Is(err, kerr.GroupIDNotFound) || errors.Is(err, kerr.NonEmptyGroup) || errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	return err
}

// alterShareOffset has the share group begin elsewhere in a partition.
func (w *lossyGroups) alterShareOffset(ctx context.Context) error {
	index := w.rng.Int32N(lossPartitions)
	p, ok := w.broker.engine.Partition(base.TopicIDPartition{ID: w.topics[sharedTopic], Partition: index})
	if !ok {
		return fmt.Errorf("%s-%d is not there", sharedTopic, index)
	}
	req := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	req.GroupID = string(group.Share)
	topic, part := kmsg.NewAlterShareGroupOffsetsRequestTopic(), kmsg.NewAlterShareGroupOffsetsRequestTopicPartition()
	topic.Topic, part.Partition, part.StartOffset = sharedTopic, index, w.rng.Int64N(int64(p.Offsets().HighWatermark)+1)
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	return w.restartShare(part.StartOffset, []int{int(index)}, func() error {
		_, err := ask(ctx, w.conn, req, func(r *kmsg.AlterShareGroupOffsetsResponse) int16 {
			if r.ErrorCode != 0 {
				return r.ErrorCode
			}
			return r.Topics[0].Partitions[0].ErrorCode
		})
		return err
	})
}

// deleteShareOffsets has the share group forget its topic.
func (w *lossyGroups) deleteShareOffsets(ctx context.Context) error {
	req := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
	req.GroupID = string(group.Share)
	topic := kmsg.NewDeleteShareGroupOffsetsRequestTopic()
	topic.Topic = sharedTopic
	req.Topics = append(req.Topics, topic)
	return w.restartShare(0, []int{0, 1}, func() error {
		_, err := ask(ctx, w.conn, req, func(r *kmsg.DeleteShareGroupOffsetsResponse) int16 {
			if r.ErrorCode != 0 {
				return r.ErrorCode
			}
			return r.Topics[0].ErrorCode
		})
		return err
	})
}

// commit commits the next offset of a group, as a member if it has one.
func (w *lossyGroups) commit(ctx context.Context, kind group.Kind, m *lossMember) error {
	if kind == group.Share || m.epoch == 0 && kind != group.Classic {
		return nil
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation, req.InstanceID = 9, string(kind), m.id, m.epoch, m.instance
	if m.epoch == 0 {
		req.Generation, req.InstanceID = -1, nil
	}
	w.offsets[req.Group]++
	topic, p := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	topic.Topic, p.Partition, p.Offset = compactedTopic, w.rng.Int32N(lossPartitions), w.offsets[req.Group]
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	_, err := ask(ctx, w.conn, req, func(r *kmsg.OffsetCommitResponse) int16 { return r.Topics[0].Partitions[0].ErrorCode })
	return err
}

// produceShared writes records for the share group.
func (w *lossyGroups) produceShared(ctx context.Context) error {
	b := record.NewBuilder(record.BuilderOptions{})
	for range 1 + w.rng.IntN(4) {
		b.Append(time.Now().UnixMilli(), nil, bytes.Repeat([]byte("r"), w.rng.IntN(200)))
	}
	return w.produce(ctx, nil, sharedTopic, map[int32][]byte{w.rng.Int32N(lossPartitions): b.Build(0)})
}

func (w *lossyGroups) produce(ctx context.Context, txnID *string, name string, batches map[int32][]byte) error {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis, req.TransactionID = 12, -1, 60_000, txnID
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = name
	for _, partition := range slices.Sorted(maps.Keys(batches)) {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = partition, batches[partition]
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = append(req.Topics, topic)
	_, err := ask(ctx, w.conn, req, func(r *kmsg.ProduceResponse) int16 {
		for _, p := range r.Topics[0].Partitions {
			if p.ErrorCode != 0 {
				return p.ErrorCode
			}
		}
		return 0
	})
	return err
}

// consumeShared has a member of the share group acknowledge what it has, or fetch more.
func (w *lossyGroups) consumeShared(ctx context.Context, m *lossMember) error {
	if m.epoch == 0 {
		return nil
	}
	for p := range m.acquired {
		if len(m.acquired[p]) > 0 {
			return w.acknowledge(ctx, m, p)
		}
	}
	req := kmsg.NewPtrShareFetchRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = 2, kmsg.StringPtr(string(group.Share)), &m.id, m.session
	req.MaxBytes, req.MaxRecords, req.BatchSize, req.ShareAcquireMode = 1<<20, int32(1+w.rng.IntN(10)), 500, 1
	if m.session == 0 {
		topic := kmsg.NewShareFetchRequestTopic()
		topic.TopicID = w.topics[sharedTopic]
		for i := range lossPartitions {
			p := kmsg.NewShareFetchRequestTopicPartition()
			p.Partition = int32(i)
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
	}
	resp, err := ask(ctx, w.conn, req, func(r *kmsg.ShareFetchResponse) int16 { return r.ErrorCode })
	if err != nil {
		return err
	}
	m.session++
	w.with(func() {
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				m.acquired[p.Partition] = map[int64]int16{}
				for _, b := range p.AcquiredRecords {
					for o := b.FirstOffset; o <= b.LastOffset; o++ {
						m.acquired[p.Partition][o] = b.DeliveryCount
						w.shared[p.Partition].acquired[o] = true
						w.shared[p.Partition].asked[o] = b.DeliveryCount >= deliveryLimit // if it is given back
					}
				}
			}
		}
	})
	return nil
}

func (w *lossyGroups) acknowledge(ctx context.Context, m *lossMember, partition int) error {
	const accept, release, reject = 1, 2, 3
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = 2, kmsg.StringPtr(string(group.Share)), &m.id, m.session
	topic, p := kmsg.NewShareAcknowledgeRequestTopic(), kmsg.NewShareAcknowledgeRequestTopicPartition()
	topic.TopicID, p.Partition = w.topics[sharedTopic], int32(partition)
	acquired, d := m.acquired[partition], &w.shared[partition]
	types := map[int64]int8{}
	w.with(func() {
		for _, o := range slices.Sorted(maps.Keys(acquired)) {
			types[o] = []int8{accept, accept, release, reject}[w.rng.IntN(4)]
			d.asked[o] = d.asked[o] || types[o] != release
			p.AcknowledgementBatches = append(p.AcknowledgementBatches, kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{
				FirstOffset: o, LastOffset: o, AcknowledgeTypes: []int8{types[o]},
			})
		}
	})
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	_, err := ask(ctx, w.conn, req, func(r *kmsg.ShareAcknowledgeResponse) int16 {
		if r.ErrorCode != 0 {
			return r.ErrorCode
		}
		return r.Topics[0].Partitions[0].ErrorCode
	})
	if err != nil {
		return err
	}
	m.session++
	m.acquired[partition] = nil
	w.with(func() {
		for o, what := range types {
			if d.done[o] = what != release; !d.done[o] {
				d.deliveryCount[o] = acquired[o]
			}
		}
	})
	return nil
}

// take has the next producer of the transactional id begin, which ends what is open.
func (w *lossyGroups) take(ctx context.Context) error {
	p, err := w.broker.take(ctx)
	w.producer.id, w.producer.epoch, w.producer.open = int64(p.ID), int16(p.Epoch), nil
	return err
}

// transact begins a transaction, which writes values of some keys and may commit an offset, or commits or aborts the one that is open.
// Between two of them it may delete the offset.
func (w *lossyGroups) transact(ctx context.Context) error {
	x := &w.producer
	switch {
	case x.open != nil:
		return w.endTxn(ctx)
	case x.offset >= 0 && w.rng.IntN(10) == 0:
		return w.deleteOffset(ctx)
	}
	x.number++
	x.open = &lossOpenTxn{keys: map[int32][]string{}, offset: w.rng.IntN(2) == 0}
	x.open.value = fmt.Sprintf("%d.%s", x.number, bytes.Repeat([]byte("v"), w.rng.IntN(100)))
	for range 1 + w.rng.IntN(4) {
		p := w.rng.Int32N(lossPartitions)
		x.open.keys[p] = append(x.open.keys[p], fmt.Sprintf("key-%d", w.rng.IntN(lossKeys)))
	}
	if err := w.produceTxn(ctx, x.open.keys, x.open.value); err != nil || !x.open.offset {
		return err
	}
	return w.commitTxnOffset(ctx)
}

func (w *lossyGroups) endTxn(ctx context.Context) error {
	x := &w.producer
	req := kmsg.NewPtrEndTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = 5, "x", x.id, x.epoch, w.rng.IntN(3) > 0
	resp, err := ask(ctx, w.conn, req, func(r *kmsg.EndTxnResponse) int16 { return r.ErrorCode })
	if err != nil {
		return err
	}
	ended := x.open
	if x.id, x.epoch, x.open = resp.ProducerID, resp.ProducerEpoch, nil; !req.Commit {
		return nil
	}
	for p := range ended.keys {
		for _, key := range ended.keys[p] {
			x.values[p][key] = ended.value
		}
	}
	if ended.offset {
		x.offset = x.number
	}
	return nil
}

func (w *lossyGroups) produceTxn(ctx context.Context, keys map[int32][]string, value string) error {
	batches := map[int32][]byte{}
	for p := range keys {
		b := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{
			ID: base.ProducerID(w.producer.id), Epoch: base.ProducerEpoch(w.producer.epoch),
		}})
		for _, key := range keys[p] {
			b.Append(time.Now().UnixMilli(), []byte(key), []byte(value))
		}
		batches[p] = b.Build(0)
	}
	return w.produce(ctx, kmsg.StringPtr("x"), compactedTopic, batches)
}

// txnGroup has the offsets that transactions commit.
const txnGroup = "transactional"

func (w *lossyGroups) commitTxnOffset(ctx context.Context) error {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.TransactionalID, req.Group, req.Generation = 5, "x", txnGroup, -1
	req.ProducerID, req.ProducerEpoch = w.producer.id, w.producer.epoch
	topic, p := kmsg.NewTxnOffsetCommitRequestTopic(), kmsg.NewTxnOffsetCommitRequestTopicPartition()
	topic.Topic, p.Offset = compactedTopic, w.producer.number
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	_, err := ask(ctx, w.conn, req, func(r *kmsg.TxnOffsetCommitResponse) int16 { return r.Topics[0].Partitions[0].ErrorCode })
	return err
}

func (w *lossyGroups) deleteOffset(ctx context.Context) error {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = txnGroup
	topic := kmsg.NewOffsetDeleteRequestTopic()
	topic.Topic, topic.Partitions = compactedTopic, []kmsg.OffsetDeleteRequestTopicPartition{{}}
	req.Topics = append(req.Topics, topic)
	_, err := ask(ctx, w.conn, req, func(r *kmsg.OffsetDeleteResponse) int16 { return r.ErrorCode })
	w.producer.offset = -1
	return err
}

// transactions is what a description has beside groups.
const transactions = "transactions"

// describe tells all that can be asked of groups, and what transactions have left, once none of them is open but one that is to be.
func (w *lossyGroups) describe(ctx context.Context, s *Server, open bool) (map[string]string, error) {
	conn, err := s.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	state := map[string]string{}
	classic := kmsg.NewPtrDescribeGroupsRequest()
	classic.Version, classic.Groups = 5, []string{string(group.Classic)}
	consumer := kmsg.NewPtrConsumerGroupDescribeRequest()
	consumer.Version, consumer.Groups = 1, []string{string(group.Consumer)}
	streams := kmsg.NewPtrStreamsGroupDescribeRequest()
	streams.Groups = []string{string(group.Streams)}
	shared := kmsg.NewPtrShareGroupDescribeRequest()
	shared.Version, shared.GroupIDs = 1, []string{string(group.Share)}
	described, err := ask(ctx, conn, classic, func(r *kmsg.DescribeGroupsResponse) int16 { return r.Groups[0].ErrorCode })
	if err != nil {
		return nil, err
	}
	if state[string(group.Classic)], err = text(described.Groups, nil); err != nil {
		return nil, err
	}
	if g := described.Groups[0]; g.State == "Stable" {
		// The generation is the one that the assignment names.
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = 4, g.Group, g.Members[0].MemberID, g.Members[0].InstanceID
		if _, err := fmt.Sscan(string(g.Members[0].MemberAssignment), &req.Generation); err != nil {
			return nil, fmt.Errorf("the classic group's assignment is %q: %w", g.Members[0].MemberAssignment, err)
		}
		if _, err := ask(ctx, conn, req, func(r *kmsg.HeartbeatResponse) int16 { return r.ErrorCode }); err != nil {
			return nil, fmt.Errorf("classic group, generation %d: %w", req.Generation, err)
		}
	}
	if state[string(group.Consumer)], err = text(ask(ctx, conn, consumer, func(r *kmsg.ConsumerGroupDescribeResponse) int16 { return existing(r.Groups[0].ErrorCode) })); err != nil {
		return nil, err
	}
	tasks, err := ask(ctx, conn, streams, func(r *kmsg.StreamsGroupDescribeResponse) int16 { return existing(r.Groups[0].ErrorCode) })
	if err != nil {
		return nil, err
	}
	withoutSoftState(tasks)
	if state[string(group.Streams)], err = text(tasks, nil); err != nil {
		return nil, err
	}
	if state[string(group.Share)], err = text(ask(ctx, conn, shared, func(r *kmsg.ShareGroupDescribeResponse) int16 { return existing(r.Groups[0].ErrorCode) })); err != nil {
		return nil, err
	}
	offsets := kmsg.NewPtrOffsetFetchRequest()
	offsets.Version, offsets.RequireStable = 9, !open
	for _, name := range []string{string(group.Classic), string(group.Consumer), string(group.Streams), txnGroup} {
		g := kmsg.NewOffsetFetchRequestGroup()
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		g.Group, topic.Topic = name, compactedTopic
		for p := range int32(lossPartitions) {
			topic.Partitions = append(topic.Partitions, p)
		}
		g.Topics = append(g.Topics, topic)
		offsets.Groups = append(offsets.Groups, g)
	}
	fetched, err := ask(ctx, conn, offsets, func(r *kmsg.OffsetFetchResponse) int16 {
		for _, g := range r.Groups {
			for _, code := range []int16{g.ErrorCode, g.Topics[0].Partitions[0].ErrorCode} {
				if code != 0 {
					return code
				}
			}
		}
		return 0
	})
	if err != nil {
		return nil, err
	}
	left := lossTxnState{offset: -1}
	for _, g := range fetched.Groups {
		if g.Group == txnGroup {
			left.offset = g.Topics[0].Partitions[0].Offset
		} else if state["offsets of "+g.Group], err = text(g, nil); err != nil {
			return nil, err
		}
	}
	for p := range left.values {
		records, err := s.settled(ctx, w.topics[compactedTopic], int32(p), open)
		if err != nil {
			return nil, fmt.Errorf("%s-%d: %w", compactedTopic, p, err)
		}
		left.values[p] = map[string]string{}
		for _, r := range records {
			left.values[p][string(r.Key)] = string(r.Value)
		}
	}
	state[transactions] = left.String()
	return state, nil
}

// withoutSoftState takes out what a streams group works out from the topics with each heartbeat, and what follows from it.
func withoutSoftState(r *kmsg.StreamsGroupDescribeResponse) {
	g := &r.Groups[0]
	if g.State == "NotReady" {
		g.State = "Stable"
	}
	if g.Topology == nil {
		return
	}
	for i := range g.Topology.Subtopologies {
		for j := range g.Topology.Subtopologies[i].StateChangelogTopics {
			g.Topology.Subtopologies[i].StateChangelogTopics[j].NumPartitions = 0
		}
	}
}

// existing is a code but that of a group that does not exist.
func existing(code int16) int16 {
	if code == kerr.GroupIDNotFound.Code {
		return 0
	}
	return code
}

// text is an answer as text.
func text(answer any, err error) (string, error) {
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(answer)
	return string(b), err
}

// settled is committed once no transaction is open but one that is to be: markers follow the answer to EndTxn.
func (s *Server) settled(ctx context.Context, topic base.TopicID, partition int32, open bool) ([]record.Record, error) {
	for {
		records, stable, err := s.committed(topic, partition)
		if err != nil || stable || open {
			return records, err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// pause is the moment before a client tries again.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Millisecond):
		return nil
	}
}

// checkGroups has what is open ended, and compares what can be asked with what was before and after the step.
func (w *lossyGroups) checkGroups(ctx context.Context, s *Server, known lossMoment) error {
	if _, err := s.take(ctx); err != nil {
		return fmt.Errorf("%s: take the transactional id: %w", known.step.name, err)
	}
	got, err := w.describe(ctx, s, false /* open */)
	if err != nil {
		return fmt.Errorf("%s: %w", known.step.name, err)
	}
	for about, is := range got {
		if !known.step.allows(about, is) {
			return fmt.Errorf("%s: %s is\n%s\nbefore it was\n%s\nand after\n%s", known.step.name, about, is, known.step.before[about], known.step.after[about])
		}
	}
	for p := range known.shared {
		key := share.Key{Group: string(group.Share), Topic: w.topics[sharedTopic], Partition: int32(p)}
		kept, err := s.sharePartition(ctx, key)
		if err == nil {
			err = known.shared[p].check(kept)
		}
		if err != nil {
			return fmt.Errorf("%s: share partition %d: %w", known.step.name, p, err)
		}
	}
	return nil
}

// sharePartition is what is kept of a share partition.
func (s *Server) sharePartition(ctx context.Context, key share.Key) (share.Persisted, error) {
	kept, err := whenLoaded(ctx, func() (share.Persisted, error) { return s.shareState.Read(key, base.NoLeaderEpoch).Wait(ctx) })
	if errors.Is(err, share.ErrNotInitialized) {
		return share.Persisted{Start: base.NoOffset}, nil
	}
	return kept, err
}

// check holds what is kept of a share partition against what is known of it.
func (d lossDeliveries) check(kept share.Persisted) error {
	if d.or != nil && d.or.check(kept) == nil {
		return nil
	}
	if kept.Start < base.Offset(d.start) && d.start > 0 {
		return fmt.Errorf("the group was made to begin at %d: %+v", d.start, kept)
	}
	for o := d.start; o < int64(kept.Start); o++ {
		if !d.asked[o] {
			return fmt.Errorf("offset %d was not acknowledged since the group began at %d, and is finished: %+v", o, d.start, kept)
		}
	}
	for o := range d.acquired {
		finished, count := base.Offset(o) < kept.Start, int16(0)
		for _, b := range kept.Batches {
			if b.First <= base.Offset(o) && base.Offset(o) <= b.Last {
				finished, count = finished || b.State != share.Available, b.DeliveryCount
			}
		}
		switch {
		case d.done[o] && !finished:
			return fmt.Errorf("offset %d was acknowledged, and is not: %+v", o, kept)
		case finished && !d.asked[o]:
			return fmt.Errorf("offset %d was not acknowledged, and is: %+v", o, kept)
		case !finished && count < d.deliveryCount[o]:
			return fmt.Errorf("offset %d was delivered %d times, and has %d: %+v", o, d.deliveryCount[o], count, kept)
		}
	}
	return nil
}

// ask sends a request and returns its answer. Where code says that the broker is not ready for it, it is sent again.
func ask[R kmsg.Response](ctx context.Context, conn net.Conn, req kmsg.Request, code func(R) int16) (resp R, err error) {
	for {
		if resp, err = exchange[R](ctx, conn, req); err != nil {
			return resp, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
		}
		err := kerr.ErrorForCode(code(resp))
		switch {
		case err == nil:
			return resp, nil
		case errors.Is(err, kerr.CoordinatorLoadInProgress), errors.Is(err, kerr.CoordinatorNotAvailable), errors.Is(err, kerr.NotCoordinator),
			errors.Is(err, kerr.ConcurrentTransactions), errors.Is(err, kerr.UnstableOffsetCommit):
		default:
			return resp, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
		}
		if err := pause(ctx); err != nil {
			return resp, err
		}
	}
}

// exchange is one request and its answer.
func exchange[R kmsg.Response](ctx context.Context, conn net.Conn, req kmsg.Request) (none R, err error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("client")).AppendRequest(nil, req, 1)); err != nil {
		return none, err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return none, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, body); err != nil {
		return none, err
	}
	resp := req.ResponseKind()
	if body = body[4:]; resp.IsFlexible() {
		body = body[1:]
	}
	return resp.(R), resp.ReadFrom(body)
}
