package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/record"
)

// event is one request on its way to the state machine.
type event[M Machine] struct {
	call *call
	run  func(m M, fx *Effects)
}

// phase is how far a partition's state is.
type phase uint8

const (
	idle    phase = iota // no state; the next event loads it
	loading              // the log is being replayed
	ready                // events are handled
	failed               // loading failed; nothing is tried until the back-off is over
)

// partition is one event loop and the queue before it.
type partition[M Machine] struct {
	id     int32
	cfg    *Config[M]
	logger *slog.Logger
	wake   chan struct{} // holds one token when there may be something to do

	mu      sync.Mutex // guards the fields below
	phase   phase
	since   time.Time // of phase
	queue   []event[M]
	ended   bool  // the loop is over
	current *term // while ready

	// The fields below belong to the event loop.
	token    Token              // of the last append, by whichever term
	deferred map[*call]struct{} // calls that the machine keeps
}

// term is the life of one state of a partition, from its replay until it is given up.
type term struct {
	log  Log
	fail func(*term, error)
}

// wait returns nil once token is durable. Where that cannot be, the state that the answer came from is given up.
func (t *term) wait(ctx context.Context, token Token) error {
	err := t.log.Wait(ctx, token)
	if err == nil || ctx.Err() != nil {
		return err
	}
	t.fail(t, err)
	return fmt.Errorf("%w: %w", ErrNotCoordinator, err)
}

func newPartition[M Machine](r *Runtime[M], id int32) *partition[M] {
	return &partition[M]{
		id: id, cfg: &r.cfg,
		logger:   r.cfg.Logger.With("topic", r.cfg.Name, "partition", id),
		wake:     make(chan struct{}, 1),
		deferred: map[*call]struct{}{},
	}
}

// submit queues an event, unless the partition cannot take it.
func (p *partition[M]) submit(e event[M]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
		return ErrClosed
	case len(p.queue) >= maxQueued:
		return ErrUnavailable
	case p.phase == loading && time.Since(p.since) > loadGrace:
		return ErrLoading
	case p.phase == failed && time.Since(p.since) < loadBackoff:
		return ErrNotCoordinator
	}
	p.queue = append(p.queue, e)
	p.signal()
	return nil
}

func (p *partition[M]) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// drop gives up a term, or the current one where t is nil.
func (p *partition[M]) drop(t *term) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && (t == nil || t == p.current) {
		p.current = nil
		p.signal()
	}
}

// take returns what is queued, and whether t is still the partition's term.
func (p *partition[M]) take(t *term) ([]event[M], bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != t {
		return nil, false
	}
	q := p.queue
	p.queue = nil
	return q, true
}

func (p *partition[M]) enter(to phase, t *term) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.since, p.current = to, time.Now(), t
}

// run is the event loop. It loads the state when the first event waits for it, serves until the state is given up, and so on
// until ctx ends.
func (p *partition[M]) run(ctx context.Context) {
	defer p.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		if !p.waiting() {
			continue
		}
		p.enter(loading, nil)
		s, err := p.load(ctx)
		if err != nil {
			p.release(s)
			if ctx.Err() != nil {
				return
			}
			p.enter(failed, nil)
			p.refuse(ErrNotCoordinator)
			if !errors.Is(err, ErrNotCoordinator) {
				p.logger.Error("cannot load the coordinator's state", "err", err)
			}
			continue
		}
		err = p.serve(ctx, s)
		p.release(s)
		if ctx.Err() != nil {
			return
		}
		p.logger.Warn("the coordinator's state is given up and will be loaded again", "err", err)
		p.enter(idle, nil)
		p.forget(ErrNotCoordinator)
		p.signal() // events may be waiting
	}
}

func (p *partition[M]) release(s *state[M]) {
	if s != nil && p.cfg.Release != nil {
		p.cfg.Release(s.machine)
	}
}

func (p *partition[M]) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) > 0
}

// refuse fails what is queued.
func (p *partition[M]) refuse(err error) {
	p.mu.Lock()
	q := p.queue
	p.queue = nil
	p.mu.Unlock()
	for _, e := range q {
		e.call.fail(err)
	}
}

// forget fails the calls that a state machine kept.
func (p *partition[M]) forget(err error) {
	for c := range p.deferred {
		c.fail(err)
	}
	clear(p.deferred)
}

func (p *partition[M]) end() {
	p.mu.Lock()
	p.ended, p.current = true, nil
	p.mu.Unlock()
	p.refuse(ErrClosed)
	p.forget(ErrClosed)
}

