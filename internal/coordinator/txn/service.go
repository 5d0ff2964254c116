package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// Topic is the internal topic that holds transactional ids.
const Topic = "__transaction_state"

// Markers writes the ends of transactions where their records are.
type Markers interface {
	// WriteMarker appends a marker to a partition, behind everything that was appended there before. It returns when the marker has
	// its place in the log, which need not be durable. A partition that does not exist any more has nothing to end. An error is
	// temporary: the marker is written again.
	WriteMarker(ctx context.Context, partition base.TopicPartition, m Marker) error
}

// ProducerIDs gives out producer ids.
type ProducerIDs interface {
	// NewProducerID returns an id that no producer has or had.
	NewProducerID(ctx context.Context) (base.ProducerID, error)
}

// Deps is what a Service works on; all of it but Snapshots is required.
type Deps struct {
	Topic       coordinator.Topic // __transaction_state
	Markers     Markers
	ProducerIDs ProducerIDs
	Logger      *slog.Logger
	Snapshots   coordinator.Snapshots
	// CoordinatorEpoch fences the coordinators of former starts of the broker.
	CoordinatorEpoch int32
}

// Service is the transaction coordinator of a broker: the front door to the state machines of all partitions of __transaction_state
// that are led here. Its methods are safe for concurrent use.
type Service struct {
	deps    Deps
	env     *Environment
	runtime *coordinator.Runtime[*Machine]
	endings endings
}

// New returns a Service that holds no state before its first use. Markers are written while Run runs.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Markers == nil || deps.ProducerIDs == nil || deps.Logger == nil {
		return nil, errors.New("transaction coordinator: no markers, producer ids or logger")
	}
	s := &Service{deps: deps, env: &Environment{Config: cfg.WithDefaults(), CoordinatorEpoch: deps.CoordinatorEpoch}}
	s.endings.init()
	s.env.End = s.endings.add
	runtime, err := coordinator.New(coordinator.Config[*Machine]{
		Name:      Topic,
		Topic:     deps.Topic,
		New:       func(int32) *Machine { return NewMachine(s.env) },
		Release:   (*Machine).Release,
		Logger:    deps.Logger,
		Snapshots: deps.Snapshots,
		Shadow: func(int32) *Machine {
			return NewMachine(&Environment{Config: Config{MaxBytes: math.MaxInt64}}) // it is not there for long
		},
	})
	if err != nil {
		return nil, err
	}
	s.runtime = runtime
	return s, nil
}

// maintenanceInterval is how often partitions are written down if they have grown.
const maintenanceInterval = time.Minute

// Run writes markers and looks after the partitions, until ctx ends. It begins by loading all partitions that hold transactional ids, so
// that ends that were decided before are carried out and timeouts hold.
func (s *Service) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	for range markerWriters {
		workers.Go(func() { s.writeMarkers(ctx) })
	}
	s.touch()
	return coordinator.Maintain(ctx, s.runtime, maintenanceInterval)
}

// Maintain looks after the partitions once, as Run does from time to time.
func (s *Service) Maintain(ctx context.Context) { coordinator.MaintainNow(ctx, s.runtime) }

// touch has every partition that holds transactional ids loaded.
func (s *Service) touch() {
	coordinator.SubmitAll(s.runtime, func(_ *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) { c.Answer(fx, struct{}{}) })
}

// Close ends every event loop and returns when all have ended.
func (s *Service) Close() error { return s.runtime.Close() }

// Ensure creates __transaction_state where it does not exist.
func (s *Service) Ensure(ctx context.Context) error { return s.runtime.Ensure(ctx) }

// PartitionFor returns the partition of __transaction_state that holds a transactional id; -1 while the topic does not exist.
func (s *Service) PartitionFor(id string) int32 { return s.runtime.PartitionFor(id) }

// Drop gives up the state of a partition of __transaction_state whose leadership moved.
func (s *Service) Drop(partition int32) { s.runtime.Drop(partition) }

func submit[A any](s *Service, id string, handle func(m *Machine, fx *coordinator.Effects) A) *coordinator.Call[A] {
	return coordinator.Submit(s.runtime, s.runtime.PartitionFor(id), func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[A]) {
		c.Answer(fx, handle(m, fx))
	})
}

// InitProducerID is Machine.InitProducerID, with a timeout of at most Config.MaxTimeout. It returns when the answer may be given.
func (s *Service) InitProducerID(ctx context.Context, p Producer, timeout int32) (Outcome, error) {
	if timeout <= 0 || time.Duration(timeout)*time.Millisecond > s.env.Config.MaxTimeout {
		return refused(kerr.InvalidTransactionTimeout), nil
	}
	if err := s.Ensure(ctx); err != nil {
		return Outcome{}, fmt.Errorf("%w: %w", coordinator.ErrUnavailable, err)
	}
	return s.withID(ctx, func(fresh base.ProducerID) *coordinator.Call[Outcome] {
		return submit(s, p.TransactionalID, func(m *Machine, fx *coordinator.Effects) Outcome { return m.InitProducerID(fx, p, timeout, fresh) })
	})
}

// withID asks, and asks again with a new producer id where one is needed.
func (s *Service) withID(ctx context.Context, ask func(fresh base.ProducerID) *coordinator.Call[Outcome]) (Outcome, error) {
	o, err := ask(base.NoProducerID).Wait(ctx)
	if err != nil || !o.needsID {
		return o, err
	}
	fresh, err := s.deps.ProducerIDs.NewProducerID(ctx)
	if err != nil {
		return Outcome{}, err
	}
	return ask(fresh).Wait(ctx)
}

// AddPartitions queues the request; see Machine.AddPartitions. The answer is nil where the partitions were added.
func (s *Service) AddPartitions(p Producer, partitions []base.TopicPartition, version int16) *coordinator.Call[*kerr.Error] {
	return submit(s, p.TransactionalID, func(m *Machine, fx *coordinator.Effects) *kerr.Error {
		return m.AddPartitions(fx, p, partitions, version)
	})
}

// Verify queues the request; see Machine.Verify.
func (s *Service) Verify(p Producer, partitions []base.TopicPartition) *coordinator.Call[Verified] {
	return submit(s, p.TransactionalID, func(m *Machine, _ *coordinator.Effects) Verified { return m.Verify(p, partitions) })
}

// EndTxn is Machine.End. It returns when the answer may be given.
func (s *Service) EndTxn(ctx context.Context, p Producer, commit bool, version int16) (Outcome, error) {
	return s.withID(ctx, func(fresh base.ProducerID) *coordinator.Call[Outcome] {
		return submit(s, p.TransactionalID, func(m *Machine, fx *coordinator.Effects) Outcome { return m.End(fx, p, commit, version, fresh) })
	})
}

// Described is the outcome of Describe.
type Described struct {
	Description
	Found bool
}

// Describe queues the request; see Machine.Describe.
func (s *Service) Describe(id string) *coordinator.Call[Described] {
	return submit(s, id, func(m *Machine, _ *coordinator.Effects) Described {
		d, ok := m.Describe(id)
		return Described{d, ok}
	})
}

// List queues the request for every partition that holds transactional ids; see Machine.List.
func (s *Service) List(f Filter) []*coordinator.Call[[]Description] {
	return coordinator.SubmitAll(s.runtime, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[[]Description]) {
		c.Answer(fx, m.List(fx.Now.UnixMilli(), f))
	})
}
