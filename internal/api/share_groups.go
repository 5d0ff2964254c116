package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/wire"
)

// ShareGroupHeartbeat v1 (key 76), ShareGroupDescribe v1 (77): membership of share groups (KIP-932).
//
//   - v0 was of an early version of Kafka and is not served by the reference either.
//   - A heartbeat after which partitions have to be initialized is answered when they are, or cannot be; the next one has them assigned.
//   - At level 0 of share.version whatever share groups and their members ask for is UNSUPPORTED_VERSION; share coordinators are still served.

func (a *API) shareGroupHeartbeat(_ context.Context, c *call, req *kmsg.ShareGroupHeartbeatRequest) (wire.Pending, error) {
	if !a.serves(group.Share) {
		resp := answer[kmsg.ShareGroupHeartbeatResponse](req)
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		return reply(resp)
	}
	pending := a.groups.ShareGroupHeartbeat(groupClient(c), req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		report, err := pending.Wait(ctx)
		resp := report.Response
		if err != nil {
			resp = kmsg.NewPtrShareGroupHeartbeatResponse()
			resp.ErrorCode = a.codeOf(c, err)
		}
		resp.Version = req.Version
		if len(report.Initialize) > 0 {
			if err := a.initializeShare(ctx, req.GroupID, report.Initialize); err != nil {
				a.logger.Warn("the state of a share group's partitions could not be initialized; it is tried again", "group", req.GroupID, "err", err)
			}
		}
		return resp, nil
	})
}

// initializeShare has the share coordinator initialize partitions of a group, and the group told of it. It returns when all that is durable.
func (a *API) initializeShare(ctx context.Context, name string, partitions []group.SharePartition) error {
	done, err := a.changeShareState(ctx, partitions, func(p group.SharePartition) share.Pending[struct{}] {
		return a.shareState.Initialize(shareKey(name, p.Topic, p.Partition), p.StateEpoch, p.Start)
	})
	told := a.groups.ShareInitialized(name, done, true)
	if err != nil {
		a.groups.ShareInitialized(name, partitions, false) // those that are left
		return err
	}
	_, err = told.Wait(ctx)
	return err
}

// changeShareState asks the share coordinator for each of some partitions, and returns those of which it was done.
func (a *API) changeShareState(ctx context.Context, partitions []group.SharePartition, ask func(group.SharePartition) share.Pending[struct{}]) ([]group.SharePartition, error) {
	if err := a.shareState.Ensure(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", coordinator.ErrUnavailable, err)
	}
	pending := make([]share.Pending[struct{}], len(partitions))
	for i, p := range partitions {
		pending[i] = ask(p)
	}
	var done []group.SharePartition
	var problems []error
	for i, p := range partitions {
		if _, err := pending[i].Wait(ctx); err != nil {
			problems = append(problems, err)
		} else {
			done = append(done, p)
		}
	}
	return done, errors.Join(problems...)
}

// forgetShare has the share coordinator forget partitions of a group. What it does not know is as good as forgotten, and so is what a
// topic that is no more had.
func (a *API) forgetShare(ctx context.Context, name string, partitions []group.SharePartition) error {
	if len(partitions) == 0 {
		return nil
	}
	_, err := a.changeShareState(ctx, partitions, func(p group.SharePartition) share.Pending[struct{}] {
		return a.shareState.Delete(shareKey(name, p.Topic, p.Partition))
	})
	if errors.Is(err, share.ErrUnknownPartition) {
		return nil
	}
	return err
}

func (a *API) shareGroupDescribe(_ context.Context, c *call, req *kmsg.ShareGroupDescribeRequest) (wire.Pending, error) {
	described := describing(a, c, req.GroupIDs, a.serves(group.Share), a.groups.DescribeShareGroup)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.ShareGroupDescribeResponse](req)
		for i, name := range req.GroupIDs {
			g, code := described(ctx, i)
			if code != 0 {
				g = kmsg.NewShareGroupDescribeResponseGroup()
				g.GroupID, g.ErrorCode = name, code
			}
			if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
				g.AuthorizedOperations = groupOperations
			}
			resp.Groups = append(resp.Groups, g)
		}
		return resp, nil
	})
}

