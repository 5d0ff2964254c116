package api

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/wire"
)

// CreateTopics v2–7 (key 19), DeleteTopics v1–6 (key 20), CreatePartitions v0–3 (key 37)
//
//   - Each topic succeeds or fails by itself; a name that a request holds twice fails once, with INVALID_REQUEST.
//   - CreateTopics v4 takes -1 for the broker's number of partitions and replication factor (KIP-464), v5 answers with what the topic
//     became and all of its settings (KIP-525), v7 with its id.
//   - DeleteTopics v6 may name a topic by id (KIP-516). delete.topic.enable=false is TOPIC_DELETION_DISABLED.
//   - validate only checks everything and changes nothing.
//
// The answer leaves when this broker serves what was created and no longer serves what was deleted.

// adminTimeout is the timeout of an admin request that asks for none.
const adminTimeout = time.Minute

var (
	errDuplicateTopic   = refuse(kerr.InvalidRequest, "Duplicate topic name.")
	errDuplicateTopicID = refuse(kerr.InvalidRequest, "Duplicate topic id.")
	errNoTopicNamed     = refuse(kerr.InvalidRequest, "Neither topic name nor id were specified.")
	errTopicNamedTwice  = refuse(kerr.InvalidRequest, "You may not specify both topic name and topic id.")
	errDeletionDisabled = refuse(kerr.TopicDeletionDisabled, "Topic deletion is disabled.")
	errMetadataTopic    = refuse(kerr.InvalidRequest, "Creation of internal topic __cluster_metadata is prohibited.")
)

// clusterMetadataTopic is Kafka's own; no client may create it.
const clusterMetadataTopic = "__cluster_metadata"

// withTimeout bounds an admin request by the timeout that it asks for.
func withTimeout(ctx context.Context, millis int32) (context.Context, context.CancelFunc) {
	if millis <= 0 {
		return context.WithTimeout(ctx, adminTimeout)
	}
	return context.WithTimeout(ctx, time.Duration(millis)*time.Millisecond)
}

func (a *API) createTopics(_ context.Context, c *call, req *kmsg.CreateTopicsRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		ctx, cancel := withTimeout(ctx, req.TimeoutMillis)
		defer cancel()
		resp := answer[kmsg.CreateTopicsResponse](req)
		count := map[string]int{}
		for i := range req.Topics {
			count[req.Topics[i].Topic]++
		}
		view := a.view()
		var news []metadata.NewTopic
		for i := range req.Topics {
			asked := &req.Topics[i]
			if n := count[asked.Topic]; n != 1 {
				if n > 1 {
					resp.Topics = append(resp.Topics, a.refusedCreation(c, asked.Topic, errDuplicateTopic))
				}
				count[asked.Topic] = 0
				continue
			}
			t, err := a.newTopicOf(ctx, view, asked)
			if err != nil {
				resp.Topics = append(resp.Topics, a.refusedCreation(c, asked.Topic, err))
				continue
			}
			news = append(news, t)
		}
		for i, r := range a.metadata.CreateTopics(ctx, news, req.ValidateOnly) {
			if r.Err != nil {
				resp.Topics = append(resp.Topics, a.refusedCreation(c, news[i].Name, r.Err))
				continue
			}
			resp.Topics = append(resp.Topics, createdTopic(view, r.Topic))
		}
		return resp, nil
	})
}

// newTopicOf checks what the metadata does not: the topic's settings.
func (a *API) newTopicOf(ctx context.Context, v *view, asked *kmsg.CreateTopicsRequestTopic) (metadata.NewTopic, error) {
	t := metadata.NewTopic{
		Name:              asked.Topic,
		Partitions:        asked.NumPartitions,
		ReplicationFactor: asked.ReplicationFactor,
		Internal:          isInternal(asked.Topic),
	}
	if asked.Topic == clusterMetadataTopic {
		return t, errMetadataTopic
	}
	for i := range asked.ReplicaAssignment {
		from := &asked.ReplicaAssignment[i]
		t.Assignments = append(t.Assignments, metadata.Assignment{Partition: from.Partition, Replicas: typedBrokers(from.Replicas)})
	}
	settings, err := newTopicConfigs(v, asked.Configs)
	if err != nil {
		// A name that cannot be is said first.
		t.Configs = nil
		named := a.metadata.CreateTopics(ctx, []metadata.NewTopic{t}, true /* validateOnly */)
		if e := named[0].Err; errors.Is(e, metadata.ErrInvalidTopicName) || errors.Is(e, metadata.ErrTopicExists) {
			return t, e
		}
		return t, err
	}
	t.Configs = settings
	return t, nil
}

