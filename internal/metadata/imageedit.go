package metadata

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ottlaio/ottla/internal/base"
)

// imageEdit makes the next image out of an earlier one and the changes since. It decodes every value; whatever cannot be
// trusted is collected, and then there is no next image.
type imageEdit struct {
	s          imageState
	began      base.LeaderEpoch // the epoch of s as it was
	topics     *shardEdit[string, *Topic]
	ids        *shardEdit[base.TopicID, *Topic]
	collisions *shardEdit[string, string]
	configs    *shardEdit[Resource, configEntry]
	tombstones *shardEdit[base.TopicID, Tombstone]

	known   func(name string) (*Topic, bool) // topics that need not be decoded again
	errs    []error
	unknown []string // keys of no known family
}

func newImageEdit(s imageState) *imageEdit {
	return &imageEdit{
		s: s, began: base.LeaderEpoch(s.leaderEpochs.next - 1),
		topics: s.topics.edit(), ids: s.ids.edit(), collisions: s.collisions.edit(),
		configs: s.configs.edit(), tombstones: s.tombstones.edit(),
		known: func(string) (*Topic, bool) { return nil, false },
	}
}

// loadImage builds an image from everything that the store holds. Topics that prev has in the same revision are shared with it.
func loadImage(snap Snapshot, leader base.BrokerID, prev *Image) (*Image, []string, error) {
	e := newImageEdit(imageState{leader: leader})
	if prev != nil {
		e.known = prev.topics.get
	}
	for _, kv := range snap.KVs {
		e.put(kv)
	}
	if e.s.clusterMod == 0 && len(snap.KVs) > 0 {
		e.errs = append(e.errs, &DamageError{Key: keyCluster, Reason: "missing, though other keys are there"})
	}
	img, err := e.finish(snap.Revision)
	return img, e.unknown, err
}

// apply makes the image that follows i.
func (i *Image) apply(events Events) (*Image, error) {
	e := newImageEdit(i.imageState)
	for _, ev := range events.Events {
		if ev.Deleted {
			e.remove(ev.Key)
		} else {
			e.put(ev.KV)
		}
	}
	return e.finish(events.Revision)
}

func (e *imageEdit) put(kv KV) {
	var err error
	switch key := kv.Key; {
	case strings.HasPrefix(key, prefixTopics):
		err = e.putTopic(kv)
	case strings.HasPrefix(key, prefixDeleted):
		var t Tombstone
		if t, err = decodeTombstone(kv); err == nil {
			e.tombstones.set(t.ID, t)
		}
	case strings.HasPrefix(key, prefixConfigs):
		err = e.putConfigs(kv)
	case strings.HasPrefix(key, prefixBrokers):
		var b Broker
		if b, err = decodeBroker(kv); err == nil {
			e.setBroker(b.ID, &b)
		}
	case key == keyCluster:
		err = e.putCluster(kv)
	case key == keyFeatures:
		var v featuresValue
		if err = decodeValue(key, kv.Value, &v); err == nil {
			e.s.features, e.s.featuresMod = v.Levels, kv.ModRevision
		}
	case key == keyLeaderEpochs:
		err = putCounter(kv, &e.s.leaderEpochs)
	case key == keyProducerIDs:
		err = putCounter(kv, &e.s.producerIDs)
	case key == keyTopicGuard:
		e.s.guard, err = decodeGuard(kv)
		e.s.topicsMod = max(e.s.topicsMod, kv.ModRevision)
	default:
		e.unknown = append(e.unknown, key)
	}
	if err != nil {
		e.errs = append(e.errs, err)
	}
}

func (e *imageEdit) putTopic(kv KV) error {
	name := strings.TrimPrefix(kv.Key, prefixTopics) // a valid name needs no escaping
	t, ok := e.known(name)
	partitions := int32(0)
	if ok && t.modRevision == kv.ModRevision {
		partitions = int32(len(t.Partitions))
	} else {
		var err error
		if t, partitions, err = decodeTopic(kv); err != nil {
			return err
		}
		t.Partitions = e.linked(partitions)
	}
	if other, ok := e.ids.get(t.ID); ok && other.Name != t.Name {
		return &DamageError{Key: kv.Key, Reason: fmt.Sprintf("topic %s has the same id %s", other.Name, t.ID)}
	}
	if old, ok := e.topics.get(name); ok {
		e.s.partitions -= len(old.Partitions)
		e.ids.delete(old.ID)
		e.s.sum = e.s.sum.without(old.ID)
	}
	e.s.sum = e.s.sum.with(t.ID)
	e.s.topicsMod = max(e.s.topicsMod, kv.ModRevision)
	e.s.partitions += int(partitions)
	e.topics.set(name, t)
	e.ids.set(t.ID, t)
	if key, ok := collisionKey(name); ok {
		e.collisions.set(key, name)
	}
	return nil
}

func (e *imageEdit) putConfigs(kv KV) error {
	r, err := parseConfigKey(strings.TrimPrefix(kv.Key, prefixConfigs))
	if err != nil {
		return &DamageError{Key: kv.Key, Reason: err.Error()}
	}
	var v configsValue
	if err := decodeValue(kv.Key, kv.Value, &v); err != nil {
		return err
	}
	e.configs.set(r, configEntry{v.Configs, kv.ModRevision})
	return nil
}

