package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Limits of a consumer.
const (
	outputBuffer = 128 << 10
	// stallCheck is how long a reader waits for records that should be there before it looks why they do not come.
	stallCheck = time.Second
	// damageCheck is how often a reader without an end asks whether a partition that it reads is damaged: that one may stand still
	// unnoticed while others go on.
	damageCheck = 5 * time.Second
	// joinPoll is how often a group member looks whether it was given partitions.
	joinPoll = 50 * time.Millisecond
	// goodbyeTimeout bounds the last commit and the leaving of a group.
	goodbyeTimeout = 10 * time.Second
)

// Consume are the options of `consume`.
type Consume struct {
	Topics     []string
	Partitions []int32 // none: all
	Group      string  // "": no group; nothing is committed
	Offset     string  // a Place to begin at, in a group only where nothing is committed; default earliest
	Until      string  // a Place to stop at; default: the end as it is when the verb begins, or never with Follow
	Count      int64   // records to write in all; 0: no limit
	Follow     bool    // go on at the end
	Isolation  string  // read_committed (default) or read_uncommitted
	Print      Print
}

// consuming is one run of Consume.
type consuming struct {
	*Client
	o         Consume
	client    *kgo.Client
	isolation kgo.IsolationLevel
	within    partitionBounds // of the chosen partitions, as they were at the beginning
	begin     offsets
	end       offsets // nil: never stop
	out       *output
	format    formatter
	written   int64

	mu       sync.Mutex // guards the fields below; group callbacks write them
	position offsets    // of the partitions that are being read
	joined   bool       // partitions were assigned at least once, or there is no group
	adjusted bool       // and their positions are known
}

// Consume writes records. Without Follow it ends when every partition was read up to where it ended when Consume began.
func (c *Client) Consume(ctx context.Context, o Consume) error {
	r := &consuming{Client: c, o: o, position: offsets{}}
	var err error
	if r.format, err = o.Print.formatter(); err != nil {
		return err
	}
	switch cmp.Or(o.Isolation, c.props.values["isolation.level"], "read_committed") {
	case "read_committed":
		r.isolation = kgo.ReadCommitted()
	case "read_uncommitted":
		r.isolation = kgo.ReadUncommitted()
	default:
		return &Error{Message: fmt.Sprintf("--isolation %q is unknown", o.Isolation), Next: "it is read_committed or read_uncommitted"}
	}
	if o.Group != "" && len(o.Partitions) > 0 {
		return &Error{Message: "--group and --partition do not go together", Next: "the group decides which partitions its members read"}
	}
	if err := r.plan(ctx); err != nil {
		return err
	}
	r.out = &output{w: c.Out}
	if o.Group == "" {
		err = r.readPartitions(ctx)
	} else {
		err = r.readGroup(ctx)
	}
	switch {
	case errors.Is(err, syscall.EPIPE):
		return nil // whoever reads our output has seen enough
	case lost(ctx) != nil:
		return lost(ctx)
	case ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
		if o.Follow {
			return nil // there is no other way to end it
		}
		return ErrInterrupted
	}
	return err
}

// plan finds out where to begin and where to stop.
func (r *consuming) plan(ctx context.Context) error {
	asking, done := r.bounded(ctx)
	defer done()
	now := time.Now()
	from, err := ParsePlace(cmp.Or(r.o.Offset, "earliest"), now)
	if err != nil {
		return err
	}
	for _, name := range r.o.Topics {
		topic, err := r.topic(asking, name)
		if err != nil {
			return err
		}
		for _, p := range r.o.Partitions {
			if _, ok := topic.Partitions[p]; !ok {
				return &Error{Message: fmt.Sprintf("%s has no partition %d, only 0 to %d", name, p, len(topic.Partitions)-1)}
			}
		}
	}
	if r.within, err = r.bounds(asking, r.isolation == kgo.ReadCommitted(), r.o.Topics...); err != nil {
		return err
	}
	if len(r.o.Partitions) > 0 {
		for _, partitions := range r.within {
			for p := range partitions {
				if !slices.Contains(r.o.Partitions, p) {
					delete(partitions, p)
				}
			}
		}
	}
	if r.begin, err = r.resolve(asking, from, r.within); err != nil {
		return err
	}
	if r.o.Until != "" || !r.o.Follow {
		until, err := ParsePlace(cmp.Or(r.o.Until, "latest"), now)
		if err != nil {
			return err
		}
		if r.end, err = r.resolve(asking, until, r.within); err != nil {
			return err
		}
	}
	r.clamp()
	return nil
}

