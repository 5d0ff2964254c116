package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/wal"
	"github.com/ottlaio/ottla/internal/wire"
)

// DeleteRecords v0–2 (key 21), OffsetForLeaderEpoch v2–4 (key 23)
//
//   - DeleteRecords moves the log start offset up to the given offset, or to the high watermark for -1, and answers once that is
//     durable (KIP-107). Internal topics and topics whose cleanup policy does not delete refuse it.
//   - OffsetForLeaderEpoch tells where a leader epoch ended, or the largest known one below it (KIP-101, KIP-320): the high watermark
//     for the current one, because nothing above it is sure to stay.

var (
	errInternalRecords = refuse(kerr.InvalidTopicException, "Records of internal topics can not be deleted.")
	errKeptRecords     = refuse(kerr.PolicyViolation, "Records can not be deleted due to the configured cleanup policy.")
)

func (a *API) deleteRecords(_ context.Context, c *call, req *kmsg.DeleteRecordsRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		bounded, cancel := withTimeout(ctx, req.TimeoutMillis)
		defer cancel()
		resp := answer[kmsg.DeleteRecordsResponse](req)
		view := a.view()
		var last wal.Sequence
		for i := range req.Topics {
			asked := &req.Topics[i]
			out := kmsg.NewDeleteRecordsResponseTopic()
			out.Topic = asked.Topic
			for _, p := range asked.Partitions {
				part := kmsg.NewDeleteRecordsResponseTopicPartition()
				part.Partition = p.Partition
				start, sequence, err := view.deleteRecords(bounded, asked.Topic, p.Partition, base.Offset(p.Offset))
				part.LowWatermark, part.ErrorCode = int64(start), a.codeOf(c, err)
				last = max(last, sequence)
				out.Partitions = append(out.Partitions, part)
			}
			resp.Topics = append(resp.Topics, out)
		}
		if err := a.engine.Wait(bounded, last); err != nil {
			code := a.codeOf(c, err)
			for i := range resp.Topics {
				for j := range resp.Topics[i].Partitions {
					if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
						p.LowWatermark, p.ErrorCode = -1, code
					}
				}
			}
		}
		return resp, nil
	})
}

// deleteRecords moves one partition's log start offset and returns it as it is then.
func (v *view) deleteRecords(ctx context.Context, topic string, index int32, before base.Offset) (base.Offset, wal.Sequence, error) {
	t, ok := v.topic(topic)
	if !ok {
		return base.NoOffset, 0, errUnknownPartition
	}
	p, _, err := t.partition(index)
	switch {
	case err != nil:
		return base.NoOffset, 0, err
	case t.topic.Internal:
		return base.NoOffset, 0, errInternalRecords
	case !t.config.CleanupDelete:
		return base.NoOffset, 0, errKeptRecords
	case before < -1:
		return base.NoOffset, 0, storage.ErrOffsetOutOfRange
	}
	start, sequence, err := p.DeleteRecords(ctx, before)
	if err != nil {
		return base.NoOffset, 0, err
	}
	return start, sequence, nil
}

func (a *API) offsetForLeaderEpoch(_ context.Context, c *call, req *kmsg.OffsetForLeaderEpochRequest) (wire.Pending, error) {
	resp := answer[kmsg.OffsetForLeaderEpochResponse](req)
	view := a.view()
	for i := range req.Topics {
		asked := &req.Topics[i]
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = asked.Topic
		for j := range asked.Partitions {
			p := &asked.Partitions[j]
			part := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			epoch, end, err := view.epochEnd(asked.Topic, p)
			part.Partition, part.ErrorCode = p.Partition, a.codeOf(c, err)
			part.LeaderEpoch, part.EndOffset = int32(epoch), int64(end)
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return reply(resp)
}

// epochEnd finds where a leader epoch ended in one partition.
func (v *view) epochEnd(topic string, asked *kmsg.OffsetForLeaderEpochRequestTopicPartition) (base.LeaderEpoch, base.Offset, error) {
	t, ok := v.topic(topic)
	if !ok {
		return base.NoLeaderEpoch, base.NoOffset, errUnknownPartition
	}
	p, place, err := t.partition(asked.Partition)
	if err != nil {
		return base.NoLeaderEpoch, base.NoOffset, err
	}
	if err := checkEpoch(base.LeaderEpoch(asked.CurrentLeaderEpoch), place.LeaderEpoch); err != nil {
		return base.NoLeaderEpoch, base.NoOffset, err
	}
	if base.LeaderEpoch(asked.LeaderEpoch) == place.LeaderEpoch {
		return place.LeaderEpoch, p.Offsets().HighWatermark, nil
	}
	epoch, end := p.EpochEndOffset(base.LeaderEpoch(asked.LeaderEpoch))
	if end != base.NoOffset {
		end = min(end, p.Offsets().HighWatermark)
	}
	return epoch, end, nil
}
