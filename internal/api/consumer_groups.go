package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/wire"
)

// ConsumerGroupHeartbeat v0–1 (key 68), ConsumerGroupDescribe v0–1 (69): the consumer protocol (KIP-848).
//
//   - What each version changed stands with the state machine: see the methods of group.Machine.
//   - Where group.coordinator.rebalance.protocols leaves "consumer" out, and at level 0 of group.version, both are UNSUPPORTED_VERSION.

func (a *API) consumerGroupHeartbeat(_ context.Context, c *call, req *kmsg.ConsumerGroupHeartbeatRequest) (wire.Pending, error) {
	if !a.serves(group.Consumer) {
		resp := answer[kmsg.ConsumerGroupHeartbeatResponse](req)
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		return reply(resp)
	}
	pending := a.groups.ConsumerGroupHeartbeat(groupClient(c), req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp, err := pending.Wait(ctx)
		if err != nil {
			resp = kmsg.NewPtrConsumerGroupHeartbeatResponse()
			resp.ErrorCode = a.codeOf(c, err)
		}
		resp.Version = req.Version
		return resp, nil
	})
}

func (a *API) consumerGroupDescribe(_ context.Context, c *call, req *kmsg.ConsumerGroupDescribeRequest) (wire.Pending, error) {
	described := describing(a, c, req.Groups, a.serves(group.Consumer), a.groups.DescribeConsumerGroup)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.ConsumerGroupDescribeResponse](req)
		for i, name := range req.Groups {
			g, code := described(ctx, i)
			if code != 0 {
				g = kmsg.NewConsumerGroupDescribeResponseGroup()
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

// describing asks for the descriptions of groups of one kind, whose protocol may not be served. The function that it returns waits for the i-th, or gives the code of what is in
// its way.
func describing[G any](a *API, c *call, names []string, served bool, describe func(name string) *coordinator.Call[G]) func(ctx context.Context, i int) (G, int16) {
	pending := make([]*coordinator.Call[G], len(names))
	for i, name := range names {
		if served && name != "" {
			pending[i] = describe(name)
		}
	}
	return func(ctx context.Context, i int) (g G, code int16) {
		switch {
		case !served:
			return g, kerr.UnsupportedVersion.Code
		case names[i] == "":
			return g, kerr.InvalidGroupID.Code
		}
		g, err := pending[i].Wait(ctx)
		return g, a.codeOf(c, err)
	}
}

// protocolFeatures are the features that switch the protocols of groups off.
var protocolFeatures = map[group.Kind]string{
	group.Consumer: metadata.FeatureGroup, group.Share: metadata.FeatureShare, group.Streams: metadata.FeatureStreams,
}

// serves reports whether the protocol of a kind of groups is on. That of share groups is for their feature alone to say, as in Kafka.
func (a *API) serves(kind group.Kind) bool {
	listed := kind == group.Share || slices.Contains(a.config.GroupProtocols, string(kind))
	return listed && a.view().image.FeatureLevel(protocolFeatures[kind]) > 0
}
