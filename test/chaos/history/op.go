package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Outcome is what a process knows of an operation when it goes on to the next.
type Outcome string

// The outcomes.
const (
	OK   Outcome = "ok"   // acknowledged; of a transaction: its commit
	Fail Outcome = "fail" // certainly without effect; of a transaction: its abort
	Info Outcome = "info" // unknown
)

// Op is one operation of a process: some steps on their own, or a transaction of them. Times are nanoseconds on one clock for the
// whole history.
type Op struct {
	Process     int     `json:"process"`
	Outcome     Outcome `json:"outcome"`
	Start       int64   `json:"start"`
	End         int64   `json:"end"`
	Transaction bool    `json:"transaction,omitempty"`
	// CommitStart is when a transaction asked for its commit; 0 if it never did.
	CommitStart int64 `json:"commitStart,omitempty"`
	// Group is the consumer group that the operation polls for or commits to.
	Group string `json:"group,omitempty"`
	// Moved says that partitions or positions of the process changed since its last operation.
	Moved bool   `json:"moved,omitempty"`
	Steps []Step `json:"steps"`
}

// Action is what a step does.
type Action string

// The actions.
const (
	Send   Action = "send"   // Records were sent, in this order
	Poll   Action = "poll"   // Records were returned, in this order
	Commit Action = "commit" // Records hold the offsets to go on from; values have no meaning

	Deliver Action = "deliver" // Records were delivered to a member of a share group
	Accept  Action = "accept"  // the member accepted Records
)

// Step is one call of a client.
type Step struct {
	Action  Action   `json:"action"`
	Records []Record `json:"records"`
}

// UnknownOffset is the offset of a record whose send was not acknowledged.
const UnknownOffset = -1

// Record is one record of a partition.
type Record struct {
	Partition string `json:"partition"` // topic and number, or any other name that is the partition's own
	Offset    int64  `json:"offset"`
	Value     int64  `json:"value"` // of its send alone in the whole history
}

func (r Record) String() string { return fmt.Sprintf("%d at %s/%d", r.Value, r.Partition, r.Offset) }

func (o *Op) String() string {
	kind := "operation"
	if o.Transaction {
		kind = "transaction"
	}
	return fmt.Sprintf("%s of process %d at %.3f s (%s)", kind, o.Process, float64(o.Start)/1e9, o.Outcome)
}

// Records returns the records of all steps that do action.
func (o *Op) records(action Action) []Record {
	var all []Record
	for _, s := range o.Steps {
		if s.Action == action {
			all = append(all, s.Records...)
		}
	}
	return all
}

// given returns the records that the operation polled or that were delivered to it.
func (o *Op) given() []Record { return append(o.records(Poll), o.records(Deliver)...) }

// Write writes a history as JSON, one operation a line.
func Write(w io.Writer, ops []Op) error {
	buffered := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffered)
	for i := range ops {
		if err := encoder.Encode(&ops[i]); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// Read reads what Write wrote. A line that is no operation is an error that names it.
func Read(r io.Reader) ([]Op, error) {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	var ops []Op
	for {
		var op Op
		switch err := decoder.Decode(&op); {
		case err == io.EOF:
			return ops, nil
		case err != nil:
			return nil, fmt.Errorf("operation %d: %w", len(ops)+1, err)
		}
		ops = append(ops, op)
	}
}
