package api

import (
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
)

// exchangeRaw sends an encoded request and reads its answer into buf.
func exchangeRaw(b testing.TB, c *testClient, frame, buf []byte) int {
	b.Helper()
	if _, err := c.conn.Write(frame); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c.conn, buf[:4]); err != nil {
		b.Fatal(err)
	}
	n := int(binary.BigEndian.Uint32(buf))
	if _, err := io.ReadFull(c.conn, buf[:n]); err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkProduce is what a produce of one batch costs through the whole broker, its disk being memory.
func BenchmarkProduce(b *testing.B) {
	for _, bench := range []struct {
		name    string
		records int
		bytes   int
	}{{"1KiB", 1, 900}, {"64KiB", 64, 1000}} {
		b.Run(bench.name, func(b *testing.B) {
			broker := newBroker(b)
			broker.createTopic("t", 1)
			c, _ := broker.tcpClient(testListener)
			values := make([]string, bench.records)
			for i := range values {
				values[i] = strings.Repeat("x", bench.bytes)
			}
			batch := batchOf(1000, values...)
			frame := kmsg.NewRequestFormatter().AppendRequest(nil, produceRequest(12, "t", base.TopicID{}, 0, batch), 1)
			buf := make([]byte, 1<<10)
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				exchangeRaw(b, c, frame, buf)
			}
		})
	}
}

// BenchmarkFetch is what a fetch of about a MiB from the tail costs.
func BenchmarkFetch(b *testing.B) {
	broker := newBroker(b)
	id := broker.createTopic("t", 1)
	c, _ := broker.tcpClient(testListener)
	values := make([]string, 64)
	for i := range values {
		values[i] = strings.Repeat("x", 1000)
	}
	for range 16 {
		mustProduce(c, "t", 0, values...)
	}
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, fetchRequest(16, "t", id, 0, 0), 1)
	buf := make([]byte, 2<<20)
	b.SetBytes(int64(exchangeRaw(b, c, frame, buf)))
	b.ReportAllocs()
	for b.Loop() {
		exchangeRaw(b, c, frame, buf)
	}
}

// BenchmarkIdleSession is what a fetch costs in a session of many partitions of which none has anything new.
func BenchmarkIdleSession(b *testing.B) {
	const partitions = 1000
	broker := newBroker(b)
	id := broker.createTopic("t", partitions)
	c, _ := broker.tcpClient(testListener)
	full := sessionRequest(0, 0)
	for p := range int32(partitions) {
		addFetch(full, "", id, p, 0)
	}
	session := ask[*kmsg.FetchResponse](c, full).SessionID
	buf := make([]byte, 1<<20)
	b.ReportAllocs()
	for epoch := int32(1); b.Loop(); epoch++ {
		frame := kmsg.NewRequestFormatter().AppendRequest(nil, sessionRequest(session, epoch), 1)
		exchangeRaw(b, c, frame, buf)
	}
}

// BenchmarkDescribeConfigs is what it costs to tell all settings of the broker, with documentation.
func BenchmarkDescribeConfigs(b *testing.B) {
	broker := newBroker(b)
	c, _ := broker.tcpClient(testListener)
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms, req.IncludeDocumentation = 4, true, true
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeBroker, "1"
	req.Resources = append(req.Resources, resource)
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(exchangeRaw(b, c, frame, buf)))
	b.ReportAllocs()
	for b.Loop() {
		exchangeRaw(b, c, frame, buf)
	}
}
