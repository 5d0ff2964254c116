package metadata

import (
	"context"
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
)

// Limits of one request.
const (
	// maxPartitionsPerRequest is Kafka's (ReplicationControlManager.MAX_PARTITIONS_PER_BATCH).
	maxPartitionsPerRequest = 10_000
	// topicsPerTxn and bytesPerTxn keep transactions well below what a store takes.
	topicsPerTxn = 1000
	bytesPerTxn  = MaxTxnBytes / 2
)

// NewTopic asks for a topic.
type NewTopic struct {
	Name string
	// Partitions is the number of partitions, -1 for the default. It must be -1 when Assignments are given.
	Partitions int32
	// ReplicationFactor is the number of replicas, -1 for the default. It must be -1 when Assignments are given.
	ReplicationFactor int16
	// Assignments place the replicas by hand.
	Assignments []Assignment
	// Configs are the topic's settings, already checked by the caller. They are kept, not copied.
	Configs map[string]string
	// Internal marks a topic of the coordinators.
	Internal bool
}

// Assignment places the replicas of one partition; the first replica leads.
type Assignment struct {
	Partition int32
	Replicas  []base.BrokerID
}

// CreateResult is the outcome for one NewTopic: a topic, or an error and no topic.
type CreateResult struct {
	Topic *Topic
	Err   error
}

// NewPartitions asks for a topic to grow.
type NewPartitions struct {
	Topic string
	// Count is the number of partitions afterwards.
	Count int32
	// Assignments are the replicas of each added partition; nil lets the broker choose.
	Assignments [][]base.BrokerID
}

// CreateTopics creates topics, each for itself: results are in the order of topics. With validateOnly nothing is written and
// the topics of the results are what would have been created.
//
// Like every admin call it returns once the image has reached its change and every subscriber has been told. If ctx ends
// while it waits, the results carry ctx's cause though the topics may exist.
//
// Errors of results: *Error with ErrInvalidTopicName, ErrTopicExists, ErrInvalidPartitions, ErrInvalidReplicationFactor,
// ErrInvalidReplicaAssignment, ErrInvalidRequest, ErrPolicyViolation; or ErrNoSpace, ErrConflict, ErrFailed, ctx's cause.
func (m *Metadata) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) []CreateResult {
	results := make([]CreateResult, len(topics))
	if m.requestedPartitions(topics) > maxPartitionsPerRequest {
		for i := range results {
			results[i].Err = refuse(ErrPolicyViolation, "Excessively large number of partitions per request.")
		}
		return results
	}
	for first := 0; first < len(topics); {
		end := first
		err := m.update(ctx, func(img *Image) (Txn, error) {
			var txn Txn
			txn, end = m.planCreation(img, topics, results, first)
			if validateOnly {
				return Txn{}, nil
			}
			return txn, nil
		})
		if err != nil {
			for i := range results[first:] {
				if r := &results[first+i]; r.Err == nil {
					*r = CreateResult{Err: err}
				}
			}
			return results
		}
		first = end
	}
	img := m.Image()
	for i, r := range results {
		if r.Err != nil {
			continue
		}
		if t, ok := img.TopicByID(r.Topic.ID); ok { // which shares its partitions with others
			results[i].Topic = t
		}
	}
	return results
}

func (m *Metadata) requestedPartitions(topics []NewTopic) (total int64) {
	for _, t := range topics {
		switch {
		case len(t.Assignments) > 0:
			total += int64(len(t.Assignments))
		case t.Partitions == -1:
			total += int64(m.opts.DefaultPartitions)
		case t.Partitions > 0:
			total += int64(t.Partitions)
		}
	}
	return total
}

// planCreation judges topics from first on and puts those that can be created into a transaction, until that is full. It fills
// in their results and returns the index of the first topic that it did not come to.
func (m *Metadata) planCreation(img *Image, topics []NewTopic, results []CreateResult, first int) (Txn, int) {
	var txn Txn
	sum := img.sum
	names := newNames{img: img, names: map[string]struct{}{}, collisions: map[string]string{}}
	now := time.Now()
	size, end := 0, first
	for ; end < len(topics) && len(txn.Ops) < topicsPerTxn && size < bytesPerTxn; end++ {
		t, err := m.newTopic(img, &names, topics[end], now)
		if err != nil {
			results[end] = CreateResult{Err: err}
			continue
		}
		key, value := encodeTopic(t)
		if len(key)+len(value) > bytesPerTxn {
			results[end] = CreateResult{Err: refuse(ErrInvalidRequest, "The configuration of topic '%s' is too large.", t.Name)}
			continue
		}
		names.add(t.Name)
		sum = sum.with(t.ID)
		results[end] = CreateResult{Topic: t}
		txn.Ops = append(txn.Ops, Op{Key: key, Value: value})
		size += len(key) + len(value)
	}
	if len(txn.Ops) == 0 {
		return Txn{}, end
	}
	img.guard.next(&txn, sum)
	return txn, end
}

// newNames are the names that a request takes before they are in an image.
type newNames struct {
	img        *Image
	names      map[string]struct{}
	collisions map[string]string
}

