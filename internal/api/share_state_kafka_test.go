package api

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestShareStateAnswersAsKafka has a conversation about the state of share partitions, about which brokers ask each other, and compares each
// answer with the one that Apache Kafka 4.3.1 gave.
func TestShareStateAnswersAsKafka(t *testing.T) {
	compareWithKafka(t, "testdata/golden/share-state-kafka-4.3.1.txt", (*conversation).shareState)
}

// beginShare is begin, and waits until the share coordinator answers.
func (v *conversation) beginShare(topic string) {
	v.begin(topic)
	fc := kmsg.NewPtrFindCoordinatorRequest()
	fc.Version, fc.CoordinatorType, fc.CoordinatorKeys = 6, 2, []string{"g:AAAAAAAAAAAAAAAAAAAAAQ:0"}
	for ask[*kmsg.FindCoordinatorResponse](v.client, fc).Coordinators[0].ErrorCode != 0 {
		time.Sleep(100 * time.Millisecond) // a real broker creates __share_group_state in the background
	}
	for ask[*kmsg.ReadShareGroupStateSummaryResponse](v.client, v.stateSummary("g", 0)).Topics[0].Partitions[0].ErrorCode != 0 {
		time.Sleep(100 * time.Millisecond)
	}
}

// stateSummary asks for what is kept of partitions of the topic.
func (v *conversation) stateSummary(group string, partitions ...int32) *kmsg.ReadShareGroupStateSummaryRequest {
	r := kmsg.NewPtrReadShareGroupStateSummaryRequest()
	r.Version, r.GroupID = 1, group
	t := kmsg.NewReadShareGroupStateSummaryRequestTopic()
	t.TopicID = v.topicID
	for _, p := range partitions {
		t.Partitions = append(t.Partitions, kmsg.ReadShareGroupStateSummaryRequestTopicPartition{Partition: p, LeaderEpoch: -1})
	}
	r.Topics = append(r.Topics, t)
	return r
}

func (v *conversation) initializeState(group string, partition, epoch int32, start int64) *kmsg.InitializeShareGroupStateRequest {
	r := kmsg.NewPtrInitializeShareGroupStateRequest()
	r.GroupID = group
	r.Topics = []kmsg.InitializeShareGroupStateRequestTopic{{TopicID: v.topicID, Partitions: []kmsg.InitializeShareGroupStateRequestTopicPartition{
		{Partition: partition, StateEpoch: epoch, StartOffset: start},
	}}}
	return r
}

func (v *conversation) readState(group string, leaderEpoch int32, partitions ...int32) *kmsg.ReadShareGroupStateRequest {
	r := kmsg.NewPtrReadShareGroupStateRequest()
	r.GroupID = group
	t := kmsg.ReadShareGroupStateRequestTopic{TopicID: v.topicID}
	for _, p := range partitions {
		t.Partitions = append(t.Partitions, kmsg.ReadShareGroupStateRequestTopicPartition{Partition: p, LeaderEpoch: leaderEpoch})
	}
	r.Topics = append(r.Topics, t)
	return r
}

func (v *conversation) writeState(group string, partition, stateEpoch, leaderEpoch int32, start int64, batches ...kmsg.WriteShareGroupStateRequestTopicPartitionStateBatch) *kmsg.WriteShareGroupStateRequest {
	r := kmsg.NewPtrWriteShareGroupStateRequest()
	r.Version, r.GroupID = 1, group
	p := kmsg.NewWriteShareGroupStateRequestTopicPartition()
	p.Partition, p.StateEpoch, p.LeaderEpoch, p.StartOffset, p.DeliveryCompleteCount, p.StateBatches = partition, stateEpoch, leaderEpoch, start, 2, batches
	r.Topics = []kmsg.WriteShareGroupStateRequestTopic{{TopicID: v.topicID, Partitions: []kmsg.WriteShareGroupStateRequestTopicPartition{p}}}
	return r
}

func (v *conversation) deleteState(group string, partitions ...int32) *kmsg.DeleteShareGroupStateRequest {
	r := kmsg.NewPtrDeleteShareGroupStateRequest()
	r.GroupID = group
	t := kmsg.DeleteShareGroupStateRequestTopic{TopicID: v.topicID}
	for _, p := range partitions {
		t.Partitions = append(t.Partitions, kmsg.DeleteShareGroupStateRequestTopicPartition{Partition: p})
	}
	r.Topics = append(r.Topics, t)
	return r
}

