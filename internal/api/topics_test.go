package api

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
)

// newTopicRequest asks for topics of one partition each.
func newTopicRequest(version int16, names ...string) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = version
	for _, name := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, 1, 1
		req.Topics = append(req.Topics, t)
	}
	return req
}

func setConfig(t *kmsg.CreateTopicsRequestTopic, name, value string) {
	c := kmsg.NewCreateTopicsRequestTopicConfig()
	c.Name, c.Value = name, &value
	t.Configs = append(t.Configs, c)
}

func TestCreatedTopicIsThereAtOnce(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	c := b.client()
	for version := int16(2); version <= 7; version++ {
		name := "topic" + string(rune('0'+version))
		req := newTopicRequest(version, name)
		req.Topics[0].NumPartitions = 3
		setConfig(&req.Topics[0], "retention.ms", "1000")
		got := ask[*kmsg.CreateTopicsResponse](c, req).Topics[0]
		if got.ErrorCode != 0 || got.Topic != name {
			t.Fatalf("v%d: %+v", version, got)
		}
		if version >= 5 && (got.NumPartitions != 3 || got.ReplicationFactor != 1 || len(got.Configs) < 30) {
			t.Errorf("v%d: %d partitions, %d replicas, %d configs", version, got.NumPartitions, got.ReplicationFactor, len(got.Configs))
		}
		if version >= 7 && base.TopicID(got.TopicID).IsZero() {
			t.Errorf("v%d: no topic id", version)
		}
		mustProduce(c, name, 2, "a")
	}
}

func TestCreateTopicsRefusals(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("exists", 1)
	c := b.client()
	cases := []struct {
		name   string
		change func(t *kmsg.CreateTopicsRequestTopic)
		want   *kerr.Error
		text   string
	}{
		{"exists", nil, kerr.TopicAlreadyExists, "Topic 'exists' already exists."},
		{"a b", nil, kerr.InvalidTopicException, "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"},
		{"__cluster_metadata", nil, kerr.InvalidRequest, "Creation of internal topic __cluster_metadata is prohibited."},
		{"config", func(t *kmsg.CreateTopicsRequestTopic) { setConfig(t, "foo", "1") }, kerr.InvalidConfig, "Unknown topic config name: foo"},
		{"value", func(t *kmsg.CreateTopicsRequestTopic) { setConfig(t, "retention.ms", "abc") }, kerr.InvalidConfig,
			"Invalid value abc for configuration retention.ms: Not a number of type LONG"},
		{"exists", func(t *kmsg.CreateTopicsRequestTopic) { setConfig(t, "foo", "1") }, kerr.TopicAlreadyExists, "Topic 'exists' already exists."},
		{"null", func(t *kmsg.CreateTopicsRequestTopic) {
			t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "retention.ms"})
		}, kerr.InvalidConfig, "Null value not supported for topic configs: retention.ms"},
		{"parts", func(t *kmsg.CreateTopicsRequestTopic) { t.NumPartitions = 0 }, kerr.InvalidPartitions,
			"Number of partitions was set to an invalid non-positive value."},
		{"many", func(t *kmsg.CreateTopicsRequestTopic) { t.NumPartitions = 20_000 }, kerr.PolicyViolation,
			"Excessively large number of partitions per request."},
		{"factor", func(t *kmsg.CreateTopicsRequestTopic) { t.ReplicationFactor = 3 }, kerr.InvalidReplicationFactor, ""},
	}
	for _, tc := range cases {
		req := newTopicRequest(7, tc.name)
		if tc.change != nil {
			tc.change(&req.Topics[0])
		}
		got := ask[*kmsg.CreateTopicsResponse](c, req).Topics[0]
		if got.ErrorCode != tc.want.Code || got.ErrorMessage == nil || tc.text != "" && *got.ErrorMessage != tc.text {
			t.Errorf("%s: code %d, want %s and %q", tc.name, got.ErrorCode, tc.want.Message, tc.text)
		}
		if got.NumPartitions != -1 || got.ReplicationFactor != -1 || got.Configs == nil {
			t.Errorf("%s: %+v, want -1 partitions and an empty list of configs", tc.name, got)
		}
	}
}

