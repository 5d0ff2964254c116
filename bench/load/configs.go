package load

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Resource is what has settings that can be changed.
type Resource struct {
	Type kmsg.ConfigResourceType
	Name string // empty for all brokers
}

// AllBrokers are the settings that all brokers share.
var AllBrokers = Resource{Type: kmsg.ConfigResourceTypeBroker}

// Topic is a topic with its settings.
func Topic(name string) Resource { return Resource{kmsg.ConfigResourceTypeTopic, name} }

// Group is a group with its settings.
func Group(name string) Resource { return Resource{kmsg.ConfigResourceTypeGroupConfig, name} }

// Set changes settings of a resource.
func Set(ctx context.Context, addr string, of Resource, settings map[string]string) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = of.Type, of.Name
	for name, value := range settings {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Op, config.Value = name, kmsg.IncrementalAlterConfigOpSet, &value
		resource.Configs = append(resource.Configs, config)
	}
	req.Resources = append(req.Resources, resource)
	var resp kmsg.IncrementalAlterConfigsResponse
	if err := request(ctx, addr, req, &resp); err != nil {
		return err
	}
	if len(resp.Resources) != 1 {
		return fmt.Errorf("alter settings of %v %s: %w", of.Type, of.Name, errAnswer)
	}
	if err := kerr.ErrorForCode(resp.Resources[0].ErrorCode); err != nil {
		return fmt.Errorf("alter settings of %v %s: %w", of.Type, of.Name, err)
	}
	return nil
}

// Size is how many bytes a partition has in its log.
func Size(ctx context.Context, addr string, of Partition) (int64, error) {
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Version = 4
	topic := kmsg.NewDescribeLogDirsRequestTopic()
	topic.Topic, topic.Partitions = of.Topic, []int32{of.Index}
	req.Topics = append(req.Topics, topic)
	var resp kmsg.DescribeLogDirsResponse
	if err := request(ctx, addr, req, &resp); err != nil {
		return 0, err
	}
	for _, dir := range resp.Dirs {
		for _, t := range dir.Topics {
			for _, p := range t.Partitions {
				if (Partition{t.Topic, p.Partition}) == of {
					return p.Size, nil
				}
			}
		}
	}
	return 0, fmt.Errorf("size of %s-%d: %w", of.Topic, of.Index, errAnswer)
}
