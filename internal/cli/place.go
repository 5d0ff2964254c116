package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Place is an offset as a user gives it; what it means depends on the partition.
type Place struct {
	kind placeKind
	n    int64 // the offset, the number of records before the end, or Unix milliseconds
}

type placeKind int8

const (
	placeEarliest placeKind = iota
	placeLatest
	placeOffset
	placeLast
	placeTime
)

const placeForms = "earliest, latest, an offset, -N for the last N records of each partition, or @TIME: " +
	"2026-01-31, 2026-01-31T09:30:00Z, Unix milliseconds, or an age such as -10m"

// ParsePlace reads earliest, latest, N, -N, @TIME. Ages count back from now.
func ParsePlace(s string, now time.Time) (Place, error) {
	switch s {
	case "earliest", "beginning", "start", "oldest":
		return Place{kind: placeEarliest}, nil
	case "latest", "end", "newest":
		return Place{kind: placeLatest}, nil
	case "now":
		return Place{kind: placeTime, n: now.UnixMilli()}, nil
	}
	if when, ok := strings.CutPrefix(s, "@"); ok {
		return parseTime(when, now)
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > math.MinInt64 {
		if n < 0 || strings.HasPrefix(s, "-") {
			return Place{kind: placeLast, n: -n}, nil
		}
		return Place{kind: placeOffset, n: n}, nil
	}
	if strings.HasPrefix(s, "-") {
		return parseTime(s, now)
	}
	return Place{}, &Error{Message: fmt.Sprintf("%q is not an offset", s), Next: "it is one of " + placeForms}
}

func parseTime(s string, now time.Time) (Place, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return Place{kind: placeTime, n: n}, nil
	}
	if s == "now" {
		return Place{kind: placeTime, n: now.UnixMilli()}, nil
	}
	if age, ok := strings.CutPrefix(s, "-"); ok {
		if d, err := parseAge(age); err == nil {
			return Place{kind: placeTime, n: now.Add(-d).UnixMilli()}, nil
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		// A time without a zone is the user's own.
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return Place{kind: placeTime, n: t.UnixMilli()}, nil
		}
	}
	return Place{}, &Error{Message: fmt.Sprintf("%q is not a time", s), Next: "it is one of " + placeForms}
}

// parseAge reads a Go duration, or days: 7d, 1d12h.
func parseAge(s string) (time.Duration, error) {
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseFloat(days, 64)
	if err != nil || n < 0 || n > 1e5 {
		return 0, fmt.Errorf("%q is not a number of days", days)
	}
	d := time.Duration(n * float64(24*time.Hour))
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	return d + more, err
}

// bounds are the first offset of a partition and the end: the offset of the next record to come.
type bounds struct{ start, end int64 }

// offsets holds a number for each partition of some topics.
type offsets map[string]map[int32]int64

func (o offsets) set(topic string, partition int32, offset int64) {
	if o[topic] == nil {
		o[topic] = map[int32]int64{}
	}
	o[topic][partition] = offset
}

// partitionBounds are the bounds of each partition of some topics.
type partitionBounds map[string]map[int32]bounds

// bounds asks for the bounds of every partition of the topics. With committed, the end is that of the last open transaction.
func (c *Client) bounds(ctx context.Context, committed bool, names ...string) (partitionBounds, error) {
	starts, err := c.admin.ListStartOffsets(ctx, names...)
	if err != nil {
		return nil, err
	}
	listEnds := c.admin.ListEndOffsets
	if committed {
		listEnds = c.admin.ListCommittedOffsets
	}
	ends, err := listEnds(ctx, names...)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(starts.Error(), ends.Error()); err != nil {
		return nil, err
	}
	all := partitionBounds{}
	ends.Each(func(end kadm.ListedOffset) {
		if all[end.Topic] == nil {
			all[end.Topic] = map[int32]bounds{}
		}
		start := starts[end.Topic][end.Partition].Offset
		all[end.Topic][end.Partition] = bounds{start: start, end: max(start, end.Offset)}
	})
	return all, nil
}

// resolve turns a place into an offset for each partition, within the partition's bounds, except that an offset is left as it was given.
func (c *Client) resolve(ctx context.Context, place Place, within partitionBounds) (offsets, error) {
	var byTime kadm.ListedOffsets
	if place.kind == placeTime {
		names := make([]string, 0, len(within))
		for name := range within {
			names = append(names, name)
		}
		var err error
		if byTime, err = c.admin.ListOffsetsAfterMilli(ctx, place.n, names...); err != nil {
			return nil, err
		}
	}
	resolved := offsets{}
	for topic, partitions := range within {
		for partition, b := range partitions {
			offset := b.start
			switch place.kind {
			case placeEarliest:
			case placeLatest:
				offset = b.end
			case placeOffset:
				offset = place.n
			case placeLast:
				offset = max(b.start, b.end-place.n)
			case placeTime:
				listed := byTime[topic][partition]
				if listed.Err != nil {
					return nil, refused(fmt.Sprintf("partition %d of topic %s", partition, topic), listed.Err, "")
				}
				offset = min(max(b.start, listed.Offset), b.end)
			}
			resolved.set(topic, partition, offset)
		}
	}
	return resolved, nil
}
