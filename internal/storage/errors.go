package storage

import (
	"errors"
	"fmt"
)

// The sentinels of the engine. They come wrapped with the partition they speak of; compare with errors.Is.
var (
	// ErrOffsetOutOfRange: the offset asked for is below the log start or above the end that the reader may see.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrOutOfOrderSequence: a batch of an idempotent producer leaves a gap in its sequence numbers (KIP-98).
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrInvalidProducerEpoch: the batch carries an older epoch than the partition knows of its producer (KIP-98).
	ErrInvalidProducerEpoch = errors.New("invalid producer epoch")
	// ErrInvalidTxnState: the batch is of no transaction that is known to be open, or is outside the one that is (KIP-98, KIP-890).
	ErrInvalidTxnState = errors.New("invalid transaction state")
	// ErrCoordinatorFenced: the marker is of a transaction coordinator that another one has followed (KIP-98).
	ErrCoordinatorFenced = errors.New("transaction coordinator fenced")
	// ErrNoSpace: no room in the wal, in the tail's budget or on the disk. Nothing has changed; the append may be retried.
	ErrNoSpace = errors.New("no space for the append")
	// ErrFailed: a write or a sync has failed, and the engine has given up its state. See Engine.Err.
	ErrFailed = errors.New("storage failed")
	// ErrClosed: the engine is closing or closed.
	ErrClosed = errors.New("storage closed")
	// ErrDeleted: the partition was deleted.
	ErrDeleted = errors.New("partition deleted")
	// ErrExists: Create was called with the id of a partition that exists.
	ErrExists = errors.New("partition exists")
	// ErrStaleLeaderEpoch: the caller expected another leader epoch than the partition's.
	ErrStaleLeaderEpoch = errors.New("stale leader epoch")
	// ErrDamage is wrapped by every DamageError.
	ErrDamage = errors.New("damaged data")
)

// DamageError is returned by reads that touch a damaged range. Reads of other ranges, and appends, go on.
type DamageError struct{ Damage }

// Error names file, partition and offsets.
func (e *DamageError) Error() string {
	return fmt.Sprintf("damaged data: %s (%s-%d) offsets %d..%d in %s at %d: %s",
		e.Topic, e.Partition.ID, e.Partition.Partition, e.FirstOffset, e.LastOffset, e.File, e.Pos, e.Reason)
}

// Unwrap is ErrDamage.
func (e *DamageError) Unwrap() error { return ErrDamage }
