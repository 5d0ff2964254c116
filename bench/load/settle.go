package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Settle is a load of one consumer group: its members join at once, and when it has settled one leaves after the other. Each member is a
// goroutine with a connection of its own that does what a consumer's group membership does and nothing else. Members heartbeat as fast as
// they are answered, a few at a time, and not at their interval: it is a setting, and waiting for it would hide what the broker does.
//
// A group has settled when its members hold every partition of the topic, and none holds more than one more than another: then no
// rebalance is left to be made, in either protocol.
type Settle struct {
	Topic      string
	Partitions int
	Group      string
	Members    int
	// Consumer has members speak the protocol of KIP-848, in which the broker assigns; else it is the classic one, in which the member
	// does that the broker made leader.
	Consumer bool
	Leaves   int // how many leave, one after the other
}

// heartbeatsAtOnce is how many members of a group have a heartbeat under way, at most.
const heartbeatsAtOnce = 16

// Settled is how long it took.
type Settled struct {
	Joined time.Duration   // from the first request of the first member
	Left   []time.Duration // from the request to leave, for each that left
}

// membership is what a member of either protocol does. A member is used by one goroutine.
type membership interface {
	// step joins, if that is due, or heartbeats, and tells the group what the member holds.
	step() error
	// leave leaves the group.
	leave() error
}

// member is what both protocols have in common.
type member struct {
	*settling
	*client
	number int
	leaves chan struct{} // closed when it is to leave
}

// settling is a group that settles.
type settling struct {
	Settle
	heartbeats chan struct{} // taken by each heartbeat on its way
	settled    chan struct{} // gets one each time that the group has settled

	mu       sync.Mutex // guards the fields below
	members  int        // those that have not left
	held     []int      // partitions, by member
	all      int        // partitions that are held
	balanced int        // members that hold as many as they should
	waited   bool       // for settled
}

// Run has the group settle.
func (l Settle) Run(ctx context.Context, addr string) (Settled, error) {
	if err := waitCoordinator(ctx, addr, groupCoordinator, l.Group); err != nil {
		return Settled{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := &settling{
		Settle: l, heartbeats: make(chan struct{}, heartbeatsAtOnce), settled: make(chan struct{}, 1),
		held: make([]int, l.Members),
	}
	g.expect(l.Members)
	members := make([]*member, l.Members)
	for i := range members { // before the time begins
		c, closeConn, err := open(ctx, addr)
		if err != nil {
			return Settled{}, err
		}
		defer closeConn()
		members[i] = &member{settling: g, client: c, number: i, leaves: make(chan struct{})}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(errEnough)
	begin := time.Now()
	for _, m := range members {
		wg.Go(func() {
			if err := m.run(ctx); err != nil {
				cancel(fmt.Errorf("member %d of %d: %w", m.number, l.Members, err))
			}
		})
	}
	var result Settled
	if err := g.wait(ctx); err != nil {
		return result, fmt.Errorf("join: %w", err)
	}
	result.Joined = time.Since(begin)
	for i := range l.Leaves {
		begin := time.Now()
		leaver := members[len(members)-1-i]
		g.expect(leaver.number)
		close(leaver.leaves)
		if err := g.wait(ctx); err != nil {
			return result, fmt.Errorf("leave: %w", err)
		}
		result.Left = append(result.Left, time.Since(begin))
	}
	return result, nil
}

// run is the life of a member. The end of ctx is no error.
func (m *member) run(ctx context.Context) error {
	var does membership
	if m.Consumer {
		does = newConsumerMember(m)
	} else {
		does = &classicMember{member: m}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.leaves:
			return does.leave()
		default:
		}
		if err := does.step(); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // its connection was closed
			}
			return err
		}
	}
}

// heartbeat has f, which sends one, wait until there is room for it.
func (g *settling) heartbeat(f func() error) error {
	g.heartbeats <- struct{}{}
	defer func() { <-g.heartbeats }()
	return f()
}

// wait returns when the group has settled.
func (g *settling) wait(ctx context.Context) error {
	select {
	case <-g.settled:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		return errors.Join(context.Cause(ctx), fmt.Errorf("%d of %d partitions were held, and %d of %d members had their share", g.all, g.Partitions, g.balanced, g.members))
	}
}

// holds notes how many partitions a member has.
func (g *settling) holds(m *member, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.countLocked(m.number, -1)
	g.held[m.number] = n
	g.countLocked(m.number, 1)
	if g.waited && g.all == g.Partitions && g.balanced == g.members {
		g.waited = false
		g.settled <- struct{}{}
	}
}

// countLocked adds a member to what the group holds, or takes it away.
func (g *settling) countLocked(number, sign int) {
	if number >= g.members {
		return // it has left
	}
	n := g.held[number]
	g.all += sign * n
	if least := g.Partitions / g.members; n == least || n == least+1 && g.Partitions%g.members > 0 {
		g.balanced += sign
	}
}

// expect has the group settle anew, with the first n members.
func (g *settling) expect(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members, g.all, g.balanced, g.waited = n, 0, 0, true
	for i := range n {
		g.countLocked(i, 1)
	}
}
