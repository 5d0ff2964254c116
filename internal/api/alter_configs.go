package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/wire"
)

// AlterConfigs v0–2 (key 33), IncrementalAlterConfigs v0–1 (key 44)
//
//   - AlterConfigs replaces all settings of a resource by those given. IncrementalAlterConfigs sets, deletes, and appends to or
//     subtracts from lists (KIP-339).
//   - Each resource succeeds or fails by itself; one that a request names twice fails, as does a key that a resource has twice.
//   - Broker settings change for this broker or, with an empty name, for all; those that Kafka cannot change at run time are refused
//     (KIP-226).
//   - validate only checks everything and changes nothing.
//
// Left out on purpose: broker loggers, refused as an unknown resource type; and settings of a broker that do not exist, which Kafka
// accepts and keeps without a word: here they are INVALID_CONFIG.

var (
	errResourceTwice = refuse(kerr.InvalidRequest, "Each resource must appear at most once.")
	errKeyTwice      = refuse(kerr.InvalidRequest, "Error due to duplicate config keys")
)

// configOp is one change to one setting.
type configOp struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value *string
}

// configChange is what a request asks for one resource.
type configChange struct {
	resource metadata.Resource
	kind     kmsg.ConfigResourceType
	replace  bool // settings that are not named are removed
	ops      []configOp
}

func (a *API) alterConfigs(_ context.Context, c *call, req *kmsg.AlterConfigsRequest) (wire.Pending, error) {
	changes := make([]configChange, len(req.Resources))
	for i := range req.Resources {
		r := &req.Resources[i]
		changes[i] = newConfigChange(r.ResourceType, r.ResourceName)
		changes[i].replace = true
		for _, entry := range r.Configs {
			changes[i].ops = append(changes[i].ops, configOp{entry.Name, kmsg.IncrementalAlterConfigOpSet, entry.Value})
		}
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.AlterConfigsResponse](req)
		for i, err := range a.changeConfigs(ctx, changes, req.ValidateOnly) {
			out := kmsg.NewAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = changes[i].kind, changes[i].resource.Name
			out.ErrorCode, out.ErrorMessage = a.codeOf(c, err), messageOf(err)
			resp.Resources = append(resp.Resources, out)
		}
		return resp, nil
	})
}

func (a *API) incrementalAlterConfigs(_ context.Context, c *call, req *kmsg.IncrementalAlterConfigsRequest) (wire.Pending, error) {
	changes := make([]configChange, len(req.Resources))
	for i := range req.Resources {
		r := &req.Resources[i]
		changes[i] = newConfigChange(r.ResourceType, r.ResourceName)
		for _, entry := range r.Configs {
			changes[i].ops = append(changes[i].ops, configOp{entry.Name, entry.Op, entry.Value})
		}
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.IncrementalAlterConfigsResponse](req)
		for i, err := range a.changeConfigs(ctx, changes, req.ValidateOnly) {
			out := kmsg.NewIncrementalAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = changes[i].kind, changes[i].resource.Name
			out.ErrorCode, out.ErrorMessage = a.codeOf(c, err), messageOf(err)
			resp.Resources = append(resp.Resources, out)
		}
		return resp, nil
	})
}

func newConfigChange(kind kmsg.ConfigResourceType, name string) configChange {
	return configChange{kind: kind, resource: metadata.Resource{Type: metadata.ResourceType(kind), Name: name}}
}

// changeConfigs carries out the changes, each by itself. Errors are in the order of changes.
func (a *API) changeConfigs(ctx context.Context, changes []configChange, validateOnly bool) []error {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	count := map[metadata.Resource]int{}
	for i := range changes {
		count[changes[i].resource]++
	}
	errs := make([]error, len(changes))
	for i := range changes {
		change := &changes[i]
		if count[change.resource] > 1 {
			errs[i] = errResourceTwice
			continue
		}
		if errs[i] = a.checkChange(change); errs[i] != nil {
			continue
		}
		if validateOnly {
			errs[i] = a.tryChange(change)
			continue
		}
		errs[i] = a.metadata.AlterConfigs(ctx, change.resource, func(current map[string]string) (map[string]string, error) {
			return a.applyChange(change, current)
		})
		if errors.Is(errs[i], metadata.ErrUnknownTopic) {
			errs[i] = change.unknownTopic()
		}
	}
	return errs
}

