package api

import (
	"github.com/ottlaio/ottla/internal/wire"
)

// produceBody is the body of a Produce request, decoded here rather than by kmsg, which allocates for each topic and partition. Its byte slices
// alias the request's body. It is used again and again.
type produceBody struct {
	version int16
	// transactionalID is a copy; transactional tells that there is one.
	transactional   bool
	transactionalID string
	acks            int16
	timeoutMillis   int32
	topics          []bodyTopic
	partitions      []producePartition // of all topics, in order
}

type producePartition struct {
	index   int32
	records []byte // nil stands for null
}

// decode reads a request, versions 3 to 13.
func (q *produceBody) decode(r *wire.Request) error {
	if err := wire.CheckShape(r); err != nil {
		return err
	}
	d := bodyReader{body: r.Body, flexible: r.Version >= 9}
	q.version = r.Version
	q.topics, q.partitions = q.topics[:0], q.partitions[:0]
	transactionalID := d.bytes(2)
	q.transactional, q.transactionalID = transactionalID != nil, string(transactionalID)
	q.acks, q.timeoutMillis = int16(d.uint16()), int32(d.uint32())
	for topics := d.length(4); topics > 0 && !d.short; topics-- {
		t := d.topic(r.Version >= 13)
		for partitions := d.length(4); partitions > 0 && !d.short; partitions-- {
			q.partitions = append(q.partitions, producePartition{index: int32(d.uint32()), records: d.bytes(4)})
			t.partitions++
			d.skipTags()
		}
		q.topics = append(q.topics, t)
		d.skipTags()
	}
	if d.short { // bytes after the topics are ignored, as Kafka does
		return &wire.DecodeError{Key: r.Key, Version: r.Version, Err: errBody}
	}
	return nil
}
