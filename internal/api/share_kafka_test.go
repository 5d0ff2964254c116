package api

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestShareFetchesAnswerAsKafka has a conversation about records in share groups and compares each answer with the one that Apache Kafka
// 4.3.1 gave.
func TestShareFetchesAnswerAsKafka(t *testing.T) {
	compareWithKafka(t, "testdata/golden/share-fetches-kafka-4.3.1.txt", (*conversation).shareFetches)
}

func (v *conversation) shareFetches(t *testing.T) {
	v.beginShare("delivered")
	for p := range int32(2) {
		for _, values := range [][]string{{"a", "b", "c"}, {"d", "e"}, {"f", "g", "h", "i", "j"}} {
			req := produceRequest(12, v.topic, v.topicID, p, batchOf(1000, values...))
			if code := produced1(v.client, req).ErrorCode; code != 0 {
				t.Fatal(code)
			}
		}
	}
	v.initializeShare("g")
	v.initializeShare("limits")
	v.shareFetchRefusals()
	v.shareDelivery()
	v.shareSessions()
	v.shareRenewals()
	v.shareLimits()
}

// initializeShare begins the share partitions of a group at the earliest record, as its members' heartbeats would.
func (v *conversation) initializeShare(group string) {
	r := kmsg.NewPtrInitializeShareGroupStateRequest()
	r.GroupID = group
	topic := kmsg.NewInitializeShareGroupStateRequestTopic()
	topic.TopicID = v.topicID
	for p := range int32(2) {
		partition := kmsg.NewInitializeShareGroupStateRequestTopicPartition()
		partition.Partition, partition.StateEpoch = p, 1
		topic.Partitions = append(topic.Partitions, partition)
	}
	r.Topics = append(r.Topics, topic)
	for ask[*kmsg.InitializeShareGroupStateResponse](v.client, r).Topics[0].Partitions[0].ErrorCode != 0 {
		time.Sleep(100 * time.Millisecond) // it may still be loading
	}
}

// askShare is ask for a share fetch. Of the records it notes only that they are there: the list of acquired ones says which. It leaves out
// partitions of which nothing is said, which Kafka lists sometimes.
func (v *conversation) askShare(label string, req *kmsg.ShareFetchRequest) {
	acknowledged := map[int32]bool{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			acknowledged[p.Partition] = len(p.AcknowledgementBatches) > 0
		}
	}
	resp := ask[*kmsg.ShareFetchResponse](v.client, req)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		t.Partitions = slices.DeleteFunc(t.Partitions, func(p kmsg.ShareFetchResponseTopicPartition) bool {
			return !acknowledged[p.Partition] && p.ErrorCode == 0 && len(p.AcquiredRecords) == 0
		})
		for j := range t.Partitions {
			p := &t.Partitions[j]
			if p.Records != nil {
				p.Records = nil
				if len(p.AcquiredRecords) > 0 {
					p.Records = []byte("records")
				}
			}
			if text := p.AcknowledgeErrorMessage; text != nil && *text == "Member is not the owner of batch record" {
				*text = "Member is not the owner of offset" // it depends on what Kafka keeps together
			}
		}
	}
	resp.Topics = slices.DeleteFunc(resp.Topics, func(t kmsg.ShareFetchResponseTopic) bool { return len(t.Partitions) == 0 })
	if len(resp.Topics) == 0 {
		resp.Topics = nil
	}
	v.note(label, req, resp)
}

// share is a share fetch that waits for nothing.
func (v *conversation) share(member string, epoch int32, with ...func(*kmsg.ShareFetchRequest)) *kmsg.ShareFetchRequest {
	r := kmsg.NewPtrShareFetchRequest()
	r.Version, r.GroupID, r.MemberID, r.ShareSessionEpoch = 2, kmsg.StringPtr("g"), &member, epoch
	r.MinBytes, r.MaxBytes, r.MaxRecords, r.BatchSize = 1, 1<<20, 500, 500
	for _, w := range with {
		w(r)
	}
	return r
}

func (v *conversation) fetching(partitions ...int32) func(*kmsg.ShareFetchRequest) {
	return func(r *kmsg.ShareFetchRequest) {
		t := kmsg.NewShareFetchRequestTopic()
		t.TopicID = v.topicID
		for _, p := range partitions {
			fp := kmsg.NewShareFetchRequestTopicPartition()
			fp.Partition = p
			t.Partitions = append(t.Partitions, fp)
		}
		r.Topics = append(r.Topics, t)
	}
}

func (v *conversation) forgetting(partitions ...int32) func(*kmsg.ShareFetchRequest) {
	return func(r *kmsg.ShareFetchRequest) {
		r.ForgottenTopicsData = append(r.ForgottenTopicsData, kmsg.ShareFetchRequestForgottenTopicsData{TopicID: v.topicID, Partitions: partitions})
	}
}

