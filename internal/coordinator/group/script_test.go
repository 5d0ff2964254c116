package group

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/coordtest"
	"github.com/ottlaio/ottla/internal/scripttest"
)

// TestScripts runs testdata/*.script: commands, each followed by the output that it gives. Requests that are not answered at once
// are answered under a later command. See runner.commands for the commands.
func TestScripts(t *testing.T) {
	t.Parallel()
	scripttest.Files(t, func(t *testing.T, script string) (got string) {
		synctest.Test(t, func(t *testing.T) {
			r := newRunner(t)
			defer func() { r.stop() }()
			got = scripttest.Play(script, r.run)
		})
		return got
	})
}

// runner is a group coordinator with one partition, in simulated time, and the requests that wait for it.
type runner struct {
	t        *testing.T
	cfg      Config
	settings ConsumerSettings
	streams  StreamsSettings
	topics   topicMap
	topic    *coordtest.Topic
	service  *Service
	stop     func()
	disk     *vfs.MemFS // for snapshots; nil: none
	ids      int
	began    time.Time
	waiting  []*waiting

	initialize []SharePartition // what share groups have asked for
	unshared   []base.TopicID   // and what was begun to delete
}

// waiting is a request without an answer yet.
type waiting struct {
	label  string
	answer func() []string // valid once done is closed
	done   chan struct{}
}

// topicMap implements Topics and TopicImage.
type topicMap map[string]TopicInfo

// Image implements Topics.
func (m topicMap) Image() TopicImage { return maps.Clone(m) }

// testTopic is a topic of two partitions whose id ends in n.
func testTopic(name string, n byte) TopicInfo {
	return TopicInfo{Name: name, ID: base.TopicID{15: n}, Partitions: 2}
}

func newRunner(t *testing.T) *runner {
	r := &runner{t: t, settings: DefaultConsumerSettings, streams: DefaultStreamsSettings, topics: topicMap{"t": testTopic("t", 1), "u": testTopic("u", 2)}, topic: coordtest.NewTopic(1), began: time.Now()}
	r.start()
	return r
}

func (r *runner) start() {
	s, err := New(r.cfg, Deps{Topic: r.topic, Topics: r.topics, Logger: coordtest.Logger(func(why string) { r.t.Error(why) }), Snapshots: r.snapshots(),
		Settings: func(string) ConsumerSettings { return r.settings }, StreamsSettings: func(string) StreamsSettings { return r.streams },
		ShareSettings: func(string) ShareSettings { return DefaultShareSettings }})
	if err != nil {
		r.t.Fatal(err)
	}
	s.env.NewID = func() string { r.ids++; return strconv.Itoa(r.ids) }
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.service = s
	r.stop = func() {
		cancel()
		<-done
		if err := s.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *runner) snapshots() coordinator.Snapshots {
	if r.disk == nil {
		return coordinator.Snapshots{}
	}
	return coordinator.Snapshots{FS: r.disk, Dir: "/snapshots", Every: 5}
}

// run runs one command and returns its output and that of the requests answered in the meantime.
func (r *runner) run(line string) []string {
	fields := strings.Fields(line)
	a := args{name: fields[0], named: map[string]string{}}
	for _, f := range fields[1:] {
		if k, v, ok := strings.Cut(f, "="); ok {
			a.named[k] = v
		} else {
			a.plain = append(a.plain, f)
		}
	}
	command := commands[a.name]
	if command == nil {
		r.t.Fatalf("no such command: %s", line)
	}
	out := command(r, a)
	synctest.Wait()
	return append(out, r.answered()...)
}

// answered collects the answers that came, in the order of the requests.
func (r *runner) answered() []string {
	var out []string
	asked := r.waiting
	r.waiting = nil
	for _, w := range asked {
		select {
		case <-w.done:
			for _, l := range w.answer() { // it may ask further
				out = append(out, w.label+": "+l)
			}
		default:
			r.waiting = append(r.waiting, w)
		}
	}
	return out
}

// expect has the answer to a call printed when it comes.
func expect[A any](r *runner, label string, c *coordinator.Call[A], format func(A) []string) {
	w := &waiting{label: label, done: make(chan struct{})}
	r.waiting = append(r.waiting, w)
	ctx := r.t.Context()
	go func() {
		defer close(w.done)
		answer, err := c.Wait(ctx)
		if err != nil {
			w.answer = func() []string { return []string{errorName(err)} }
			return
		}
		w.answer = func() []string { return format(answer) }
	}()
}

func errorName(err error) string {
	for _, known := range []error{coordinator.ErrNotCoordinator, coordinator.ErrLoading, coordinator.ErrUnavailable, coordinator.ErrClosed} {
		if strings.HasPrefix(err.Error(), known.Error()) {
			return known.Error()
		}
	}
	return err.Error()
}

// args are a command's arguments: plain ones by place, named ones as key=value.
type args struct {
	name  string
	plain []string
	named map[string]string
}

func (a args) get(key, otherwise string) string {
	if v, ok := a.named[key]; ok {
		return v
	}
	return otherwise
}

func (a args) optional(key string) *string {
	if v, ok := a.named[key]; ok {
		return &v
	}
	return nil
}

func (a args) number(key string, otherwise int64) int64 {
	v, ok := a.named[key]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s: %s is not a number", a.name, key))
	}
	return n
}

