package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/record"
)

// The versions that the load generator speaks: the last ones that name topics, which both brokers serve.
const (
	produceVersion = 12
	fetchVersion   = 12
)

// batch is a batch of records of the given size, encoded once; the generator sends it again and again.
func batch(records, recordBytes int) []byte {
	b := record.NewBuilder(record.BuilderOptions{})
	random := rand.New(rand.NewPCG(1, 2)) // the same bytes in every run
	value := make([]byte, recordBytes)
	for range records {
		for i := range value {
			value[i] = byte(random.Uint32())
		}
		b.Append(time.Now().UnixMilli(), nil, value)
	}
	return b.Build(0)
}

// frame is a whole request as it goes over the wire; its correlation id is at bytes 8 to 12.
func frame(req kmsg.Request, clientID string) []byte {
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID))
	return f.AppendRequest(nil, req, 0)
}

func produceFrame(topic string, partition int32, records []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = produceVersion, -1, 30000
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return frame(req, "bench")
}

// readAnswer reads one answer's frame into buf, which grows as needed, and returns its body behind the header.
func readAnswer(conn net.Conn, buf []byte) (body, grown []byte, err error) {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, buf, err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err = io.ReadFull(conn, buf)
	return buf[5:], buf, err // correlation id and an empty tag section
}

