package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/coordtest"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
	"github.com/ottlaio/ottla/internal/proof"
)

// The fault model: appends are refused, or become durable late; the process dies at any moment, and of what was not durable by then any
// number of batches survive, from the first on, and snapshots as far as they were synced; state is given up and replayed at any moment.
// Whatever happens:
//
//   - an offset whose commit was answered is never lost, and nobody who was told of an offset is ever told of an older one;
//   - of the members of a group at most one is told in each generation that it leads, and those told of the generation agree on the
//     protocol;
//   - replaying the log gives the state that the coordinator has, but for what is not recorded;
//   - the memory that the coordinator says it takes is the sum of what it holds.
//
// Consumer groups and streams groups add to these rules: see consumer_history_test.go and streams_history_test.go.

// TestHistories tries random histories. A seed that fails is printed in the test's name.
func TestHistories(t *testing.T) {
	t.Parallel()
	histories, first := uint64(proof.Times(t, 60, 3500, 80_000)), proof.Seed(t)
	row := proof.Start(t, "coordinator", "histories in simulated time", first)
	var crashes atomic.Int64
	for worker := range uint64(runtime.GOMAXPROCS(0)) {
		t.Run(fmt.Sprintf("worker=%d", worker), func(t *testing.T) {
			t.Parallel()
			for seed := first + worker; seed < first+histories; seed += uint64(runtime.GOMAXPROCS(0)) {
				if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
					rnd := rand.New(rand.NewPCG(seed, 3))
					synctest.Test(t, func(t *testing.T) { crashes.Add(history(t, 300, rnd.IntN)) })
				}) {
					row.Lost(1)
					return
				}
				row.Tried(1)
			}
		})
	}
	t.Cleanup(func() { row.Note("of 300 steps each, with %d crashes between two steps", crashes.Load()) })
}

// FuzzHistories looks for histories that break the rules; each byte is a choice. What a history covers differs a little from run to run, so
// that Go takes most of them for interesting: without -fuzzminimizetime 10x, as make fuzz has it, the time goes into making them smaller.
func FuzzHistories(f *testing.F) {
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		choices := make([]byte, 400)
		for i := range choices {
			choices[i] = byte(rnd.Uint32())
		}
		f.Add(choices)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		pick := func(n int) int {
			if len(choices) == 0 {
				return 0
			}
			c := int(choices[0])
			choices = choices[1:]
			return c % n
		}
		synctest.Test(t, func(t *testing.T) { history(t, min(len(choices)/2, 300), pick) })
	})
}

// historian runs a history and holds it to the rules.
type historian struct {
	*runner
	pick  func(n int) int
	kinds []Kind // of the groups whose members do something

	attempted map[string]int64 // by group and partition: the highest offset of any commit so far
	known     map[string]int64 // the highest that anybody was told of
	clients   map[string]*historyClient
	consumers []*consumerClient
	late      []lateHeartbeat
	streamers []*streamsClient
	lastID    int
	lives     map[*Machine]int
	leaders   map[string]string // group, generation, life → member that was told it leads
	protocols map[string]string // the same → protocol
	problems  []string
	crashes   int64
}

// historyClient is a client with one request under way at most, as real ones are for membership.
type historyClient struct {
	group, name, member string
	instance            *string
	generation          int32
	protocol            string
	members             []string // as the leader learnt them
	busy                bool
	life                int // of the state that its last join came to
}

