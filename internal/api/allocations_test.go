//go:build !race

// The race detector empties pools at random, so that allocations cannot be counted with it.

package api

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAFetchHardlyAllocates bounds what a fetch costs the garbage collector, from the socket to the socket. The bounds are a little above
// what was measured (17 and 5): one allocation more for each partition would break them.
func TestAFetchHardlyAllocates(t *testing.T) {
	const partitions = 12
	broker := newBroker(t)
	id := broker.createTopic("t", partitions)
	c, _ := broker.tcpClient(testListener)
	for p := range int32(partitions) {
		mustProduce(c, "t", p, strings.Repeat("x", 1000))
	}
	for _, test := range []struct {
		name   string
		offset int64
		most   float64
	}{{"of records", 0, partitions + 9 /* one is made to find the records of a partition */}, {"that waits", 1, 9}} {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxBytes, req.MinBytes, req.MaxWaitMillis, req.SessionEpoch = 16, 1<<20, 1, 1, finalEpoch
		addFetch(req, "t", id, 0, test.offset)
		for p := range int32(partitions - 1) {
			more := req.Topics[0].Partitions[0]
			more.Partition = p + 1
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, more)
		}
		frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
		buf := make([]byte, 64<<10)
		if n := testing.AllocsPerRun(100, func() { exchangeRaw(t, c, frame, buf) }); n > test.most {
			t.Errorf("a fetch %s of %d partitions makes %v allocations, more than %v", test.name, partitions, n, test.most)
		}
	}
}
