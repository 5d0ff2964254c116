package record

import (
	"errors"
	"fmt"
)

// The kinds of fault a batch can have. Every error of this package is one of them under errors.Is.
var (
	// ErrShort says that the bytes end before the batch does. Readers of a file or a tail fetch more and try again.
	ErrShort = errors.New("record batch is truncated")
	// ErrCorrupt says that the bytes are not what their writer wrote (Kafka: CORRUPT_MESSAGE, which producers retry).
	ErrCorrupt = errors.New("record batch is corrupt")
	// ErrCRC is the ErrCorrupt of a batch whose checksum does not match.
	ErrCRC = fmt.Errorf("%w: checksum mismatch", ErrCorrupt)
	// ErrInvalidRecord says that the bytes are whole but break a rule of the format or of the topic (Kafka: INVALID_RECORD).
	ErrInvalidRecord = errors.New("invalid record")
	// ErrUnsupportedMagic is the ErrInvalidRecord of a batch in another message format than magic 2.
	ErrUnsupportedMagic = fmt.Errorf("%w: magic is not 2", ErrInvalidRecord)
	// ErrInvalidTimestamp says that a record's timestamp is out of the topic's bounds (Kafka: INVALID_TIMESTAMP).
	ErrInvalidTimestamp = errors.New("invalid record timestamp")
	// ErrTooLarge says that a batch is above max.message.bytes, or its decompressed records above the limit given
	// (Kafka: MESSAGE_TOO_LARGE).
	ErrTooLarge = errors.New("record batch is too large")
	// ErrUnsupportedCodec says that the batch names a compression codec that does not exist
	// (Kafka: UNSUPPORTED_COMPRESSION_TYPE).
	ErrUnsupportedCodec = errors.New("unsupported compression codec")
)

// Error is a fault with the text that Kafka sends to the client for it.
type Error struct {
	// Kind is one of the sentinels of this package.
	Kind error
	// Message is the whole text; it does not repeat Kind.
	Message string
}

// Error returns the message alone: it is what Kafka puts into a produce response.
func (e *Error) Error() string { return e.Message }

// Unwrap returns Kind.
func (e *Error) Unwrap() error { return e.Kind }

func faultf(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// RecordError names one record that a topic's rules refuse (KIP-467).
type RecordError struct {
	// BatchIndex is the record's index in its batch, from 0.
	BatchIndex int32
	Message    string
}

// String is the text that Kafka prints for a record error.
func (e RecordError) String() string {
	return fmt.Sprintf("RecordError(batchIndex=%d, message='%s')", e.BatchIndex, e.Message)
}
