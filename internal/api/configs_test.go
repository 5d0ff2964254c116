package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topicResource   = kmsg.ConfigResourceTypeTopic
	brokerResource  = kmsg.ConfigResourceTypeBroker
	metricsResource = kmsg.ConfigResourceType(16)
	groupResource   = kmsg.ConfigResourceType(32)
)

// described asks for settings of one resource.
func described(c *testClient, kind kmsg.ConfigResourceType, name string, keys ...string) kmsg.DescribeConfigsResponseResource {
	c.tb.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms, req.IncludeDocumentation = 4, true, true
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, keys
	req.Resources = append(req.Resources, r)
	return ask[*kmsg.DescribeConfigsResponse](c, req).Resources[0]
}

// config1 is one setting of a resource as "value source", or the error's name.
func config1(c *testClient, kind kmsg.ConfigResourceType, name, key string) string {
	c.tb.Helper()
	r := described(c, kind, name, key)
	switch {
	case r.ErrorCode != 0:
		return kerr.TypedErrorForCode(r.ErrorCode).Message
	case len(r.Configs) != 1:
		return "absent"
	case r.Configs[0].Value == nil:
		return "null " + r.Configs[0].Source.String()
	}
	return *r.Configs[0].Value + " " + r.Configs[0].Source.String()
}

// configStep is one operation on one setting: "set", "delete", "append", "subtract".
type configStep struct {
	op    string
	key   string
	value *string
}

func incremental(c *testClient, validate bool, kind kmsg.ConfigResourceType, name string, steps ...configStep) kmsg.IncrementalAlterConfigsResponseResource {
	c.tb.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version, req.ValidateOnly = 1, validate
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kind, name
	for _, s := range steps {
		op := map[string]kmsg.IncrementalAlterConfigOp{"set": 0, "delete": 1, "append": 2, "subtract": 3, "bad": 9}[s.op]
		r.Configs = append(r.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: s.key, Op: op, Value: s.value})
	}
	req.Resources = append(req.Resources, r)
	return ask[*kmsg.IncrementalAlterConfigsResponse](c, req).Resources[0]
}

func TestDescribeConfigsOfEveryResource(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "log.retention.hours=2")
	b.createTopic("t", 1, "retention.ms", "1000")
	c := b.client()
	for _, tc := range []struct {
		kind      kmsg.ConfigResourceType
		name, key string
		want      string
	}{
		{topicResource, "t", "retention.ms", "1000 DYNAMIC_TOPIC_CONFIG"},
		{topicResource, "t", "cleanup.policy", "delete DEFAULT_CONFIG"},
		{topicResource, "t", "nope", "absent"},
		{topicResource, "nope", "", kerr.UnknownTopicOrPartition.Message},
		{topicResource, "a b", "", kerr.InvalidTopicException.Message},
		{brokerResource, "1", "num.partitions", "1 DEFAULT_CONFIG"},
		{brokerResource, "1", "log.retention.hours", "2 STATIC_BROKER_CONFIG"},
		{brokerResource, "1", "log.retention.ms", "null DEFAULT_CONFIG"},
		{brokerResource, "", "num.partitions", "absent"},
		{brokerResource, "9", "", kerr.InvalidRequest.Message},
		{brokerResource, "x", "", kerr.InvalidRequest.Message},
		{metricsResource, "s", "interval.ms", "300000 DEFAULT_CONFIG"},
		{metricsResource, "", "", kerr.InvalidRequest.Message},
		{groupResource, "g", "consumer.session.timeout.ms", "45000 DEFAULT_CONFIG"},
		{groupResource, "", "", kerr.InvalidRequest.Message},
		{8, "1", "root", "absent"},
		{99, "x", "", kerr.InvalidRequest.Message},
	} {
		if got := config1(c, tc.kind, tc.name, tc.key); got != tc.want {
			t.Errorf("%v %q %s: %s, want %s", tc.kind, tc.name, tc.key, got, tc.want)
		}
	}
	all := described(c, topicResource, "t")
	if len(all.Configs) != 33 {
		t.Errorf("%d settings of a topic, want Kafka's 33", len(all.Configs))
	}
	for _, e := range all.Configs {
		if e.Documentation == nil || *e.Documentation == "" || e.ConfigType == 0 {
			t.Errorf("%s has no documentation or no type", e.Name)
		}
	}
	for _, e := range described(c, brokerResource, "1").Configs {
		if e.Name == "num.partitions" && !e.ReadOnly {
			t.Error("num.partitions can be changed")
		}
		if e.IsSensitive && e.Value != nil {
			t.Errorf("%s is shown", e.Name)
		}
	}
}