func (e *imageEdit) putCluster(kv KV) error {
	var v clusterValue
	if err := decodeValue(kv.Key, kv.Value, &v); err != nil {
		return err
	}
	if raw, err := base64.RawURLEncoding.DecodeString(v.ID); err != nil || len(raw) != 16 {
		return &DamageError{Key: kv.Key, Reason: fmt.Sprintf("%q is no cluster id", v.ID)}
	}
	e.s.clusterID, e.s.clusterMod = v.ID, kv.ModRevision
	return nil
}

func putCounter(kv KV, c *counter) error {
	var v counterValue
	if err := decodeValue(kv.Key, kv.Value, &v); err != nil {
		return err
	}
	if v.Next < 0 {
		return &DamageError{Key: kv.Key, Reason: "counter below zero"}
	}
	*c = counter{v.Next, kv.ModRevision}
	return nil
}

// setBroker puts or, with nil, removes a broker in a copy of the list.
func (e *imageEdit) setBroker(id base.BrokerID, b *Broker) {
	n, found := slices.BinarySearchFunc(e.s.brokers, id, func(b Broker, id base.BrokerID) int { return cmp.Compare(b.ID, id) })
	brokers := slices.Clone(e.s.brokers)
	switch {
	case found && b != nil:
		brokers[n] = *b
	case found:
		brokers = slices.Delete(brokers, n, n+1)
	case b != nil:
		brokers = slices.Insert(brokers, n, *b)
	}
	e.s.brokers = brokers
}

func (e *imageEdit) remove(key string) {
	bad := func(reason string) { e.errs = append(e.errs, &DamageError{Key: key, Reason: reason}) }
	switch {
	case strings.HasPrefix(key, prefixTopics):
		name := strings.TrimPrefix(key, prefixTopics)
		t, ok := e.topics.get(name)
		if !ok {
			return
		}
		e.s.partitions -= len(t.Partitions)
		e.topics.delete(name)
		e.ids.delete(t.ID)
		e.s.sum = e.s.sum.without(t.ID)
		if key, ok := collisionKey(name); ok {
			if owner, _ := e.collisions.get(key); owner == name {
				e.collisions.delete(key)
			}
		}
	case strings.HasPrefix(key, prefixDeleted):
		id, err := base.ParseTopicID(strings.TrimPrefix(key, prefixDeleted))
		if err != nil {
			bad(err.Error())
			return
		}
		e.tombstones.delete(id)
	case strings.HasPrefix(key, prefixConfigs):
		r, err := parseConfigKey(strings.TrimPrefix(key, prefixConfigs))
		if err != nil {
			bad(err.Error())
			return
		}
		e.configs.delete(r)
	case strings.HasPrefix(key, prefixBrokers):
		for _, b := range e.s.brokers {
			if brokerKey(b.ID) == key {
				e.setBroker(b.ID, nil)
				return
			}
		}
	case key == keyCluster, key == keyLeaderEpochs, key == keyProducerIDs, key == keyTopicGuard, key == keyFeatures:
		bad("deleted, though it must never be")
	}
}

// linked returns the partitions of a topic that has n of them: all are led here, in one epoch, so all topics share one slice.
func (e *imageEdit) linked(n int32) []Partition {
	if int(n) > len(e.s.template) {
		e.s.template = newTemplate(max(int(n), 2*len(e.s.template)), e.s.leader, e.epoch())
	}
	return e.s.template[:n:n]
}

func newTemplate(n int, leader base.BrokerID, epoch base.LeaderEpoch) []Partition {
	replicas := []base.BrokerID{leader}
	template := make([]Partition, n)
	for i := range template {
		template[i] = Partition{Leader: leader, LeaderEpoch: epoch, Replicas: replicas, ISR: replicas}
	}
	return template
}

func (e *imageEdit) epoch() base.LeaderEpoch { return base.LeaderEpoch(e.s.leaderEpochs.next - 1) }

// finish returns the new image. A leader epoch that was begun since is given to every topic.
func (e *imageEdit) finish(revision int64) (*Image, error) {
	if len(e.errs) > 0 {
		return nil, errors.Join(e.errs...)
	}
	if e.s.sum != e.s.guard.topicSum {
		return nil, &DamageError{Key: keyTopicGuard, Reason: fmt.Sprintf(
			"there should be %d topics, their ids making %s, but there are %d, making %s: a topic's key was lost or came back",
			e.s.guard.topics, e.s.guard.ids, e.s.sum.topics, e.s.sum.ids)}
	}
	if e.epoch() != e.began {
		e.relink()
	}
	e.s.revision = revision
	e.s.topics, e.s.ids, e.s.collisions = e.topics.m, e.ids.m, e.collisions.m
	e.s.configs, e.s.tombstones = e.configs.m, e.tombstones.m
	return &Image{imageState: e.s}, nil
}

// relink replaces every topic that still has partitions of another epoch.
func (e *imageEdit) relink() {
	e.s.template = newTemplate(len(e.s.template), e.s.leader, e.epoch())
	var stale []*Topic
	for _, t := range e.topics.m.all() {
		if t.Partitions[0].LeaderEpoch != e.epoch() {
			stale = append(stale, t)
		}
	}
	for _, t := range stale {
		renewed := *t
		renewed.Partitions = e.linked(int32(len(t.Partitions)))
		e.topics.set(t.Name, &renewed)
		e.ids.set(t.ID, &renewed)
	}
}
