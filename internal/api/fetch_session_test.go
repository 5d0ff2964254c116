package api

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
)

// sessionRequest is a fetch within a session. Without partitions it changes nothing.
func sessionRequest(id, epoch int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.SessionID, req.SessionEpoch = 16, 1<<20, id, epoch
	return req
}

// indexes lists the partitions that an answer has.
func indexes(resp *kmsg.FetchResponse) []int32 {
	var list []int32
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			list = append(list, p.Partition)
		}
	}
	return list
}

func TestSessionAnswersOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 3)
	c := b.client()
	full := sessionRequest(0, 0)
	for p := range int32(3) {
		addFetch(full, "", topic, p, 0)
	}
	resp := ask[*kmsg.FetchResponse](c, full)
	if got := indexes(resp); resp.SessionID == 0 || !slices.Equal(got, []int32{0, 1, 2}) {
		t.Fatalf("session %d with partitions %v, want one with all three", resp.SessionID, got)
	}
	id := resp.SessionID
	if resp = ask[*kmsg.FetchResponse](c, sessionRequest(id, 1)); len(indexes(resp)) != 0 || resp.SessionID != id {
		t.Errorf("nothing changed: session %d, partitions %v", resp.SessionID, indexes(resp))
	}
	mustProduce(c, "t", 1, "a")
	if resp = ask[*kmsg.FetchResponse](c, sessionRequest(id, 2)); !slices.Equal(indexes(resp), []int32{1}) {
		t.Errorf("records in 1: partitions %v", indexes(resp))
	}
	advanced := sessionRequest(id, 3)
	addFetch(advanced, "", topic, 1, 1)
	if resp = ask[*kmsg.FetchResponse](c, advanced); len(indexes(resp)) != 0 {
		t.Errorf("all read: partitions %v", indexes(resp))
	}
	forget := sessionRequest(id, 4)
	gone := kmsg.NewFetchRequestForgottenTopic()
	gone.TopicID, gone.Partitions = topic, []int32{1}
	forget.ForgottenTopics = append(forget.ForgottenTopics, gone)
	mustProduce(c, "t", 1, "b")
	mustProduce(c, "t", 2, "c")
	if resp = ask[*kmsg.FetchResponse](c, forget); !slices.Equal(indexes(resp), []int32{2}) {
		t.Errorf("1 forgotten: partitions %v, want 2", indexes(resp))
	}
}

func TestSessionWakesForNewRecords(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 2)
	reader, writer := b.client(), b.client()
	full := sessionRequest(0, 0)
	addFetch(full, "", topic, 0, 0)
	addFetch(full, "", topic, 1, 0)
	id := ask[*kmsg.FetchResponse](reader, full).SessionID
	for round := range int32(5) {
		next := sessionRequest(id, round+1)
		next.MaxWaitMillis, next.MinBytes = 15_000, 1
		if round > 0 {
			addFetch(next, "", topic, 1, int64(round))
		}
		reader.send(next)
		start := time.Now()
		mustProduce(writer, "t", 1, "a")
		resp := answered[*kmsg.FetchResponse](reader, next)
		if got := indexes(resp); !slices.Equal(got, []int32{1}) {
			t.Errorf("round %d: partitions %v, want 1", round, got)
		}
		if time.Since(start) > 10*time.Second {
			t.Error("it waited for max wait")
		}
	}
}

func TestSessionErrors(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 1)
	c := b.client()
	full := sessionRequest(0, 0)
	addFetch(full, "", topic, 0, 0)
	id := ask[*kmsg.FetchResponse](c, full).SessionID
	code := func(req *kmsg.FetchRequest) int16 { return ask[*kmsg.FetchResponse](c, req).ErrorCode }
	if got := code(sessionRequest(id+1, 1)); got != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("unknown session: code %d", got)
	}
	if got := code(sessionRequest(id, 2)); got != kerr.InvalidFetchSessionEpoch.Code {
		t.Errorf("wrong epoch: code %d", got)
	}
	byName := sessionRequest(id, 1)
	byName.Version = 12
	if got := code(byName); got != kerr.FetchSessionTopicIDError.Code {
		t.Errorf("by name in a session by id: code %d", got)
	}
	if got := code(sessionRequest(id, 1)); got != 0 {
		t.Errorf("after the errors: code %d, want the session to be there still", got)
	}
	end := sessionRequest(id, -1)
	addFetch(end, "", topic, 0, 0)
	if resp := ask[*kmsg.FetchResponse](c, end); resp.ErrorCode != 0 || resp.SessionID != 0 || len(indexes(resp)) != 1 {
		t.Errorf("final epoch: %+v, want a full answer without session", resp)
	}
	if got := code(sessionRequest(id, 2)); got != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("after the end: code %d", got)
	}
}

