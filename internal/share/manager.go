package share

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// Limits of what all share partitions of a broker take.
const (
	// DefaultMaxWindow bounds the offsets in the windows of all share partitions, each of which takes 80 bytes at the worst. Beyond it
	// windows grow to smallWindow only.
	DefaultMaxWindow = 2 << 20
	// maxSessionPartitions bounds the partitions in all sessions.
	maxSessionPartitions = 1 << 20
)

// ErrClosed says that the manager is closed.
var ErrClosed = errors.New("share partitions are closed")

// Config is what a Manager needs; MaxWindow is optional.
type Config struct {
	Persister Persister
	// Settings are those of a group as they are now. It must not block.
	Settings func(group string) Settings
	// MaxSessions bounds the share sessions (group.share.max.share.sessions).
	MaxSessions int
	MaxWindow   int64
}

// Manager holds the share partitions and share sessions of a broker. A share partition is there as long as a session names it or a
// member has records of it. The methods are safe for concurrent use.
//
// Lock order: Manager.mu → Held.mu; whatever the Persister takes comes last.
type Manager struct {
	persister   Persister
	settings    func(group string) Settings
	maxSessions int
	maxWindow   int64
	now         func() time.Time

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	window atomic.Int64 // of all share partitions

	workMu sync.Mutex // guards closed; a leaf
	closed bool
	work   sync.WaitGroup

	mu         sync.Mutex // guards the fields below
	held       map[Key]*Held
	sessions   map[sessionKey]*Session
	partitions int // of all sessions
}

// NewManager returns a Manager that holds nothing. Its work ends with Close.
func NewManager(cfg Config) *Manager {
	m := &Manager{persister: cfg.Persister, settings: cfg.Settings, maxSessions: cfg.MaxSessions, maxWindow: cfg.MaxWindow, now: time.Now,
		held: map[Key]*Held{}, sessions: map[sessionKey]*Session{}}
	if m.maxWindow == 0 {
		m.maxWindow = DefaultMaxWindow
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Close ends all that the manager does in the background. What members have then is available again after a restart.
func (m *Manager) Close() error {
	m.workMu.Lock()
	m.closed = true
	m.workMu.Unlock()
	m.cancel()
	m.work.Wait()
	return nil
}

// begin counts work of which Close waits for the end; false once it is closed.
func (m *Manager) begin() bool {
	m.workMu.Lock()
	defer m.workMu.Unlock()
	if !m.closed {
		m.work.Add(1)
	}
	return !m.closed
}

// useLocked returns the share partition for one more user.
func (m *Manager) useLocked(key Key) *Held {
	h := m.held[key]
	if h == nil {
		h = &Held{m: m, key: key, loading: make(chan struct{}, 1)}
		m.held[key] = h
	}
	h.uses++
	return h
}

// forget drops a share partition that nobody uses and of which no member has anything. It is loaded anew when it is next used.
func (m *Manager) forget(h *Held) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.uses > 0 || m.held[h.key] != h {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.idleLocked() {
		delete(m.held, h.key)
		h.p = nil
		h.settleLocked()
	}
}

// Acknowledge is Held.Acknowledge for the share partition of that name, which a session need not name any more.
func (m *Manager) Acknowledge(key Key, member string, batches []AckBatch) (*Write, error) {
	m.mu.Lock()
	h := m.held[key]
	m.mu.Unlock()
	if h == nil {
		return nil, ErrUnknownPartition
	}
	return h.Acknowledge(member, batches)
}

// TopicDeleted gives up what is known of a topic's share partitions.
func (m *Manager) TopicDeleted(id base.TopicID) {
	m.mu.Lock()
	var gone []*Held
	for key, h := range m.held {
		if key.Topic == id {
			gone = append(gone, h)
		}
	}
	m.mu.Unlock()
	for _, h := range gone {
		h.mu.Lock()
		life := h.life
		h.mu.Unlock()
		h.giveUp(life)
		m.forget(h)
	}
}
