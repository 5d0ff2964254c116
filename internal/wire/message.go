package wire

import (
	"io"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// message is a kmsg response as an Answer.
type message struct {
	response kmsg.Response
	Encoded
}

// Message returns an Answer that encodes m, whose version the handler has set to the request's. It is encoded when it
// is its turn to be sent, so m must not be changed once the Answer was returned.
func Message(m kmsg.Response) Answer { return &message{response: m} }

// lastSizes are the sizes of the last answers of each API, by which memory is taken for the next: growing into a large one would copy it
// several times.
var lastSizes [kmsg.MaxKey + 1]atomic.Int32

// BodySize encodes the message.
func (a *message) BodySize() int {
	last := &lastSizes[min(max(a.response.Key(), 0), kmsg.MaxKey)]
	size := a.encode(int(last.Load()), a.response.AppendTo)
	last.Store(int32(min(size, maxPooledBytes)))
	return size
}

// Encoded holds the body of an answer in pooled memory between BodySize and WriteBody.
type Encoded struct{ buf *buffer }

// Encode has appendTo append the body and returns its size.
func (e *Encoded) Encode(appendTo func(dst []byte) []byte) int { return e.encode(0, appendTo) }

// encode is Encode for a body of about size bytes.
func (e *Encoded) encode(size int, appendTo func(dst []byte) []byte) int {
	e.buf = getBuffer(max(minBufferBytes, size))
	e.buf.b = appendTo(e.buf.b[:0])
	return len(e.buf.b)
}

// WriteBody writes what Encode encoded, and gives its memory back.
func (e *Encoded) WriteBody(w io.Writer) error {
	_, err := w.Write(e.buf.b)
	putBuffer(e.buf)
	e.buf = nil
	return err
}
