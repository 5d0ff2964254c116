package metadata

import (
	"hash/maphash"
	"iter"
)

// shardCount fixes what a change copies: one pointer per shard, and the entries of the shard it falls into. With 10,000
// topics that is 2 KiB and about 40 entries.
const shardCount = 256

var shardSeed = maphash.MakeSeed()

// shardMap is an immutable map whose copies share what they have in common. The zero value is empty.
//
// A tree with wide nodes would copy less; this needs one hash and one plain map lookup, which is what requests do all day.
type shardMap[K comparable, V any] struct {
	shards *[shardCount]*shard[K, V]
	count  int
}

type shard[K comparable, V any] struct{ entries map[K]V }

func shardOf[K comparable](k K) int { return int(maphash.Comparable(shardSeed, k) % shardCount) }

func (m shardMap[K, V]) get(k K) (v V, ok bool) {
	if m.shards == nil {
		return v, false
	}
	s := m.shards[shardOf(k)]
	if s == nil {
		return v, false
	}
	v, ok = s.entries[k]
	return v, ok
}

// all yields every entry, in no order.
func (m shardMap[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.shards == nil {
			return
		}
		for _, s := range m.shards {
			if s == nil {
				continue
			}
			for k, v := range s.entries {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// diff yields the keys whose shards differ between two maps that descend from each other: every key that was changed, and
// some that were not.
func (m shardMap[K, V]) diff(prev shardMap[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) {
		if m.shards == prev.shards {
			return
		}
		for i := range shardCount {
			a, b := prev.at(i), m.at(i)
			if a == b {
				continue
			}
			for k := range b.all() {
				if !yield(k) {
					return
				}
			}
			for k := range a.all() {
				if _, both := b.all()[k]; both {
					continue
				}
				if !yield(k) {
					return
				}
			}
		}
	}
}

func (m shardMap[K, V]) at(i int) *shard[K, V] {
	if m.shards == nil {
		return nil
	}
	return m.shards[i]
}

func (s *shard[K, V]) all() map[K]V {
	if s == nil {
		return nil
	}
	return s.entries
}

// shardEdit collects changes to a shardMap; each shard is copied once however many changes fall into it.
type shardEdit[K comparable, V any] struct {
	m     shardMap[K, V]
	owned [shardCount]bool
	began bool
}

func (m shardMap[K, V]) edit() *shardEdit[K, V] { return &shardEdit[K, V]{m: m} }

func (e *shardEdit[K, V]) get(k K) (V, bool) { return e.m.get(k) }

func (e *shardEdit[K, V]) own(i int) map[K]V {
	if !e.began {
		shards := new([shardCount]*shard[K, V])
		if e.m.shards != nil {
			*shards = *e.m.shards
		}
		e.m.shards, e.began = shards, true
	}
	if !e.owned[i] {
		old := e.m.shards[i].all()
		entries := make(map[K]V, len(old)+1)
		for k, v := range old {
			entries[k] = v
		}
		e.m.shards[i], e.owned[i] = &shard[K, V]{entries}, true
	}
	return e.m.shards[i].entries
}

func (e *shardEdit[K, V]) set(k K, v V) {
	entries := e.own(shardOf(k))
	before := len(entries)
	entries[k] = v
	e.m.count += len(entries) - before
}

func (e *shardEdit[K, V]) delete(k K) {
	if _, ok := e.m.get(k); !ok {
		return
	}
	delete(e.own(shardOf(k)), k)
	e.m.count--
}