func newTopicConfigs(v *view, asked []kmsg.CreateTopicsRequestTopicConfig) (map[string]string, error) {
	if len(asked) == 0 {
		return nil, nil
	}
	settings := make(map[string]string, len(asked))
	for _, c := range asked {
		if c.Value == nil {
			return nil, refuse(kerr.InvalidConfig, "Null value not supported for topic configs: %s", c.Name)
		}
		settings[c.Name] = *c.Value
	}
	if err := validateTopicConfigs(v, settings); err != nil {
		return nil, err
	}
	return settings, nil
}

// validateTopicConfigs checks all settings of a topic.
func validateTopicConfigs(v *view, settings map[string]string) error {
	if err := config.ValidateTopic(settings, v.broker); err != nil {
		return refuse(kerr.InvalidConfig, "%s", err)
	}
	return nil
}

// isInternal tells Kafka's internal topics by their names.
func isInternal(topic string) bool {
	return topic == "__consumer_offsets" || topic == "__transaction_state" || topic == "__share_group_state"
}

func typedBrokers(ids []int32) []base.BrokerID {
	out := make([]base.BrokerID, len(ids))
	for i, id := range ids {
		out[i] = base.BrokerID(id)
	}
	return out
}

func (a *API) refusedCreation(c *call, name string, err error) kmsg.CreateTopicsResponseTopic {
	out := kmsg.NewCreateTopicsResponseTopic()
	out.Topic, out.ErrorCode, out.ErrorMessage = name, a.codeOf(c, err), messageOf(err)
	out.NumPartitions, out.ReplicationFactor, out.Configs = -1, -1, []kmsg.CreateTopicsResponseTopicConfig{} // not null
	return out
}

func createdTopic(v *view, t *metadata.Topic) kmsg.CreateTopicsResponseTopic {
	out := kmsg.NewCreateTopicsResponseTopic()
	out.Topic, out.TopicID = t.Name, t.ID
	out.NumPartitions, out.ReplicationFactor = int32(len(t.Partitions)), t.ReplicationFactor
	for _, value := range config.ResolveTopic(t.Configs, v.broker).Values {
		if value.Def.Internal {
			continue
		}
		entry := kmsg.NewCreateTopicsResponseTopicConfig()
		entry.Name, entry.Source, entry.IsSensitive = value.Def.Name, int8(value.Source), value.Def.Sensitive
		entry.Value = shownValue(&value)
		out.Configs = append(out.Configs, entry)
	}
	return out
}

// shownValue is a setting's value as clients may see it: null where there is none, or where it is a secret.
func shownValue(v *config.Value) *string {
	if v.Null || v.Def.Sensitive {
		return nil
	}
	return kmsg.StringPtr(v.Value)
}

func (a *API) deleteTopics(_ context.Context, c *call, req *kmsg.DeleteTopicsRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		ctx, cancel := withTimeout(ctx, req.TimeoutMillis)
		defer cancel()
		resp := answer[kmsg.DeleteTopicsResponse](req)
		view := a.view()
		var ids []base.TopicID
		var found []int // the answer of each id
		for _, asked := range deletedTopics(req) {
			t, err := view.toDelete(asked)
			out := kmsg.NewDeleteTopicsResponseTopic()
			out.Topic, out.TopicID = asked.name, asked.id
			if t != nil {
				out.Topic, out.TopicID = kmsg.StringPtr(t.Name), t.ID
			}
			if err != nil {
				out.ErrorCode, out.ErrorMessage = a.codeOf(c, err), messageOf(err)
			} else {
				ids, found = append(ids, t.ID), append(found, len(resp.Topics))
			}
			resp.Topics = append(resp.Topics, out)
		}
		for i, err := range a.metadata.DeleteTopics(ctx, ids) {
			if err != nil {
				out := &resp.Topics[found[i]]
				out.ErrorCode, out.ErrorMessage = a.codeOf(c, err), messageOf(err)
			}
		}
		return resp, nil
	})
}

