package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// damaged reports whether a part of a partition cannot be read: its leader serves it, and says that its own replica is offline.
func damaged(p kadm.PartitionDetail) bool {
	return p.Leader >= 0 && slices.Contains(p.OfflineReplicas, p.Leader)
}

// damageAt is the error of a reader that the broker refuses the records at offset for damage, and says where to go on.
func (r *consuming) damageAt(ctx context.Context, topic kadm.TopicDetail, partition int32, offset int64) error {
	e := &Error{
		Message: fmt.Sprintf("partition %d of %s cannot be read at offset %d: the broker finds its data damaged, or cannot read its disk (%s)",
			partition, topic.Topic, offset, kerr.KafkaStorageError.Message),
		Next: "the broker's log names the file (\"damaged data\"); what has been written out before is good",
	}
	behind, ok := r.readableAfter(ctx, topic, partition, offset)
	if !ok {
		return e
	}
	e.Next += fmt.Sprintf("; go on behind the damage with `ottla consume %s --partition %d --offset %d`", topic.Topic, partition, behind)
	if r.o.Group != "" {
		e.Next += fmt.Sprintf(", or move the group there with `ottla group reset %s --topic %s:%d --to-offset %d --execute`", r.o.Group, topic.Topic, partition, behind)
	}
	return e
}

// readableAfter looks for the first offset behind a damaged one that can be read, in steps that double, and then by halving the last
// step. ok is false if nothing up to the end can.
func (r *consuming) readableAfter(ctx context.Context, topic kadm.TopicDetail, partition int32, offset int64) (behind int64, ok bool) {
	end := r.within[topic.Topic][partition].end
	if r.end != nil {
		end = max(end, r.end[topic.Topic][partition])
	}
	readable := func(at int64) (bool, error) {
		_, _, err := r.fetchOnce(ctx, topic, partition, at, 1, kgo.ReadUncommitted())
		if errors.Is(err, kerr.KafkaStorageError) {
			return false, nil
		}
		return err == nil, err
	}
	bad, good := offset, offset
	for step := int64(1); ; step *= 2 {
		if good = min(bad+step, end); good <= bad {
			return 0, false
		}
		fine, err := readable(good)
		if err != nil {
			return 0, false
		}
		if fine {
			break
		}
		bad = good
	}
	for good-bad > 1 {
		middle := bad + (good-bad)/2
		fine, err := readable(middle)
		if err != nil {
			return 0, false
		}
		if fine {
			good = middle
		} else {
			bad = middle
		}
	}
	return good, true
}
