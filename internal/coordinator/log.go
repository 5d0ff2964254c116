package coordinator

import (
	"context"

	"github.com/ottlaio/ottla/internal/base"
)

// Token names a moment in the durability order of a log. Tokens of one log only grow; the zero Token is always durable.
type Token uint64

// Appended says where a batch went.
type Appended struct {
	// Base is the offset of the batch's first record.
	Base base.Offset
	// Token is durable once the batch is.
	Token Token
}

// Log is one partition of an internal topic, led here. All methods are safe for concurrent use; only the runtime appends.
type Log interface {
	// Append orders one whole batch (magic 2, base offset 0) behind all earlier ones. It copies batch. The batch is durable
	// when Wait(Token) returned nil, not when Append returns. ctx bounds the wait for space only. An error that is or wraps
	// ErrNotCoordinator says that the partition is not led here any more; any other leaves it open what the log holds.
	Append(ctx context.Context, batch []byte) (Appended, error)
	// Wait returns nil once everything up to token is durable, an error if that can no longer happen or ctx ended.
	Wait(ctx context.Context, token Token) error
	// Read returns whole batches from the one that holds from on, durable or not, about maxBytes of them but at least one;
	// nothing at the log's end, or where a range that an operator has given up reaches to it. The caller may keep the bytes.
	Read(from base.Offset, maxBytes int) ([]byte, error)
	// Offsets returns the log start offset and the log end offset.
	Offsets() (start, end base.Offset)
}

// Topic is the internal topic that a runtime drives.
type Topic interface {
	// Ensure creates the topic where it does not exist. It returns when Partitions and Log know it.
	Ensure(ctx context.Context) error
	// Partitions is the topic's number of partitions, 0 while it does not exist.
	Partitions() int32
	// Log returns a partition's log; ErrNotCoordinator where it is not led here or does not exist. It does not block.
	Log(partition int32) (Log, error)
}
