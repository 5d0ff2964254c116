package api

import (
	"fmt"
	"io"
	"slices"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/wire"
)

// fetchAnswer is an encoded fetch response without its records: they are copied from the partitions while it is written, so that
// neither a whole answer nor a slab of the tail is ever held for a slow client.
type fetchAnswer struct {
	head  []byte     // everything but records
	cuts  []fetchCut // where records belong, in order
	bytes int        // of all records
}

// fetchCut is a place in head, after which a slice is to be written.
type fetchCut struct {
	at    int
	slice storage.Slice
}

// BodySize implements wire.Answer.
func (a *fetchAnswer) BodySize() int { return len(a.head) + a.bytes }

// WriteBody implements wire.Answer. An error, damage discovered on the way among them, leaves the answer incomplete; the connection
// is then closed, and the client's next fetch meets the error at the start of a slice, where there is a code for it.
func (a *fetchAnswer) WriteBody(w io.Writer) error {
	from := 0
	for _, cut := range a.cuts {
		if _, err := w.Write(a.head[from:cut.at]); err != nil {
			return err
		}
		n, err := cut.slice.WriteTo(w)
		if err != nil {
			return err
		}
		if n != int64(cut.slice.Len()) {
			return fmt.Errorf("fetch: %d bytes of records written, %d promised", n, cut.slice.Len())
		}
		from = cut.at
	}
	_, err := w.Write(a.head[from:])
	return err
}

// answerError is an answer with an error of the whole request, which only versions with sessions can carry.
func (f *fetching) answerError(err error) wire.Answer {
	e := f.startEncoder()
	e.start(f.codeOf(err), noSession, 0)
	e.end(nil)
	return f
}

// startEncoder returns the fetch's encoder, ready to begin.
func (f *fetching) startEncoder() *fetchEncoder {
	f.encoder = fetchEncoder{
		fetchAnswer: fetchAnswer{head: f.encoder.head[:0], cuts: f.encoder.cuts[:0]},
		version:     f.req.version, flexible: f.req.version >= 12, committed: f.req.isolation == 1,
	}
	return &f.encoder
}

// BodySize implements wire.Answer.
func (f *fetching) BodySize() int { return f.encoder.BodySize() }

// WriteBody implements wire.Answer.
func (f *fetching) WriteBody(w io.Writer) error {
	err := f.encoder.WriteBody(w)
	f.recycle()
	return err
}

// answer encodes the results.
func (f *fetching) answer(sessionID int32) wire.Answer {
	e := f.startEncoder()
	e.head = slices.Grow(e.head, 64+96*len(f.results))
	e.start(0, sessionID, topicRuns(f.results))
	var leaders []endpoint
	for i := 0; i < len(f.results); {
		n := 1
		for i+n < len(f.results) && f.results[i+n].target.key.sameTopic(f.results[i].target.key) {
			n++
		}
		e.topic(f.results[i].target.key, n)
		for j := range f.results[i : i+n] {
			r := &f.results[i+j]
			e.partition(r, f.codeOf(r.err))
			if r.leader != nil {
				leaders = f.addLeader(leaders, *r.leader)
			}
		}
		e.tags(0)
		i += n
	}
	e.end(leaders)
	return f
}

// topicRuns counts the runs of partitions of the same topic. A topic may come more than once.
func topicRuns(results []fetchResult) int {
	runs := 0
	for i := range results {
		if i == 0 || !results[i].target.key.sameTopic(results[i-1].target.key) {
			runs++
		}
	}
	return runs
}

func (f *fetching) addLeader(leaders []endpoint, id base.BrokerID) []endpoint {
	for _, l := range leaders {
		if l.id == id {
			return leaders
		}
	}
	if e, ok := f.api.endpointOf(&f.call, id); ok {
		leaders = append(leaders, e)
	}
	return leaders
}

// fetchEncoder writes FetchResponse. It is an encoder of its own because kmsg's holds all records in memory.
type fetchEncoder struct {
	fetchAnswer
	version   int16
	flexible  bool
	committed bool
}

func (e *fetchEncoder) start(code int16, sessionID int32, topics int) {
	e.head = kbin.AppendInt32(e.head, 0) // throttle time
	if e.version >= 7 {
		e.head = kbin.AppendInt16(e.head, code)
		e.head = kbin.AppendInt32(e.head, sessionID)
	}
	e.arrayLen(topics)
}