// produceError returns the error of an answer to a produce of one partition.
func produceError(body []byte) error {
	var resp kmsg.ProduceResponse
	resp.Version = produceVersion
	if err := resp.ReadFrom(body); err != nil {
		return err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return errors.New("the answer to a produce does not hold one partition")
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// produceLoad describes a load of pre-encoded batches.
type produceLoad struct {
	topic       string
	partitions  int
	connections int
	inFlight    int           // requests on the way per connection
	batch       []byte        // one batch, sent in every request
	rate        float64       // batches per second over all connections; 0 = as fast as answers come
	duration    time.Duration // how long to send
}

// produced is what a load did.
type produced struct {
	bytes     int64
	took      time.Duration
	latencies []time.Duration // of every request, from when it was due to its answer
}

// run sends the load and waits for every answer.
func (l produceLoad) run(ctx context.Context, addr string) (produced, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		result produced
	)
	begin := time.Now()
	for c := range l.connections {
		wg.Go(func() {
			latencies, err := l.connection(ctx, addr, c, begin)
			mu.Lock()
			defer mu.Unlock()
			result.latencies = append(result.latencies, latencies...)
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	result.took = time.Since(begin)
	result.bytes = int64(len(result.latencies)) * int64(len(l.batch))
	return result, context.Cause(ctx)
}

// connection is one producer: a goroutine that sends and this one, which reads the answers.
func (l produceLoad) connection(ctx context.Context, addr string, number int, begin time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	var frames [][]byte
	for p := number; p < l.partitions; p += l.connections {
		frames = append(frames, produceFrame(l.topic, int32(p), l.batch))
	}
	due := make(chan time.Time, l.inFlight)
	sent := make(chan error, 1)
	go func() {
		defer close(due)
		interval := time.Duration(0)
		if l.rate > 0 {
			interval = time.Duration(float64(time.Second) * float64(l.connections) / l.rate)
		}
		next := begin.Add(interval * time.Duration(number) / time.Duration(l.connections))
		for n := 0; time.Since(begin) < l.duration; n++ {
			at := time.Now()
			if interval > 0 {
				time.Sleep(time.Until(next))
				at = next // a request that goes out late was due earlier: the wait counts
				next = next.Add(interval)
			}
			due <- at
			if _, err := conn.Write(frames[n%len(frames)]); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	var latencies []time.Duration
	var buf, body []byte
	for at := range due {
		if body, buf, err = readAnswer(conn, buf); err != nil {
			return latencies, errors.Join(err, drain(due, conn, sent))
		}
		if err := produceError(body); err != nil {
			return latencies, errors.Join(err, drain(due, conn, sent))
		}
		latencies = append(latencies, time.Since(at))
	}
	return latencies, <-sent
}

// drain ends the sending goroutine after a failure.
func drain(due <-chan time.Time, conn net.Conn, sent <-chan error) error {
	_ = conn.Close() // the failure that led here says more
	for range due {  // emptied so that the sender can end
	}
	return <-sent
}

// consume reads every partition of a topic from its beginning to the given number of bytes in all, and returns how many came.
func consume(ctx context.Context, addr, topic string, partitions, connections int, want int64) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var total atomic.Int64
	for c := range connections {
		wg.Go(func() {
			if err := consumeConnection(ctx, addr, topic, c, partitions, connections, want, &total); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return total.Load(), context.Cause(ctx)
}

func consumeConnection(ctx context.Context, addr, topic string, number, partitions, connections int, want int64, total *atomic.Int64) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	next := map[int32]int64{}
	for p := number; p < partitions; p += connections {
		next[int32(p)] = 0
	}
	var buf, body []byte
	for total.Load() < want {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = fetchVersion, 500, 1, 50<<20
		req.SessionEpoch = -1
		t := kmsg.NewFetchRequestTopic()
		t.Topic = topic
		for partition, offset := range next {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = partition, offset, 1<<20, -1
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
		if _, err := conn.Write(frame(req, "bench")); err != nil {
			return err
		}
		if body, buf, err = readAnswer(conn, buf); err != nil {
			return err
		}
		got, err := advance(body, next)
		if err != nil {
			return err
		}
		total.Add(got)
		if got == 0 && ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// advance moves each partition past the batches of an answer and returns how many bytes of batches it held.
func advance(body []byte, next map[int32]int64) (int64, error) {
	var resp kmsg.FetchResponse
	resp.Version = fetchVersion
	if err := resp.UnsafeReadFrom(body); err != nil {
		return 0, err
	}
	got := int64(0)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return got, fmt.Errorf("fetch partition %d: %w", p.Partition, err)
			}
			for rest := p.RecordBatches; len(rest) >= record.HeaderSize; {
				h, err := record.ParseHeader(rest)
				if err != nil {
					return got, err
				}
				if h.Size() > len(rest) {
					break // the last one may be cut
				}
				next[p.Partition] = int64(h.LastOffset()) + 1
				got += int64(h.Size())
				rest = rest[h.Size():]
			}
		}
	}
	return got, nil
}

// request sends one request on a connection of its own and reads the answer into resp.
func request(ctx context.Context, addr string, req kmsg.Request, resp kmsg.Response) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write(frame(req, "bench")); err != nil {
		return err
	}
	body, _, err := readAnswer(conn, nil)
	if err != nil {
		return err
	}
	resp.SetVersion(req.GetVersion())
	r := kbin.Reader{Src: body}
	return resp.ReadFrom(r.Src)
}

// createTopic makes the topic and waits until every partition takes a batch.
func createTopic(ctx context.Context, addr, topic string, partitions int) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 7, 30000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, int32(partitions), 1
	req.Topics = append(req.Topics, t)
	var resp kmsg.CreateTopicsResponse
	if err := request(ctx, addr, req, &resp); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	one := batch(1, 10)
	for p := range partitions {
		if err := firstAnswer(ctx, addr, produceFrame(topic, int32(p), one)); err != nil {
			return err
		}
	}
	return nil
}

// firstAnswer sends a produce until one is acknowledged.
func firstAnswer(ctx context.Context, addr string, produce []byte) error {
	var last error
	for ctx.Err() == nil {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			if _, err = conn.Write(produce); err == nil {
				var body []byte
				if body, _, err = readAnswer(conn, nil); err == nil {
					err = produceError(body)
				}
			}
			_ = conn.Close()
			if err == nil {
				return nil
			}
		}
		last = err
		time.Sleep(2 * time.Millisecond)
	}
	return errors.Join(context.Cause(ctx), last)
}
