package record

import "strings"

// Attributes are the flags of a batch.
type Attributes int16

// The bits of Attributes.
const (
	codecMask         Attributes = 0x07
	flagLogAppendTime Attributes = 0x08
	flagTransactional Attributes = 0x10
	flagControl       Attributes = 0x20
	flagDeleteHorizon Attributes = 0x40
	// clientMask are the bits that a client may set.
	clientMask = codecMask | flagLogAppendTime | flagTransactional | flagControl
)

// Codec is how the records are compressed. It may be none of the known ones, see Codec.Known.
func (a Attributes) Codec() Codec { return Codec(a & codecMask) }

// LogAppendTime reports that all records carry the time of the append, Header.MaxTimestamp, not their own (KIP-32).
func (a Attributes) LogAppendTime() bool { return a&flagLogAppendTime != 0 }

// Transactional reports that the batch belongs to a transaction (KIP-98).
func (a Attributes) Transactional() bool { return a&flagTransactional != 0 }

// Control reports that the batch holds control records, which consumers do not see (KIP-98).
func (a Attributes) Control() bool { return a&flagControl != 0 }

// DeleteHorizon reports that BaseTimestamp is when compaction may drop the batch's tombstones (KIP-534).
func (a Attributes) DeleteHorizon() bool { return a&flagDeleteHorizon != 0 }

// String lists what is set, "zstd|transactional".
func (a Attributes) String() string {
	words := []string{a.Codec().String()}
	for _, f := range []struct {
		set  bool
		name string
	}{
		{a.LogAppendTime(), "log-append-time"},
		{a.Transactional(), "transactional"},
		{a.Control(), "control"},
		{a.DeleteHorizon(), "delete-horizon"},
	} {
		if f.set {
			words = append(words, f.name)
		}
	}
	return strings.Join(words, "|")
}
