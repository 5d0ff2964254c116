package share

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
)

// AckType is what a member says of a record. The numbers are the protocol's.
type AckType int8

// What a member may say.
const (
	Gap     AckType = 0 // there is no such record
	Accept  AckType = 1 // it was processed
	Release AckType = 2 // it was not: somebody else may try
	Reject  AckType = 3 // it cannot be processed
	Renew   AckType = 4 // it takes longer (KIP-1222)
)

// AckBatch is what a member says of consecutive records: one type for all of them, or one for each.
type AckBatch struct {
	First, Last base.Offset
	Types       []AckType
}

// at is what the batch says of one of its offsets.
func (b AckBatch) at(offset base.Offset) AckType {
	if len(b.Types) == 1 {
		return b.Types[0]
	}
	return b.Types[offset-b.First]
}

// Errors of acknowledgements.
var (
	ErrInvalidAck         = errors.New("invalid acknowledgement")
	ErrInvalidRecordState = errors.New("the record is not with the member")
	ErrRenewDisabled      = errors.New("renewing acquisition locks is not enabled for the group")
)

// AckError is why an acknowledgement was not carried out: one of the errors above, in the words that the member is told, which are Kafka's.
type AckError struct {
	Err  error
	Text string
}

func (e *AckError) Error() string { return e.Text }

// Unwrap returns the error that it is.
func (e *AckError) Unwrap() error { return e.Err }

// CheckAcks says whether batches are such as the protocol allows: in order, with as many types as they need, and Renew only if renew is
// set. ErrInvalidAck.
func CheckAcks(batches []AckBatch, renew bool) error {
	last := base.Offset(0)
	for _, b := range batches {
		n := int64(b.Last-b.First) + 1
		switch {
		case b.First < last || b.Last < b.First:
			return fmt.Errorf("%w: offsets %d to %d", ErrInvalidAck, b.First, b.Last)
		case len(b.Types) != 1 && int64(len(b.Types)) != n:
			return fmt.Errorf("%w: %d types for %d offsets", ErrInvalidAck, len(b.Types), n)
		}
		for _, t := range b.Types {
			if t < Gap || t > Renew || t == Renew && !renew {
				return fmt.Errorf("%w: type %d", ErrInvalidAck, t)
			}
		}
		last = b.Last
	}
	return nil
}

// Acknowledge carries out what a member says of records that it has; batches are such as CheckAcks allows. What lies before the start
// is finished already and left so. If anything is wrong with one of the batches then nothing is carried out: ErrInvalidRecordState,
// ErrInvalidAck, ErrRenewDisabled.
func (p *Partition) Acknowledge(now time.Time, s Settings, member string, batches []AckBatch) error {
	for i, b := range batches {
		if i > 0 && b.First == batches[i-1].Last { // CheckAcks allows that, as Kafka does
			return &AckError{ErrInvalidRecordState, notAcquired}
		}
		if err := p.checkAck(s, member, b); err != nil {
			return err
		}
	}
	until := now.Add(s.LockDuration)
	for _, b := range batches {
		// A run of equal types is carried out at once.
		for first := max(b.First, p.start); first <= b.Last; {
			t, last := b.at(first), first
			for last < b.Last && (len(b.Types) == 1 || b.at(last+1) == t) {
				if last++; len(b.Types) == 1 {
					last = b.Last
				}
			}
			p.transform(first, last, func(r run) run { return acknowledged(r, t, until, s) })
			first = last + 1
		}
	}
	p.advance()
	return nil
}

const notAcquired = "The offset cannot be acknowledged. The offset is not acquired."

// checkAck says whether the member has the records of a batch.
func (p *Partition) checkAck(s Settings, member string, b AckBatch) error {
	switch {
	case !s.Renewable && slices.Contains(b.Types, Renew):
		return &AckError{ErrRenewDisabled, "Renewing acquisition locks is not enabled for the group."}
	case b.Last < p.start:
		return nil
	case p.Window() == 0:
		return &AckError{ErrInvalidRecordState, "Batch record not found. The request batch offsets are not found in the cache."}
	case b.First >= p.end:
		return &AckError{ErrInvalidAck, "Batch record not found. The first offset in request is past acquired records."}
	case b.Last >= p.end:
		return &AckError{ErrInvalidAck, "Batch record not found. The last offset in request is past acquired records."}
	}
	for i := p.find(max(b.First, p.start)); i < len(p.runs) && p.runs[i].first <= b.Last; i++ {
		switch r := p.runs[i]; {
		case r.state != Acquired:
			return &AckError{ErrInvalidRecordState, notAcquired}
		case r.member != member && !plant.On(plant.AckNotOwned):
			return &AckError{ErrInvalidRecordState, "Member is not the owner of offset"}
		}
	}
	return nil
}

// acknowledged is an acquired run after its member's word.
func acknowledged(r run, t AckType, until time.Time, s Settings) run {
	switch t {
	case Renew:
		r.lockedUntil = until
		return r
	case Release:
		return released(r, s)
	case Accept:
		r.state = Acknowledged
	default:
		r.state = Archived
	}
	r.member, r.lockedUntil = "", time.Time{}
	return r
}
