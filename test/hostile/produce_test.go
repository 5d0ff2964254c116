package hostile_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/record"
)

// Offsets of the fields of a batch's header.
const (
	atBaseOffset      = 0
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57
)

// batch makes a batch of three records, and lets edit change it before its CRC is set again.
func batch(o record.BuilderOptions, edit func([]byte) []byte) []byte {
	builder := record.NewBuilder(o)
	for range 3 {
		builder.Append(time.Now().UnixMilli(), []byte("key"), []byte("value"))
	}
	data := builder.Build(0)
	if edit != nil {
		data = edit(data)
	}
	return sealed(data)
}

// sealed sets the CRC of a batch.
func sealed(data []byte) []byte {
	if len(data) > atAttributes {
		binary.BigEndian.PutUint32(data[atCRC:], crc32.Checksum(data[atAttributes:], crc32.MakeTable(crc32.Castagnoli)))
	}
	return data
}

func put16(at int, v int16) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint16(b[at:], uint16(v)); return b }
}

func put32(at int, v int32) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], uint32(v)); return b }
}

func put64(at int, v int64) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint64(b[at:], uint64(v)); return b }
}

// closed stands for "no answer, the connection is closed".
const closed = math.MinInt16

// kafka is an answer of Apache Kafka that we do not give.
func kafka(code int16) *int16 { return &code }