func TestTopicNamedTwiceFailsOnceAndSpoilsNoOther(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	got := ask[*kmsg.CreateTopicsResponse](b.client(), newTopicRequest(7, "twice", "good", "twice", "twice")).Topics
	codes := map[string]int16{}
	for _, topic := range got {
		codes[topic.Topic] = topic.ErrorCode
	}
	if len(got) != 2 || codes["twice"] != kerr.InvalidRequest.Code || codes["good"] != 0 {
		t.Errorf("%v in %d results", codes, len(got))
	}
}

func TestValidateOnlyCreatesNothing(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	req := newTopicRequest(7, "t")
	req.ValidateOnly = true
	if got := ask[*kmsg.CreateTopicsResponse](b.client(), req).Topics[0]; got.ErrorCode != 0 || got.NumPartitions != 1 {
		t.Errorf("%+v", got)
	}
	if _, exists := b.metadata.Image().Topic("t"); exists {
		t.Error("the topic was created")
	}
}

func TestDeleteTopicsByNameAndID(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	c := b.client()
	b.createTopic("named", 1)
	byName := kmsg.NewPtrDeleteTopicsRequest()
	byName.Version, byName.TopicNames = 1, []string{"named", "nope"}
	got := ask[*kmsg.DeleteTopicsResponse](c, byName).Topics
	if got[0].ErrorCode != 0 || got[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("by name: %+v", got)
	}
	id := b.createTopic("identified", 1)
	byID := kmsg.NewPtrDeleteTopicsRequest()
	byID.Version = 6
	add := func(name *string, id base.TopicID) {
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.Topic, topic.TopicID = name, id
		byID.Topics = append(byID.Topics, topic)
	}
	add(nil, id)
	add(nil, base.TopicID{9})
	add(kmsg.StringPtr("x"), base.TopicID{9})
	add(nil, base.TopicID{})
	var codes []int16
	for _, topic := range ask[*kmsg.DeleteTopicsResponse](c, byID).Topics {
		codes = append(codes, topic.ErrorCode)
	}
	if want := []int16{0, kerr.UnknownTopicID.Code, kerr.InvalidRequest.Code, kerr.InvalidRequest.Code}; !slices.Equal(codes, want) {
		t.Errorf("by id: codes %v, want %v", codes, want)
	}
	if got := produced1(c, produceRequest(13, "", id, 0, batchOf(1000, "a"))); got.ErrorCode != kerr.UnknownTopicID.Code {
		t.Errorf("produce to the deleted topic: code %d", got.ErrorCode)
	}
}

func TestDeletionCanBeDisabled(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "delete.topic.enable=false")
	b.createTopic("t", 1)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TopicNames = 5, []string{"t"}
	if got := ask[*kmsg.DeleteTopicsResponse](b.client(), req).Topics[0]; got.ErrorCode != kerr.TopicDeletionDisabled.Code {
		t.Errorf("code %d, want TOPIC_DELETION_DISABLED", got.ErrorCode)
	}
}

func TestCreatePartitions(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 2)
	c := b.client()
	grow := func(validate bool, topic string, count int32) kmsg.CreatePartitionsResponseTopic {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Version, req.ValidateOnly = 3, validate
		item := kmsg.NewCreatePartitionsRequestTopic()
		item.Topic, item.Count = topic, count
		req.Topics = append(req.Topics, item)
		return ask[*kmsg.CreatePartitionsResponse](c, req).Topics[0]
	}
	if got := grow(false, "t", 2); got.ErrorCode != kerr.InvalidPartitions.Code || *got.ErrorMessage != "Topic already has 2 partition(s)." {
		t.Errorf("same: %+v", got)
	}
	if got := grow(false, "nope", 2); got.ErrorCode != kerr.UnknownTopicOrPartition.Code || got.ErrorMessage != nil {
		t.Errorf("unknown: %+v", got)
	}
	if got := grow(true, "t", 4); got.ErrorCode != 0 {
		t.Errorf("validate only: %+v", got)
	}
	if got := produced1(c, produceRequest(9, "t", base.TopicID{}, 3, batchOf(1000, "a"))); got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("validate only made partitions: code %d", got.ErrorCode)
	}
	if got := grow(false, "t", 4); got.ErrorCode != 0 {
		t.Errorf("grow: %+v", got)
	}
	mustProduce(c, "t", 3, "a")
}

// metadataRequest asks for topics by name.
func metadataRequest(version int16, names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = version
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
	}
	return req
}

