package group

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/proof"
)

// TestShareHistories runs random histories of a share group whose coordinator dies at any moment. Its rules, beside those of all histories
// (what the coordinator has is what its log gives, and what it counts is what it holds):
//
//   - nobody is told of a partition before the share coordinator keeps its state;
//   - the epoch that a member is told never goes down while it is a member;
//   - once all is quiet every partition is with somebody who still reports.
func TestShareHistories(t *testing.T) {
	t.Parallel()
	seed := proof.Seed(t)
	p := proof.Start(t, "share-group", "histories of share groups", seed)
	for i := range uint64(proof.Times(t, 20, 300, 30_000)) {
		rnd := rand.New(rand.NewPCG(seed, i))
		synctest.Test(t, func(t *testing.T) { shareHistory(t, 60, rnd.IntN) })
		if p.Tried(1); t.Failed() {
			return
		}
	}
}

// shareClient is a client of share group x, with one heartbeat under way at most.
type shareClient struct {
	name, member string
	lives        int // how often it started
	epoch        int32
	topics       []string
	owned        map[place]bool
	busy         bool
	resends      bool // what it subscribes to: it does not know whether that arrived
}

type shareHistorian struct {
	*historian
	sharers []*shareClient
	kept    map[place]bool // what the share coordinator keeps
}

func shareHistory(t *testing.T, steps int, pick func(n int) int) {
	h := &shareHistorian{historian: &historian{runner: newRunner(t), pick: pick}, kept: map[place]bool{}}
	defer func() { h.stop() }()
	h.disk = vfs.NewCrashableMem()
	for i := range 4 {
		c := &shareClient{name: fmt.Sprintf("x%d", i)}
		h.restartSharer(c)
		h.sharers = append(h.sharers, c)
	}
	check := func() {
		synctest.Wait()
		h.answered()
		if len(h.problems) > 0 {
			t.Fatal(strings.Join(h.problems, "\n"))
		}
	}
	for range steps {
		h.stepShare()
		check()
	}
	h.topic.Of(0).Release()
	h.topic.Of(0).Refuse(0)
	check()
	h.settleShare(check)
	h.checkReplay()
	check()
}

func (h *shareHistorian) restartSharer(c *shareClient) {
	h.lastID++
	*c = shareClient{name: c.name, member: fmt.Sprintf("%s-%d", c.name, h.lastID), lives: c.lives + 1, owned: map[place]bool{}}
}

func (h *shareHistorian) stepShare() {
	switch n := h.pick(100); {
	case n < 60:
		h.reportShare(h.sharers[h.pick(len(h.sharers))], true /* leaves */)
	case n < 78:
		time.Sleep([]time.Duration{time.Millisecond, time.Second, 4 * time.Second, 11 * time.Second}[h.pick(4)])
	case n < 82:
		h.topic.Of(0).Hold()
	case n < 90:
		h.topic.Of(0).Release()
	case n < 91:
		h.topic.Of(0).Refuse(1)
	case n < 92:
		h.reload(args{})
	case n < 95:
		h.powerFails()
	default:
		h.checkReplay()
	}
}

// reportShare has a client send the heartbeat that it might send next; leaves says whether it may restart, leave or change its mind.
func (h *shareHistorian) reportShare(c *shareClient, leaves bool) {
	if c.busy {
		if leaves && h.pick(12) == 0 {
			h.restartSharer(c)
		}
		return
	}
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.MemberEpoch = "x", c.member, c.epoch
	n := h.pick(20)
	switch {
	case leaves && n < 1:
		h.restartSharer(c) // it died
		return
	case leaves && n < 3 && c.epoch > 0:
		c.epoch, req.MemberEpoch, c.owned = 0, leaveEpoch, map[place]bool{}
	case c.epoch == 0 || leaves && n < 5 || c.resends:
		if !c.resends {
			c.topics = [][]string{{"t"}, {"t", "u"}}[h.pick(2)]
		}
		req.SubscribedTopicNames = c.topics
	}
	c.busy = true
	life := c.lives
	expectEither(h.runner, c.name, h.service.ShareGroupHeartbeat(Client{ID: c.name}, req), func(report ShareReport, err error) {
		h.keep(report.Initialize, leaves)
		if c.lives != life {
			return // the one that asked is no more
		}
		c.busy, c.resends = false, err != nil && req.MemberEpoch >= 0
		if err != nil || req.MemberEpoch < 0 {
			return
		}
		resp := report.Response
		switch code := codeName(resp.ErrorCode); code {
		case "ok":
			h.reportedShare(c, resp)
		case "FENCED_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID", "GROUP_ID_NOT_FOUND":
			c.epoch, c.owned = 0, map[place]bool{}
		default:
			h.failf("%s: %s %s", c.name, code, deref(resp.ErrorMessage))
		}
	})
}

// keep has the share coordinator initialize what it is asked to. It may fail, and whoever asked may be gone before he tells the group.
func (h *shareHistorian) keep(partitions []SharePartition, fails bool) {
	if len(partitions) == 0 {
		return
	}
	n := h.pick(10)
	done := !fails || n > 2
	if done {
		for _, p := range partitions {
			h.kept[place{p.Topic, p.Partition}] = true
		}
	}
	if !fails || n != 1 && n != 3 {
		expectEither(h.runner, "initialized", h.service.ShareInitialized("x", partitions, done), func(struct{}, error) {})
	}
}

// reportedShare takes over what an answer says.
func (h *shareHistorian) reportedShare(c *shareClient, resp *kmsg.ShareGroupHeartbeatResponse) {
	if resp.MemberEpoch < c.epoch {
		h.failf("%s is told epoch %d after %d", c.name, resp.MemberEpoch, c.epoch)
	}
	c.epoch = resp.MemberEpoch
	if resp.Assignment == nil {
		return
	}
	c.owned = map[place]bool{}
	for _, t := range resp.Assignment.TopicPartitions {
		for _, p := range t.Partitions {
			at := place{t.TopicID, p}
			if c.owned[at] = true; !h.kept[at] {
				h.failf("%s has %v, whose state is not kept", c.name, at)
			}
			if !slices.ContainsFunc(c.topics, func(name string) bool { return h.topics[name].ID == t.TopicID }) {
				h.failf("%s has %v, and subscribes to %v", c.name, at, c.topics)
			}
		}
	}
}

// settleShare has the clients report for longer than a session lasts, and than an initialization is left to others, and then one of them
// alone. Each time every partition that somebody subscribes to has to be with one of those who report.
func (h *shareHistorian) settleShare(check func()) {
	for _, reporting := range [][]*shareClient{h.sharers, {h.sharers[h.pick(len(h.sharers))]}} {
		for range 24 {
			for _, c := range reporting {
				h.reportShare(c, false /* leaves */)
				check()
			}
			time.Sleep(4 * time.Second)
		}
		for name, t := range h.topics {
			if !slices.ContainsFunc(reporting, func(c *shareClient) bool { return slices.Contains(c.topics, name) }) {
				continue
			}
			for p := range t.Partitions {
				if !slices.ContainsFunc(reporting, func(c *shareClient) bool { return c.owned[place{t.ID, p}] }) {
					h.failf("%s-%d is with none of the %d who report in the end", name, p, len(reporting))
				}
			}
		}
		check()
	}
}
