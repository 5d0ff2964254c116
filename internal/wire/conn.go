package wire

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// readBufferBytes is held by every connection, so it is small; longer reads go past it.
const readBufferBytes = 4 << 10

// forceGrace is how long the last answers may take to leave when a shutdown has run out of time.
const forceGrace = 500 * time.Millisecond

// Conn is one client connection. Its exported methods are safe for concurrent use.
//
// Two goroutines serve it: the reading one reads frames and calls Handle, the writing one calls Wait and sends the
// answers. The requests between them are in queue; slots counts those and the one that is being read.
type Conn struct {
	id       uint64
	listener ListenerInfo
	opened   time.Time
	raw      net.Conn
	server   *Server
	done     <-chan struct{} // closed when the contexts of Handle and Wait end
	cancel   context.CancelCauseFunc

	queue chan *Request
	slots chan struct{}

	// Only the reading goroutine uses these.
	reader       *bufio.Reader
	readArmed    time.Time
	clock        frameClock
	length       [4]byte
	trusted      int // length of the longest frame that came in full, at most trustedBytes
	lastClientID string

	writer connWriter // only the writing goroutine uses it

	lastActive atomic.Int64 // UnixNano
	forced     atomic.Bool  // shutdown has run out of time

	bytesMu   sync.Mutex // guards the fields below
	bytesHeld int64
	bytesFree chan struct{} // closed when bytes were released, nil if nobody waits

	mu          sync.Mutex // guards the fields below
	closeReason *CloseError
	principal   string
	loggedIn    bool
	software    [2]string
	session     map[any]any
}

// Anonymous is the principal of a connection that has not logged in, as Kafka names it.
const Anonymous = "User:ANONYMOUS"

func newConn(s *Server, nc net.Conn, info ListenerInfo, id uint64) *Conn {
	now := time.Now()
	c := &Conn{
		id: id, listener: info, opened: now, raw: nc, server: s,
		queue:     make(chan *Request, s.cfg.MaxInFlightPerConn),
		slots:     make(chan struct{}, s.cfg.MaxInFlightPerConn),
		reader:    bufio.NewReaderSize(nc, readBufferBytes),
		principal: Anonymous,
		loggedIn:  !info.RequiresLogin,
	}
	c.lastActive.Store(now.UnixNano())
	c.writer.conn = c
	return c
}

// serve runs the connection to its end. parent is the context of Serve; ctx, made from it, the connection's own.
func (c *Conn) serve(parent, ctx context.Context) {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true) // the default of Go, but the latency of every answer depends on it
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4})
	}
	// If the context of Serve ends, nobody waits for answers any more.
	var aborted sync.WaitGroup
	aborted.Add(1)
	stop := context.AfterFunc(parent, func() {
		defer aborted.Done()
		c.force(forceGrace)
	})

	var writing sync.WaitGroup
	writing.Go(func() { c.writeLoop(ctx) })
	err := c.readLoop(ctx)
	c.noteClose(err)
	switch err.Reason {
	case CloseShutdown, CloseByHandler, ClosePanic, CloseBadFrame, CloseFrameTooLarge:
		// What came before is answered.
	default:
		c.cancel(err)
	}
	close(c.queue)
	writing.Wait()

	c.cancel(err)
	if stop() {
		aborted.Done()
	}
	aborted.Wait()
	_ = c.raw.Close() // every error that matters has been seen by a read or a write
}

// readLoop reads requests and hands them over, one after the other, and returns why it stopped.
func (c *Conn) readLoop(ctx context.Context) *CloseError {
	for {
		select {
		case c.slots <- struct{}{}:
		case <-c.server.draining:
			return &CloseError{Reason: CloseShutdown}
		case <-c.done:
			return asCloseError(context.Cause(ctx), CloseShutdown)
		}
		req, err := c.readRequest()
		if err != nil {
			return asCloseError(err, CloseReadFailed)
		}
		req.pending, err = c.handle(ctx, req)
		if req.decoding > 0 {
			c.server.decoding.give(nil, req.decoding, true)
			req.decoding = 0
		}
		if err != nil {
			req.Release()
			return asCloseError(err, CloseByHandler)
		}
		c.queue <- req // never blocks: it holds as many as there are slots
	}
}

// readRequest reads one frame and parses its header.
func (c *Conn) readRequest() (*Request, error) {
	n, err := c.readLength()
	if err != nil {
		return nil, err
	}
	req := requests.Get().(*Request)
	req.Conn, req.Size = c, n
	if err := c.readFrame(&req.frame, n); err != nil {
		if req.frame.conn != nil {
			req.Release()
		}
		return nil, err
	}
	h, body, err := parseHeader(req.frame.buf.b)
	if err != nil {
		req.Release()
		return nil, closeError(CloseBadFrame, err)
	}
	if string(h.clientID) != c.lastClientID { // compares without allocating
		c.lastClientID = string(h.clientID)
	}
	req.Key, req.Version, req.CorrelationID, req.ClientID = h.key, h.version, h.correlationID, c.lastClientID
	req.Body, req.Received = body, time.Now()
	c.lastActive.Store(req.Received.UnixNano())
	c.server.stats.requests.Add(1)
	return req, nil
}

