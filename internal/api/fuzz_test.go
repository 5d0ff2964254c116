package api

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/wire"
)

// maxFuzzPartitions is how many partitions a fuzzed broker may have before its topics are deleted.
const maxFuzzPartitions = 5000

// fuzzAnswerTimeout is how long a fuzzed request may take to be answered: it may ask to wait for hours.
const fuzzAnswerTimeout = 5 * time.Millisecond

// FuzzDecode sends one request of any API, version and body to a whole broker. It may be answered or close the connection; it must
// not panic, nor leave the broker unable to answer the next.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("../wire/testdata/captures/*.bin")
	if err != nil || len(files) == 0 {
		f.Fatalf("no captures of real clients: %v", err)
	}
	for _, file := range files {
		frame, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	for _, row := range table() {
		for _, version := range []int16{row.min, row.max} {
			req := kmsg.RequestForKey(row.key)
			req.SetVersion(version)
			f.Add(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)[4:])
		}
	}
	b := newBroker(f)
	b.createTopic("t", 2)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > 1<<20 {
			return
		}
		b.exchange(t, frame)
		b.tidy(t)
	})
}

// exchange sends a frame over a connection of its own and waits a moment for the answer, then until nothing of it runs any more.
func (b *testBroker) exchange(t *testing.T, frame []byte) {
	near, far := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		b.wire.ServeConn(b.ctx, far, wire.ListenerInfo{Name: testListener})
	}()
	defer func() {
		near.Close()
		<-served
		for _, fault := range b.faults.take() {
			t.Error(fault)
		}
	}()
	if err := near.SetDeadline(time.Now().Add(fuzzAnswerTimeout)); err != nil {
		t.Fatal(err)
	}
	size := binary.BigEndian.AppendUint32(nil, uint32(len(frame)))
	if _, err := near.Write(append(size, frame...)); err != nil {
		return // refused before it was read
	}
	if _, err := io.ReadFull(near, size); err != nil {
		return
	}
	if err := near.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, near, int64(binary.BigEndian.Uint32(size))); err != nil {
		t.Errorf("half an answer: %v", err)
	}
}

// tidy deletes the topics that requests have created, once they are many.
func (b *testBroker) tidy(t *testing.T) {
	image := b.metadata.Image()
	if image.PartitionCount() < maxFuzzPartitions {
		return
	}
	var ids []base.TopicID
	for topic := range image.Topics() {
		if topic.Name != "t" && !topic.Internal {
			ids = append(ids, topic.ID)
		}
	}
	for _, err := range b.metadata.DeleteTopics(b.ctx, ids) {
		if err != nil {
			t.Error(err)
		}
	}
}