// DescribeShareGroupOffsets v0–1 (key 90), AlterShareGroupOffsets v0 (91), DeleteShareGroupOffsets v0 (92): where the share partitions of a
// group begin (KIP-932).
//
//   - DescribeShareGroupOffsets v1 (KIP-1226) has the lag: records from the start offset on that are not finished; -1 where that is not
//     known. A group that does not exist, or is of another kind, has no offsets, and no error.
//   - Altering and deleting are for groups without members. Both go through the group, the share coordinator and the group again, each step
//     durable before the next.

func (a *API) describeShareGroupOffsets(_ context.Context, c *call, req *kmsg.DescribeShareGroupOffsetsRequest) (wire.Pending, error) {
	served := a.serves(group.Share)
	pending := make([]*coordinator.Call[[]group.ShareTopic], len(req.Groups))
	for i, g := range req.Groups {
		if served {
			pending[i] = a.groups.ShareOffsetTopics(g.GroupID)
		}
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.DescribeShareGroupOffsetsResponse](req)
		for i := range req.Groups {
			asked := &req.Groups[i]
			g := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
			g.GroupID = asked.GroupID
			if !served {
				g.ErrorCode = kerr.UnsupportedVersion.Code
				resp.Groups = append(resp.Groups, g)
				continue
			}
			topics, err := pending[i].Wait(ctx)
			if err == nil {
				err = a.shareState.EnsureFor(ctx)
			}
			if err != nil {
				g.ErrorCode, g.ErrorMessage = a.codeOf(c, err), messageOf(err)
				resp.Groups = append(resp.Groups, g)
				continue
			}
			if asked.Topics != nil {
				topics = a.shareTopics(asked.Topics)
			}
			for _, t := range topics {
				g.Topics = append(g.Topics, a.shareOffsets(ctx, c, asked.GroupID, t))
			}
			resp.Groups = append(resp.Groups, g)
		}
		return resp, nil
	})
}

// shareTopics are the topics of a request by their ids; a topic that does not exist has none.
func (a *API) shareTopics(asked []kmsg.DescribeShareGroupOffsetsRequestGroupTopic) []group.ShareTopic {
	image := a.metadata.Image()
	var topics []group.ShareTopic
	for _, t := range asked {
		found := group.ShareTopic{Name: t.Topic, Partitions: t.Partitions}
		if topic, ok := image.Topic(t.Topic); ok {
			found.ID = topic.ID
		}
		topics = append(topics, found)
	}
	return topics
}

// shareOffsets is where share partitions of one topic begin.
func (a *API) shareOffsets(ctx context.Context, c *call, name string, t group.ShareTopic) kmsg.DescribeShareGroupOffsetsResponseGroupTopic {
	answer := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
	answer.Topic, answer.TopicID = t.Name, t.ID
	pending := make([]sharePending[share.Persisted], len(t.Partitions))
	for i, p := range t.Partitions {
		pending[i] = sharePending[share.Persisted]{p, a.shareState.ReadSummary(shareKey(name, t.ID, p), base.NoLeaderEpoch)}
	}
	for _, p := range pending {
		ap := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
		ap.Partition, ap.StartOffset = p.partition, -1
		s, code, text := p.wait(ctx, a, c, nil)
		switch {
		case t.ID.IsZero(): // as Kafka, of a topic that does not exist
		case code != 0:
			ap.ErrorCode, ap.ErrorMessage = code, text
		default:
			ap.StartOffset, ap.LeaderEpoch = int64(s.Start), int32(s.LeaderEpoch)
			if log, ok := a.engine.Partition(base.TopicIDPartition{ID: t.ID, Partition: p.partition}); ok && s.Start >= 0 && s.DeliveryCompleteCount >= 0 {
				ap.Lag = int64(log.Offsets().HighWatermark-s.Start) - int64(s.DeliveryCompleteCount)
			}
		}
		answer.Partitions = append(answer.Partitions, ap)
	}
	return answer
}