// history runs one and returns how often the process died in it.
func history(t *testing.T, steps int, pick func(n int) int) (crashes int64) {
	h := &historian{
		runner: newRunner(t), pick: pick,
		attempted: map[string]int64{}, known: map[string]int64{}, clients: map[string]*historyClient{},
		lives: map[*Machine]int{}, leaders: map[string]string{}, protocols: map[string]string{},
	}
	defer func() { h.stop() }()
	h.cfg.InitialRebalanceDelay = time.Second
	h.disk = vfs.NewCrashableMem()
	h.stop()
	h.start()
	h.settings.AssignmentInterval = []time.Duration{0, time.Second}[pick(2)]
	h.streams = StreamsSettings{
		SessionTimeout: 45 * time.Second, HeartbeatInterval: 5 * time.Second, AssignmentInterval: h.settings.AssignmentInterval,
		InitialDelay: []time.Duration{0, time.Second}[pick(2)], StandbyReplicas: pick(2),
	}
	h.kinds = [][]Kind{{Classic, Consumer, Streams}, {Classic, Consumer, Streams}, {Classic, Consumer}, {Consumer}, {Streams}}[pick(5)]
	h.newConsumers()
	h.newStreams()
	for _, group := range []string{"g", "h", "c"} {
		for i := range 4 {
			c := &historyClient{group: group, name: fmt.Sprintf("%s%d", group, i)}
			if group == "c" {
				c.name = fmt.Sprintf("k%d", i)
			}
			if i >= 2 {
				c.instance = ptr(c.name)
				if group == "c" {
					c.instance = ptr(fmt.Sprintf("c%d", i+1)) // of a consumerClient
				}
			}
			h.clients[c.name] = c
		}
	}
	deadly := []int{0, 0, 5, 20, 60}[pick(5)] // percent of the steps after which the process dies
	for range steps {
		h.step()
		if h.pick(100) < deadly {
			h.powerFails()
		}
		synctest.Wait()
		h.answered()
		if len(h.problems) > 0 {
			t.Fatal(strings.Join(h.problems, "\n"))
		}
	}
	h.topic.Of(0).Release()
	synctest.Wait()
	h.checkReplay()
	synctest.Wait()
	h.answered()
	h.quiet()
	h.checkReplay()
	synctest.Wait()
	h.crash(args{})
	for _, key := range slices.Sorted(maps.Keys(h.known)) {
		h.read(key)
	}
	synctest.Wait()
	h.answered()
	if len(h.problems) > 0 {
		t.Fatal(strings.Join(h.problems, "\n"))
	}
	return h.crashes
}

// quiet has the clients report more often than the rebalance timeout asks for, and for longer than a session lasts. Then everything has to
// be with one of them.
func (h *historian) quiet() {
	h.topic.Of(0).Refuse(0) // a refusal that is still to come would begin all sessions anew
	for range 18 {
		for _, c := range h.consumers {
			h.reportInFull(c)
			synctest.Wait()
			h.answered()
		}
		for _, c := range h.streamers {
			h.reportTasks(c, false /* leaves */)
			synctest.Wait()
			h.answered()
		}
		time.Sleep(4 * time.Second)
	}
	h.checkQuiet()
	h.checkQuietTasks()
}

// powerFails ends the process in the middle of whatever it does.
func (h *historian) powerFails() {
	h.crashes++
	h.topic.Of(0).Break() // nobody is answered after the moment that Crash takes
	h.disk = h.disk.CrashClone(vfs.CrashCloneCfg{})
	h.crash(args{named: map[string]string{"keep": strconv.Itoa(h.pick(4))}})
}

func (h *historian) failf(format string, args ...any) {
	h.problems = append(h.problems, fmt.Sprintf(format, args...))
}

func (h *historian) step() {
	switch n := h.pick(100); {
	case n < 20:
		h.write(fmt.Sprintf("s%d t-%d", h.pick(2), h.pick(2)))
	case n < 28:
		h.read(fmt.Sprintf("s%d t-%d", h.pick(2), h.pick(2)))
	case n < 74:
		h.beMember(h.kinds[h.pick(len(h.kinds))])
	case n < 75:
		h.changeTopics()
	case n < 76:
		time.Sleep(maintenanceInterval) // a snapshot, if there is enough for one
	case n < 85:
		time.Sleep([]time.Duration{time.Millisecond, time.Second, 4 * time.Second, 11 * time.Second}[h.pick(4)])
	case n < 89:
		h.topic.Of(0).Hold()
	case n < 94:
		h.topic.Of(0).Release()
	case n < 95:
		h.topic.Of(0).Refuse(1)
	case n < 96:
		h.reload(args{})
	case n < 98:
		h.powerFails()
	default:
		h.checkReplay()
	}
}