// tryChange checks a change against the settings of the moment.
func (a *API) tryChange(change *configChange) error {
	image := a.view().image
	current := image.Config(change.resource)
	if change.resource.Type == metadata.ResourceTopic {
		t, ok := image.Topic(change.resource.Name)
		if !ok {
			return change.unknownTopic()
		}
		current = t.Configs
	}
	_, err := a.applyChange(change, current)
	return err
}

// checkChange checks what does not depend on the settings that are there.
func (a *API) checkChange(change *configChange) error {
	seen := make(map[string]struct{}, len(change.ops))
	var nulls []string
	for _, op := range change.ops {
		if _, twice := seen[op.name]; twice {
			return errKeyTwice
		}
		seen[op.name] = struct{}{}
		if op.op < kmsg.IncrementalAlterConfigOpSet || op.op > kmsg.IncrementalAlterConfigOpSubtract {
			return refuse(kerr.InvalidRequest, "Unknown config operation %d", op.op)
		}
		if op.op != kmsg.IncrementalAlterConfigOpDelete && op.value == nil {
			nulls = append(nulls, op.name)
		}
	}
	if len(nulls) > 0 {
		return refuse(kerr.InvalidRequest, "Null value not supported for : %s", strings.Join(nulls, ", "))
	}
	switch change.resource.Type {
	case metadata.ResourceTopic:
		return nameGiven(change, "Default topic resources are not allowed.")
	case metadata.ResourceGroup:
		return nameGiven(change, "Default group resources are not allowed.")
	case metadata.ResourceClientMetrics:
		return nameGiven(change, "Subscription name can't be empty")
	case metadata.ResourceBroker:
		if change.resource.Name == "" {
			return nil
		}
		return a.checkBrokerID(change.resource.Name)
	}
	return refuse(kerr.InvalidRequest, "Unknown resource type %d", change.kind)
}

func nameGiven(change *configChange, text string) error {
	if change.resource.Name == "" {
		return refuse(kerr.InvalidRequest, "%s", text)
	}
	return nil
}

// applyChange makes the new settings of a resource out of the current ones, and checks them.
func (a *API) applyChange(change *configChange, current map[string]string) (map[string]string, error) {
	next := maps.Clone(current)
	if next == nil || change.replace {
		next = map[string]string{}
	}
	for _, op := range change.ops {
		if op.op == kmsg.IncrementalAlterConfigOpDelete {
			delete(next, op.name)
			continue
		}
		def := change.def(op.name)
		if def == nil {
			return nil, change.unknown(op.name)
		}
		if op.op == kmsg.IncrementalAlterConfigOpSet {
			next[op.name] = *op.value
			continue
		}
		if def.Type != config.List {
			return nil, refuse(kerr.InvalidConfig, "Can't %s to key %s because its type is not LIST.", listOpName(op.op), op.name)
		}
		next[op.name] = editList(a.listNow(def, next), *op.value, op.op)
	}
	return next, a.checkSettings(change, current, next)
}

func listOpName(op kmsg.IncrementalAlterConfigOp) string {
	if op == kmsg.IncrementalAlterConfigOpAppend {
		return "APPEND"
	}
	return "SUBTRACT"
}

// listNow is the value that a list operation begins with: what is set, else the broker's value, else the default.
func (a *API) listNow(def *config.Def, settings map[string]string) string {
	if text, ok := settings[def.Name]; ok {
		return text
	}
	if v, ok := a.view().broker.Value(def.Synonym); ok && !v.Null {
		return v.Value
	}
	return def.Default
}

