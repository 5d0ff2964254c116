package share

import (
	"errors"
	"math"
	"slices"
	"sync/atomic"

	"github.com/ottlaio/ottla/internal/base"
)

// Session epochs with a meaning of their own.
const (
	InitialEpoch int32 = 0  // asks for a new session
	FinalEpoch   int32 = -1 // ends it
)

// Errors of share sessions.
var (
	ErrSessionNotFound = errors.New("the share session was not found")
	ErrSessionEpoch    = errors.New("the share session epoch is invalid")
	ErrSessionLimit    = errors.New("the limit of share sessions has been reached")
	ErrInitialAcks     = errors.New("the first request of a share session acknowledges records")
)

// sessionKey names a session: a member has one.
type sessionKey struct{ group, member string }

// Session is what a member of a share group fetches, so that its requests need not name it anew.
type Session struct {
	sessionKey

	closed atomic.Bool
	end    chan struct{} // closed with it

	// Guarded by Manager.mu.
	epoch   int32 // of the next request
	targets []*Target
	all     map[base.TopicIDPartition]*Target // that it ever named, since the member may have something of them
}

// Group is the group that the session's member is of.
func (s *Session) Group() string { return s.group }

// Ended is closed when the session is: its member gets nothing any more.
func (s *Session) Ended() <-chan struct{} { return s.end }

// Target is a partition that a session fetches.
type Target struct {
	ID   base.TopicIDPartition
	Held *Held

	active bool // among the session's targets; guarded by Manager.mu
}

// SessionRequest is what a request says about its session.
type SessionRequest struct {
	Group, Member string
	Epoch         int32
	Add, Forget   []base.TopicIDPartition
	Acknowledges  bool            // the request has acknowledgements
	Gone          <-chan struct{} // closed when the client's connection is
}

// Fetch finds or makes the session of a fetch and takes over what it asks for. It returns the targets in the order in which they are to be
// read this time, so that none starves. With FinalEpoch it returns no targets; the caller closes the session once it has dealt with
// the request's acknowledgements. ErrSessionNotFound, ErrSessionEpoch, ErrSessionLimit, ErrInitialAcks.
func (m *Manager) Fetch(r SessionRequest) (*Session, []*Target, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := sessionKey{r.Group, r.Member}
	s := m.sessions[key]
	switch {
	case r.Epoch == InitialEpoch:
		if r.Acknowledges {
			return nil, nil, ErrInitialAcks
		}
		return m.beginSessionLocked(key, s, r)
	case s == nil:
		return nil, nil, ErrSessionNotFound
	case r.Epoch == FinalEpoch:
		return s, nil, nil
	case r.Epoch != s.epoch:
		return nil, nil, ErrSessionEpoch
	}
	if !m.addLocked(s, r.Add) {
		return nil, nil, ErrSessionLimit
	}
	for _, id := range r.Forget {
		if t := s.all[id]; t != nil {
			t.active = false
		}
	}
	s.targets = slices.DeleteFunc(s.targets, func(t *Target) bool { return !t.active })
	s.epoch = nextEpoch(s.epoch)
	return s, rotated(s.targets, r.Epoch), nil
}

// AcknowledgeSession finds the session of an acknowledgement. With FinalEpoch the caller closes it afterwards.
func (m *Manager) AcknowledgeSession(group, member string, epoch int32) (*Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch == InitialEpoch {
		return nil, ErrSessionEpoch
	}
	s := m.sessions[sessionKey{group, member}]
	if s == nil {
		return nil, ErrSessionNotFound
	}
	if epoch == FinalEpoch {
		return s, nil
	}
	if epoch != s.epoch {
		return nil, ErrSessionEpoch
	}
	s.epoch = nextEpoch(s.epoch)
	return s, nil
}