func (a args) millis(key, otherwise string) int32 {
	d, err := time.ParseDuration(a.get(key, otherwise))
	if err != nil {
		panic(fmt.Sprintf("%s: %s is not a duration", a.name, key))
	}
	return int32(d.Milliseconds())
}

// commands are what a script may say. A request's first argument is its group, the second the name of its client.
var commands map[string]func(r *runner, a args) []string

func init() {
	commands = map[string]func(r *runner, a args) []string{
		"join":        (*runner).join,
		"sync":        (*runner).sync,
		"heartbeat":   (*runner).heartbeat,
		"leave":       (*runner).leave,
		"commit":      (*runner).commit,
		"fetch":       (*runner).fetch,
		"txncommit":   (*runner).txnCommit, // TxnOffsetCommit
		"end":         (*runner).end,       // the marker of a transaction
		"forget":      (*runner).forget,    // OffsetDelete
		"list":        (*runner).list,
		"describe":    (*runner).describe,
		"delete":      (*runner).delete,
		"topic":       (*runner).changeTopic,
		"hb":          (*runner).consumerHeartbeat,
		"consumers":   (*runner).describeConsumers,
		"sh":          (*runner).streamsHeartbeat,
		"streams":     (*runner).describeStreams,
		"share":       (*runner).shareHeartbeat,
		"initialized": (*runner).shareInitialized,
		"shares":      (*runner).describeShares,
		"alter":       (*runner).alterShare,
		"unshare":     (*runner).forgetShare,
		"forgotten":   (*runner).shareForgotten,
		"config":      (*runner).config,
		"advance":     (*runner).advance,
		"dump":        (*runner).dump,
		"records":     (*runner).records,
		"reload":      (*runner).reload,
		"crash":       (*runner).crash,
		"hold":        func(r *runner, _ args) []string { r.topic.Of(0).Hold(); return nil },
		"release":     func(r *runner, _ args) []string { r.topic.Of(0).Release(); return nil },
		"refuse":      func(r *runner, a args) []string { r.topic.Of(0).Refuse(int(a.number("appends", 1))); return nil },
	}
}