func TestSessionTellsErrorsUntilTheyAreGone(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 1)
	c := b.client()
	full := sessionRequest(0, 0)
	addFetch(full, "", topic, 0, 5)
	resp := ask[*kmsg.FetchResponse](c, full)
	if resp.Topics[0].Partitions[0].ErrorCode != kerr.OffsetOutOfRange.Code {
		t.Fatalf("%+v, want OFFSET_OUT_OF_RANGE", resp)
	}
	if again := ask[*kmsg.FetchResponse](c, sessionRequest(resp.SessionID, 1)); len(indexes(again)) != 1 {
		t.Errorf("the error was told once only")
	}
	fixed := sessionRequest(resp.SessionID, 2)
	addFetch(fixed, "", topic, 0, 0)
	if healed := ask[*kmsg.FetchResponse](c, fixed); len(indexes(healed)) != 1 || healed.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Errorf("%+v, want to hear that the error has gone", healed)
	}
	if again := ask[*kmsg.FetchResponse](c, sessionRequest(resp.SessionID, 3)); len(indexes(again)) != 0 {
		t.Errorf("%v, want nothing", indexes(again))
	}
}

func TestSessionRotatesPartitions(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 3)
	c := b.client()
	full := sessionRequest(0, 0)
	for p := range int32(3) {
		for range 4 {
			mustProduce(c, "t", p, "xxxxxxxxxx")
		}
		addFetch(full, "", topic, p, 0)
	}
	full.MaxBytes = 1 // one batch each time
	resp := ask[*kmsg.FetchResponse](c, full)
	served := map[int32]int{}
	for epoch := int32(1); epoch <= 6; epoch++ {
		req := sessionRequest(resp.SessionID, epoch)
		req.MaxBytes = 1
		for _, tp := range ask[*kmsg.FetchResponse](c, req).Topics {
			for _, p := range tp.Partitions {
				if len(p.RecordBatches) > 0 {
					served[p.Partition]++
				}
			}
		}
	}
	if served[0] != 2 || served[1] != 2 || served[2] != 2 {
		t.Errorf("served %v, want every partition twice in six fetches", served)
	}
}

func TestSessionSeesTopicsComeAndGo(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	topic := b.createTopic("t", 1)
	c := b.client()
	full := sessionRequest(0, 0)
	full.Version = 12
	addFetch(full, "t", topic, 0, 0)
	addFetch(full, "later", base.TopicID{}, 0, 0)
	resp := ask[*kmsg.FetchResponse](c, full)
	if got := resp.Topics[1].Partitions[0].ErrorCode; got != kerr.UnknownTopicOrPartition.Code {
		t.Fatalf("code %d, want UNKNOWN_TOPIC_OR_PARTITION", got)
	}
	b.createTopic("later", 1)
	if err := b.metadata.DeleteTopics(b.ctx, []base.TopicID{topic})[0]; err != nil {
		t.Fatal(err)
	}
	next := sessionRequest(resp.SessionID, 1)
	next.Version = 12
	codes := map[string]int16{}
	for _, tp := range ask[*kmsg.FetchResponse](c, next).Topics {
		codes[tp.Topic] = tp.Partitions[0].ErrorCode
	}
	if codes["t"] != kerr.UnknownTopicOrPartition.Code || codes["later"] != 0 || len(codes) != 2 {
		t.Errorf("codes %v, want t gone and later there", codes)
	}
}

