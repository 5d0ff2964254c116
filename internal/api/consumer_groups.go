package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/wire"
)

// ConsumerGroupHeartbeat v0–1 (key 68), ConsumerGroupDescribe v0–1 (69): the consumer protocol (KIP-848).
//
//   - What each version changed stands with the state machine: see the methods of group.Machine.
//   - Where group.coordinator.rebalance.protocols leaves "consumer" out both are UNSUPPORTED_VERSION.

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
	served := a.serves(group.Consumer)
	pending := make([]*coordinator.Call[kmsg.ConsumerGroupDescribeResponseGroup], len(req.Groups))
	for i, name := range req.Groups {
		if served && name != "" {
			pending[i] = a.groups.DescribeConsumerGroup(name)
		}
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.ConsumerGroupDescribeResponse](req)
		for i, name := range req.Groups {
			g := kmsg.NewConsumerGroupDescribeResponseGroup()
			g.Group = name
			switch {
			case !served:
				g.ErrorCode = kerr.UnsupportedVersion.Code
			case name == "":
				g.ErrorCode = kerr.InvalidGroupID.Code
			default:
				found, err := pending[i].Wait(ctx)
				if err != nil {
					g.ErrorCode = a.codeOf(c, err)
					break
				}
				g = found
			}
			if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
				g.AuthorizedOperations = groupOperations
			}
			resp.Groups = append(resp.Groups, g)
		}
		return resp, nil
	})
}

// serves reports whether the protocol of a kind of groups is on.
func (a *API) serves(kind group.Kind) bool {
	return slices.Contains(a.config.GroupProtocols, string(kind))
}
