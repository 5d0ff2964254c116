package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchOnce asks a partition's leader once for what is at offset, without waiting for records to come. next is the offset behind all that
// the answer covers, records or not: compaction and transactions leave offsets at which there is nothing to consume.
func (c *Client) fetchOnce(ctx context.Context, topic kadm.TopicDetail, partition int32, offset int64, maxBytes int32, level kgo.IsolationLevel) (fetched kgo.FetchPartition, next int64, err error) {
	detail, ok := topic.Partitions[partition]
	if !ok {
		return fetched, offset, kerr.UnknownTopicOrPartition
	}
	request := kmsg.NewPtrFetchRequest()
	request.ReplicaID, request.MaxWaitMillis, request.MinBytes, request.MaxBytes = -1, 0, 0, maxBytes
	request.SessionID, request.SessionEpoch = 0, -1
	if level == kgo.ReadCommitted() {
		request.IsolationLevel = 1
	}
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = partition, offset, maxBytes, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID, rt.Partitions = topic.Topic, topic.ID, []kmsg.FetchRequestTopicPartition{rp}
	request.Topics = []kmsg.FetchRequestTopic{rt}
	answer, err := c.base.Broker(int(detail.Leader)).RetriableRequest(ctx, request)
	if err != nil {
		return fetched, offset, err
	}
	response, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		return fetched, offset, fmt.Errorf("the broker answered a fetch with %T", answer)
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return fetched, offset, err
	}
	for _, t := range response.Topics {
		for i := range t.Partitions {
			fetched, next = kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
				KeepControlRecords: true, Offset: offset, IsolationLevel: level, Topic: topic.Topic, Partition: partition,
			}, &t.Partitions[i], kgo.DefaultDecompressor(), nil)
			return fetched, max(next, offset), fetched.Err
		}
	}
	return fetched, offset, errors.New("the broker's answer to a fetch has no partition")
}
