package api

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// move is where one partition is asked to be; nil replicas cancel.
type move struct {
	topic     string
	partition int32
	replicas  []int32
}

func reassignRequest(version int16, moves ...move) *kmsg.AlterPartitionAssignmentsRequest {
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.Version = version
	for _, m := range moves {
		p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
		p.Partition, p.Replicas = m.partition, m.replicas
		if n := len(req.Topics); n > 0 && req.Topics[n-1].Topic == m.topic {
			req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, p)
			continue
		}
		t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
		t.Topic, t.Partitions = m.topic, append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// The expected codes and messages are what Apache Kafka 4.3.1 answered.
func TestAlterPartitionReassignmentsAnswersAsTheReference(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("p", 2)
	b.createTopic("q", 1)
	c := b.client()
	const manual = " 39 The manual partition assignment includes "
	cases := []struct {
		name  string
		moves []move
		want  []string
	}{
		{"the same broker", []move{{"q", 0, []int32{1}}, {"p", 1, []int32{1}}}, []string{"q:0 0 null", "p:1 0 null"}},
		{"cancel", []move{{"p", 0, nil}}, []string{"p:0 85 null"}},
		{"move, then cancel", []move{{"p", 0, []int32{1}}, {"p", 0, nil}}, []string{"p:0 0 null", "p:0 85 null"}},
		{"no replicas", []move{{"p", 0, []int32{}}}, []string{"p:0" + manual + "an empty replica list."}},
		{"unknown broker", []move{{"p", 0, []int32{98765}}}, []string{"p:0" + manual + "broker 98765, but no such broker is registered."}},
		{"one more", []move{{"p", 0, []int32{1, 2}}}, []string{"p:0" + manual + "broker 2, but no such broker is registered."}},
		{"the lower of two", []move{{"p", 0, []int32{3, 2}}}, []string{"p:0" + manual + "broker 2, but no such broker is registered."}},
		{"below zero", []move{{"p", 0, []int32{-7, 1}}}, []string{"p:0" + manual + "broker -7, but no such broker is registered."}},
		{"twice", []move{{"p", 0, []int32{1, 1}}}, []string{"p:0" + manual + "the broker 1 more than once."}},
		{"unknown topic", []move{{"nope", 0, []int32{7}}, {"nope", 1, nil}}, []string{"nope:0 3 Unable to find a topic named nope.", "nope:1 3 Unable to find a topic named nope."}},
		{"unknown partition", []move{{"p", 9, []int32{1}}, {"p", -1, nil}}, []string{"p:9 3 Unable to find partition p:9.", "p:-1 3 Unable to find partition p:-1."}},
	}
	for _, tc := range cases {
		for version := int16(0); version <= 1; version++ {
			for _, allow := range []bool{true, false} {
				req := reassignRequest(version, tc.moves...)
				req.AllowReplicationFactorChange = allow
				resp := ask[*kmsg.AlterPartitionAssignmentsResponse](c, req)
				var got []string
				for _, topic := range resp.Topics {
					for _, p := range topic.Partitions {
						got = append(got, shownResult(topic.Topic, p.Partition, p.ErrorCode, p.ErrorMessage))
					}
				}
				if resp.ErrorCode != 0 || resp.ErrorMessage != nil || !slices.Equal(got, tc.want) {
					t.Errorf("%s, v%d: code %d, %q, want %q", tc.name, version, resp.ErrorCode, got, tc.want)
				}
				if version >= 1 && resp.AllowReplicationFactorChange != allow {
					t.Errorf("%s, v%d: the answer allows a change of the factor: %t", tc.name, version, !allow)
				}
			}
		}
	}
	for version := int16(0); version <= 1; version++ {
		resp := ask[*kmsg.AlterPartitionAssignmentsResponse](c, reassignRequest(version))
		if resp.ErrorCode != 0 || len(resp.Topics) != 0 || !resp.AllowReplicationFactorChange || resp.ErrorMessage == nil || *resp.ErrorMessage != "" {
			t.Errorf("of nothing, v%d: %+v", version, resp)
		}
	}
}

func TestNoReassignmentIsUnderWay(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("p", 2)
	c := b.client()
	ask[*kmsg.AlterPartitionAssignmentsResponse](c, reassignRequest(1, move{"p", 0, []int32{1}}))
	for _, topics := range [][]kmsg.ListPartitionReassignmentsRequestTopic{
		nil, {}, {{Topic: "p", Partitions: []int32{0, 1, 9}}}, {{Topic: "nope", Partitions: []int32{0}}},
	} {
		req := kmsg.NewPtrListPartitionReassignmentsRequest()
		req.Topics = topics
		resp := ask[*kmsg.ListPartitionReassignmentsResponse](c, req)
		if resp.ErrorCode != 0 || resp.ErrorMessage != nil || len(resp.Topics) != 0 {
			t.Errorf("%+v: %+v, want nothing", topics, resp)
		}
	}
}
