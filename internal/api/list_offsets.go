package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/wire"
)

// ListOffsets v1–11 (key 2)
//
//   - By time: the first record with that timestamp or a later one; offset and timestamp -1 if there is none.
//   - Latest (-1) is the high watermark, or the last stable offset for read_committed (v2), which finds no record at or after that by
//     time either. Earliest (-2) is the log start offset.
//   - v4 checks the leader epoch that the client knows and tells that of the offset (KIP-320).
//   - v7 adds the record with the greatest timestamp (-3, KIP-734), v8 the earliest local offset (-4, KIP-405), v9 the last tiered
//     offset (-5, KIP-1005), v10 a timeout, v11 the earliest offset that waits for its upload (-6, KIP-1023). Below the version that
//     brought it a special timestamp is UNSUPPORTED_VERSION.
//
// Nothing is tiered yet: -4 is the log start offset, -5 and -6 answer -1, as Kafka does for a topic without remote storage.

// The timestamps that stand for a place, and the version of ListOffsets that brought each.
const (
	latestTimestamp          int64 = -1
	earliestTimestamp        int64 = -2
	maxTimestamp             int64 = -3
	earliestLocalTimestamp   int64 = -4
	latestTieredTimestamp    int64 = -5
	earliestPendingTimestamp int64 = -6
)

var listOffsetsSince = map[int64]int16{
	maxTimestamp:             7,
	earliestLocalTimestamp:   8,
	latestTieredTimestamp:    9,
	earliestPendingTimestamp: 11,
}

var errTimestampVersion = refuse(kerr.UnsupportedVersion, "The timestamp needs a higher version of ListOffsets.")

func (a *API) listOffsets(_ context.Context, c *call, req *kmsg.ListOffsetsRequest) (wire.Pending, error) {
	return later(func(context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.ListOffsetsResponse](req)
		view := a.view()
		asks := partitionAsks(req)
		for i := range req.Topics {
			asked := &req.Topics[i]
			out := kmsg.NewListOffsetsResponseTopic()
			out.Topic = asked.Topic
			for j := range asked.Partitions {
				p := &asked.Partitions[j]
				key := base.TopicPartition{Topic: asked.Topic, Partition: p.Partition}
				n := asks[key]
				if n == 0 {
					continue // it has had its answer
				}
				at, err := a.offsetFor(view, req, asked.Topic, p)
				if n > 1 {
					asks[key], err = 0, errDuplicatePartition
				}
				out.Partitions = append(out.Partitions, a.listedOffset(c, p, at, err))
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp, nil
	})
}

var errDuplicatePartition = refuse(kerr.InvalidRequest, "The request names the partition more than once.")

// partitionAsks counts how often each partition is asked for.
func partitionAsks(req *kmsg.ListOffsetsRequest) map[base.TopicPartition]int {
	seen := make(map[base.TopicPartition]int)
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			seen[base.TopicPartition{Topic: req.Topics[i].Topic, Partition: req.Topics[i].Partitions[j].Partition}]++
		}
	}
	return seen
}

// offsetFor finds one partition's offset for a timestamp.
func (a *API) offsetFor(v *view, req *kmsg.ListOffsetsRequest, name string, asked *kmsg.ListOffsetsRequestTopicPartition) (storage.TimestampOffset, error) {
	none := storage.TimestampOffset{Offset: base.NoOffset, Timestamp: base.NoTimestamp, Epoch: base.NoLeaderEpoch}
	topic, ok := v.topic(name)
	if !ok {
		return none, errUnknownPartition
	}
	p, place, err := topic.partition(asked.Partition)
	if err != nil {
		return none, err
	}
	if err := checkEpoch(base.LeaderEpoch(asked.CurrentLeaderEpoch), place.LeaderEpoch); err != nil {
		return none, err
	}
	if since, special := listOffsetsSince[asked.Timestamp]; asked.Timestamp < earliestPendingTimestamp || special && req.Version < since {
		return none, errTimestampVersion
	}
	switch asked.Timestamp {
	case latestTimestamp:
		at := p.Offsets().HighWatermark
		if req.IsolationLevel == 1 {
			at = p.Offsets().LastStable
		}
		if at > 0 && plant.On(plant.ListEndShort) {
			at--
		}
		return storage.TimestampOffset{Offset: at, Timestamp: base.NoTimestamp, Epoch: epochAtEnd(p, at)}, nil
	case earliestTimestamp, earliestLocalTimestamp:
		at := p.Offsets().LogStart
		return storage.TimestampOffset{Offset: at, Timestamp: base.NoTimestamp, Epoch: p.EpochAt(at)}, nil
	case latestTieredTimestamp, earliestPendingTimestamp:
		return none, nil
	case maxTimestamp:
		at, ok, err := p.MaxTimestamp()
		if err != nil || !ok || unstable(p, req, at) {
			return none, err
		}
		return at, nil
	}
	at, ok, err := p.OffsetForTimestamp(asked.Timestamp)
	if err != nil || !ok || unstable(p, req, at) {
		return none, err
	}
	return at, nil
}

// unstable reports whether a record is none that the client may see, since it reads committed ones only.
func unstable(p *storage.Partition, req *kmsg.ListOffsetsRequest, at storage.TimestampOffset) bool {
	return req.IsolationLevel == 1 && at.Offset >= p.Offsets().LastStable
}

// epochAtEnd is the leader epoch of the next record, at the end of the log.
func epochAtEnd(p *storage.Partition, end base.Offset) base.LeaderEpoch {
	if epoch := p.EpochAt(end); epoch != base.NoLeaderEpoch {
		return epoch
	}
	return p.LeaderEpoch()
}

func (a *API) listedOffset(c *call, asked *kmsg.ListOffsetsRequestTopicPartition, at storage.TimestampOffset, err error) kmsg.ListOffsetsResponseTopicPartition {
	out := kmsg.NewListOffsetsResponseTopicPartition()
	out.Partition = asked.Partition
	if err != nil {
		out.ErrorCode = a.codeOf(c, err)
		return out
	}
	out.Offset, out.Timestamp, out.LeaderEpoch = int64(at.Offset), at.Timestamp, int32(at.Epoch)
	return out
}
