package sharestate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/coordtest"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/share"
)

// TestHistories lets random requests meet a share coordinator that loses power between any two of them, and whose log is pruned: what was
// answered is there afterwards, and of what was not a part that began with the first request. The model is an array of records.
func TestHistories(t *testing.T) {
	t.Parallel()
	seed := proof.Seed(t)
	p := proof.Start(t, "share-state", "histories of share state", seed)
	for i := range uint64(proof.Times(t, 60, 1500, 100_000)) {
		h := &historian{t: t, rand: rand.New(rand.NewPCG(seed, i)), ctx: t.Context(), topic: coordtest.NewTopic(1), told: map[share.Key]*model{}}
		h.start()
		for range 12 {
			h.life()
		}
		if err := h.service.Close(); err != nil {
			t.Fatal(err)
		}
		p.Tried(1)
		p.Lost(h.lost)
		if t.Failed() {
			return
		}
	}
}

// maxOffset bounds the offsets of a history, so that batches meet.
const maxOffset = 24

// model is a share partition as it should be.
type model struct {
	stateEpoch  int32
	leaderEpoch base.LeaderEpoch
	start       base.Offset
	count       int32
	records     [maxOffset]share.StateBatch // of First and Last nothing is used; delivered never: nothing is known
	known       [maxOffset]bool
}

type historian struct {
	t       *testing.T
	rand    *rand.Rand
	ctx     context.Context
	topic   *coordtest.Topic
	service *Service
	told    map[share.Key]*model // what every answered request has made of it; nil: not there
	lost    int64
}

var topicID = base.TopicID{1}

