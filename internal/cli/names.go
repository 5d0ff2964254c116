package cli

import (
	"context"
	"slices"
)

// TopicNames returns the topics that are not internal, sorted.
func (c *Client) TopicNames(ctx context.Context) ([]string, error) {
	topics, err := c.admin.ListTopics(ctx)
	return topics.Names(), err
}

// GroupNames returns the groups, sorted.
func (c *Client) GroupNames(ctx context.Context) ([]string, error) {
	groups, err := c.admin.ListGroups(ctx)
	names := groups.Groups()
	slices.Sort(names)
	return names, err
}
