package api

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/storage"
)

// Limits of what fetch sessions hold (KIP-227). The number of sessions is max.incremental.fetch.session.cache.slots.
const (
	// sessionEviction is how long a session is safe from newcomers (min.incremental.fetch.session.eviction.ms in Kafka).
	sessionEviction = 2 * time.Minute
	// maxSessionPartitions bounds the partitions of all kept sessions together. A fetch that does not fit is served without a
	// session, which clients understand.
	maxSessionPartitions = 1 << 20
)

// Session epochs with a meaning of their own (KIP-227).
const (
	noSession    int32 = 0  // session id of a fetch without session
	initialEpoch int32 = 0  // asks for a new session
	finalEpoch   int32 = -1 // asks for none, and ends the one named
)

// Errors of a whole fetch.
var (
	errSessionNotFound = refuse(kerr.FetchSessionIDNotFound, "The fetch session ID was not found.")
	errSessionEpoch    = refuse(kerr.InvalidFetchSessionEpoch, "The fetch session epoch is invalid.")
	errSessionTopicID  = refuse(kerr.FetchSessionTopicIDError, "The fetch session encountered inconsistent topic ID usage.")
)

// fetchKey names a partition as the client does: by topic id from v13 on, by topic name before.
type fetchKey struct {
	id        base.TopicID
	name      string
	partition int32
}

func (k fetchKey) sameTopic(other fetchKey) bool { return k.id == other.id && k.name == other.name }

// fetchTarget is one partition of a fetch: what is asked of it, what it is, and what was last answered.
type fetchTarget struct {
	key          fetchKey
	offset       base.Offset
	maxBytes     int32
	currentEpoch base.LeaderEpoch // the leader epoch that the client knows, or NoLeaderEpoch
	lastEpoch    base.LeaderEpoch // the epoch of the last record it has, or NoLeaderEpoch

	partition *storage.Partition // nil if err is set
	place     *metadata.Partition
	err       error // why there is no such partition

	highWatermark, logStart base.Offset // as last answered in this session; -1 has to be answered anew

	prev, next *fetchTarget
}

// ask takes over what a request asks of the partition.
func (t *fetchTarget) ask(p *fetchPartition) {
	t.offset, t.maxBytes = base.Offset(p.offset), p.maxBytes
	t.currentEpoch, t.lastEpoch = base.LeaderEpoch(p.currentEpoch), base.LeaderEpoch(p.lastEpoch)
}

// fetchSession is the partitions of a fetch. A kept one lives from fetch to fetch, so that the client sends only what changed and
// the partitions stay watched; one that is not kept serves a single fetch.
//
// Its partitions form a ring in the order in which they are read; those that gave records go to the end, so that none starves.
type fetchSession struct {
	mu      sync.Mutex // guards the fields below; it is taken before fetchSessions.mu
	id      int32      // noSession if it is not kept
	epoch   int32      // of the next request
	byID    bool       // partitions are named by topic id
	targets map[fetchKey]*fetchTarget
	ring    fetchTarget // the list's sentinel
	watcher *storage.Watcher
	view    *view // with which the targets were last resolved
	entered bool  // it was kept at some time

	// For the next fetch, if the session was never kept.
	spare        *fetchTarget // by next
	spareWatcher *storage.Watcher

	// Guarded by fetchSessions.mu.
	created, used time.Time
	kept          int // partitions that count against maxSessionPartitions
}

func newFetchSession(byID bool) *fetchSession {
	s := fetchSessionPool.Get().(*fetchSession)
	s.byID = byID
	return s
}

// fetchSessionPool holds empty sessions that were never kept.
var fetchSessionPool = sync.Pool{New: func() any {
	s := &fetchSession{targets: map[fetchKey]*fetchTarget{}}
	s.ring.prev, s.ring.next = &s.ring, &s.ring
	return s
}}

// recycleLocked makes a session ready that was never kept, and is closed. Only the caller may have it.
func (s *fetchSession) recycleLocked() {
	if len(s.targets) > keptFetchPartitions {
		return
	}
	for t := s.ring.next; t != &s.ring; {
		next := t.next
		*t = fetchTarget{next: s.spare}
		s.spare, t = t, next
	}
	clear(s.targets)
	s.ring.prev, s.ring.next = &s.ring, &s.ring
	s.view = nil
	fetchSessionPool.Put(s)
}

