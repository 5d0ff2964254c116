package api

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/wire"
)

// DescribeConfigs v1–4 (key 32), ListConfigResources v0–1 (key 74); changes are in alter_configs.go
//
//   - Topics show all of their settings, the broker all of its own, "" as a broker what is set for all brokers; client-metrics
//     subscriptions and groups show theirs, whether they exist or not.
//   - Each setting comes with where its value is from and, if asked, with all the places that give it one (KIP-226). v3 adds type and,
//     if asked, documentation (KIP-569). Secrets are never shown.
//   - ListConfigResources v0 lists client-metrics subscriptions only (KIP-714), v1 any kind (KIP-1142).
//   - A resource that is named twice is answered once. Those beyond maxDescribed settings are refused: a name of a few bytes asks for
//     kilobytes of documentation.
//
// Left out on purpose: the levels of broker loggers, of which this broker has none to show; their list is empty.

// resourceBrokerLogger is the one resource type that has no settings in the metadata.
const resourceBrokerLogger = 8

// maxDescribed is how many settings one answer tells: those of some 7,000 topics, or about 60 MB with documentation.
const maxDescribed = 1 << 18

var errTooManyConfigs = refuse(kerr.InvalidRequest, "Too many resources in one request: ask for the settings of fewer at a time.")

func (a *API) describeConfigs(_ context.Context, c *call, req *kmsg.DescribeConfigsRequest) (wire.Pending, error) {
	return later(func(context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.DescribeConfigsResponse](req)
		view := a.view()
		left := maxDescribed
		for _, asked := range distinctResources(req) {
			out := kmsg.NewDescribeConfigsResponseResource()
			out.ResourceType, out.ResourceName = asked.ResourceType, asked.ResourceName
			values, err := a.configsOf(view, asked)
			if left -= len(values); left < 0 {
				values, err = nil, errTooManyConfigs
			}
			out.ErrorCode, out.ErrorMessage = a.codeOf(c, err), messageOf(err)
			if err == nil {
				out.ErrorMessage = kmsg.StringPtr("") // not null
				if len(asked.ConfigNames) == 0 {
					out.Configs = make([]kmsg.DescribeConfigsResponseResourceConfig, 0, len(values))
				}
			}
			for j := range values {
				if v := &values[j]; len(asked.ConfigNames) == 0 || slices.Contains(asked.ConfigNames, v.Def.Name) {
					out.Configs = append(out.Configs, describedConfig(v, req, asked.ResourceType))
				}
			}
			resp.Resources = append(resp.Resources, out)
		}
		return resp, nil
	})
}

// distinctResources drops what is asked twice: the first counts.
func distinctResources(req *kmsg.DescribeConfigsRequest) []*kmsg.DescribeConfigsRequestResource {
	type key struct {
		kind kmsg.ConfigResourceType
		name string
	}
	seen := make(map[key]struct{}, len(req.Resources))
	list := make([]*kmsg.DescribeConfigsRequestResource, 0, len(req.Resources))
	for i := range req.Resources {
		r := &req.Resources[i]
		k := key{r.ResourceType, r.ResourceName}
		if _, twice := seen[k]; !twice {
			seen[k] = struct{}{}
			list = append(list, r)
		}
	}
	return list
}

// configsOf lists the settings of one resource.
func (a *API) configsOf(v *view, asked *kmsg.DescribeConfigsRequestResource) ([]config.Value, error) {
	switch asked.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if err := metadata.ValidateTopicName(asked.ResourceName); err != nil {
			return nil, err
		}
		t, ok := v.topic(asked.ResourceName)
		if !ok {
			return nil, errUnknownPartition
		}
		return withoutInternal(t.config.Values), nil
	case kmsg.ConfigResourceTypeBroker:
		return a.brokerConfigs(v, asked.ResourceName)
	case resourceBrokerLogger:
		if err := a.checkBrokerID(asked.ResourceName); err != nil {
			return nil, err
		}
		return nil, nil
	case kmsg.ConfigResourceType(metadata.ResourceClientMetrics):
		if asked.ResourceName == "" {
			return nil, refuse(kerr.InvalidRequest, "Client metrics subscription name must not be empty")
		}
		set := v.image.Config(metadata.Resource{Type: metadata.ResourceClientMetrics, Name: asked.ResourceName})
		return config.ResolveClientMetrics(set), nil
	case kmsg.ConfigResourceType(metadata.ResourceGroup):
		if asked.ResourceName == "" {
			return nil, refuse(kerr.InvalidRequest, "Group name must not be empty")
		}
		set := v.image.Config(metadata.Resource{Type: metadata.ResourceGroup, Name: asked.ResourceName})
		return withoutInternal(config.ResolveGroup(set, v.broker)), nil
	}
	return nil, refuse(kerr.InvalidRequest, "Unsupported resource type: %d", asked.ResourceType)
}