func (r *runner) join(a args) []string {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = int16(a.number("v", 9))
	req.Group = groupArg(a)
	req.MemberID = a.get("member", "")
	req.InstanceID = a.optional("instance")
	req.ProtocolType = a.get("type", "consumer")
	req.SessionTimeoutMillis = a.millis("session", "10s")
	req.RebalanceTimeoutMillis = a.millis("rebalance", "60s")
	for _, p := range strings.Split(a.get("protocols", "range"), ",") {
		if p == "" {
			continue
		}
		name, topics, _ := strings.Cut(p, ":")
		rp := kmsg.NewJoinGroupRequestProtocol()
		rp.Name, rp.Metadata = name, subscription(topics)
		req.Protocols = append(req.Protocols, rp)
	}
	client := Client{ID: a.plain[1], Host: "/127.0.0.1"}
	expect(r, a.plain[1], r.service.JoinGroup(client, req), func(resp *kmsg.JoinGroupResponse) []string {
		if resp.ErrorCode != 0 {
			return []string{fmt.Sprintf("%s member=%s", codeName(resp.ErrorCode), resp.MemberID)}
		}
		s := fmt.Sprintf("joined generation=%d protocol=%s/%s leader=%s member=%s", resp.Generation, deref(resp.ProtocolType),
			deref(resp.Protocol), resp.LeaderID, resp.MemberID)
		if resp.SkipAssignment {
			s += " skip-assignment"
		}
		var members []string
		for _, m := range resp.Members {
			members = append(members, m.MemberID)
			if topics, ok := subscribedTopics(m.ProtocolMetadata); ok && len(topics) > 0 {
				members[len(members)-1] += ":" + strings.Join(topics, "+")
			}
		}
		if members != nil {
			s += " members=" + strings.Join(members, ",")
		}
		return []string{s}
	})
	return nil
}

// subscription is ConsumerProtocolSubscription v0 of topics named a+b+c.
func subscription(topics string) []byte {
	b := []byte{0, 0, 0, 0, 0, 0}
	if topics != "" {
		names := strings.Split(topics, "+")
		b[5] = byte(len(names))
		for _, n := range names {
			b = append(append(b, 0, byte(len(n))), n...)
		}
	}
	return append(b, 0xff, 0xff, 0xff, 0xff)
}

func (r *runner) sync(a args) []string {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version = int16(a.number("v", 5))
	req.Group = groupArg(a)
	req.MemberID = a.get("member", "")
	req.InstanceID = a.optional("instance")
	req.Generation = int32(a.number("generation", 1))
	if req.Version >= 5 {
		req.ProtocolType, req.Protocol = kmsg.StringPtr(a.get("type", "consumer")), kmsg.StringPtr(a.get("protocol", "range"))
		if a.get("type", "") == "null" {
			req.ProtocolType = nil
		}
	}
	for _, as := range strings.Split(a.get("assign", ""), ",") {
		if member, what, ok := strings.Cut(as, ":"); ok {
			ra := kmsg.NewSyncGroupRequestGroupAssignment()
			ra.MemberID, ra.MemberAssignment = member, []byte(what)
			req.GroupAssignment = append(req.GroupAssignment, ra)
		}
	}
	if n := a.number("assign-bytes", 0); n > 0 {
		for i := range req.GroupAssignment {
			req.GroupAssignment[i].MemberAssignment = make([]byte, n)
		}
	}
	expect(r, a.plain[1], r.service.SyncGroup(req), func(resp *kmsg.SyncGroupResponse) []string {
		if resp.ErrorCode != 0 {
			return []string{codeName(resp.ErrorCode)}
		}
		return []string{fmt.Sprintf("synced protocol=%s/%s assignment=%s", deref(resp.ProtocolType), deref(resp.Protocol), quoted(resp.MemberAssignment))}
	})
	return nil
}

func (r *runner) heartbeat(a args) []string {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version = 4
	req.Group, req.MemberID, req.InstanceID = groupArg(a), a.get("member", ""), a.optional("instance")
	req.Generation = int32(a.number("generation", 1))
	expect(r, a.plain[1], r.service.Heartbeat(req), func(resp *kmsg.HeartbeatResponse) []string {
		return []string{codeName(resp.ErrorCode)}
	})
	return nil
}

func (r *runner) leave(a args) []string {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version = int16(a.number("v", 5))
	req.Group = groupArg(a)
	req.MemberID = a.get("member", "")
	for _, id := range strings.Split(a.get("members", a.get("member", "")), ",") {
		m := kmsg.NewLeaveGroupRequestMember()
		if instance, ok := strings.CutPrefix(id, "@"); ok {
			m.InstanceID = &instance
		} else {
			m.MemberID = id
		}
		req.Members = append(req.Members, m)
	}
	expect(r, a.plain[1], r.service.LeaveGroup(req), func(resp *kmsg.LeaveGroupResponse) []string {
		out := []string{codeName(resp.ErrorCode)}
		for _, m := range resp.Members {
			out = append(out, fmt.Sprintf("left member=%s instance=%s %s", m.MemberID, deref(m.InstanceID), codeName(m.ErrorCode)))
		}
		return out
	})
	return nil
}

