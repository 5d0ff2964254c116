package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxFrame bounds one request, maxInFlight the requests of a connection that wait for their answers.
const (
	maxFrame    = 16 << 20
	maxInFlight = 64
)

func main() {
	data := flag.String("data", "", "folder for the log and the segments")
	listen := flag.String("listen", "127.0.0.1:9092", "HOST:PORT")
	noSegments := flag.Bool("no-segments", false, "write the log only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *data, *listen, !*noSegments, func(string) {}); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. It tells listening its address.
func run(ctx context.Context, data, listen string, segments bool, listening func(addr string)) error {
	if err := os.MkdirAll(filepath.Join(data, "segments"), 0o700); err != nil {
		return err
	}
	l, err := openLog(data, segments)
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	listening(ln.Addr().String())
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	go func() { fail(l.write()) }()
	go func() { fail(l.flush()) }()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return cause
			}
			return nil // told to stop; there is nothing to keep
		}
		go serve(conn, l)
	}
}

// answer leaves when its group is durable.
type answer struct {
	durable <-chan struct{} // nil for at once
	frame   []byte
}

// serve reads one connection; a second goroutine answers in order.
func serve(conn net.Conn, l *log) {
	defer func() { _ = conn.Close() }()
	answers := make(chan answer, maxInFlight)
	defer close(answers)
	go func() {
		for a := range answers {
			if a.durable != nil {
				<-a.durable
			}
			_, _ = conn.Write(a.frame) // a connection that broke is seen by the reader
		}
	}()
	r, buf := bufio.NewReaderSize(conn, 256<<10), []byte(nil)
	for {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint32(size[:]))
		if n > maxFrame {
			return
		}
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(r, buf); err != nil {
			return
		}
		a, err := handle(buf, l)
		if err != nil {
			fmt.Fprintln(os.Stderr, "floor:", err)
			return
		}
		answers <- a
	}
}

var errRequest = errors.New("a request that the floor does not know")

// handle takes the few requests that a produce load sends.
func handle(frame []byte, l *log) (answer, error) {
	if len(frame) < 10 {
		return answer{}, errRequest
	}
	key, version, correlation := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:])), frame[4:8]
	body := 10 + int(max(0, int16(binary.BigEndian.Uint16(frame[8:])))) // behind the client id
	req := kmsg.RequestForKey(key)
	if req == nil || len(frame) < body+1 {
		return answer{}, errRequest
	}
	req.SetVersion(version)
	if req.IsFlexible() {
		body++ // an empty tag section
	}
	if err := req.ReadFrom(frame[body:]); err != nil {
		return answer{}, err
	}
	resp := req.ResponseKind()
	var durable <-chan struct{}
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		var err error
		if durable, err = produce(req, resp.(*kmsg.ProduceResponse), l); err != nil {
			return answer{}, err
		}
	case *kmsg.CreateTopicsRequest:
		for _, t := range req.Topics {
			created := kmsg.NewCreateTopicsResponseTopic()
			created.Topic, created.NumPartitions = t.Topic, t.NumPartitions
			resp.(*kmsg.CreateTopicsResponse).Topics = append(resp.(*kmsg.CreateTopicsResponse).Topics, created)
		}
	case *kmsg.MetadataRequest:
	default:
		return answer{}, fmt.Errorf("%w: key %d", errRequest, key)
	}
	out := append(make([]byte, 4, 128), correlation...)
	if resp.IsFlexible() {
		out = append(out, 0)
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return answer{durable, out}, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Where a batch has its CRC, and what the CRC covers.
const (
	crcAt     = 17
	coveredAt = 21
)

func produce(req *kmsg.ProduceRequest, resp *kmsg.ProduceResponse, l *log) (<-chan struct{}, error) {
	var durable <-chan struct{}
	for _, t := range req.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			batch := p.Records
			if len(batch) < coveredAt || crc32.Checksum(batch[coveredAt:], castagnoli) != binary.BigEndian.Uint32(batch[crcAt:]) {
				return nil, errors.New("a batch has a wrong CRC")
			}
			partition := kmsg.NewProduceResponseTopicPartition()
			partition.Partition = p.Partition
			partition.BaseOffset, durable = l.append(place{t.Topic, p.Partition}, batch)
			topic.Partitions = append(topic.Partitions, partition)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return durable, nil
}
