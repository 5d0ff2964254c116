package api

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/wire"
)

// sampleProduce is a request with all that a version can hold: two topics, one with two partitions and null records, one with none.
func sampleProduce(version int16) *kmsg.ProduceRequest {
	req := fullProduce(version)
	if version >= 9 {
		req.UnknownTags.Set(7, []byte("of the request"))
		req.Topics[0].UnknownTags.Set(3, []byte("of a topic"))
		req.Topics[0].Partitions[0].UnknownTags.Set(200, nil)
	}
	return req
}

func fullProduce(version int16) *kmsg.ProduceRequest {
	req := produceRequest(version, "orders", base.TopicID{1, 2, 3}, 4, []byte("records"))
	if version >= 13 {
		req.Topics[0].Topic = "" // it is not encoded
	} else {
		req.Topics[0].TopicID = [16]byte{}
	}
	req.TransactionID, req.Acks, req.TimeoutMillis = kmsg.StringPtr("tx"), -1, 1500
	null := req.Topics[0].Partitions[0]
	null.Partition, null.Records = 5, nil
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, null)
	none := req.Topics[0]
	none.Partitions = nil
	req.Topics = append(req.Topics, none)
	return req
}

// sameProduce says where a request and what kmsg makes of the same body differ.
func sameProduce(got *produceBody, want *kmsg.ProduceRequest) error {
	if got.version != want.Version || got.transactional != (want.TransactionID != nil) || got.acks != want.Acks ||
		got.timeoutMillis != want.TimeoutMillis || len(got.topics) != len(want.Topics) {
		return fmt.Errorf("%+v, want %+v", got, want)
	}
	partitions := got.partitions
	for i, topic := range want.Topics {
		g := &got.topics[i]
		if err := sameTopic(g, topic.Topic, topic.TopicID, len(topic.Partitions)); err != nil {
			return fmt.Errorf("topic %d: %w", i, err)
		}
		for j, p := range topic.Partitions {
			if g := partitions[j]; g.index != p.Partition || !bytes.Equal(g.records, p.Records) || (g.records == nil) != (p.Records == nil) {
				return fmt.Errorf("topic %d, partition %d: %+v, want %+v", i, j, g, p)
			}
		}
		partitions = partitions[g.partitions:]
	}
	if len(partitions) > 0 {
		return fmt.Errorf("%d partitions are left", len(partitions))
	}
	return nil
}

// sameTopic says where a topic and what kmsg makes of it differ.
func sameTopic(got *bodyTopic, name string, id [16]byte, partitions int) error {
	if got.nameOf() != name || got.id != id || got.partitions != partitions {
		return fmt.Errorf("%+v, want %q, %x, %d partitions", got, name, id, partitions)
	}
	return nil
}

// refusesCutBodies cuts a body short in every way.
func refusesCutBodies(t *testing.T, d interface{ decode(*wire.Request) error }, whole *wire.Request) {
	t.Helper()
	for cut := range whole.Body[:len(whole.Body)-1] {
		if d.decode(&wire.Request{Key: whole.Key, Version: whole.Version, Body: whole.Body[:cut]}) == nil {
			t.Errorf("v%d: a body cut to %d of %d bytes was decoded", whole.Version, cut, len(whole.Body))
		}
	}
}

func TestProduceRequestsDecodeAsInKmsg(t *testing.T) {
	t.Parallel()
	var got produceBody
	for version := int16(3); version <= 13; version++ {
		want := sampleProduce(version)
		body := want.AppendTo(nil)
		if err := got.decode(&wire.Request{Version: version, Body: body}); err != nil {
			t.Fatalf("v%d: %v", version, err)
		}
		if err := sameProduce(&got, want); err != nil {
			t.Errorf("v%d: %v", version, err)
		}
		refusesCutBodies(t, &got, &wire.Request{Version: version, Body: body})
	}
}

func FuzzDecodeProduce(f *testing.F) {
	for version := int16(3); version <= 13; version++ {
		f.Add(version, sampleProduce(version).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		if version < 3 || version > 13 {
			return // no version of Produce
		}
		var want kmsg.ProduceRequest
		wantErr := wire.Decode(&wire.Request{Version: version, Body: body}, &want)
		var got produceBody
		err := got.decode(&wire.Request{Version: version, Body: body})
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err == nil {
			if err := sameProduce(&got, &want); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestProduceAnswersEncodeAsInKmsg encodes answers with one memory, as production does, and holds them against kmsg's.
func TestProduceAnswersEncodeAsInKmsg(t *testing.T) {
	t.Parallel()
	for version := int16(3); version <= 13; version++ {
		p := &producing{}
		p.resp.Version = version
		for i := range 3 {
			out := p.answerTopic(&bodyTopic{name: fmt.Append(nil, "topic", i), id: base.TopicID{byte(i)}}, nil)
			for j := range i {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition, part.BaseOffset, part.LogAppendTime, part.LogStartOffset = int32(j), 1<<40, 1<<41, int64(j)
				out.Partitions = append(out.Partitions, part)
			}
		}
		if got, want := p.appendAnswer(nil), p.resp.AppendTo(nil); !bytes.Equal(got, want) {
			t.Errorf("v%d:\n%x, want\n%x", version, got, want)
		}
	}
}
