package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"time"
)

const (
	// writeBufferBytes collects small answers. A connection holds a buffer only while something is in it.
	writeBufferBytes = 32 << 10
	// directBytes is from where on a piece of an answer is not copied but sent along with the buffer.
	directBytes = 8 << 10
)

// connWriter buffers and sends answers. It is an io.Writer for the body of the answer that is being written.
type connWriter struct {
	conn   *Conn
	buf    *buffer // nil while empty
	used   int     // bytes of buf in use
	left   int     // bytes of the current body still to come
	armed  time.Time
	failed bool // nothing can be sent any more

	header   [9]byte
	vecSpace [2][]byte
	vec      net.Buffers
}

var errBodyTooLong = errors.New("body is longer than its size")

// answer writes one whole response: length, header, body.
func (w *connWriter) answer(req *Request, a Answer) error {
	body := a.BodySize()
	header := 4
	flexible := isFlexible(req.Key, req.Version) && req.Key != apiVersionsKey // that one's header is always version 0 (KIP-511)
	if flexible {
		header++
	}
	if body < 0 || int64(header)+int64(body) > math.MaxInt32 {
		return closeError(CloseByHandler, fmt.Errorf("%s v%d: answer of %d bytes", keyName(req.Key), req.Version, body))
	}
	binary.BigEndian.PutUint32(w.header[:], uint32(header+body))
	binary.BigEndian.PutUint32(w.header[4:], uint32(req.CorrelationID))
	if err := w.write(w.header[:4+header]); err != nil {
		return err
	}
	w.left = body
	if err := a.WriteBody(w); err != nil {
		return asCloseError(err, CloseByHandler)
	}
	if w.left > 0 {
		return closeError(CloseByHandler, fmt.Errorf("%s v%d: body is %d bytes shorter than its size", keyName(req.Key), req.Version, w.left))
	}
	w.conn.server.stats.answers.Add(1)
	return nil
}

// Write sends a piece of the current body.
func (w *connWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, closeError(CloseByHandler, errBodyTooLong)
	}
	if err := w.write(p); err != nil {
		return 0, err
	}
	w.left -= len(p)
	return len(p), nil
}

// write buffers p, or sends it along with what is buffered if it is long.
func (w *connWriter) write(p []byte) error {
	if w.failed {
		return closeError(CloseWriteFailed, io.ErrClosedPipe)
	}
	if len(p) >= directBytes {
		return w.send(p)
	}
	if w.buf == nil {
		w.buf = getBuffer(writeBufferBytes)
	}
	if len(p) > len(w.buf.b)-w.used {
		if err := w.send(nil); err != nil {
			return err
		}
		w.buf = getBuffer(writeBufferBytes)
	}
	w.used += copy(w.buf.b[w.used:], p)
	return nil
}

// flush sends what is buffered.
func (w *connWriter) flush() error {
	if w.failed || w.used == 0 {
		return nil
	}
	return w.send(nil)
}

// send writes the buffer and then p to the socket, in one system call where it can. A client that takes a byte now and
// then is waited for; one that takes none for Config.WriteTimeout is cut off.
func (w *connWriter) send(p []byte) error {
	defer w.drop()
	w.vec = w.vecSpace[:0]
	if w.used > 0 {
		w.vec = append(w.vec, w.buf.b[:w.used])
	}
	if len(p) > 0 {
		w.vec = append(w.vec, p)
	}
	for len(w.vec) > 0 {
		deadline := w.arm()
		var n int64
		var err error
		if len(w.vec) == 1 {
			var m int
			m, err = w.conn.raw.Write(w.vec[0])
			if n = int64(m); m == len(w.vec[0]) {
				w.vec = w.vec[:0]
			} else {
				w.vec[0] = w.vec[0][m:]
			}
		} else {
			n, err = w.vec.WriteTo(w.conn.raw) // consumes what it has written
		}
		w.conn.server.stats.bytesOut.Add(n)
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return closeError(CloseWriteFailed, err)
		case w.conn.forced.Load():
			return closeError(CloseShutdown, err)
		case n == 0 && !time.Now().Before(deadline):
			return closeError(CloseSlowReader, fmt.Errorf("no byte was accepted for %v", w.conn.server.cfg.WriteTimeout))
		}
	}
	return nil
}

// arm makes writes end after Config.WriteTimeout, or up to a quarter earlier: it spares setting the deadline each time.
func (w *connWriter) arm() time.Time {
	now, timeout := time.Now(), w.conn.server.cfg.WriteTimeout
	if w.armed.Sub(now) < timeout*3/4 {
		w.armed = now.Add(timeout)
		_ = w.conn.raw.SetWriteDeadline(w.armed) // fails only when closed, and then so does the write
		if w.conn.forced.Load() {
			_ = w.conn.raw.SetWriteDeadline(now.Add(forceGrace))
		}
	}
	return w.armed
}

// drop gives the buffer back.
func (w *connWriter) drop() {
	w.vecSpace, w.vec, w.used = [2][]byte{}, nil, 0
	if w.buf != nil {
		putBuffer(w.buf)
		w.buf = nil
	}
}

// fail makes everything that follows a no-op.
func (w *connWriter) fail() {
	w.failed = true
	w.drop()
}
