package group

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/ottlaio/ottla/internal/coordinator"
)

// groupRecord is the record of a group of the newer kinds on its way into the state.
type groupRecord struct {
	group string
	name  string       // member id or pattern
	value *valueReader // nil: a tombstone
	at    int64        // ms
}

func readGroupRecord(r coordinator.Record, names int) (groupRecord, error) {
	key := kbin.Reader{Src: r.Key[2:]}
	c := groupRecord{group: key.String(), at: r.Timestamp}
	if names > 1 {
		c.name = key.String()
	}
	if err := key.Complete(); err != nil {
		return c, fmt.Errorf("%w: key: %w", errRecord, err)
	}
	if r.Value == nil {
		return c, nil
	}
	if _, err := valueVersion(r.Value, 0); err != nil {
		return c, fmt.Errorf("%w: value of type %d: %w", errRecord, binary.BigEndian.Uint16(r.Key), err)
	}
	c.value = &valueReader{kbin.Reader{Src: r.Value[2:]}}
	return c, nil
}

// replaying is how the records of one of the newer kinds of groups are replayed.
type replaying[G group] struct {
	kind   Kind
	found  func(id string) G
	adopts bool // a classic group that is there for its offsets only gives way
}

var (
	consumerRecords = replaying[*consumerGroup]{Consumer, newConsumerGroup, true}
	streamsRecords  = replaying[*streamsGroup]{Streams, newStreamsGroup, true}
	shareRecords    = replaying[*shareGroup]{Share, newShareGroup, false}
)

// row makes a row of recordTypes: names is how many names the key has, apply what the record does to the group. A group is there for every
// record but a tombstone, of which those for groups that are not there mean nothing.
func (k replaying[G]) row(names int, apply func(m *Machine, g G, r groupRecord)) func(*Machine, coordinator.Record) error {
	return func(m *Machine, r coordinator.Record) error {
		c, err := readGroupRecord(r, names)
		if err != nil {
			return err
		}
		g, ok := m.groups[c.group].(G)
		if !ok {
			if c.value == nil {
				return nil
			}
			if old := m.classic(c.group); k.adopts && old != nil && !old.recorded {
				m.dissolve(c.group)
			} else if m.groups[c.group] != nil {
				return fmt.Errorf("%w: group %s is not a %s group", errRecord, c.group, k.kind)
			}
			g = k.found(c.group)
			m.found(c.group, g)
		}
		apply(m, g, c)
		if c.value != nil {
			if err := c.value.Complete(); err != nil {
				return fmt.Errorf("%w: value of type %d: %w", errRecord, binary.BigEndian.Uint16(r.Key), err)
			}
		}
		return nil
	}
}
