package share

import (
	"context"
	"errors"

	"github.com/ottlaio/ottla/internal/base"
)

// Key names a share partition: a partition as one share group consumes it.
type Key struct {
	Group     string
	Topic     base.TopicID
	Partition int32
}

// State is what has become of a record in a share group. The numbers are Kafka's and are written to disk.
type State int8

// The states of a record; see the package's documentation for how one follows another.
const (
	Available    State = 0 // may be given to a member
	Acquired     State = 1 // is with a member; never persisted
	Acknowledged State = 2 // was processed
	Archived     State = 4 // will not be delivered any more: rejected, delivered too often, or not there
)

// StateBatch is a run of records that are in one state and were delivered equally often.
type StateBatch struct {
	First, Last   base.Offset // both belong to it
	State         State
	DeliveryCount int16
}

// Persisted is what is kept of a share partition.
type Persisted struct {
	// StateEpoch fences share partitions that have not seen the last initialization; it grows with each.
	StateEpoch int32
	// LeaderEpoch is the leader epoch of the partition under which the state was last read or written.
	LeaderEpoch base.LeaderEpoch
	// Start is the first record that is not finished, base.NoOffset as long as the group's share.auto.offset.reset has not decided.
	Start base.Offset
	// DeliveryCompleteCount is how many records from Start on are finished, -1 where nobody counted (KIP-1226).
	DeliveryCompleteCount int32
	// Batches, in order of First and without overlap. What they leave out is available and was never delivered.
	Batches []StateBatch
}

// Pending is the answer to a request that was queued.
type Pending[A any] interface {
	// Wait returns once all that the answer rests on is durable. A caller that gives up (ctx) does not undo the request.
	Wait(ctx context.Context) (A, error)
	// Done is closed once there is an answer, durable or not.
	Done() <-chan struct{}
}

// Persister keeps the state of share partitions. Each method queues its request before it returns and does not block; the requests
// for one Key are carried out in the order of the calls. The methods are safe for concurrent use and keep no reference to Batches.
//
// Errors beside those below are the coordinator's own (it is loading, it has moved, it is closed), after which a caller may try again.
type Persister interface {
	// Initialize begins a share partition, or begins it anew: its batches are forgotten. ErrFencedStateEpoch if stateEpoch is older than the
	// state's.
	Initialize(key Key, stateEpoch int32, start base.Offset) Pending[struct{}]
	// Read returns the state and fences writers of older leader epochs. ErrNotInitialized, ErrFencedLeaderEpoch.
	Read(key Key, leaderEpoch base.LeaderEpoch) Pending[Persisted]
	// Write lays w.Batches over those of the state and moves its start; batches below the start are forgotten. w.Start of NoOffset leaves
	// the start. ErrNotInitialized, ErrFencedStateEpoch, ErrFencedLeaderEpoch, ErrInvalidState.
	Write(key Key, w Persisted) Pending[struct{}]
	// Delete forgets the share partition.
	Delete(key Key) Pending[struct{}]
	// ReadSummary is Read without batches, and fences nobody.
	ReadSummary(key Key, leaderEpoch base.LeaderEpoch) Pending[Persisted]
}

// Errors of a Persister.
var (
	ErrFencedStateEpoch  = errors.New("the state epoch of the share partition is older than the persisted one")
	ErrFencedLeaderEpoch = errors.New("the leader epoch of the share partition is older than the persisted one")
	ErrNotInitialized    = errors.New("the share partition is not initialized")
	ErrUnknownPartition  = errors.New("the share partition's topic or partition is not there")
	ErrInvalidState      = errors.New("the state of the share partition is not valid")
)
