package metadata

import (
	"context"
	"fmt"
)

// Store is a small key-value store with revisions, shaped after etcd: every committed transaction takes the next
// revision, and a watch tells all revisions in order.
//
// There are two: OpenEtcd (durable, embedded in this process) and NewMemory (for tests and simulated time). Both pass one
// conformance suite. Keys are plain text without a leading slash; values are opaque bytes. All methods are safe for
// concurrent use. A slice that a Store returns is the caller's to read and nobody's to write.
type Store interface {
	// Get returns every key that begins with prefix, sorted by key, as of revision; 0 means now.
	//
	// Errors: ErrCompacted when that revision is no longer kept, ErrFutureRevision when it does not exist yet.
	Get(ctx context.Context, prefix string, revision int64) (Snapshot, error)

	// Commit applies txn in one revision if every compare holds. The change is durable when Commit returns without an error.
	// A compare that does not hold is no error: TxnResult.Succeeded is false and nothing was written.
	//
	// Errors: ErrNoSpace (nothing written, may be tried again), ErrTxnTooLarge. After any other error, a context that ended
	// among them, the transaction may or may not have been applied: read before deciding.
	Commit(ctx context.Context, txn Txn) (TxnResult, error)

	// Watch tells all changes to keys that begin with prefix, from the given revision (inclusive, at least 1) on.
	Watch(prefix string, from int64) Watch

	// Compact forgets what was overwritten or deleted before revision.
	Compact(ctx context.Context, revision int64) error

	// Failed is closed when the store can no longer be used; Err then says why. Closing a store is not a failure.
	Failed() <-chan struct{}
	// Err returns nil until Failed is closed.
	Err() error

	// Close ends all watches and releases everything; it returns when every goroutine of the store has ended.
	Close() error
}

// Watch is a stream of changes. It is for one goroutine; only Close may be called beside Next.
type Watch interface {
	// Next waits for changes and returns those of one or more whole revisions: all events of a revision come together.
	//
	// Errors: ErrCompacted when the next revision is no longer kept (read the store anew and open another watch),
	// ErrClosed after Close of the watch or of the store, the store's failure, or the cause of ctx.
	Next(ctx context.Context) (Events, error)
	// Close ends the watch; a Next that waits returns ErrClosed.
	Close()
}

// KV is a key with its value.
type KV struct {
	Key   string
	Value []byte
	// ModRevision is the revision that last wrote the key.
	ModRevision int64
}

// Snapshot is what Get found.
type Snapshot struct {
	// Revision is the revision that KVs are of.
	Revision int64
	KVs      []KV
}

// Compare is a condition: the key was last written by ModRevision, or does not exist when that is 0.
type Compare struct {
	Key         string
	ModRevision int64
}

// Op writes Value to Key, or deletes Key. A transaction names each key at most once.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// Txn is a conditional change of several keys at once.
type Txn struct {
	Compares []Compare
	Ops      []Op
	// Essential marks a transaction that frees space, or without which a broker cannot start: it is let through where others
	// get ErrNoSpace already.
	Essential bool
}

// TxnResult is the outcome of a transaction.
type TxnResult struct {
	Succeeded bool
	// Revision is the revision that the transaction wrote or, when a compare did not hold, the one it was judged at.
	Revision int64
}

// Event is one change: KV.Value is nil and KV.ModRevision the revision of the deletion when Deleted.
type Event struct {
	KV
	Deleted bool
}

// Events are the changes of one or more whole revisions, in order; Revision is the last of them.
type Events struct {
	Revision int64
	Events   []Event
}

// What one transaction may hold.
const (
	MaxTxnOps   = 4096
	MaxTxnBytes = 1 << 20 // keys and values of all ops together
)

// checkTxn refuses what no store takes.
func checkTxn(txn Txn) error {
	if len(txn.Ops) == 0 {
		return fmt.Errorf("transaction without operations")
	}
	if len(txn.Ops) > MaxTxnOps || len(txn.Compares) > MaxTxnOps {
		return fmt.Errorf("%w: %d operations, %d compares, at most %d", ErrTxnTooLarge, len(txn.Ops), len(txn.Compares), MaxTxnOps)
	}
	seen := make(map[string]struct{}, len(txn.Ops))
	size := 0
	for _, op := range txn.Ops {
		if op.Key == "" {
			return fmt.Errorf("transaction with an empty key")
		}
		if _, twice := seen[op.Key]; twice {
			return fmt.Errorf("transaction names key %q twice", op.Key)
		}
		seen[op.Key] = struct{}{}
		size += len(op.Key) + len(op.Value)
	}
	if size > MaxTxnBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTxnTooLarge, size, MaxTxnBytes)
	}
	return nil
}
