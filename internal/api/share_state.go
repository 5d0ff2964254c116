package api

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/wire"
)

// InitializeShareGroupState v0 (key 83), ReadShareGroupState v0 (84), WriteShareGroupState v0–1 (85), DeleteShareGroupState v0 (86),
// ReadShareGroupStateSummary v0–1 (87): the state of share partitions (KIP-932), about which the brokers of a cluster ask each other.
//
//   - WriteShareGroupState and ReadShareGroupStateSummary v1 (KIP-1226) have the number of records whose delivery is complete.
//   - Each partition has a code of its own. A request without a group has an empty answer.
//
// This broker asks itself without a request, by share.Persister.

// Kafka's texts for what the share coordinator refuses.
var (
	errFencedStateEpoch = refuse(kerr.FencedStateEpoch,
		"The share coordinator rejected the request because the share-group state epoch did not match.")
	errFencedShareLeader  = refuse(kerr.FencedLeaderEpoch, "The leader epoch in the request is older than the epoch on the broker.")
	errReadUninitialized  = refuse(kerr.InvalidRequest, "Read operation on uninitialized share partition not allowed.")
	errWriteUninitialized = refuse(kerr.InvalidRequest, "Write operation on uninitialized share partition not allowed.")
)

// shareStateError gives an error of the share coordinator the text that Kafka has for it.
func shareStateError(err, uninitialized error) error {
	switch {
	case errors.Is(err, share.ErrFencedStateEpoch):
		return errFencedStateEpoch
	case errors.Is(err, share.ErrFencedLeaderEpoch):
		return errFencedShareLeader
	case errors.Is(err, share.ErrUnknownPartition):
		return errUnknownPartition
	case errors.Is(err, share.ErrNotInitialized):
		return uninitialized
	default:
		return err
	}
}

// sharePending is a request about one share partition that has been queued.
type sharePending[A any] struct {
	partition int32
	share.Pending[A]
}

// wait returns the answer, and the code and text of its error.
func (p sharePending[A]) wait(ctx context.Context, a *API, c *call, uninitialized error) (A, int16, *string) {
	answer, err := p.Wait(ctx)
	err = shareStateError(err, uninitialized)
	return answer, a.codeOf(c, err), messageOf(err)
}

func (a *API) initializeShareGroupState(_ context.Context, c *call, req *kmsg.InitializeShareGroupStateRequest) (wire.Pending, error) {
	var pending [][]sharePending[struct{}]
	for _, t := range shareTopics(req.GroupID, req.Topics) {
		var of []sharePending[struct{}]
		for _, p := range t.Partitions {
			of = append(of, sharePending[struct{}]{p.Partition, a.shareState.Initialize(shareKey(req.GroupID, t.TopicID, p.Partition), p.StateEpoch, base.Offset(p.StartOffset))})
		}
		pending = append(pending, of)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.InitializeShareGroupStateResponse](req)
		for i, of := range pending {
			t := kmsg.NewInitializeShareGroupStateResponseTopic()
			t.TopicID = req.Topics[i].TopicID
			for _, p := range of {
				r := kmsg.NewInitializeShareGroupStateResponseTopicPartition()
				r.Partition = p.partition
				_, r.ErrorCode, r.ErrorMessage = p.wait(ctx, a, c, nil)
				t.Partitions = append(t.Partitions, r)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil
	})
}

func (a *API) readShareGroupState(_ context.Context, c *call, req *kmsg.ReadShareGroupStateRequest) (wire.Pending, error) {
	var pending [][]sharePending[share.Persisted]
	for _, t := range shareTopics(req.GroupID, req.Topics) {
		var of []sharePending[share.Persisted]
		for _, p := range t.Partitions {
			of = append(of, sharePending[share.Persisted]{p.Partition, a.shareState.Read(shareKey(req.GroupID, t.TopicID, p.Partition), base.LeaderEpoch(p.LeaderEpoch))})
		}
		pending = append(pending, of)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.ReadShareGroupStateResponse](req)
		for i, of := range pending {
			t := kmsg.NewReadShareGroupStateResponseTopic()
			t.TopicID = req.Topics[i].TopicID
			for _, p := range of {
				r := kmsg.NewReadShareGroupStateResponseTopicPartition()
				r.Partition = p.partition
				var s share.Persisted
				s, r.ErrorCode, r.ErrorMessage = p.wait(ctx, a, c, errReadUninitialized)
				r.StateEpoch, r.StartOffset = s.StateEpoch, int64(s.Start)
				for _, b := range s.Batches {
					r.StateBatches = append(r.StateBatches, kmsg.ReadShareGroupStateResponseTopicPartitionStateBatch{
						FirstOffset: int64(b.First), LastOffset: int64(b.Last), DeliveryState: int8(b.State), DeliveryCount: b.DeliveryCount,
					})
				}
				t.Partitions = append(t.Partitions, r)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil
	})
}

