package group

import (
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// The messages by which consumers of the classic protocol talk to each other through the group, ConsumerProtocolSubscription and
// ConsumerProtocolAssignment: the coordinator reads and writes them when it takes over for some of them. Later versions than these
// begin in the same way.

const maxConsumerProtocol = 3 // the rack of a subscription

// consumerSubscription is what a consumer of the classic protocol tells of itself.
type consumerSubscription struct {
	version int16
	topics  []string
	owned   []kmsg.ConsumerMemberMetadataOwnedPartition // v1
	rack    *string                                     // v3
}

// parseSubscription reads a subscription. It allocates as bytes are there, not as lengths say.
func parseSubscription(b []byte) (consumerSubscription, bool) {
	r := kbin.Reader{Src: b}
	s := consumerSubscription{version: r.Int16()}
	if s.version < 0 {
		return s, false
	}
	for n := r.ArrayLen(); n > 0 && r.Ok(); n-- {
		s.topics = append(s.topics, r.String())
	}
	r.NullableBytes() // user data
	if s.version >= 1 {
		for n := r.ArrayLen(); n > 0 && r.Ok(); n-- {
			owned := kmsg.ConsumerMemberMetadataOwnedPartition{Topic: r.String()}
			for n := r.ArrayLen(); n > 0 && r.Ok(); n-- {
				owned.Partitions = append(owned.Partitions, r.Int32())
			}
			s.owned = append(s.owned, owned)
		}
	}
	if s.version >= 2 {
		r.Int32() // generation
	}
	if s.version >= 3 {
		if s.rack = r.NullableString(); deref(s.rack) == "" {
			s.rack = nil
		}
	}
	return s, r.Ok()
}

// parseAssignment reads an assignment; custom says that there is data of a client's own assignor in it.
func parseAssignment(image TopicImage, b []byte) (a assignor.Assignment, custom, ok bool) {
	if len(b) == 0 {
		return nil, false, true
	}
	r := kbin.Reader{Src: b}
	if r.Int16() < 0 {
		return nil, false, false
	}
	for n := r.ArrayLen(); n > 0 && r.Ok(); n-- {
		name := r.String()
		var partitions []int32
		for n := r.ArrayLen(); n > 0 && r.Ok(); n-- {
			partitions = append(partitions, r.Int32())
		}
		if t, ok := image.Topic(name); ok {
			a = append(a, assignor.TopicPartitions{Topic: t.ID, Partitions: partitions})
		}
	}
	custom = len(r.NullableBytes()) > 0
	return assignor.Normal(a), custom, r.Ok()
}

// appendAssignment writes an assignment in the version of the member's subscription.
func appendAssignment(image TopicImage, version int16, a assignor.Assignment) []byte {
	m := kmsg.NewConsumerMemberAssignment()
	m.Version = min(version, maxConsumerProtocol)
	for _, t := range a {
		if info, ok := image.TopicByID(t.Topic); ok {
			mt := kmsg.NewConsumerMemberAssignmentTopic()
			mt.Topic, mt.Partitions = info.Name, t.Partitions
			m.Topics = append(m.Topics, mt)
		}
	}
	return m.AppendTo(nil)
}

// ownedOf is what a subscription says that its member has.
func (s *consumerSubscription) ownedOf(image TopicImage) *holder {
	owned := holder{}
	for _, o := range s.owned {
		id := base.TopicID{}
		if t, ok := image.Topic(o.Topic); ok {
			id = t.ID
		}
		for _, p := range o.Partitions {
			owned.add(id, p, 0)
		}
	}
	return &owned
}
