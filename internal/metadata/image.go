package metadata

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ottlaio/ottla/internal/base"
)

// Image is the whole metadata at one revision. It is immutable and safe for concurrent use; so is everything it returns,
// maps and slices among it, which must not be written to.
type Image struct {
	imageState

	sortOnce sync.Once
	sorted   []*Topic // by name; made when first asked for
}

// imageState is what an image holds; a newer image is a changed copy that shares most of it.
type imageState struct {
	leader     base.BrokerID // leads every partition
	clusterID  string
	clusterMod int64
	revision   int64
	topicsMod  int64 // see TopicsRevision

	leaderEpochs counter
	producerIDs  counter
	guard        topicGuard // as stored
	sum          topicSum   // of the topics that are here

	topics     shardMap[string, *Topic]
	ids        shardMap[base.TopicID, *Topic]
	collisions shardMap[string, string] // see collisionKey → the topic that has it
	partitions int
	template   []Partition // what every topic's Partitions are a slice of

	brokers    []Broker // by id
	configs    shardMap[Resource, configEntry]
	tombstones shardMap[base.TopicID, Tombstone]

	features    map[string]int16 // see FeatureLevel
	featuresMod int64            // 0 until they are first updated
}

type counter struct{ next, modRevision int64 }

type configEntry struct {
	settings    map[string]string
	modRevision int64
}

// ClusterID returns the cluster's id: 22 characters of URL-safe base64.
func (i *Image) ClusterID() string { return i.clusterID }

// Revision returns the revision of the store that the image is of.
func (i *Image) Revision() int64 { return i.revision }

// TopicsRevision returns the revision at which any topic was last created, changed or deleted.
func (i *Image) TopicsRevision() int64 { return i.topicsMod }

// LeaderEpoch returns the epoch that all partitions are led with, NoLeaderEpoch before the first BeginEpoch ever.
func (i *Image) LeaderEpoch() base.LeaderEpoch { return base.LeaderEpoch(i.leaderEpochs.next - 1) }

// Topic finds a topic by name.
func (i *Image) Topic(name string) (*Topic, bool) { return i.topics.get(name) }

// TopicByID finds a topic by id.
func (i *Image) TopicByID(id base.TopicID) (*Topic, bool) { return i.ids.get(id) }

// Topics yields all topics sorted by name. The first caller for an image pays for the sorting.
func (i *Image) Topics() iter.Seq[*Topic] {
	i.sortOnce.Do(func() {
		i.sorted = make([]*Topic, 0, i.topics.count)
		for _, t := range i.topics.all() {
			i.sorted = append(i.sorted, t)
		}
		slices.SortFunc(i.sorted, byName)
	})
	return slices.Values(i.sorted)
}

func byName(a, b *Topic) int { return strings.Compare(a.Name, b.Name) }

// TopicCount returns the number of topics.
func (i *Image) TopicCount() int { return i.topics.count }

// PartitionCount returns the number of partitions of all topics.
func (i *Image) PartitionCount() int { return i.partitions }

// Brokers returns the registered brokers sorted by id.
func (i *Image) Brokers() []Broker { return i.brokers }

// Broker finds a broker by id.
func (i *Image) Broker(id base.BrokerID) (Broker, bool) {
	n, ok := slices.BinarySearchFunc(i.brokers, id, func(b Broker, id base.BrokerID) int { return cmp.Compare(b.ID, id) })
	if !ok {
		return Broker{}, false
	}
	return i.brokers[n], true
}

// Config returns a resource's own settings; nil when it has none or does not exist.
func (i *Image) Config(r Resource) map[string]string {
	if r.Type == ResourceTopic {
		if t, ok := i.topics.get(r.Name); ok {
			return t.Configs
		}
		return nil
	}
	c, _ := i.configs.get(r)
	return c.settings
}

// Resources yields the names of all resources of one type that have settings of their own, sorted, with these settings.
func (i *Image) Resources(t ResourceType) iter.Seq2[string, map[string]string] {
	return func(yield func(string, map[string]string) bool) {
		found := map[string]map[string]string{}
		if t == ResourceTopic {
			for name, topic := range i.topics.all() {
				if len(topic.Configs) > 0 {
					found[name] = topic.Configs
				}
			}
		} else {
			for r, c := range i.configs.all() {
				if r.Type == t {
					found[r.Name] = c.settings
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(found)) {
			if !yield(name, found[name]) {
				return
			}
		}
	}
}

// Tombstones returns the deleted topics that are not forgotten yet, in a map of the caller's own.
func (i *Image) Tombstones() map[base.TopicID]Tombstone { return maps.Collect(i.tombstones.all()) }

// Delta is what differs between two images.
type Delta struct {
	Created []*Topic // topic ids that are only in the newer image
	Deleted []*Topic // topic ids that are only in the older image
	Changed []TopicChange
	// Configs are the resources other than topics whose settings differ.
	Configs []Resource
}

// TopicChange is a topic before and after.
type TopicChange struct{ Prev, Next *Topic }

// Diff tells what changed since prev, sorted by name. It costs time in proportion to what changed.
func (i *Image) Diff(prev *Image) Delta {
	var d Delta
	for name := range i.topics.diff(prev.topics) {
		before, was := prev.topics.get(name)
		after, is := i.topics.get(name)
		switch {
		case before == after:
		case was && is && before.ID == after.ID:
			d.Changed = append(d.Changed, TopicChange{before, after})
		default:
			if was {
				d.Deleted = append(d.Deleted, before)
			}
			if is {
				d.Created = append(d.Created, after)
			}
		}
	}
	for r := range i.configs.diff(prev.configs) {
		before, _ := prev.configs.get(r)
		after, _ := i.configs.get(r)
		if before.modRevision != after.modRevision {
			d.Configs = append(d.Configs, r)
		}
	}
	slices.SortFunc(d.Created, byName)
	slices.SortFunc(d.Deleted, byName)
	slices.SortFunc(d.Changed, func(a, b TopicChange) int { return byName(a.Next, b.Next) })
	slices.SortFunc(d.Configs, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
	})
	return d
}