func (e *fetchEncoder) arrayLen(n int) {
	if e.flexible {
		e.head = kbin.AppendCompactArrayLen(e.head, n)
	} else {
		e.head = kbin.AppendArrayLen(e.head, n)
	}
}

// tags writes how many tagged fields follow.
func (e *fetchEncoder) tags(n uint32) {
	if e.flexible {
		e.head = kbin.AppendUvarint(e.head, n)
	}
}

func (e *fetchEncoder) topic(key fetchKey, partitions int) {
	switch {
	case e.version >= 13:
		e.head = kbin.AppendUuid(e.head, key.id)
	case e.flexible:
		e.head = kbin.AppendCompactString(e.head, key.name)
	default:
		e.head = kbin.AppendString(e.head, key.name)
	}
	e.arrayLen(partitions)
}

func (e *fetchEncoder) partition(r *fetchResult, code int16) {
	offsets := r.offsets
	if code != 0 {
		offsets = storage.Offsets{LogStart: -1, HighWatermark: -1, LastStable: -1}
	}
	e.head = kbin.AppendInt32(e.head, r.target.key.partition)
	e.head = kbin.AppendInt16(e.head, code)
	e.head = kbin.AppendInt64(e.head, int64(offsets.HighWatermark))
	e.head = kbin.AppendInt64(e.head, int64(offsets.LastStable))
	if e.version >= 5 {
		e.head = kbin.AppendInt64(e.head, int64(offsets.LogStart))
	}
	e.aborted(r.aborted, e.committed && code == 0 || r.target.err != nil) // empty also for what does not exist, as in Kafka
	if e.version >= 11 {
		e.head = kbin.AppendInt32(e.head, -1) // preferred read replica
	}
	e.records(r.slice)
	e.partitionTags(r)
}

// aborted writes the list of aborted transactions; listed is false for null.
func (e *fetchEncoder) aborted(txns []storage.AbortedTxn, listed bool) {
	if !listed {
		txns = nil
	}
	if e.flexible {
		e.head = kbin.AppendCompactNullableArrayLen(e.head, len(txns), !listed)
	} else {
		e.head = kbin.AppendNullableArrayLen(e.head, len(txns), !listed)
	}
	for _, a := range txns {
		e.head = kbin.AppendInt64(e.head, int64(a.ProducerID))
		e.head = kbin.AppendInt64(e.head, int64(a.FirstOffset))
		e.tags(0)
	}
}

func (e *fetchEncoder) records(s storage.Slice) {
	n := s.Len()
	if e.flexible {
		e.head = kbin.AppendUvarint(e.head, uint32(n)+1)
	} else {
		e.head = kbin.AppendInt32(e.head, int32(n))
	}
	if n > 0 {
		e.cuts = append(e.cuts, fetchCut{at: len(e.head), slice: s})
		e.bytes += n
	}
}

// partitionTags writes the tagged fields of a partition: 0 diverging epoch, 1 current leader.
func (e *fetchEncoder) partitionTags(r *fetchResult) {
	if !e.flexible {
		return
	}
	var n uint32
	if r.diverging != nil {
		n++
	}
	leader := r.leader != nil && e.version >= 16
	if leader {
		n++
	}
	e.tags(n)
	if r.diverging != nil {
		e.head = append(e.head, 0, 4+8+1)
		e.head = kbin.AppendInt32(e.head, int32(r.diverging.epoch))
		e.head = kbin.AppendInt64(e.head, int64(r.diverging.end))
		e.tags(0)
	}
	if leader {
		e.head = append(e.head, 1, 4+4+1)
		e.head = kbin.AppendInt32(e.head, int32(*r.leader))
		e.head = kbin.AppendInt32(e.head, int32(r.epoch))
		e.tags(0)
	}
}

// end writes the tagged field of the response: 0 endpoints of the leaders named in it.
func (e *fetchEncoder) end(leaders []endpoint) {
	if e.version < 16 || len(leaders) == 0 {
		e.tags(0)
		return
	}
	e.tags(1)
	field := kbin.AppendCompactArrayLen(nil, len(leaders))
	for _, l := range leaders {
		field = kbin.AppendInt32(field, int32(l.id))
		field = kbin.AppendCompactString(field, l.host)
		field = kbin.AppendInt32(field, l.port)
		field = kbin.AppendCompactNullableString(field, l.rack)
		field = append(field, 0)
	}
	e.head = kbin.AppendUvarint(e.head, 0)
	e.head = kbin.AppendUvarint(e.head, uint32(len(field)))
	e.head = append(e.head, field...)
}
