package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Resource is something that has settings.
type Resource struct {
	Kind string // "topic", "broker" or "group"
	Name string // a broker's is its id; "" is the default of all brokers
}

// ResourceKinds are the kinds of things that have settings.
var ResourceKinds = []string{"topic", "broker", "group"}

func (r Resource) String() string { return strings.TrimSpace(r.Kind + " " + r.Name) }

func (r Resource) kafkaType() (kmsg.ConfigResourceType, error) {
	switch r.Kind {
	case "topic":
		return kmsg.ConfigResourceTypeTopic, nil
	case "broker":
		if _, err := strconv.ParseInt(r.Name, 10, 32); err != nil && r.Name != "" {
			return 0, &Error{Message: fmt.Sprintf("%q is not a broker id", r.Name), Next: "`ottla doctor` shows the brokers' ids; leave it out for the default of all brokers"}
		}
		return kmsg.ConfigResourceTypeBroker, nil
	case "group":
		return kmsg.ConfigResourceTypeGroupConfig, nil
	}
	return 0, &Error{Message: fmt.Sprintf("there are no settings of a %q", r.Kind), Next: "it is one of " + strings.Join(ResourceKinds, ", ")}
}

// parseChanges puts settings to set and to delete together.
func parseChanges(set, remove []string) ([]kadm.AlterConfig, error) {
	pairs, err := parsePairs("--config", set)
	if err != nil {
		return nil, err
	}
	var changes []kadm.AlterConfig
	for key, value := range pairs {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value})
	}
	for _, key := range remove {
		if _, ok := pairs[key]; ok {
			return nil, &Error{Message: key + " is both to be set and to be deleted"}
		}
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: key})
	}
	slices.SortFunc(changes, func(a, b kadm.AlterConfig) int { return cmp.Compare(a.Name, b.Name) })
	return changes, nil
}

// SetConfigs changes settings of a resource: key=value sets, the keys in remove go back to their defaults.
func (c *Client) SetConfigs(ctx context.Context, r Resource, set, remove []string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	changes, err := parseChanges(set, remove)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return &Error{Message: "nothing to change", Next: "give key=value or --delete key"}
	}
	return c.alterConfigs(ctx, r, changes)
}

func (c *Client) alterConfigs(ctx context.Context, r Resource, changes []kadm.AlterConfig) error {
	kind, err := r.kafkaType()
	if err != nil {
		return err
	}
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kind, r.Name
	for _, change := range changes {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = change.Name, change.Value
		if change.Op == kadm.DeleteConfig {
			config.Op = kmsg.IncrementalAlterConfigOpDelete
		}
		resource.Configs = append(resource.Configs, config)
	}
	request.Resources = append(request.Resources, resource)
	for _, shard := range c.base.RequestSharded(ctx, request) {
		if shard.Err != nil {
			return shard.Err
		}
		for _, answer := range shard.Resp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
			if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
				message := ""
				if answer.ErrorMessage != nil {
					message = *answer.ErrorMessage
				}
				return refused(r.String(), err, message)
			}
		}
	}
	for _, change := range changes {
		if change.Op == kadm.DeleteConfig {
			fmt.Fprintf(c.Out, "%s: %s is back to its default\n", r, change.Name)
		} else {
			fmt.Fprintf(c.Out, "%s: %s=%s\n", r, change.Name, *change.Value)
		}
	}
	return nil
}

// setting is a setting of a resource as it is in force.
type setting struct {
	Key       string    `json:"key"`
	Value     *string   `json:"value"` // null if it is secret
	Source    string    `json:"source"`
	Otherwise *string   `json:"otherwise,omitempty"` // the value if the one in force were not set
	ReadOnly  bool      `json:"read_only"`
	Sensitive bool      `json:"sensitive"`
	Type      string    `json:"type,omitempty"`
	Doc       string    `json:"documentation,omitempty"`
	Synonyms  []synonym `json:"synonyms,omitempty"`
}

type synonym struct {
	Key    string  `json:"key"`
	Value  *string `json:"value"`
	Source string  `json:"source"`
}

func (s setting) text() string {
	switch {
	case s.Sensitive:
		return "(secret)"
	case s.Value == nil:
		return "(none)"
	}
	return *s.Value
}

