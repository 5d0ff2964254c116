package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/wire"
)

// AlterPartitionReassignments v0–1 (key 45), ListPartitionReassignments v0 (key 46), both of KIP-455
//
//   - All replicas are on this broker, so the one reassignment that can be asked for is to where a partition is already. It is done at
//     once; another broker, none, or the same one twice is INVALID_REPLICA_ASSIGNMENT.
//   - So no reassignment is ever under way: to cancel one (null replicas) is NO_REASSIGNMENT_IN_PROGRESS, and the list of them is empty,
//     whatever topics it is asked for, also such that do not exist.
//   - v1 may forbid that the number of replicas changes (KIP-860). It cannot change here.

var errNoReassignment = refuse(kerr.NoReassignmentInProgress, "") // sent without a message

func (a *API) alterPartitionReassignments(_ context.Context, c *call, req *kmsg.AlterPartitionAssignmentsRequest) (wire.Pending, error) {
	resp := answer[kmsg.AlterPartitionAssignmentsResponse](req)
	if len(req.Topics) == 0 {
		resp.ErrorMessage = kmsg.StringPtr("")
		return reply(resp)
	}
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	view := a.view()
	for i := range req.Topics {
		asked := &req.Topics[i]
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = asked.Topic
		for _, part := range asked.Partitions {
			err := view.reassign(asked.Topic, part.Partition, part.Replicas)
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = part.Partition, a.codeOf(c, err), messageOf(err)
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return reply(resp)
}

// reassign judges what a partition is asked to become; nil replicas cancel.
func (v *view) reassign(topic string, index int32, replicas []int32) error {
	t, ok := v.image.Topic(topic)
	if !ok {
		return refuse(kerr.UnknownTopicOrPartition, "Unable to find a topic named %s.", topic)
	}
	if index < 0 || int(index) >= len(t.Partitions) {
		return refuse(kerr.UnknownTopicOrPartition, "Unable to find partition %s:%d.", topic, index)
	}
	if replicas == nil {
		return errNoReassignment
	}
	return v.api.metadata.CheckReplicas(typedBrokers(replicas))
}

func (a *API) listPartitionReassignments(_ context.Context, _ *call, req *kmsg.ListPartitionReassignmentsRequest) (wire.Pending, error) {
	return reply(answer[kmsg.ListPartitionReassignmentsResponse](req))
}
