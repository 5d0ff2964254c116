package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/wire"
)

// ElectLeaders v0–2 (key 43)
//
//   - A partition has one replica, which leads it from the moment that it exists: no election of either type (v1, KIP-460) has anything
//     to do, and each partition that is named is ELECTION_NOT_NEEDED.
//   - A null list of topics means all partitions. Those that need no election are then left out of the answer, as in Kafka, which
//     leaves their topics there, without partitions.
//   - An election type that does not exist is INVALID_REQUEST, for the request and for every partition of it.

// The election types.
const (
	electPreferred int8 = 0
	electUnclean   int8 = 1
)

var errElectionNotNeeded = refuse(kerr.ElectionNotNeeded, "Leader election not needed for topic partition.")

func (a *API) electLeaders(_ context.Context, c *call, req *kmsg.ElectLeadersRequest) (wire.Pending, error) {
	resp := answer[kmsg.ElectLeadersResponse](req)
	view := a.view()
	var invalid error
	if req.Version >= 1 && req.ElectionType != electPreferred && req.ElectionType != electUnclean {
		invalid = refuse(kerr.InvalidRequest, "Unknown election type %d", req.ElectionType)
		if req.Topics == nil || len(req.Topics) > 0 {
			resp.ErrorCode = a.codeOf(c, invalid)
		}
	}
	if req.Topics == nil && invalid == nil {
		for t := range view.image.Topics() {
			out := kmsg.NewElectLeadersResponseTopic()
			out.Topic = t.Name
			resp.Topics = append(resp.Topics, out)
		}
	}
	for i := range req.Topics {
		asked := &req.Topics[i]
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = asked.Topic
		for _, index := range asked.Partitions {
			err := invalid
			if err == nil {
				err = view.elect(asked.Topic, index)
			}
			p := kmsg.NewElectLeadersResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = index, a.codeOf(c, err), messageOf(err)
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return reply(resp)
}

// elect says why a partition's leader stays who it is.
func (v *view) elect(topic string, index int32) error {
	t, ok := v.image.Topic(topic)
	if !ok {
		return refuse(kerr.UnknownTopicOrPartition, "No such topic as %s", topic)
	}
	if index < 0 || int(index) >= len(t.Partitions) {
		return refuse(kerr.UnknownTopicOrPartition, "No such partition as %s-%d", topic, index)
	}
	return errElectionNotNeeded
}