// sourceText names where a value comes from, in the words of our documentation.
func sourceText(source kmsg.ConfigSource) string {
	switch source {
	case kmsg.ConfigSourceDynamicTopicConfig:
		return "topic"
	case kmsg.ConfigSourceDynamicBrokerConfig:
		return "broker (dynamic)"
	case kmsg.ConfigSourceDynamicDefaultBrokerConfig:
		return "all brokers (dynamic)"
	case kmsg.ConfigSourceStaticBrokerConfig:
		return "broker's file"
	case kmsg.ConfigSourceDefaultConfig:
		return "default"
	case kmsg.ConfigSourceGroupConfig:
		return "group"
	}
	return strings.ToLower(source.String())
}

// setByUser says whether a value was set for the resource itself, not inherited.
func setByUser(config kadm.Config) bool {
	return config.Source == kmsg.ConfigSourceDynamicTopicConfig || config.Source == kmsg.ConfigSourceGroupConfig
}

// describe returns the settings of a resource, sorted by key. docs asks the broker for what each means.
func (c *Client) describe(ctx context.Context, r Resource, docs bool, keys ...string) ([]setting, error) {
	kind, err := r.kafkaType()
	if err != nil {
		return nil, err
	}
	request := kmsg.NewPtrDescribeConfigsRequest()
	request.IncludeSynonyms, request.IncludeDocumentation = true, docs
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kind, r.Name
	resource.ConfigNames = keys
	request.Resources = append(request.Resources, resource)
	var settings []setting
	for _, shard := range c.base.RequestSharded(ctx, request) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, answer := range shard.Resp.(*kmsg.DescribeConfigsResponse).Resources {
			if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
				if errors.Is(err, kerr.UnknownTopicOrPartition) {
					return nil, c.topicExists(ctx, r.Name)
				}
				message := ""
				if answer.ErrorMessage != nil {
					message = *answer.ErrorMessage
				}
				return nil, refused(r.String(), err, message)
			}
			for _, config := range answer.Configs {
				settings = append(settings, newSetting(config))
			}
		}
	}
	slices.SortFunc(settings, func(a, b setting) int { return cmp.Compare(a.Key, b.Key) })
	return settings, nil
}

func newSetting(config kmsg.DescribeConfigsResponseResourceConfig) setting {
	s := setting{
		Key: config.Name, Value: config.Value, Source: sourceText(config.Source), ReadOnly: config.ReadOnly, Sensitive: config.IsSensitive,
	}
	if config.ConfigType != 0 {
		s.Type = strings.ToLower(config.ConfigType.String())
	}
	if config.Documentation != nil {
		s.Doc = strings.TrimSpace(*config.Documentation)
	}
	for _, other := range config.ConfigSynonyms {
		s.Synonyms = append(s.Synonyms, synonym{Key: other.Name, Value: other.Value, Source: sourceText(other.Source)})
	}
	if config.Source == kmsg.ConfigSourceDefaultConfig {
		s.Otherwise = config.Value
		return s
	}
	// The synonyms are in order of precedence: what comes after the value in force is what it would be without it. A synonym of another
	// name may count in another unit (log.retention.hours), so its name is kept.
	for i, other := range config.ConfigSynonyms {
		if i == 0 || other.Value == nil {
			continue
		}
		value := *other.Value
		if other.Name != s.Key && other.Name != "log."+s.Key {
			value = other.Name + "=" + value
		}
		s.Otherwise = &value
		break
	}
	return s
}

// DescribeConfigs writes the settings of a resource: those that were changed, or all.
func (c *Client) DescribeConfigs(ctx context.Context, r Resource, all bool, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	settings, err := c.describe(ctx, r, false)
	if err != nil {
		return err
	}
	total := len(settings)
	if !all {
		settings = slices.DeleteFunc(settings, func(s setting) bool { return s.Source == "default" })
	}
	return c.print(format, append([]setting{}, settings...), func(w io.Writer) error {
		if len(settings) > 0 {
			t := newTable("KEY", "VALUE", "SOURCE", "OTHERWISE")
			for _, s := range settings {
				otherwise := ""
				if s.Otherwise != nil && s.Source != "default" {
					otherwise = *s.Otherwise
				}
				t.add(s.Key, s.text(), s.Source, otherwise)
			}
			if err := t.write(w); err != nil {
				return err
			}
		}
		if !all {
			fmt.Fprintf(c.Err, "%d of %d settings differ from their defaults; --all shows all\n", len(settings), total)
		}
		return nil
	})
}