func (n *newNames) add(name string) {
	n.names[name] = struct{}{}
	if key, ok := collisionKey(name); ok {
		n.collisions[key] = name
	}
}

// check judges a name in Kafka's order: a name that exists is said to exist before it is said to collide. Two names of one
// request that collide are refused too, which Kafka overlooks.
func (n *newNames) check(name string) error {
	if err := ValidateTopicName(name); err != nil {
		return err
	}
	_, exists := n.img.topics.get(name)
	if _, ok := n.names[name]; ok || exists {
		return refuse(ErrTopicExists, "Topic '%s' already exists.", name)
	}
	key, ok := collisionKey(name)
	if !ok {
		return nil
	}
	other, taken := n.img.collisions.get(key)
	if !taken {
		other, taken = n.collisions[key]
	}
	if taken {
		return refuse(ErrInvalidTopicName, "Topic '%s' collides with existing topic: %s", name, other)
	}
	return nil
}

// newTopic makes the topic that a request asks for, or says why not, in the order in which Kafka's controller checks.
func (m *Metadata) newTopic(img *Image, names *newNames, req NewTopic, now time.Time) (*Topic, error) {
	if err := names.check(req.Name); err != nil {
		return nil, err
	}
	partitions, err := m.placement(img, req)
	if err != nil {
		return nil, err
	}
	t := &Topic{
		Name: req.Name, ID: newTopicID(img), Created: time.UnixMilli(now.UnixMilli()), Internal: req.Internal,
		Configs: req.Configs, ReplicationFactor: 1,
		Partitions: newTemplate(int(partitions), m.opts.BrokerID, img.LeaderEpoch()),
	}
	return t, nil
}

// newTopicID returns an id that no topic, dead ones included, has had.
func newTopicID(img *Image) base.TopicID {
	for {
		id := base.NewTopicID()
		_, lives := img.ids.get(id)
		_, died := img.tombstones.get(id)
		if !lives && !died {
			return id
		}
	}
}