func stateBatch(first, last int64, state int8, count int16) kmsg.WriteShareGroupStateRequestTopicPartitionStateBatch {
	return kmsg.WriteShareGroupStateRequestTopicPartitionStateBatch{FirstOffset: first, LastOffset: last, DeliveryState: state, DeliveryCount: count}
}

func (v *conversation) shareState(*testing.T) {
	v.beginShare("stated")
	v.ask("uninitialized", v.readState("g", 0, 0))
	v.ask("uninitialized", v.writeState("g", 0, 0, 0, 0))
	v.ask("uninitialized", v.deleteState("g", 0))
	v.ask("uninitialized", v.stateSummary("g", 0, 1, 7))
	v.ask("", v.initializeState("g", 0, 3, -1))
	v.ask("no partition", v.initializeState("g", 7, 3, -1))
	v.ask("", v.initializeState("g", 1, 3, 10))
	v.ask("fenced", v.initializeState("g", 1, 2, 10))
	v.ask("no group", v.initializeState("", 1, 2, 10))
	v.ask("", v.stateSummary("g", 0, 1))
	v.ask("", v.readState("g", 4, 0, 1))
	v.ask("fenced", v.readState("g", 3, 0))
	v.ask("of no epoch", v.readState("g", -1, 0))
	v.ask("", v.stateSummary("g", 0, 1))
	v.ask("", v.writeState("g", 1, 3, 4, 10, stateBatch(10, 14, 2, 1), stateBatch(15, 19, 0, 2)))
	v.ask("overlaps", v.writeState("g", 1, 3, 4, -1, stateBatch(12, 16, 0, 2), stateBatch(18, 24, 4, 3), stateBatch(30, 31, 0, 1)))
	v.ask("", v.readState("g", 4, 1))
	v.ask("old state epoch", v.writeState("g", 1, 2, 4, 10))
	v.ask("new state epoch", v.writeState("g", 1, 9, 4, -1))
	v.ask("old leader epoch", v.writeState("g", 1, 3, 3, 10))
	v.ask("new leader epoch", v.writeState("g", 1, 3, 6, 17))
	v.ask("", v.readState("g", 6, 1, 7))
	v.ask("", v.stateSummary("g", 1))
	v.ask("no group", v.readState("", 6, 1))
	v.ask("no group", v.writeState("", 1, 3, 6, 17))
	v.ask("no group", v.deleteState("", 1))
	v.ask("no group", v.stateSummary("", 1))
	v.ask("begins anew", v.initializeState("g", 1, 4, 20))
	v.ask("", v.readState("g", 1, 1))
	v.ask("", v.deleteState("g", 0, 1, 7))
	v.ask("", v.stateSummary("g", 0, 1))
	v.ask("begins lower", v.initializeState("g", 1, 1, 2))
	none := v.readState("g", 1, 1)
	none.Topics = nil
	v.ask("no topics", none)
	for _, version := range []int16{3, 4, 5, 6} {
		fc := kmsg.NewPtrFindCoordinatorRequest()
		fc.Version, fc.CoordinatorType, fc.CoordinatorKey = version, 2, "g:AAAAAAAAAAAAAAAAAAAAAQ:0"
		if version >= 4 {
			fc.CoordinatorKeys = strings.Split("g:AAAAAAAAAAAAAAAAAAAAAQ:0 g h:AAAAAAAAAAAAAAAAAAAAAQ:x g:h:AAAAAAAAAAAAAAAAAAAAAQ:0 g:AAA:0 :AAAAAAAAAAAAAAAAAAAAAQ:0", " ")
		}
		resp := ask[*kmsg.FindCoordinatorResponse](v.client, fc)
		resp.NodeID, resp.Host, resp.Port = 0, "", 0
		for i := range resp.Coordinators {
			resp.Coordinators[i].NodeID, resp.Coordinators[i].Host, resp.Coordinators[i].Port = 0, "", 0
		}
		v.note("share coordinators", fc, resp)
	}
}
