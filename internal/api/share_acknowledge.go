package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/wire"
)

// ShareAcknowledge v1–2 (key 79)
//
//   - First phase: the share session is found and the acknowledgements are carried out, all of a partition or none (KIP-932). Second phase:
//     wait until they are durable.
//   - The final epoch ends the session, and what the member still has goes back.
//   - v2 may renew acquisition locks, and tells how long they last (KIP-1222).

func (a *API) shareAcknowledge(_ context.Context, c *call, req *kmsg.ShareAcknowledgeRequest) (wire.Pending, error) {
	resp := answer[kmsg.ShareAcknowledgeResponse](req)
	refused := func(err error) (wire.Pending, error) {
		resp.ErrorCode = a.codeOf(c, err) // without a text, as in Kafka
		return reply(resp)
	}
	if err := a.checkShareMember(req.GroupID, req.MemberID); err != nil {
		return refused(err)
	}
	group, member := *req.GroupID, *req.MemberID
	session, err := a.shares.AcknowledgeSession(group, member, req.ShareSessionEpoch)
	if err != nil {
		return refused(err)
	}
	v := a.view()
	var acks [][]shareAck // by topic of the request
	for i := range req.Topics {
		topic := &req.Topics[i]
		acks = append(acks, nil)
		for j := range topic.Partitions {
			p := &topic.Partitions[j]
			if len(p.AcknowledgementBatches) == 0 {
				continue // it is not answered either, as in Kafka
			}
			batches := make([]share.AckBatch, len(p.AcknowledgementBatches))
			for k := range batches {
				b := &p.AcknowledgementBatches[k]
				batches[k] = share.AckBatch{First: base.Offset(b.FirstOffset), Last: base.Offset(b.LastOffset), Types: ackTypes(b.AcknowledgeTypes)}
			}
			id := base.TopicIDPartition{ID: topic.TopicID, Partition: p.Partition}
			acks[i] = append(acks[i], a.acknowledge(v, group, member, id, batches, req.IsRenewAck))
		}
	}
	if req.ShareSessionEpoch == share.FinalEpoch {
		a.shares.CloseSession(session)
	}
	return later(func(ctx context.Context) (kmsg.Response, error) {
		if req.Version >= 2 {
			resp.AcquisitionLockTimeoutMillis = int32(a.shareSettings(group).RecordLockDuration.Milliseconds())
		}
		var leaders []base.BrokerID
		for i := range req.Topics {
			if len(acks[i]) == 0 {
				continue
			}
			out := kmsg.NewShareAcknowledgeResponseTopic()
			out.TopicID = req.Topics[i].TopicID
			for _, ack := range acks[i] {
				if err := ack.wait(ctx); err != nil {
					return nil, err
				}
				p := kmsg.NewShareAcknowledgeResponseTopicPartition()
				p.Partition, p.ErrorCode = ack.id.Partition, a.codeOf(c, ack.err)
				p.ErrorMessage = shareMessage(ack.err)
				leader, epoch := v.currentLeader(ack.id, p.ErrorCode)
				p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(leader), int32(epoch)
				if epoch > 0 {
					leaders = append(leaders, leader)
				}
				out.Partitions = append(out.Partitions, p)
			}
			resp.Topics = append(resp.Topics, out)
		}
		for _, e := range a.shareEndpoints(c, leaders) {
			resp.NodeEndpoints = append(resp.NodeEndpoints, kmsg.ShareAcknowledgeResponseNodeEndpoint{NodeID: int32(e.id), Host: e.host, Port: e.port, Rack: e.rack})
		}
		return resp, nil
	})
}