func TestIncrementalAlterConfigs(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	text := func(s string) *string { return &s }
	for _, tc := range []struct {
		kind  kmsg.ConfigResourceType
		name  string
		steps []configStep
		code  *kerr.Error
		text  string
		then  string // the first step's setting afterwards
	}{
		{topicResource, "t", []configStep{{"set", "retention.ms", text("2000")}}, nil, "", "2000 DYNAMIC_TOPIC_CONFIG"},
		{topicResource, "t", []configStep{{"set", "retention.ms", nil}}, kerr.InvalidRequest, "Null value not supported for : retention.ms", "2000 DYNAMIC_TOPIC_CONFIG"},
		{topicResource, "t", []configStep{{"set", "retention.ms", text("1")}, {"set", "retention.ms", text("2")}}, kerr.InvalidRequest,
			"Error due to duplicate config keys", "2000 DYNAMIC_TOPIC_CONFIG"},
		{topicResource, "t", []configStep{{"append", "retention.ms", text("1")}}, kerr.InvalidConfig,
			"Can't APPEND to key retention.ms because its type is not LIST.", "2000 DYNAMIC_TOPIC_CONFIG"},
		{topicResource, "t", []configStep{{"append", "cleanup.policy", text("compact")}}, nil, "", "delete,compact DYNAMIC_TOPIC_CONFIG"},
		{topicResource, "t", []configStep{{"append", "cleanup.policy", text("compact")}}, nil, "", "delete,compact DYNAMIC_TOPIC_CONFIG"},
		{topicResource, "t", []configStep{{"subtract", "cleanup.policy", text("delete")}}, nil, "", "compact DYNAMIC_TOPIC_CONFIG"},
		{topicResource, "t", []configStep{{"delete", "cleanup.policy", nil}}, nil, "", "delete DEFAULT_CONFIG"},
		{topicResource, "t", []configStep{{"delete", "nope", nil}}, nil, "", "absent"},
		{topicResource, "t", []configStep{{"set", "nope", text("1")}}, kerr.InvalidConfig, "Unknown topic config name: nope", "absent"},
		{topicResource, "t", []configStep{{"bad", "retention.ms", text("1")}}, kerr.InvalidRequest, "", "2000 DYNAMIC_TOPIC_CONFIG"},
		{topicResource, "nope", []configStep{{"set", "retention.ms", text("1")}}, kerr.UnknownTopicOrPartition, "The topic 'nope' does not exist.", kerr.UnknownTopicOrPartition.Message},
		{topicResource, "", []configStep{{"set", "retention.ms", text("1")}}, kerr.InvalidRequest, "Default topic resources are not allowed.", kerr.InvalidTopicException.Message},
		{brokerResource, "", []configStep{{"set", "message.max.bytes", text("2000000")}}, nil, "", "2000000 DYNAMIC_DEFAULT_BROKER_CONFIG"},
		{brokerResource, "1", []configStep{{"set", "message.max.bytes", text("3000000")}}, nil, "", "3000000 DYNAMIC_BROKER_CONFIG"},
		{brokerResource, "1", []configStep{{"set", "num.partitions", text("3")}}, kerr.InvalidRequest, "Cannot update these configs dynamically: [num.partitions]", "1 DEFAULT_CONFIG"},
		{brokerResource, "1", []configStep{{"set", "log.retention.ms", text("abc")}}, kerr.InvalidRequest,
			"Invalid value abc for configuration log.retention.ms: Not a number of type LONG", "null DEFAULT_CONFIG"},
		{brokerResource, "9", []configStep{{"set", "log.retention.ms", text("1")}}, kerr.InvalidRequest, "Unexpected broker id, expected 1, but received 9", kerr.InvalidRequest.Message},
		{metricsResource, "s", []configStep{{"set", "interval.ms", text("1000")}}, nil, "", "1000 CLIENT_METRICS_CONFIG"},
		{metricsResource, "s", []configStep{{"set", "interval.ms", text("1")}}, kerr.InvalidRequest,
			"Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)", "1000 CLIENT_METRICS_CONFIG"},
		{metricsResource, "s", []configStep{{"set", "nope", text("1")}}, kerr.InvalidRequest, "Unknown client metrics configuration: nope", "absent"},
		{groupResource, "g", []configStep{{"set", "consumer.session.timeout.ms", text("50000")}}, nil, "", "50000 GROUP_CONFIG"},
		{groupResource, "g", []configStep{{"set", "consumer.session.timeout.ms", text("1")}}, kerr.InvalidConfig,
			"consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms", "50000 GROUP_CONFIG"},
		{groupResource, "g", []configStep{{"set", "consumer.session.timeout.ms", text("abc")}}, kerr.InvalidConfig,
			"Invalid value abc for configuration consumer.session.timeout.ms: Not a number of type INT", "50000 GROUP_CONFIG"},
		{groupResource, "g", []configStep{{"set", "nope", text("1")}}, kerr.InvalidConfig, "Unknown group config name: nope", "absent"},
		{99, "x", []configStep{{"set", "nope", text("1")}}, kerr.InvalidRequest, "Unknown resource type 99", kerr.InvalidRequest.Message},
	} {
		want := int16(0)
		if tc.code != nil {
			want = tc.code.Code
		}
		if tried := incremental(c, true, tc.kind, tc.name, tc.steps...); tried.ErrorCode != want {
			t.Errorf("%v %q %+v: validating gives code %d, want %d", tc.kind, tc.name, tc.steps, tried.ErrorCode, want)
		}
		got := incremental(c, false, tc.kind, tc.name, tc.steps...)
		if got.ErrorCode != want || tc.text != "" && (got.ErrorMessage == nil || *got.ErrorMessage != tc.text) {
			t.Errorf("%v %q %+v: %+v, want code %d and %q", tc.kind, tc.name, tc.steps, got, want, tc.text)
		}
		if then := config1(c, tc.kind, tc.name, tc.steps[0].key); then != tc.then {
			t.Errorf("%v %q %+v: afterwards %s, want %s", tc.kind, tc.name, tc.steps, then, tc.then)
		}
	}
	if got := config1(c, topicResource, "t", "max.message.bytes"); got != "3000000 DYNAMIC_BROKER_CONFIG" {
		t.Errorf("a topic does not follow the broker's dynamic setting: %s", got)
	}
}

