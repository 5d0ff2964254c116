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

// parseAbortedTxn reads one entry of the known version.
func parseAbortedTxn(b []byte) AbortedTxn {
	return AbortedTxn{
		ProducerID:  base.ProducerID(binary.BigEndian.Uint64(b[2:])),
		FirstOffset: base.Offset(binary.BigEndian.Uint64(b[10:])),
		LastOffset:  base.Offset(binary.BigEndian.Uint64(b[18:])),
		LastStable:  base.Offset(binary.BigEndian.Uint64(b[26:])),
	}
}

// abortedPage is how many entries Aborted reads at a time.
const abortedPage = 32

// Aborted calls yield for the transactions that were aborted by a marker at from or later, in the order of their markers, until it
// returns false.
//
// Errors: *DamageError, and the system's when the file cannot be opened.
func (s *Segment) Aborted(from base.Offset, yield func(AbortedTxn) bool) error {
	if s.Current().TxnIndex.Entries == 0 {
		return nil
	}
	v, err := s.txn.view()
	if err != nil {
		return err
	}
	i, err := v.after(int64(from) - 1)
	if err != nil {
		return err
	}
	var b [abortedPage * AbortedTxnSize]byte
	for end := v.entries(); i < end; {
		n := min(abortedPage, end-i)
		if err := v.get(b[:], i, i+n); err != nil {
			return err
		}
		for j := range n {
			if !yield(parseAbortedTxn(b[j*AbortedTxnSize:])) {
				return nil
			}
		}
		i += n
	}
	return nil
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
		a := parseAbortedTxn(b)
		if n := len(entries); a.FirstOffset < 0 || a.LastOffset < a.FirstOffset || n > 0 && a.LastOffset <= entries[n-1].LastOffset {
			return nil, fmt.Errorf("%w: entry %d is %+v", errTxnIndex, n, a)
		}
		entries = append(entries, a)
	}
	return entries, nil
}
