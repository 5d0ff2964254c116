package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/record"
)

// What a consumer asks for, as Kafka's own consumer does unless it is configured.
const (
	fetchMaxBytes          = 50 << 20
	fetchPartitionMaxBytes = 1 << 20
	fetchMaxWait           = 500 * time.Millisecond
)

// commitEvery is how often a consumer with a group commits its offsets.
const commitEvery = time.Second

// errEnough ends a load that has read what it was to read.
var errEnough = errors.New("enough was read")

// Consume is a load of consumers that read every partition.
type Consume struct {
	Partitions  []Partition
	From        map[Partition]int64 // the first offset; 0 where it is not named
	Connections int
	// MinBytes (of batches) are read before the load ends; 0 reads until ctx ends, which is then no error.
	MinBytes int64
	// Group, if it is set, has the offsets committed to it once a second.
	Group string

	// Committed reads what transactions have committed, and nothing before that (isolation.level=read_committed).
	Committed bool

	// received is told of each batch when its answer has been read.
	received func(p Partition, h record.Header, at time.Time)
}

// Consumed is what consumers got.
type Consumed struct {
	Bytes int64 // of batches
	Took  time.Duration
}

// MBps is in 10⁶ bytes per second.
func (c Consumed) MBps() float64 { return float64(c.Bytes) / 1e6 / c.Took.Seconds() }

// Run reads until there is enough. The first error ends it.
func (l Consume) Run(ctx context.Context, addr string) (Consumed, error) {
	if l.Group != "" {
		if err := waitCoordinator(ctx, addr, groupCoordinator, l.Group); err != nil {
			return Consumed{}, err
		}
	}
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var total atomic.Int64
	begin := time.Now()
	for number := range min(l.Connections, len(l.Partitions)) {
		wg.Go(func() {
			// The first connection that sees enough ends the others, which may be waiting at the end of their partitions.
			if err := l.connection(running, addr, number, &total); err != nil {
				cancel(err)
			} else {
				cancel(errEnough)
			}
		})
	}
	<-running.Done()
	got := Consumed{Took: time.Since(begin)}
	wg.Wait()
	got.Bytes = total.Load()
	if err := context.Cause(running); !errors.Is(err, errEnough) && (l.MinBytes > 0 || ctx.Err() == nil) {
		return got, err
	}
	return got, nil
}

func (l Consume) connection(ctx context.Context, addr string, number int, total *atomic.Int64) error {
	conn, closeConn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer closeConn()
	next := map[Partition]int64{}
	for _, p := range share(l.Partitions, number, l.Connections) {
		next[p] = l.From[p]
	}
	answers := newAnswers(conn)
	committed := time.Now()
	for l.MinBytes == 0 || total.Load() < l.MinBytes {
		if _, err := conn.Write(frame(l.request(next))); err != nil {
			return err
		}
		body, err := answers.next(true)
		if err != nil {
			return err
		}
		got, err := l.take(body, next)
		total.Add(got)
		if err != nil {
			return err
		}
		if l.Group != "" && time.Since(committed) >= commitEvery {
			committed = time.Now()
			if err := commit(conn, answers, l.Group, next); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l Consume) request(next map[Partition]int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = fetchVersion, int32(fetchMaxWait.Milliseconds()), 1, fetchMaxBytes
	req.SessionEpoch = -1
	if l.Committed {
		req.IsolationLevel = 1
	}
	topics := map[string]int{}
	for p, offset := range next {
		i, ok := topics[p.Topic]
		if !ok {
			i = len(req.Topics)
			topics[p.Topic] = i
			topic := kmsg.NewFetchRequestTopic()
			topic.Topic = p.Topic
			req.Topics = append(req.Topics, topic)
		}
		partition := kmsg.NewFetchRequestTopicPartition()
		partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes, partition.CurrentLeaderEpoch = p.Index, offset, fetchPartitionMaxBytes, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, partition)
	}
	return req
}

// take moves each partition past the batches of an answer and returns how many bytes of batches it held.
func (l Consume) take(body []byte, next map[Partition]int64) (int64, error) {
	var resp kmsg.FetchResponse
	resp.Version = fetchVersion
	if err := resp.ReadFrom(body); err != nil {
		return 0, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return 0, fmt.Errorf("fetch: %w", err)
	}
	at, got := time.Now(), int64(0)
	for _, t := range resp.Topics {
		for _, answer := range t.Partitions {
			p := Partition{t.Topic, answer.Partition}
			if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
				return got, fmt.Errorf("fetch %s-%d: %w", p.Topic, p.Index, err)
			}
			if _, ok := next[p]; !ok {
				return got, fmt.Errorf("%w: %s-%d was not asked for", errAnswer, p.Topic, p.Index)
			}
			for rest := answer.RecordBatches; len(rest) >= record.HeaderSize; {
				h, err := record.ParseHeader(rest)
				if err != nil {
					return got, err
				}
				if h.Size() > len(rest) {
					break // the last one may be cut
				}
				if int64(h.LastOffset()) >= next[p] { // the first batch may begin before the offset asked for, and be seen already
					if l.received != nil {
						l.received(p, h, at)
					}
					next[p] = int64(h.LastOffset()) + 1
				}
				got += int64(h.Size())
				rest = rest[h.Size():]
			}
		}
	}
	return got, nil
}
