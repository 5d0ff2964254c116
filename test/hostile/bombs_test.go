package hostile_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/record"
)

// bombBytes is what a bomb weighs, below message.max.bytes.
const bombBytes = 900 << 10

// bombs are compressed data that are small and do not end: gzip and zstd for gigabytes, lz4 and snappy for as much as they can say.
func bombs(t *testing.T) map[record.Codec][]byte {
	t.Helper()
	// gzip: members one after the other, each of 10 MB.
	var member bytes.Buffer
	w := gzip.NewWriter(&member)
	if _, err := w.Write(make([]byte, 10<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	zip := bytes.Repeat(member.Bytes(), bombBytes/member.Len())

	// zstd: a frame without content size and a window of 8 MiB, blocks that repeat one byte 128 Ki times: 4 bytes for 128 KiB.
	zstd := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3}
	for len(zstd) < bombBytes {
		block := uint32(128<<10)<<3 | 1<<1
		zstd = append(zstd, byte(block), byte(block>>8), byte(block>>16), 0)
	}
	lz4, err := record.Compress(record.Lz4, record.DefaultLevel(record.Lz4), nil, make([]byte, 200<<20))
	if err != nil {
		t.Fatal(err)
	}
	// snappy: says that it holds 4 GB, then copies of 64 bytes, 3 bytes each.
	snappy := binary.AppendUvarint(nil, 0xffffffff)
	snappy = append(snappy, 0, 0)
	snappy = append(snappy, bytes.Repeat([]byte{63<<2 | 2, 1, 0}, bombBytes/3)...)
	return map[record.Codec][]byte{record.Gzip: zip, record.Zstd: zstd, record.Lz4: lz4, record.Snappy: snappy}
}

// bombBatch puts compressed bytes into a batch that says it holds count records.
func bombBatch(codec record.Codec, packed []byte, count int32) []byte {
	builder := record.NewBuilder(record.BuilderOptions{})
	builder.Append(time.Now().UnixMilli(), nil, nil)
	b := append(builder.Build(0)[:record.HeaderSize:record.HeaderSize], packed...)
	put32(atLength, int32(len(b)-12))(b)
	put16(atAttributes, int16(codec))(b)
	put32(atCount, count)(b)
	put32(atLastOffsetDelta, count-1)(b)
	return sealed(b)
}

// bombBatches are batches that become large, by name. Well-formed ones are of the time that is given.
func bombBatches(t *testing.T, later int64) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for codec, packed := range bombs(t) {
		all[codec.String()] = bombBatch(codec, packed, 1)
		all[codec.String()+" of 2^31-1 records"] = bombBatch(codec, packed, 1<<31-1)
	}
	// A record that is well-formed, but large: 60 and 100 MB of zeros.
	for _, size := range []int{60 << 20, 100 << 20} {
		for _, codec := range []record.Codec{record.Zstd, record.Lz4} {
			builder := record.NewBuilder(record.BuilderOptions{Codec: codec})
			builder.Append(later, nil, make([]byte, size))
			all[codec.String()+" of one record"+map[bool]string{true: ", small"}[size == 60<<20]] = bytes.Clone(builder.Build(0)) // without the room that was made for more
		}
	}
	return all
}

// TestBombs sends every bomb from many connections at once.
func TestBombs(t *testing.T) {
	connections := 8
	if raceEnabled {
		connections = 2
	}
	later := time.Now().Add(30 * time.Minute).UnixMilli() // than any other, so that a large record is found by its time
	all := bombBatches(t, later)
	b := attack(t, nil)
	// One batch at a time is decompressed beyond 8 MiB, to 64 MiB at most, and what one before came to may not have been collected; as much again
	// is the collector's slack (GOGC), and then there is what the test sends. On a busy machine it comes to 400 MiB.
	b.allowed = 512 << 20
	if raceEnabled { // the race detector slows the collector down, and garbage waits longer
		b.allowed = 768 << 20
	}
	// The pooled decoders of zstd keep hold of what they last wrote into, until the next batch: the large memory at worst.
	b.kept += 64 << 20
	for name, batch := range all {
		t.Run(name, func(t *testing.T) {
			var sent sync.WaitGroup
			for range connections {
				conn := b.dial(t)
				sent.Go(func() { sendBomb(t, conn, batch) })
			}
			sent.Wait()
		})
	}
	t.Run("looked into by time", func(t *testing.T) {
		var sent sync.WaitGroup
		for range connections {
			conn := b.dial(t)
			sent.Go(func() { findByTime(t, conn, later) })
		}
		sent.Wait()
	})
}

// findByTime asks for a record that is in one of the large batches: it is decompressed to find it.
func findByTime(t *testing.T, conn net.Conn, at int64) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.SetVersion(7)
	req.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = "honest"
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp = at
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := call(t, conn, req)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return
	}
	if p := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.Offset < 0 {
		t.Errorf("answered with offset %d, %v", p.Offset, kerr.ErrorForCode(p.ErrorCode))
	}
}

func sendBomb(t *testing.T, conn net.Conn, batch []byte) {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(9)
	req.Acks, req.TimeoutMillis = -1, 5000
	pt := kmsg.NewProduceRequestTopicPartition()
	pt.Records = batch
	to := kmsg.NewProduceRequestTopic()
	to.Topic, to.Partitions = "honest", []kmsg.ProduceRequestTopicPartition{pt}
	req.Topics = append(req.Topics, to)
	resp, err := call(t, conn, req)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return
	}
	code := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
	if code != kerr.InvalidRecord.Code && code != kerr.MessageTooLarge.Code && code != kerr.CorruptMessage.Code && code != 0 {
		t.Errorf("answered with %v", kerr.ErrorForCode(code))
	}
}
