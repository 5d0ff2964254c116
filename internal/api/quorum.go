package api

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/wire"
)

// DescribeQuorum v0–2 (key 55), UnregisterBroker v0 (key 64)
//
//   - DescribeQuorum (KIP-595) is about partition 0 of __cluster_metadata. There is no such log here, but what it stands for there is: this
//     broker alone agrees with itself on the metadata. It is the one voter and the leader; the leader epoch is that of its start, the
//     high watermark and its log end offset are the revision of the metadata. v1 has the times of the last fetch (KIP-836): now.
//   - v2 has messages and the voters' listeners (KIP-853): the one that the client came in on, since there are no separate ones for
//     controllers. Directory ids are zero, as in a Kafka cluster whose voters are fixed.
//   - A request for anything else, or for more, is UNKNOWN_TOPIC_OR_PARTITION throughout.
//   - UnregisterBroker forgets a broker (KIP-500). Kafka lets a broker that runs be forgotten, which then serves nothing until it
//     is started again; here it is INVALID_REQUEST.

func (a *API) describeQuorum(_ context.Context, c *call, req *kmsg.DescribeQuorumRequest) (wire.Pending, error) {
	resp := answer[kmsg.DescribeQuorumResponse](req)
	resp.ErrorMessage = kmsg.StringPtr("")
	known := len(req.Topics) == 1 && req.Topics[0].Topic == clusterMetadataTopic &&
		len(req.Topics[0].Partitions) == 1 && req.Topics[0].Partitions[0].Partition == 0
	for i := range req.Topics {
		out := kmsg.NewDescribeQuorumResponseTopic()
		out.Topic = req.Topics[i].Topic
		for _, part := range req.Topics[i].Partitions {
			p := kmsg.NewDescribeQuorumResponseTopicPartition()
			if known {
				p = a.quorum()
			} else {
				p.ErrorCode, p.ErrorMessage = a.codeOf(c, errUnknownPartition), messageOf(errUnknownPartition)
			}
			p.Partition = part.Partition
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	if known {
		self := a.ownEndpoint(c)
		listener := kmsg.NewDescribeQuorumResponseNodeListener()
		listener.Name, listener.Host, listener.Port = c.Conn.Listener().Name, self.host, uint16(self.port)
		node := kmsg.NewDescribeQuorumResponseNode()
		node.NodeID = int32(self.id)
		node.Listeners = append(node.Listeners, listener)
		resp.Nodes = append(resp.Nodes, node)
	}
	return reply(resp)
}

// quorum describes who agrees on the metadata.
func (a *API) quorum() kmsg.DescribeQuorumResponseTopicPartition {
	image := a.view().image
	voter := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
	voter.ReplicaID, voter.LogEndOffset = int32(a.config.NodeID), image.Revision()
	voter.LastFetchTimestamp = time.Now().UnixMilli()
	voter.LastCaughtUpTimestamp = voter.LastFetchTimestamp

	p := kmsg.NewDescribeQuorumResponseTopicPartition()
	p.ErrorMessage = kmsg.StringPtr("")
	p.LeaderID, p.LeaderEpoch = int32(a.config.NodeID), int32(image.LeaderEpoch())
	p.HighWatermark = image.Revision()
	p.CurrentVoters = append(p.CurrentVoters, voter)
	return p
}

func (a *API) unregisterBroker(_ context.Context, c *call, req *kmsg.UnregisterBrokerRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		ctx, cancel := context.WithTimeout(ctx, adminTimeout)
		defer cancel()
		resp := answer[kmsg.UnregisterBrokerResponse](req)
		resp.ErrorMessage = kmsg.StringPtr("")
		if err := a.metadata.UnregisterBroker(ctx, base.BrokerID(req.BrokerID)); err != nil {
			resp.ErrorCode, resp.ErrorMessage = a.codeOf(c, err), messageOf(err)
		}
		return resp, nil
	})
}
