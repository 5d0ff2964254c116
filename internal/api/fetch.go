package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/wire"
)

// Fetch v4–18 (key 1)
//
//   - First phase: the fetch session takes over what the request changes (KIP-227). Second phase: wait until min bytes are there,
//     max wait has passed, or a partition has an error; then answer.
//   - The answer holds positions; records are copied from the tail or a segment while it is written to the socket (fetch_answer.go).
//   - The first partition that has records gives at least one batch, however large; after that the limits of the partition, of the
//     request and of the broker (fetch.max.bytes) hold.
//   - In a session only partitions that changed are answered: new records, another high watermark or log start offset, an error.
//   - read_committed reads up to the last stable offset, and lists the aborted transactions that have records in what it got; where
//     there are none the list is empty, and that of read_uncommitted is null.
//   - v9 checks the leader epoch that the client knows (KIP-320), v12 tells where its log diverges (KIP-595), v13 names topics by id
//     (KIP-516), v16 tells the endpoints of new leaders (KIP-951).
//
// Left out on purpose: fetching as a replica. A replica id of 0 or above names a follower, and this broker has none:
// NOT_LEADER_OR_FOLLOWER, as from a leader that does not know the replica. There is no other replica to prefer (KIP-392), and
// INCONSISTENT_TOPIC_ID cannot arise because logs go by topic id.

func (a *API) fetch(_ context.Context, r *wire.Request) (wire.Pending, error) {
	f := fetchings.Get().(*fetching)
	f.api, f.call = a, call{Request: r}
	if err := f.req.decode(r); err != nil {
		return nil, err
	}
	if f.req.replica >= 0 {
		f.session = newFetchSession(f.req.byID())
		f.session.updateLocked(&f.req, a.view())
	} else {
		f.session, f.err = a.sessions.open(&f.req, a.view(), time.Now())
	}
	r.Release() // the session has what was asked for, and the fetch may wait for long
	return f, nil
}

// fetching is one fetch between its two phases, and then its answer. It is used again once that was written.
type fetching struct {
	api     *API
	call    call
	req     fetchBody // its topics and partitions only in the first phase
	session *fetchSession
	err     error // of the whole request
	results []fetchResult
	timer   *time.Timer // stopped; nil before the first fetch that waits
	encoder fetchEncoder
}

var fetchings = sync.Pool{New: func() any { return new(fetching) }}

// Most of what a fetching keeps for the next fetch: a client may ask for a million partitions.
const (
	keptFetchPartitions = 1024
	keptFetchHead       = 64 << 10
)

// recycle makes f ready for another fetch. Nobody may use it afterwards.
func (f *fetching) recycle() {
	results, head, cuts := f.results, f.encoder.head, f.encoder.cuts
	if cap(results) > keptFetchPartitions || cap(cuts) > keptFetchPartitions || cap(head) > keptFetchHead || f.req.large() {
		return
	}
	clear(results[:cap(results)])
	clear(cuts)
	clear(f.req.topics)
	clear(f.req.forgotten)
	*f = fetching{req: f.req, results: results[:0], timer: f.timer, encoder: fetchEncoder{fetchAnswer: fetchAnswer{head: head[:0], cuts: cuts[:0]}}}
	fetchings.Put(f)
}

// fetchResult is what one partition gives.
type fetchResult struct {
	target    *fetchTarget
	err       error
	offsets   storage.Offsets
	slice     storage.Slice
	aborted   []storage.AbortedTxn // for a reader of committed records
	diverging *divergence
	leader    *base.BrokerID // told to a client that goes by an old epoch
	epoch     base.LeaderEpoch
}

// divergence is where the client's log stops being a prefix of this one.
type divergence struct {
	epoch base.LeaderEpoch
	end   base.Offset
}

// Forgets implements wire.Forgetter.
func (f *fetching) Forgets() {}