// beMember has a member of a group do something.
func (h *historian) beMember(of Kind) {
	switch {
	case of == Classic:
		h.act(h.clients[fmt.Sprintf("%c%d", "ghk"[h.pick(3)], h.pick(4))])
	case of == Streams:
		h.reportTasks(h.streamers[h.pick(len(h.streamers))], true /* leaves */)
	case h.pick(8) == 0:
		h.repeat()
	default:
		h.report(h.consumers[h.pick(len(h.consumers))])
	}
}

// write commits the next offset of a key, which is a group and a partition.
func (h *historian) write(key string) {
	group, _, _ := strings.Cut(key, " ")
	offset := h.attempted[key] + 1
	h.attempted[key] = offset
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 9, group, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = int32(key[len(key)-1]-'0'), offset
	topics := []CommitTopic{{Name: "t", ID: base.TopicID{15: 1}, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	expect(h.runner, key, h.service.CommitOffsets(req, topics), func(done Committed) []string {
		if done.Code != nil || done.Partitions[0][0] != 0 {
			h.failf("commit of %s=%d: %v", key, offset, done)
		}
		h.known[key] = max(h.known[key], offset)
		return nil
	})
}

// read fetches the offset of a key. What was known before it was asked has to be in the answer.
func (h *historian) read(key string) {
	group, _, _ := strings.Cut(key, " ")
	before := h.known[key]
	topics := []FetchTopic{{Name: "t", ID: base.TopicID{15: 1}, Partitions: []int32{int32(key[len(key)-1] - '0')}}}
	expect(h.runner, key, h.service.FetchOffsets(group, nil, -1, topics, false), func(fetched Fetched) []string {
		got := max(fetched.Topics[0].Partitions[0].Offset, 0)
		if got < before || got > h.attempted[key] {
			h.failf("%s is %d; want %d, which was answered before, to %d, which was tried", key, got, before, h.attempted[key])
		}
		h.known[key] = max(h.known[key], got)
		return nil
	})
}

// act has a client do what a client may do next.
func (h *historian) act(c *historyClient) {
	if c.busy {
		if h.pick(10) == 0 {
			*c = historyClient{group: c.group, name: c.name, instance: c.instance} // it restarts
		}
		return
	}
	switch h.pick(6) {
	case 0, 1:
		h.joinGroup(c)
	case 2, 3:
		h.syncGroup(c)
	case 4:
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.InstanceID, req.Generation = c.group, c.member, c.instance, c.generation
		expect(h.runner, c.name, h.service.Heartbeat(req), func(*kmsg.HeartbeatResponse) []string { return nil })
	case 5:
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group = 5, c.group
		req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: c.member, InstanceID: c.instance}}
		c.member = ""
		expect(h.runner, c.name, h.service.LeaveGroup(req), func(*kmsg.LeaveGroupResponse) []string { return nil })
	}
}

func (h *historian) joinGroup(c *historyClient) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = int16([]int{3, 5, 9}[h.pick(3)])
	req.Group, req.MemberID, req.InstanceID, req.ProtocolType = c.group, c.member, c.instance, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10000, 5000
	for _, name := range [][]string{{"range"}, {"sticky", "range"}, {"range", "sticky"}}[h.pick(3)] {
		req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: subscription("t")})
	}
	c.busy = true
	at := *c
	coordinator.Submit(h.service.runtime, 0, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) {
		if _, ok := h.lives[m]; !ok {
			h.lives[m] = len(h.lives)
		}
		at.life = h.lives[m] // that of the answer too, or there is none
		c.Answer(fx, struct{}{})
	})
	expectEither(h.runner, c.name, h.service.JoinGroup(Client{ID: c.name}, req), func(resp *kmsg.JoinGroupResponse, err error) {
		if c.busy = false; err != nil {
			return
		}
		switch codeName(resp.ErrorCode) {
		case "ok":
			c.member, c.generation, c.protocol = resp.MemberID, resp.Generation, deref(resp.Protocol)
			c.members = nil
			for _, m := range resp.Members {
				c.members = append(c.members, m.MemberID)
			}
			h.told(&at, resp)
		case "MEMBER_ID_REQUIRED":
			c.member = resp.MemberID
		default:
			c.member = ""
		}
	})
}

