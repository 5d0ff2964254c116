package metadata

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// memoryHistory is how many revisions a Memory keeps for readers of the past; it compacts the rest by itself.
const memoryHistory = 10_000

// Memory is a Store that keeps everything in memory and starts no goroutine, so it works in testing/synctest bubbles. It can
// be told to fail.
type Memory struct {
	mu        sync.Mutex // guards the fields below
	revision  int64
	compacted int64
	versions  map[string][]version // oldest first
	log       []Events             // one per revision after compacted, oldest first
	advanced  chan struct{}        // closed and replaced when the revision, refusal or life of the store changes
	refusal   error
	err       error // why failed is closed
	failed    chan struct{}
	closed    bool
}

// version is a key's value from a revision on; nil when the key was deleted then.
type version struct {
	revision int64
	value    []byte
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		revision: 1, // an empty etcd's
		versions: map[string][]version{},
		advanced: make(chan struct{}),
		failed:   make(chan struct{}),
	}
}

// Refuse has every following Commit return err and write nothing, until Refuse(nil).
func (m *Memory) Refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusal = err
}

// Fail has the store fail for good, as etcd does when its disk breaks.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	m.err = fmt.Errorf("%w: %w", ErrFailed, err)
	close(m.failed)
	m.wakeLocked()
}

func (m *Memory) wakeLocked() {
	close(m.advanced)
	m.advanced = make(chan struct{})
}

func (m *Memory) usableLocked() error {
	if m.closed {
		return ErrClosed
	}
	return m.err
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, prefix string, revision int64) (Snapshot, error) {
	if err := context.Cause(ctx); err != nil {
		return Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch err := m.usableLocked(); {
	case err != nil:
		return Snapshot{}, err
	case revision > m.revision:
		return Snapshot{}, ErrFutureRevision
	case revision == 0:
		revision = m.revision
	case revision < m.compacted:
		return Snapshot{}, ErrCompacted
	}
	s := Snapshot{Revision: revision}
	for key, versions := range m.versions {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		for _, v := range slices.Backward(versions) {
			if v.revision > revision {
				continue
			}
			if v.value != nil {
				s.KVs = append(s.KVs, KV{key, v.value, v.revision})
			}
			break
		}
	}
	slices.SortFunc(s.KVs, func(a, b KV) int { return strings.Compare(a.Key, b.Key) })
	return s, nil
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, txn Txn) (TxnResult, error) {
	if err := checkTxn(txn); err != nil {
		return TxnResult{}, err
	}
	if err := context.Cause(ctx); err != nil {
		return TxnResult{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usableLocked(); err != nil {
		return TxnResult{}, err
	}
	if m.refusal != nil {
		return TxnResult{}, m.refusal
	}
	for _, c := range txn.Compares {
		if _, mod := m.currentLocked(c.Key); mod != c.ModRevision {
			return TxnResult{Revision: m.revision}, nil
		}
	}
	next := m.revision + 1
	var events []Event
	for _, op := range txn.Ops {
		if _, mod := m.currentLocked(op.Key); op.Delete && mod == 0 {
			continue // as etcd: deleting nothing is no event
		}
		v := version{revision: next}
		if !op.Delete {
			v.value = append([]byte{}, op.Value...)
		}
		m.versions[op.Key] = append(m.versions[op.Key], v)
		events = append(events, Event{KV: KV{op.Key, v.value, next}, Deleted: op.Delete})
	}
	if len(events) > 0 { // otherwise nothing changed, and etcd does not advance either
		m.revision = next
		m.log = append(m.log, Events{next, events})
		m.wakeLocked()
	}
	if len(m.log) > 2*memoryHistory {
		m.compactLocked(m.revision - memoryHistory)
	}
	return TxnResult{Succeeded: true, Revision: m.revision}, nil
}

// currentLocked returns a key's value and the revision that wrote it, nil and 0 when it does not exist.
func (m *Memory) currentLocked(key string) ([]byte, int64) {
	versions := m.versions[key]
	if len(versions) == 0 || versions[len(versions)-1].value == nil {
		return nil, 0
	}
	last := versions[len(versions)-1]
	return last.value, last.revision
}

// Compact implements Store.
func (m *Memory) Compact(_ context.Context, revision int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usableLocked(); err != nil {
		return err
	}
	if revision > m.revision {
		return ErrFutureRevision
	}
	if revision <= m.compacted {
		return ErrCompacted
	}
	m.compactLocked(revision)
	return nil
}

func (m *Memory) compactLocked(revision int64) {
	m.compacted = revision
	for key, versions := range m.versions {
		keep := 0
		for i, v := range versions {
			if v.revision <= revision {
				keep = i // the newest one that readers at revision see
			}
		}
		if versions[keep].value == nil && versions[keep].revision <= revision {
			keep++
		}
		if keep == len(versions) {
			delete(m.versions, key)
		} else {
			m.versions[key] = slices.Clone(versions[keep:])
		}
	}
	n, _ := slices.BinarySearchFunc(m.log, revision+1, func(e Events, r int64) int { return int(e.Revision - r) })
	m.log = slices.Clone(m.log[n:])
}

// Watch implements Store.
func (m *Memory) Watch(prefix string, from int64) Watch {
	return &memoryWatch{store: m, prefix: prefix, next: from, done: make(chan struct{})}
}

// Failed implements Store.
func (m *Memory) Failed() <-chan struct{} { return m.failed }

// Err implements Store.
func (m *Memory) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.wakeLocked()
	}
	return nil
}

type memoryWatch struct {
	store  *Memory
	prefix string
	next   int64
	once   sync.Once
	done   chan struct{}
}

// Next implements Watch.
func (w *memoryWatch) Next(ctx context.Context) (Events, error) {
	for {
		events, advanced, err := w.poll()
		if err != nil || len(events.Events) > 0 {
			return events, err
		}
		select {
		case <-advanced:
		case <-w.done:
			return Events{}, ErrClosed
		case <-ctx.Done():
			return Events{}, context.Cause(ctx)
		}
	}
}

// poll returns what there is already and, if that is nothing, what to wait for.
func (w *memoryWatch) poll() (Events, <-chan struct{}, error) {
	select {
	case <-w.done:
		return Events{}, nil, ErrClosed
	default:
	}
	m := w.store
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usableLocked(); err != nil {
		return Events{}, nil, err
	}
	if w.next <= m.compacted {
		return Events{}, nil, ErrCompacted
	}
	var found Events
	n, _ := slices.BinarySearchFunc(m.log, w.next, func(e Events, r int64) int { return int(e.Revision - r) })
	for _, e := range m.log[n:] {
		for _, ev := range e.Events {
			if strings.HasPrefix(ev.Key, w.prefix) {
				found.Events = append(found.Events, ev)
				found.Revision = e.Revision
			}
		}
	}
	w.next = max(w.next, m.revision+1)
	return found, m.advanced, nil
}

// Close implements Watch.
func (w *memoryWatch) Close() { w.once.Do(func() { close(w.done) }) }