// editList adds or removes the elements of change, each at most once.
func editList(list, change string, op kmsg.IncrementalAlterConfigOp) string {
	elements := splitList(list)
	for _, e := range splitList(change) {
		at := slices.Index(elements, e)
		switch {
		case op == kmsg.IncrementalAlterConfigOpAppend && at < 0:
			elements = append(elements, e)
		case op == kmsg.IncrementalAlterConfigOpSubtract && at >= 0:
			elements = slices.Delete(elements, at, at+1)
		}
	}
	return strings.Join(elements, ",")
}

func splitList(list string) []string {
	var elements []string
	for e := range strings.SplitSeq(list, ",") {
		if e = strings.TrimSpace(e); e != "" {
			elements = append(elements, e)
		}
	}
	return elements
}

func (change *configChange) unknownTopic() error {
	return refuse(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", change.resource.Name)
}

// def finds the definition of a setting of the resource.
func (change *configChange) def(name string) *config.Def {
	switch change.resource.Type {
	case metadata.ResourceTopic:
		return config.TopicDef(name)
	case metadata.ResourceBroker:
		return config.BrokerDef(name)
	case metadata.ResourceClientMetrics:
		return config.ClientMetricsDef(name)
	case metadata.ResourceGroup:
		return config.GroupDef(name)
	}
	return nil
}

// unknown says in Kafka's words that a resource has no such setting.
func (change *configChange) unknown(name string) error {
	switch change.resource.Type {
	case metadata.ResourceTopic:
		return refuse(kerr.InvalidConfig, "Unknown topic config name: %s", name)
	case metadata.ResourceClientMetrics:
		return refuse(kerr.InvalidRequest, "Unknown client metrics configuration: %s", name)
	case metadata.ResourceGroup:
		return refuse(kerr.InvalidConfig, "Unknown group config name: %s", name)
	}
	return refuse(kerr.InvalidConfig, "Unknown broker config name: %s", name)
}

// checkSettings checks the new settings of a resource as a whole.
func (a *API) checkSettings(change *configChange, current, next map[string]string) error {
	switch change.resource.Type {
	case metadata.ResourceTopic:
		return validateTopicConfigs(a.view(), next)
	case metadata.ResourceGroup:
		return refuseInvalid(kerr.InvalidConfig, config.ValidateGroup(next, a.view().broker))
	case metadata.ResourceClientMetrics:
		return refuseInvalid(kerr.InvalidRequest, config.ValidateClientMetrics(next))
	}
	if err := checkDynamic(change, current, next); err != nil {
		return err
	}
	for name, text := range next {
		def := change.def(name)
		if def == nil {
			return change.unknown(name)
		}
		if err := def.Parse(text); err != nil {
			return refuseInvalid(kerr.InvalidRequest, err)
		}
	}
	return nil
}

// refuseInvalid answers a setting that is invalid with code and what is wrong with it. Other errors stay as they are, nil too.
func refuseInvalid(code *kerr.Error, err error) error {
	var invalid *config.InvalidError
	if errors.As(err, &invalid) {
		return refuse(code, "%s", invalid)
	}
	return err
}

// checkDynamic refuses changes of broker settings that need a restart, or that cannot be the same for all brokers.
func checkDynamic(change *configChange, current, next map[string]string) error {
	var fixed []string
	for name, text := range next {
		def := config.BrokerDef(name)
		if was, ok := current[name]; def == nil || ok && was == text {
			continue
		}
		if def.ReadOnly() || change.resource.Name == "" && def.Mode == config.PerBroker {
			fixed = append(fixed, name)
		}
	}
	if len(fixed) == 0 {
		return nil
	}
	slices.Sort(fixed)
	return refuse(kerr.InvalidRequest, "Cannot update these configs dynamically: [%s]", strings.Join(fixed, ", "))
}