// told notes what a member was told of a generation. The numbers of generations come again after the state was given up.
func (h *historian) told(c *historyClient, resp *kmsg.JoinGroupResponse) {
	if resp.LeaderID == "" || c.group == "c" {
		return // of a consumer group, or of one that was: without members it changes its protocol, and its generations begin anew
	}
	key := fmt.Sprintf("%s %d %d", c.group, resp.Generation, c.life)
	if known, ok := h.protocols[key]; ok && known != deref(resp.Protocol) {
		h.failf("%s: protocols %s and %s", key, known, deref(resp.Protocol))
	}
	h.protocols[key] = deref(resp.Protocol)
	if resp.LeaderID != resp.MemberID || c.instance != nil {
		return // a static leader comes back under a new id
	}
	if known, ok := h.leaders[key]; ok && known != resp.MemberID {
		h.failf("%s: leaders %s and %s", key, known, resp.MemberID)
	}
	h.leaders[key] = resp.MemberID
}

func (h *historian) syncGroup(c *historyClient) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version = 3
	req.Group, req.MemberID, req.InstanceID, req.Generation = c.group, c.member, c.instance, c.generation
	for i, m := range c.members {
		a := kmsg.SyncGroupRequestGroupAssignment{MemberID: m, MemberAssignment: []byte(m)}
		if c.group == "c" { // to be read when the group becomes a consumer group
			a.MemberAssignment = appendAssignment(h.topics, 0, assignor.Assignment{{Topic: h.topics["t"].ID, Partitions: []int32{int32(i)}}})
		}
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	c.busy = true
	expectEither(h.runner, c.name, h.service.SyncGroup(req), func(resp *kmsg.SyncGroupResponse, err error) {
		c.busy = false
		if err == nil && codeName(resp.ErrorCode) == "UNKNOWN_MEMBER_ID" {
			c.member = ""
		}
	})
}

// expectEither is expect for callers that want the error too.
func expectEither[A any](r *runner, label string, c *coordinator.Call[A], then func(A, error)) {
	w := &waiting{label: label, done: make(chan struct{})}
	r.waiting = append(r.waiting, w)
	ctx := r.t.Context()
	go func() {
		defer close(w.done)
		answer, err := c.Wait(ctx)
		w.answer = func() []string { then(answer, err); return nil }
	}()
}

// checkReplay compares the coordinator's state with what its log gives, and its account of its memory with what it holds.
func (h *historian) checkReplay() {
	log := h.topic.Of(0)
	c := coordinator.Submit(h.service.runtime, 0, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) {
		c.Answer(fx, struct{}{})
		if want := weigh(m); m.used != want {
			h.failf("the state takes %d bytes, not %d", want, m.used)
		}
		replayed, err := replayLog(log)
		if err != nil {
			h.failf("replay: %v", err)
			return
		}
		if len(fx.Records()) > 0 {
			return // of this batch, which is not in the log yet
		}
		kept := &Machine{env: m.env, groups: map[string]group{}, offsets: m.offsets}
		replayed.env = m.env
		for id, g := range m.groups {
			if c, ok := g.(*consumerGroup); ok {
				h.checkConsumers(c)
			}
			if s, ok := g.(*streamsGroup); ok {
				h.checkStreams(s)
			}
			if c, ok := g.(*classicGroup); ok && (c.state == preparing || c.state == completing) {
				delete(replayed.groups, id) // what members do is recorded when they are done
				continue
			}
			kept.groups[id] = g
		}
		want, got := dumpMachine(kept, h.began, true), dumpMachine(replayed, h.began, true)
		if !slices.Equal(want, got) {
			h.failf("the coordinator has\n%s\nits log gives\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
		}
	})
	expect(h.runner, "check", c, func(struct{}) []string { return nil })
}

func replayLog(l *coordtest.Log) (*Machine, error) {
	records, err := l.Records()
	if err != nil {
		return nil, err
	}
	m := newTestMachine()
	for _, r := range records {
		if err := m.Replay(coordinator.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// weigh is what Machine.used should be.
func weigh(m *Machine) int64 {
	var n int64
	for _, g := range m.groups {
		n += g.size()
	}
	for _, topics := range m.offsets {
		for _, partitions := range topics {
			for _, c := range partitions {
				n += c.size()
			}
		}
	}
	return n
}