// placement returns how many partitions a new topic gets.
func (m *Metadata) placement(img *Image, req NewTopic) (int32, error) {
	switch {
	case len(req.Assignments) > 0:
		return m.manualPlacement(img, req)
	case req.ReplicationFactor < -1 || req.ReplicationFactor == 0:
		return 0, refuse(ErrInvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	case req.Partitions < -1 || req.Partitions == 0:
		return 0, refuse(ErrInvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	partitions, factor := req.Partitions, req.ReplicationFactor
	if partitions == -1 {
		partitions = m.opts.DefaultPartitions
	}
	if factor == -1 {
		factor = m.opts.DefaultReplicationFactor
	}
	if factor > 1 {
		return 0, refuse(ErrInvalidReplicationFactor, "Unable to replicate the partition %d time(s): The target replication "+
			"factor of %d cannot be reached because only %d broker(s) are registered or some brokers have all their log directories cordoned.", factor, factor, max(len(img.brokers), 1))
	}
	return partitions, nil
}

func (m *Metadata) manualPlacement(img *Image, req NewTopic) (int32, error) {
	if req.ReplicationFactor != -1 {
		return 0, refuse(ErrInvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
	}
	if req.Partitions != -1 {
		return 0, refuse(ErrInvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
	}
	seen := make(map[int32]struct{}, len(req.Assignments))
	factor := 0
	for _, a := range req.Assignments {
		if _, twice := seen[a.Partition]; twice {
			return 0, refuse(ErrInvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.Partition)
		}
		if err := m.checkReplicas(img, a.Replicas, factor); err != nil {
			return 0, err
		}
		factor = len(a.Replicas)
		seen[a.Partition] = struct{}{}
	}
	for i := range int32(len(seen)) {
		if _, ok := seen[i]; !ok {
			return 0, refuse(ErrInvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
		}
	}
	return int32(len(seen)), nil
}

// CheckReplicas judges the replicas that a partition is asked to move to. What it lets through is where the partition is already.
//
// Errors: *Error with ErrInvalidReplicaAssignment.
func (m *Metadata) CheckReplicas(replicas []base.BrokerID) error {
	return m.checkReplicas(m.Image(), replicas, 0)
}

// checkReplicas judges the replicas given for one partition; factor is how many earlier partitions have, 0 for the first.
func (m *Metadata) checkReplicas(img *Image, replicas []base.BrokerID, factor int) error {
	if len(replicas) == 0 {
		return refuse(ErrInvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	sorted := slices.Sorted(slices.Values(replicas))
	for i, id := range sorted {
		// Only this broker can hold a replica for now, whoever else may be registered.
		if id != m.opts.BrokerID {
			return refuse(ErrInvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", id)
		}
		if i > 0 && id == sorted[i-1] {
			return refuse(ErrInvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", id)
		}
	}
	if factor != 0 && len(replicas) != factor {
		return refuse(ErrInvalidReplicaAssignment, "The manual partition assignment includes a partition with %d replica(s), but this "+
			"is not consistent with previous partitions, which have %d replica(s).", len(replicas), factor)
	}
	return nil
}

// DeleteTopics deletes topics by id and leaves a tombstone for each; results are in the order of ids.
//
// Errors of results: *Error with ErrUnknownTopicID; or ErrNoSpace, ErrConflict, ErrFailed, ctx's cause.
func (m *Metadata) DeleteTopics(ctx context.Context, ids []base.TopicID) []error {
	results := make([]error, len(ids))
	for first := 0; first < len(ids); first += topicsPerTxn {
		some, out := ids[first:min(first+topicsPerTxn, len(ids))], results[first:]
		err := m.update(ctx, func(img *Image) (Txn, error) { return planDeletion(img, some, out), nil })
		if err == nil {
			continue
		}
		for i := range out {
			if out[i] == nil {
				out[i] = err
			}
		}
		break
	}
	return results
}

func planDeletion(img *Image, ids []base.TopicID, results []error) Txn {
	txn := Txn{Essential: true}
	sum := img.sum
	now := time.Now()
	seen := make(map[base.TopicID]struct{}, len(ids))
	for i, id := range ids {
		t, ok := img.ids.get(id)
		if _, twice := seen[id]; twice || !ok {
			results[i] = &Error{Kind: ErrUnknownTopicID}
			continue
		}
		results[i] = nil
		seen[id] = struct{}{}
		sum = sum.without(id)
		key, value := encodeTombstone(Tombstone{ID: id, Name: t.Name, Partitions: int32(len(t.Partitions)), Deleted: now})
		txn.Compares = append(txn.Compares, Compare{Key: topicKey(t.Name), ModRevision: t.modRevision})
		txn.Ops = append(txn.Ops, Op{Key: topicKey(t.Name), Delete: true})
		if !plant.On(plant.NoTombstone) {
			txn.Ops = append(txn.Ops, Op{Key: key, Value: value})
		}
	}
	if len(txn.Ops) > 0 {
		img.guard.next(&txn, sum)
	}
	return txn
}

// ForgetTombstones removes the tombstones of topics that nothing on disk names any more. Unknown ids are ignored.
func (m *Metadata) ForgetTombstones(ctx context.Context, ids []base.TopicID) error {
	for some := range slices.Chunk(ids, topicsPerTxn) {
		err := m.update(ctx, func(img *Image) (Txn, error) {
			txn := Txn{Essential: true}
			seen := make(map[base.TopicID]struct{}, len(some))
			for _, id := range some {
				_, known := img.tombstones.get(id)
				if _, twice := seen[id]; twice || !known {
					continue
				}
				seen[id] = struct{}{}
				txn.Ops = append(txn.Ops, Op{Key: tombstoneKey(id), Delete: true})
			}
			return txn, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// CreatePartitions makes topics grow, each for itself; results are in the order of changes.
//
// Errors of results: *Error with ErrUnknownTopic, ErrInvalidPartitions, ErrInvalidReplicaAssignment, ErrPolicyViolation; or
// ErrNoSpace, ErrConflict, ErrFailed, ctx's cause.
func (m *Metadata) CreatePartitions(ctx context.Context, changes []NewPartitions, validateOnly bool) []error {
	results := make([]error, len(changes))
	for i, c := range changes {
		results[i] = m.update(ctx, func(img *Image) (Txn, error) {
			t, err := m.grown(img, c)
			if err != nil || validateOnly {
				return Txn{}, err
			}
			return replaceTopic(t), nil
		})
	}
	return results
}

// replaceTopic writes a changed copy of a topic, if nobody else changed it meanwhile.
func replaceTopic(t *Topic) Txn {
	key, value := encodeTopic(t)
	return Txn{
		Compares: []Compare{{Key: key, ModRevision: t.modRevision}},
		Ops:      []Op{{Key: key, Value: value}},
	}
}

// grown makes the topic as it is with more partitions, or says why not, in the order in which Kafka's controller checks.
func (m *Metadata) grown(img *Image, c NewPartitions) (*Topic, error) {
	t, ok := img.topics.get(c.Topic)
	if !ok {
		return nil, &Error{Kind: ErrUnknownTopic}
	}
	now := int32(len(t.Partitions))
	switch added := int(c.Count - now); {
	case added == 0:
		return nil, refuse(ErrInvalidPartitions, "Topic already has %d partition(s).", now)
	case added < 0:
		return nil, refuse(ErrInvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", c.Topic, now, c.Count)
	case c.Assignments != nil && len(c.Assignments) != added:
		return nil, refuse(ErrInvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", added, len(c.Assignments))
	case added > maxPartitionsPerRequest || c.Count > maxTopicPartitions:
		return nil, refuse(ErrPolicyViolation, "Unable to perform excessively large batch operation.")
	}
	for _, replicas := range c.Assignments {
		if err := m.checkReplicas(img, replicas, int(t.ReplicationFactor)); err != nil {
			return nil, err
		}
	}
	larger := *t
	larger.Partitions = newTemplate(int(c.Count), m.opts.BrokerID, img.LeaderEpoch())
	return &larger, nil
}
