package api

import (
	"github.com/ottlaio/ottla/internal/wire"
)

// fetchBody is the body of a Fetch request, decoded here for the same reason as produceBody. Names alias the request's body. It is used
// again and again.
type fetchBody struct {
	version                 int16
	replica                 int32 // the broker that fetches, -1 for a consumer
	maxWaitMillis           int32
	minBytes, maxBytes      int32
	isolation               int8
	sessionID, sessionEpoch int32
	topics                  []bodyTopic
	partitions              []fetchPartition // of all topics, in order
	forgotten               []bodyTopic
	forgottenPartitions     []int32 // of all forgotten topics, in order
}

type fetchPartition struct {
	index                   int32
	currentEpoch, lastEpoch int32
	offset                  int64
	maxBytes                int32
}

// replicaStateTag is the tagged field that names the broker that fetches, from v15 on (KIP-903).
const replicaStateTag = 1

// decode reads a request, versions 4 to 18. It passes over the client's rack, the cluster's id, and what only a follower tells.
func (q *fetchBody) decode(r *wire.Request) error {
	if err := wire.CheckShape(r); err != nil {
		return err
	}
	d := bodyReader{body: r.Body, flexible: r.Version >= 12}
	*q = fetchBody{
		version: r.Version, replica: -1, sessionID: noSession, sessionEpoch: finalEpoch,
		topics: q.topics[:0], partitions: q.partitions[:0], forgotten: q.forgotten[:0], forgottenPartitions: q.forgottenPartitions[:0],
	}
	if r.Version < 15 {
		q.replica = int32(d.uint32())
	}
	q.maxWaitMillis, q.minBytes, q.maxBytes = int32(d.uint32()), int32(d.uint32()), int32(d.uint32())
	q.isolation = int8(d.uint8())
	if r.Version >= 7 {
		q.sessionID, q.sessionEpoch = int32(d.uint32()), int32(d.uint32())
	}
	for topics := d.length(4); topics > 0 && !d.short; topics-- {
		t := d.topic(q.byID())
		for partitions := d.length(4); partitions > 0 && !d.short; partitions-- {
			q.partitions = append(q.partitions, d.fetchPartition(r.Version))
			t.partitions++
		}
		q.topics = append(q.topics, t)
		d.skipTags()
	}
	if r.Version >= 7 {
		for topics := d.length(4); topics > 0 && !d.short; topics-- {
			t := d.topic(q.byID())
			for partitions := d.length(4); partitions > 0 && !d.short; partitions-- {
				q.forgottenPartitions = append(q.forgottenPartitions, int32(d.uint32()))
				t.partitions++
			}
			q.forgotten = append(q.forgotten, t)
			d.skipTags()
		}
	}
	if r.Version >= 11 {
		d.text() // the client's rack
	}
	if state := d.tag(replicaStateTag); r.Version >= 15 && state != nil {
		q.replica = int32((&bodyReader{body: state}).uint32())
	}
	if d.short { // bytes after the last field are ignored, as Kafka does
		return &wire.DecodeError{Key: r.Key, Version: r.Version, Err: errBody}
	}
	return nil
}

// byID says that topics are named by their ids (KIP-516).
func (q *fetchBody) byID() bool { return q.version >= 13 }

// large says that the request is not worth keeping.
func (q *fetchBody) large() bool {
	return cap(q.topics) > keptFetchPartitions || cap(q.partitions) > keptFetchPartitions ||
		cap(q.forgotten) > keptFetchPartitions || cap(q.forgottenPartitions) > keptFetchPartitions
}

func (d *bodyReader) fetchPartition(version int16) fetchPartition {
	p := fetchPartition{index: int32(d.uint32()), currentEpoch: -1, lastEpoch: -1}
	if version >= 9 {
		p.currentEpoch = int32(d.uint32())
	}
	p.offset = int64(d.uint64())
	if version >= 12 {
		p.lastEpoch = int32(d.uint32())
	}
	if version >= 5 {
		d.uint64() // a follower's log start offset
	}
	p.maxBytes = int32(d.uint32())
	d.skipTags()
	return p
}
