package api

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/wire"
)

// Metadata v0–13 (key 3)
//
//   - A null list of topics (v1) means all of them, an empty one none; in v0 an empty list means all.
//   - A topic that does not exist is created if auto.create.topics.enable is set and the request allows it (always before v4), with
//     num.partitions. Unlike Kafka, which answers LEADER_NOT_AVAILABLE and lets the client ask again, the answer has the new topic.
//   - v10 has topic ids (KIP-516), v12 may ask by id. v13 could ask a client to bootstrap anew (KIP-1102); there is no reason to.
//   - v8 may ask for the operations that the client is authorised to (KIP-430); to one that does not ask they are unknown.
//   - A partition that is damaged in part keeps its leader, but its replica is shown as offline and not in sync, see inSync.
//   - Broker addresses are those at which this client reaches them, see endpoints.
//
// The lists come sorted by name.

// unknownOperations says that a client did not ask what it is allowed to do.
const unknownOperations int32 = math.MinInt32

func (a *API) topicMetadata(ctx context.Context, c *call, req *kmsg.MetadataRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		resp := answer[kmsg.MetadataResponse](req)
		a.describeBrokers(c, resp)
		resp.AuthorizedOperations = unknownOperations
		if req.IncludeClusterAuthorizedOperations {
			resp.AuthorizedOperations = clusterOperations
		}
		if req.Version >= 1 && req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
			view := a.view()
			for t := range view.image.Topics() {
				resp.Topics = append(resp.Topics, describeTopic(view.resolve(t), req))
			}
			return resp, nil
		}
		if err := checkTopicIDs(req); err != nil {
			for i := range req.Topics {
				resp.Topics = append(resp.Topics, a.refusedTopic(c, req, &req.Topics[i], err))
			}
			return resp, nil
		}
		created := a.autoCreate(ctx, req)
		view := a.view() // after the creation, so that it has the new topics
		for _, asked := range distinctTopics(req) {
			t, err := view.findTopic(asked)
			if asked.Topic != nil && created[*asked.Topic] != nil {
				err = created[*asked.Topic]
			}
			if err != nil {
				resp.Topics = append(resp.Topics, a.refusedTopic(c, req, asked, err))
				continue
			}
			resp.Topics = append(resp.Topics, describeTopic(view.resolve(t), req))
		}
		return resp, nil
	})
}

// distinctTopics drops what is asked twice.
func distinctTopics(req *kmsg.MetadataRequest) []*kmsg.MetadataRequestTopic {
	type key struct {
		name string
		id   base.TopicID
	}
	seen := make(map[key]struct{}, len(req.Topics))
	list := make([]*kmsg.MetadataRequestTopic, 0, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		k := key{id: t.TopicID}
		if t.Topic != nil {
			k.name = *t.Topic
		}
		if _, twice := seen[k]; !twice {
			seen[k] = struct{}{}
			list = append(list, t)
		}
	}
	return list
}

func (a *API) describeBrokers(c *call, resp *kmsg.MetadataResponse) {
	image := a.view().image
	resp.ClusterID = kmsg.StringPtr(image.ClusterID())
	resp.ControllerID = int32(a.config.NodeID)
	for _, e := range a.endpoints(c) {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = int32(e.id), e.host, e.port, e.rack
		resp.Brokers = append(resp.Brokers, b)
	}
}

// checkTopicIDs refuses what versions 10 and 11 can express but do not allow: asking by id, or by nothing.
func checkTopicIDs(req *kmsg.MetadataRequest) error {
	for i := range req.Topics {
		t := &req.Topics[i]
		if req.Version < 12 && (t.Topic == nil || t.TopicID != [16]byte{}) {
			return refuse(kerr.InvalidRequest, "null topic name is not supported in version %d", req.Version)
		}
	}
	return nil
}

// findTopic finds the topic that a request names: by id if it has one, else by name.
func (v *view) findTopic(asked *kmsg.MetadataRequestTopic) (*metadata.Topic, error) {
	if asked.TopicID != [16]byte{} {
		if t, ok := v.image.TopicByID(asked.TopicID); ok {
			return t, nil
		}
		return nil, errUnknownTopicID
	}
	if asked.Topic == nil {
		return nil, errUnknownTopicID
	}
	if t, ok := v.image.Topic(*asked.Topic); ok {
		return t, nil
	}
	return nil, errUnknownPartition
}

