package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/wire"
)

// DescribeCluster v0–2 (key 60), DescribeLogDirs v1–5 (key 35), DescribeTopicPartitions v0 (key 75)
//
//   - DescribeCluster v1 asks for brokers or controllers (KIP-919): there are no separate controllers here, so asking for them is
//     MISMATCHED_ENDPOINT_TYPE, as at any broker. v2 may include fenced brokers (KIP-1073), of which there are none.
//   - DescribeLogDirs: one folder. v4 adds the sizes of its disk (KIP-827), v5 whether it is cordoned (KIP-1066), which it never is.
//   - DescribeTopicPartitions answers page by page, sorted by topic (KIP-966): at most the limit that the request sets, and no more than
//     max.request.partition.size.limit. A topic that does not exist counts for nothing.

// The endpoint types of DescribeCluster.
const (
	brokerEndpoints     int8 = 1
	controllerEndpoints int8 = 2
)

func (a *API) describeCluster(_ context.Context, c *call, req *kmsg.DescribeClusterRequest) (wire.Pending, error) {
	resp := answer[kmsg.DescribeClusterResponse](req)
	resp.ControllerID, resp.ClusterAuthorizedOperations = -1, unknownOperations
	if req.Version >= 1 && req.EndpointType != brokerEndpoints {
		err := refuse(kerr.UnsupportedEndpointType, "Unsupported endpoint type %d", req.EndpointType)
		if req.EndpointType == controllerEndpoints {
			err = refuse(kerr.MismatchedEndpointType, "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")
		}
		resp.ErrorCode, resp.ErrorMessage = a.codeOf(c, err), messageOf(err)
		return reply(resp)
	}
	resp.ClusterID, resp.ControllerID = a.view().image.ClusterID(), int32(a.config.NodeID)
	for _, e := range a.endpoints(c) {
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = int32(e.id), e.host, e.port, e.rack
		resp.Brokers = append(resp.Brokers, b)
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	return reply(resp)
}

func (a *API) describeLogDirs(_ context.Context, _ *call, req *kmsg.DescribeLogDirsRequest) (wire.Pending, error) {
	return later(func(context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.DescribeLogDirsResponse](req)
		dir := kmsg.NewDescribeLogDirsResponseDir()
		dir.Dir = a.config.DataDir
		dir.TotalBytes, dir.UsableBytes = -1, -1
		if usage, err := a.engine.Usage(); err == nil {
			dir.TotalBytes, dir.UsableBytes = usage.Total, usage.Usable
		}
		view := a.view()
		if req.Topics == nil {
			for t := range view.image.Topics() {
				dir.Topics = append(dir.Topics, describedLogs(view.resolve(t), nil))
			}
		}
		for i := range req.Topics {
			if t, ok := view.topic(req.Topics[i].Topic); ok {
				if logs := describedLogs(t, req.Topics[i].Partitions); len(logs.Partitions) > 0 {
					dir.Topics = append(dir.Topics, logs)
				}
			}
		}
		resp.Dirs = append(resp.Dirs, dir)
		return resp, nil
	})
}

// describedLogs lists the sizes of a topic's partitions, all of them if only is nil.
func describedLogs(t *topicView, only []int32) kmsg.DescribeLogDirsResponseDirTopic {
	out := kmsg.NewDescribeLogDirsResponseDirTopic()
	out.Topic = t.topic.Name
	add := func(index int32, p *storage.Partition) {
		if p == nil {
			return
		}
		part := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		part.Partition, part.Size = index, p.SizeBytes()
		out.Partitions = append(out.Partitions, part)
	}
	if only == nil {
		for i, p := range t.partitions {
			add(int32(i), p)
		}
		return out
	}
	only = slices.Clone(only)
	slices.Sort(only)
	for _, index := range slices.Compact(only) {
		if p, _, err := t.partition(index); err == nil {
			add(index, p)
		}
	}
	return out
}

func (a *API) describeTopicPartitions(_ context.Context, c *call, req *kmsg.DescribeTopicPartitionsRequest) (wire.Pending, error) {
	return later(func(context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.DescribeTopicPartitionsResponse](req)
		view := a.view()
		names, err := view.pagedTopics(req)
		if err != nil {
			for i := range req.Topics {
				out := a.undescribedTopic(c, req.Topics[i].Topic, err)
				out.AuthorizedOperations = unknownOperations
				resp.Topics = append(resp.Topics, out)
			}
			return resp, nil
		}
		left := max(min(int(req.ResponsePartitionLimit), view.broker.MaxRequestPartitionSizeLimit), 1)
		for _, name := range names {
			if left == 0 {
				resp.NextCursor = nextCursor(name, 0)
				break
			}
			t, err := view.describable(name)
			if err != nil {
				if len(req.Topics) > 0 {
					resp.Topics = append(resp.Topics, a.undescribedTopic(c, name, err))
				}
				continue
			}
			from := 0
			if req.Cursor != nil && req.Cursor.Topic == name {
				from = min(int(req.Cursor.Partition), len(t.Partitions))
			}
			to := min(from+left, len(t.Partitions))
			resp.Topics = append(resp.Topics, describePartitions(view.resolve(t), from, to))
			left -= to - from
			if to < len(t.Partitions) {
				resp.NextCursor = nextCursor(name, int32(to))
				break
			}
		}
		return resp, nil
	})
}

func nextCursor(topic string, partition int32) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	cursor := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	cursor.Topic, cursor.Partition = topic, partition
	return &cursor
}

// pagedTopics lists the topics of a request, sorted, from the cursor on.
func (v *view) pagedTopics(req *kmsg.DescribeTopicPartitionsRequest) ([]string, error) {
	var names []string
	for i := range req.Topics {
		names = append(names, req.Topics[i].Topic)
	}
	if len(req.Topics) == 0 {
		for t := range v.image.Topics() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if req.Cursor == nil {
		return names, nil
	}
	if req.Cursor.Partition < 0 {
		return nil, refuse(kerr.InvalidRequest, "DescribeTopicPartitionsRequest cursor partition must be valid: %d", req.Cursor.Partition)
	}
	at, found := slices.BinarySearch(names, req.Cursor.Topic)
	if !found && len(req.Topics) > 0 {
		return nil, refuse(kerr.InvalidRequest, "DescribeTopicPartitionsRequest topic list should contain the cursor topic: %s", req.Cursor.Topic)
	}
	return names[at:], nil
}

func (v *view) describable(name string) (*metadata.Topic, error) {
	if err := metadata.ValidateTopicName(name); err != nil {
		return nil, err
	}
	if t, ok := v.image.Topic(name); ok {
		return t, nil
	}
	return nil, errUnknownPartition
}

func (a *API) undescribedTopic(c *call, name string, err error) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.ErrorCode, out.AuthorizedOperations = &name, a.codeOf(c, err), topicOperations
	return out
}

func describePartitions(tv *topicView, from, to int) kmsg.DescribeTopicPartitionsResponseTopic {
	t := tv.topic
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.TopicID, out.IsInternal, out.AuthorizedOperations = kmsg.StringPtr(t.Name), t.ID, t.Internal, topicOperations
	for i := from; i < to; i++ {
		p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		p.Partition = int32(i)
		p.LeaderID, p.LeaderEpoch = int32(t.Partitions[i].Leader), int32(t.Partitions[i].LeaderEpoch)
		p.Replicas = brokerIDs(t.Partitions[i].Replicas)
		p.ISR, p.OfflineReplicas = tv.inSync(i)
		p.EligibleLeaderReplicas, p.LastKnownELR = []int32{}, []int32{}
		out.Partitions = append(out.Partitions, p)
	}
	return out
}
