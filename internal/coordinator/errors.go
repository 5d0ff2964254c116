package coordinator

import "errors"

// What a request can meet before it reaches a state machine. Each is retriable for the client.
var (
	// ErrNotCoordinator: the partition is not led here, or its state was given up (NOT_COORDINATOR).
	ErrNotCoordinator = errors.New("not the coordinator")
	// ErrLoading: the partition's state is still being read from its log (COORDINATOR_LOAD_IN_PROGRESS).
	ErrLoading = errors.New("coordinator load in progress")
	// ErrUnavailable: the partition cannot take the request now: it could not be loaded, its records could not be
	// written, or its queue is full (COORDINATOR_NOT_AVAILABLE).
	ErrUnavailable = errors.New("coordinator not available")
	// ErrClosed: the runtime was closed (COORDINATOR_NOT_AVAILABLE).
	ErrClosed = errors.New("coordinator closed")
)

// ErrUnknownRecord is what Machine.Replay returns for a record of a type that it does not know. It is skipped while loading.
var ErrUnknownRecord = errors.New("unknown record type")
