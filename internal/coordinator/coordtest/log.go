// Package coordtest is an internal topic in memory for tests of coordinators: one can hold back durability, fail appends and waits,
// and crash, which loses what was not durable.
package coordtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/record"
)

// ErrInjected is the error of what a test made fail.
var ErrInjected = errors.New("injected fault")

// Topic is an internal topic with a fixed number of partitions, all led here. It implements coordinator.Topic.
type Topic struct {
	mu      sync.Mutex // guards the fields below
	logs    []*Log
	exists  bool
	offline map[int32]bool
}

// NewTopic returns a topic that exists.
func NewTopic(partitions int) *Topic {
	t := &Topic{exists: true, offline: map[int32]bool{}}
	id := base.NewTopicID()
	for i := range partitions {
		l := NewLog()
		l.id = base.TopicIDPartition{ID: id, Partition: int32(i)}
		t.logs = append(t.logs, l)
	}
	return t
}

// Remove makes the topic one that Ensure has to create first.
func (t *Topic) Remove() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exists = false
}

// Ensure implements coordinator.Topic.
func (t *Topic) Ensure(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exists = true
	return nil
}

// Partitions implements coordinator.Topic.
func (t *Topic) Partitions() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.exists {
		return 0
	}
	return int32(len(t.logs))
}

// Log implements coordinator.Topic.
func (t *Topic) Log(partition int32) (coordinator.Log, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.exists || int(partition) >= len(t.logs) || t.offline[partition] {
		return nil, coordinator.ErrNotCoordinator
	}
	return t.logs[partition], nil
}

// Offline makes a partition one that is not led here, or brings it back.
func (t *Topic) Offline(partition int32, offline bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.offline[partition] = offline
}

// Of is the log of a partition.
func (t *Topic) Of(partition int32) *Log { return t.logs[partition] }

// Crash is what is left of the topic after the power failed: of each partition a prefix of its batches with all durable ones; keep
// tells how many of n further batches survived.
func (t *Topic) Crash(keep func(n int) int) *Topic {
	left := NewTopic(0)
	for _, l := range t.logs {
		left.logs = append(left.logs, l.crash(keep))
	}
	return left
}

// Truncate is the topic with the first n batches of each partition.
func (t *Topic) Truncate(n int) *Topic {
	left := NewTopic(0)
	for _, l := range t.logs {
		l.mu.Lock()
		l.durable = min(n, len(l.batches))
		l.mu.Unlock()
		left.logs = append(left.logs, l.crash(func(int) int { return 0 }))
	}
	return left
}

// Log is a partition in memory. It implements coordinator.Log.
type Log struct {
	id base.TopicIDPartition

	mu       sync.Mutex // guards the fields below
	batches  [][]byte
	start    base.Offset
	end      base.Offset
	durable  int // batches
	held     bool
	refusals int   // appends that fail yet
	broken   error // of all waits for what is not durable, and of all appends
	readErr  error
	reads    []base.Offset
	changed  chan struct{}
	reading  chan struct{} // blocks Read while not nil
}

// NewLog returns an empty log.
func NewLog() *Log { return &Log{changed: make(chan struct{})} }

// Append implements coordinator.Log.
func (l *Log) Append(_ context.Context, batch []byte) (coordinator.Appended, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return coordinator.Appended{}, l.broken
	}
	if l.refusals > 0 {
		l.refusals--
		return coordinator.Appended{}, ErrInjected
	}
	h, err := record.ParseHeader(batch)
	if err != nil {
		return coordinator.Appended{}, err
	}
	b := append([]byte(nil), batch...)
	record.SetBaseOffset(b, l.end)
	at := l.end
	l.end += base.Offset(h.LastOffsetDelta) + 1
	l.batches = append(l.batches, b)
	if !l.held {
		l.durable = len(l.batches)
	}
	l.wakeLocked()
	return coordinator.Appended{Base: at, Token: coordinator.Token(len(l.batches))}, nil
}

// Wait implements coordinator.Log.
func (l *Log) Wait(ctx context.Context, token coordinator.Token) error {
	for {
		l.mu.Lock()
		durable, broken, changed := l.durable, l.broken, l.changed
		l.mu.Unlock()
		switch {
		case int(token) <= durable:
			return nil
		case broken != nil:
			return broken
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ID implements coordinator.Identified.
func (l *Log) ID() base.TopicIDPartition { return l.id }

// Forgotten implements coordinator.Identified: nothing is compacted here.
func (l *Log) Forgotten() base.Offset { return 0 }

// Read implements coordinator.Log.
func (l *Log) Read(from base.Offset, maxBytes int) ([]byte, error) {
	l.mu.Lock()
	reading := l.reading
	l.mu.Unlock()
	if reading != nil {
		<-reading
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readErr != nil {
		return nil, l.readErr
	}
	l.reads = append(l.reads, from)
	var out []byte
	for _, b := range l.batches {
		h, err := record.ParseHeader(b)
		if err != nil {
			return nil, err
		}
		if h.LastOffset() < from {
			continue
		}
		if len(out) > 0 && len(out)+len(b) > maxBytes {
			break
		}
		out = append(out, b...)
	}
	return out, nil
}

// Offsets implements coordinator.Log.
func (l *Log) Offsets() (start, end base.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start, l.end
}

// Prune implements coordinator.Pruner.
func (l *Log) Prune(_ context.Context, before base.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before > l.end {
		return fmt.Errorf("prune before offset %d, the log ends at %d", before, l.end)
	}
	l.start = max(l.start, before)
	return nil
}

// Hold keeps batches from becoming durable until Release.
func (l *Log) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// Release makes all batches durable.
func (l *Log) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held, l.durable = false, len(l.batches)
	l.wakeLocked()
}

// Refuse makes the next n appends fail and change nothing.
func (l *Log) Refuse(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusals = n
}

// Break fails the log for good: what is not durable never will be.
func (l *Log) Break() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = ErrInjected
	l.wakeLocked()
}

// FailReads makes reads fail, or work again with nil.
func (l *Log) FailReads(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readErr = err
}

// Stall makes reads wait until the returned function is called.
func (l *Log) Stall() (resume func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(chan struct{})
	l.reading = c
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reading = nil
		close(c)
	}
}

// Reads are the offsets from which Read has read.
func (l *Log) Reads() []base.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.reads)
}

// Batches is how many batches were appended.
func (l *Log) Batches() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.batches)
}

// Put appends one record that is durable at once.
func (l *Log) Put(ctx context.Context, key, value []byte) error {
	b := record.NewBuilder(record.BuilderOptions{})
	b.Append(0, key, value)
	_, err := l.Append(ctx, b.Build(0))
	if err == nil {
		l.Release()
	}
	return err
}

// Records decodes the whole log.
func (l *Log) Records() ([]record.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []record.Record
	for i, b := range l.batches {
		for r, err := range record.Records(b, 1<<30) {
			if err != nil {
				return nil, fmt.Errorf("batch %d: %w", i, err)
			}
			out = append(out, r)
		}
	}
	return out, nil
}

func (l *Log) crash(keep func(n int) int) *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := NewLog()
	left.id = l.id
	n := l.durable
	if more := len(l.batches) - l.durable; more > 0 {
		n += keep(more)
	}
	for _, b := range l.batches[:n] {
		h, err := record.ParseHeader(b)
		if err != nil {
			panic(err)
		}
		left.batches = append(left.batches, b)
		left.end = h.LastOffset() + 1
	}
	left.durable, left.start = n, min(l.start, left.end)
	return left
}

func (l *Log) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}