// acking acknowledges records of partition 0.
func (v *conversation) acking(acks ...string) func(*kmsg.ShareFetchRequest) {
	return func(r *kmsg.ShareFetchRequest) {
		s := sharer{testClient: v.client, topic: v.topicID}
		r.Topics = append(r.Topics, s.acks(0, acks...))
	}
}

// patiently waits for records, since a real broker reads the state of a share partition behind the first fetch.
func patiently(r *kmsg.ShareFetchRequest) { r.MaxWaitMillis = 10_000 }

func ofGroup(group string) func(*kmsg.ShareFetchRequest) {
	return func(r *kmsg.ShareFetchRequest) { r.GroupID = &group }
}

// acknowledge says something of records of partition 0.
func (v *conversation) acknowledge(member string, epoch int32, acks ...string) *kmsg.ShareAcknowledgeRequest {
	fetch := v.share(member, epoch, v.acking(acks...))
	r := kmsg.NewPtrShareAcknowledgeRequest()
	r.Version, r.GroupID, r.MemberID, r.ShareSessionEpoch = 2, fetch.GroupID, &member, epoch
	t := kmsg.NewShareAcknowledgeRequestTopic()
	t.TopicID = v.topicID
	p := kmsg.NewShareAcknowledgeRequestTopicPartition()
	for _, b := range fetch.Topics[0].Partitions[0].AcknowledgementBatches {
		p.AcknowledgementBatches = append(p.AcknowledgementBatches, kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{
			FirstOffset: b.FirstOffset, LastOffset: b.LastOffset, AcknowledgeTypes: b.AcknowledgeTypes,
		})
	}
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	return r
}

func (v *conversation) shareFetchRefusals() {
	none := func(r *kmsg.ShareFetchRequest) { r.GroupID = nil }
	v.askShare("no group", v.share("m", 0, none))
	v.askShare("no member", v.share("", 0))
	v.askShare("null member", v.share("", 0, func(r *kmsg.ShareFetchRequest) { r.MemberID = nil }))
	v.askShare("long member", v.share("1234567890123456789012345678901234567", 0))
	v.askShare("no session", v.share("m", 1))
	v.askShare("end of no session", v.share("m", -1))
	v.askShare("acknowledges at once", v.share("m", 0, v.acking("0-0:1")))
	v.askShare("nothing to fetch", v.share("m", 0))
	v.askShare("unknown partition", v.share("m", 0, v.fetching(7)))
	v.ask("first epoch", v.acknowledge("m", 0, "0-0:1"))
	v.ask("wrong epoch", v.acknowledge("m", 5, "0-0:1"))
	v.ask("no session", v.acknowledge("x", 1, "0-0:1"))
	v.ask("end of no session", v.acknowledge("x", -1, "0-0:1"))
	v.askShare("end", v.share("m", -1))
}

func (v *conversation) shareDelivery() {
	v.askShare("all records", v.share("a", 0, v.fetching(0), patiently))
	v.askShare("none left", v.share("b", 0, v.fetching(0)))
	v.askShare("no news", v.share("a", 1))
	v.askShare("of another", v.share("b", 1, v.acking("0-0:1")))
	v.askShare("past the end", v.share("a", 2, v.acking("8-10:1")))
	v.askShare("behind the end", v.share("a", 3, v.acking("10-11:1")))
	v.askShare("backwards", v.share("a", 4, v.acking("3-2:1")))
	v.askShare("twice", v.share("a", 5, v.acking("0-2:1", "2-3:1")))
	v.askShare("without types", v.share("a", 6, func(r *kmsg.ShareFetchRequest) {
		v.acking("0-0:1")(r)
		r.Topics[0].Partitions[0].AcknowledgementBatches[0].AcknowledgeTypes = nil
	}))
	v.askShare("too few types", v.share("a", 7, v.acking("0-2:1,1")))
	v.askShare("no such type", v.share("a", 8, v.acking("0-2:5")))
	v.askShare("renews without saying so", v.share("a", 9, v.acking("0-2:4")))
	v.askShare("accepts", v.share("a", 10, v.acking("0-2:1")))
	v.askShare("accepts again", v.share("a", 11, v.acking("0-2:1")))
	v.ask("one by one", v.acknowledge("a", 12, "3-7:1,2,3,0,2"))
	v.askShare("gets back", v.share("b", 2, patiently))
	v.ask("others' records", v.acknowledge("a", 13, "4-4:1"))
	v.ask("what is finished", v.acknowledge("a", 14, "5-5:1"))
	v.ask("accepts", v.acknowledge("a", 15, "8-9:1"))
	v.ask("of a partition that is not there", func() *kmsg.ShareAcknowledgeRequest {
		r := v.acknowledge("a", 16, "8-9:1")
		r.Topics[0].Partitions[0].Partition = 9
		return r
	}())
	v.ask("of a topic that is not there", func() *kmsg.ShareAcknowledgeRequest {
		r := v.acknowledge("a", 17, "8-9:1")
		r.Topics[0].TopicID = [16]byte{9}
		return r
	}())
	v.ask("nothing", func() *kmsg.ShareAcknowledgeRequest {
		r := v.acknowledge("a", 18)
		r.Version = 1
		return r
	}())
	v.ask("of a partition that nobody fetched", func() *kmsg.ShareAcknowledgeRequest {
		r := v.acknowledge("a", 19, "0-1:1")
		r.Topics[0].Partitions[0].Partition = 1
		return r
	}())
	v.ask("last words", v.acknowledge("b", -1, "4-4:1"))
	v.askShare("what was released at the end", v.share("a", 20, patiently))
	v.askShare("last words", v.share("a", -1, v.acking("7-7:1")))
	v.askShare("after the end", v.share("a", 21))
}