// commit G C t-0=5 t-1=6,metadata ...
func (r *runner) commit(a args) []string {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version = int16(a.number("v", 9))
	req.Group, req.MemberID, req.InstanceID = groupArg(a), a.get("member", ""), a.optional("instance")
	req.Generation = int32(a.number("generation", -1))
	if v, ok := a.named["retention"]; ok {
		d, _ := time.ParseDuration(v)
		req.RetentionTimeMillis = d.Milliseconds()
	} else {
		req.RetentionTimeMillis = -1
	}
	var topics []CommitTopic
	for _, k := range slices.Sorted(maps.Keys(a.named)) {
		topic, partition, ok := strings.Cut(k, "-")
		p, err := strconv.Atoi(partition)
		if !ok || err != nil {
			continue
		}
		offset, metadata, _ := strings.Cut(a.named[k], ",")
		n, _ := strconv.ParseInt(offset, 10, 64)
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = int32(p), n, int32(a.number("leader-epoch", -1)), &metadata
		topics = append(topics, CommitTopic{Name: topic, ID: r.topics[topic].ID, Partitions: []kmsg.OffsetCommitRequestTopicPartition{rp}})
	}
	expect(r, a.plain[1], r.service.CommitOffsets(req, topics), func(done Committed) []string {
		if done.Code != nil {
			return []string{done.Code.Message}
		}
		var codes []string
		for i, t := range topics {
			codes = append(codes, fmt.Sprintf("%s-%d:%s", t.Name, t.Partitions[0].Partition, codeName(done.Partitions[i][0])))
		}
		return []string{"committed " + strings.Join(codes, " ")}
	})
	return nil
}

// txnCommit is TxnOffsetCommit for one partition: txncommit G C producer= epoch= t-0=7
func (r *runner) txnCommit(a args) []string {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.Group = int16(a.number("v", 5)), groupArg(a)
	req.ProducerID, req.ProducerEpoch = a.number("producer", 1), int16(a.number("epoch", 0))
	req.Generation, req.MemberID = int32(a.number("generation", -1)), a.get("member", "")
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Offset, rp.Metadata = a.number("t-0", 0), ptr(a.get("metadata", ""))
	topics := []CommitTopic{{Name: "t", ID: r.topics["t"].ID, Partitions: []kmsg.OffsetCommitRequestTopicPartition{rp}}}
	commit := TxnCommit{Request: req, Topics: topics, Ends: a.number("ends", AnyEnds)}
	expect(r, a.plain[1], r.service.CommitTxnOffsets(commit), func(done Committed) []string {
		if done.Code != nil {
			return []string{done.Code.Message}
		}
		return []string{"pending " + codeName(done.Partitions[0][0])}
	})
	return nil
}

// end is the marker of a transaction: end C commit|abort producer= epoch= coordinator= version=
func (r *runner) end(a args) []string {
	k := Marker{
		ProducerID: base.ProducerID(a.number("producer", 1)), ProducerEpoch: base.ProducerEpoch(a.number("epoch", 0)),
		Commit: a.plain[1] == "commit", CoordinatorEpoch: int32(a.number("coordinator", 0)), TransactionVersion: int16(a.number("version", 2)),
	}
	expect(r, a.plain[0], r.service.EndTxn(0, k), func(code *kerr.Error) []string {
		if code != nil {
			return []string{code.Message}
		}
		return []string{"marker"}
	})
	return nil
}