// Wait implements wire.Pending.
func (f *fetching) Wait(ctx context.Context) (wire.Answer, error) {
	if f.err != nil {
		return f.answerError(f.err), nil
	}
	defer f.release()
	last, watch := f.req.maxWaitMillis <= 0, false
	var late <-chan time.Time
	for {
		changed, enough := f.read(last, watch)
		if enough {
			return f.finish()
		}
		if watch = true; changed == nil {
			continue // look again, now watching: nothing that comes after that look goes unnoticed
		}
		if late == nil {
			late = f.startTimer(time.Duration(f.req.maxWaitMillis) * time.Millisecond)
		}
		select {
		case <-changed:
		case <-late:
			last = true
		case <-f.call.Conn.Draining():
			last = true
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// startTimer returns a channel that gets a value after d.
func (f *fetching) startTimer(d time.Duration) <-chan time.Time {
	if f.timer == nil {
		f.timer = time.NewTimer(d)
	} else {
		f.timer.Reset(d)
	}
	return f.timer.C
}

// release stops the timer, and gives back what a session that is not kept holds.
func (f *fetching) release() {
	if f.timer != nil {
		f.timer.Stop() // nothing can be received from it afterwards
	}
	s := f.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id != noSession {
		return
	}
	s.closeLocked()
	if !s.entered { // else other fetches may have it too
		s.recycleLocked()
	}
}

// read looks at every partition and reports whether that makes an answer: there are min bytes, a partition has an error, there is
// nothing to wait for, or this is the last look. If not, the channel is signalled when it is worth looking again; it is nil if the
// partitions are not watched yet and are not to be, which spares a fetch that need not wait the watching.
func (f *fetching) read(last, watch bool) (changed <-chan struct{}, enough bool) {
	s := f.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolveLocked(f.api.view())
	if !last && (watch || s.watcher != nil) {
		changed = s.watchLocked()
	}
	f.results = f.results[:0]
	limit := int64(min(f.req.maxBytes, int32(min(f.api.view().broker.FetchMaxBytes, 1<<31-1))))
	wanted := min(int64(f.req.minBytes), limit)
	var bytes int64
	waitable := false
	for t := s.ring.next; t != &s.ring; t = t.next {
		r := f.readPartition(t, limit-bytes, bytes == 0)
		bytes += int64(r.slice.Len())
		enough = enough || r.diverging != nil || r.err != nil && t.err == nil
		waitable = waitable || t.err == nil
		if f.full() || s.id == noSession || r.news() {
			f.results = append(f.results, r)
		}
	}
	return changed, enough || last || !waitable || bytes >= wanted
}

// readPartition finds what one partition has for the client: at most left bytes, but one batch whole where none was found so far.
func (f *fetching) readPartition(t *fetchTarget, left int64, first bool) fetchResult {
	r := fetchResult{target: t}
	switch {
	case f.req.replica >= 0:
		r.err = errNotFollowed
	case t.err != nil:
		r.err = t.err
	default:
		r.err = r.read(f.req.isolation == 1, min(int64(t.maxBytes), max(left, 0)), first)
	}
	return r
}

var errNotFollowed = refuse(kerr.NotLeaderForPartition, "The replica is not one of this partition.")

// read is readPartition for a partition that exists.
func (r *fetchResult) read(committed bool, maxBytes int64, first bool) error {
	t, p := r.target, r.target.partition
	r.epoch = t.place.LeaderEpoch
	if err := checkEpoch(t.currentEpoch, r.epoch); err != nil {
		if errors.Is(err, errFencedLeaderEpoch) {
			r.leader = &t.place.Leader
		}
		return err
	}
	if t.lastEpoch >= 0 {
		epoch, end := p.EpochEndOffset(t.lastEpoch)
		if epoch == base.NoLeaderEpoch || end == base.NoOffset || t.offset < p.Offsets().LogStart {
			return storage.ErrOffsetOutOfRange
		}
		if epoch < t.lastEpoch || end < t.offset {
			r.diverging = &divergence{epoch: epoch, end: end}
			r.offsets = p.Offsets()
			return nil
		}
	}
	o := storage.ReadOptions{MaxBytes: int(maxBytes), AtLeastOne: first, Upto: storage.HighWatermark}
	if committed {
		o.Upto = storage.LastStable
	}
	slice, err := p.Read(t.offset, o)
	if err != nil {
		return err
	}
	if committed && !plant.On(plant.HideAborts) {
		if r.aborted, err = p.Aborted(slice, t.offset); err != nil {
			return err
		}
	}
	// The offsets are read after the records: a high watermark never lies below the records that come with it.
	r.slice, r.offsets = slice, p.Offsets()
	return nil
}

// checkEpoch compares the leader epoch that a client knows with the broker's (KIP-320).
func checkEpoch(client, broker base.LeaderEpoch) error {
	switch {
	case client < 0 || client == broker: // below 0 is none
		return nil
	case client < broker:
		return errFencedLeaderEpoch
	}
	return errUnknownLeaderEpoch
}

// finish settles the session and makes the answer of the results.
func (f *fetching) finish() (wire.Answer, error) {
	s := f.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if !f.full() && s.id != noSession && s.epoch != nextEpoch(f.req.sessionEpoch) {
		return f.answerError(errSessionEpoch), nil // another request used the session meanwhile
	}
	if f.req.version >= 7 && f.req.sessionEpoch == initialEpoch && f.req.replica < 0 {
		f.api.sessions.keepLocked(s, time.Now())
	}
	if s.id != noSession {
		for i := range f.results {
			f.results[i].note()
			if f.results[i].slice.Len() > 0 {
				s.moveToBack(f.results[i].target)
			}
		}
	}
	return f.answer(s.id), nil
}

// full reports that the answer has every partition, not only what changed.
func (f *fetching) full() bool {
	return f.req.sessionEpoch == initialEpoch || f.req.sessionEpoch == finalEpoch
}

// news reports whether a result tells the client of a session something that it does not know.
func (r *fetchResult) news() bool {
	t := r.target
	return r.err != nil || r.slice.Len() > 0 || r.diverging != nil ||
		t.highWatermark != r.offsets.HighWatermark || t.logStart != r.offsets.LogStart
}

// note remembers what the client of a session is told.
func (r *fetchResult) note() {
	r.target.highWatermark, r.target.logStart = r.offsets.HighWatermark, r.offsets.LogStart
	if r.err != nil || r.diverging != nil {
		r.target.highWatermark = -1 // tell it when that has gone
	}
}

// codeOf is the code of a partition's error. Damage is not logged here: the engine has reported it.
func (f *fetching) codeOf(err error) int16 {
	if errors.Is(err, storage.ErrOffsetOutOfRange) {
		return kerr.OffsetOutOfRange.Code
	}
	return f.api.codeOf(&f.call, err)
}