// GetConfig writes the value of one setting and nothing else, for scripts.
func (c *Client) GetConfig(ctx context.Context, r Resource, key, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	s, err := c.oneSetting(ctx, r, key, false)
	if err != nil {
		return err
	}
	return c.print(format, s, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, s.text())
		return err
	})
}

func (c *Client) oneSetting(ctx context.Context, r Resource, key string, docs bool) (setting, error) {
	settings, err := c.describe(ctx, r, docs)
	if err != nil {
		return setting{}, err
	}
	i := slices.IndexFunc(settings, func(s setting) bool { return s.Key == key })
	if i < 0 {
		keys := make([]string, len(settings))
		for i, s := range settings {
			keys[i] = s.Key
		}
		next := fmt.Sprintf("see `ottla config describe %s --all`", r)
		if like := nearest(key, keys); like != "" {
			next = "did you mean " + like + "?"
		}
		return setting{}, &Error{Message: fmt.Sprintf("%s has no setting %s", r, key), Next: next}
	}
	return settings[i], nil
}

// ExplainConfig writes all that the broker knows about a setting: of r, or of whatever has a setting of that name if r is nil.
func (c *Client) ExplainConfig(ctx context.Context, r *Resource, key, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	if r == nil {
		found, err := c.whoHas(ctx, key)
		if err != nil {
			return err
		}
		r = &found
	}
	s, err := c.oneSetting(ctx, *r, key, true)
	if err != nil {
		return err
	}
	return c.print(format, s, func(w io.Writer) error {
		fmt.Fprintf(w, "%s of %s\n", s.Key, r)
		if s.Doc != "" {
			fmt.Fprintf(w, "\n%s\n\n", wrap(s.Doc, 100))
		}
		fmt.Fprintf(w, "  value      %s\n  from       %s\n", s.text(), s.Source)
		if s.Type != "" {
			fmt.Fprintf(w, "  type       %s\n", s.Type)
		}
		if s.Source != "default" && s.Otherwise != nil {
			fmt.Fprintf(w, "  otherwise  %s\n", *s.Otherwise)
		}
		if s.ReadOnly {
			fmt.Fprintf(w, "  changed    in the broker's file, with a restart\n")
		} else {
			fmt.Fprintf(w, "  changed    while running: ottla config set %s %s=VALUE\n", r, s.Key)
		}
		for i, other := range s.Synonyms {
			if i == 0 {
				fmt.Fprintf(w, "\nThe first of these that is set wins:\n")
			}
			value := "(none)"
			if other.Value != nil {
				value = *other.Value
			}
			fmt.Fprintf(w, "  %s = %s (%s)\n", other.Key, value, other.Source)
		}
		return nil
	})
}

// whoHas finds a resource to explain key with: a broker, or any topic.
func (c *Client) whoHas(ctx context.Context, key string) (Resource, error) {
	brokers, err := c.admin.ListBrokers(ctx)
	if err != nil {
		return Resource{}, err
	}
	candidates := []Resource{}
	if ids := brokers.NodeIDs(); len(ids) > 0 {
		candidates = append(candidates, Resource{Kind: "broker", Name: fmt.Sprint(ids[0])})
	}
	topics, err := c.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return Resource{}, err
	}
	all := topics.Names()
	// One that a user made, if there is one.
	slices.SortStableFunc(all, func(a, b string) int {
		return cmp.Compare(boolRank(topics[a].IsInternal), boolRank(topics[b].IsInternal))
	})
	if len(all) > 0 {
		candidates = append(candidates, Resource{Kind: "topic", Name: all[0]})
	}
	var keys []string
	for _, candidate := range candidates {
		settings, err := c.describe(ctx, candidate, false)
		if err != nil {
			return Resource{}, err
		}
		for _, s := range settings {
			if s.Key == key {
				return candidate, nil
			}
			keys = append(keys, s.Key)
		}
	}
	next := "name what has it: `ottla config explain KEY topic NAME` (or broker ID, group NAME)"
	if like := nearest(key, keys); like != "" {
		next = "did you mean " + like + "?"
	}
	return Resource{}, &Error{Message: "no broker or topic here has a setting " + key, Next: next}
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}
