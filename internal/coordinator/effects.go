package coordinator

import (
	"fmt"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
)

// Record is one record of an internal topic.
type Record struct {
	Offset        base.Offset
	Timestamp     int64 // ms
	ProducerID    base.ProducerID
	ProducerEpoch base.ProducerEpoch
	Transactional bool
	Control       bool // Key and Value are those of a control record
	Key, Value    []byte
}

// Timer names one timer of a state machine. Setting it anew moves it.
type Timer struct {
	Kind   uint8
	Group  string
	Member string
}

// Machine is the state of one partition and the rules by which it changes: no locks, no clock, no I/O. Its methods are called by
// one goroutine at a time.
type Machine interface {
	// Replay applies one record: one that was read from the log while loading, or one that the machine itself just handed to
	// Effects.Append. It keeps no reference to the record's bytes. A record that it cannot read is an error: it is counted and
	// logged, and skipped while loading.
	Replay(r Record) error
	// Loaded is called once, after the records of the log. It sets the timers that the loaded state needs.
	Loaded(fx *Effects)
	// Elapsed is called when a timer's time has come. The timer is not set any more.
	Elapsed(t Timer, fx *Effects)
}

// Effects is what one event does to the world outside of its state machine. A machine does not keep it.
type Effects struct {
	// Now is the time of the event.
	Now time.Time

	machine   Machine
	partition int32
	next      base.Offset // of the next record
	records   []Record
	bytes     int
	answered  []*call
	after     []func()
	timers    *timers
}

// NewEffects returns Effects for a machine that no runtime drives, as in tests of the machine alone. next is the offset of the
// first record that is appended.
func NewEffects(m Machine, now time.Time, next base.Offset) *Effects {
	return &Effects{Now: now, machine: m, next: next, timers: newTimers()}
}

// Append queues a record and applies it to the machine's state by Machine.Replay, before it returns.
func (fx *Effects) Append(key, value []byte) {
	fx.append(Record{ProducerID: base.NoProducerID, ProducerEpoch: base.NoProducerEpoch, Key: key, Value: value})
}

// AppendTxn is Append for a record of a producer's transaction.
func (fx *Effects) AppendTxn(id base.ProducerID, epoch base.ProducerEpoch, key, value []byte) {
	fx.append(Record{ProducerID: id, ProducerEpoch: epoch, Transactional: true, Key: key, Value: value})
}

// AppendMarker is Append for the control record that ends a producer's transaction in this partition.
func (fx *Effects) AppendMarker(id base.ProducerID, epoch base.ProducerEpoch, end record.EndTxn, commit bool) {
	kind := record.ControlAbort
	if commit {
		kind = record.ControlCommit
	}
	key, value := record.EndTxnRecord(kind, end)
	fx.append(Record{ProducerID: id, ProducerEpoch: epoch, Transactional: true, Control: true, Key: key, Value: value})
}

// After has f called by the event loop once everything that the event appends is in the log, in its order though not yet durable. f
// must not block. It is not called if the append fails.
func (fx *Effects) After(f func()) { fx.after = append(fx.after, f) }

func (fx *Effects) append(r Record) {
	r.Offset, r.Timestamp = fx.next, fx.Now.UnixMilli()
	if err := fx.machine.Replay(r); err != nil {
		panic(fmt.Sprintf("coordinator: a machine cannot replay its own record: %v", err))
	}
	fx.next++
	fx.bytes += len(r.Key) + len(r.Value) + recordOverhead
	fx.records = append(fx.records, r)
}

// SetTimer has Machine.Elapsed called after d, in place of any earlier setting of t.
func (fx *Effects) SetTimer(t Timer, d time.Duration) { fx.timers.set(t, fx.Now.Add(d)) }

// StartTimer is SetTimer for a timer that is not set yet; one that is set is left so.
func (fx *Effects) StartTimer(t Timer, d time.Duration) {
	if _, ok := fx.timers.byName[t]; !ok {
		fx.SetTimer(t, d)
	}
}

// CancelTimer undoes SetTimer; a timer that is not set is left so.
func (fx *Effects) CancelTimer(t Timer) { fx.timers.cancel(t) }

// Appended calls what After was given, as the event loop does. It is for tests of a machine alone.
func (fx *Effects) Appended() {
	for _, f := range fx.after {
		f()
	}
	fx.after = nil
}

// Records returns the records appended so far. It is for tests of a machine alone.
func (fx *Effects) Records() []Record { return fx.records }