// clamp moves a beginning that was given as a number, and is outside of the partition, to its nearest bound, and says so.
func (r *consuming) clamp() {
	for _, topic := range r.o.Topics {
		for partition, offset := range r.begin[topic] {
			switch b := r.within[topic][partition]; {
			case offset < b.start:
				fmt.Fprintf(r.Err, "ottla: partition %d of %s begins at offset %d now; what was before is deleted\n", partition, topic, b.start)
				r.begin.set(topic, partition, b.start)
			case offset > b.end:
				fmt.Fprintf(r.Err, "ottla: partition %d of %s ends at offset %d, before %d\n", partition, topic, b.end, offset)
				r.begin.set(topic, partition, b.end)
			}
		}
	}
}

// readPartitions reads without a group.
func (r *consuming) readPartitions(ctx context.Context) error {
	starts := map[string]map[int32]kgo.Offset{}
	for topic, partitions := range r.begin {
		starts[topic] = map[int32]kgo.Offset{}
		for partition, offset := range partitions {
			if r.end != nil && offset >= r.end[topic][partition] {
				continue
			}
			starts[topic][partition] = kgo.NewOffset().At(offset)
			r.position.set(topic, partition, offset)
		}
	}
	r.joined, r.adjusted = true, true
	if r.finished() {
		return nil
	}
	var err error
	r.client, err = r.another(append(r.fetchOptions(), kgo.ConsumePartitions(starts), kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return err
	}
	defer r.client.Close()
	return r.loop(ctx, func() error { return r.out.flush() })
}

func (r *consuming) fetchOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.FetchIsolationLevel(r.isolation),
		// Their offsets count as read, so that the end of a partition is found that ends with one.
		kgo.KeepControlRecords(),
	}
}

// loop polls and writes until everything is read, ctx ends, or something fails. settle is called when what was written so far is to be
// made certain: when no more is at hand, after every poll in a group, and at the end.
func (r *consuming) loop(ctx context.Context, settle func() error) error {
	grouped := r.o.Group != ""
	looked := time.Now()
	for !r.finished() {
		polling, done := context.WithTimeout(ctx, r.patience())
		fetches := r.client.PollFetches(polling)
		done()
		if ctx.Err() != nil {
			break
		}
		if err := r.fetchError(fetches); err != nil {
			return errors.Join(err, settle())
		}
		read := 0
		var failed error
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			read += len(p.Records)
			if failed == nil {
				failed = r.write(p)
			}
		})
		if failed != nil {
			return failed
		}
		if grouped || r.client.BufferedFetchRecords() == 0 {
			if err := settle(); err != nil {
				return err
			}
		}
		if grouped {
			r.client.AllowRebalance()
		}
		if read == 0 && r.end != nil || time.Since(looked) > damageCheck {
			if err := r.lookAhead(ctx); err != nil {
				return err
			}
			looked = time.Now()
		}
	}
	return settle()
}

// patience is how long a poll may wait for records.
func (r *consuming) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.joined || !r.adjusted {
		return joinPoll
	}
	return stallCheck
}

