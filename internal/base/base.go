// Package base holds the vocabulary that every room shares: the types of the numbers that must not be swapped, and topic ids.
//
// It imports nothing of the project and holds no behaviour beyond printing and parsing.
package base

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
)

// Offset is a record's place in its partition. Offsets start at 0 and never repeat within a partition.
type Offset int64

// LeaderEpoch counts the terms of leadership of a partition (KIP-101).
type LeaderEpoch int32

// ProducerID names an idempotent or transactional producer (KIP-98).
type ProducerID int64

// ProducerEpoch fences older instances of one producer id (KIP-98).
type ProducerEpoch int16

// BrokerID is a broker's node id.
type BrokerID int32

// The protocol's own words for "none".
const (
	NoOffset        Offset        = -1
	NoLeaderEpoch   LeaderEpoch   = -1
	NoProducerID    ProducerID    = -1
	NoProducerEpoch ProducerEpoch = -1
	// NoTimestamp is a timestamp in milliseconds that is not there.
	NoTimestamp int64 = -1
)

// TopicID names a topic for ever, also after a topic of the same name was deleted and made anew (KIP-516).
type TopicID [16]byte

// NewTopicID returns a random id: a version 4 UUID whose text does not begin with a dash, as Kafka's are.
func NewTopicID() TopicID {
	for {
		var id TopicID
		rand.Read(id[:]) // never fails, see crypto/rand
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id.String()[0] != '-' {
			return id
		}
	}
}

// ParseTopicID reads the text that String writes.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return id, fmt.Errorf("topic id %q: %w", s, err)
	}
	if len(b) != len(id) {
		return id, fmt.Errorf("topic id %q: %d bytes, want %d", s, len(b), len(id))
	}
	copy(id[:], b)
	return id, nil
}

// String is Kafka's text for a topic id: URL-safe base64 without padding, 22 characters.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// IsZero reports whether id is the zero id, which the protocol uses for "none".
func (id TopicID) IsZero() bool { return id == TopicID{} }

// TopicPartition names a partition by its topic's name.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is Kafka's text for a partition, "topic-0".
func (tp TopicPartition) String() string { return tp.Topic + "-" + strconv.Itoa(int(tp.Partition)) }

// TopicIDPartition names a partition by its topic's id.
type TopicIDPartition struct {
	ID        TopicID
	Partition int32
}

// String is the topic id's text and the partition, "mZ4t...-0".
func (tp TopicIDPartition) String() string {
	return tp.ID.String() + "-" + strconv.Itoa(int(tp.Partition))
}