func TestMetadataOfAllOfNoneAndOfSome(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("a", 2)
	id := b.createTopic("b", 1)
	c := b.client()
	names := func(req *kmsg.MetadataRequest) string {
		resp := ask[*kmsg.MetadataResponse](c, req)
		if len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != 1 {
			t.Errorf("v%d: brokers %+v", req.Version, resp.Brokers)
		}
		if req.Version >= 2 && (resp.ClusterID == nil || *resp.ClusterID != b.metadata.Image().ClusterID()) {
			t.Errorf("v%d: cluster id %v", req.Version, resp.ClusterID)
		}
		var list []string
		for _, topic := range resp.Topics {
			list = append(list, *topic.Topic)
			if topic.ErrorCode == 0 && len(topic.Partitions) == 0 {
				t.Errorf("v%d: %s has no partitions", req.Version, *topic.Topic)
			}
		}
		return strings.Join(list, " ")
	}
	for version := int16(0); version <= 13; version++ {
		all := metadataRequest(version)
		if version > 0 {
			if got := names(all); got != "" {
				t.Errorf("v%d: empty list: %q, want no topics", version, got)
			}
			all.Topics = nil
		}
		if got := names(all); got != "a b" {
			t.Errorf("v%d: all: %q", version, got)
		}
		if got := names(metadataRequest(version, "b", "b")); got != "b" {
			t.Errorf("v%d: b twice: %q", version, got)
		}
	}
	byID := metadataRequest(12)
	topic := kmsg.NewMetadataRequestTopic()
	topic.TopicID = id
	byID.Topics = append(byID.Topics, topic)
	if got := names(byID); got != "b" {
		t.Errorf("by id: %q", got)
	}
	byID.Topics[0].TopicID = [16]byte{9}
	if got := ask[*kmsg.MetadataResponse](c, byID).Topics[0]; got.ErrorCode != kerr.UnknownTopicID.Code || got.Topic != nil {
		t.Errorf("unknown id: %+v", got)
	}
	byID.Version = 11
	if got := ask[*kmsg.MetadataResponse](c, byID).Topics[0]; got.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("by id at v11: %+v", got)
	}
}

func TestMetadataCreatesTopics(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "num.partitions=3")
	c := b.client()
	codes := func(req *kmsg.MetadataRequest) (list []int16) {
		for _, topic := range ask[*kmsg.MetadataResponse](c, req).Topics {
			list = append(list, topic.ErrorCode)
		}
		return list
	}
	req := metadataRequest(9, "t", "a b")
	if got := codes(req); !slices.Equal(got, []int16{kerr.UnknownTopicOrPartition.Code, kerr.InvalidTopicException.Code}) {
		t.Errorf("not allowed: %v", got)
	}
	req.AllowAutoTopicCreation = true
	if got := codes(req); !slices.Equal(got, []int16{0, kerr.InvalidTopicException.Code}) {
		t.Errorf("allowed: %v", got)
	}
	mustProduce(c, "t", 2, "a")
	if got := codes(metadataRequest(3, "always")); !slices.Equal(got, []int16{0}) {
		t.Errorf("v3: %v, want it created", got)
	}
	off := newBroker(t, "auto.create.topics.enable=false")
	req = metadataRequest(9, "t")
	req.AllowAutoTopicCreation = true
	if got := ask[*kmsg.MetadataResponse](off.client(), req).Topics[0]; got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("switched off: %+v", got)
	}
}

func TestMetadataTellsOperationsOnlyIfAsked(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	req := metadataRequest(8, "t")
	resp := ask[*kmsg.MetadataResponse](c, req)
	if resp.AuthorizedOperations != unknownOperations || resp.Topics[0].AuthorizedOperations != unknownOperations {
		t.Errorf("not asked: %d, %d", resp.AuthorizedOperations, resp.Topics[0].AuthorizedOperations)
	}
	req.IncludeClusterAuthorizedOperations, req.IncludeTopicAuthorizedOperations = true, true
	resp = ask[*kmsg.MetadataResponse](c, req)
	// What a broker of 4.3.1 without authorizer answers.
	if resp.AuthorizedOperations != 8096 || resp.Topics[0].AuthorizedOperations != 3576 {
		t.Errorf("asked: %d, %d, want 8096, 3576", resp.AuthorizedOperations, resp.Topics[0].AuthorizedOperations)
	}
}
