package config

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ShareGroup holds the settings of a share group that decide how it gets records: its own, held within the broker's bounds of now, or else
// the broker's.
type ShareGroup struct {
	RecordLockDuration time.Duration  // share.record.lock.duration.ms
	DeliveryCountLimit int16          // share.delivery.count.limit
	MaxRecordLocks     int64          // share.partition.max.record.locks
	RenewAcknowledge   bool           // share.renew.acknowledge.enable
	ReadCommitted      bool           // share.isolation.level
	AutoOffsetReset    ShareGroupFrom // share.auto.offset.reset
}

// ShareGroupFrom says where a share group begins: at the earliest record, or else at the latest, or by duration at those that are not
// older.
type ShareGroupFrom struct {
	Earliest   bool
	ByDuration bool
	Age        time.Duration
}

// ResolveShareGroup returns the settings of a share group, of which group holds those that are its own.
func ResolveShareGroup(group map[string]string, broker *Broker) ShareGroup {
	text := func(name string) string {
		if own, ok := group[name]; ok && GroupDef(name).Parse(own) == nil {
			return trim(own)
		}
		return GroupDef(name).Default
	}
	return ShareGroup{
		RecordLockDuration: GroupMillis(group, broker, "share.record.lock.duration.ms"),
		DeliveryCountLimit: int16(GroupInt(group, broker, "share.delivery.count.limit")),
		MaxRecordLocks:     GroupInt(group, broker, "share.partition.max.record.locks"),
		RenewAcknowledge:   strings.EqualFold(text("share.renew.acknowledge.enable"), "true"),
		ReadCommitted:      text("share.isolation.level") == "read_committed",
		AutoOffsetReset:    shareGroupFrom(text("share.auto.offset.reset")),
	}
}

var isoDurationParts = regexp.MustCompile(`(?i)^by_duration:P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:[.,](\d{0,9}))?S)?)?$`)

// shareGroupFrom reads a value of share.auto.offset.reset that is valid.
func shareGroupFrom(text string) ShareGroupFrom {
	parts := isoDurationParts.FindStringSubmatch(text)
	if parts == nil {
		return ShareGroupFrom{Earliest: text == "earliest"}
	}
	from := ShareGroupFrom{ByDuration: true}
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		n, err := strconv.ParseInt("0"+parts[i+1], 10, 64)
		if err != nil || n > int64(maxAge/unit) {
			n = int64(maxAge / unit)
		}
		from.Age = min(from.Age+time.Duration(n)*unit, maxAge)
	}
	nanos, _ := strconv.Atoi((parts[5] + "000000000")[:9])
	from.Age = min(from.Age+time.Duration(nanos), maxAge)
	return from
}

// maxAge is older than every record, and far enough from the end of time.Duration to add to it.
const maxAge = 100 * 365 * 24 * time.Hour