// state is a term with what its event loop needs.
type state[M Machine] struct {
	*term
	machine M
	next    base.Offset
	timers  *timers
}

// load makes the state from the log. Where it fails it may still return a state, which is to be released.
func (p *partition[M]) load(ctx context.Context) (*state[M], error) {
	began := time.Now()
	log, err := p.cfg.Topic.Log(p.id)
	if err != nil {
		return nil, err
	}
	s := &state[M]{
		term:    &term{log: log, fail: func(t *term, err error) { p.drop(t) }},
		machine: p.cfg.New(p.id),
		timers:  newTimers(),
	}
	start, end := log.Offsets()
	from := start
	if identified, ok := log.(Identified); ok && p.cfg.Snapshots.FS != nil {
		at, err := p.cfg.Snapshots.read(p.cfg.Snapshots.path(p.cfg.Name, p.id), identified.ID(), max(start, identified.Forgotten()), end, s.machine)
		switch {
		case err == nil:
			from = at
			if plant.On(plant.SnapshotOneLate) {
				from++
			}
		case !errors.Is(err, errSnapshot):
			return s, err
		case !errors.Is(err, fs.ErrNotExist):
			p.logger.Warn("a snapshot of the coordinator's state is left aside; its log is read from the start", "err", err)
		}
	}
	_, records, err := replayLog(ctx, s.machine, log, replaying{from: from, upto: end, logger: p.logger, pause: func() {
		if time.Since(began) > loadGrace {
			p.refuse(ErrLoading)
		}
	}})
	if err != nil {
		return s, err
	}
	s.next = end
	p.enter(ready, s.term)
	if records > 0 {
		p.logger.Info("coordinator state loaded", "records", records, "offset", end, "took", time.Since(began))
	}
	fx := p.effects(s)
	if err := p.protect(func() { s.machine.Loaded(fx) }); err != nil {
		return s, err
	}
	if err := p.flush(ctx, s, fx); err != nil {
		return s, err
	}
	return s, nil
}

// replaying says what to replay.
type replaying struct {
	from, upto base.Offset
	logger     *slog.Logger
	pause      func() // called between reads; optional
}

const noLimit = base.Offset(1<<63 - 1)

// replayLog applies the records of a log to m and returns the offset behind them, which is that behind the batch that reaches upto, and
// their number.
func replayLog(ctx context.Context, m Machine, log Log, o replaying) (next base.Offset, n int, err error) {
	for o.from < o.upto {
		if err := context.Cause(ctx); err != nil {
			return o.from, n, err
		}
		if o.pause != nil {
			o.pause()
		}
		b, err := log.Read(o.from, readBytes)
		if err != nil {
			return o.from, n, fmt.Errorf("read from offset %d: %w", o.from, err)
		}
		if len(b) == 0 { // an operator has given up a damaged range that reaches to the end
			return o.upto, n, nil
		}
		next, more, err := replay(m, b, o)
		if err != nil {
			return o.from, n, err
		}
		if next <= o.from {
			return o.from, n, fmt.Errorf("no records at offset %d, want them up to %d", o.from, o.upto)
		}
		o.from, n = next, n+more
	}
	return o.from, n, nil
}

// replay applies the batches in b and returns the offset behind them and the number of records.
func replay(m Machine, b []byte, o replaying) (next base.Offset, n int, err error) {
	next = o.from
	for len(b) > 0 && next < o.upto {
		batch, rest, err := record.Next(b)
		if err != nil {
			return next, n, fmt.Errorf("batch at offset %d: %w", next, err)
		}
		b = rest
		h, err := record.ParseHeader(batch)
		if err != nil {
			return next, n, fmt.Errorf("batch at offset %d: %w", next, err)
		}
		for r, err := range record.Records(batch, maxDecompressed) {
			if err != nil {
				return next, n, fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err)
			}
			if r.Offset < o.from {
				continue
			}
			err = m.Replay(Record{
				Offset: r.Offset, Timestamp: r.Timestamp, ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch,
				Transactional: h.Attributes.Transactional(), Control: h.Attributes.Control(), Key: r.Key, Value: r.Value,
			})
			if errors.Is(err, ErrUnknownRecord) && o.logger != nil {
				o.logger.Warn("record of an unknown type in an internal topic is ignored", "offset", r.Offset, "err", err)
			} else if err != nil {
				return next, n, fmt.Errorf("record at offset %d: %w", r.Offset, err)
			}
			n++
		}
		next = h.LastOffset() + 1
	}
	return next, n, nil
}