// handle calls the handler and turns a panic into an error.
func (c *Conn) handle(ctx context.Context, req *Request) (p Pending, err error) {
	defer func() {
		if v := recover(); v != nil {
			p, err = nil, c.panicked("Handle", req, v)
		}
	}()
	p, err = c.server.handler.Handle(ctx, req)
	if err != nil {
		return nil, closeError(CloseByHandler, fmt.Errorf("%s v%d: %w", keyName(req.Key), req.Version, err))
	}
	if p == nil {
		p = ready{}
	}
	return p, nil
}

// writeLoop answers requests in order until the queue is closed and empty.
func (c *Conn) writeLoop(ctx context.Context) {
	for {
		var req *Request
		var ok bool
		select {
		case req, ok = <-c.queue:
		default:
			c.writeDone(c.writer.flush())
			req, ok = <-c.queue
		}
		if !ok {
			c.writeDone(c.writer.flush())
			return
		}
		c.writeDone(c.answer(ctx, req))
		req.end()
		<-c.slots
		c.lastActive.Store(time.Now().UnixNano())
	}
}

// answer waits for the answer of req and sends it; once something has gone wrong it only waits.
func (c *Conn) answer(ctx context.Context, req *Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = c.panicked("Wait", req, v)
		}
	}()
	if p, ok := req.pending.(Prober); !ok || !p.Ready() {
		if err := c.writer.flush(); err != nil {
			c.writeDone(err)
		}
	}
	a, err := req.pending.Wait(ctx)
	switch {
	case c.writer.failed:
		return nil
	case err != nil:
		if ctx.Err() != nil {
			return asCloseError(context.Cause(ctx), CloseShutdown)
		}
		return closeError(CloseByHandler, fmt.Errorf("%s v%d: %w", keyName(req.Key), req.Version, err))
	case a == nil:
		return nil
	}
	return c.writer.answer(req, a)
}

// writeDone ends the connection if err is one: nothing is sent after it, and reading ends too.
func (c *Conn) writeDone(err error) {
	if err == nil || c.writer.failed {
		return
	}
	c.writer.fail()
	ce := asCloseError(err, CloseWriteFailed)
	c.noteClose(ce)
	c.cancel(ce)
	_ = c.raw.Close()
}

// panicked logs a panic of the handler and returns the error that closes the connection.
func (c *Conn) panicked(where string, req *Request, v any) error {
	c.server.stats.panics.Add(1)
	c.server.cfg.Logger.Error("panic in a request handler; its connection is closed",
		slog.String("in", where), slog.String("api", keyName(req.Key)), slog.Int("version", int(req.Version)),
		slog.String("client_id", req.ClientID), slog.Any("remote", c.raw.RemoteAddr()),
		slog.Any("err", v), slog.String("stack", string(debug.Stack())))
	return closeError(ClosePanic, fmt.Errorf("%s v%d: panic: %v", keyName(req.Key), req.Version, v))
}

// noteClose keeps the first reason for the end of the connection.
func (c *Conn) noteClose(ce *CloseError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closeReason == nil {
		c.closeReason = ce
	}
}

// drain wakes the reading goroutine, which sees that the server shuts down.
func (c *Conn) drain() { _ = c.raw.SetReadDeadline(longAgo) }

// force ends everything that this connection waits for, and lets last answers out for grace.
func (c *Conn) force(grace time.Duration) {
	c.forced.Store(true)
	c.cancel(closeError(CloseShutdown, nil))
	_ = c.raw.SetReadDeadline(longAgo)
	_ = c.raw.SetWriteDeadline(time.Now().Add(grace))
}

func (c *Conn) isDraining() bool {
	select {
	case <-c.server.draining:
		return true
	default:
		return c.forced.Load()
	}
}

// reserveBytes waits until the connection's unanswered requests leave room for n bytes; one frame always fits alone.
func (c *Conn) reserveBytes(n int64) error {
	var timer *time.Timer
	for {
		c.bytesMu.Lock()
		if c.bytesHeld == 0 || c.bytesHeld+n <= c.server.cfg.MaxBytesPerConn {
			c.bytesHeld += n
			c.bytesMu.Unlock()
			return nil
		}
		free := make(chan struct{})
		c.bytesFree = free
		c.bytesMu.Unlock()
		if timer == nil {
			timer = time.NewTimer(c.server.cfg.BudgetTimeout)
			defer timer.Stop()
		}
		select {
		case <-free:
		case <-timer.C:
			return closeError(CloseNoMemory, errBudgetWait)
		case <-c.done:
			return closeError(CloseShutdown, nil)
		case <-c.server.draining:
			return closeError(CloseShutdown, nil)
		}
	}
}

func (c *Conn) releaseBytes(n int64) {
	c.bytesMu.Lock()
	defer c.bytesMu.Unlock()
	c.bytesHeld -= n
	if c.bytesFree != nil {
		close(c.bytesFree)
		c.bytesFree = nil
	}
}