// deletedTopic is a topic as a DeleteTopics request names it, or why it cannot be meant.
type deletedTopic struct {
	name *string
	id   base.TopicID
	err  error
}

// deletedTopics lists the topics of a request, each once.
func deletedTopics(req *kmsg.DeleteTopicsRequest) []deletedTopic {
	var list []deletedTopic
	names, ids := map[string]int{}, map[base.TopicID]int{}
	add := func(name *string, id base.TopicID) {
		switch {
		case name == nil && id.IsZero():
			list = append(list, deletedTopic{err: errNoTopicNamed})
		case name != nil && !id.IsZero():
			list = append(list, deletedTopic{name: name, id: id, err: errTopicNamedTwice})
		case name != nil:
			if at, twice := names[*name]; twice {
				list[at].err = errDuplicateTopic
				return
			}
			names[*name] = len(list)
			list = append(list, deletedTopic{name: name})
		default:
			if at, twice := ids[id]; twice {
				list[at].err = errDuplicateTopicID
				return
			}
			ids[id] = len(list)
			list = append(list, deletedTopic{id: id})
		}
	}
	for i := range req.TopicNames {
		add(&req.TopicNames[i], base.TopicID{})
	}
	for i := range req.Topics {
		add(req.Topics[i].Topic, req.Topics[i].TopicID)
	}
	return list
}

// toDelete finds the topic to be deleted.
func (v *view) toDelete(asked deletedTopic) (*metadata.Topic, error) {
	if asked.err != nil {
		return nil, asked.err
	}
	if !v.broker.DeleteTopics {
		return nil, errDeletionDisabled
	}
	if asked.name == nil {
		if t, ok := v.image.TopicByID(asked.id); ok {
			return t, nil
		}
		return nil, errUnknownTopicID
	}
	if t, ok := v.image.Topic(*asked.name); ok {
		return t, nil
	}
	return nil, errUnknownPartition
}

func (a *API) createPartitions(_ context.Context, c *call, req *kmsg.CreatePartitionsRequest) (wire.Pending, error) {
	return later(func(ctx context.Context) (kmsg.Response, error) {
		ctx, cancel := withTimeout(ctx, req.TimeoutMillis)
		defer cancel()
		resp := answer[kmsg.CreatePartitionsResponse](req)
		count := map[string]int{}
		for i := range req.Topics {
			count[req.Topics[i].Topic]++
		}
		reply := func(name string, err error) {
			out := kmsg.NewCreatePartitionsResponseTopic()
			out.Topic, out.ErrorCode, out.ErrorMessage = name, a.codeOf(c, err), messageOf(err)
			resp.Topics = append(resp.Topics, out)
		}
		var changes []metadata.NewPartitions
		for i := range req.Topics {
			asked := &req.Topics[i]
			switch n := count[asked.Topic]; {
			case n > 1:
				reply(asked.Topic, errDuplicateTopic)
				count[asked.Topic] = 0
			case n == 1:
				changes = append(changes, newPartitions(asked))
			}
		}
		for i, err := range a.metadata.CreatePartitions(ctx, changes, req.ValidateOnly) {
			reply(changes[i].Topic, err)
		}
		return resp, nil
	})
}

func newPartitions(asked *kmsg.CreatePartitionsRequestTopic) metadata.NewPartitions {
	n := metadata.NewPartitions{Topic: asked.Topic, Count: asked.Count}
	for i := range asked.Assignment {
		n.Assignments = append(n.Assignments, typedBrokers(asked.Assignment[i].Replicas))
	}
	return n
}
