package group

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// Topic is the internal topic that holds groups and offsets.
const Topic = "__consumer_offsets"

// Deps is what a Service works on; all of it but settings and Snapshots is required.
type Deps struct {
	Topic  coordinator.Topic // __consumer_offsets
	Topics Topics
	Logger *slog.Logger
	// Settings are those of a consumer group as they are now; without it they are Kafka's defaults. It must not block.
	Settings func(group string) ConsumerSettings
	// StreamsSettings are those of a streams group, likewise.
	StreamsSettings func(group string) StreamsSettings
	// ShareSettings are those of a share group, likewise.
	ShareSettings func(group string) ShareSettings
	// ShareListener is told of members of share groups that have gone; optional.
	ShareListener ShareListener
	// Snapshots says where the groups of each partition are written down from time to time. Without it, loading a partition reads its
	// whole log.
	Snapshots coordinator.Snapshots
}

// Client says who sent a request.
type Client struct {
	ID   string // client id of the request header
	Host string // Kafka's form: "/" and the address
}

// Service is the group coordinator of a broker: the front door to the state machines of all partitions of __consumer_offsets that
// are led here. Each request is queued before its method returns, in order; the Call's Wait gives the answer. The methods are safe
// for concurrent use and none of them blocks, but for Ensure, Run and Close.
type Service struct {
	env     Environment
	runtime *coordinator.Runtime[*Machine]
}

// New returns a Service that holds no state before its first use.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.WithDefaults()
	problem := cfg.Validate()
	if deps.Topics == nil {
		problem = errors.Join(problem, errors.New("no topics"))
	}
	if problem != nil {
		return nil, fmt.Errorf("group coordinator: %w", problem)
	}
	settings := deps.Settings
	if settings == nil {
		settings = func(string) ConsumerSettings { return DefaultConsumerSettings }
	}
	streamsSettings := deps.StreamsSettings
	if streamsSettings == nil {
		streamsSettings = func(string) StreamsSettings { return DefaultStreamsSettings }
	}
	shareSettings := deps.ShareSettings
	if shareSettings == nil {
		shareSettings = func(string) ShareSettings { return DefaultShareSettings }
	}
	s := &Service{env: Environment{
		Config: cfg, Topics: deps.Topics, Budget: NewBudget(cfg.MaxBytes), Settings: settings, StreamsSettings: streamsSettings,
		ShareSettings: shareSettings, ShareListener: deps.ShareListener, NewID: newUUID,
	}}
	if deps.Logger != nil {
		s.env.Log = func(msg, group string, args ...any) {
			deps.Logger.Debug("group", append([]any{"group", group, "event", msg}, args...)...)
		}
	}
	runtime, err := coordinator.New(coordinator.Config[*Machine]{
		Name:    Topic,
		Topic:   deps.Topic,
		New:     func(int32) *Machine { return NewMachine(&s.env) },
		Release: (*Machine).Release,
		Logger:  deps.Logger,

		Snapshots: deps.Snapshots,
		Shadow: func(int32) *Machine {
			env := s.env
			env.Budget = NewBudget(math.MaxInt64) // it is not there for long
			return NewMachine(&env)
		},
	})
	if err != nil {
		return nil, err
	}
	s.runtime = runtime
	return s, nil
}

// newUUID is the text of a random UUID, as Kafka puts it behind a member id's dash.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// maintenanceInterval is how often partitions are looked after: loaded if they hold groups, so that these expire in time, and written
// down if they have grown.
const maintenanceInterval = time.Minute

// Run looks after the partitions, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	return coordinator.Maintain(ctx, s.runtime, maintenanceInterval)
}

// Maintain looks after the partitions once, as Run does from time to time.
func (s *Service) Maintain(ctx context.Context) { coordinator.MaintainNow(ctx, s.runtime) }

// Close ends every event loop and returns when all have ended.
func (s *Service) Close() error { return s.runtime.Close() }

// Ensure creates __consumer_offsets where it does not exist.
func (s *Service) Ensure(ctx context.Context) error { return s.runtime.Ensure(ctx) }

// PartitionFor returns the partition of __consumer_offsets that holds a group; -1 while the topic does not exist.
func (s *Service) PartitionFor(group string) int32 { return s.runtime.PartitionFor(group) }