// beginSessionLocked makes a session in place of old, which may be nil. What the member has it keeps.
func (m *Manager) beginSessionLocked(key sessionKey, old *Session, r SessionRequest) (*Session, []*Target, error) {
	if old == nil && len(m.sessions) >= m.maxSessions {
		return nil, nil, ErrSessionLimit
	}
	s := &Session{sessionKey: key, epoch: nextEpoch(InitialEpoch), end: make(chan struct{}), all: map[base.TopicIDPartition]*Target{}}
	if old != nil {
		// It takes over what the old one named, so that the member's records are released with it.
		delete(m.sessions, key)
		s.all, old.all = old.all, nil
		for _, t := range s.all {
			t.active = false
		}
		old.closed.Store(true)
		close(old.end)
	}
	if !m.addLocked(s, r.Add) || !m.begin() {
		m.disuseLocked(s)
		return nil, nil, ErrSessionLimit
	}
	m.sessions[key] = s
	go func() {
		defer m.work.Done()
		select {
		case <-r.Gone:
			m.CloseSession(s)
		case <-s.end:
		case <-m.ctx.Done():
		}
	}()
	return s, rotated(s.targets, InitialEpoch), nil
}

// addLocked adds targets to a session; false if they are too many.
func (m *Manager) addLocked(s *Session, add []base.TopicIDPartition) bool {
	for _, id := range add {
		t := s.all[id]
		if t == nil {
			if m.partitions >= maxSessionPartitions {
				return false
			}
			m.partitions++
			t = &Target{ID: id, Held: m.useLocked(Key{s.group, id.ID, id.Partition})}
			s.all[id] = t
		}
		if !t.active {
			t.active = true
			s.targets = append(s.targets, t)
		}
	}
	return true
}

// disuseLocked takes what a session names out of the account.
func (m *Manager) disuseLocked(s *Session) []*Held {
	var held []*Held
	for _, t := range s.all {
		t.Held.uses--
		held = append(held, t.Held)
	}
	m.partitions -= len(held)
	s.all, s.targets = nil, nil
	return held
}

// rotated is targets from another place on with each epoch.
func rotated(targets []*Target, epoch int32) []*Target {
	if len(targets) == 0 {
		return nil
	}
	at := int(epoch) % len(targets)
	return append(slices.Clone(targets[at:]), targets[:at]...)
}

// nextEpoch is the epoch of the request after one of the given epoch. It skips the epochs with a meaning of their own.
func nextEpoch(epoch int32) int32 {
	if epoch == math.MaxInt32 {
		return 1
	}
	return epoch + 1
}

// CloseSession ends a session and gives back what its member has. It does not wait for that to be durable.
func (m *Manager) CloseSession(s *Session) {
	m.mu.Lock()
	if m.sessions[s.sessionKey] != s {
		m.mu.Unlock()
		return
	}
	delete(m.sessions, s.sessionKey)
	held := m.disuseLocked(s)
	s.closed.Store(true)
	close(s.end)
	m.mu.Unlock()
	for _, h := range held {
		h.Release(s.member)
	}
}

// MemberLeft ends the session of a member that is not of its group any more. It does not wait for anything slow.
func (m *Manager) MemberLeft(group, member string) {
	m.mu.Lock()
	s := m.sessions[sessionKey{group, member}]
	m.mu.Unlock()
	if s != nil {
		m.CloseSession(s)
	}
}

// GroupEmpty ends the sessions of all who act as members of a group that has none.
func (m *Manager) GroupEmpty(group string) {
	m.closeSessions(func(key sessionKey) bool { return key.group == group })
}

// CloseSessions ends all sessions. It does not wait for anything slow.
func (m *Manager) CloseSessions() {
	m.closeSessions(func(sessionKey) bool { return true })
}

func (m *Manager) closeSessions(match func(sessionKey) bool) {
	m.mu.Lock()
	var sessions []*Session
	for key, s := range m.sessions {
		if match(key) {
			sessions = append(sessions, s)
		}
	}
	m.mu.Unlock()
	for _, s := range sessions {
		m.CloseSession(s)
	}
}