// fetch G C [t-0 t-1 ...]
func (r *runner) fetch(a args) []string {
	show := func(fetched Fetched) []string {
		if fetched.Code != nil {
			return []string{fetched.Code.Message}
		}
		var out []string
		for _, t := range fetched.Topics {
			for _, p := range t.Partitions {
				out = append(out, fmt.Sprintf("%s-%d=%d epoch=%d metadata=%q %s", t.Name, p.Partition, p.Offset, p.LeaderEpoch, deref(p.Metadata), codeName(p.ErrorCode)))
			}
		}
		if out == nil {
			out = []string{"no offsets"}
		}
		return out
	}
	if len(a.plain) == 2 {
		expect(r, a.plain[1], r.service.FetchAllOffsets(groupArg(a), a.optional("member"), int32(a.number("epoch", -1)), a.get("stable", "") != ""), show)
		return nil
	}
	var topics []FetchTopic
	for _, tp := range a.plain[2:] {
		topic, partition, _ := strings.Cut(tp, "-")
		p, _ := strconv.Atoi(partition)
		topics = append(topics, FetchTopic{Name: topic, ID: r.topics[topic].ID, Partitions: []int32{int32(p)}})
	}
	expect(r, a.plain[1], r.service.FetchOffsets(groupArg(a), a.optional("member"), int32(a.number("epoch", -1)), topics, a.get("stable", "") != ""), show)
	return nil
}

func (r *runner) forget(a args) []string {
	var topics []DeleteTopic
	for _, tp := range a.plain[2:] {
		topic, partition, _ := strings.Cut(tp, "-")
		p, _ := strconv.Atoi(partition)
		topics = append(topics, DeleteTopic{Name: topic, Partitions: []int32{int32(p)}})
	}
	expect(r, a.plain[1], r.service.DeleteOffsets(groupArg(a), topics), func(done Deleted) []string {
		if done.Code != nil {
			return []string{done.Code.Message}
		}
		var codes []string
		for i, t := range topics {
			codes = append(codes, t.Name+":"+codeName(done.Topics[i]))
		}
		return []string{strings.Join(codes, " ")}
	})
	return nil
}

func (r *runner) list(a args) []string {
	req := kmsg.NewPtrListGroupsRequest()
	if v := a.get("states", ""); v != "" {
		req.StatesFilter = strings.Split(v, ",")
	}
	if v := a.get("types", ""); v != "" {
		req.TypesFilter = strings.Split(v, ",")
	}
	for _, c := range r.service.ListGroups(req) {
		expect(r, "list", c, func(groups []kmsg.ListGroupsResponseGroup) []string {
			var out []string
			for _, g := range groups {
				out = append(out, fmt.Sprintf("%s protocol-type=%q %s %s", g.Group, g.ProtocolType, g.GroupState, g.GroupType))
			}
			return out
		})
	}
	return nil
}

func (r *runner) describe(a args) []string {
	expect(r, "describe", r.service.DescribeGroup(int16(a.number("v", 6)), groupArg(a)), func(g kmsg.DescribeGroupsResponseGroup) []string {
		out := []string{fmt.Sprintf("%s %s %s/%s %s", codeName(g.ErrorCode), g.State, g.ProtocolType, g.Protocol, deref(g.ErrorMessage))}
		for _, m := range g.Members {
			topics, _ := subscribedTopics(m.ProtocolMetadata)
			out = append(out, fmt.Sprintf("member=%s instance=%s client=%s host=%s topics=%s assignment=%s", m.MemberID, deref(m.InstanceID),
				m.ClientID, m.ClientHost, strings.Join(topics, "+"), quoted(m.MemberAssignment)))
		}
		return out
	})
	return nil
}

func (r *runner) delete(a args) []string {
	expect(r, "delete", r.service.DeleteGroup(groupArg(a), len(a.plain) > 1), func(d Deletion) []string {
		if d.Code != nil {
			return []string{d.Code.Message}
		}
		if len(d.Partitions) > 0 {
			return showShare("forget", d.Partitions)
		}
		return []string{"deleted"}
	})
	return nil
}

// topic delete|recreate NAME
func (r *runner) changeTopic(a args) []string {
	name := a.plain[1]
	switch a.plain[0] {
	case "delete":
		delete(r.topics, name)
		r.service.TopicsDeleted([]string{name})
	case "create", "grow":
		t := r.topics[name]
		t.Name, t.Partitions = name, int32(a.number("partitions", 2))
		if a.plain[0] == "create" {
			t.ID = base.TopicID{15: byte(a.number("id", 9))}
		}
		r.topics[name] = t
	case "recreate":
		r.topics[name] = testTopic(name, r.topics[name].ID[15]+100)
	}
	return nil
}

