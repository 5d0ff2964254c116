package metadata

import (
	"errors"
	"fmt"
)

// What an admin call may be refused with. Errors that answer a client are of type *Error and unwrap to one of these.
var (
	ErrInvalidTopicName         = errors.New("invalid topic name")         // INVALID_TOPIC_EXCEPTION
	ErrTopicExists              = errors.New("topic exists")               // TOPIC_ALREADY_EXISTS
	ErrUnknownTopic             = errors.New("unknown topic")              // UNKNOWN_TOPIC_OR_PARTITION
	ErrUnknownTopicID           = errors.New("unknown topic id")           // UNKNOWN_TOPIC_ID
	ErrInvalidPartitions        = errors.New("invalid partitions")         // INVALID_PARTITIONS
	ErrInvalidReplicationFactor = errors.New("invalid replication factor") // INVALID_REPLICATION_FACTOR
	ErrInvalidReplicaAssignment = errors.New("invalid replica assignment") // INVALID_REPLICA_ASSIGNMENT
	ErrInvalidRequest           = errors.New("invalid request")            // INVALID_REQUEST
	ErrUnknownBroker            = errors.New("unknown broker")             // BROKER_ID_NOT_REGISTERED
	ErrPolicyViolation          = errors.New("policy violation")           // POLICY_VIOLATION
	ErrInvalidFeature           = errors.New("invalid feature update")     // INVALID_UPDATE_VERSION
)

// What goes wrong in the store.
var (
	// ErrNoSpace means that the disk (or the store's quota) is too full to write metadata. Nothing was changed; it heals
	// once there is room.
	ErrNoSpace = errors.New("too little disk space to write metadata")
	// ErrTimeout means that the store did not answer in time, as when the disk stalls. The change may or may not have been made.
	ErrTimeout = errors.New("metadata store did not answer in time")
	// ErrFailed means that the store or the image is lost until the next start; the cause is wrapped.
	ErrFailed = errors.New("metadata failed")
	// ErrClosed means that the store or the watch was closed.
	ErrClosed = errors.New("metadata closed")
	// ErrCompacted means that a revision is no longer kept.
	ErrCompacted = errors.New("revision compacted")
	// ErrFutureRevision means that a revision does not exist yet.
	ErrFutureRevision = errors.New("revision not reached yet")
	// ErrTxnTooLarge means that a transaction exceeds MaxTxnOps or MaxTxnBytes.
	ErrTxnTooLarge = errors.New("transaction too large")
	// ErrConflict means that others kept changing the same keys; it may be tried again.
	ErrConflict = errors.New("metadata changed concurrently")
	// ErrDamaged means that a stored value is not what was written; always as a *DamageError.
	ErrDamaged = errors.New("damaged metadata")
	// ErrUnknownFormat means that the store was written by a newer release.
	ErrUnknownFormat = errors.New("unknown metadata format")
	// ErrClusterID means that the store belongs to another cluster than the caller expected.
	ErrClusterID = errors.New("cluster id differs")
)

// Error is a refusal with the text that Kafka sends for it.
type Error struct {
	// Kind is one of the sentinel errors of this package; it decides the protocol's error code.
	Kind error
	// Message is the protocol's error message; empty means that only the code's own text is sent (a null message).
	Message string
}

// Error is the message, or the kind where there is none.
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Kind.Error()
	}
	return e.Message
}

// Unwrap gives the kind to errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

func refuse(kind error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// DamageError names a key whose value cannot be trusted.
type DamageError struct {
	Key    string
	Reason string
}

// Error names the key and what is wrong with its value.
func (e *DamageError) Error() string {
	return fmt.Sprintf("%v: key %q: %s", ErrDamaged, e.Key, e.Reason)
}

// Unwrap makes every DamageError an ErrDamaged.
func (e *DamageError) Unwrap() error { return ErrDamaged }
