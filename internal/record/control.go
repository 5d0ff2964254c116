package record

import (
	"encoding/binary"
	"fmt"
)

// ControlType is what a control record says.
type ControlType int16

// The control records of Kafka. The first two end a transaction (KIP-98); the rest belong to Kafka's own metadata log.
const (
	ControlAbort          ControlType = 0
	ControlCommit         ControlType = 1
	ControlLeaderChange   ControlType = 2
	ControlSnapshotHeader ControlType = 3
	ControlSnapshotFooter ControlType = 4
	ControlKRaftVersion   ControlType = 5
	ControlKRaftVoters    ControlType = 6
)

var controlNames = [...]string{
	ControlAbort: "ABORT", ControlCommit: "COMMIT", ControlLeaderChange: "LEADER_CHANGE",
	ControlSnapshotHeader: "SNAPSHOT_HEADER", ControlSnapshotFooter: "SNAPSHOT_FOOTER",
	ControlKRaftVersion: "KRAFT_VERSION", ControlKRaftVoters: "KRAFT_VOTERS",
}

// String is Kafka's name of the type.
func (t ControlType) String() string {
	if t >= 0 && int(t) < len(controlNames) {
		return controlNames[t]
	}
	return fmt.Sprintf("UNKNOWN(%d)", int16(t))
}

// ControlKey is the key of a control record: version, then type, two bytes each.
type ControlKey struct {
	Version int16
	Type    ControlType
}

// ParseControlKey reads the key of a control record. Bytes that a later version adds are ignored, as Kafka does, and a
// type unknown today is no error. Errors: ErrInvalidRecord.
func ParseControlKey(key []byte) (ControlKey, error) {
	if len(key) < 4 {
		return ControlKey{}, faultf(ErrInvalidRecord, "Invalid value size found for end control record key. Must have at least 4 bytes, but found only %d", len(key))
	}
	k := ControlKey{Version: int16(binary.BigEndian.Uint16(key)), Type: ControlType(binary.BigEndian.Uint16(key[2:]))}
	if k.Version < 0 {
		return ControlKey{}, faultf(ErrInvalidRecord, "Invalid version found for control record: %d. May indicate data corruption", k.Version)
	}
	return k, nil
}

// EndTxn is the value of an ABORT or COMMIT control record.
type EndTxn struct {
	Version          int16
	CoordinatorEpoch int32
}

// ParseEndTxn reads the value of an ABORT or COMMIT control record; later versions may add bytes. Errors: ErrInvalidRecord.
func ParseEndTxn(value []byte) (EndTxn, error) {
	if len(value) < 6 {
		return EndTxn{}, faultf(ErrInvalidRecord, "Invalid value size found for end transaction marker. Must have at least 6 bytes, but found only %d", len(value))
	}
	e := EndTxn{Version: int16(binary.BigEndian.Uint16(value)), CoordinatorEpoch: int32(binary.BigEndian.Uint32(value[2:]))}
	if e.Version < 0 {
		return EndTxn{}, faultf(ErrInvalidRecord, "Invalid version found for end transaction marker: %d. May indicate data corruption", e.Version)
	}
	return e, nil
}

// EndTxnMarker builds the control batch that ends a producer's transaction: one record, as Kafka's brokers write it. The timestamp is in
// milliseconds; producer.BaseSequence is of no account, since markers have none.
func EndTxnMarker(producer Producer, kind ControlType, coordinatorEpoch int32, timestamp int64) []byte {
	producer.BaseSequence = NoSequence
	b := NewBuilder(BuilderOptions{Producer: &producer, Transactional: true, Control: true})
	key, value := EndTxnRecord(kind, EndTxn{CoordinatorEpoch: coordinatorEpoch})
	b.Append(timestamp, key, value)
	return b.Build(0)
}

// EndTxnRecord is the control record of EndTxnMarker.
func EndTxnRecord(kind ControlType, end EndTxn) (key, value []byte) {
	key = binary.BigEndian.AppendUint16(make([]byte, 2, 4), uint16(kind))
	value = binary.BigEndian.AppendUint16(make([]byte, 0, 6), uint16(end.Version))
	return key, binary.BigEndian.AppendUint32(value, uint32(end.CoordinatorEpoch))
}
