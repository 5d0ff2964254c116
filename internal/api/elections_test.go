package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// electRequest asks for elections in partitions of topics, given as "topic:0,1"; no topics at all mean every partition.
func electRequest(tb testing.TB, version int16, election int8, topics ...string) *kmsg.ElectLeadersRequest {
	tb.Helper()
	req := kmsg.NewPtrElectLeadersRequest()
	req.Version, req.ElectionType = version, election
	for _, spec := range topics {
		t := kmsg.NewElectLeadersRequestTopic()
		t.Topic, t.Partitions = partitionSpec(tb, spec)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// partitionSpec takes "topic:0,1" apart.
func partitionSpec(tb testing.TB, spec string) (topic string, partitions []int32) {
	tb.Helper()
	topic, list, _ := strings.Cut(spec, ":")
	for _, part := range strings.Split(list, ",") {
		var index int32
		if _, err := fmt.Sscan(part, &index); part != "" && err != nil {
			tb.Fatal(err)
		}
		if part != "" {
			partitions = append(partitions, index)
		}
	}
	return topic, partitions
}

// shownResult is a partition's part of an answer in one line.
func shownResult(topic string, partition int32, code int16, message *string) string {
	text := "null"
	if message != nil {
		text = *message
	}
	return shownCode(topic, partition, code) + " " + text
}

// shownCode is a partition's code in one line.
func shownCode(topic string, partition int32, code int16) string {
	return fmt.Sprintf("%s:%d %d", topic, partition, code)
}

// The expected codes and messages are what Apache Kafka 4.3.1 answered.
func TestElectLeadersAnswersAsTheReference(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("p", 2)
	b.createTopic("q", 1)
	c := b.client()
	const needless = " 84 Leader election not needed for topic partition."
	cases := []struct {
		name     string
		election int8
		topics   []string
		code     int16
		want     []string
	}{
		{"preferred", 0, []string{"q:0", "p:1,0"}, 0, []string{"q:0" + needless, "p:1" + needless, "p:0" + needless}},
		{"unclean", 1, []string{"p:0"}, 0, []string{"p:0" + needless}},
		{"unknown topic", 0, []string{"nope:0", ":0"}, 0, []string{"nope:0 3 No such topic as nope", ":0 3 No such topic as "}},
		{"unknown partition", 0, []string{"p:9", "q:-1,0"}, 0, []string{"p:9 3 No such partition as p-9", "q:-1 3 No such partition as q--1", "q:0" + needless}},
		{"named twice", 0, []string{"p:0,0", "p:0"}, 0, []string{"p:0" + needless, "p:0" + needless, "p:0" + needless}},
		{"unknown type", 2, []string{"p:0", "nope:0"}, 42, []string{"p:0 42 Unknown election type 2", "nope:0 42 Unknown election type 2"}},
	}
	for _, tc := range cases {
		for version := int16(0); version <= 2; version++ {
			if version == 0 && tc.election != 0 {
				continue
			}
			resp := ask[*kmsg.ElectLeadersResponse](c, electRequest(t, version, tc.election, tc.topics...))
			var got []string
			for _, topic := range resp.Topics {
				for _, p := range topic.Partitions {
					got = append(got, shownResult(topic.Topic, p.Partition, p.ErrorCode, p.ErrorMessage))
				}
			}
			if resp.ErrorCode != tc.code || !slices.Equal(got, tc.want) {
				t.Errorf("%s, v%d: code %d, %q, want %d, %q", tc.name, version, resp.ErrorCode, got, tc.code, tc.want)
			}
		}
	}
}

func TestElectLeadersOfAllLeavesOutWhoeverNeedsNone(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("p", 2)
	b.createTopic("q", 1)
	c := b.client()
	for version := int16(0); version <= 2; version++ {
		resp := ask[*kmsg.ElectLeadersResponse](c, electRequest(t, version, electPreferred))
		if resp.ErrorCode != 0 || len(resp.Topics) != 2 || len(resp.Topics[0].Partitions)+len(resp.Topics[1].Partitions) != 0 {
			t.Errorf("v%d: %+v, want two topics without partitions", version, resp)
		}
		none := electRequest(t, version, electPreferred)
		none.Topics = []kmsg.ElectLeadersRequestTopic{}
		if resp := ask[*kmsg.ElectLeadersResponse](c, none); resp.ErrorCode != 0 || len(resp.Topics) != 0 {
			t.Errorf("v%d, of none: %+v", version, resp)
		}
	}
	if resp := ask[*kmsg.ElectLeadersResponse](c, electRequest(t, 2, 9)); resp.ErrorCode != 42 || len(resp.Topics) != 0 {
		t.Errorf("an unknown type of all: %+v, want INVALID_REQUEST and no topics", resp)
	}
}
