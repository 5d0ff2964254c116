package api

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/wire"
)

// ShareFetch v1–2 (key 78)
//
//   - First phase: the share session takes over what the request changes, and its acknowledgements are carried out (KIP-932). Second phase:
//     wait until min bytes are there, max wait has passed, or there is nothing to wait for; acquire records for the member; answer once the
//     acknowledgements are durable.
//   - The answer holds positions; records are copied while it is written to the socket, as those of Fetch are. It has whole batches: the member
//     goes by the lists of acquired records. Partitions without records, errors and acknowledgements are left out.
//   - Control batches, and with share.isolation.level=read_committed aborted ones, are never acquired; the group is done with them at once.
//   - Closing the connection ends the session, and what the member has goes back.
//   - v2 may ask for no more than max records (share acquire mode record_limit, KIP-1206), and renew acquisition locks, in a request that
//     fetches nothing (KIP-1222).

var errRenewFetches = refuse(kerr.InvalidRequest, "A request that renews acquisition locks must not fetch records.")

func (a *API) shareFetch(_ context.Context, c *call, req *kmsg.ShareFetchRequest) (wire.Pending, error) {
	f := &shareFetching{api: a, call: c, req: req}
	if f.err = a.checkShareMember(req.GroupID, req.MemberID); f.err != nil {
		return f, nil
	}
	if req.IsRenewAck && (req.MaxBytes != 0 || req.MinBytes != 0 || req.MaxRecords != 0 || req.MaxWaitMillis != 0) {
		f.err = errRenewFetches
		return f, nil
	}
	ask := f.sessionRequest()
	session, targets, err := a.shares.Fetch(ask)
	if err != nil {
		f.err = err
		return f, nil
	}
	if f.session = session; !req.IsRenewAck {
		f.targets = targets
	}
	f.acknowledge()
	if req.ShareSessionEpoch == share.FinalEpoch {
		a.shares.CloseSession(session)
	}
	return f, nil
}

// sessionRequest is what a fetch says about its session.
func (f *shareFetching) sessionRequest() share.SessionRequest {
	r := share.SessionRequest{Group: *f.req.GroupID, Member: *f.req.MemberID, Epoch: f.req.ShareSessionEpoch, Gone: f.call.Conn.Done()}
	for i := range f.req.Topics {
		topic := &f.req.Topics[i]
		for j := range topic.Partitions {
			r.Add = append(r.Add, base.TopicIDPartition{ID: topic.TopicID, Partition: topic.Partitions[j].Partition})
			r.Acknowledges = r.Acknowledges || len(topic.Partitions[j].AcknowledgementBatches) > 0
		}
	}
	for i := range f.req.ForgottenTopicsData {
		topic := &f.req.ForgottenTopicsData[i]
		for _, p := range topic.Partitions {
			r.Forget = append(r.Forget, base.TopicIDPartition{ID: topic.TopicID, Partition: p})
		}
	}
	return r
}

// shareFetching is one share fetch between its two phases.
type shareFetching struct {
	api     *API
	call    *call
	req     *kmsg.ShareFetchRequest
	err     error // of the whole request
	session *share.Session
	targets []*share.Target
	acks    []shareAck

	watcher *storage.Watcher
	wake    chan struct{} // signalled when a share partition has more for a member
}

// acknowledge carries out the acknowledgements that come with the request.
func (f *shareFetching) acknowledge() {
	v := f.api.view()
	for i := range f.req.Topics {
		topic := &f.req.Topics[i]
		for j := range topic.Partitions {
			p := &topic.Partitions[j]
			if len(p.AcknowledgementBatches) == 0 {
				continue
			}
			batches := make([]share.AckBatch, len(p.AcknowledgementBatches))
			for k := range batches {
				b := &p.AcknowledgementBatches[k]
				batches[k] = share.AckBatch{First: base.Offset(b.FirstOffset), Last: base.Offset(b.LastOffset), Types: ackTypes(b.AcknowledgeTypes)}
			}
			id := base.TopicIDPartition{ID: topic.TopicID, Partition: p.Partition}
			f.acks = append(f.acks, f.api.acknowledge(v, *f.req.GroupID, *f.req.MemberID, id, batches, f.req.IsRenewAck))
		}
	}
}

// shareResult is what one partition gives.
type shareResult struct {
	id       base.TopicIDPartition
	err      error
	slice    storage.Slice
	acquired []share.AcquiredBatch
	ackErr   error
}

// shareRetry is the pause before a share partition whose state was not to be had is asked for again.
const shareRetry = 100 * time.Millisecond