// config key=value ... starts a new coordinator, with these settings, on the same log.
func (r *runner) config(a args) []string {
	for k, v := range a.named {
		d, _ := time.ParseDuration(v)
		n, _ := strconv.Atoi(v)
		switch k {
		case "initial-delay":
			r.cfg.InitialRebalanceDelay = d
			if d == 0 {
				r.cfg.InitialRebalanceDelay = -1
			}
		case "max-size":
			r.cfg.MaxSize = n
		case "retention":
			r.cfg.OffsetsRetention = d
		case "check":
			r.cfg.RetentionCheckInterval = d
		case "metadata-max":
			r.cfg.OffsetMetadataMaxBytes = n
		case "max-record":
			r.cfg.MaxRecordBytes = n
		case "share-max-size":
			r.cfg.ShareMaxSize = n
		case "streams-max-size":
			r.cfg.StreamsMaxSize = n
		case "streams-delay":
			r.streams.InitialDelay = d
		case "streams-interval":
			r.streams.AssignmentInterval = d
		case "standbys":
			r.streams.StandbyReplicas = n
		case "consumer-max-size":
			r.cfg.ConsumerMaxSize = n
		case "migration":
			r.cfg.Migration = ParseMigrationPolicy(v)
		case "assignors":
			r.cfg.Assignors = strings.Split(v, ",")
		case "assignment-interval":
			r.settings.AssignmentInterval = d
		case "consumer-session":
			r.settings.SessionTimeout = d
		case "max-bytes":
			r.cfg.MaxBytes = int64(n)
		default:
			r.t.Fatalf("config: no such setting: %s", k)
		}
	}
	r.stop()
	r.start()
	return nil
}

func (r *runner) advance(a args) []string {
	d, err := time.ParseDuration(a.plain[0])
	if err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(d)
	return nil
}

// dump shows the state of all groups; "dump hard" only what replay gives.
func (r *runner) dump(a args) []string {
	hard := len(a.plain) > 0
	c := coordinator.Submit(r.service.runtime, 0, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[[]string]) {
		c.Answer(fx, dumpMachine(m, r.began, hard))
	})
	expect(r, "dump", c, func(lines []string) []string { return lines })
	return nil
}

// dumpMachine shows a machine's state as text.
func dumpMachine(m *Machine, began time.Time, hard bool) []string {
	at := func(ms int64) string {
		if ms == base.NoTimestamp {
			return "never"
		}
		return time.UnixMilli(ms).Sub(began).Truncate(time.Millisecond).String()
	}
	var out []string
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		if c, ok := m.groups[id].(*consumerGroup); ok {
			out = append(out, dumpConsumers(m, c)...)
			continue
		}
		if s, ok := m.groups[id].(*streamsGroup); ok {
			out = append(out, dumpStreams(s)...)
			continue
		}
		if s, ok := m.groups[id].(*shareGroup); ok {
			out = append(out, dumpShare(m, s)...)
			continue
		}
		g := m.groups[id].(*classicGroup)
		s := fmt.Sprintf("%s %s generation=%d %s/%s leader=%s since=%s", id, g.state, g.generation, g.protocolType, deref(g.protocol), g.leader, at(g.since))
		if !hard {
			if len(g.pending) > 0 {
				s += " pending=" + strings.Join(slices.Sorted(maps.Keys(g.pending)), ",")
			}
			if len(g.pendingSync) > 0 {
				s += " unsynced=" + strings.Join(slices.Sorted(maps.Keys(g.pendingSync)), ",")
			}
		}
		out = append(out, s)
		for _, mb := range g.order {
			s := fmt.Sprintf("- %s instance=%s client=%s session=%d rebalance=%d assignment=%s", mb.id, deref(mb.instance), mb.clientID,
				mb.sessionTimeout, mb.rebalanceTimeout, quoted(mb.assignment))
			if !hard {
				if mb.join != nil {
					s += " joining"
				}
				if mb.sync != nil {
					s += " syncing"
				}
			}
			out = append(out, s)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.offsets)) {
		for _, topic := range slices.Sorted(maps.Keys(m.offsets[id])) {
			for _, p := range slices.Sorted(maps.Keys(m.offsets[id][topic])) {
				c := m.offsets[id][topic][p]
				s := fmt.Sprintf("%s %s-%d=%d epoch=%d metadata=%q at=%s topic-id=%d", id, topic, p, c.offset, c.leaderEpoch, c.metadata, at(c.at), c.topicID[15])
				if c.expire != base.NoTimestamp {
					s += " expires=" + at(c.expire)
				}
				out = append(out, s)
			}
		}
	}
	if !hard {
		out = append(out, fmt.Sprintf("bytes=%d", m.used))
	}
	return out
}

