package share_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/share/sharetest"
)

const (
	lockDuration = 30 * time.Second
	maxSessions  = 3
	maxWindow    = 300
)

var (
	topic = base.TopicID{1}
	// spans are the batches of the log of each partition.
	spans = []share.Span{{First: 0, Last: 4}, {First: 5, Last: 9}, {First: 10, Last: 409}}
)

// members are a manager and the members that use it, in simulated time.
type members struct {
	t         *testing.T
	persister *sharetest.Persister
	*share.Manager
}

// simulated runs a test in simulated time.
func simulated(t *testing.T, test func(m *members)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &members{t: t, persister: sharetest.New()}
		m.persister.Initializing = true
		m.Manager = share.NewManager(share.Config{
			Persister: m.persister, MaxSessions: maxSessions, MaxWindow: maxWindow,
			Settings: func(string) share.Settings {
				return share.Settings{LockDuration: lockDuration, DeliveryLimit: 5, MaxLocks: 2000, Renewable: true}
			},
		})
		defer func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(m)
	})
}

func partitions(numbers ...int32) []base.TopicIDPartition {
	var all []base.TopicIDPartition
	for _, n := range numbers {
		all = append(all, base.TopicIDPartition{ID: topic, Partition: n})
	}
	return all
}

func key(partition int32) share.Key { return share.Key{Group: "g", Topic: topic, Partition: partition} }

// open begins a member's session over partitions; gone stands for its connection.
func (m *members) open(member string, gone chan struct{}, add ...int32) *share.Session {
	m.t.Helper()
	s, _, err := m.Fetch(share.SessionRequest{Group: "g", Member: member, Add: partitions(add...), Gone: gone})
	if err != nil {
		m.t.Fatalf("%s: %v", member, err)
	}
	return s
}

// targets are the partitions of a member's next fetch, in order of their numbers.
func (m *members) targets(member string, epoch int32) []*share.Target {
	m.t.Helper()
	_, targets, err := m.Fetch(share.SessionRequest{Group: "g", Member: member, Epoch: epoch})
	if err != nil {
		m.t.Fatalf("%s at epoch %d: %v", member, epoch, err)
	}
	slices.SortFunc(targets, func(a, b *share.Target) int { return cmp.Compare(a.ID.Partition, b.ID.Partition) })
	return targets
}

// acquire has a session's member get records from a target.
func (m *members) acquire(s *share.Session, target *share.Target, records int64) string {
	m.t.Helper()
	start := func() (base.Offset, error) { return 0, nil }
	if err := target.Held.Load(m.t.Context(), 1, start); err != nil {
		m.t.Fatal(err)
	}
	from, ok := target.Held.Next(0)
	if !ok {
		return "full"
	}
	ahead := slices.DeleteFunc(slices.Clone(spans), func(s share.Span) bool { return s.Last < from })
	text := ""
	for _, b := range target.Held.Acquire(s, share.Acquisition{MaxRecords: records, BatchSize: 500}, from, ahead) {
		text += fmt.Sprintf("%d-%d/%d ", b.First, b.Last, b.DeliveryCount)
	}
	return text
}

// acknowledge says of records of partition 0 what became of them, and waits until that is durable.
func (m *members) acknowledge(member string, first, last base.Offset, what share.AckType) error {
	w, err := m.Acknowledge(key(0), member, []share.AckBatch{{First: first, Last: last, Types: []share.AckType{what}}})
	if err != nil {
		return err
	}
	return w.Wait(m.t.Context())
}

