package wire

import (
	"io"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// message is a kmsg response as an Answer.
type message struct {
	response kmsg.Response
	buf      *buffer
}

// Message returns an Answer that encodes m, whose version the handler has set to the request's. It is encoded when it
// is its turn to be sent, so m must not be changed once the Answer was returned.
func Message(m kmsg.Response) Answer { return &message{response: m} }

// BodySize encodes the message into pooled memory.
func (a *message) BodySize() int {
	a.buf = getBuffer(minBufferBytes)
	a.buf.b = a.response.AppendTo(a.buf.b[:0])
	return len(a.buf.b)
}

// WriteBody writes what BodySize encoded.
func (a *message) WriteBody(w io.Writer) error {
	_, err := w.Write(a.buf.b)
	putBuffer(a.buf)
	a.buf = nil
	return err
}