func (v *conversation) shareSessions() {
	v.askShare("the other partition", v.share("c", 0, v.fetching(0, 1), patiently))
	v.askShare("wrong epoch", v.share("c", 2))
	v.askShare("forgets", v.share("c", 1, v.forgetting(1), v.forgetting(0)))
	v.askShare("adds an unknown one", v.share("c", 2, v.fetching(5)))
	v.askShare("the unknown one is still there", v.share("c", 3))
	v.askShare("adds and forgets", v.share("c", 4, v.fetching(0), v.forgetting(0, 5)))
	v.askShare("begins anew", v.share("c", 0, v.fetching(1)))
	v.askShare("and still has its records", v.share("c", 1, func(r *kmsg.ShareFetchRequest) {
		v.acking("0-4:1")(r)
		r.Topics[0].Partitions[0].Partition = 1
	}))
	v.askShare("end, and fetches", v.share("c", -1, v.fetching(1)))
	v.askShare("first version", v.share("d", 0, v.fetching(1), patiently, func(r *kmsg.ShareFetchRequest) { r.Version = 1 }))
	v.askShare("end", v.share("d", -1, func(r *kmsg.ShareFetchRequest) {
		v.acking("5-9:1")(r)
		r.Topics[0].Partitions[0].Partition, r.Version = 1, 1
	}))
}

func (v *conversation) shareRenewals() {
	renewing := func(r *kmsg.ShareFetchRequest) {
		r.IsRenewAck, r.MinBytes, r.MaxBytes, r.MaxRecords = true, 0, 0, 0
	}
	v.askShare("all records", v.share("e", 0, ofGroup("limits"), v.fetching(0), patiently))
	v.askShare("renews and fetches", v.share("e", 1, ofGroup("limits"), v.acking("0-2:4"), func(r *kmsg.ShareFetchRequest) { r.IsRenewAck = true }))
	v.askShare("renews", v.share("e", 1, ofGroup("limits"), v.acking("0-2:4"), renewing))
	v.askShare("renews and accepts", v.share("e", 2, ofGroup("limits"), v.acking("0-2:4,4,1", "3-3:1"), renewing))
	v.ask("renews", func() *kmsg.ShareAcknowledgeRequest {
		r := v.acknowledge("e", 3, "0-1:4")
		r.GroupID, r.IsRenewAck = kmsg.StringPtr("limits"), true
		return r
	}())
	v.ask("releases and ends", func() *kmsg.ShareAcknowledgeRequest {
		r := v.acknowledge("e", -1, "0-1:2")
		r.GroupID = kmsg.StringPtr("limits")
		return r
	}())
}

func (v *conversation) shareLimits() {
	limit := func(records, size int32, mode int8) func(*kmsg.ShareFetchRequest) {
		return func(r *kmsg.ShareFetchRequest) { r.MaxRecords, r.BatchSize, r.ShareAcquireMode = records, size, mode }
	}
	v.askShare("one record", v.share("f", 0, ofGroup("limits"), v.fetching(1), limit(1, 1, 1), patiently))
	v.askShare("one record, whole batches", v.share("f", 1, ofGroup("limits"), limit(1, 1, 0)))
	v.askShare("small batches", v.share("f", 2, ofGroup("limits"), limit(500, 1, 0)))
	v.askShare("ends", v.share("f", -1, ofGroup("limits")))
	v.askShare("no records", v.share("f", 0, ofGroup("limits"), v.fetching(1), limit(0, 1, 0)))
	v.askShare("ends", v.share("f", -1, ofGroup("limits")))
}
