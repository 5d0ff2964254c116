package segment

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ottlaio/ottla/internal/base"
)

// AbortedTxn is an entry of .txnindex: a transaction that was aborted (Kafka's AbortedTxn, version 0).
type AbortedTxn struct {
	ProducerID  base.ProducerID
	FirstOffset base.Offset // of its first record
	LastOffset  base.Offset // of its abort marker
	LastStable  base.Offset // last stable offset once it was aborted
}

// AbortedTxnSize is the length of an entry in bytes.
const AbortedTxnSize = 34

var errTxnIndex = errors.New("transaction index is not valid")

// AppendTo appends the entry's bytes.
func (a AbortedTxn) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, 0) // version
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.ProducerID))
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.FirstOffset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.LastOffset))
	return binary.BigEndian.AppendUint64(dst, uint64(a.LastStable))
}

// ParseAbortedTxns reads a whole .txnindex.
func ParseAbortedTxns(b []byte) ([]AbortedTxn, error) {
	if len(b)%AbortedTxnSize != 0 {
		return nil, fmt.Errorf("%w: %d bytes are no whole entries", errTxnIndex, len(b))
	}
	entries := make([]AbortedTxn, 0, len(b)/AbortedTxnSize)
	for ; len(b) > 0; b = b[AbortedTxnSize:] {
		if v := binary.BigEndian.Uint16(b); v != 0 {
			return nil, fmt.Errorf("%w: entry %d has version %d", errTxnIndex, len(entries), v)
		}
		a := AbortedTxn{
			ProducerID:  base.ProducerID(binary.BigEndian.Uint64(b[2:])),
			FirstOffset: base.Offset(binary.BigEndian.Uint64(b[10:])),
			LastOffset:  base.Offset(binary.BigEndian.Uint64(b[18:])),
			LastStable:  base.Offset(binary.BigEndian.Uint64(b[26:])),
		}
		if n := len(entries); a.FirstOffset < 0 || a.LastOffset < a.FirstOffset || n > 0 && a.LastOffset <= entries[n-1].LastOffset {
			return nil, fmt.Errorf("%w: entry %d is %+v", errTxnIndex, n, a)
		}
		entries = append(entries, a)
	}
	return entries, nil
}