func (a *API) alterShareGroupOffsets(_ context.Context, c *call, req *kmsg.AlterShareGroupOffsetsRequest) (wire.Pending, error) {
	if err := a.checkShareGroup(req.GroupID); err != nil {
		resp := answer[kmsg.AlterShareGroupOffsetsResponse](req)
		resp.ErrorCode, resp.ErrorMessage = a.codeOf(c, err), messageOf(err)
		return reply(resp)
	}
	pending := a.groups.AlterShareOffsets(req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.AlterShareGroupOffsetsResponse](req)
		change, err := pending.Wait(ctx)
		if err == nil && len(change.Partitions) > 0 {
			err = a.initializeShare(ctx, req.GroupID, change.Partitions)
		}
		if resp.ErrorCode, resp.ErrorMessage = a.refusedShare(c, change, err); resp.ErrorCode == 0 {
			resp.Topics = change.Altered
		}
		return resp, nil
	})
}

// checkShareGroup says what keeps the offsets of a group from being changed, in Kafka's words.
func (a *API) checkShareGroup(name string) error {
	switch {
	case !a.serves(group.Share):
		return errNoShareGroups
	case name == "":
		return refuse(kerr.InvalidGroupID, "The group id is invalid.")
	}
	return nil
}

// refusedShare is the code and the text for the whole of a request that changes share offsets.
func (a *API) refusedShare(c *call, change group.ShareChange, err error) (int16, *string) {
	switch {
	case err != nil:
		err = shareStateError(err, nil)
		return a.codeOf(c, err), messageOf(err)
	case change.Refused != nil:
		return change.Refused.Code.Code, &change.Refused.Text
	}
	return 0, nil
}

func (a *API) deleteShareGroupOffsets(_ context.Context, c *call, req *kmsg.DeleteShareGroupOffsetsRequest) (wire.Pending, error) {
	if err := a.checkShareGroup(req.GroupID); err != nil {
		resp := answer[kmsg.DeleteShareGroupOffsetsResponse](req)
		resp.ErrorCode, resp.ErrorMessage = a.codeOf(c, err), messageOf(err)
		return reply(resp)
	}
	pending := a.groups.DeleteShareOffsets(req)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.DeleteShareGroupOffsetsResponse](req)
		change, err := pending.Wait(ctx)
		if err == nil && len(change.Partitions) > 0 {
			err = a.forgetShareTopics(ctx, req.GroupID, change)
		}
		if resp.ErrorCode, resp.ErrorMessage = a.refusedShare(c, change, err); resp.ErrorCode == 0 {
			resp.Topics = change.Deleted
		}
		return resp, nil
	})
}

// forgetShareTopics has the share coordinator forget topics of a group, and the group told of it.
func (a *API) forgetShareTopics(ctx context.Context, name string, change group.ShareChange) error {
	if err := a.forgetShare(ctx, name, change.Partitions); err != nil {
		return err
	}
	var topics []base.TopicID
	for _, t := range change.Deleted {
		topics = append(topics, t.TopicID)
	}
	_, err := a.groups.ShareDeleted(name, topics).Wait(ctx)
	return err
}

// deleteGroup waits until a group is deleted. The partitions of a share group go first.
func (a *API) deleteGroup(ctx context.Context, name string, pending *coordinator.Call[group.Deletion]) (*kerr.Error, error) {
	deletion, err := pending.Wait(ctx)
	if err != nil || len(deletion.Partitions) == 0 {
		return deletion.Code, err
	}
	if err := a.forgetShare(ctx, name, deletion.Partitions); err != nil {
		return nil, err
	}
	deletion, err = a.groups.DeleteGroup(name, true).Wait(ctx)
	return deletion.Code, err
}
