package group

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/record"
)

// Offsets that are committed in a transaction (KIP-98) are records of that transaction. They are pending until its marker comes: then they
// are committed, or forgotten. A producer's epoch fences those that come late.

const (
	// producerRetention is how long the epoch of a producer without pending offsets is remembered, to fence it.
	producerRetention = 24 * time.Hour
	producerOverhead  = 128
)

// offsetID names a committed offset.
type offsetID struct {
	group, topic string
	partition    int32
}

// pendingOffset is one that a transaction will commit.
type pendingOffset struct {
	committed
	at         base.Offset // of the record
	superseded bool        // by a later commit: the transaction's end does not bring it back
}

// txnProducer is a transactional producer, as far as this partition knows it.
type txnProducer struct {
	epoch            base.ProducerEpoch
	coordinatorEpoch int32
	heard            int64 // ms, timestamp of its last record
	ends             int64 // markers seen
	pending          map[offsetID]*pendingOffset
}

// Marker ends a producer's transaction in a partition of __consumer_offsets.
type Marker struct {
	ProducerID         base.ProducerID
	ProducerEpoch      base.ProducerEpoch
	Commit             bool
	CoordinatorEpoch   int32
	TransactionVersion int16
}

// TxnCommit is an offset commit of a transaction.
type TxnCommit struct {
	Request *kmsg.TxnOffsetCommitRequest
	Topics  []CommitTopic
	// Ends is what Machine.TxnEnds said before the transaction was verified; AnyEnds where the epoch alone tells transactions apart.
	Ends int64
}

// AnyEnds is the Ends of a client whose epoch goes up with each transaction (KIP-890).
const AnyEnds int64 = -1

// TxnEnds is the number of transactions of a producer that have ended here, to be given to CommitTxnOffsets: one that ended in between
// is noticed.
func (m *Machine) TxnEnds(id base.ProducerID) int64 {
	if p := m.producers[id]; p != nil {
		return p.ends
	}
	return 0
}

// CommitTxnOffsets handles TxnOffsetCommit v0–5 for topics and partitions that exist, once the transaction coordinator knows that the group
// is part of the transaction. It returns the code of each partition, in order. Members are checked from v3 on (KIP-447).
func (m *Machine) CommitTxnOffsets(fx *coordinator.Effects, c TxnCommit) ([][]int16, *kerr.Error) {
	req := c.Request
	id, epoch := base.ProducerID(req.ProducerID), base.ProducerEpoch(req.ProducerEpoch)
	if p := m.producers[id]; p != nil && epoch < p.epoch {
		return nil, kerr.InvalidProducerEpoch
	}
	if c.Ends != AnyEnds && c.Ends != m.TxnEnds(id) {
		return nil, kerr.InvalidTxnState
	}
	by := committer{member: req.MemberID, instance: req.InstanceID, epoch: req.Generation, version: req.Version, transactional: true}
	switch err := m.allowed(req.Group, by, c.Topics); err {
	case nil:
	case kerr.StaleMemberEpoch: // TxnOffsetCommit has no code for it
		return nil, kerr.IllegalGeneration
	default:
		return nil, err
	}
	now := fx.Now.UnixMilli()
	codes := make([][]int16, len(c.Topics))
	for i, t := range c.Topics {
		codes[i] = make([]int16, len(t.Partitions))
		for j, p := range t.Partitions {
			o := committed{
				offset: base.Offset(p.Offset), leaderEpoch: base.LeaderEpoch(p.LeaderEpoch), metadata: deref(p.Metadata),
				at: now, expire: base.NoTimestamp, topicID: t.ID,
			}
			if req.Version < 2 {
				o.leaderEpoch = base.NoLeaderEpoch
			}
			switch {
			case javaLength(o.metadata) > m.env.Config.OffsetMetadataMaxBytes:
				codes[i][j] = kerr.OffsetMetadataTooLarge.Code
			case m.env.Budget.full(o.size()):
				codes[i][j] = kerr.CoordinatorNotAvailable.Code
			default:
				fx.AppendTxn(id, epoch, offsetKey(req.Group, t.Name, p.Partition), encodeOffset(&o))
			}
		}
	}
	return codes, nil
}

// EndTxn writes the marker that ends a producer's transaction here. Refusals are those of a partition: see storage.AppendMarker.
func (m *Machine) EndTxn(fx *coordinator.Effects, k Marker) *kerr.Error {
	if p := m.producers[k.ProducerID]; p != nil {
		switch {
		case k.ProducerEpoch < p.epoch, k.TransactionVersion >= 2 && k.ProducerEpoch == p.epoch && len(p.pending) > 0:
			return kerr.InvalidProducerEpoch
		case k.CoordinatorEpoch < p.coordinatorEpoch:
			return kerr.TransactionCoordinatorFenced
		}
	}
	fx.AppendMarker(k.ProducerID, k.ProducerEpoch, record.EndTxn{CoordinatorEpoch: k.CoordinatorEpoch}, k.Commit)
	return nil
}

// producer finds what is known of a producer, which may be nothing yet.
func (m *Machine) producer(id base.ProducerID) *txnProducer {
	p := m.producers[id]
	if p == nil {
		p = &txnProducer{epoch: base.NoProducerEpoch, coordinatorEpoch: -1, pending: map[offsetID]*pendingOffset{}}
		m.producers[id] = p
		m.use(producerOverhead)
	}
	return p
}

