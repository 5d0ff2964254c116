package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/wire"
)

// OffsetCommit v2–10 (key 8)
//
//   - Each partition is answered for itself: UNKNOWN_TOPIC_OR_PARTITION where it does not exist, OFFSET_METADATA_TOO_LARGE; an error
//     of the group (generation, member, instance) is that of each of its partitions.
//   - v5 drops the retention time (KIP-211); v6 adds leader epochs (KIP-320); v7 instance ids (KIP-345); v9 GROUP_ID_NOT_FOUND
//     (KIP-848); v10 names topics by id, UNKNOWN_TOPIC_ID where there is none.
//
// Left out on purpose: member epochs of the consumer protocol, of which there are none yet.
func (a *API) offsetCommit(_ context.Context, c *call, req *kmsg.OffsetCommitRequest) (wire.Pending, error) {
	resp := answer[kmsg.OffsetCommitResponse](req)
	var valid []group.CommitTopic
	var places [][]*int16 // of the codes of valid's partitions
	image := a.view().image
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewOffsetCommitResponseTopic()
		out.Topic, out.TopicID = rt.Topic, rt.TopicID
		out.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(rt.Partitions))
		t, code := findTopic(image, req.Version >= 10, rt.Topic, rt.TopicID)
		in := group.CommitTopic{}
		if t != nil {
			in.Name, in.ID = t.Name, t.ID
		}
		var at []*int16
		for j, p := range rt.Partitions {
			out.Partitions[j] = kmsg.NewOffsetCommitResponseTopicPartition()
			out.Partitions[j].Partition = p.Partition
			switch {
			case t == nil:
				out.Partitions[j].ErrorCode = code
			case !hasPartition(t, p.Partition):
				out.Partitions[j].ErrorCode = kerr.UnknownTopicOrPartition.Code
			default:
				in.Partitions = append(in.Partitions, p)
				at = append(at, &out.Partitions[j].ErrorCode)
			}
		}
		resp.Topics = append(resp.Topics, out)
		if len(at) > 0 {
			valid, places = append(valid, in), append(places, at)
		}
	}
	if len(valid) == 0 {
		return reply(resp)
	}
	pending := a.groups.CommitOffsets(req, valid)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		done, err := pending.Wait(ctx)
		all := a.codeOf(c, codeErr(done.Code, err))
		giveCodes(places, all, done.Partitions)
		return resp, nil
	})
}

// giveCodes puts the code of each partition of an offset commit in its place in the answer, or all of them that of the whole commit if it
// has one.
func giveCodes(places [][]*int16, all int16, each [][]int16) {
	for i, topic := range places {
		for j, code := range topic {
			*code = all
			if all == 0 {
				*code = each[i][j]
			}
		}
	}
}

// OffsetFetch v1–10 (key 9)
//
//   - An offset that is not there is -1, without error; so are all of a group that does not exist.
//   - v2 asks for all offsets by naming no topics, and has an error for the whole answer; v5 (KIP-320) leader epochs; v7 (KIP-447)
//     requireStable, UNSTABLE_OFFSET_COMMIT where a transaction has the offset pending; v8 (KIP-709) several groups; v9 (KIP-848) member and
//     member epoch; v10 topics by id.
func (a *API) offsetFetch(_ context.Context, c *call, req *kmsg.OffsetFetchRequest) (wire.Pending, error) {
	groups := req.Groups
	if req.Version < 8 {
		groups = []kmsg.OffsetFetchRequestGroup{soleGroup(req)}
	}
	fetches := make([]*offsetFetch, len(groups))
	for i := range groups {
		fetches[i] = a.fetchGroupOffsets(req, &groups[i])
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.OffsetFetchResponse](req)
		for _, f := range fetches {
			resp.Groups = append(resp.Groups, a.fetchedGroupOffsets(ctx, c, f))
		}
		if req.Version < 8 {
			flattenFetched(resp, fetches[0])
		}
		return resp, nil
	})
}

// soleGroup is the request before v8 as one of its later groups.
func soleGroup(req *kmsg.OffsetFetchRequest) kmsg.OffsetFetchRequestGroup {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics == nil && req.Version >= 2 {
		return g
	}
	g.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, len(req.Topics))
	for i, t := range req.Topics {
		g.Topics[i] = kmsg.NewOffsetFetchRequestGroupTopic()
		g.Topics[i].Topic, g.Topics[i].Partitions = t.Topic, t.Partitions
	}
	return g
}

// offsetFetch is the fetch of one group's offsets on its way.
type offsetFetch struct {
	asked   *kmsg.OffsetFetchRequestGroup
	version int16
	unknown []kmsg.OffsetFetchResponseGroupTopic // topics by ids that do not exist
	known   []group.FetchTopic
	pending *coordinator.Call[group.Fetched]
}

