package txn

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ottlaio/ottla/internal/base"
)

// state is a state of a transactional id, numbered as in Kafka's records.
type state int8

const (
	empty          state = 0
	ongoing        state = 1
	prepareCommit  state = 2
	prepareAbort   state = 3
	completeCommit state = 4
	completeAbort  state = 5
)

var stateNames = map[state]string{
	empty: "Empty", ongoing: "Ongoing", prepareCommit: "PrepareCommit", prepareAbort: "PrepareAbort",
	completeCommit: "CompleteCommit", completeAbort: "CompleteAbort",
}

// String is Kafka's name of the state.
func (s state) String() string { return stateNames[s] }

// KnownState reports whether a name is that of a state that ListTransactions can be asked for.
func KnownState(name string) bool {
	return name == "Dead" || name == "PrepareEpochFence" || slices.Contains(slices.Collect(maps.Values(stateNames)), name)
}

// epochBumps is the transaction version from which on the epoch goes up with every transaction (KIP-890).
const epochBumps = 2

// transaction is a transactional id and its current or last transaction.
type transaction struct {
	id             string
	producerID     base.ProducerID
	prevProducerID base.ProducerID // before the last transition
	nextProducerID base.ProducerID // once the transaction is complete, where the epochs of producerID are used up
	epoch          base.ProducerEpoch
	timeout        int32 // ms
	state          state
	partitions     map[base.TopicPartition]struct{}
	started        int64 // ms, -1 without a transaction
	updated        int64 // ms
	version        int16 // transaction version of the client

	// lastEpoch is the epoch before the last InitProducerId of the same producer, which may come again. Not recorded.
	lastEpoch base.ProducerEpoch
}

// exhausted reports whether there is no further epoch that a producer may have: the last one is for fencing.
func exhausted(epoch base.ProducerEpoch) bool { return epoch >= math.MaxInt16-1 }

// next is t after a transition that begins nothing: a copy that may be changed.
func (t *transaction) next(now int64) transaction {
	n := *t
	n.prevProducerID, n.updated = t.producerID, now
	return n
}

// sorted lists the partitions by topic and number.
func (t *transaction) sorted() []base.TopicPartition {
	return slices.SortedFunc(maps.Keys(t.partitions), func(a, b base.TopicPartition) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// Sizes that stand for what the state takes in memory.
const (
	transactionOverhead = 512
	partitionOverhead   = 96
)

func (t *transaction) size() int64 {
	n := int64(transactionOverhead + 2*len(t.id))
	for p := range t.partitions {
		n += partitionSize(p)
	}
	return n
}

func partitionSize(p base.TopicPartition) int64 { return int64(partitionOverhead + len(p.Topic)) }
