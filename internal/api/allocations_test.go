//go:build !race

// The race detector empties pools at random, so that allocations cannot be counted with it.

package api

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
)

// TestProduceAndFetchHardlyAllocate bounds what requests cost the garbage collector that come for every batch, from the socket to the socket.
// The bounds are a little above what was measured (none, and one for the commit group of a produce): an allocation for each partition would
// break them.
func TestProduceAndFetchHardlyAllocate(t *testing.T) {
	const partitions, runs, most = 12, 100, 3
	broker := newBroker(t)
	id := broker.createTopic("t", partitions)
	c, _ := broker.tcpClient(testListener)
	buf := make([]byte, 2<<20)
	fetch := func(version int16, offset int64) *kmsg.FetchRequest {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxBytes, req.MinBytes, req.MaxWaitMillis, req.SessionEpoch = version, 1<<20, 1, 1, finalEpoch
		addFetch(req, "t", id, 0, offset)
		for p := range int32(partitions - 1) {
			more := req.Topics[0].Partitions[0]
			more.Partition = p + 1
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, more)
		}
		return req
	}
	epochMark := []byte("next") // stands for the epoch of a session, which is another in each request
	count := func(name string, req kmsg.Request) {
		t.Helper()
		frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
		epochAt, epoch := bytes.Index(frame, epochMark), uint32(0)
		if n := testing.AllocsPerRun(runs, func() {
			if epoch++; epochAt >= 0 {
				binary.BigEndian.PutUint32(frame[epochAt:], epoch)
			}
			exchangeRaw(t, c, frame, buf)
		}); n > most {
			t.Errorf("%s of %d partitions makes %v allocations, more than %d", name, partitions, n, most)
		}
	}

	produce := produceRequest(12, "t", base.TopicID{}, 0, batchOf(1000, strings.Repeat("x", 1000)))
	for p := range int32(partitions - 1) {
		more := produce.Topics[0].Partitions[0]
		more.Partition = p + 1
		produce.Topics[0].Partitions = append(produce.Topics[0].Partitions, more)
	}
	for _, version := range []int16{12, 13} { // by name, and by id
		produce.Version, produce.Topics[0].TopicID = version, id
		count("a produce", produce)
	}
	const end = 2 * (1 + runs)
	for _, version := range []int16{12, 16} {
		count("a fetch of records", fetch(version, 0))
		count("a fetch that waits", fetch(version, end))

		begin := fetch(version, end)
		begin.SessionEpoch = initialEpoch
		session := ask[*kmsg.FetchResponse](c, begin).SessionID
		next := kmsg.NewPtrFetchRequest()
		next.Version, next.MaxBytes, next.MinBytes, next.MaxWaitMillis, next.SessionID = version, 1<<20, 1, 1, session
		next.SessionEpoch = int32(binary.BigEndian.Uint32(epochMark))
		count("a fetch in a session", next)
	}
}