// serve handles events and timers until the term is given up or ctx ends.
func (p *partition[M]) serve(ctx context.Context, s *state[M]) error {
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for {
		events, ok := p.take(s.term)
		if !ok {
			return errors.New("its log failed or its leadership moved")
		}
		if err := p.handle(ctx, s, events); err != nil {
			p.drop(s.term)
			return err
		}
		if at, ok := s.timers.next(); ok {
			alarm.Reset(time.Until(at))
		} else {
			alarm.Stop()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.wake:
		case <-alarm.C:
		}
	}
}

// handle runs the timers that elapsed and the events, and appends what they record in as few batches as go.
func (p *partition[M]) handle(ctx context.Context, s *state[M], events []event[M]) error {
	fx := p.effects(s)
	for {
		t, ok := s.timers.elapsed(fx.Now)
		if !ok {
			break
		}
		if err := p.step(ctx, s, &fx, func() { s.machine.Elapsed(t, fx) }); err != nil {
			p.failRest(events, fx)
			return err
		}
	}
	for i, e := range events {
		if err := p.step(ctx, s, &fx, func() { e.run(s.machine, fx) }); err != nil {
			e.call.fail(fmt.Errorf("%w: %w", ErrNotCoordinator, err))
			p.failRest(events[i+1:], fx)
			return err
		}
		if !e.call.taken.Load() {
			p.deferred[e.call] = struct{}{}
		}
	}
	return p.flush(ctx, s, fx)
}

// step runs one event and appends when enough has gathered.
func (p *partition[M]) step(ctx context.Context, s *state[M], fx **Effects, run func()) error {
	if err := p.protect(run); err != nil {
		return err
	}
	if (*fx).bytes < maxBatchBytes {
		return nil
	}
	err := p.flush(ctx, s, *fx)
	*fx = p.effects(s)
	return err
}

// protect turns a panic of the state machine into an error: its state may be half changed and has to be given up.
func (p *partition[M]) protect(run func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("state machine panicked: %v", v)
			p.logger.Error("a coordinator's state machine panicked", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	run()
	return nil
}

func (p *partition[M]) failRest(events []event[M], fx *Effects) {
	for _, e := range events {
		e.call.fail(ErrNotCoordinator)
	}
	abandon(fx, ErrNotCoordinator)
}

func abandon(fx *Effects, err error) {
	for _, c := range fx.answered {
		c.abandon(err)
	}
	fx.answered = nil
}

func (p *partition[M]) effects(s *state[M]) *Effects {
	return &Effects{Now: time.Now(), machine: s.machine, partition: p.id, next: s.next, timers: s.timers}
}

// flush appends the records and lets the answers go, each bound to the durability of all records so far.
func (p *partition[M]) flush(ctx context.Context, s *state[M], fx *Effects) error {
	for records := fx.records; len(records) > 0; {
		n := 0
		for size := 0; n < len(records) && (n == 0 || size < maxBatchBytes && batched(records[0], records[n])); n++ {
			size += len(records[n].Key) + len(records[n].Value) + recordOverhead
		}
		if err := p.append(ctx, s, records[:n]); err != nil {
			abandon(fx, fmt.Errorf("%w: %w", ErrNotCoordinator, err))
			if plant.On(plant.KeepRefusedState) {
				return nil
			}
			return err
		}
		records = records[n:]
	}
	for _, c := range fx.answered {
		delete(p.deferred, c)
		c.complete(s.term, p.token)
	}
	fx.records, fx.answered, fx.bytes = nil, nil, 0
	fx.Appended()
	return nil
}

// batched reports whether two records may be in one batch: the producer is the batch's, and a marker has one of its own.
func batched(a, b Record) bool {
	return a.ProducerID == b.ProducerID && a.ProducerEpoch == b.ProducerEpoch && !a.Control && !b.Control
}

func (p *partition[M]) append(ctx context.Context, s *state[M], records []Record) error {
	o := record.BuilderOptions{Transactional: records[0].Transactional, Control: records[0].Control}
	if o.Transactional {
		o.Producer = &record.Producer{ID: records[0].ProducerID, Epoch: records[0].ProducerEpoch, BaseSequence: record.NoSequence}
	}
	b := record.NewBuilder(o)
	for _, r := range records {
		b.Append(r.Timestamp, r.Key, r.Value)
	}
	a, err := s.log.Append(ctx, b.Build(0))
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	p.token = max(p.token, a.Token)
	if a.Base != s.next {
		return fmt.Errorf("append: base offset %d, want %d: somebody else appends to this partition", a.Base, s.next)
	}
	s.next += base.Offset(len(records))
	return nil
}
