package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// ShareGroupHeartbeat queues the request; see Machine.ShareGroupHeartbeat.
func (s *Service) ShareGroupHeartbeat(client Client, req *kmsg.ShareGroupHeartbeatRequest) *coordinator.Call[ShareReport] {
	return submit(s, req.GroupID, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[ShareReport]) {
		c.Answer(fx, m.ShareGroupHeartbeat(fx, client, req))
	})
}

// DescribeShareGroup queues the request for one group; see Machine.DescribeShareGroup.
func (s *Service) DescribeShareGroup(group string) *coordinator.Call[kmsg.ShareGroupDescribeResponseGroup] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[kmsg.ShareGroupDescribeResponseGroup]) {
		c.Answer(fx, m.DescribeShareGroup(group))
	})
}

// ShareInitialized queues the news; see Machine.ShareInitialized.
func (s *Service) ShareInitialized(group string, partitions []SharePartition, done bool) *coordinator.Call[struct{}] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) {
		m.ShareInitialized(fx, group, partitions, done)
		c.Answer(fx, struct{}{})
	})
}

// ShareOffsetTopics queues the question; see Machine.ShareOffsetTopics.
func (s *Service) ShareOffsetTopics(group string) *coordinator.Call[[]ShareTopic] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[[]ShareTopic]) {
		c.Answer(fx, m.ShareOffsetTopics(group))
	})
}

// AlterShareOffsets queues the request; see Machine.AlterShareOffsets.
func (s *Service) AlterShareOffsets(req *kmsg.AlterShareGroupOffsetsRequest) *coordinator.Call[ShareChange] {
	return submit(s, req.GroupID, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[ShareChange]) {
		c.Answer(fx, m.AlterShareOffsets(fx, req))
	})
}

// DeleteShareOffsets queues the request; see Machine.DeleteShareOffsets.
func (s *Service) DeleteShareOffsets(req *kmsg.DeleteShareGroupOffsetsRequest) *coordinator.Call[ShareChange] {
	return submit(s, req.GroupID, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[ShareChange]) {
		c.Answer(fx, m.DeleteShareOffsets(fx, req))
	})
}

// ShareDeleted queues the news; see Machine.ShareDeleted.
func (s *Service) ShareDeleted(group string, topics []base.TopicID) *coordinator.Call[struct{}] {
	return submit(s, group, func(m *Machine, fx *coordinator.Effects, c *coordinator.Call[struct{}]) {
		m.ShareDeleted(fx, group, topics)
		c.Answer(fx, struct{}{})
	})
}