// finished says whether all is written that is to be.
func (r *consuming) finished() bool {
	if r.o.Count > 0 && r.written >= r.o.Count {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == nil || !r.joined || !r.adjusted {
		return false
	}
	for topic, partitions := range r.position {
		for partition, offset := range partitions {
			if offset < r.end[topic][partition] {
				return false
			}
		}
	}
	return true
}

// write writes the records of one partition and moves its position.
func (r *consuming) write(p kgo.FetchTopicPartition) error {
	r.mu.Lock()
	position, ok := r.position[p.Topic][p.Partition]
	r.mu.Unlock()
	if !ok {
		return nil // it was taken from us
	}
	end, bounded := r.end[p.Topic][p.Partition]
	var last *kgo.Record
	for _, record := range p.Records {
		if bounded && record.Offset >= end {
			position = max(position, end)
			break
		}
		if !record.Attrs.IsControl() {
			if r.o.Count > 0 && r.written >= r.o.Count {
				break
			}
			r.written++
			if err := r.out.record(r.format, record); err != nil {
				return err
			}
		}
		last, position = record, record.Offset+1
	}
	if last != nil {
		r.out.mark(last)
	}
	r.moveTo(p.Topic, p.Partition, position)
	if bounded && position >= end && r.o.Group == "" {
		r.client.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
	}
	return nil
}

func (r *consuming) moveTo(topic string, partition int32, offset int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.position[topic][partition]; ok {
		r.position[topic][partition] = offset
	}
}

// fetchError returns the first error of fetches that waiting does not heal.
func (r *consuming) fetchError(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		switch {
		case errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled):
			continue // of the poll
		case errors.Is(e.Err, kerr.OffsetOutOfRange):
			return &Error{Message: fmt.Sprintf("partition %d of %s no longer has the records that were to be read next: they were deleted meanwhile", e.Partition, e.Topic),
				Next: "begin again with --offset earliest, and see retention.ms and retention.bytes of the topic"}
		case e.Topic == "":
			return e.Err
		}
		var loss *kgo.ErrDataLoss
		if errors.As(e.Err, &loss) {
			fmt.Fprintf(r.Err, "ottla: %v\n", e.Err)
			continue
		}
		if kerr.IsRetriable(e.Err) && !errors.Is(e.Err, kerr.UnknownTopicOrPartition) {
			continue
		}
		return refused(fmt.Sprintf("partition %d of %s", e.Partition, e.Topic), e.Err, "")
	}
	return nil
}

// lookAhead finds out why no records come: it moves positions over offsets at which there is nothing to consume, which compaction and
// aborted transactions leave, and returns an error where a partition is damaged. The client library tries that again for ever.
func (r *consuming) lookAhead(ctx context.Context) error {
	for topic, partitions := range r.unread() {
		asking, done := r.bounded(ctx)
		detail, err := r.topic(asking, topic)
		for partition, offset := range partitions {
			if err != nil {
				break
			}
			if r.end == nil && !damaged(detail.Partitions[partition]) {
				continue // it has simply been read to where it ends now
			}
			var fetched kgo.FetchPartition
			var next int64
			fetched, next, err = r.fetchOnce(asking, detail, partition, offset, 1<<20, r.isolation)
			switch {
			case errors.Is(err, kerr.KafkaStorageError):
				err = r.damageAt(asking, detail, partition, offset)
			case err == nil && len(fetched.Records) == 0:
				r.moveTo(topic, partition, next)
			}
		}
		done()
		if err != nil && ctx.Err() == nil && !kerr.IsRetriable(err) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
	return nil
}

// unread returns the positions of the partitions that are not read to their end.
func (r *consuming) unread() offsets {
	r.mu.Lock()
	defer r.mu.Unlock()
	unread := offsets{}
	if !r.adjusted {
		return unread
	}
	for topic, partitions := range r.position {
		for partition, offset := range partitions {
			if r.end == nil || offset < r.end[topic][partition] {
				unread.set(topic, partition, offset)
			}
		}
	}
	return unread
}
