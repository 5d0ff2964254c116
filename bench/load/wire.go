package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The versions that the load generator speaks: the last ones that name topics, which every broker of these years serves.
const (
	produceVersion = 12
	fetchVersion   = 12
)

// maxAnswer bounds what is read of one answer. A fetch asks for 50 MiB at most.
const maxAnswer = 128 << 20

// clientID is what brokers see in their logs.
const clientID = "bench"

// Partition is one place to write to or read from.
type Partition struct {
	Topic string
	Index int32
}

// Partitions are the first n partitions of a topic.
func Partitions(topic string, n int) []Partition {
	all := make([]Partition, n)
	for i := range all {
		all[i] = Partition{topic, int32(i)}
	}
	return all
}

// share is what the number-th of several connections uses: every connections-th partition, or one of them if there are too few.
func share(all []Partition, number, connections int) []Partition {
	if len(all) < connections {
		return all[number%len(all):][:1]
	}
	var mine []Partition
	for i := number; i < len(all); i += connections {
		mine = append(mine, all[i])
	}
	return mine
}

// frame is a whole request as it goes over the wire.
func frame(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, req, 0)
}

func produceRequest(p Partition, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = produceVersion, -1, 30000
	topic, partition := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	partition.Partition, partition.Records = p.Index, records
	topic.Topic, topic.Partitions = p.Topic, append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	return req
}

// produceTail is what follows the records in a request: the empty tag sections of partition, topic and request.
const produceTail = 3

// produceHead is the request up to its records, which a batch and produceTail zero bytes complete.
func produceHead(p Partition, batch []byte) []byte {
	whole := frame(produceRequest(p, batch))
	return whole[: len(whole)-len(batch)-produceTail : len(whole)-len(batch)-produceTail]
}

// answers reads the answers of one connection. The body of the last one is valid until the next.
type answers struct {
	r   *bufio.Reader
	buf []byte
}

func newAnswers(conn net.Conn) *answers { return &answers{r: bufio.NewReaderSize(conn, 32<<10)} }

// errAnswer is an answer that does not follow the protocol.
var errAnswer = errors.New("the answer cannot be read")

// next returns the body behind the header, which is a correlation id and, where flexible, an empty tag section.
func (a *answers) next(flexible bool) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(a.r, size[:]); err != nil {
		return nil, err
	}
	n, header := int(binary.BigEndian.Uint32(size[:])), 4
	if flexible {
		header++
	}
	if n < header || n > maxAnswer {
		return nil, fmt.Errorf("%w: its length is %d", errAnswer, n)
	}
	if cap(a.buf) < n {
		a.buf = make([]byte, n)
	}
	a.buf = a.buf[:n]
	if _, err := io.ReadFull(a.r, a.buf); err != nil {
		return nil, err
	}
	return a.buf[header:], nil
}

// checkProduced reads the answer to a produce of one partition. It looks only at where the error code stands, as long as there is none.
func checkProduced(body []byte, p Partition) error {
	at := 1 + 1 + len(p.Topic) + 1 + 4 // topic count, name with its length (below 127), partition count, partition
	if len(p.Topic) < 127 && len(body) >= at+2 && binary.BigEndian.Uint16(body[at:]) == 0 {
		return nil
	}
	var resp kmsg.ProduceResponse
	resp.Version = produceVersion
	if err := resp.ReadFrom(body); err != nil {
		return err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return fmt.Errorf("%w: it does not hold one partition", errAnswer)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); err != nil {
		return fmt.Errorf("produce to %s-%d: %w", p.Topic, p.Index, err)
	}
	return nil
}

// dial opens a connection that is closed when ctx ends, so that nothing that waits for it outlives ctx.
func dial(ctx context.Context, addr string) (net.Conn, func(), error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, func() { stop(); _ = conn.Close() }, nil
}