// targetLocked returns a new target.
func (s *fetchSession) targetLocked(key fetchKey) *fetchTarget {
	t := s.spare
	if t == nil {
		t = new(fetchTarget)
	} else {
		s.spare = t.next
	}
	*t = fetchTarget{key: key, highWatermark: -1, logStart: -1}
	return t
}

func (s *fetchSession) pushBack(t *fetchTarget) {
	t.prev, t.next = s.ring.prev, &s.ring
	t.prev.next, s.ring.prev = t, t
}

func unlink(t *fetchTarget) { t.prev.next, t.next.prev = t.next, t.prev }

// moveToBack makes the partition the last to be read next time.
func (s *fetchSession) moveToBack(t *fetchTarget) {
	unlink(t)
	s.pushBack(t)
}

// updateLocked takes over what a request adds, changes and forgets. Nothing of the request is kept.
func (s *fetchSession) updateLocked(req *fetchBody, v *view) {
	partitions := req.partitions
	for i := range req.topics {
		topic := &req.topics[i]
		key := fetchKey{id: topic.id, name: topic.nameOf()}
		owned := topic.name == nil
		for j := range partitions[:topic.partitions] {
			p := &partitions[j]
			key.partition = p.index
			t := s.targets[key]
			if t == nil {
				if !owned {
					key.name, owned = v.ownedName(key.name), true
				}
				t = s.targetLocked(key)
				s.targets[key] = t
				s.pushBack(t)
				s.view = nil // resolve it
			}
			t.ask(p)
		}
		partitions = partitions[topic.partitions:]
	}
	forgotten := req.forgottenPartitions
	for i := range req.forgotten {
		topic := &req.forgotten[i]
		for _, p := range forgotten[:topic.partitions] {
			s.forgetLocked(fetchKey{id: topic.id, name: topic.nameOf(), partition: p})
		}
		forgotten = forgotten[topic.partitions:]
	}
}

// ownedName returns a name that may be kept: the topic's own where there is such a topic, which spares a copy.
func (v *view) ownedName(name string) string {
	if t, ok := v.image.Topic(name); ok {
		return t.Name
	}
	return strings.Clone(name)
}

func (s *fetchSession) forgetLocked(key fetchKey) {
	t := s.targets[key]
	if t == nil {
		return
	}
	delete(s.targets, key)
	unlink(t)
	if s.watcher != nil && t.partition != nil {
		s.watcher.Unwatch(t.partition)
	}
}

// resolveLocked finds the partitions behind the names, if the metadata or the names changed since it was last done.
func (s *fetchSession) resolveLocked(v *view) {
	if s.view == v {
		return
	}
	complete := true
	for t := s.ring.next; t != &s.ring; t = t.next {
		before := t.partition
		t.partition, t.place, t.err = v.fetchPartition(t.key, s.byID)
		if errors.Is(t.err, errPartitionOffline) {
			complete = false
		}
		if s.watcher == nil || before == t.partition {
			continue
		}
		if before != nil {
			s.watcher.Unwatch(before)
		}
		if t.partition != nil {
			s.watcher.Watch(t.partition)
		}
	}
	if complete {
		s.view = v
	}
}

func (v *view) fetchPartition(key fetchKey, byID bool) (*storage.Partition, *metadata.Partition, error) {
	var topic *topicView
	var ok bool
	if byID {
		if topic, ok = v.topicByID(key.id); !ok {
			return nil, nil, errUnknownTopicID
		}
	} else if topic, ok = v.topic(key.name); !ok {
		return nil, nil, errUnknownPartition
	}
	return topic.partition(key.partition)
}

// watchLocked returns the channel that is signalled when a partition moves, watching them all if they are not yet.
func (s *fetchSession) watchLocked() <-chan struct{} {
	if s.watcher == nil {
		if s.watcher, s.spareWatcher = s.spareWatcher, nil; s.watcher == nil {
			s.watcher = storage.NewWatcher()
		}
		for t := s.ring.next; t != &s.ring; t = t.next {
			if t.partition != nil {
				s.watcher.Watch(t.partition)
			}
		}
	}
	return s.watcher.C()
}

func (s *fetchSession) closeLocked() {
	if s.watcher != nil {
		s.watcher.Close()
		s.watcher, s.spareWatcher = nil, s.watcher
	}
}

// nextEpoch is the epoch of the request after one of the given epoch. It skips the epochs with a meaning of their own.
func nextEpoch(epoch int32) int32 {
	switch {
	case epoch < 0:
		return finalEpoch
	case epoch == math.MaxInt32:
		return 1
	}
	return epoch + 1
}