// records shows what was written since the last time.
func (r *runner) records(a args) []string {
	all, err := r.topic.Of(0).Records()
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, rec := range all[min(len(all), int(a.number("from", 0))):] {
		out = append(out, fmt.Sprintf("%d %s", rec.Offset, describeRecord(r.t, rec.Key, rec.Value)))
	}
	return out
}

func describeRecord(t *testing.T, key, value []byte) string {
	switch {
	case key[1] >= keyStreamsGroup:
		return describeStreamsRecord(t, key, value)
	case key[1] > keyGroup:
		return describeConsumerRecord(t, key, value)
	}
	if key[1] == keyGroup {
		k := kmsg.NewGroupMetadataKey()
		if err := k.ReadFrom(key); err != nil {
			t.Fatal(err)
		}
		if value == nil {
			return "group " + k.Group + " deleted"
		}
		v := kmsg.NewGroupMetadataValue()
		if err := v.ReadFrom(value); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("group %s v%d type=%q generation=%d protocol=%s leader=%s members=%d", k.Group, v.Version, v.ProtocolType, v.Generation,
			deref(v.Protocol), deref(v.Leader), len(v.Members))
	}
	k := kmsg.NewOffsetCommitKey()
	if err := k.ReadFrom(key); err != nil {
		t.Fatal(err)
	}
	if value == nil {
		return fmt.Sprintf("offset %s %s-%d deleted", k.Group, k.Topic, k.Partition)
	}
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(value); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("offset %s %s-%d v%d %d epoch=%d metadata=%q", k.Group, k.Topic, k.Partition, v.Version, v.Offset, v.LeaderEpoch, v.Metadata)
}

// reload has the coordinator give up its state and load it again.
func (r *runner) reload(args) []string {
	r.service.Drop(0)
	synctest.Wait()
	return nil
}

// crash loses what is not durable and starts a new coordinator.
func (r *runner) crash(a args) []string {
	r.topic = r.topic.Crash(func(n int) int { return min(n, int(a.number("keep", 0))) })
	r.stop()
	r.start()
	return nil
}

// groupArg is a command's group; a dash stands for the empty name.
func groupArg(a args) string {
	if a.plain[0] == "-" {
		return ""
	}
	return a.plain[0]
}

func codeName(code int16) string {
	if code == 0 {
		return "ok"
	}
	return kerr.TypedErrorForCode(code).Message
}

func quoted(b []byte) string {
	if len(b) > 32 {
		return fmt.Sprintf("(%d bytes)", len(b))
	}
	return strconv.Quote(string(b))
}

// topicMap implements TopicImage; its version grows with the number of its topics and partitions and their ids.

func (m topicMap) Version() int64 {
	var v int64
	for _, t := range m {
		v += int64(t.Partitions) + 1000*int64(t.ID[15])
	}
	return v
}

func (m topicMap) Topic(name string) (TopicInfo, bool) {
	t, ok := m[name]
	return t, ok
}

func (m topicMap) TopicByID(id base.TopicID) (TopicInfo, bool) {
	for _, t := range m {
		if t.ID == id {
			return t, true
		}
	}
	return TopicInfo{}, false
}

func (m topicMap) Names() iter.Seq[string] { return slices.Values(slices.Sorted(maps.Keys(m))) }

func (m topicMap) Racks(TopicInfo, int32) []string { return nil }