func (h *historian) start() {
	s, err := New(Config{UpdatesPerSnapshot: 3}, Deps{
		Topic: h.topic, Logger: coordtest.Logger(func(why string) { h.t.Error(why) }),
		Partitions: func(base.TopicID) int32 { return 3 },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.service = s
}

// life is some requests, of which the last are not durable when the power fails.
func (h *historian) life() {
	for range h.rand.IntN(12) {
		key, wait, after := h.request(h.told)
		if err := wait(); err != nil {
			h.t.Fatalf("%v: %v", key, err)
		}
		h.told[key] = after
	}
	if h.rand.IntN(2) == 0 {
		h.service.Prune(h.ctx)
	}
	h.topic.Of(0).Hold()
	candidates := map[share.Key][]*model{}
	now := map[share.Key]*model{}
	for k, m := range h.told {
		candidates[k], now[k] = []*model{m}, m
	}
	for range h.rand.IntN(6) {
		key, _, after := h.request(now)
		candidates[key] = append(candidates[key], after)
		if len(candidates[key]) == 1 {
			candidates[key] = []*model{nil, after}
		}
		now[key] = after
	}
	h.topic = h.topic.Crash(func(n int) int { return h.rand.IntN(n + 1) })
	if err := h.service.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.start()
	for k, might := range candidates {
		got := h.read(k)
		n := slices.IndexFunc(might, func(m *model) bool { return reflect.DeepEqual(m, got) })
		if n < 0 {
			h.lost++
			h.t.Errorf("%v is %+v\nwant one of %d, the first %+v", k, got, len(might), might[0])
			return
		}
		h.told[k] = got
	}
}

// request sends a request that suits the state, waits until it is carried out, and returns what the state is then.
func (h *historian) request(now map[share.Key]*model) (key share.Key, wait func() error, after *model) {
	key = share.Key{Group: []string{"g", "h"}[h.rand.IntN(2)], Topic: topicID, Partition: h.rand.Int32N(2)}
	old := now[key]
	if old == nil || h.rand.IntN(12) == 0 {
		m := &model{start: base.Offset(h.rand.IntN(3)) - 1}
		if m.start == base.NoOffset {
			m.count = notCounted
		}
		if old != nil {
			m.stateEpoch, m.leaderEpoch = old.stateEpoch, old.leaderEpoch
		}
		m.stateEpoch += h.rand.Int32N(2)
		return key, h.done(h.service.Initialize(key, m.stateEpoch, m.start), nil), m
	}
	m := *old
	switch h.rand.IntN(12) {
	case 0:
		return key, h.done(h.service.Delete(key), nil), nil
	case 1:
		if old.stateEpoch > 0 { // from before the last initialization
			w := share.Persisted{StateEpoch: old.stateEpoch - 1, LeaderEpoch: base.NoLeaderEpoch, Start: base.NoOffset, Batches: h.batches(&model{})}
			return key, h.done(h.service.Write(key, w), share.ErrFencedStateEpoch), old
		}
	case 2:
		m.leaderEpoch++
		pending := h.service.Read(key, m.leaderEpoch)
		<-pending.Done()
		return key, func() error { _, err := pending.Wait(h.ctx); return err }, &m
	}
	w := share.Persisted{StateEpoch: m.stateEpoch, LeaderEpoch: m.leaderEpoch, Start: base.NoOffset, DeliveryCompleteCount: h.rand.Int32N(5)}
	if h.rand.IntN(3) == 0 {
		w.Start = max(m.start, 0) + base.Offset(h.rand.IntN(3))
		m.start = w.Start
	}
	m.count = w.DeliveryCompleteCount
	w.Batches = h.batches(&m)
	return key, h.done(h.service.Write(key, w), nil), &m
}

// done waits until a request is carried out, and returns how to wait until that is durable. Its error is to be want.
func (h *historian) done(pending share.Pending[struct{}], want error) func() error {
	<-pending.Done()
	return func() error {
		if _, err := pending.Wait(h.ctx); !errors.Is(err, want) {
			return fmt.Errorf("%w, want %w", cmp.Or(err, errors.New("no error")), want)
		}
		return nil
	}
}

// batches are changes for a write, and makes them in the model.
func (h *historian) batches(m *model) []share.StateBatch {
	var all []share.StateBatch
	for range h.rand.IntN(3) {
		first := base.Offset(h.rand.IntN(maxOffset))
		b := share.StateBatch{
			First: first, Last: min(first+base.Offset(h.rand.IntN(5)), maxOffset-1),
			State: []share.State{share.Available, share.Acknowledged, share.Archived}[h.rand.IntN(3)], DeliveryCount: int16(1 + h.rand.IntN(3)),
		}
		all = append(all, b)
		for o := b.First; o <= b.Last; o++ {
			if !m.known[o] || rank(b, m.records[o]) > 0 {
				m.known[o], m.records[o] = true, share.StateBatch{State: b.State, DeliveryCount: b.DeliveryCount}
			}
		}
	}
	m.forgetBelow()
	return all
}

func (m *model) forgetBelow() {
	for o := base.Offset(0); o < min(m.start, maxOffset); o++ {
		m.known[o], m.records[o] = false, share.StateBatch{}
	}
}

// read is the state of a share partition as the coordinator tells it.
func (h *historian) read(k share.Key) *model {
	p, err := h.service.Read(k, base.NoLeaderEpoch).Wait(h.ctx)
	if errors.Is(err, share.ErrNotInitialized) {
		return nil
	}
	if err != nil {
		h.t.Fatal(err)
	}
	m := &model{stateEpoch: p.StateEpoch, leaderEpoch: p.LeaderEpoch, start: p.Start, count: p.DeliveryCompleteCount}
	for i, b := range p.Batches {
		if i > 0 && (b.First <= p.Batches[i-1].Last || b.First == p.Batches[i-1].Last+1 && rank(b, p.Batches[i-1]) == 0) {
			h.t.Errorf("%v: batches %+v overlap, or could be one", k, p.Batches)
		}
		for o := b.First; o <= b.Last; o++ {
			m.known[o], m.records[o] = true, share.StateBatch{State: b.State, DeliveryCount: b.DeliveryCount}
		}
	}
	return m
}
