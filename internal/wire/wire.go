package wire

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Handler serves the requests of every connection of a Server.
type Handler interface {
	// Handle is phase one of a request. It runs on the connection's reading goroutine, so the requests of one
	// connection arrive here one after the other and in the order in which the client sent them; requests of
	// different connections arrive concurrently. It fixes the order of the request's effects and returns; waiting
	// belongs into the Pending.
	//
	// ctx ends when the connection is gone or the server closes it. An error closes the connection after the
	// answers of earlier requests have been sent; nothing is answered to req. A panic does the same and is logged
	// with its stack.
	Handle(ctx context.Context, req *Request) (Pending, error)
}

// Pending is phase two of a request: what is left to wait for before it can be answered.
type Pending interface {
	// Wait blocks until the answer is known. It runs on the connection's writing goroutine, in request order, and
	// is called exactly once for every Pending that Handle returned, also when the connection is already gone, so
	// it is the place to give back what the request holds.
	//
	// ctx ends when the connection goes away or when the server's shutdown has run out of time; context.Cause says
	// which (see CloseError). A nil Answer sends nothing (a produce with acks=0). An error closes the connection.
	Wait(ctx context.Context) (Answer, error)
}

// Prober is implemented by a Pending that knows without waiting whether its Wait would return at once. The writing
// goroutine sends what it has buffered before it calls the Wait of a Pending that is not known to be ready; a Pending
// that can say so spares pipelined answers a system call each.
type Prober interface {
	Ready() bool
}

// Forgetter is implemented by a Pending of an API that keeps nothing of a Request once the answer was written or Wait has failed. The Request
// is then used again for another, so that what comes for every batch does not allocate one each.
type Forgetter interface {
	Pending
	Forgets()
}

// Answer is the body of one response. wire writes the length, the correlation id and the header's tag byte.
type Answer interface {
	// BodySize returns the exact number of bytes that WriteBody is going to write. It is called once, before it.
	BodySize() int
	// WriteBody writes the body. It may be called at most once and may write in as many pieces as it likes; a body
	// is never assembled in memory by wire. Writing another number of bytes than BodySize closes the connection.
	WriteBody(w io.Writer) error
}

// PendingFunc is a function used as a Pending.
type PendingFunc func(ctx context.Context) (Answer, error)

// Wait calls f.
func (f PendingFunc) Wait(ctx context.Context) (Answer, error) { return f(ctx) }

// Ready returns a Pending whose answer is known already. Ready(nil) answers nothing.
func Ready(a Answer) Pending { return ready{a} }

type ready struct{ answer Answer }

func (r ready) Wait(context.Context) (Answer, error) { return r.answer, nil }
func (r ready) Ready() bool                          { return true }

// Request is one request as it came from a client: the parsed header, and the body's bytes.
type Request struct {
	// Key and Version are the API's number and the version of it that the client chose. Key is one that the protocol
	// knows; Version may be any number, and it is the handler that refuses what it does not serve.
	Key, Version int16
	// CorrelationID is the client's number for this request; wire puts it into the answer.
	CorrelationID int32
	// ClientID is the client's name for itself, empty where the client sent null.
	ClientID string
	// Body is what follows the request header. It is valid until Release, or until the answer has been written;
	// whoever keeps a part of it for longer copies that part.
	Body []byte
	// Conn is the connection that the request came on.
	Conn *Conn
	// Received is when the last byte of the request had arrived.
	Received time.Time
	// Size is the size of the whole frame in bytes, header included, without the length field.
	Size int

	frame    frame
	pending  Pending
	released atomic.Bool
	decoding int64 // bytes held of the server's decode budget; only the reading goroutine uses it
}

// requests holds empty ones, of a Forgetter.
var requests = sync.Pool{New: func() any { return new(Request) }}

// end gives back what the request holds after its answer, and the request itself if nobody can have it any more.
func (r *Request) end() {
	_, forgets := r.pending.(Forgetter)
	r.Release()
	if forgets {
		*r = Request{}
		requests.Put(r)
	}
}

// Release gives the memory of Body back before the answer is written, for a handler that has copied or finished with
// it. Body must not be used afterwards. Safe for concurrent use and safe to call twice.
func (r *Request) Release() {
	if r.released.CompareAndSwap(false, true) && r.frame.conn != nil {
		r.frame.release()
	}
}