// TestFetchesDoNotMix has clients fetch at once, each its own partition, with a session and without, where there are records and where a
// fetch waits: what a fetch leaves for others to use again must not hold anything of it.
func TestFetchesDoNotMix(t *testing.T) {
	t.Parallel()
	const clients, rounds = 6, 30
	b := newBroker(t)
	id := b.createTopic("t", clients)
	var wg sync.WaitGroup
	for i := range int32(clients) {
		c, _ := b.tcpClient(testListener)
		mustProduce(c, "t", i, fmt.Sprintf("of %d", i))
		wg.Go(func() {
			session, epoch := noSession, initialEpoch
			for round := range rounds {
				if i%2 == 0 {
					session, epoch = noSession, finalEpoch
				}
				req := sessionRequest(session, epoch)
				req.MinBytes, req.MaxWaitMillis = 1, 2
				offset := int64(round % 2) // of the record, then behind it
				addFetch(req, "t", id, i, offset)
				c.send(req)
				answer, err := c.receive(req)
				if err != nil {
					t.Error(err)
					return
				}
				resp := answer.(*kmsg.FetchResponse)
				session, epoch = resp.SessionID, nextEpoch(epoch)
				var got []string
				for _, topic := range resp.Topics {
					for _, p := range topic.Partitions {
						if p.Partition != i || p.ErrorCode != 0 {
							t.Errorf("client %d is answered of partition %d, code %d", i, p.Partition, p.ErrorCode)
						}
						got = append(got, recordsOf(t, p.RecordBatches)...)
					}
				}
				if want := fmt.Sprintf("0:of %d", i); offset == 0 && !slices.Equal(got, []string{want}) || offset > 0 && len(got) > 0 {
					t.Errorf("client %d got %q at %d", i, got, offset)
				}
			}
		})
	}
	wg.Wait()
}

func TestSessionCacheIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	cache := newFetchSessions(2)
	cache.maxPartitions = 100
	keep := func(partitions int) *fetchSession {
		s := newFetchSession(true)
		for p := range partitions {
			s.targets[fetchKey{partition: int32(p)}] = &fetchTarget{}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		cache.keepLocked(s, now)
		return s
	}
	first, second := keep(1), keep(5)
	if first.id == noSession || second.id == noSession {
		t.Fatal("there was room for two")
	}
	if third := keep(3); third.id != noSession {
		t.Error("a newcomer took the place of a young session")
	}
	now = now.Add(sessionEviction + time.Second)
	cache.resize(first, 1, now)
	cache.resize(second, 5, now)
	third := keep(3)
	if third.id == noSession || first.id != noSession || second.id == noSession {
		t.Error("the larger newcomer should take the place of the smallest old session")
	}
	now = now.Add(sessionEviction + time.Second)
	cache.resize(second, 5, now)
	if fourth := keep(1); fourth.id == noSession || third.id != noSession {
		t.Error("the newcomer should take the place of the session unused for longest")
	}
	if cache.partitions != 6 || len(cache.byID) != 2 {
		t.Errorf("%d partitions in %d sessions, want 6 in 2", cache.partitions, len(cache.byID))
	}
	if huge := keep(100); huge.id != noSession {
		t.Error("a session above the limit of partitions was kept")
	}
}

func TestNextEpochSkipsTheSpecialOnes(t *testing.T) {
	t.Parallel()
	for from, want := range map[int32]int32{-1: -1, 0: 1, 1: 2, 1<<31 - 1: 1} {
		if got := nextEpoch(from); got != want {
			t.Errorf("%s: %d, want %d", fmt.Sprint(from), got, want)
		}
	}
}

// TestSessionKeepsNamesOfItsOwn: the memory of the request that named a topic has long been used for others when it is answered again.
func TestSessionKeepsNamesOfItsOwn(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	c := b.client()
	full := sessionRequest(0, 0)
	full.Version = 12
	addFetch(full, "not-there", base.TopicID{}, 0, 0)
	id := ask[*kmsg.FetchResponse](c, full).SessionID
	for epoch := range int32(10) {
		next := sessionRequest(id, 1+epoch)
		next.Version, next.Rack = 12, strings.Repeat("r", 100)
		resp := ask[*kmsg.FetchResponse](c, next)
		if len(resp.Topics) != 1 || resp.Topics[0].Topic != "not-there" {
			t.Fatalf("%+v, want an answer about the topic that is not there", resp)
		}
	}
}
