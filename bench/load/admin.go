package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/record"
)

// retryEvery is how often something is tried that a starting broker does not yet do.
const retryEvery = 2 * time.Millisecond

// request sends one request on a connection of its own and reads the answer into resp.
func request(ctx context.Context, addr string, req kmsg.Request, resp kmsg.Response) error {
	c, closeConn, err := open(ctx, addr)
	if err != nil {
		return err
	}
	defer closeConn()
	return c.ask(req, resp)
}

// CreateTopic makes a topic and waits until every partition has acknowledged a record.
func CreateTopic(ctx context.Context, addr, topic string, partitions int) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 7, 120000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, int32(partitions), 1
	req.Topics = append(req.Topics, t)
	var resp kmsg.CreateTopicsResponse
	if err := request(ctx, addr, req, &resp); err != nil {
		return err
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("create topic %s: %w", topic, errAnswer)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return WaitWritable(ctx, addr, Partitions(topic, partitions))
}

// DeleteTopic removes a topic, for brokers that are not removed as a whole.
func DeleteTopic(ctx context.Context, addr, topic string) error {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis, req.TopicNames = 5, 30000, []string{topic}
	var resp kmsg.DeleteTopicsResponse
	if err := request(ctx, addr, req, &resp); err != nil {
		return err
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("delete topic %s: %w", topic, errAnswer)
	}
	return kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

// WaitWritable returns when each partition has acknowledged a record of ten bytes. It connects and sends until then.
func WaitWritable(ctx context.Context, addr string, partitions []Partition) error {
	one := NewBatch(BatchOptions{Records: 1, RecordBytes: 10})
	for {
		var err error
		if partitions, err = writeOnce(ctx, addr, partitions, one); len(partitions) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		time.Sleep(retryEvery)
	}
}

// writeOnce sends a batch to each partition and returns those that did not take it, with the last error.
func writeOnce(ctx context.Context, addr string, partitions []Partition, one Batch) ([]Partition, error) {
	conn, closeConn, err := dial(ctx, addr)
	if err != nil {
		return partitions, err
	}
	defer closeConn()
	const window = 64 // requests on the way
	answers := newAnswers(conn)
	var left []Partition
	var last error
	for start := 0; start < len(partitions); start += window {
		part := partitions[start:min(start+window, len(partitions))]
		var frames []byte
		for _, p := range part {
			frames = append(frames, frame(produceRequest(p, one.Raw))...)
		}
		if _, err := conn.Write(frames); err != nil {
			return append(left, partitions[start:]...), err
		}
		for i, p := range part {
			body, err := answers.next(true)
			if err != nil {
				return append(left, partitions[start+i:]...), err
			}
			if err := checkProduced(body, p); err != nil {
				left, last = append(left, p), err
			}
		}
	}
	return left, last
}

// AutoCreate asks for a topic that does not exist, so that the broker makes it, until a record is acknowledged: what a first user of a
// fresh broker does.
func AutoCreate(ctx context.Context, addr, topic string) error {
	for {
		err := Metadata(ctx, addr, topic)
		if err == nil {
			return WaitWritable(ctx, addr, Partitions(topic, 1))
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		time.Sleep(retryEvery)
	}
}

// WaitReady returns when the broker answers at all.
func WaitReady(ctx context.Context, addr string) error {
	for {
		err := Metadata(ctx, addr, "")
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		time.Sleep(retryEvery)
	}
}

// Metadata asks for a topic, which may make it; with an empty name, for no topic.
func Metadata(ctx context.Context, addr, topic string) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation, req.Topics = 12, true, []kmsg.MetadataRequestTopic{}
	if topic != "" {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &topic
		req.Topics = append(req.Topics, t)
	}
	return request(ctx, addr, req, kmsg.NewPtrMetadataResponse())
}

// EndOffsets returns the offset behind the last record of each partition.
func EndOffsets(ctx context.Context, addr string, partitions []Partition) (map[Partition]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 6, -1
	topics := map[string]int{}
	for _, p := range partitions {
		i, ok := topics[p.Topic]
		if !ok {
			i = len(req.Topics)
			topics[p.Topic] = i
			topic := kmsg.NewListOffsetsRequestTopic()
			topic.Topic = p.Topic
			req.Topics = append(req.Topics, topic)
		}
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp, partition.CurrentLeaderEpoch = p.Index, -1, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, partition)
	}
	var resp kmsg.ListOffsetsResponse
	if err := request(ctx, addr, req, &resp); err != nil {
		return nil, err
	}
	ends := map[Partition]int64{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("end of %s-%d: %w", t.Topic, p.Partition, err)
			}
			ends[Partition{t.Topic, p.Partition}] = p.Offset
		}
	}
	if len(ends) != len(partitions) {
		return nil, fmt.Errorf("%w: %d of %d partitions have an end", errAnswer, len(ends), len(partitions))
	}
	return ends, nil
}

// Connections opens n connections, asks once on each, and leaves them idle until the function that it returns is called.
func Connections(ctx context.Context, addr string, n int) (func(), error) {
	var closers []func()
	closeAll := func() {
		for _, c := range closers {
			c()
		}
	}
	ask := kmsg.NewPtrMetadataRequest()
	ask.Version, ask.Topics = 12, []kmsg.MetadataRequestTopic{}
	for range n {
		conn, closeConn, err := dial(ctx, addr)
		if err != nil {
			closeAll()
			return nil, err
		}
		closers = append(closers, closeConn)
		if _, err = conn.Write(frame(ask)); err == nil {
			_, err = newAnswers(conn).next(true)
		}
		if err != nil {
			closeAll()
			return nil, err
		}
	}
	return closeAll, nil
}

// OneKiB is a batch of one record that is about 1 KiB.
func OneKiB() Batch { return NewBatch(BatchOptions{Records: 1, RecordBytes: 1 << 10}) }

// Batch64KiB is a batch of about 64 KiB of records of the given size.
func Batch64KiB(recordBytes int, codec record.Codec) Batch {
	return NewBatch(BatchOptions{Records: (64<<10 - record.HeaderSize) / recordBytes, RecordBytes: recordBytes, Codec: codec})
}