// fetchSessions keeps the sessions of all clients.
type fetchSessions struct {
	slots         int
	maxPartitions int

	mu         sync.Mutex // guards the fields below
	byID       map[int32]*fetchSession
	partitions int // of all of them
}

func newFetchSessions(slots int) *fetchSessions {
	return &fetchSessions{slots: slots, maxPartitions: maxSessionPartitions, byID: map[int32]*fetchSession{}}
}

// open finds or makes the session of a request and takes over what it asks. Called in the first phase, so that the requests of a
// connection change a session in order.
//
// A new session is not kept before keep. The returned session is to be released by the caller if it is not kept.
func (f *fetchSessions) open(req *fetchBody, v *view, now time.Time) (*fetchSession, error) {
	byID := req.byID()
	if req.sessionEpoch == initialEpoch || req.sessionEpoch == finalEpoch {
		if req.sessionID != noSession {
			f.drop(req.sessionID)
		}
		s := newFetchSession(byID)
		s.updateLocked(req, v)
		return s, nil
	}
	s := f.find(req.sessionID)
	if s == nil {
		return nil, errSessionNotFound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == noSession {
		return nil, errSessionNotFound // it was evicted a moment ago
	}
	if s.epoch != req.sessionEpoch {
		return nil, errSessionEpoch
	}
	if s.byID != byID {
		return nil, errSessionTopicID
	}
	s.updateLocked(req, v)
	if len(s.targets) == 0 || !f.resize(s, len(s.targets), now) {
		f.remove(s)
		s.id = noSession
		return s, nil
	}
	s.epoch = nextEpoch(s.epoch)
	return s, nil
}

func (f *fetchSessions) find(id int32) *fetchSession {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byID[id]
}

// keepLocked gives a new session an id and a place, if there is one to be had. s.mu is held.
func (f *fetchSessions) keepLocked(s *fetchSession, now time.Time) {
	victim, ok := f.place(s, now)
	if !ok {
		return
	}
	if victim != nil {
		victim.mu.Lock() // nobody else locks two sessions, and s is not to be found yet, so the order of the two is free
		victim.id = noSession
		victim.closeLocked()
		victim.mu.Unlock()
	}
}

// place enters s, and takes out the session that has to make room for it.
func (f *fetchSessions) place(s *fetchSession, now time.Time) (victim *fetchSession, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := len(s.targets)
	if len(f.byID) >= f.slots {
		if victim = f.evictable(size, now); victim == nil {
			return nil, false
		}
		f.removeLocked(victim)
	}
	if f.partitions+size > f.maxPartitions {
		return victim, victim != nil
	}
	id := rand.Int32N(math.MaxInt32) + 1
	for f.byID[id] != nil {
		id = rand.Int32N(math.MaxInt32) + 1
	}
	s.id, s.epoch, s.entered = id, nextEpoch(initialEpoch), true
	s.spare = nil // it will not be recycled
	s.created, s.used, s.kept = now, now, size
	f.byID[id] = s
	f.partitions += size
	return victim, true
}

// evictable finds a session that may make room for one of the given size: the one unused for longest, if that is long enough, else
// the smallest of those that are old enough, if it is smaller.
func (f *fetchSessions) evictable(size int, now time.Time) *fetchSession {
	var stale, small *fetchSession
	for _, s := range f.byID {
		if stale == nil || s.used.Before(stale.used) {
			stale = s
		}
		if now.Sub(s.created) > sessionEviction && s.kept < size && (small == nil || s.kept < small.kept) {
			small = s
		}
	}
	if stale != nil && now.Sub(stale.used) > sessionEviction {
		return stale
	}
	return small
}

// resize notes that a kept session was used and has so many partitions now; false if they are too many to keep.
func (f *fetchSessions) resize(s *fetchSession, size int, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byID[s.id] != s {
		return false
	}
	if size > s.kept && f.partitions+size-s.kept > f.maxPartitions {
		return false
	}
	f.partitions += size - s.kept
	s.kept, s.used = size, now
	return true
}

// drop ends the session of that id, if there is one.
func (f *fetchSessions) drop(id int32) {
	s := f.find(id)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.remove(s)
	s.id = noSession
	s.closeLocked()
}

func (f *fetchSessions) remove(s *fetchSession) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removeLocked(s)
}

func (f *fetchSessions) removeLocked(s *fetchSession) {
	if f.byID[s.id] == s {
		delete(f.byID, s.id)
		f.partitions -= s.kept
		s.kept = 0
	}
}
