package api

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator/sharestate"
	"github.com/ottlaio/ottla/internal/wire"
)

// FindCoordinator v0–6 (key 10)
//
//   - v0 finds groups only; v1 names the kind of coordinator; v4 takes several keys (KIP-699); v6 adds share groups (KIP-932).
//   - The coordinator of a group leads a partition of __consumer_offsets, that of a transactional id one of __transaction_state; the
//     topics are created when they are first asked for. That of a share partition, "group:topic id:partition", leads one of
//     __share_group_state.

// The kinds of coordinators.
const (
	groupCoordinator       int8 = 0
	transactionCoordinator int8 = 1
	shareCoordinator       int8 = 2
)

var (
	errShareKey     = refuse(kerr.InvalidRequest, "")
	errShareVersion = refuse(kerr.InvalidRequest, "This most likely occurs because of a request being malformed by the client library or "+
		"the message was sent to an incompatible broker. See the broker logs for more details.")
	errUnknownCoordinator = refuse(kerr.InvalidRequest, "Unknown coordinator key type.")
	errNoCoordinator      = refuse(kerr.CoordinatorNotAvailable, "The coordinator is not available.")
)

func (a *API) findCoordinator(_ context.Context, c *call, req *kmsg.FindCoordinatorRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.FindCoordinatorResponse](req)
		at, err := a.coordinatorFor(ctx, c, req.CoordinatorType)
		if req.Version < 4 {
			found := a.foundCoordinator(c, req.CoordinatorKey, at, err)
			resp.ErrorCode, resp.ErrorMessage = found.ErrorCode, found.ErrorMessage
			resp.NodeID, resp.Host, resp.Port = found.NodeID, found.Host, found.Port
			return resp, nil
		}
		for _, key := range req.CoordinatorKeys {
			if req.CoordinatorType == shareCoordinator && (req.Version < 6 || !sharestate.ValidCoordinatorKey(key)) {
				found := a.foundCoordinator(c, strings.Clone(key), endpoint{}, errShareKey)
				found.ErrorMessage = kmsg.StringPtr("")
				resp.Coordinators = append(resp.Coordinators, found)
				continue
			}
			resp.Coordinators = append(resp.Coordinators, a.foundCoordinator(c, strings.Clone(key), at, err))
		}
		return resp, nil
	})
}

// coordinatorFor is where the coordinators of a kind are: on this broker, all of them.
func (a *API) coordinatorFor(ctx context.Context, c *call, kind int8) (endpoint, error) {
	ensure := a.groups.Ensure
	switch kind {
	case groupCoordinator:
	case transactionCoordinator:
		ensure = a.txns.Ensure
	case shareCoordinator:
		if c.Version < 4 {
			return endpoint{}, errShareVersion
		}
		ensure = a.shareState.Ensure
	default:
		return endpoint{}, errUnknownCoordinator
	}
	if err := ensure(ctx); err != nil {
		a.logger.Warn("a coordinator's topic could not be created", "err", err)
		return endpoint{}, errNoCoordinator
	}
	return a.ownEndpoint(c), nil
}

func (a *API) foundCoordinator(c *call, key string, at endpoint, err error) kmsg.FindCoordinatorResponseCoordinator {
	out := kmsg.NewFindCoordinatorResponseCoordinator()
	out.Key = key
	if err != nil {
		out.ErrorCode, out.ErrorMessage = a.codeOf(c, err), messageOf(err)
		out.NodeID, out.Host, out.Port = -1, "", -1
		return out
	}
	out.NodeID, out.Host, out.Port = int32(at.id), at.host, at.port
	out.ErrorMessage = kmsg.StringPtr("") // as Kafka, which says NONE before v4
	if c.Version < 4 {
		out.ErrorMessage = kmsg.StringPtr("NONE")
	}
	return out
}
