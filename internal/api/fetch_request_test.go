package api

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/wire"
)

// sampleFetch is a request with all that a version can hold: two topics, one of them with two partitions, and two that are forgotten.
func sampleFetch(version int16) *kmsg.FetchRequest {
	req := fetchRequest(version, "orders", base.TopicID{1, 2, 3}, 4, 1<<40)
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel = 500, 1, 1<<20, 1
	first := &req.Topics[0].Partitions[0]
	first.PartitionMaxBytes = 1 << 10
	second := *first
	second.Partition, second.FetchOffset, second.PartitionMaxBytes = 5, 7, 1<<11
	none := req.Topics[0]
	none.Partitions = nil
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, second)
	req.Topics = append(req.Topics, none)
	if version >= 7 {
		req.SessionID, req.SessionEpoch = 77, 3
		for _, partitions := range [][]int32{{1, 2}, nil} {
			gone := kmsg.NewFetchRequestForgottenTopic()
			gone.Topic, gone.TopicID, gone.Partitions = "gone", [16]byte{9}, partitions
			req.ForgottenTopics = append(req.ForgottenTopics, gone)
		}
	}
	if version >= 11 {
		req.Rack = "here"
	}
	if version >= 12 {
		first.CurrentLeaderEpoch, first.LastFetchedEpoch = 8, 6
		first.UnknownTags.Set(200, []byte("of a partition"))
		req.Topics[0].UnknownTags.Set(3, nil)
		req.ForgottenTopics[0].UnknownTags.Set(3, []byte("of one forgotten"))
		req.UnknownTags.Set(7, []byte("of the request"))
		req.ClusterID = kmsg.StringPtr("cluster")
	}
	if version >= 15 {
		req.ReplicaState.ID, req.ReplicaState.Epoch = 2, 3
		req.ReplicaState.UnknownTags.Set(0, []byte("of the replica"))
	}
	return req
}

// sameFetch says where a request and what kmsg makes of the same body differ.
func sameFetch(got *fetchBody, want *kmsg.FetchRequest) error {
	replica := want.ReplicaID
	if want.Version >= 15 {
		replica = want.ReplicaState.ID
	}
	if got.version != want.Version || got.replica != replica || got.maxWaitMillis != want.MaxWaitMillis || got.minBytes != want.MinBytes ||
		got.maxBytes != want.MaxBytes || got.isolation != want.IsolationLevel || got.sessionID != want.SessionID ||
		got.sessionEpoch != want.SessionEpoch || len(got.topics) != len(want.Topics) || len(got.forgotten) != len(want.ForgottenTopics) {
		return fmt.Errorf("%+v, want %+v", got, want)
	}
	partitions := got.partitions
	for i, topic := range want.Topics {
		g := &got.topics[i]
		if err := sameTopic(g, topic.Topic, topic.TopicID, len(topic.Partitions)); err != nil {
			return fmt.Errorf("topic %d: %w", i, err)
		}
		for j, p := range topic.Partitions {
			want := fetchPartition{index: p.Partition, currentEpoch: p.CurrentLeaderEpoch, lastEpoch: p.LastFetchedEpoch, offset: p.FetchOffset, maxBytes: p.PartitionMaxBytes}
			if partitions[j] != want {
				return fmt.Errorf("topic %d, partition %d: %+v, want %+v", i, j, partitions[j], want)
			}
		}
		partitions = partitions[g.partitions:]
	}
	forgotten := got.forgottenPartitions
	for i, topic := range want.ForgottenTopics {
		g := &got.forgotten[i]
		if err := sameTopic(g, topic.Topic, topic.TopicID, len(topic.Partitions)); err != nil {
			return fmt.Errorf("forgotten topic %d: %w", i, err)
		}
		for j, p := range topic.Partitions {
			if forgotten[j] != p {
				return fmt.Errorf("forgotten topic %d, partition %d: %d, want %d", i, j, forgotten[j], p)
			}
		}
		forgotten = forgotten[g.partitions:]
	}
	if len(partitions) > 0 || len(forgotten) > 0 {
		return fmt.Errorf("%d partitions and %d forgotten ones are left", len(partitions), len(forgotten))
	}
	return nil
}

func TestFetchRequestsDecodeAsInKmsg(t *testing.T) {
	t.Parallel()
	var got fetchBody
	for version := int16(4); version <= 18; version++ {
		sample := sampleFetch(version)
		body := sample.AppendTo(nil)
		want := &kmsg.FetchRequest{Version: version} // encoding leaves out what the version does not have
		if err := want.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		if err := got.decode(&wire.Request{Key: 1, Version: version, Body: body}); err != nil {
			t.Fatalf("v%d: %v", version, err)
		}
		if err := sameFetch(&got, want); err != nil {
			t.Errorf("v%d: %v", version, err)
		}
		refusesCutBodies(t, &got, &wire.Request{Key: 1, Version: version, Body: body})
	}
}

func FuzzDecodeFetch(f *testing.F) {
	for version := int16(4); version <= 18; version++ {
		f.Add(version, sampleFetch(version).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		if version < 4 || version > 18 {
			return // no version of Fetch
		}
		var want kmsg.FetchRequest
		wantErr := wire.Decode(&wire.Request{Key: 1, Version: version, Body: body}, &want)
		var got fetchBody
		err := got.decode(&wire.Request{Key: 1, Version: version, Body: body})
		if version < 18 && errors.Is(wantErr, kbin.ErrNotEnoughData) && err == nil {
			return // kmsg looks into tags of later versions; Kafka passes over them, and so do we
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err == nil {
			if err := sameFetch(&got, &want); err != nil {
				t.Fatal(err)
			}
		}
	})
}
