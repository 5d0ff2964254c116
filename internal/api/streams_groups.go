package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/group/topology"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/wire"
)

// StreamsGroupHeartbeat v0 (key 88), StreamsGroupDescribe v0 (89): the streams protocol (KIP-1071).
//
//   - The group's state machine says which internal topics an application lacks. They are created before the answer leaves, which still
//     says MISSING_INTERNAL_TOPICS, as Kafka's does while it creates them; why one could not be created is told in the same answer, where
//     Kafka tells it in a later one.
//   - Where group.coordinator.rebalance.protocols leaves "streams" out, and at level 0 of streams.version, both are UNSUPPORTED_VERSION.

func (a *API) streamsGroupHeartbeat(_ context.Context, c *call, req *kmsg.StreamsGroupHeartbeatRequest) (wire.Pending, error) {
	refused := kerr.UnsupportedVersion
	text := ""
	if a.serves(group.Streams) {
		refused, text = nil, badTopicNames(req.Topology)
	}
	if text != "" {
		refused = kerr.StreamsInvalidTopology
	}
	if refused != nil {
		resp := answer[kmsg.StreamsGroupHeartbeatResponse](req)
		resp.ErrorCode, resp.Status = refused.Code, []kmsg.StreamsGroupHeartbeatResponseStatus{} // not null
		if text != "" {
			resp.ErrorMessage = &text
		}
		return reply(resp)
	}
	pending := a.groups.StreamsGroupHeartbeat(groupClient(c), req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		got, err := pending.Wait(ctx)
		if err != nil {
			got.Response = kmsg.NewPtrStreamsGroupHeartbeatResponse()
			got.Response.ErrorCode, got.Response.Status = a.codeOf(c, err), []kmsg.StreamsGroupHeartbeatResponseStatus{}
		}
		if len(got.Create) > 0 {
			failed := a.createInternalTopics(ctx, got.Create)
			tellFailures(got.Response, failed)
		}
		got.Response.Version = req.Version
		return got.Response, nil
	})
}

// badTopicNames says which topics of a topology cannot be, in Kafka's words.
func badTopicNames(t *kmsg.StreamsGroupHeartbeatRequestTopology) string {
	if t == nil {
		return ""
	}
	var prohibited, invalid []string
	check := func(name string) {
		if isInternal(name) {
			prohibited = append(prohibited, name)
		}
		if metadata.ValidateTopicName(name) != nil {
			invalid = append(invalid, name)
		}
	}
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		for _, names := range [][]string{s.SourceTopics, s.RepartitionSinkTopics} {
			for _, name := range names {
				check(name)
			}
		}
		for _, topics := range [][]kmsg.TopicInfo{s.RepartitionSourceTopics, s.StateChangelogTopics} {
			for j := range topics {
				check(topics[j].Topic)
			}
		}
	}
	list := func(names []string) string {
		slices.Sort(names)
		return strings.Join(slices.Compact(names), ",")
	}
	switch {
	case len(prohibited) > 0:
		return fmt.Sprintf("Use of Kafka internal topics %s in a Kafka Streams topology is prohibited.", list(prohibited))
	case len(invalid) > 0:
		return fmt.Sprintf("Topic names %s are not valid topic names.", list(invalid))
	}
	return ""
}

const (
	// internalTopicsTimeout bounds how long a heartbeat waits for topics that it has created.
	internalTopicsTimeout = 10 * time.Second
	// toldFailures is how many of the topics that could not be created are named to the member.
	toldFailures = 3
)

// createInternalTopics creates topics and says of each that could not be why, in their order.
func (a *API) createInternalTopics(ctx context.Context, topics []topology.NewTopic) (failed []string) {
	ctx, cancel := context.WithTimeout(ctx, internalTopicsTimeout)
	defer cancel()
	view := a.view()
	var news []metadata.NewTopic
	fail := func(name string, err error) { failed = append(failed, fmt.Sprintf("%s (%s)", name, err)) }
	for _, t := range topics {
		asked := kmsg.NewCreateTopicsRequestTopic()
		asked.Topic, asked.NumPartitions, asked.ReplicationFactor = t.Name, t.Partitions, t.ReplicationFactor
		for _, c := range t.Configs {
			asked.Configs = append(asked.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: c.Key, Value: &c.Value})
		}
		if n, err := a.newTopicOf(ctx, view, &asked); err != nil {
			fail(t.Name, err)
		} else {
			news = append(news, n)
		}
	}
	for i, r := range a.metadata.CreateTopics(ctx, news, false /* validateOnly */) {
		if r.Err != nil && !errors.Is(r.Err, metadata.ErrTopicExists) {
			fail(news[i].Name, r.Err)
		}
	}
	return failed
}

// tellFailures adds to the status that says which internal topics are missing why they are.
func tellFailures(resp *kmsg.StreamsGroupHeartbeatResponse, failed []string) {
	if len(failed) == 0 {
		return
	}
	text := strings.Join(failed[:min(len(failed), toldFailures)], ", ")
	if more := len(failed) - toldFailures; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	for i := range resp.Status {
		if s := &resp.Status[i]; s.StatusCode == int8(topology.MissingInternalTopics) {
			s.StatusDetail += "; Creation failed: " + text + "."
		}
	}
}

func (a *API) streamsGroupDescribe(_ context.Context, c *call, req *kmsg.StreamsGroupDescribeRequest) (wire.Pending, error) {
	described := describing(a, c, req.Groups, a.serves(group.Streams), a.groups.DescribeStreamsGroup)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.StreamsGroupDescribeResponse](req)
		for i, name := range req.Groups {
			g, code := described(ctx, i)
			if code != 0 {
				g = kmsg.NewStreamsGroupDescribeResponseGroup()
				g.Group, g.ErrorCode = name, code
			}
			if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
				g.AuthorizedOperations = groupOperations
			}
			resp.Groups = append(resp.Groups, g)
		}
		return resp, nil
	})
}