// brokerConfigs lists the settings of this broker or, for an empty name, those set for all brokers.
func (a *API) brokerConfigs(v *view, name string) ([]config.Value, error) {
	if name == "" {
		var list []config.Value
		set := v.image.Config(metadata.Resource{Type: metadata.ResourceBroker})
		for _, def := range config.BrokerDefs() {
			if text, ok := set[def.Name]; ok {
				list = append(list, singleValue(def, text, config.SourceDynamicDefaultBroker))
			}
		}
		return list, nil
	}
	if err := a.checkBrokerID(name); err != nil {
		return nil, err
	}
	return v.shown(), nil
}

func withoutInternal(values []config.Value) []config.Value {
	list := make([]config.Value, 0, len(values))
	for _, v := range values {
		if !v.Def.Internal {
			list = append(list, v)
		}
	}
	return list
}

// checkBrokerID accepts this broker's id only: each broker answers for itself.
func (a *API) checkBrokerID(name string) error {
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return refuse(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", name)
	}
	if base.BrokerID(id) != a.config.NodeID {
		return refuse(kerr.InvalidRequest, "Unexpected broker id, expected %d, but received %s", a.config.NodeID, name)
	}
	return nil
}

func singleValue(def *config.Def, text string, source config.Source) config.Value {
	return config.Value{
		Def: def, Value: text, Source: source,
		Synonyms: []config.SynonymValue{{Name: def.Name, Value: text, Source: source}},
	}
}

// describedConfig is one setting as the answer shows it.
func describedConfig(v *config.Value, req *kmsg.DescribeConfigsRequest, resource kmsg.ConfigResourceType) kmsg.DescribeConfigsResponseResourceConfig {
	out := kmsg.NewDescribeConfigsResponseResourceConfig()
	out.Name, out.Value = v.Def.Name, shownValue(v)
	out.Source, out.IsSensitive = kmsg.ConfigSource(v.Source), v.Def.Sensitive
	out.ReadOnly = resource == kmsg.ConfigResourceTypeBroker && v.Def.ReadOnly()
	out.ConfigType = kmsg.ConfigType(v.Def.Type)
	if req.IncludeDocumentation {
		out.Documentation = &v.Def.Doc
	}
	if !req.IncludeSynonyms {
		return out
	}
	for i := range v.Synonyms {
		s := &v.Synonyms[i]
		synonym := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		synonym.Name, synonym.Source = s.Name, kmsg.ConfigSource(s.Source)
		if !s.Null && !v.Def.Sensitive {
			synonym.Value = &s.Value
		}
		out.ConfigSynonyms = append(out.ConfigSynonyms, synonym)
	}
	return out
}

func (a *API) listConfigResources(_ context.Context, _ *call, req *kmsg.ListConfigResourcesRequest) (wire.Pending, error) {
	resp := answer[kmsg.ListConfigResourcesResponse](req)
	types := req.ResourceTypes
	all := []int8{int8(metadata.ResourceGroup), int8(metadata.ResourceClientMetrics), resourceBrokerLogger, int8(metadata.ResourceBroker), int8(metadata.ResourceTopic)}
	switch {
	case req.Version == 0:
		types = all[1:2]
	case len(types) == 0:
		types = all
	}
	for _, t := range types {
		if !slices.Contains(all, t) {
			resp.ErrorCode = kerr.UnsupportedVersion.Code
			return reply(resp)
		}
	}
	for _, t := range all {
		if !slices.Contains(types, t) {
			continue
		}
		for _, name := range a.resourceNames(t) {
			out := kmsg.NewListConfigResourcesResponseConfigResource()
			out.Name, out.Type = name, t
			resp.ConfigResources = append(resp.ConfigResources, out)
		}
	}
	return reply(resp)
}

// resourceNames lists the resources of one type.
func (a *API) resourceNames(t int8) []string {
	image := a.view().image
	var names []string
	switch t {
	case int8(metadata.ResourceTopic):
		for topic := range image.Topics() {
			names = append(names, topic.Name)
		}
	case int8(metadata.ResourceBroker), resourceBrokerLogger:
		names = append(names, a.self().Name)
	default:
		for name := range image.Resources(metadata.ResourceType(t)) {
			names = append(names, name)
		}
	}
	return names
}