func (a *API) writeShareGroupState(_ context.Context, c *call, req *kmsg.WriteShareGroupStateRequest) (wire.Pending, error) {
	var pending [][]sharePending[struct{}]
	for _, t := range shareTopics(req.GroupID, req.Topics) {
		var of []sharePending[struct{}]
		for _, p := range t.Partitions {
			w := share.Persisted{
				StateEpoch: p.StateEpoch, LeaderEpoch: base.LeaderEpoch(p.LeaderEpoch), Start: base.Offset(p.StartOffset), DeliveryCompleteCount: p.DeliveryCompleteCount,
			}
			if req.Version < 1 {
				w.DeliveryCompleteCount = -1
			}
			for _, b := range p.StateBatches {
				w.Batches = append(w.Batches, share.StateBatch{
					First: base.Offset(b.FirstOffset), Last: base.Offset(b.LastOffset), State: share.State(b.DeliveryState), DeliveryCount: b.DeliveryCount,
				})
			}
			of = append(of, sharePending[struct{}]{p.Partition, a.shareState.Write(shareKey(req.GroupID, t.TopicID, p.Partition), w)})
		}
		pending = append(pending, of)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.WriteShareGroupStateResponse](req)
		for i, of := range pending {
			t := kmsg.NewWriteShareGroupStateResponseTopic()
			t.TopicID = req.Topics[i].TopicID
			for _, p := range of {
				r := kmsg.NewWriteShareGroupStateResponseTopicPartition()
				r.Partition = p.partition
				_, r.ErrorCode, r.ErrorMessage = p.wait(ctx, a, c, errWriteUninitialized)
				t.Partitions = append(t.Partitions, r)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil
	})
}

func (a *API) deleteShareGroupState(_ context.Context, c *call, req *kmsg.DeleteShareGroupStateRequest) (wire.Pending, error) {
	var pending [][]sharePending[struct{}]
	for _, t := range shareTopics(req.GroupID, req.Topics) {
		var of []sharePending[struct{}]
		for _, p := range t.Partitions {
			of = append(of, sharePending[struct{}]{p.Partition, a.shareState.Delete(shareKey(req.GroupID, t.TopicID, p.Partition))})
		}
		pending = append(pending, of)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.DeleteShareGroupStateResponse](req)
		for i, of := range pending {
			t := kmsg.NewDeleteShareGroupStateResponseTopic()
			t.TopicID = req.Topics[i].TopicID
			for _, p := range of {
				r := kmsg.NewDeleteShareGroupStateResponseTopicPartition()
				r.Partition = p.partition
				_, r.ErrorCode, r.ErrorMessage = p.wait(ctx, a, c, nil)
				t.Partitions = append(t.Partitions, r)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil
	})
}

func (a *API) readShareGroupStateSummary(_ context.Context, c *call, req *kmsg.ReadShareGroupStateSummaryRequest) (wire.Pending, error) {
	var pending [][]sharePending[share.Persisted]
	for _, t := range shareTopics(req.GroupID, req.Topics) {
		var of []sharePending[share.Persisted]
		for _, p := range t.Partitions {
			of = append(of, sharePending[share.Persisted]{p.Partition, a.shareState.ReadSummary(shareKey(req.GroupID, t.TopicID, p.Partition), base.LeaderEpoch(p.LeaderEpoch))})
		}
		pending = append(pending, of)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.ReadShareGroupStateSummaryResponse](req)
		for i, of := range pending {
			t := kmsg.NewReadShareGroupStateSummaryResponseTopic()
			t.TopicID = req.Topics[i].TopicID
			for _, p := range of {
				r := kmsg.NewReadShareGroupStateSummaryResponseTopicPartition()
				r.Partition = p.partition
				var s share.Persisted
				if s, r.ErrorCode, r.ErrorMessage = p.wait(ctx, a, c, nil); r.ErrorCode == 0 {
					r.StateEpoch, r.LeaderEpoch, r.StartOffset = s.StateEpoch, int32(s.LeaderEpoch), int64(s.Start)
					r.DeliveryCompleteCount = s.DeliveryCompleteCount
				}
				t.Partitions = append(t.Partitions, r)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil
	})
}

// shareTopics are the topics of a request about share state, none where it names no group.
func shareTopics[T any](group string, topics []T) []T {
	if group == "" {
		return nil
	}
	return topics
}

func shareKey(group string, topic [16]byte, partition int32) share.Key {
	return share.Key{Group: group, Topic: topic, Partition: partition}
}