// TestProduceOfBadBatches: the codes are those of Apache Kafka 4.3.1, to which this test was sent with -reference. Where Kafka gives up
// with UNKNOWN_SERVER_ERROR or does not answer at all, we say what is wrong; where it drops trailing bytes and acknowledges the rest, or
// trips over the checksum of a batch that ends early, we refuse the whole.
func TestProduceOfBadBatches(t *testing.T) {
	var (
		noneErr    int16 = 0
		corrupt          = kerr.CorruptMessage.Code
		invalid          = kerr.InvalidRecord.Code
		unknown          = kerr.UnknownTopicOrPartition.Code
		plain            = record.BuilderOptions{}
		producer         = record.BuilderOptions{Producer: &record.Producer{ID: 1 << 40, BaseSequence: 0}}
		outOfOrder       = kerr.OutOfOrderSequenceNumber.Code
	)
	cases := []struct {
		name      string
		topic     string // default: the topic of the test
		partition int32
		acks      int16 // default: all
		records   []byte
		want      int16
		kafka     *int16 // where Kafka's answer is another
	}{
		{name: "good", records: batch(plain, nil), want: noneErr},
		{name: "wrong CRC", records: put32(atCRC, 1)(batch(plain, nil)), want: corrupt},
		{name: "flipped bit in a record", records: func() []byte { b := batch(plain, nil); b[len(b)-3] ^= 4; return b }(), want: corrupt},
		{name: "cut short", records: batch(plain, nil)[:80], want: invalid},
		{name: "cut in the header", records: batch(plain, nil)[:40], want: invalid},
		{name: "trailing bytes", records: append(batch(plain, nil), 1, 2, 3), want: invalid, kafka: kafka(0)},
		{name: "two batches", records: append(batch(plain, nil), batch(plain, nil)...), want: invalid},
		{name: "no records", records: []byte{}, want: invalid},
		{name: "null records", records: nil, want: invalid, kafka: kafka(closed)},
		{name: "base offset 5", records: batch(plain, put64(atBaseOffset, 5)), want: invalid},
		{name: "length 0", records: batch(plain, put32(atLength, 0)), want: corrupt},
		{name: "length -1", records: batch(plain, put32(atLength, -1)), want: corrupt},
		{name: "length 2^31-1", records: batch(plain, put32(atLength, math.MaxInt32)), want: invalid, kafka: kafka(-1)},
		{name: "length one more", records: batch(plain, func(b []byte) []byte { return put32(atLength, int32(len(b)-12+1))(b) }), want: invalid},
		{name: "length one less", records: batch(plain, func(b []byte) []byte { return put32(atLength, int32(len(b)-12-1))(b) }), want: invalid, kafka: kafka(corrupt)},
		{name: "leader epoch 2^31-1", records: batch(plain, put32(atLeaderEpoch, math.MaxInt32)), want: noneErr},
		{name: "magic 3", records: batch(plain, func(b []byte) []byte { b[atMagic] = 3; return b }), want: corrupt},
		{name: "magic -1", records: batch(plain, func(b []byte) []byte { b[atMagic] = 0xff; return b }), want: corrupt},
		{name: "magic 1", records: batch(plain, func(b []byte) []byte { b[atMagic] = 1; return b }), want: invalid},
		{name: "magic 0", records: batch(plain, func(b []byte) []byte { b[atMagic] = 0; return b }), want: invalid},
		{name: "codec 5", records: batch(plain, put16(atAttributes, 5)), want: kerr.UnsupportedCompressionType.Code, kafka: kafka(-1)},
		{name: "codec 7", records: batch(plain, put16(atAttributes, 7)), want: kerr.UnsupportedCompressionType.Code, kafka: kafka(-1)},
		{name: "says gzip and is not", records: batch(plain, put16(atAttributes, 1)), want: invalid, kafka: kafka(-1)},
		{name: "says snappy and is not", records: batch(plain, put16(atAttributes, 2)), want: invalid, kafka: kafka(-1)},
		{name: "says lz4 and is not", records: batch(plain, put16(atAttributes, 3)), want: invalid, kafka: kafka(-1)},
		{name: "says zstd and is not", records: batch(plain, put16(atAttributes, 4)), want: invalid, kafka: kafka(-1)},
		{name: "log append time", records: batch(plain, put16(atAttributes, 8)), want: noneErr},
		{name: "control batch", records: batch(plain, put16(atAttributes, 32)), want: invalid},
		{name: "transactional", records: batch(producer, put16(atAttributes, 16)), want: kerr.TransactionalIDAuthorizationFailed.Code},
		{name: "last offset delta 3", records: batch(plain, put32(atLastOffsetDelta, 3)), want: invalid},
		{name: "last offset delta -1", records: batch(plain, put32(atLastOffsetDelta, -1)), want: invalid},
		{name: "last offset delta 2^31-1", records: batch(plain, put32(atLastOffsetDelta, math.MaxInt32)), want: invalid},
		{name: "2^31-1 records", records: batch(plain, put32(atCount, math.MaxInt32)), want: invalid},
		{name: "2^31-1 records and last offset", records: batch(plain, func(b []byte) []byte {
			return put32(atLastOffsetDelta, math.MaxInt32-1)(put32(atCount, math.MaxInt32)(b))
		}), want: invalid},
		{name: "0 records", records: batch(plain, put32(atCount, 0)), want: invalid},
		{name: "-1 records", records: batch(plain, put32(atCount, -1)), want: invalid},
		{name: "2 of 3 records", records: batch(plain, func(b []byte) []byte { return put32(atLastOffsetDelta, 1)(put32(atCount, 2)(b)) }), want: invalid},
		{name: "4 of 3 records", records: batch(plain, func(b []byte) []byte { return put32(atLastOffsetDelta, 3)(put32(atCount, 4)(b)) }), want: invalid},
		{name: "base timestamp -1", records: batch(plain, put64(atBaseTimestamp, -1)), want: noneErr},
		{name: "base timestamp far ahead", records: batch(plain, put64(atBaseTimestamp, math.MaxInt64/2)), want: kerr.InvalidTimestamp.Code},
		{name: "max timestamp 0", records: batch(plain, put64(atMaxTimestamp, 0)), want: noneErr},
		{name: "producer id without epoch", records: batch(plain, put64(atProducerID, 5)), want: invalid},
		{name: "producer id -7", records: batch(plain, put64(atProducerID, -7)), want: noneErr},
		{name: "base sequence -1", records: batch(producer, put32(atBaseSequence, -1)), want: invalid},
		{name: "first sequence 7", records: batch(record.BuilderOptions{Producer: &record.Producer{ID: 1 << 41, BaseSequence: 7}}, nil), want: noneErr},
		{name: "producer's first", records: batch(record.BuilderOptions{Producer: &record.Producer{ID: 1 << 42, BaseSequence: 0}}, nil), want: noneErr},
		{name: "producer leaves a gap", records: batch(record.BuilderOptions{Producer: &record.Producer{ID: 1 << 42, BaseSequence: 9}}, nil), want: outOfOrder},
		{name: "producer's old epoch", records: batch(record.BuilderOptions{Producer: &record.Producer{ID: 1 << 42, Epoch: -5, BaseSequence: 3}}, nil), want: kerr.InvalidProducerEpoch.Code},
		{name: "record length 0", records: batch(plain, func(b []byte) []byte { b[record.HeaderSize] = 0; return b }), want: invalid},
		{name: "record length negative", records: batch(plain, func(b []byte) []byte { b[record.HeaderSize] = 1; return b }), want: invalid},
		{name: "record length past the end", records: batch(plain, func(b []byte) []byte { b[record.HeaderSize] = 0x7e; return b }), want: invalid},
		{name: "key length past the record", records: batch(plain, func(b []byte) []byte { b[record.HeaderSize+4] = 0x7e; return b }), want: invalid},
		{name: "too large", records: func() []byte {
			builder := record.NewBuilder(plain)
			builder.Append(time.Now().UnixMilli(), nil, make([]byte, 1_100_000))
			return builder.Build(0)
		}(), want: kerr.MessageTooLarge.Code},
		{name: "garbage", records: bytes.Repeat([]byte{0xa5}, 200), want: corrupt},
		{name: "zeros", records: make([]byte, 200), want: corrupt},
		{name: "acks 2", acks: 2, records: batch(plain, nil), want: kerr.InvalidRequiredAcks.Code},
		{name: "acks -2", acks: -2, records: batch(plain, nil), want: kerr.InvalidRequiredAcks.Code},
		{name: "unknown topic", topic: "nobody-made-this", records: batch(plain, nil), want: unknown},
		{name: "partition 9", partition: 9, records: batch(plain, nil), want: unknown},
		{name: "partition -1", partition: -1, records: batch(plain, nil), want: unknown},
		{name: "partition 2^31-1", partition: math.MaxInt32, records: batch(plain, nil), want: unknown},
		{name: "topic of no name", topic: " ", records: batch(plain, nil), want: unknown},
		{name: "topic with a slash", topic: "../etc", records: batch(plain, nil), want: unknown},
		{name: "topic of 300 letters", topic: string(bytes.Repeat([]byte{'x'}, 300)), records: batch(plain, nil), want: unknown},
	}

	dial := asked(t)
	admin := dial()
	create := kmsg.NewPtrCreateTopicsRequest()
	create.SetVersion(5)
	create.TimeoutMillis = 10_000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "hostile", 1, 1
	create.Topics = append(create.Topics, topic)
	if _, err := call(t, admin, create); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req := kmsg.NewPtrProduceRequest()
			req.SetVersion(9)
			req.Acks, req.TimeoutMillis = -1, 5000
			if c.acks != 0 {
				req.Acks = c.acks
			}
			if c.topic == "" {
				c.topic = "hostile"
			}
			pt := kmsg.NewProduceRequestTopicPartition()
			pt.Partition, pt.Records = c.partition, c.records
			to := kmsg.NewProduceRequestTopic()
			to.Topic, to.Partitions = c.topic, []kmsg.ProduceRequestTopicPartition{pt}
			req.Topics = append(req.Topics, to)

			if *reference != "" && c.kafka != nil {
				c.want = *c.kafka
			}
			got, message := int16(closed), ""
			if resp, err := call(t, dial(), req); err == nil {
				p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
				if got = p.ErrorCode; p.ErrorMessage != nil {
					message = *p.ErrorMessage
				}
			}
			if got != c.want {
				t.Errorf("answered with %d (%v) %q, want %d (%v)", got, kerr.ErrorForCode(got), message, c.want, kerr.ErrorForCode(c.want))
			}
		})
	}
}

// asked returns connections to the broker under test: an embedded one, or the one of -reference.
func asked(t *testing.T) func() net.Conn {
	t.Helper()
	if *reference == "" {
		b := attack(t, nil)
		return func() net.Conn { return b.dial(t) }
	}
	return func() net.Conn {
		conn, err := net.Dial("tcp", *reference)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
}
