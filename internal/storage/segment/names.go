package segment

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors/oserror"

	"github.com/ottlaio/ottla/internal/base"
)

// Suffixes of a segment's files; all but the sidecar's are Kafka's.
const (
	logSuffix       = ".log"
	indexSuffix     = ".index"
	timeIndexSuffix = ".timeindex"
	txnIndexSuffix  = ".txnindex"
	snapshotSuffix  = ".snapshot"
	sidecarSuffix   = ".crc"
)

// placePrefix begins the names of folders inside a partition's that hold segments too.
const placePrefix = "compacted-"

// PlaceFolder is the name of the folder of a place above 0, inside the partition's.
func PlaceFolder(place uint8) string { return placePrefix + strconv.Itoa(int(place)) }

// ParsePlaceFolder reads what PlaceFolder makes. ok is false for any other name.
func ParsePlaceFolder(name string) (place uint8, ok bool) {
	number, ok := strings.CutPrefix(name, placePrefix)
	n, err := strconv.ParseUint(number, 10, 8)
	return uint8(n), ok && err == nil && n > 0 && PlaceFolder(uint8(n)) == name
}

// FileName returns the name of the file of the segment with the given base offset: the offset in 20 digits and the suffix.
func FileName(baseOffset base.Offset, suffix string) string {
	return fmt.Sprintf("%020d%s", baseOffset, suffix)
}

// ParseFileName splits a name as FileName makes it. ok is false for any other, and for suffixes that no segment file has.
func ParseFileName(name string) (baseOffset base.Offset, suffix string, ok bool) {
	if len(name) <= 20 {
		return 0, "", false
	}
	digits, suffix := name[:20], name[20:]
	switch suffix {
	case logSuffix, indexSuffix, timeIndexSuffix, txnIndexSuffix, snapshotSuffix, sidecarSuffix:
	default:
		return 0, "", false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strings.ContainsAny(digits, "+-") {
		return 0, "", false
	}
	return base.Offset(n), suffix, true
}

func isNotExist(err error) bool { return oserror.IsNotExist(err) }
