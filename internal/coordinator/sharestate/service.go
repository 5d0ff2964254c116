package sharestate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/share"
)

// Topic is the internal topic that holds the state of share partitions.
const Topic = "__share_group_state"

// Deps is what a Service works on; all of it is required.
type Deps struct {
	Topic coordinator.Topic // __share_group_state
	// Partitions is how many partitions a topic has, 0 where there is none. It does not block.
	Partitions func(base.TopicID) int32
	Logger     *slog.Logger
}

// Service is the share coordinator of a broker: the front door to the state machines of all partitions of __share_group_state that are
// led here. It implements share.Persister; its methods are safe for concurrent use.
type Service struct {
	env     *Environment
	runtime *coordinator.Runtime[*Machine]
	logger  *slog.Logger
}

// New returns a Service that holds no state before its first use.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Partitions == nil || deps.Logger == nil {
		return nil, errors.New("share coordinator: no topics or logger")
	}
	s := &Service{env: &Environment{Config: cfg.WithDefaults(), Partitions: deps.Partitions}, logger: deps.Logger}
	runtime, err := coordinator.New(coordinator.Config[*Machine]{
		Name:    Topic,
		Topic:   deps.Topic,
		New:     func(int32) *Machine { return NewMachine(s.env) },
		Release: (*Machine).Release,
		Logger:  deps.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.runtime = runtime
	return s, nil
}

// Run deletes what is not needed any more from the logs, until ctx ends. It loads all partitions that hold state, so that their timers run.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(s.env.Config.PruneInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.Prune(ctx)
		}
	}
}

// Prune deletes what is not needed any more from the logs.
func (s *Service) Prune(ctx context.Context) {
	err := coordinator.Prune(ctx, s.runtime, (*Machine).Needed)
	if err != nil && ctx.Err() == nil {
		s.logger.Warn("the log of the share coordinator could not be pruned", "topic", Topic, "err", err)
	}
}

// Close ends every event loop and returns when all have ended.
func (s *Service) Close() error { return s.runtime.Close() }

// Ensure creates __share_group_state where it does not exist.
func (s *Service) Ensure(ctx context.Context) error { return s.runtime.Ensure(ctx) }

// Drop gives up the state of a partition of __share_group_state whose leadership moved.
func (s *Service) Drop(partition int32) { s.runtime.Drop(partition) }

// CoordinatorKey is the text by which FindCoordinator is asked for the coordinator of a share partition; its hash tells the partition of
// __share_group_state.
func CoordinatorKey(k share.Key) string {
	return k.Group + ":" + k.Topic.String() + ":" + strconv.Itoa(int(k.Partition))
}

// ValidCoordinatorKey reports whether text is a CoordinatorKey. The group's name may hold colons.
func ValidCoordinatorKey(text string) bool {
	rest, partition, ok := cutLast(text)
	group, topic, both := cutLast(rest)
	if !ok || !both || strings.TrimSpace(group) == "" {
		return false
	}
	_, badID := base.ParseTopicID(topic)
	_, badPartition := strconv.ParseInt(partition, 10, 32)
	return badID == nil && badPartition == nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// Result is the outcome of a request that reached the state of its share partition.
type Result[A any] struct {
	answer A
	err    error
}

// Pending is the answer to a request that was queued. It implements share.Pending.
type Pending[A any] struct {
	*coordinator.Call[Result[A]]
}

// Wait returns the answer once all that it rests on is durable.
func (p Pending[A]) Wait(ctx context.Context) (A, error) {
	r, err := p.Call.Wait(ctx)
	if err != nil {
		return r.answer, err
	}
	return r.answer, r.err
}

func submit[A any](s *Service, k share.Key, handle func(m *Machine, fx *coordinator.Effects) (A, error)) share.Pending[A] {
	partition := s.runtime.PartitionFor(CoordinatorKey(k))
	return Pending[A]{coordinator.Submit(s.runtime, partition, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[Result[A]]) {
		a, err := handle(m, fx)
		c.Answer(fx, Result[A]{a, err})
	})}
}

// command is submit for what has no answer but that it was done.
func command(s *Service, k share.Key, handle func(m *Machine, fx *coordinator.Effects) error) share.Pending[struct{}] {
	return submit(s, k, func(m *Machine, fx *coordinator.Effects) (struct{}, error) { return struct{}{}, handle(m, fx) })
}

// Initialize implements share.Persister.
func (s *Service) Initialize(k share.Key, stateEpoch int32, start base.Offset) share.Pending[struct{}] {
	return command(s, k, func(m *Machine, fx *coordinator.Effects) error { return m.Initialize(fx, k, stateEpoch, start) })
}

// Read implements share.Persister.
func (s *Service) Read(k share.Key, leaderEpoch base.LeaderEpoch) share.Pending[share.Persisted] {
	return submit(s, k, func(m *Machine, fx *coordinator.Effects) (share.Persisted, error) { return m.Read(fx, k, leaderEpoch) })
}

// Write implements share.Persister.
func (s *Service) Write(k share.Key, w share.Persisted) share.Pending[struct{}] {
	w.Batches = slices.Clone(w.Batches)
	return command(s, k, func(m *Machine, fx *coordinator.Effects) error { return m.Write(fx, k, w) })
}

// Delete implements share.Persister.
func (s *Service) Delete(k share.Key) share.Pending[struct{}] {
	return command(s, k, func(m *Machine, fx *coordinator.Effects) error { return m.Delete(fx, k) })
}

// ReadSummary implements share.Persister.
func (s *Service) ReadSummary(k share.Key, _ base.LeaderEpoch) share.Pending[share.Persisted] {
	return submit(s, k, func(m *Machine, _ *coordinator.Effects) (share.Persisted, error) { return m.Summary(k) })
}

// TopicsDeleted forgets the share partitions of topics that were deleted. It does not wait for the end of that.
func (s *Service) TopicsDeleted(ids []base.TopicID) {
	coordinator.SubmitAll(s.runtime, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) {
		m.TopicsDeleted(fx, ids)
		c.Answer(fx, struct{}{})
	})
}

// EnsureFor is Ensure with the error that a caller tries again.
func (s *Service) EnsureFor(ctx context.Context) error {
	if err := s.Ensure(ctx); err != nil {
		return fmt.Errorf("%w: %w", coordinator.ErrUnavailable, err)
	}
	return nil
}