// autoCreate creates the topics of a request that do not exist, if that is wished for, and returns why some could not be.
func (a *API) autoCreate(ctx context.Context, req *kmsg.MetadataRequest) map[string]error {
	view := a.view()
	allowed := view.broker.AutoCreateTopics && (req.Version < 4 || req.AllowAutoTopicCreation)
	wanted := map[string]struct{}{}
	failed := map[string]error{}
	for i := range req.Topics {
		t := &req.Topics[i]
		if t.Topic == nil || t.TopicID != [16]byte{} {
			continue
		}
		if _, exists := view.image.Topic(*t.Topic); exists {
			continue
		}
		if err := metadata.ValidateTopicName(*t.Topic); err != nil {
			failed[*t.Topic] = err
			continue
		}
		if allowed {
			wanted[*t.Topic] = struct{}{}
		}
	}
	if len(wanted) == 0 {
		return failed
	}
	if _, ok := wanted[group.Topic]; ok {
		// Its partitions are a setting of their own: groups are spread over them.
		delete(wanted, group.Topic)
		if err := a.groups.Ensure(ctx); err != nil {
			failed[group.Topic] = err
		}
	}
	names := slices.Sorted(maps.Keys(wanted))
	news := make([]metadata.NewTopic, len(names))
	for i, name := range names {
		news[i] = a.newTopic(view, name)
	}
	for i, r := range a.metadata.CreateTopics(ctx, news, false /* validateOnly */) {
		if r.Err != nil && !errors.Is(r.Err, metadata.ErrTopicExists) {
			failed[names[i]] = r.Err
		}
	}
	return failed
}

// newTopic is a topic that nobody configured.
func (a *API) newTopic(v *view, name string) metadata.NewTopic {
	return metadata.NewTopic{
		Name: name, Partitions: v.broker.NumPartitions, ReplicationFactor: v.broker.DefaultReplicationFactor, Internal: isInternal(name),
	}
}

func (a *API) refusedTopic(c *call, req *kmsg.MetadataRequest, asked *kmsg.MetadataRequestTopic, err error) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID = asked.Topic, asked.TopicID
	if asked.TopicID != [16]byte{} && req.Version >= 12 {
		out.Topic = nil
	} else if asked.Topic == nil {
		out.Topic = kmsg.StringPtr("") // not null before v12, where there could be ids
	}
	out.ErrorCode = a.codeOf(c, err)
	out.AuthorizedOperations = unknownOperations
	return out
}

// describeTopic is the answer's part about a topic that exists.
func describeTopic(tv *topicView, req *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	t := tv.topic
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = kmsg.StringPtr(t.Name), t.ID, t.Internal
	out.AuthorizedOperations = unknownOperations
	if req.IncludeTopicAuthorizedOperations {
		out.AuthorizedOperations = topicOperations
	}
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i := range t.Partitions {
		from, to := &t.Partitions[i], &out.Partitions[i]
		to.Default()
		to.Partition = int32(i)
		to.Leader, to.LeaderEpoch = int32(from.Leader), int32(from.LeaderEpoch)
		to.Replicas = brokerIDs(from.Replicas)
		to.ISR, to.OfflineReplicas = tv.inSync(i)
	}
	return out
}

func brokerIDs(ids []base.BrokerID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

// What an unrestricted client may do, as the bit sets of KIP-430: bit n is the ACL operation of number n.
const (
	opRead, opWrite, opCreate, opDelete, opAlter, opDescribe               = 3, 4, 5, 6, 7, 8
	opClusterAction, opDescribeConfigs, opAlterConfigs, opIdempotent       = 9, 10, 11, 12
	topicOperations                                                  int32 = 1<<opRead | 1<<opWrite | 1<<opCreate | 1<<opDelete | 1<<opAlter | 1<<opDescribe | 1<<opDescribeConfigs | 1<<opAlterConfigs
	clusterOperations                                                int32 = 1<<opCreate | 1<<opAlter | 1<<opDescribe | 1<<opClusterAction | 1<<opDescribeConfigs | 1<<opAlterConfigs | 1<<opIdempotent
)
