package metadata

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
)

func openOn(t testing.TB, s Store) *Metadata {
	t.Helper()
	m, err := Open(t.Context(), Options{Store: s, BrokerID: 1, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func openMemory(t testing.TB) *Metadata {
	t.Helper()
	return openOn(t, NewMemory())
}

func named(name string) NewTopic { return NewTopic{Name: name, Partitions: 1, ReplicationFactor: 1} }

// mustCreate creates topics of one partition.
func mustCreate(t testing.TB, m *Metadata, names ...string) []*Topic {
	t.Helper()
	var requests []NewTopic
	for _, name := range names {
		requests = append(requests, named(name))
	}
	var topics []*Topic
	for i, r := range m.CreateTopics(t.Context(), requests, false) {
		if r.Err != nil {
			t.Fatalf("create %s: %v", names[i], r.Err)
		}
		topics = append(topics, r.Topic)
	}
	return topics
}

func topicNames(img *Image) (names []string) {
	for t := range img.Topics() {
		names = append(names, t.Name)
	}
	return names
}

// TestCreateTopicsJudgesAsKafka has the messages of Apache Kafka 4.3.
func TestCreateTopicsJudgesAsKafka(t *testing.T) {
	m := openMemory(t)
	mustCreate(t, m, "a.b")
	long := strings.Repeat("x", 250)
	assigned := func(as ...Assignment) NewTopic {
		return NewTopic{Name: "assigned", Partitions: -1, ReplicationFactor: -1, Assignments: as}
	}
	on := func(partition int32, brokers ...base.BrokerID) Assignment { return Assignment{partition, brokers} }
	withCounts := func(partitions int32, factor int16) NewTopic {
		topic := assigned(on(0, 1))
		topic.Partitions, topic.ReplicationFactor = partitions, factor
		return topic
	}
	for _, c := range []struct {
		topic   NewTopic
		kind    error
		message string
	}{
		{named(""), ErrInvalidTopicName, "Topic name is invalid: the empty string is not allowed"},
		{named("."), ErrInvalidTopicName, "Topic name is invalid: '.' is not allowed"},
		{named(".."), ErrInvalidTopicName, "Topic name is invalid: '..' is not allowed"},
		{named(long), ErrInvalidTopicName, "Topic name is invalid: the length of '" + long + "' is longer than the max allowed length 249"},
		{named("é"), ErrInvalidTopicName, "Topic name is invalid: 'é' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"},
		{named("a/b"), ErrInvalidTopicName, "Topic name is invalid: 'a/b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"},
		{NewTopic{Name: "a.b", Partitions: 0, ReplicationFactor: 3}, ErrTopicExists, "Topic 'a.b' already exists."},
		{NewTopic{Name: "a_b", Partitions: 0, ReplicationFactor: 3}, ErrInvalidTopicName, "Topic 'a_b' collides with existing topic: a.b"},
		{NewTopic{Name: "t", Partitions: 1, ReplicationFactor: 3}, ErrInvalidReplicationFactor, "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned."},
		{NewTopic{Name: "t", Partitions: 0, ReplicationFactor: 0}, ErrInvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value."},
		{NewTopic{Name: "t", Partitions: 1, ReplicationFactor: -2}, ErrInvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value."},
		{NewTopic{Name: "t", Partitions: 0, ReplicationFactor: 1}, ErrInvalidPartitions, "Number of partitions was set to an invalid non-positive value."},
		{NewTopic{Name: "t", Partitions: -2, ReplicationFactor: 1}, ErrInvalidPartitions, "Number of partitions was set to an invalid non-positive value."},
		{NewTopic{Name: "t", Partitions: 10_001, ReplicationFactor: 1}, ErrPolicyViolation, "Excessively large number of partitions per request."},
		{withCounts(-1, 1), ErrInvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1."},
		{withCounts(1, -1), ErrInvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1."},
		{assigned(on(0, 1), on(0, 1)), ErrInvalidReplicaAssignment, "Found multiple manual partition assignments for partition 0"},
		{assigned(on(0, 1), on(2, 1)), ErrInvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence"},
		{assigned(on(-1, 1)), ErrInvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence"},
		{assigned(on(0)), ErrInvalidReplicaAssignment, "The manual partition assignment includes an empty replica list."},
		{assigned(on(0, 7)), ErrInvalidReplicaAssignment, "The manual partition assignment includes broker 7, but no such broker is registered."},
		{assigned(on(0, 1, 1)), ErrInvalidReplicaAssignment, "The manual partition assignment includes the broker 1 more than once."},
	} {
		for _, validateOnly := range []bool{true, false} {
			r := m.CreateTopics(t.Context(), []NewTopic{c.topic}, validateOnly)[0]
			var refused *Error
			if !errors.As(r.Err, &refused) || !errors.Is(r.Err, c.kind) || refused.Message != c.message || r.Topic != nil {
				t.Errorf("%+v: %v, want %v: %s", c.topic, r.Err, c.kind, c.message)
			}
		}
	}
	if got := topicNames(m.Image()); !slices.Equal(got, []string{"a.b"}) {
		t.Errorf("topics are %v", got)
	}
}

func TestCreateTopicsTreatsEachTopicForItself(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		m, err := Open(t.Context(), Options{Store: s, BrokerID: 7, DefaultPartitions: 3, DefaultReplicationFactor: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if _, err := m.BeginEpoch(t.Context()); err != nil {
			t.Fatal(err)
		}
		requests := []NewTopic{
			{Name: "defaults", Partitions: -1, ReplicationFactor: -1, Configs: map[string]string{"retention.ms": "1"}},
			named("bad name"),
			{Name: "__internal", Partitions: 50, ReplicationFactor: 1, Internal: true},
			named("defaults"),
			{Name: "assigned", Partitions: -1, ReplicationFactor: -1, Assignments: []Assignment{{1, []base.BrokerID{7}}, {0, []base.BrokerID{7}}}},
			named("same.name"), named("same_name"),
		}
		want := "[defaults/3 invalid topic name __internal/50 topic exists assigned/2 same.name/1 invalid topic name]"
		for _, validateOnly := range []bool{true, false} {
			var got []string
			for i, r := range m.CreateTopics(t.Context(), requests, validateOnly) {
				var refused *Error
				if errors.As(r.Err, &refused) {
					got = append(got, refused.Kind.Error())
					continue
				}
				got = append(got, fmt.Sprintf("%s/%d", r.Topic.Name, len(r.Topic.Partitions)))
				p := r.Topic.Partitions[0]
				if r.Topic.ID.IsZero() || r.Topic.Created.IsZero() || r.Topic.ReplicationFactor != 1 || r.Topic.Internal != requests[i].Internal ||
					p.Leader != 7 || p.LeaderEpoch != 0 || !slices.Equal(p.Replicas, []base.BrokerID{7}) || !slices.Equal(p.ISR, p.Replicas) {
					t.Errorf("topic %+v", *r.Topic)
				}
				in, ok := m.Image().TopicByID(r.Topic.ID)
				if ok == validateOnly || ok && in != r.Topic {
					t.Errorf("validate only %t, image has %s: %t", validateOnly, r.Topic.Name, ok)
				}
			}
			if fmt.Sprint(got) != want {
				t.Errorf("validate only %t: got %s, want %s", validateOnly, got, want)
			}
		}
		img := m.Image()
		if img.TopicCount() != 4 || img.PartitionCount() != 56 {
			t.Errorf("%d topics, %d partitions", img.TopicCount(), img.PartitionCount())
		}
		if got := img.Config(Resource{ResourceTopic, "defaults"}); got["retention.ms"] != "1" {
			t.Errorf("settings %v", got)
		}
	})
}

func TestTenThousandTopicsInOneRequest(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		m := openOn(t, s)
		images := 0
		m.Subscribe(func(prev, next *Image) { images++ })
		requests := make([]NewTopic, 10_000)
		for i := range requests {
			requests[i] = named(fmt.Sprintf("topic.%05d", i))
		}
		requests[5000].Partitions = 0
		for i, r := range m.CreateTopics(t.Context(), requests, false) {
			if (r.Err != nil) != (i == 5000) {
				t.Fatalf("%d: %v", i, r.Err)
			}
		}
		if m.Image().TopicCount() != 9999 || images != 10 {
			t.Errorf("%d topics in %d images", m.Image().TopicCount(), images)
		}
		var ids []base.TopicID
		for topic := range m.Image().Topics() {
			ids = append(ids, topic.ID)
		}
		if err := errors.Join(m.DeleteTopics(t.Context(), ids)...); err != nil {
			t.Fatal(err)
		}
		if img := m.Image(); img.TopicCount() != 0 || img.PartitionCount() != 0 || len(img.Tombstones()) != 9999 {
			t.Errorf("%d topics, %d partitions, %d tombstones", img.TopicCount(), img.PartitionCount(), len(img.Tombstones()))
		}
		m.Close()
	})
}

// TestCreatePartitionsJudgesAsKafka has the messages of Apache Kafka 4.3, except that it answers a request for too many with
// an unknown error.
func TestCreatePartitionsJudgesAsKafka(t *testing.T) {
	m := openMemory(t)
	m.CreateTopics(t.Context(), []NewTopic{{Name: "t", Partitions: 2, ReplicationFactor: 1}}, false)
	one := []base.BrokerID{1}
	for _, c := range []struct {
		change  NewPartitions
		kind    error
		message string
	}{
		{NewPartitions{Topic: "none", Count: 3}, ErrUnknownTopic, ""},
		{NewPartitions{Topic: "t", Count: 2}, ErrInvalidPartitions, "Topic already has 2 partition(s)."},
		{NewPartitions{Topic: "t", Count: 1}, ErrInvalidPartitions, "The topic t currently has 2 partition(s); 1 would not be an increase."},
		{NewPartitions{Topic: "t", Count: -1}, ErrInvalidPartitions, "The topic t currently has 2 partition(s); -1 would not be an increase."},
		{NewPartitions{Topic: "t", Count: 4, Assignments: [][]base.BrokerID{one}}, ErrInvalidReplicaAssignment, "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified."},
		{NewPartitions{Topic: "t", Count: 3, Assignments: [][]base.BrokerID{{9}}}, ErrInvalidReplicaAssignment, "The manual partition assignment includes broker 9, but no such broker is registered."},
		{NewPartitions{Topic: "t", Count: 3, Assignments: [][]base.BrokerID{{}}}, ErrInvalidReplicaAssignment, "The manual partition assignment includes an empty replica list."},
		{NewPartitions{Topic: "t", Count: 3, Assignments: [][]base.BrokerID{{1, 1}}}, ErrInvalidReplicaAssignment, "The manual partition assignment includes the broker 1 more than once."},
		{NewPartitions{Topic: "t", Count: 20_000}, ErrPolicyViolation, "Unable to perform excessively large batch operation."},
		{NewPartitions{Topic: "t", Count: 1<<31 - 1}, ErrPolicyViolation, "Unable to perform excessively large batch operation."},
	} {
		for _, validateOnly := range []bool{true, false} {
			err := m.CreatePartitions(t.Context(), []NewPartitions{c.change}, validateOnly)[0]
			var refused *Error
			if !errors.As(err, &refused) || !errors.Is(err, c.kind) || refused.Message != c.message {
				t.Errorf("%+v: %v, want %v: %s", c.change, err, c.kind, c.message)
			}
		}
	}
	before, _ := m.Image().Topic("t")
	grow := []NewPartitions{{Topic: "t", Count: 4, Assignments: [][]base.BrokerID{one, one}}}
	if err := m.CreatePartitions(t.Context(), grow, true)[0]; err != nil {
		t.Error(err)
	}
	if now, _ := m.Image().Topic("t"); now != before {
		t.Error("validating changed the topic")
	}
	if err := m.CreatePartitions(t.Context(), grow, false)[0]; err != nil {
		t.Error(err)
	}
	after, _ := m.Image().Topic("t")
	if len(after.Partitions) != 4 || after.ID != before.ID || m.Image().PartitionCount() != 4 || len(before.Partitions) != 2 {
		t.Errorf("grew from %+v to %+v", *before, *after)
	}
}

func TestDeletedTopicsLeaveTombstones(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		m := openOn(t, s)
		topics := mustCreate(t, m, "a.x", "b")
		first, unknown := topics[0].ID, base.NewTopicID()
		errs := m.DeleteTopics(t.Context(), []base.TopicID{unknown, first, first})
		if !errors.Is(errs[0], ErrUnknownTopicID) || errs[1] != nil || !errors.Is(errs[2], ErrUnknownTopicID) {
			t.Fatalf("%v", errs)
		}
		if got := topicNames(m.Image()); !slices.Equal(got, []string{"b"}) {
			t.Errorf("topics %v", got)
		}
		tombstone := m.Image().Tombstones()[first]
		if tombstone.Name != "a.x" || tombstone.Partitions != 1 || tombstone.Deleted.IsZero() || tombstone.ID != first {
			t.Errorf("tombstone %+v", tombstone)
		}
		second := mustCreate(t, m, "a_x")[0].ID // nothing to collide with any more
		if second == first {
			t.Error("a topic id was used again")
		}
		if err := m.ForgetTombstones(t.Context(), []base.TopicID{unknown, second, first, first}); err != nil {
			t.Fatal(err)
		}
		if left := m.Image().Tombstones(); len(left) != 0 {
			t.Errorf("tombstones %v", left)
		}
		if _, ok := m.Image().Topic("a_x"); !ok {
			t.Error("a live topic was forgotten")
		}
		m.Close()
	})
}

func TestTopicsRevisionGrowsWithTheTopicsAlone(t *testing.T) {
	forEachStore(t, func(t *testing.T, s Store) {
		m := openOn(t, s)
		last := m.Image().TopicsRevision()
		step := func(what string, grows bool, change func() error) {
			t.Helper()
			if err := change(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			now := m.Image().TopicsRevision()
			if now < last || (now > last) != grows {
				t.Errorf("%s: from %d to %d", what, last, now)
			}
			last = now
		}
		var id base.TopicID
		step("create", true, func() error { id = mustCreate(t, m, "a", "b")[0].ID; return nil })
		step("broker settings", false, func() error {
			return m.AlterConfigs(t.Context(), Resource{ResourceBroker, ""}, func(map[string]string) (map[string]string, error) {
				return map[string]string{"k": "v"}, nil
			})
		})
		step("grow", true, func() error {
			return m.CreatePartitions(t.Context(), []NewPartitions{{Topic: "b", Count: 2}}, false)[0]
		})
		step("delete", true, func() error { return m.DeleteTopics(t.Context(), []base.TopicID{id})[0] })
		m.Close()
		again := openOn(t, s)
		if now := again.Image().TopicsRevision(); now != last {
			t.Errorf("%d after opening again, was %d", now, last)
		}
		again.Close()
	})
}
