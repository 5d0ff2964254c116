package coordinator

import (
	"context"
	"sync/atomic"

	"github.com/ottlaio/ottla/internal/plant"
)

// Call is a request on its way through a runtime, and its answer. It is made when the request is queued, which fixes the
// request's place among the others; Wait may follow at any time, once.
type Call[A any] struct {
	answer A
	call
}

// call is what the runtime knows of a Call of any type.
type call struct {
	done  chan struct{} // closed once the fields below are set
	taken atomic.Bool   // by whoever sets them
	err   error         // instead of an answer
	token Token         // what the answer rests on
	term  *term         // the life of the state that answered; nil for an error
}

func newCall[A any]() *Call[A] { return &Call[A]{call: call{done: make(chan struct{})}} }

// Answered returns a call that was refused or answered without the state of any partition.
func Answered[A any](a A, err error) *Call[A] {
	c := newCall[A]()
	c.answer = a
	c.fail(err)
	return c
}

// Answer gives the call its answer. It leaves once all that the state machine's state consists of at the end of this event is
// durable. A second answer is ignored.
func (c *Call[A]) Answer(fx *Effects, a A) {
	if c == nil || !c.taken.CompareAndSwap(false, true) {
		return
	}
	c.answer = a
	fx.answered = append(fx.answered, &c.call)
}

// Wait returns the answer once everything that it rests on is durable. A caller that gives up (ctx) does not undo what the
// request did. Errors: ErrNotCoordinator, ErrLoading, ErrUnavailable, ErrClosed, ctx's.
func (c *Call[A]) Wait(ctx context.Context) (A, error) {
	var none A
	select {
	case <-c.done:
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
	if c.err != nil {
		return none, c.err
	}
	if c.term != nil && !plant.On(plant.AnswerEarly) {
		if err := c.term.wait(ctx, c.token); err != nil {
			return none, err
		}
	}
	return c.answer, nil
}

// Applied is Wait without waiting for durability: what the answer rests on is in the log, and whatever is appended anywhere in the same
// wal from now on becomes durable no earlier. It is for steps inside the broker, and for no answer to a client.
func (c *Call[A]) Applied(ctx context.Context) (A, error) {
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		var none A
		return none, context.Cause(ctx)
	}
}

// Done is closed once the call has an answer, durable or not, or failed.
func (c *Call[A]) Done() <-chan struct{} { return c.done }

// fail ends the call with err, if nothing ended it before.
func (c *call) fail(err error) {
	if c.taken.CompareAndSwap(false, true) {
		c.abandon(err)
	}
}

// abandon ends with err a call that is taken but not completed.
func (c *call) abandon(err error) {
	c.err = err
	close(c.done)
}

// complete lets a taken call's answer go as soon as token is durable.
func (c *call) complete(t *term, token Token) {
	c.term, c.token = t, token
	close(c.done)
}