// Wait implements wire.Pending.
func (f *shareFetching) Wait(ctx context.Context) (wire.Answer, error) {
	timer := time.NewTimer(time.Duration(max(f.req.MaxWaitMillis, 0)) * time.Millisecond)
	defer timer.Stop()
	if errors.Is(f.err, share.ErrSessionLimit) { // so that the client does not ask again and again
		select {
		case <-timer.C:
		case <-f.call.Conn.Draining():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if f.err != nil {
		return f.answerError(), nil
	}
	defer f.unwatch()
	last := f.req.MaxWaitMillis <= 0
	for {
		look, err := f.read(ctx, last)
		if err != nil {
			return nil, err
		}
		if look.enough {
			return f.finish(ctx, look.results)
		}
		if look.moved {
			continue
		}
		if f.watcher == nil {
			f.watch()
			continue // look again, now watching: nothing that comes after that look goes unnoticed
		}
		var again <-chan time.Time
		if look.retry {
			again = time.After(shareRetry)
		}
		select {
		case <-f.watcher.C():
		case <-f.wake:
		case <-again:
		case <-timer.C:
			last = true
		case <-f.call.Conn.Draining():
			last = true
		case <-f.session.Ended():
			last = true
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// watch has the fetch woken when one of its partitions has more.
func (f *shareFetching) watch() {
	f.watcher, f.wake = storage.NewWatcher(), make(chan struct{}, 1)
	v := f.api.view()
	for _, t := range f.targets {
		t.Held.Watch(f.wake)
		if p, _, err := v.sharePartition(t.ID); err == nil {
			f.watcher.Watch(p)
		}
	}
}

func (f *shareFetching) unwatch() {
	if f.watcher == nil {
		return
	}
	f.watcher.Close()
	for _, t := range f.targets {
		t.Held.Unwatch(f.wake)
	}
}

// shareRead is what a look at all partitions has given.
type shareRead struct {
	results []shareResult
	enough  bool // it makes an answer
	moved   bool // records were there, but not for the member: it is worth looking again at once
	retry   bool // the state of a share partition was not to be had for the moment
}

// read looks at every partition. It makes an answer if there are min bytes, there is nothing to wait for, or this is the last look. Only
// then are records acquired.
func (f *shareFetching) read(ctx context.Context, last bool) (shareRead, error) {
	v := f.api.view()
	committed := f.api.shareSettings(f.session.Group()).ReadCommitted
	limit := int64(max(min(f.req.MaxBytes, int32(min(v.broker.FetchMaxBytes, 1<<31-1))), 0))
	var out shareRead
	var bytes int64
	var looks []shareLook
	waitable := false
	for _, t := range f.targets {
		look, err := f.look(ctx, v, t, committed, limit-bytes, bytes == 0)
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		temporary := isTemporary(err)
		out.retry = out.retry || temporary
		waitable = waitable || err == nil || temporary
		switch {
		case err != nil && !temporary:
			out.results = append(out.results, shareResult{id: t.ID, err: err})
		case look.slice.Len() > 0:
			bytes += int64(look.slice.Len())
			looks = append(looks, look)
		}
	}
	if !last && waitable && (bytes == 0 || bytes < min(int64(f.req.MinBytes), limit)) {
		return out, nil
	}
	left := int64(f.req.MaxRecords)
	for i := range looks {
		if left <= 0 {
			break
		}
		r, moved := looks[i].acquire(f, left)
		out.moved = out.moved || moved
		for _, b := range r.acquired {
			left -= int64(b.Last-b.First) + 1
		}
		if len(r.acquired) > 0 || r.err != nil {
			out.results = append(out.results, r)
		}
	}
	got := left < int64(f.req.MaxRecords)
	out.enough = got || !waitable || last && !out.moved
	return out, nil
}

// isTemporary reports whether the state of a share partition may be had in a moment.
func isTemporary(err error) bool {
	return errors.Is(err, coordinator.ErrLoading) || errors.Is(err, coordinator.ErrUnavailable) || errors.Is(err, coordinator.ErrNotCoordinator)
}

// shareLook is what a partition has at the next offset of its share partition.
type shareLook struct {
	target    *share.Target
	partition *storage.Partition
	from      base.Offset
	slice     storage.Slice
	committed bool
}

// look reads where the share partition has something for a member: at most left bytes, but one batch whole if first.
func (f *shareFetching) look(ctx context.Context, v *view, t *share.Target, committed bool, left int64, first bool) (shareLook, error) {
	l := shareLook{target: t, committed: committed}
	p, place, err := v.sharePartition(t.ID)
	if err != nil {
		return l, err
	}
	l.partition = p
	if err := t.Held.Load(ctx, place.LeaderEpoch, func() (base.Offset, error) { return f.api.shareStart(f.session.Group(), p) }); err != nil {
		return l, sharePartitionError(err)
	}
	o := storage.ReadOptions{MaxBytes: int(max(left, 0)), AtLeastOne: first, Upto: storage.HighWatermark}
	if committed {
		o.Upto = storage.LastStable
	}
	for {
		start := p.Offsets().LogStart
		from, ok := t.Held.Next(start)
		if !ok {
			return l, nil
		}
		slice, err := p.Read(from, o)
		if errors.Is(err, storage.ErrOffsetOutOfRange) && p.Offsets().LogStart > start {
			continue // it moved meanwhile
		}
		l.from, l.slice = from, slice
		return l, err
	}
}

// shareStart is where a share group begins in a partition that it has not read yet.
func (a *API) shareStart(group string, p *storage.Partition) (base.Offset, error) {
	from := a.shareSettings(group).AutoOffsetReset
	switch {
	case from.Earliest:
		return p.Offsets().LogStart, nil
	case from.ByDuration:
		at, ok, err := p.OffsetForTimestamp(time.Now().Add(-from.Age).UnixMilli())
		if err != nil || ok {
			return at.Offset, err
		}
	}
	return p.Offsets().HighWatermark, nil
}

// sharePartitionError is what a client is told of an error of a share partition's state: to look for the leader again where the state moved
// on without this broker, as in Kafka.
func sharePartitionError(err error) error {
	switch {
	case errors.Is(err, share.ErrFencedStateEpoch) || errors.Is(err, share.ErrFencedLeaderEpoch):
		return refuse(kerr.NotLeaderForPartition, "%s", err)
	case errors.Is(err, share.ErrNotInitialized) || errors.Is(err, share.ErrInvalidState):
		return refuse(kerr.UnknownServerError, "%s", err)
	}
	return err
}

// acquire locks for the member what is available of what was read, at most so many records, and cuts the slice to it. moved says that
// the share partition has gone on, though the member has got nothing: the records were hidden, or others were faster.
func (l *shareLook) acquire(f *shareFetching, records int64) (r shareResult, moved bool) {
	r.id = l.target.ID
	var aborted []storage.AbortedTxn
	if l.committed {
		if aborted, r.err = l.partition.Aborted(l.slice, l.from); r.err != nil {
			return r, false
		}
	}
	var spans []share.Span
	var begins []int64 // of each span in the slice, and the end of the last
	r.err = l.slice.Batches(func(h record.Header, at int64) bool {
		spans = append(spans, share.Span{First: h.BaseOffset, Last: h.LastOffset(), Hidden: h.Attributes.Control() || isAborted(h, aborted)})
		begins = append(begins[:len(spans)-1], at, at+int64(h.Size()))
		return int64(h.LastOffset()-l.from) < records-1
	})
	if r.err != nil {
		return r, false
	}
	r.acquired = l.target.Held.Acquire(f.session, share.Acquisition{
		MaxRecords: records,
		Exact:      f.req.ShareAcquireMode == 1,
		BatchSize:  int64(f.req.BatchSize),
	}, l.from, spans)
	if len(r.acquired) == 0 {
		next, ok := l.target.Held.Next(l.partition.Offsets().LogStart)
		return r, ok && next != l.from
	}
	first, last := 0, len(spans)-1
	for spans[first].Last < r.acquired[0].First {
		first++
	}
	for spans[last].First > r.acquired[len(r.acquired)-1].Last {
		last--
	}
	r.slice = l.slice.Part(begins[first], begins[last+1], spans[first].First)
	return r, false
}

// isAborted reports whether a batch belongs to one of the aborted transactions.
func isAborted(h record.Header, aborted []storage.AbortedTxn) bool {
	if !h.Attributes.Transactional() {
		return false
	}
	for _, t := range aborted {
		if t.ProducerID == h.ProducerID && t.FirstOffset <= h.BaseOffset && h.BaseOffset <= t.LastOffset {
			return true
		}
	}
	return false
}

// finish waits until the acknowledgements are durable and makes the answer.
func (f *shareFetching) finish(ctx context.Context, results []shareResult) (wire.Answer, error) {
	for _, ack := range f.acks {
		if err := ack.wait(ctx); err != nil {
			return nil, err
		}
		found := false
		for i := range results {
			if results[i].id == ack.id {
				results[i].ackErr, found = ack.err, true
			}
		}
		if !found {
			results = append(results, shareResult{id: ack.id, ackErr: ack.err})
		}
	}
	return f.answer(results), nil
}
