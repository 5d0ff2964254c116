package share

import (
	"context"
	"sync"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// Held is a share partition of this broker. It is loaded from what was persisted before its first use, and given up, to be loaded again,
// when a write fails: what members had then is available again. The methods are safe for concurrent use.
type Held struct {
	m   *Manager
	key Key

	loading chan struct{} // holds a token while somebody loads

	uses int // guarded by m.mu

	mu       sync.Mutex // guards the fields below; taken after m.mu
	p        *Partition // nil while it is not loaded
	life     int        // counts how often it was loaded
	write    *Write     // the newest one, nil if there was none in this life
	counted  int64      // of the window, in m.window
	watchers map[chan<- struct{}]struct{}
	timer    *time.Timer // runs when the first lock ends
	due      time.Time   // for which timer is set, zero if it is not
}

// Write is a change that is being persisted.
type Write struct {
	done chan struct{}
	err  error // valid once done is closed
}

// Wait returns once the change is durable, or has failed. A nil Write is durable already.
func (w *Write) Wait(ctx context.Context) error {
	if w == nil {
		return nil
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Load sees to it that the share partition is loaded. leaderEpoch is that under which the broker leads the partition; start decides where a
// group begins that never was here. Errors: the persister's and start's.
func (h *Held) Load(ctx context.Context, leaderEpoch base.LeaderEpoch, start func() (base.Offset, error)) error {
	if h.loaded() {
		return nil
	}
	select {
	case h.loading <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-h.loading }()
	if h.loaded() {
		return nil
	}
	state, err := h.m.persister.Read(h.key, leaderEpoch).Wait(ctx)
	if err != nil {
		return err
	}
	if state.LeaderEpoch = leaderEpoch; state.Start == base.NoOffset {
		// It is persisted before anything is delivered, so that the group never begins later than it did first.
		if state.Start, err = start(); err != nil {
			return err
		}
		if _, err := h.m.persister.Write(h.key, Persisted{StateEpoch: state.StateEpoch, LeaderEpoch: leaderEpoch, Start: state.Start}).Wait(ctx); err != nil {
			return err
		}
	}
	p, err := NewPartition(state)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.p = p
	h.life++
	h.settleLocked()
	return nil
}

func (h *Held) loaded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.p != nil
}

// Next is the offset at which there may be something for a member, now that the log begins at logStart; false if there is nothing
// that a member could get.
func (h *Held) Next(logStart base.Offset) (at base.Offset, ok bool) {
	h.change(func(p *Partition, s Settings) {
		p.LogStart(logStart)
		at, ok = p.Next(s)
	})
	return at, ok
}

// Acquire gives a session's member what is available among spans, which were read from offset from; see Partition.Acquire. A closed
// session gets nothing.
func (h *Held) Acquire(s *Session, a Acquisition, from base.Offset, spans []Span) (got []AcquiredBatch) {
	a.Member = s.member
	a.Cramped = h.m.window.Load() >= h.m.maxWindow
	h.change(func(p *Partition, settings Settings) {
		if !s.closed.Load() {
			got = p.Acquire(h.m.now(), settings, a, from, spans)
		}
	})
	return got
}

// Acknowledge carries out what a member says of its records; see Partition.Acknowledge. The result is durable when the Write is.
// ErrUnknownPartition if the share partition is not loaded, so that nobody has got anything from it.
func (h *Held) Acknowledge(member string, batches []AckBatch) (w *Write, err error) {
	err = ErrUnknownPartition
	w = h.change(func(p *Partition, s Settings) {
		err = p.Acknowledge(h.m.now(), s, member, batches)
	})
	return w, err
}

// Release gives back what is with a member.
func (h *Held) Release(member string) {
	h.change(func(p *Partition, s Settings) { p.Release(member, s) })
	h.m.forget(h)
}

// change runs f over the share partition, if it is loaded, and does what follows: changes are persisted, waiting fetches woken where
// there is more for them, the timer set. It returns the write that has all of it, nil where nothing was ever written: found while the lock
// is held, because a write that fails is forgotten as soon as it is free.
func (h *Held) change(f func(p *Partition, s Settings)) *Write {
	settings := h.m.settings(h.key.Group)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.p == nil {
		return nil
	}
	before, was := h.p.Next(settings)
	h.p.Elapse(h.m.now(), settings)
	h.persistLocked()
	f(h.p, settings)
	h.persistLocked()
	h.settleLocked()
	if after, is := h.p.Next(settings); is && (!was || after < before) {
		h.wakeLocked()
	}
	return h.write
}

// persistLocked hands what has changed to the persister. Who needs to know waits for the Write.
func (h *Held) persistLocked() {
	change, ok := h.p.TakeWrite()
	if !ok {
		return
	}
	w, life := &Write{done: make(chan struct{})}, h.life
	h.write = w
	if !h.m.begin() {
		w.err = ErrClosed
		close(w.done)
		return
	}
	pending := h.m.persister.Write(h.key, change)
	go func() {
		defer h.m.work.Done()
		_, w.err = pending.Wait(h.m.ctx)
		close(w.done)
		if w.err != nil {
			h.giveUp(life)
		}
	}()
}

// giveUp forgets the state of that life, since it has run ahead of what is persisted.
func (h *Held) giveUp(life int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.p != nil && h.life == life {
		h.p, h.write = nil, nil
		h.settleLocked()
		h.wakeLocked()
	}
}

// settleLocked brings the account of memory and the timer up to date.
func (h *Held) settleLocked() {
	var window int64
	var due time.Time
	if h.p != nil {
		window = h.p.Window()
		due, _ = h.p.NextTimeout()
	}
	h.m.window.Add(window - h.counted)
	h.counted = window
	if due.Equal(h.due) {
		return
	}
	if h.due = due; h.timer != nil {
		h.timer.Stop()
	}
	if !due.IsZero() {
		h.timer = time.AfterFunc(due.Sub(h.m.now()), h.timeout)
	}
}

// timeout ends the locks whose time is over.
func (h *Held) timeout() {
	if !h.m.begin() {
		return
	}
	defer h.m.work.Done()
	h.mu.Lock()
	h.due = time.Time{} // so that the timer is set anew
	h.mu.Unlock()
	h.change(func(*Partition, Settings) {})
	h.m.forget(h)
}

// idleLocked reports whether no member has anything, so that the share partition may be forgotten if nobody uses it.
func (h *Held) idleLocked() bool {
	if h.p == nil {
		return true
	}
	_, locked := h.p.NextTimeout()
	return !locked
}

// Watch has c signalled when there may be more for a member, until Unwatch.
func (h *Held) Watch(c chan<- struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = make(map[chan<- struct{}]struct{})
	}
	h.watchers[c] = struct{}{}
}

// Unwatch undoes Watch.
func (h *Held) Unwatch(c chan<- struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, c)
}

func (h *Held) wakeLocked() {
	for c := range h.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
