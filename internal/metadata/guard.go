package metadata

import "github.com/ottlaio/ottla/internal/base"

// topicSum is what must be equal for two sets of topics to be the same one.
type topicSum struct {
	topics int64
	ids    base.TopicID // all ids, XORed: they are random, so no likely loss leaves it as it was
}

func (s topicSum) with(id base.TopicID) topicSum    { return s.changed(id, 1) }
func (s topicSum) without(id base.TopicID) topicSum { return s.changed(id, -1) }

func (s topicSum) changed(id base.TopicID, topics int64) topicSum {
	s.topics += topics
	for i := range id {
		s.ids[i] ^= id[i]
	}
	return s
}

// topicGuard is the value of keyTopicGuard.
//
// etcd's database has no checksums for its pages. A value that changed there betrays itself; a key that vanished would be a topic
// that was never created, were it not for this.
type topicGuard struct {
	topicSum
	modRevision int64
}

// next adds to txn what makes it the only one to change the set of topics after i, to one with the given sum.
func (g topicGuard) next(txn *Txn, sum topicSum) {
	txn.Compares = append(txn.Compares, Compare{Key: keyTopicGuard, ModRevision: g.modRevision})
	txn.Ops = append(txn.Ops, Op{Key: keyTopicGuard, Value: encodeValue(keyTopicGuard, guardValue{Topics: sum.topics, IDs: sum.ids.String()})})
}

func decodeGuard(kv KV) (topicGuard, error) {
	var v guardValue
	if err := decodeValue(kv.Key, kv.Value, &v); err != nil {
		return topicGuard{}, err
	}
	ids, err := base.ParseTopicID(v.IDs)
	if err != nil {
		return topicGuard{}, &DamageError{Key: kv.Key, Reason: err.Error()}
	}
	return topicGuard{topicSum{v.Topics, ids}, kv.ModRevision}, nil
}
