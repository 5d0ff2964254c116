package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/wire"
)

// JoinGroup v0–9 (key 11), SyncGroup v0–5 (14), Heartbeat v0–4 (12), LeaveGroup v0–5 (13): the classic group protocol.
//
//   - The first phase queues the request for the group's state machine, which fixes its place; the second waits for the answer. A
//     join or sync is answered when the other members have come, so the later answers of the same connection wait with it. A broker
//     that is about to stop does not wait for them: NOT_COORDINATOR.
//   - What each version changed stands with the state machine: see the methods of group.Machine.
//   - In a consumer group they serve members that have not been brought over to its protocol yet.

func (a *API) joinGroup(_ context.Context, c *call, req *kmsg.JoinGroupRequest) (wire.Pending, error) {
	pending := a.groups.JoinGroup(groupClient(c), req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp, err := awaitMembers(ctx, c, pending)
		if err != nil {
			resp = kmsg.NewPtrJoinGroupResponse()
			resp.Generation, resp.ErrorCode = -1, a.codeOf(c, err)
		}
		resp.Version = req.Version
		switch {
		case req.Version < 7 && resp.Protocol == nil:
			resp.Protocol = kmsg.StringPtr("")
		case req.Version >= 7 && resp.Protocol != nil && *resp.Protocol == "":
			resp.Protocol = nil
		}
		return resp, nil
	})
}

func (a *API) syncGroup(_ context.Context, c *call, req *kmsg.SyncGroupRequest) (wire.Pending, error) {
	pending := a.groups.SyncGroup(req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp, err := awaitMembers(ctx, c, pending)
		if err != nil {
			resp = kmsg.NewPtrSyncGroupResponse()
			resp.ErrorCode = a.codeOf(c, err)
		}
		resp.Version = req.Version
		return resp, nil
	})
}

// awaitMembers waits for an answer that may depend on what other clients send. None of them can any more once the broker drains its
// connections: then it is an error at once, for which clients look for the coordinator again. The state machine is left as it is; it
// forgets members that are joining anyway when it is loaded again.
func awaitMembers[A any](ctx context.Context, c *call, pending *coordinator.Call[A]) (A, error) {
	select {
	case <-pending.Done():
	case <-ctx.Done():
	case <-c.Conn.Draining():
		select {
		case <-pending.Done():
		default:
			var none A
			return none, fmt.Errorf("%w: the broker is stopping", coordinator.ErrNotCoordinator)
		}
	}
	return pending.Wait(ctx)
}

func (a *API) heartbeat(_ context.Context, c *call, req *kmsg.HeartbeatRequest) (wire.Pending, error) {
	pending := a.groups.Heartbeat(req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp, err := pending.Wait(ctx)
		if err != nil {
			resp = kmsg.NewPtrHeartbeatResponse()
			if !errors.Is(err, coordinator.ErrLoading) { // no session ends while its group is loading
				resp.ErrorCode = a.codeOf(c, err)
			}
		}
		resp.Version = req.Version
		return resp, nil
	})
}

func (a *API) leaveGroup(_ context.Context, c *call, req *kmsg.LeaveGroupRequest) (wire.Pending, error) {
	pending := a.groups.LeaveGroup(req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp, err := pending.Wait(ctx)
		if err != nil {
			resp = kmsg.NewPtrLeaveGroupResponse()
			resp.ErrorCode = a.codeOf(c, err)
		}
		resp.Version = req.Version
		return resp, nil
	})
}

// ListGroups v0–5 (key 16), DescribeGroups v0–6 (15), DeleteGroups v0–2 (42): groups as administrators see them.
//
//   - ListGroups v4 (KIP-518) filters by state, v5 (KIP-848) by type. One partition that is loading makes the whole answer
//     COORDINATOR_LOAD_IN_PROGRESS; partitions that are led elsewhere are left out.
//   - DescribeGroups v3 (KIP-430) tells the operations that the client may do; without authorisation, all. v6 (KIP-1043): a group
//     that does not exist is GROUP_ID_NOT_FOUND, before it was a Dead group without error.
//   - Of names given twice DeleteGroups answers one.

// groupOperations are the bits of the operations on a group: read, delete, describe, describe configs, alter configs.
const groupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

func (a *API) listGroups(_ context.Context, c *call, req *kmsg.ListGroupsRequest) (wire.Pending, error) {
	partitions := a.groups.ListGroups(req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.ListGroupsResponse](req)
		for _, pending := range partitions {
			groups, err := pending.Wait(ctx)
			switch {
			case errors.Is(err, coordinator.ErrNotCoordinator):
			case err != nil:
				resp.ErrorCode, resp.Groups = a.codeOf(c, err), nil
				return resp, nil
			default:
				resp.Groups = append(resp.Groups, groups...)
			}
		}
		return resp, nil
	})
}

func (a *API) describeGroups(_ context.Context, c *call, req *kmsg.DescribeGroupsRequest) (wire.Pending, error) {
	pending := make([]*coordinator.Call[kmsg.DescribeGroupsResponseGroup], len(req.Groups))
	for i, name := range req.Groups {
		pending[i] = a.groups.DescribeGroup(req.Version, name)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.DescribeGroupsResponse](req)
		for i, name := range req.Groups {
			g, err := pending[i].Wait(ctx)
			if err != nil {
				g = kmsg.NewDescribeGroupsResponseGroup()
				g.Group, g.ErrorCode = name, a.codeOf(c, err)
			}
			if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
				g.AuthorizedOperations = groupOperations
			}
			resp.Groups = append(resp.Groups, g)
		}
		return resp, nil
	})
}

func (a *API) deleteGroups(_ context.Context, c *call, req *kmsg.DeleteGroupsRequest) (wire.Pending, error) {
	var names []string
	seen := map[string]bool{}
	for _, name := range req.Groups {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	pending := make([]*coordinator.Call[group.Deletion], len(names))
	for i, name := range names {
		pending[i] = a.groups.DeleteGroup(name, false)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.DeleteGroupsResponse](req)
		for i, name := range names {
			out := kmsg.NewDeleteGroupsResponseGroup()
			out.Group = name
			refused, err := a.deleteGroup(ctx, name, pending[i])
			if err != nil {
				out.ErrorCode = a.codeOf(c, err)
			} else if refused != nil {
				out.ErrorCode = refused.Code
			}
			resp.Groups = append(resp.Groups, out)
		}
		return resp, nil
	})
}

// groupClient is the sender of a request as groups know their members.
func groupClient(c *call) group.Client {
	return group.Client{ID: c.ClientID, Host: javaAddress(c.Conn.RemoteAddr())}
}

// javaAddress is the text of a java.net.InetAddress without a host name: a slash, and the address with no group left out.
func javaAddress(addr net.Addr) string {
	host, _ := hostPort(addr)
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Is4() {
		return "/" + host
	}
	b := ip.As16()
	groups := make([]string, 0, 8)
	for pair := range slices.Chunk(b[:], 2) {
		groups = append(groups, fmt.Sprintf("%x", int(pair[0])<<8|int(pair[1])))
	}
	text := "/" + strings.Join(groups, ":")
	if zone := ip.Zone(); zone != "" {
		text += "%" + zone
	}
	return text
}
