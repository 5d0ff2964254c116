package api

import (
	"fmt"
	"slices"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/storage"
)

// view is what requests see of the metadata: an image that the storage engine already follows, and the broker's settings at it.
//
// A newer image may exist. API learns of it through its own subscription, which comes after the engine's, so whatever a client is
// told of (a topic just created, say) has its partitions.
type view struct {
	api    *API
	image  *metadata.Image
	broker *config.Broker // static settings under the dynamic ones
	// shown lists broker's settings as DescribeConfigs shows them. It is made when first asked for, and again when one has changed.
	shown func() []config.Value
}

// topicView is a topic with what a produce or fetch needs of it, worked out once per change.
type topicView struct {
	topic      *metadata.Topic
	broker     *config.Broker
	config     config.TopicConfig
	partitions []*storage.Partition // by index; nil where the engine does not have it
}

// view returns the newest view. It never blocks.
func (a *API) view() *view { return a.current.Load() }

// begin takes the image of the moment at which the subscription was made, unless a newer one has come already.
func (a *API) begin(image *metadata.Image) {
	a.following.Lock()
	defer a.following.Unlock()
	if a.current.Load() == nil {
		v := &view{api: a, image: image}
		v.setBroker(a.dynamicBroker(image))
		a.current.Store(v)
	}
}

// follow is the subscription to the metadata.
func (a *API) follow(prev, next *metadata.Image) {
	a.following.Lock()
	defer a.following.Unlock()
	delta := next.Diff(prev)
	v := &view{api: a, image: next}
	if last := a.current.Load(); last != nil && !brokerConfigChanged(delta) {
		v.broker, v.shown = last.broker, last.shown
	} else {
		v.setBroker(a.dynamicBroker(next))
	}
	a.current.Store(v)
	if prev.FeatureLevel(metadata.FeatureShare) > 0 && next.FeatureLevel(metadata.FeatureShare) == 0 {
		a.shares.CloseSessions()
	}
	for _, t := range delta.Deleted {
		a.topicViews.Delete(t.ID)
		a.shares.TopicDeleted(t.ID)
	}
}

func (v *view) setBroker(b *config.Broker) {
	v.broker = b
	v.shown = sync.OnceValue(func() []config.Value { return slices.Collect(b.Values()) })
}

func brokerConfigChanged(d metadata.Delta) bool {
	for _, r := range d.Configs {
		if r.Type == metadata.ResourceBroker {
			return true
		}
	}
	return false
}

// dynamicBroker returns the broker's settings under an image.
func (a *API) dynamicBroker(image *metadata.Image) *config.Broker {
	all := image.Config(metadata.Resource{Type: metadata.ResourceBroker})
	own := image.Config(a.self())
	b, err := a.config.WithDynamic(all, own)
	if err != nil {
		a.logger.Warn("dynamic broker settings left out", "err", err)
	}
	return b
}

// self is this broker as a configuration resource.
func (a *API) self() metadata.Resource { return ownResource(a.config) }

func ownResource(cfg *config.Broker) metadata.Resource {
	return metadata.Resource{Type: metadata.ResourceBroker, Name: fmt.Sprint(int32(cfg.NodeID))}
}

// topic finds a topic by name.
func (v *view) topic(name string) (*topicView, bool) {
	t, ok := v.image.Topic(name)
	if !ok {
		return nil, false
	}
	return v.resolve(t), true
}

// topicByID finds a topic by id.
func (v *view) topicByID(id base.TopicID) (*topicView, bool) {
	t, ok := v.image.TopicByID(id)
	if !ok {
		return nil, false
	}
	return v.resolve(t), true
}

func (v *view) resolve(t *metadata.Topic) *topicView {
	if cached, ok := v.api.topicViews.Load(t.ID); ok {
		if tv := cached.(*topicView); tv.topic == t && tv.broker == v.broker {
			return tv
		}
	}
	tv := &topicView{topic: t, broker: v.broker, config: config.ResolveTopic(t.Configs, v.broker)}
	tv.partitions = make([]*storage.Partition, len(t.Partitions))
	complete := true
	for i := range tv.partitions {
		p, ok := v.api.engine.Partition(base.TopicIDPartition{ID: t.ID, Partition: int32(i)})
		tv.partitions[i] = p
		complete = complete && ok
	}
	if complete {
		v.api.topicViews.Store(t.ID, tv)
	}
	return tv
}

// partition returns a partition and its place in the metadata: errUnknownPartition if the topic does not have it,
// errPartitionOffline if the engine does not.
func (t *topicView) partition(index int32) (*storage.Partition, *metadata.Partition, error) {
	if index < 0 || int(index) >= len(t.partitions) {
		return nil, nil, errUnknownPartition
	}
	if t.partitions[index] == nil {
		return nil, nil, errPartitionOffline
	}
	return t.partitions[index], &t.topic.Partitions[index], nil
}

// inSync lists a partition's replicas that are in sync, and those that are offline.
//
// A replica of which a part is damaged is none to rely on, though this broker goes on to lead with it: it is shown as Kafka shows one
// whose disk failed, so that whatever watches for under-replicated partitions sees it.
func (t *topicView) inSync(index int) (isr, offline []int32) {
	place := &t.topic.Partitions[index]
	isr, offline = brokerIDs(place.ISR), []int32{}
	if p := t.partitions[index]; p == nil || p.Damaged() {
		self := int32(t.broker.NodeID)
		isr = slices.DeleteFunc(isr, func(id int32) bool { return id == self })
		offline = append(offline, self)
	}
	return isr, offline
}

// partition finds a partition by its topic's name.
func (v *view) partition(topic string, index int32) (*storage.Partition, error) {
	t, ok := v.topic(topic)
	if !ok {
		return nil, errUnknownPartition
	}
	p, _, err := t.partition(index)
	return p, err
}
