package txn

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
)

// valueVersion is the version of TransactionLogValue that is written: with producer ids before and after, and the client's version.
const valueVersion = 1

// errRecord marks a record that cannot be read.
var errRecord = errors.New("malformed transaction record")

func encodeKey(id string) []byte { return (&kmsg.TxnMetadataKey{TransactionalID: id}).AppendTo(nil) }

func (t *transaction) encode() []byte {
	v := kmsg.NewTxnMetadataValue()
	v.Version = valueVersion
	v.ProducerID, v.ProducerEpoch = int64(t.producerID), int16(t.epoch)
	v.PreviousProducerID, v.NextProducerID = int64(t.prevProducerID), int64(t.nextProducerID)
	v.TimeoutMillis, v.State = t.timeout, kmsg.TransactionState(t.state)
	v.LastUpdateTimestamp, v.StartTimestamp = t.updated, t.started
	v.ClientTransactionVersion = t.version
	if t.state != empty {
		v.Topics = []kmsg.TxnMetadataValueTopic{}
	}
	for _, p := range t.sorted() {
		n := len(v.Topics)
		if n == 0 || v.Topics[n-1].Topic != p.Topic {
			v.Topics = append(v.Topics, kmsg.TxnMetadataValueTopic{Topic: p.Topic})
			n++
		}
		v.Topics[n-1].Partitions = append(v.Topics[n-1].Partitions, p.Partition)
	}
	return v.AppendTo(nil)
}

// Replay implements coordinator.Machine.
func (m *Machine) Replay(r coordinator.Record) error {
	if r.Control {
		return nil
	}
	k := kmsg.NewTxnMetadataKey()
	if len(r.Key) < 2 {
		return fmt.Errorf("%w: key of %d bytes", errRecord, len(r.Key))
	}
	if version := int16(binary.BigEndian.Uint16(r.Key)); version != 0 {
		return fmt.Errorf("%w: key version %d", coordinator.ErrUnknownRecord, version)
	}
	if err := k.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("%w: key: %w", errRecord, err)
	}
	if r.Value == nil {
		m.forget(k.TransactionalID)
		return nil
	}
	t, err := decodeValue(k.TransactionalID, r.Value)
	if err != nil {
		return fmt.Errorf("%w: value: %w", errRecord, err)
	}
	m.put(t)
	return nil
}

func decodeValue(id string, b []byte) (*transaction, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	if version := int16(binary.BigEndian.Uint16(b)); version < 0 || version > valueVersion {
		return nil, fmt.Errorf("version %d, want 0 to %d", version, valueVersion)
	}
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(b); err != nil {
		return nil, err
	}
	if _, known := stateNames[state(v.State)]; !known {
		return nil, fmt.Errorf("state %d", v.State)
	}
	t := &transaction{
		id: id, producerID: base.ProducerID(v.ProducerID), epoch: base.ProducerEpoch(v.ProducerEpoch),
		prevProducerID: base.ProducerID(v.PreviousProducerID), nextProducerID: base.ProducerID(v.NextProducerID),
		timeout: v.TimeoutMillis, state: state(v.State), started: v.StartTimestamp, updated: v.LastUpdateTimestamp,
		version: v.ClientTransactionVersion, lastEpoch: base.NoProducerEpoch,
	}
	for _, topic := range v.Topics {
		for _, p := range topic.Partitions {
			if t.partitions == nil {
				t.partitions = make(map[base.TopicPartition]struct{})
			}
			t.partitions[base.TopicPartition{Topic: topic.Topic, Partition: p}] = struct{}{}
		}
	}
	return t, nil
}
