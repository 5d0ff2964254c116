package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Limits of a producer.
const (
	defaultMaxMessageBytes = 1048588 // Kafka's max.message.bytes, when the topic does not say its own
	maxRequestBytes        = 100 << 20
	// The library counts the length in front of a batch as part of it: as four bytes until it knows the broker's version, then as one or
	// more. The difference is left free, so that no batch is beyond the topic's limit and no record that we let through is refused.
	libraryBytes    = 3
	bufferedRecords = 200_000
	bufferedBytes   = 64 << 20
	// deliveryTimeout is how long a record waits for a broker that went away, as Kafka's delivery.timeout.ms.
	deliveryTimeout = 2 * time.Minute
	// deliverySlack is left for the records' own timeouts, which know the cause.
	deliverySlack = 5 * time.Second
	// failedPatience is how long the others may still take once a record has failed.
	failedPatience = 10 * time.Second
)

// Produce are the options of `produce`.
type Produce struct {
	Topic        string
	Files        []string // "-" is Streams.In, which is also the default
	KeySeparator string   // "": lines are values; else what comes before the first one of it is the key
	Headers      []string // key=value, for every record
	Partition    int32    // -1: by key, or in turns
	Acks         string   // all, 1, 0
	Compression  string   // none, gzip, snappy, lz4, zstd
	NullValue    string   // a value that is this text becomes null; with "" none does
	NullKey      string   // likewise for keys
	Quiet        bool     // no progress and no summary
}

// producing is one run of Produce.
type producing struct {
	*Client
	o          Produce
	client     *kgo.Client
	limit      int // bytes of a record, with the batch around it
	maxMessage int // the topic's max.message.bytes
	headers    []kgo.RecordHeader
	files      []string
	chunks     sync.Pool // of *chunk
	sent       int64     // records given to the client

	unsettled      sync.WaitGroup // records that are neither acknowledged nor given up
	records, bytes atomic.Int64   // acknowledged
	failed         atomic.Bool

	mu    sync.Mutex // guards first
	first *failure   // of the records that were not acknowledged, the first
}

// failure is a record that was not acknowledged.
type failure struct {
	number int64 // of all records of this run, from 0
	file   string
	line   int64
	size   int
	err    error
}

// errBadLine says that a line cannot become a record.
var errBadLine = errors.New("not sent")

// chunk is the lines of one read. It is used again when all of them are acknowledged.
type chunk struct {
	buf     []byte
	records []kgo.Record
	number  int64 // of its first record
	file    string
	line    int64 // of its first record, in file
	pending atomic.Int32
	promise func(*kgo.Record, error)
}

// Produce sends lines as records, in order, and returns nil if every one of them was acknowledged.
func (c *Client) Produce(ctx context.Context, o Produce) error {
	p := &producing{Client: c, o: o, files: o.Files}
	if len(p.files) == 0 {
		p.files = []string{"-"}
	}
	for _, h := range o.Headers {
		key, value, ok := strings.Cut(h, "=")
		if !ok {
			return &Error{Message: fmt.Sprintf("--header %q is not key=value", h)}
		}
		p.headers = append(p.headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	defer p.client.Close()
	return p.run(ctx)
}

// prepare looks at the topic and opens the producer.
func (p *producing) prepare(ctx context.Context) error {
	opts, err := p.producerOptions()
	if err != nil {
		return err
	}
	asking, done := p.bounded(ctx)
	defer done()
	topic, err := p.topic(asking, p.o.Topic)
	if err != nil {
		return err
	}
	if _, ok := topic.Partitions[p.o.Partition]; p.o.Partition >= 0 && !ok {
		return &Error{Message: fmt.Sprintf("%s has no partition %d, only 0 to %d", p.o.Topic, p.o.Partition, len(topic.Partitions)-1),
			Next: fmt.Sprintf("add some with `ottla topic alter %s --partitions N`", p.o.Topic)}
	}
	p.maxMessage = p.maxMessageBytes(asking)
	p.limit = min(p.maxMessage, maxRequestBytes-64<<10) - libraryBytes
	opts = append(opts, kgo.ProducerBatchMaxBytes(int32(max(512, p.limit+libraryBytes+1))), kgo.MaxBufferedBytes(max(bufferedBytes, 2*p.limit)))
	p.client, err = p.another(opts...)
	return err
}

// maxMessageBytes asks for the topic's max.message.bytes.
func (p *producing) maxMessageBytes(ctx context.Context) int {
	configs, err := p.admin.DescribeTopicConfigs(ctx, p.o.Topic)
	if err != nil {
		return defaultMaxMessageBytes // a user who may write need not be one who may read settings
	}
	rc, err := configs.On(p.o.Topic, nil)
	if err != nil || rc.Err != nil {
		return defaultMaxMessageBytes
	}
	for _, config := range rc.Configs {
		var n int
		if _, err := fmt.Sscan(config.MaybeValue(), &n); config.Key == "max.message.bytes" && err == nil && n > 0 {
			return n
		}
	}
	return defaultMaxMessageBytes
}

func (p *producing) producerOptions() ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.DefaultProduceTopicAlways(),
		kgo.DefaultProduceTopic(p.o.Topic),
		kgo.MaxBufferedRecords(bufferedRecords),
		kgo.RecordDeliveryTimeout(cmp.Or(p.props.delivery, deliveryTimeout)),
		kgo.ProducerLinger(p.props.linger),
	}
	switch acks := cmp.Or(p.o.Acks, p.props.acks, "all"); acks {
	case "all", "-1":
		// The delivery timeout counts for records under way too, of which nobody knows then whether they were written. The library would
		// wait for the broker for ever, so that a retry cannot double them; we do not retry.
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowIdempotentProduceCancellation())
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, &Error{Message: fmt.Sprintf("--acks %q is unknown", acks), Next: "it is all (every in-sync replica has it), 1 (the leader has it) or 0 (do not wait)"}
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	name := cmp.Or(p.o.Compression, p.props.compression, "none")
	codec, ok := codecs[name]
	if !ok {
		return nil, &Error{Message: fmt.Sprintf("--compression %q is unknown", name), Next: "it is one of none, gzip, snappy, lz4, zstd"}
	}
	opts = append(opts, kgo.ProducerBatchCompression(codec))
	if p.o.Partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts, nil
}