// replayPending takes an offset of a transaction.
func (m *Machine) replayPending(r coordinator.Record, id offsetID, c *committed) {
	p := m.producer(r.ProducerID)
	p.epoch, p.heard = r.ProducerEpoch, r.Timestamp
	m.dropPending(p, id)
	if c == nil {
		return
	}
	p.pending[id] = &pendingOffset{committed: *c, at: r.Offset}
	m.unstable[id]++
	m.use(2 * c.size())
}

func (m *Machine) dropPending(p *txnProducer, id offsetID) {
	o := p.pending[id]
	if o == nil {
		return
	}
	delete(p.pending, id)
	m.use(-2 * o.size())
	if m.unstable[id]--; m.unstable[id] == 0 {
		delete(m.unstable, id)
	}
}

// replayMarker ends a transaction. A control record of another kind says nothing here.
func (m *Machine) replayMarker(r coordinator.Record) error {
	key, err := record.ParseControlKey(r.Key)
	if err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	if key.Type != record.ControlCommit && key.Type != record.ControlAbort {
		return nil
	}
	end, err := record.ParseEndTxn(r.Value)
	if err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	p := m.producer(r.ProducerID)
	p.epoch, p.coordinatorEpoch, p.heard = r.ProducerEpoch, end.CoordinatorEpoch, r.Timestamp
	p.ends++
	for id, o := range p.pending {
		m.dropPending(p, id)
		if key.Type == record.ControlCommit && !o.superseded {
			m.supersede(id, o.at)
			m.setOffset(id, o.committed)
		}
	}
	return nil
}

// supersede marks what transactions have pending for an offset and was written before at.
func (m *Machine) supersede(id offsetID, at base.Offset) {
	if m.unstable[id] == 0 {
		return
	}
	for _, p := range m.producers {
		if o := p.pending[id]; o != nil && o.at < at {
			o.superseded = true
		}
	}
}

// hasPending reports whether a transaction has offsets of a group pending.
func (m *Machine) hasPending(group string) bool {
	for id := range m.unstable {
		if id.group == group {
			return true
		}
	}
	return false
}

// forgetProducers drops the epochs of producers that have not been heard of for long.
func (m *Machine) forgetProducers(now int64) {
	for id, p := range m.producers {
		if len(p.pending) == 0 && now-p.heard >= producerRetention.Milliseconds() {
			delete(m.producers, id)
			m.use(-producerOverhead)
		}
	}
}

// Types of records that are in snapshots only, never in the log: what transactions leave open.
const (
	snapshotProducer = 0x7ffe
	snapshotPending  = 0x7fff

	snapshotProducerKey   = 2 + 8
	snapshotProducerValue = 2 + 4 + 8 + 8
	snapshotPendingKey    = 2 + 8 + 8 + 1
)

// snapshotTxns is the part of Snapshot that says what is known of producers.
func (m *Machine) snapshotTxns(emit func(key, value []byte)) {
	for _, id := range slices.Sorted(maps.Keys(m.producers)) {
		p := m.producers[id]
		key := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(nil, snapshotProducer), uint64(id))
		value := binary.BigEndian.AppendUint16(nil, uint16(p.epoch))
		value = binary.BigEndian.AppendUint32(value, uint32(p.coordinatorEpoch))
		value = binary.BigEndian.AppendUint64(value, uint64(p.heard))
		value = binary.BigEndian.AppendUint64(value, uint64(p.ends))
		emit(key, value)
		for at, o := range p.pending {
			key := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(nil, snapshotPending), uint64(id))
			key = binary.BigEndian.AppendUint64(key, uint64(o.at))
			superseded := byte(0)
			if o.superseded {
				superseded = 1
			}
			emit(append(append(key, superseded), offsetKey(at.group, at.topic, at.partition)...), encodeOffset(&o.committed))
		}
	}
}

// replaySnapshotTxn reads what snapshotTxns wrote; ok is false for any other record.
func (m *Machine) replaySnapshotTxn(t int16, r coordinator.Record) (ok bool, err error) {
	switch {
	case t == snapshotProducer && len(r.Key) == snapshotProducerKey && len(r.Value) == snapshotProducerValue:
		p := m.producer(base.ProducerID(binary.BigEndian.Uint64(r.Key[2:])))
		p.epoch, p.coordinatorEpoch = base.ProducerEpoch(binary.BigEndian.Uint16(r.Value)), int32(binary.BigEndian.Uint32(r.Value[2:]))
		p.heard, p.ends = int64(binary.BigEndian.Uint64(r.Value[6:])), int64(binary.BigEndian.Uint64(r.Value[14:]))
		return true, nil
	case t == snapshotPending && len(r.Key) > snapshotPendingKey:
		p := m.producer(base.ProducerID(binary.BigEndian.Uint64(r.Key[2:])))
		id, c, err := parseOffset(r.Key[snapshotPendingKey:], r.Value)
		if err != nil || c == nil {
			return true, fmt.Errorf("%w: pending offset: %w", errRecord, err)
		}
		r.ProducerID, r.ProducerEpoch, r.Timestamp = base.ProducerID(binary.BigEndian.Uint64(r.Key[2:])), p.epoch, p.heard
		r.Offset = base.Offset(binary.BigEndian.Uint64(r.Key[10:]))
		superseded := r.Key[18] != 0
		m.replayPending(r, id, c)
		p.pending[id].superseded = superseded
		return true, nil
	}
	return false, nil
}
