package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
	"unicode/utf16"

	"github.com/ottlaio/ottla/internal/base"
)

// Limits of one partition's event loop.
const (
	// maxQueued is how many events wait for a partition before further ones are refused with ErrUnavailable. Their bytes count
	// against the limits of the connections that they came by.
	maxQueued = 16384
	// maxBatchBytes is about how much one append holds; a single event may make a batch larger than that.
	maxBatchBytes = 512 << 10
	// recordOverhead is what a record costs in a batch besides its key and value, at most.
	recordOverhead = 32
	// readBytes is how much of the log is read at once while loading.
	readBytes = 1 << 20
	// maxDecompressed bounds one batch while loading. The runtime itself writes uncompressed ones.
	maxDecompressed = 64 << 20
	// loadGrace is how long a request waits for the partition to load before it is answered with ErrLoading.
	loadGrace = 250 * time.Millisecond
	// loadBackoff is the pause after a load that failed.
	loadBackoff = time.Second
)

// Config describes a runtime.
type Config[M Machine] struct {
	// Name is the internal topic's name, for logs.
	Name string
	// Topic is the internal topic.
	Topic Topic
	// New returns the empty state of a partition.
	New func(partition int32) M
	// Release is called with a state that is given up; optional.
	Release func(M)
	// Snapshots says where states are written down; optional.
	Snapshots Snapshots
	// Shadow returns an empty state to make a snapshot from, which no event comes to; required for snapshots.
	Shadow func(partition int32) M
	// Logger is required.
	Logger *slog.Logger
}

// Runtime drives the state machines of all partitions of one internal topic that are led here. Its methods are safe for
// concurrent use and none of them blocks, but for Ensure and Close.
type Runtime[M Machine] struct {
	cfg  Config[M]
	life lifetime
	wg   sync.WaitGroup

	mu         sync.Mutex // guards the fields below
	closed     bool
	partitions map[int32]*partition[M]
	snapshots  map[int32]base.Offset // of the last one that was written or read by snapshot
}

// New returns a runtime that has started nothing.
func New[M Machine](cfg Config[M]) (*Runtime[M], error) {
	var problems []error
	if cfg.Topic == nil {
		problems = append(problems, errors.New("no topic"))
	}
	if cfg.New == nil {
		problems = append(problems, errors.New("no state machine"))
	}
	if cfg.Logger == nil {
		problems = append(problems, errors.New("no logger"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("coordinator %s: %w", cfg.Name, err)
	}
	return &Runtime[M]{cfg: cfg, life: make(lifetime), partitions: map[int32]*partition[M]{}, snapshots: map[int32]base.Offset{}}, nil
}

// Ensure creates the internal topic where it does not exist.
func (r *Runtime[M]) Ensure(ctx context.Context) error { return r.cfg.Topic.Ensure(ctx) }

// PartitionFor returns the partition that holds key's state, by Kafka's hash; -1 while the topic does not exist.
func (r *Runtime[M]) PartitionFor(key string) int32 {
	n := r.cfg.Topic.Partitions()
	if n <= 0 {
		return -1
	}
	return partitionOf(key, n)
}

// partitionOf is Kafka's Utils.abs(key.hashCode()) % n.
func partitionOf(key string, n int32) int32 {
	h := JavaHash(key)
	if h == -1<<31 {
		h = 0
	}
	return max(h, -h) % n
}

// JavaHash is java.lang.String.hashCode: over UTF-16 code units.
func JavaHash(s string) int32 {
	var h int32
	for _, c := range s {
		if hi, lo := utf16.EncodeRune(c); c >= 0x10000 {
			h = 31*(31*h+hi) + lo
			continue
		}
		h = 31*h + c
	}
	return h
}

// Submit queues an event for a partition's state machine: handle is called with the state, in the order of submission, and
// answers the call now or lets the machine keep it and answer it in a later event. The partition is loaded first where it is not.
func Submit[M Machine, A any](r *Runtime[M], partition int32, handle func(m M, fx *Effects, c *Call[A])) *Call[A] {
	c := newCall[A]()
	p, err := r.partition(partition)
	if err == nil {
		err = p.submit(event[M]{call: &c.call, run: func(m M, fx *Effects) { handle(m, fx, c) }})
	}
	if err != nil {
		c.fail(err)
	}
	return c
}

// SubmitAll queues the event for every partition that is led here and holds state: a log without records holds none.
func SubmitAll[M Machine, A any](r *Runtime[M], handle func(m M, fx *Effects, c *Call[A])) []*Call[A] {
	var calls []*Call[A]
	for id := range r.cfg.Topic.Partitions() {
		if r.started(id) || r.hasRecords(id) {
			calls = append(calls, Submit(r, id, handle))
		}
	}
	return calls
}

// Drop gives up a partition's state, as when its leadership moved: its calls fail with ErrNotCoordinator.
func (r *Runtime[M]) Drop(partition int32) {
	r.mu.Lock()
	p := r.partitions[partition]
	r.mu.Unlock()
	if p != nil {
		p.drop(nil)
	}
}

// Close ends every event loop and fails the calls that have no answer yet with ErrClosed.
func (r *Runtime[M]) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.life)
	}
	r.mu.Unlock()
	r.wg.Wait()
	return nil
}

func (r *Runtime[M]) started(id int32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.partitions[id] != nil
}

func (r *Runtime[M]) hasRecords(id int32) bool {
	log, err := r.cfg.Topic.Log(id)
	if err != nil {
		return false
	}
	start, end := log.Offsets()
	return start < end
}

// partition returns a partition's event loop, which it starts where there is none.
func (r *Runtime[M]) partition(id int32) (*partition[M], error) {
	if id < 0 || id >= r.cfg.Topic.Partitions() {
		return nil, ErrNotCoordinator
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	p := r.partitions[id]
	if p == nil {
		p = newPartition(r, id)
		r.partitions[id] = p
		r.wg.Add(1)
		go func() {
			defer r.wg.Done()
			p.run(r.life)
		}()
	}
	return p, nil
}

// lifetime is the life of a runtime as a context: it ends when the runtime is closed, and nobody else's end is its own.
type lifetime chan struct{}

// Deadline implements context.Context.
func (l lifetime) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (l lifetime) Done() <-chan struct{} { return l }

// Err implements context.Context.
func (l lifetime) Err() error {
	select {
	case <-l:
		return context.Canceled
	default:
		return nil
	}
}

// Value implements context.Context.
func (l lifetime) Value(any) any { return nil }