// run reads, sends, waits, and reports.
func (p *producing) run(ctx context.Context) error {
	began := time.Now()
	progress := startProgress(p, began)
	err := p.readAll(ctx)
	interrupted := ctx.Err() != nil
	patience := cmp.Or(p.props.delivery, deliveryTimeout) + deliverySlack
	if p.failed.Load() {
		patience = failedPatience
	}
	// What was read is sent even if the user has stopped the reading; a second signal ends the process.
	waiting, done := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer done()
	defer context.AfterFunc(ctx, func() {
		if lost(ctx) != nil {
			done()
		}
	})()
	if flushErr := p.client.Flush(waiting); flushErr != nil {
		p.client.UnsafeAbortBufferedRecords()
		if err == nil {
			err = flushErr
		}
	}
	p.unsettled.Wait()
	progress.stop()
	p.summary(time.Since(began))
	if first := p.firstFailure(); first != nil {
		return p.notAcknowledged(ctx, first)
	}
	switch {
	case lost(ctx) != nil:
		return lost(ctx)
	case err == nil && interrupted:
		return ErrInterrupted
	}
	return err
}

func (p *producing) readAll(ctx context.Context) error {
	for _, name := range p.files {
		in, label := p.In, "standard input"
		if name != "-" {
			file, err := os.Open(name)
			if err != nil {
				return err
			}
			in, label = file, name
		}
		err := p.read(ctx, in, label)
		if name != "-" {
			_ = in.(io.Closer).Close() // it was only read
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read sends the lines of one input.
func (p *producing) read(ctx context.Context, in io.Reader, label string) error {
	l := &lines{in: interruptible(ctx, in), limit: p.limit}
	for {
		c := p.chunk(label, l.line+1)
		now := time.Now()
		var err error
		c.buf, err = l.next(c.buf, func(line []byte) error {
			r := kgo.Record{Timestamp: now, Partition: p.o.Partition, Headers: p.headers}
			if err := p.fill(&r, line); err != nil {
				return fmt.Errorf("line %d %w", l.line, err)
			}
			c.records = append(c.records, r)
			return nil
		})
		p.send(ctx, c)
		var long *LongLineError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &long):
			return &Error{Message: label, Err: err, Next: fmt.Sprintf(
				"nothing from that line on was sent; %[1]s has max.message.bytes=%[2]d, raise it with `ottla topic alter %[1]s --config max.message.bytes=N`", p.o.Topic, p.maxMessage)}
		case errors.Is(err, errBadLine):
			return &Error{Message: label, Err: err, Next: "nothing from that line on was sent"}
		case ctx.Err() != nil:
			return nil // run says that it was interrupted
		case err != nil:
			return fmt.Errorf("read %s: %w", label, err)
		case p.failed.Load():
			return nil // run reports the record
		}
	}
}

// fill makes a record of a line.
func (p *producing) fill(r *kgo.Record, line []byte) error {
	if p.o.KeySeparator != "" {
		key, value, ok := bytes.Cut(line, []byte(p.o.KeySeparator))
		if !ok {
			return fmt.Errorf("has no key separator %q: %w", p.o.KeySeparator, errBadLine)
		}
		r.Key, line = key, value
		if p.o.NullKey != "" && string(key) == p.o.NullKey {
			r.Key = nil
		}
	}
	r.Value = line
	if p.o.NullValue != "" && string(line) == p.o.NullValue {
		r.Value = nil
	}
	if size := batchSize(r); size > p.limit {
		return &LongLineError{Size: size, Limit: p.limit}
	}
	return nil
}

// batchSize is the size of a batch with nothing but r, which is what max.message.bytes limits.
func batchSize(r *kgo.Record) int {
	const header = 61
	body := 3 + varintSize(len(r.Key)) + len(r.Key) + varintSize(len(r.Value)) + len(r.Value) + varintSize(len(r.Headers))
	for _, h := range r.Headers {
		body += varintSize(len(h.Key)) + len(h.Key) + varintSize(len(h.Value)) + len(h.Value)
	}
	return header + varintSize(body) + body
}

// varintSize is the size of n as a zigzag varint.
func varintSize(n int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutVarint(b[:], int64(n))
}

func (p *producing) chunk(file string, line int64) *chunk {
	c, ok := p.chunks.Get().(*chunk)
	if !ok {
		c = &chunk{}
		c.promise = func(r *kgo.Record, err error) { p.settled(c, r, err) }
	}
	c.records, c.file, c.line, c.number = c.records[:0], file, line, p.sent
	return c
}

// send gives a chunk's records to the client, which blocks while too much is under way.
func (p *producing) send(ctx context.Context, c *chunk) {
	if len(c.records) == 0 {
		p.chunks.Put(c)
		return
	}
	p.sent += int64(len(c.records))
	c.pending.Store(int32(len(c.records)))
	p.unsettled.Add(len(c.records))
	// A record that was read goes out even if the user interrupts now: whether it was sent is then what the summary says.
	sending := context.WithoutCancel(ctx)
	for i := range c.records {
		p.client.Produce(sending, &c.records[i], c.promise)
	}
}

// settled is called for every record, when it is acknowledged or given up.
func (p *producing) settled(c *chunk, r *kgo.Record, err error) {
	defer p.unsettled.Done()
	if err != nil {
		p.fail(c, r, err)
		return // the chunk is not used again: a request with its bytes may still be under way
	}
	p.records.Add(1)
	p.bytes.Add(int64(len(r.Key) + len(r.Value)))
	if c.pending.Add(-1) == 0 {
		p.chunks.Put(c)
	}
}

func (p *producing) fail(c *chunk, r *kgo.Record, err error) {
	p.failed.Store(true)
	for i := range c.records {
		if &c.records[i] != r {
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		// The records behind a failed one are given up because of it: its error is the one that tells.
		if p.first == nil || c.number+int64(i) < p.first.number {
			f := &failure{number: c.number + int64(i), file: c.file, line: c.line + int64(i), size: len(r.Key) + len(r.Value), err: err}
			if p.first != nil && errors.Is(err, kgo.ErrAborting) {
				f.err = p.first.err
			}
			p.first = f
		}
		return
	}
}

func (p *producing) firstFailure() *failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first
}

func (p *producing) notAcknowledged(ctx context.Context, f *failure) error {
	missing := p.sent - p.records.Load()
	what := fmt.Sprintf("%s not acknowledged; the first is line %d of %s", plural(missing, "record"), f.line, f.file)
	if errors.Is(f.err, kerr.MessageTooLarge) {
		return &Error{Message: fmt.Sprintf("%s: with %s bytes it is beyond max.message.bytes=%d of %s", what, countText(int64(f.size)), p.maxMessage, p.o.Topic),
			Next: fmt.Sprintf("raise it with `ottla topic alter %s --config max.message.bytes=N`", p.o.Topic)}
	}
	if errors.Is(f.err, kgo.ErrAborting) {
		f.err = context.DeadlineExceeded // the library was told to give up
	}
	cause := explain(ctx, f.err)
	next := cmp.Or(Next(cause), "the lines from there on may be in the topic or not; `ottla doctor` tells what is wrong")
	return &Error{Message: what, Next: next, Err: cause}
}

func (p *producing) summary(took time.Duration) {
	if p.o.Quiet {
		return
	}
	seconds := max(took.Seconds(), 1e-3)
	records, size := p.records.Load(), p.bytes.Load()
	fmt.Fprintf(p.Err, "%s, %s to %s in %.2f s (%.1f MB/s, %s records/s)\n",
		plural(records, "record"), bytesText(size), p.o.Topic, seconds, float64(size)/1e6/seconds, countText(int64(float64(records)/seconds)))
}