// Drop gives up the state of a partition of __consumer_offsets whose leadership moved.
func (s *Service) Drop(partition int32) { s.runtime.Drop(partition) }

// TopicsDeleted removes the offsets committed for topics that were deleted, by name: an offset of a topic of the same name that
// exists now stays. It does not wait for the end of that.
func (s *Service) TopicsDeleted(names []string) {
	coordinator.SubmitAll(s.runtime, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) {
		m.TopicsDeleted(fx, names)
		c.Answer(fx, struct{}{})
	})
}

// submit queues an event for the partition of a group.
func submit[A any](s *Service, group string, handle func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[A])) *coordinator.Call[A] {
	return coordinator.Submit(s.runtime, s.runtime.PartitionFor(group), handle)
}

// JoinGroup queues the request; see Machine.JoinGroup. It copies the byte slices in req.
func (s *Service) JoinGroup(client Client, req *kmsg.JoinGroupRequest) *coordinator.Call[*kmsg.JoinGroupResponse] {
	for i := range req.Protocols {
		req.Protocols[i].Metadata = bytes.Clone(req.Protocols[i].Metadata)
	}
	return submit(s, req.Group, func(m *Machine, fx *coordinator.Effects, c *joinCall) { m.JoinGroup(fx, client, req, c) })
}

// ConsumerGroupHeartbeat queues the request; see Machine.ConsumerGroupHeartbeat.
func (s *Service) ConsumerGroupHeartbeat(client Client, req *kmsg.ConsumerGroupHeartbeatRequest) *coordinator.Call[*kmsg.ConsumerGroupHeartbeatResponse] {
	return submit(s, req.Group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[*kmsg.ConsumerGroupHeartbeatResponse]) {
		c.Answer(fx, m.ConsumerGroupHeartbeat(fx, client, req))
	})
}

// DescribeConsumerGroup queues the request for one group; see Machine.DescribeConsumerGroup.
func (s *Service) DescribeConsumerGroup(group string) *coordinator.Call[kmsg.ConsumerGroupDescribeResponseGroup] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[kmsg.ConsumerGroupDescribeResponseGroup]) {
		c.Answer(fx, m.DescribeConsumerGroup(group))
	})
}

// StreamsGroupHeartbeat queues the request; see Machine.StreamsGroupHeartbeat.
func (s *Service) StreamsGroupHeartbeat(client Client, req *kmsg.StreamsGroupHeartbeatRequest) *coordinator.Call[StreamsHeartbeat] {
	return submit(s, req.Group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[StreamsHeartbeat]) {
		c.Answer(fx, m.StreamsGroupHeartbeat(fx, client, req))
	})
}

// DescribeStreamsGroup queues the request for one group; see Machine.DescribeStreamsGroup.
func (s *Service) DescribeStreamsGroup(group string) *coordinator.Call[kmsg.StreamsGroupDescribeResponseGroup] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[kmsg.StreamsGroupDescribeResponseGroup]) {
		c.Answer(fx, m.DescribeStreamsGroup(group))
	})
}

// SyncGroup queues the request; see Machine.SyncGroup. It copies the byte slices in req.
func (s *Service) SyncGroup(req *kmsg.SyncGroupRequest) *coordinator.Call[*kmsg.SyncGroupResponse] {
	for i := range req.GroupAssignment {
		req.GroupAssignment[i].MemberAssignment = bytes.Clone(req.GroupAssignment[i].MemberAssignment)
	}
	return submit(s, req.Group, func(m *Machine, fx *coordinator.Effects, c *syncCall) { m.SyncGroup(fx, req, c) })
}

// Heartbeat queues the request; see Machine.Heartbeat.
func (s *Service) Heartbeat(req *kmsg.HeartbeatRequest) *coordinator.Call[*kmsg.HeartbeatResponse] {
	return submit(s, req.Group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[*kmsg.HeartbeatResponse]) {
		c.Answer(fx, m.Heartbeat(fx, req))
	})
}