func (m *members) want(what, got, want string) {
	m.t.Helper()
	if got != want {
		m.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (m *members) wantErr(what string, got, want error) {
	m.t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		m.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// woken reports whether a channel was signalled.
func woken(c <-chan struct{}) bool {
	synctest.Wait()
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestRecordsGoToAnotherMemberWhenTheirLockEnds(t *testing.T) {
	simulated(t, func(m *members) {
		a, b := m.open("a", nil, 0), m.open("b", nil, 0)
		ofA, ofB := m.targets("a", 1)[0], m.targets("b", 1)[0]
		m.want("a", m.acquire(a, ofA, 5), "0-4/1 ")
		m.want("b", m.acquire(b, ofB, 5), "5-9/1 ")
		wake := make(chan struct{}, 1)
		ofB.Held.Watch(wake)
		defer ofB.Held.Unwatch(wake)
		time.Sleep(lockDuration - time.Millisecond)
		if woken(wake) {
			m.t.Error("a waiting fetch was woken before a lock ended")
		}
		time.Sleep(time.Millisecond)
		if !woken(wake) {
			m.t.Error("a waiting fetch was not woken when a lock ended")
		}
		m.want("b, after a's lock", m.acquire(b, ofB, 5), "0-4/2 ")
		m.wantErr("a, too late", m.acknowledge("a", 0, 4, share.Accept), share.ErrInvalidRecordState)
		m.wantErr("b", m.acknowledge("b", 0, 4, share.Accept), nil)
	})
}

func TestRenewedLocksLastLonger(t *testing.T) {
	simulated(t, func(m *members) {
		a, b := m.open("a", nil, 0), m.open("b", nil, 0)
		ofA, ofB := m.targets("a", 1)[0], m.targets("b", 1)[0]
		m.want("a", m.acquire(a, ofA, 5), "0-4/1 ")
		for range 3 {
			time.Sleep(lockDuration - time.Second)
			m.wantErr("renews", m.acknowledge("a", 0, 2, share.Renew), nil)
		}
		synctest.Wait()
		m.want("b gets what was not renewed", m.acquire(b, ofB, 2), "3-4/2 ")
		m.wantErr("what was not renewed", m.acknowledge("a", 3, 4, share.Renew), share.ErrInvalidRecordState)
		time.Sleep(lockDuration)
		synctest.Wait()
		m.want("b gets all in the end", m.acquire(b, ofB, 5), "0-2/2 3-4/3 ")
	})
}

func TestTheEndOfASessionReleasesItsRecords(t *testing.T) {
	for name, end := range map[string]func(m *members, gone chan struct{}, s *share.Session){
		"last request":      func(m *members, _ chan struct{}, s *share.Session) { m.CloseSession(s) },
		"connection closed": func(_ *members, gone chan struct{}, _ *share.Session) { close(gone) },
		"member left":       func(m *members, _ chan struct{}, _ *share.Session) { m.MemberLeft("g", "a") },
		"group empty":       func(m *members, _ chan struct{}, _ *share.Session) { m.GroupEmpty("g") },
	} {
		t.Run(name, func(t *testing.T) {
			simulated(t, func(m *members) {
				gone := make(chan struct{})
				a := m.open("a", gone, 0, 1)
				targets := m.targets("a", 1)
				for _, target := range targets {
					m.want("a", m.acquire(a, target, 5), "0-4/1 ")
				}
				// It does not fetch partition 1 any more, but has records of it.
				if _, left, err := m.Fetch(share.SessionRequest{Group: "g", Member: "a", Epoch: 2, Forget: partitions(1)}); err != nil || len(left) != 1 {
					m.t.Fatalf("forgets: %d targets, %v", len(left), err)
				}
				end(m, gone, a)
				synctest.Wait()
				_, _, err := m.Fetch(share.SessionRequest{Group: "g", Member: "a", Epoch: 3})
				m.wantErr("after the end", err, share.ErrSessionNotFound)
				b := m.open("b", nil, 0, 1)
				for _, target := range m.targets("b", 1) {
					m.want("b", m.acquire(b, target, 5), "0-4/2 ")
				}
				m.want("a closed session gets nothing", m.acquire(a, m.targets("b", 2)[0], 5), "")
			})
		})
	}
}

func TestASessionThatBeginsAnewKeepsItsRecords(t *testing.T) {
	simulated(t, func(m *members) {
		gone := make(chan struct{})
		a := m.open("a", gone, 0)
		m.want("a", m.acquire(a, m.targets("a", 1)[0], 5), "0-4/1 ")
		again := m.open("a", nil, 1)
		close(gone) // the connection of before: it is nothing to the new session
		synctest.Wait()
		m.wantErr("acknowledges", m.acknowledge("a", 0, 1, share.Accept), nil)
		if targets := m.targets("a", 1); len(targets) != 1 || targets[0].ID.Partition != 1 {
			m.t.Errorf("the new session fetches %v", targets)
		}
		m.CloseSession(again)
		b := m.open("b", nil, 0)
		m.want("the rest is released in the end", m.acquire(b, m.targets("b", 1)[0], 3), "2-4/2 ")
	})
}

func TestSessionEpochs(t *testing.T) {
	simulated(t, func(m *members) {
		fetch := func(member string, epoch int32) error {
			_, _, err := m.Fetch(share.SessionRequest{Group: "g", Member: member, Epoch: epoch})
			return err
		}
		acknowledge := func(epoch int32) error {
			_, err := m.AcknowledgeSession("g", "a", epoch)
			return err
		}
		m.wantErr("no session", fetch("a", 1), share.ErrSessionNotFound)
		m.wantErr("end of no session", fetch("a", share.FinalEpoch), share.ErrSessionNotFound)
		m.wantErr("no session", acknowledge(1), share.ErrSessionNotFound)
		_, _, err := m.Fetch(share.SessionRequest{Group: "g", Member: "a", Acknowledges: true})
		m.wantErr("begins with acknowledgements", err, share.ErrInitialAcks)
		m.wantErr("begins", fetch("a", 0), nil)
		m.wantErr("too high", fetch("a", 2), share.ErrSessionEpoch)
		m.wantErr("first", fetch("a", 1), nil)
		m.wantErr("repeated", fetch("a", 1), share.ErrSessionEpoch)
		m.wantErr("begins by acknowledging", acknowledge(share.InitialEpoch), share.ErrSessionEpoch)
		m.wantErr("second, acknowledges", acknowledge(2), nil)
		m.wantErr("third", fetch("a", 3), nil)
		m.wantErr("of another group", func() error {
			_, _, err := m.Fetch(share.SessionRequest{Group: "h", Member: "a", Epoch: 4})
			return err
		}(), share.ErrSessionNotFound)
	})
}

func TestSessionsAreLimited(t *testing.T) {
	simulated(t, func(m *members) {
		var first *share.Session
		for i := range maxSessions {
			if s := m.open(fmt.Sprint(i), nil, 0); i == 0 {
				first = s
			}
		}
		_, _, err := m.Fetch(share.SessionRequest{Group: "g", Member: "one more"})
		m.wantErr("one more", err, share.ErrSessionLimit)
		m.open("0", nil, 0) // in the place of its former one
		m.CloseSession(first)
		_, _, err = m.Fetch(share.SessionRequest{Group: "g", Member: "one more"})
		m.wantErr("a session that was replaced does not end again", err, share.ErrSessionLimit)
		m.MemberLeft("g", "1")
		m.open("one more", nil, 0)
	})
}

// Past the memory for all windows a share partition grows no more, but each may hold a little.
func TestWindowsOfAllSharePartitionsAreBounded(t *testing.T) {
	simulated(t, func(m *members) {
		a := m.open("a", nil, 0, 1, 2)
		targets := m.targets("a", 1)
		m.want("one takes all", m.acquire(a, targets[0], 500), "0-409/1 ")
		m.want("another takes a little", m.acquire(a, targets[1], 10), "0-9/1 ")
		m.want("up to the end of a batch", m.acquire(a, targets[1], 10), "10-409/1 ")
		m.want("and then nothing", m.acquire(a, targets[1], 10), "")
		m.wantErr("finishes", m.acknowledge("a", 0, 409, share.Accept), nil)
		m.MemberLeft("g", "a")
		b := m.open("b", nil, 2)
		m.want("with memory again", m.acquire(b, m.targets("b", 1)[0], 500), "0-409/1 ")
	})
}

// A write that fails has run ahead of what is persisted: the state is given up, and loaded again.
func TestAFailedWriteGivesTheStateUp(t *testing.T) {
	simulated(t, func(m *members) {
		a, b := m.open("a", nil, 0), m.open("b", nil, 0)
		ofA, ofB := m.targets("a", 1)[0], m.targets("b", 1)[0]
		m.want("a", m.acquire(a, ofA, 5), "0-4/1 ")
		m.wantErr("durable", m.acknowledge("a", 0, 0, share.Accept), nil)
		wake := make(chan struct{}, 1)
		ofB.Held.Watch(wake)
		defer ofB.Held.Unwatch(wake)
		m.persister.Fail(share.ErrFencedLeaderEpoch)
		m.wantErr("not durable", m.acknowledge("a", 1, 1, share.Accept), share.ErrFencedLeaderEpoch)
		if !woken(wake) {
			m.t.Error("a waiting fetch was not woken, though what a had is available")
		}
		m.wantErr("of a state that is gone", m.acknowledge("a", 2, 2, share.Accept), share.ErrUnknownPartition)
		m.persister.Fail(nil)
		m.want("b gets what is not finished", m.acquire(b, ofB, 4), "1-4/1 ")
	})
}

func TestADeletedTopicIsForgotten(t *testing.T) {
	simulated(t, func(m *members) {
		a := m.open("a", nil, 0)
		m.want("a", m.acquire(a, m.targets("a", 1)[0], 5), "0-4/1 ")
		m.TopicDeleted(topic)
		m.wantErr("acknowledges", m.acknowledge("a", 0, 4, share.Accept), share.ErrUnknownPartition)
	})
}