func TestDynamicSettingsReachTheProducePath(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	big := batchOf(1000, strings.Repeat("x", 2000))
	mustProduce(c, "t", 0, "a")
	limit := "1000"
	if got := incremental(c, false, topicResource, "t", configStep{"set", "max.message.bytes", &limit}); got.ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
	if got := produced1(c, produceRequest(9, "t", [16]byte{}, 0, big)); got.ErrorCode != kerr.MessageTooLarge.Code {
		t.Errorf("code %d, want MESSAGE_TOO_LARGE", got.ErrorCode)
	}
	if got := incremental(c, false, topicResource, "t", configStep{"delete", "max.message.bytes", nil}); got.ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
	if got := produced1(c, produceRequest(9, "t", [16]byte{}, 0, big)); got.ErrorCode != 0 {
		t.Errorf("code %d after the limit was lifted", got.ErrorCode)
	}
}

func TestAlterConfigsReplaces(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1, "retention.ms", "1000")
	c := b.client()
	alter := func(resources ...kmsg.AlterConfigsRequestResource) []kmsg.AlterConfigsResponseResource {
		req := kmsg.NewPtrAlterConfigsRequest()
		req.Version, req.Resources = 2, resources
		return ask[*kmsg.AlterConfigsResponse](c, req).Resources
	}
	value := "2000000"
	set := kmsg.AlterConfigsRequestResource{ResourceType: topicResource, ResourceName: "t"}
	set.Configs = append(set.Configs, kmsg.AlterConfigsRequestResourceConfig{Name: "segment.bytes", Value: &value})
	if got := alter(set); got[0].ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
	if got := config1(c, topicResource, "t", "segment.bytes"); got != "2000000 DYNAMIC_TOPIC_CONFIG" {
		t.Errorf("segment.bytes: %s", got)
	}
	if got := config1(c, topicResource, "t", "retention.ms"); got != "604800000 DEFAULT_CONFIG" {
		t.Errorf("retention.ms: %s, want it gone", got)
	}
	for _, r := range alter(set, set) {
		if r.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("resource twice: %+v", r)
		}
	}
}

func TestListConfigResources(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.createTopic("t", 1)
	c := b.client()
	interval, timeout := "1000", "50000"
	incremental(c, false, metricsResource, "s", configStep{"set", "interval.ms", &interval})
	incremental(c, false, groupResource, "g", configStep{"set", "consumer.session.timeout.ms", &timeout})
	list := func(version int16, types ...int8) string {
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.Version, req.ResourceTypes = version, types
		resp := ask[*kmsg.ListConfigResourcesResponse](c, req)
		if resp.ErrorCode != 0 {
			return kerr.TypedErrorForCode(resp.ErrorCode).Message
		}
		var names []string
		for _, r := range resp.ConfigResources {
			names = append(names, r.Name)
		}
		return strings.Join(names, " ")
	}
	for want, got := range map[string]string{
		"g s 1 1 t":                     list(1),
		"s":                             list(0),
		"t":                             list(1, 2, 2),
		"s t":                           list(1, 2, 16),
		kerr.UnsupportedVersion.Message: list(1, 99),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A name of a few bytes asks for kilobytes, so what one answer tells is limited.
func TestDescribeConfigsIsBounded(t *testing.T) {
	t.Parallel()
	c := newBroker(t).client()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version = 4
	ask1 := func(kind kmsg.ConfigResourceType, name string) {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kind, name
		req.Resources = append(req.Resources, r)
	}
	for range 100_000 {
		ask1(brokerResource, "1")
	}
	if got := ask[*kmsg.DescribeConfigsResponse](c, req).Resources; len(got) != 1 || got[0].ErrorCode != 0 {
		t.Errorf("a resource that was named many times is answered %d times", len(got))
	}
	req.Resources = nil
	for i := range 30_000 {
		ask1(groupResource, fmt.Sprint(i))
	}
	told, refused := 0, 0
	for _, r := range ask[*kmsg.DescribeConfigsResponse](c, req).Resources {
		told += len(r.Configs)
		if r.ErrorCode == kerr.InvalidRequest.Code {
			refused++
		}
	}
	if told > maxDescribed || told < maxDescribed/2 || refused == 0 {
		t.Errorf("%d settings were told, the limit is %d; %d resources were refused", told, maxDescribed, refused)
	}
}