// LeaveGroup queues the request; see Machine.LeaveGroup.
func (s *Service) LeaveGroup(req *kmsg.LeaveGroupRequest) *coordinator.Call[*kmsg.LeaveGroupResponse] {
	return submit(s, req.Group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[*kmsg.LeaveGroupResponse]) {
		c.Answer(fx, m.LeaveGroup(fx, req))
	})
}

// Committed is the outcome of an offset commit: a code for the whole, or one for each partition of each topic, in order.
type Committed struct {
	Code       *kerr.Error
	Partitions [][]int16
}

// CommitOffsets queues the request; see Machine.CommitOffsets.
func (s *Service) CommitOffsets(req *kmsg.OffsetCommitRequest, topics []CommitTopic) *coordinator.Call[Committed] {
	return submit(s, req.Group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[Committed]) {
		codes, err := m.CommitOffsets(fx, req, topics)
		c.Answer(fx, Committed{Code: err, Partitions: codes})
	})
}

// TxnEnds queues the question; see Machine.TxnEnds.
func (s *Service) TxnEnds(group string, id base.ProducerID) *coordinator.Call[int64] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[int64]) { c.Answer(fx, m.TxnEnds(id)) })
}

// CommitTxnOffsets queues the request; see Machine.CommitTxnOffsets.
func (s *Service) CommitTxnOffsets(commit TxnCommit) *coordinator.Call[Committed] {
	return submit(s, commit.Request.Group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[Committed]) {
		codes, err := m.CommitTxnOffsets(fx, commit)
		c.Answer(fx, Committed{Code: err, Partitions: codes})
	})
}

// Full reports whether the memory for groups is used up. It is safe for concurrent use.
func (s *Service) Full() bool { return s.env.Budget.full(producerOverhead) }

// EndTxn queues a marker for a partition of __consumer_offsets; see Machine.EndTxn. The answer is nil where it was appended.
func (s *Service) EndTxn(partition int32, k Marker) *coordinator.Call[*kerr.Error] {
	return coordinator.Submit(s.runtime, partition, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[*kerr.Error]) {
		c.Answer(fx, m.EndTxn(fx, k))
	})
}

// FetchOffsets queues the request; see Machine.FetchOffsets.
func (s *Service) FetchOffsets(group string, member *string, epoch int32, topics []FetchTopic, stable bool) *coordinator.Call[Fetched] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[Fetched]) {
		c.Answer(fx, m.FetchOffsets(group, member, epoch, topics, stable))
	})
}

// FetchAllOffsets queues the request; see Machine.FetchAllOffsets.
func (s *Service) FetchAllOffsets(group string, member *string, epoch int32, stable bool) *coordinator.Call[Fetched] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[Fetched]) {
		c.Answer(fx, m.FetchAllOffsets(group, member, epoch, stable))
	})
}

// Deleted is the outcome of deleting offsets: a code for the whole, or one for each topic, in order.
type Deleted struct {
	Code   *kerr.Error
	Topics []int16
}

// DeleteOffsets queues the request; see Machine.DeleteOffsets.
func (s *Service) DeleteOffsets(group string, topics []DeleteTopic) *coordinator.Call[Deleted] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[Deleted]) {
		codes, err := m.DeleteOffsets(fx, group, topics)
		c.Answer(fx, Deleted{Code: err, Topics: codes})
	})
}

// ListGroups queues the request for every partition that holds groups; see Machine.ListGroups.
func (s *Service) ListGroups(req *kmsg.ListGroupsRequest) []*coordinator.Call[[]kmsg.ListGroupsResponseGroup] {
	return coordinator.SubmitAll(s.runtime, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[[]kmsg.ListGroupsResponseGroup]) {
		c.Answer(fx, m.ListGroups(req))
	})
}

// DescribeGroup queues the request for one group; see Machine.DescribeGroup.
func (s *Service) DescribeGroup(version int16, group string) *coordinator.Call[kmsg.DescribeGroupsResponseGroup] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[kmsg.DescribeGroupsResponseGroup]) {
		c.Answer(fx, m.DescribeGroup(version, group))
	})
}

// DeleteGroup queues the request for one group; see Machine.DeleteGroup.
func (s *Service) DeleteGroup(group string, forgotten bool) *coordinator.Call[Deletion] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[Deletion]) {
		c.Answer(fx, m.DeleteGroup(fx, group, forgotten))
	})
}