func (a *API) fetchGroupOffsets(req *kmsg.OffsetFetchRequest, g *kmsg.OffsetFetchRequestGroup) *offsetFetch {
	version := req.Version
	f := &offsetFetch{asked: g, version: version}
	if g.Topics == nil {
		f.pending = a.groups.FetchAllOffsets(g.Group, g.MemberID, g.MemberEpoch, req.RequireStable)
		return f
	}
	image := a.view().image
	for i := range g.Topics {
		rt := &g.Topics[i]
		in := group.FetchTopic{Name: rt.Topic, Partitions: rt.Partitions}
		t, code := findTopic(image, version >= 10, rt.Topic, rt.TopicID)
		switch {
		case t != nil:
			in.Name, in.ID = t.Name, t.ID
		case version >= 10:
			f.unknown = append(f.unknown, refuseFetch(rt, code))
			continue
		}
		f.known = append(f.known, in)
	}
	f.pending = a.groups.FetchOffsets(g.Group, g.MemberID, g.MemberEpoch, f.known, req.RequireStable)
	return f
}

func (a *API) fetchedGroupOffsets(ctx context.Context, c *call, f *offsetFetch) kmsg.OffsetFetchResponseGroup {
	out := kmsg.NewOffsetFetchResponseGroup()
	out.Group = f.asked.Group
	fetched, err := f.pending.Wait(ctx)
	switch {
	case err != nil:
		out.ErrorCode = a.codeOf(c, err)
		return out
	case fetched.Code != nil:
		out.ErrorCode = fetched.Code.Code
		return out
	}
	image := a.view().image
	for i, t := range fetched.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.Partitions = t.Name, t.Partitions
		if f.asked.Topics != nil {
			rt.TopicID = f.known[i].ID
		} else if f.version >= 10 {
			known, _ := findTopic(image, false, t.Name, base.TopicID{})
			if known == nil {
				continue // offsets of a topic that is no more cannot be told by id
			}
			rt.TopicID = known.ID
		}
		out.Topics = append(out.Topics, rt)
	}
	out.Topics = append(out.Topics, f.unknown...)
	return out
}

func refuseFetch(rt *kmsg.OffsetFetchRequestGroupTopic, code int16) kmsg.OffsetFetchResponseGroupTopic {
	out := kmsg.NewOffsetFetchResponseGroupTopic()
	out.Topic, out.TopicID = rt.Topic, rt.TopicID
	for _, p := range rt.Partitions {
		op := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		op.Partition, op.Offset, op.LeaderEpoch, op.Metadata, op.ErrorCode = p, -1, -1, kmsg.StringPtr(""), code
		out.Partitions = append(out.Partitions, op)
	}
	return out
}

// flattenFetched makes the answer before v8 of that with groups. v1 has no error for the whole: each partition has it.
func flattenFetched(resp *kmsg.OffsetFetchResponse, f *offsetFetch) {
	g := resp.Groups[0]
	resp.Groups = nil
	resp.ErrorCode = g.ErrorCode
	if g.ErrorCode != 0 && resp.Version < 2 {
		for i := range f.asked.Topics {
			g.Topics = append(g.Topics, refuseFetch(&f.asked.Topics[i], g.ErrorCode))
		}
	}
	for _, t := range g.Topics {
		out := kmsg.NewOffsetFetchResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			op := kmsg.NewOffsetFetchResponseTopicPartition()
			op.Partition, op.Offset, op.LeaderEpoch, op.Metadata, op.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			out.Partitions = append(out.Partitions, op)
		}
		resp.Topics = append(resp.Topics, out)
	}
}

// OffsetDelete v0 (key 47, KIP-496): deletes offsets of topics that no member of the group subscribes to. An error of the group is
// that of the whole answer, which then has no topics.
func (a *API) offsetDelete(_ context.Context, c *call, req *kmsg.OffsetDeleteRequest) (wire.Pending, error) {
	resp := answer[kmsg.OffsetDeleteResponse](req)
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return reply(resp)
	}
	var valid []group.DeleteTopic
	var places [][]*int16
	image := a.view().image
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewOffsetDeleteResponseTopic()
		out.Topic = rt.Topic
		out.Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(rt.Partitions))
		t, code := findTopic(image, false, rt.Topic, base.TopicID{})
		in := group.DeleteTopic{Name: rt.Topic}
		var at []*int16
		for j, p := range rt.Partitions {
			out.Partitions[j] = kmsg.NewOffsetDeleteResponseTopicPartition()
			out.Partitions[j].Partition = p.Partition
			switch {
			case t == nil:
				out.Partitions[j].ErrorCode = code
			case !hasPartition(t, p.Partition):
				out.Partitions[j].ErrorCode = kerr.UnknownTopicOrPartition.Code
			default:
				in.Partitions = append(in.Partitions, p.Partition)
				at = append(at, &out.Partitions[j].ErrorCode)
			}
		}
		resp.Topics = append(resp.Topics, out)
		if len(at) > 0 {
			valid, places = append(valid, in), append(places, at)
		}
	}
	pending := a.groups.DeleteOffsets(req.Group, valid)
	return later(func(ctx context.Context) (kmsg.Response, error) {
		done, err := pending.Wait(ctx)
		switch {
		case err != nil:
			resp.ErrorCode, resp.Topics = a.codeOf(c, err), nil
		case done.Code != nil:
			resp.ErrorCode, resp.Topics = done.Code.Code, nil
		default:
			for i, topic := range places {
				for _, code := range topic {
					*code = done.Topics[i]
				}
			}
		}
		return resp, nil
	})
}
