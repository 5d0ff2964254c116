package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/wire"
)

// TxnOffsetCommit v0–5 (key 28)
//
//   - The offsets are committed when the transaction is (KIP-98). Up to v4 the group must have been added to the transaction by
//     AddOffsetsToTxn, which is verified; v5 adds it (KIP-890).
//   - Each partition is answered for itself, as by OffsetCommit; an error of the transaction or the group is that of each of its
//     partitions.
//   - v2 adds leader epochs (KIP-320), v3 the member that commits, which is checked (KIP-447), v4 TRANSACTION_ABORTABLE.
func (a *API) txnOffsetCommit(_ context.Context, c *call, req *kmsg.TxnOffsetCommitRequest) (wire.Pending, error) {
	if req.Version < 3 {
		req.Generation, req.MemberID, req.InstanceID = -1, "", nil
	}
	resp := answer[kmsg.TxnOffsetCommitResponse](req)
	var valid []group.CommitTopic
	var places [][]*int16 // of the codes of valid's partitions
	image := a.view().image
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewTxnOffsetCommitResponseTopic()
		out.Topic = rt.Topic
		out.Partitions = make([]kmsg.TxnOffsetCommitResponseTopicPartition, len(rt.Partitions))
		t, code := findTopic(image, false, rt.Topic, base.TopicID{})
		in := group.CommitTopic{Name: rt.Topic}
		if t != nil {
			in.ID = t.ID
		}
		var at []*int16
		for j := range rt.Partitions {
			p := &rt.Partitions[j]
			out.Partitions[j].Partition = p.Partition
			switch {
			case t == nil:
				out.Partitions[j].ErrorCode = code
			case !hasPartition(t, p.Partition):
				out.Partitions[j].ErrorCode = kerr.UnknownTopicOrPartition.Code
			default:
				commit := kmsg.NewOffsetCommitRequestTopicPartition()
				commit.Partition, commit.Offset, commit.LeaderEpoch, commit.Metadata = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata
				in.Partitions = append(in.Partitions, commit)
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
	return later(func(ctx context.Context) (kmsg.Response, error) {
		done, err := a.commitTxnOffsets(ctx, req, valid)
		all := a.codeOf(c, codeErr(done.Code, err))
		giveCodes(places, all, done.Partitions)
		return resp, nil
	})
}

// commitTxnOffsets has the transaction coordinator know of the group and then commits.
func (a *API) commitTxnOffsets(ctx context.Context, req *kmsg.TxnOffsetCommitRequest, topics []group.CommitTopic) (group.Committed, error) {
	p := producerOf(req.TransactionalID, req.ProducerID, req.ProducerEpoch)
	commit := group.TxnCommit{Request: req, Topics: topics, Ends: group.AnyEnds}
	if req.Group == "" {
		return group.Committed{}, errNoGroup
	}
	at, err := a.groupPartition(ctx, p, req.Group)
	if err != nil {
		return group.Committed{}, err
	}
	if req.Version >= 5 {
		err = a.addToTxn(ctx, p, []base.TopicPartition{at})
	} else {
		if commit.Ends, err = a.groups.TxnEnds(req.Group, p.ID).Applied(ctx); err != nil {
			return group.Committed{}, err
		}
		var codes []error
		codes, err = a.verifyTxn(ctx, p, []base.TopicPartition{at})
		if err == nil {
			err = codes[0]
		}
	}
	if err != nil {
		return group.Committed{}, unverified(err, req.Version >= 4)
	}
	return a.groups.CommitTxnOffsets(commit).Wait(ctx)
}
