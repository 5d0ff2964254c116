package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/ottlaio/ottla/internal/plant"
)

const (
	// eagerBytes is the piece of a frame that is reserved before any of its bytes are there.
	eagerBytes = 64 << 10
	// trustedBytes is how much that grows for a connection that has sent frames of such a size in full.
	trustedBytes = 2 << 20
)

// frame is the memory of one request, reserved from the server's budget and its connection's count.
type frame struct {
	conn *Conn
	buf  *buffer
	held int64 // bytes reserved from the server's budget
	size int64 // bytes counted on the connection
}

// release gives everything back. It must be called once.
func (f *frame) release() {
	c := f.conn
	if f.buf != nil {
		putBuffer(f.buf)
		f.buf = nil
	}
	if !plant.On(plant.FrameMemoryKept) {
		c.server.frames.give(f, f.held, true)
	}
	f.held = 0
	c.releaseBytes(f.size)
}

// resize replaces the buffer by one of n bytes and keeps what has arrived.
func (f *frame) resize(n int) error {
	s := f.conn.server
	size, _ := bufferClass(n)
	if err := s.frames.take(f, int64(size), s.cfg.BudgetTimeout, f.conn.done, s.draining); err != nil {
		return err
	}
	buf := getBuffer(n)
	if old := f.buf; old != nil {
		copy(buf.b, old.b)
		putBuffer(old)
		s.frames.give(f, f.held, false)
	}
	f.buf, f.held = buf, int64(size)
	return nil
}

// readLength waits for the next frame and returns its length.
func (c *Conn) readLength() (int, error) {
	if err := c.awaitFrame(); err != nil {
		return 0, err
	}
	c.clock = frameClock{start: time.Now()}
	if err := c.readFull(c.length[:]); err != nil {
		return 0, err
	}
	n := int32(binary.BigEndian.Uint32(c.length[:]))
	limit := c.server.cfg.MaxRequestBytes
	if !c.LoggedIn() {
		limit = min(limit, c.server.cfg.PreAuthBytes)
	}
	switch {
	case n < minFrameBytes:
		return 0, closeError(CloseBadFrame, fmt.Errorf("frame of %d bytes", n))
	case int(n) > limit:
		return 0, closeError(CloseFrameTooLarge, fmt.Errorf("frame of %d bytes, at most %d are allowed%s", n, limit, guess(c.length)))
	}
	return int(n), nil
}

// guess names protocols that are not Kafka's by the four bytes that stand for the length, for whoever reads the log.
func guess(length [4]byte) string {
	switch string(length[:]) {
	case "GET ", "POST", "PUT ", "HEAD", "OPTI", "CONN":
		return ": it looks like HTTP"
	}
	if length[0] == 0x16 && length[1] == 3 {
		return ": it looks like TLS, which this listener does not speak"
	}
	return ""
}

// readFrame reads the n bytes of a frame into f, whose memory grows as they arrive.
func (c *Conn) readFrame(f *frame, n int) error {
	if err := c.reserveBytes(int64(n)); err != nil {
		return err
	}
	f.conn, f.size = c, int64(n)
	c.clock = frameClock{start: time.Now()}
	piece := min(n, max(eagerBytes, c.trusted))
	if piece > eagerBytes && c.server.frames.crowded() {
		piece = eagerBytes
	}
	for have := 0; have < n; piece = min(n, 2*piece) {
		began := time.Now()
		if err := f.resize(piece); err != nil {
			return budgetCloseError(err)
		}
		c.clock.start = c.clock.start.Add(time.Since(began)) // waiting for us is not the client's fault
		if err := c.readFull(f.buf.b[have:piece]); err != nil {
			return err
		}
		have = piece
	}
	c.trusted = max(c.trusted, min(n, trustedBytes))
	return nil
}

// frameClock says by when more of a frame has to be there.
type frameClock struct {
	start    time.Time
	received int64
}

// deadline lets a client pause for cfg.FrameTimeout at most, and be cfg.MinReadRate slow after that head start.
func (k *frameClock) deadline(now time.Time, cfg *Config) time.Time {
	earned := time.Duration(float64(k.received) / float64(cfg.MinReadRate) * float64(time.Second))
	byRate := k.start.Add(cfg.FrameTimeout + earned)
	if byPause := now.Add(cfg.FrameTimeout); byPause.Before(byRate) {
		return byPause
	}
	return byRate
}

// readFull fills p with the next bytes of a frame.
func (c *Conn) readFull(p []byte) error {
	clock := &c.clock
	now := time.Now()
	deadline := clock.deadline(now, &c.server.cfg)
	for len(p) > 0 {
		if c.reader.Buffered() == 0 {
			c.armRead(now, deadline)
		}
		n, err := c.reader.Read(p)
		p = p[n:]
		clock.received += int64(n)
		c.server.stats.bytesIn.Add(int64(n))
		if len(p) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			if errors.Is(err, io.EOF) {
				return closeError(CloseHalfFrame, io.ErrUnexpectedEOF)
			}
			return closeError(CloseReadFailed, err)
		}
		now = time.Now()
		if c.isDraining() {
			return closeError(CloseShutdown, nil)
		}
		if n > 0 {
			deadline = clock.deadline(now, &c.server.cfg)
		} else if !now.Before(deadline) {
			return closeError(CloseSlowFrame, fmt.Errorf("%d bytes of a frame in %v", clock.received, now.Sub(clock.start).Round(time.Millisecond)))
		}
	}
	return nil
}

// awaitFrame returns when there is a byte to read, or with the reason why there will be none.
func (c *Conn) awaitFrame() error {
	for c.reader.Buffered() == 0 {
		if c.isDraining() {
			return closeError(CloseShutdown, nil)
		}
		now, idle := time.Now(), c.server.cfg.IdleTimeout
		deadline := now.Add(math.MaxInt32 * time.Second)
		if idle > 0 {
			deadline = time.Unix(0, c.lastActive.Load()).Add(idle)
			if !now.Before(deadline) {
				if len(c.slots) <= 1 { // only the slot that is ready for the frame to come
					return closeError(CloseIdle, nil)
				}
				deadline = now.Add(idle)
			}
		}
		c.armRead(now, deadline)
		_, err := c.reader.Peek(1)
		switch {
		case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, io.EOF):
			return closeError(CloseByClient, nil)
		default:
			return closeError(CloseReadFailed, err)
		}
	}
	return nil
}

// armRead sees to it that a read ends at deadline at the latest. It may end earlier, at a deadline armed before, and
// the caller looks at the clock anyway: so the deadline is hardly ever set.
func (c *Conn) armRead(now, deadline time.Time) {
	if c.readArmed.After(now) && !c.readArmed.After(deadline) {
		return
	}
	c.readArmed = deadline
	_ = c.raw.SetReadDeadline(deadline) // fails only when closed, and then so does the read
	if c.isDraining() {
		_ = c.raw.SetReadDeadline(longAgo)
	}
}

// longAgo as a deadline ends what is being waited for.
var longAgo = time.Unix(1, 0)
