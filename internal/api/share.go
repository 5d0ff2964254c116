package api

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/storage"
)

// What ShareFetch and ShareAcknowledge have in common: who asks, and what is said of records.

// maxMemberID is the length of the longest member id, that of a UUID's text.
const maxMemberID = 36

var (
	// errNoShareGroups is for level 0 of share.version.
	errNoShareGroups = refuse(kerr.UnsupportedVersion, "The version of API is not supported.")

	errShareGroup  = refuse(kerr.InvalidRequest, "Invalid group id in the request.")
	errShareMember = refuse(kerr.InvalidRequest, "Invalid member id in the request.")
)

// checkShareMember says whether a request names a group and a member, and share groups are on.
func (a *API) checkShareMember(id, member *string) error {
	switch {
	case !a.serves(group.Share):
		return errNoShareGroups
	case id == nil:
		return errShareGroup
	case member == nil || *member == "" || len(*member) > maxMemberID:
		return errShareMember
	}
	return nil
}

// shareAck is what a request says of one partition's records, and what has become of that.
type shareAck struct {
	id    base.TopicIDPartition
	write *share.Write
	err   error
}

// wait returns once what was carried out is durable, or ctx has ended.
func (k *shareAck) wait(ctx context.Context) error {
	if k.err == nil && !plant.On(plant.ShareAckEarly) {
		k.err = sharePartitionError(k.write.Wait(ctx))
	}
	return context.Cause(ctx)
}

// acknowledge carries out what a member says of one partition's records. It does not wait for that to be durable.
func (a *API) acknowledge(v *view, group, member string, id base.TopicIDPartition, batches []share.AckBatch, renew bool) shareAck {
	ack := shareAck{id: id}
	if _, _, ack.err = v.sharePartition(id); ack.err != nil || len(batches) == 0 {
		return ack
	}
	if ack.err = share.CheckAcks(batches, renew); ack.err != nil {
		return ack
	}
	ack.write, ack.err = a.shares.Acknowledge(share.Key{Group: group, Topic: id.ID, Partition: id.Partition}, member, batches)
	return ack
}

// sharePartition finds a partition and the topic that it is of.
func (v *view) sharePartition(id base.TopicIDPartition) (*storage.Partition, *metadata.Partition, error) {
	topic, ok := v.topicByID(id.ID)
	if !ok {
		return nil, nil, errUnknownTopicID
	}
	return topic.partition(id.Partition)
}

// ackTypes makes acknowledge types of the protocol's numbers.
func ackTypes(types []int8) []share.AckType {
	out := make([]share.AckType, len(types))
	for i, t := range types {
		out[i] = share.AckType(t)
	}
	return out
}

// currentLeader is where a client that went by an old leader finds the new one; -1 where the error is another.
func (v *view) currentLeader(id base.TopicIDPartition, code int16) (base.BrokerID, base.LeaderEpoch) {
	if code == kerr.NotLeaderForPartition.Code || code == kerr.FencedLeaderEpoch.Code {
		if topic, ok := v.image.TopicByID(id.ID); ok && id.Partition >= 0 && int(id.Partition) < len(topic.Partitions) {
			p := &topic.Partitions[id.Partition]
			return p.Leader, p.LeaderEpoch
		}
		return -1, -1
	}
	return 0, 0
}

// shareEndpoints are the addresses of leaders, without doubles.
func (a *API) shareEndpoints(c *call, leaders []base.BrokerID) []endpoint {
	slices.Sort(leaders)
	var out []endpoint
	for _, id := range slices.Compact(leaders) {
		if e, ok := a.endpointOf(c, id); ok {
			out = append(out, e)
		}
	}
	return out
}

// shareMessage is the text that goes with an error of acknowledgements, nil where the code says all.
func shareMessage(err error) *string {
	var refused *share.AckError
	switch {
	case errors.As(err, &refused):
		return &refused.Text
	case errors.Is(err, share.ErrUnknownPartition):
		return messageOf(errUnknownPartition)
	}
	return nil
}
