package api

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/metadata"
)

func quorumRequest(version int16, topic string, partitions ...int32) *kmsg.DescribeQuorumRequest {
	req := kmsg.NewPtrDescribeQuorumRequest()
	req.Version = version
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic = topic
	for _, index := range partitions {
		t.Partitions = append(t.Partitions, kmsg.DescribeQuorumRequestTopicPartition{Partition: index})
	}
	req.Topics = append(req.Topics, t)
	return req
}

func TestDescribeQuorumShowsThisBrokerAlone(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	c := b.client()
	for version := int16(0); version <= 2; version++ {
		b.createTopic("topic"+string(rune('0'+version)), 1)
		from := time.Now().UnixMilli()
		resp := ask[*kmsg.DescribeQuorumResponse](c, quorumRequest(version, "__cluster_metadata", 0))
		if resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			t.Fatalf("v%d: %+v", version, resp)
		}
		p := resp.Topics[0].Partitions[0]
		image := b.metadata.Image()
		if p.ErrorCode != 0 || p.LeaderID != 1 || p.LeaderEpoch != int32(image.LeaderEpoch()) || p.HighWatermark != image.Revision() {
			t.Errorf("v%d: code %d, leader %d, epoch %d, high watermark %d, want 0, 1, %d, %d", version,
				p.ErrorCode, p.LeaderID, p.LeaderEpoch, p.HighWatermark, image.LeaderEpoch(), image.Revision())
		}
		if len(p.CurrentVoters) != 1 || p.CurrentVoters[0].ReplicaID != 1 || p.CurrentVoters[0].LogEndOffset != p.HighWatermark || len(p.Observers) != 0 {
			t.Errorf("v%d: voters %+v, observers %+v", version, p.CurrentVoters, p.Observers)
		}
		if v := p.CurrentVoters[0]; version >= 1 && (v.LastFetchTimestamp < from || v.LastCaughtUpTimestamp != v.LastFetchTimestamp) {
			t.Errorf("v%d: fetched at %d, caught up at %d, asked at %d", version, v.LastFetchTimestamp, v.LastCaughtUpTimestamp, from)
		}
		if version < 2 {
			continue
		}
		if resp.ErrorMessage == nil || *resp.ErrorMessage != "" || p.ErrorMessage == nil || *p.ErrorMessage != "" {
			t.Errorf("v%d: messages are not empty texts", version)
		}
		if len(resp.Nodes) != 1 || resp.Nodes[0].NodeID != 1 || len(resp.Nodes[0].Listeners) != 1 || resp.Nodes[0].Listeners[0].Name != testListener {
			t.Errorf("v%d: nodes %+v", version, resp.Nodes)
		}
	}
}

// The expected codes and messages are what Apache Kafka 4.3.1 answered.
func TestDescribeQuorumKnowsNoOtherPartition(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("p", 2)
	c := b.client()
	two := quorumRequest(0, "__cluster_metadata", 0)
	two.Topics = append(two.Topics, quorumRequest(0, "p", 0).Topics...)
	for _, req := range []*kmsg.DescribeQuorumRequest{
		quorumRequest(0, "p", 0, 1),
		quorumRequest(0, "__cluster_metadata", 1),
		quorumRequest(0, "__cluster_metadata", 0, 1),
		quorumRequest(0, "__cluster_metadata", 0, 0),
		quorumRequest(0, "__cluster_metadata"),
		two,
		kmsg.NewPtrDescribeQuorumRequest(),
	} {
		for version := int16(0); version <= 2; version++ {
			req.Version = version
			resp := ask[*kmsg.DescribeQuorumResponse](c, req)
			if resp.ErrorCode != 0 || len(resp.Topics) != len(req.Topics) || len(resp.Nodes) != 0 {
				t.Errorf("%+v: %+v", req.Topics, resp)
				continue
			}
			for i, topic := range resp.Topics {
				if len(topic.Partitions) != len(req.Topics[i].Partitions) {
					t.Errorf("%+v: partitions %+v", req.Topics, topic.Partitions)
				}
				for _, p := range topic.Partitions {
					text := "This server does not host this topic-partition."
					if p.ErrorCode != kerr.UnknownTopicOrPartition.Code || p.LeaderID != 0 || len(p.CurrentVoters) != 0 {
						t.Errorf("v%d, %+v: %+v, want UNKNOWN_TOPIC_OR_PARTITION alone", version, req.Topics, p)
					}
					if version >= 2 && (p.ErrorMessage == nil || *p.ErrorMessage != text) {
						t.Errorf("v%d: message %v, want %q", version, p.ErrorMessage, text)
					}
				}
			}
		}
	}
}

func TestUnregisterBroker(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	if err := b.metadata.RegisterBroker(b.ctx, metadata.Broker{ID: 7}); err != nil {
		t.Fatal(err)
	}
	c := b.client()
	for _, tc := range []struct {
		id   base.BrokerID
		code int16
		text string
	}{
		{7, 0, ""},
		{7, kerr.BrokerIDNotRegistered.Code, "Broker ID 7 is not currently registered"},
		{-1, kerr.BrokerIDNotRegistered.Code, "Broker ID -1 is not currently registered"},
		{1, kerr.InvalidRequest.Code, "Broker ID 1 serves this request, it cannot be unregistered"},
	} {
		req := kmsg.NewPtrUnregisterBrokerRequest()
		req.BrokerID = int32(tc.id)
		resp := ask[*kmsg.UnregisterBrokerResponse](c, req)
		if resp.ErrorCode != tc.code || resp.ErrorMessage == nil || *resp.ErrorMessage != tc.text {
			t.Errorf("broker %d: %+v, want %d, %q", tc.id, resp, tc.code, tc.text)
		}
	}
	if _, ok := b.metadata.Image().Broker(7); ok {
		t.Error("broker 7 is still registered")
	}
}
