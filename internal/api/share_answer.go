package api

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/wire"
)

// answerError is an answer with the error of the whole request.
func (f *shareFetching) answerError() wire.Answer {
	resp := answer[kmsg.ShareFetchResponse](f.req)
	resp.ErrorCode = f.api.codeOf(f.call, f.err) // without a text, as in Kafka
	return wire.Message(resp)
}

// answer encodes the results. It does so itself because kmsg's encoder holds all records in memory; all versions are flexible.
func (f *shareFetching) answer(results []shareResult) wire.Answer {
	slices.SortStableFunc(results, func(a, b shareResult) int {
		return cmp.Or(slices.Compare(a.id.ID[:], b.id.ID[:]), cmp.Compare(a.id.Partition, b.id.Partition))
	})
	e := fetchEncoder{version: f.req.Version, flexible: true}
	e.head = make([]byte, 0, 64+96*len(results))
	e.head = kbin.AppendInt32(e.head, 0) // throttle time
	e.head = kbin.AppendInt16(e.head, 0)
	e.head = kbin.AppendCompactNullableString(e.head, nil)
	e.head = kbin.AppendInt32(e.head, int32(f.api.shareSettings(f.session.Group()).RecordLockDuration.Milliseconds()))
	topics := 0
	for i := range results {
		if i == 0 || results[i].id.ID != results[i-1].id.ID {
			topics++
		}
	}
	e.arrayLen(topics)
	v := f.api.view()
	var leaders []base.BrokerID
	for i := 0; i < len(results); {
		n := 1
		for i+n < len(results) && results[i+n].id.ID == results[i].id.ID {
			n++
		}
		e.head = kbin.AppendUuid(e.head, results[i].id.ID)
		e.arrayLen(n)
		for j := range results[i : i+n] {
			r := &results[i+j]
			code := f.api.codeOf(f.call, r.err)
			leader, epoch := v.currentLeader(r.id, code)
			if epoch > 0 {
				leaders = append(leaders, leader)
			}
			e.sharePartition(r, code, f.api.codeOf(f.call, r.ackErr), leader, epoch)
		}
		e.tags(0)
		i += n
	}
	e.shareEndpoints(f.api.shareEndpoints(f.call, leaders))
	e.tags(0)
	return &e.fetchAnswer
}

func (e *fetchEncoder) sharePartition(r *shareResult, code, ackCode int16, leader base.BrokerID, epoch base.LeaderEpoch) {
	e.head = kbin.AppendInt32(e.head, r.id.Partition)
	e.head = kbin.AppendInt16(e.head, code)
	e.head = kbin.AppendCompactNullableString(e.head, shareMessage(r.err))
	e.head = kbin.AppendInt16(e.head, ackCode)
	e.head = kbin.AppendCompactNullableString(e.head, shareMessage(r.ackErr))
	e.head = kbin.AppendInt32(e.head, int32(leader))
	e.head = kbin.AppendInt32(e.head, int32(epoch))
	e.tags(0)
	e.records(r.slice)
	e.arrayLen(len(r.acquired))
	for _, b := range r.acquired {
		e.head = kbin.AppendInt64(e.head, int64(b.First))
		e.head = kbin.AppendInt64(e.head, int64(b.Last))
		e.head = kbin.AppendInt16(e.head, b.DeliveryCount)
		e.tags(0)
	}
	e.tags(0)
}

func (e *fetchEncoder) shareEndpoints(list []endpoint) {
	e.arrayLen(len(list))
	for _, l := range list {
		e.head = kbin.AppendInt32(e.head, int32(l.id))
		e.head = kbin.AppendCompactString(e.head, l.host)
		e.head = kbin.AppendInt32(e.head, l.port)
		e.head = kbin.AppendCompactNullableString(e.head, l.rack)
		e.tags(0)
	}
}
