package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/test/chaos/history"
)

// sharing is the share group (KIP-932).
const sharing = "sharing"

// groupSettings are those of brokers under histories: members that are gone are noticed soon, and what they had is delivered again.
var groupSettings = []string{
	"group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=1000",
	"group.consumer.min.session.timeout.ms=1000", "group.consumer.session.timeout.ms=2000", "group.consumer.assignment.interval.ms=0",
	"group.consumer.min.heartbeat.interval.ms=100", "group.consumer.heartbeat.interval.ms=100",
	"group.share.min.session.timeout.ms=1000", "group.share.session.timeout.ms=2000", "group.share.assignment.interval.ms=0",
	"group.share.min.heartbeat.interval.ms=100", "group.share.heartbeat.interval.ms=100",
	"group.share.min.record.lock.duration.ms=1000", "group.share.record.lock.duration.ms=2000", "group.share.delivery.count.limit=10",
	"group.share.initialize.retry.interval.ms=500",
}

// beginAtStart lets the share group begin at the start of each partition.
func (q *queue) beginAtStart(ctx context.Context, t *testing.T) {
	t.Helper()
	client, err := kgo.NewClient(impatient(q.addr)...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	earliest := "earliest"
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: sharing,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{
			Name: "share.auto.offset.reset", Op: kmsg.IncrementalAlterConfigOpSet, Value: &earliest,
		}},
	}}
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// releaseOdds is how many times a member accepts what it was given, in the middle, before it gives it back once.
const releaseOdds = 20

// shared is a member of the share group that accepts what it was given, and now and then is a new client.
func (q *queue) shared(ctx context.Context, t *testing.T, random *rand.Rand) {
	for ctx.Err() == nil {
		var refused atomic.Bool // an acknowledgement, or its fate is not known
		// A strict member fetches when it polls, not before: what it polls was not delivered to it earlier.
		client, err := kgo.NewClient(append(impatient(q.addr), kgo.ConsumeTopics(queueTopic), kgo.ShareGroup(sharing), kgo.ShareMaxRecordsStrict(),
			kgo.ShareMaxRecords(maxPolled), kgo.ShareAckCallback(func(_ *kgo.Client, results kgo.ShareAckResults) {
				if !results.Ok() {
					refused.Store(true)
				}
			}))...)
		if err != nil {
			t.Error(err)
			return
		}
		process := q.history.process()
		for first := true; ctx.Err() == nil && (first || random.IntN(crashOdds) > 0); first = false {
			delivered := history.Op{Process: process, Group: sharing, Start: q.history.now()}
			records := q.polled(ctx, t, history.Deliver, client.PollFetches(ctx), delivered)
			if len(records) == 0 {
				continue
			}
			if random.IntN(releaseOdds) == 0 {
				client.MarkAcks(kgo.AckRelease, records...)
				continue
			}
			q.accept(ctx, client, process, records, &refused)
		}
		client.Close()
	}
}

// accept accepts what was delivered. refused is set when an acknowledgement does not succeed.
func (q *queue) accept(ctx context.Context, client *kgo.Client, process int, records []*kgo.Record, refused *atomic.Bool) {
	op := history.Op{Process: process, Group: sharing, Start: q.history.now(), Outcome: history.OK}
	step := history.Step{Action: history.Accept}
	for _, r := range records {
		step.Records = append(step.Records, history.Record{Partition: partitionName(queueTopic, r.Partition), Offset: r.Offset})
	}
	op.Steps = []history.Step{step}
	refused.Store(false)
	client.MarkAcks(kgo.AckAccept, records...)
	bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := client.FlushAcks(bounded); err != nil || refused.Load() {
		op.Outcome = history.Info
	}
	q.history.ended(op)
}

// shareLag is how many records of the topic the share group has not finished.
func shareLag(ctx context.Context, client *kgo.Client) (lag int64, err error) {
	req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	group := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
	group.GroupID = sharing
	topic := kmsg.NewDescribeShareGroupOffsetsRequestGroupTopic()
	topic.Topic = queueTopic
	for p := range int32(queuePartitions) {
		topic.Partitions = append(topic.Partitions, p)
	}
	group.Topics = append(group.Topics, topic)
	req.Groups = append(req.Groups, group)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return 0, err
	}
	for _, g := range resp.Groups {
		err = errors.Join(err, kerr.ErrorForCode(g.ErrorCode))
		for _, topic := range g.Topics {
			for _, p := range topic.Partitions {
				err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
				if lag += p.Lag; p.Lag < 0 {
					err = errors.Join(err, fmt.Errorf("the lag of partition %d is not known", p.Partition))
				}
			}
		}
	}
	return lag, err
}
