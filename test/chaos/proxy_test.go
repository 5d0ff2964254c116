package chaos_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// maxProxyFrame bounds a frame that goes through a proxy; the workloads here send less.
const maxProxyFrame = 64 << 20

// proxy stands between clients and a broker, carries their frames and can fail as networks do. Clients reach the broker through it alone
// if it is the broker's advertised listener.
type proxy struct {
	addr   string
	target string // set by serve
	ln     net.Listener
	work   sync.WaitGroup

	delay   atomic.Int64 // of each answer, in nanoseconds
	swallow atomic.Int64 // how many answers are still to be lost, each with its connection
	catch   atomic.Pointer[catch]

	mu     sync.Mutex // guards the fields below
	links  map[*link]bool
	closed bool
}

// link is one client's connection and the one to the broker that belongs to it.
type link struct{ client, broker net.Conn }

func (l *link) cut() {
	_ = l.client.Close()
	_ = l.broker.Close()
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: ln.Addr().String(), ln: ln, links: map[*link]bool{}}
	t.Cleanup(p.close)
	return p
}

// serve begins to carry connections to target.
func (p *proxy) serve(target string) {
	p.target = target
	p.work.Go(p.accept)
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.ln.Close()
	p.cut()
	p.work.Wait()
}

// cut closes all connections at once.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// loseAnswers lets the next n answers be lost, each with its connection: what they answer was done, and their client does not know it.
func (p *proxy) loseAnswers(n int) { p.swallow.Store(int64(n)) }

// catch is what befalls requests of one kind.
type catch struct {
	key    int16        // of the API
	losses atomic.Int64 // how many of them are still to be lost, each with its connection
	first  chan []byte  // gets the first of them, lost or not
}

// catches lets the next n requests of an API be lost, each with its connection, and returns where the first of them can be had, be it lost
// or, with n = 0, carried on. It ends whatever an earlier call began.
func (p *proxy) catches(key int16, n int64) <-chan []byte {
	c := &catch{key: key, first: make(chan []byte, 1)}
	c.losses.Store(n)
	p.catch.Store(c)
	return c.first
}

// asking is what happens to a request before it goes on.
func (p *proxy) asking(request []byte) error {
	c := p.catch.Load()
	if c == nil || len(request) < 6 || int16(binary.BigEndian.Uint16(request[4:])) != c.key {
		return nil
	}
	select {
	case c.first <- request:
	default:
	}
	if c.losses.Load() > 0 && c.losses.Add(-1) >= 0 {
		return errLost
	}
	return nil
}

// deliver hands the broker a request that was caught, as a network does that had kept it, and returns the answer, which no client sees.
func (p *proxy) deliver(ctx context.Context, request []byte) ([]byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	return frame(conn)
}

func (p *proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		p.work.Go(func() { p.carry(client) })
	}
}

func (p *proxy) carry(client net.Conn) {
	broker, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close() // the broker is down
		return
	}
	l := &link{client, broker}
	p.mu.Lock()
	p.links[l] = true
	if p.closed {
		l.cut()
	}
	p.mu.Unlock()
	var ways sync.WaitGroup
	ways.Go(func() {
		defer l.cut()
		frames(client, broker, p.asking)
	})
	ways.Go(func() {
		defer l.cut()
		frames(broker, client, p.answering)
	})
	ways.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

var errLost = errors.New("the frame is lost")

// answering is what happens to an answer before it goes on.
func (p *proxy) answering([]byte) error {
	if p.swallow.Load() > 0 && p.swallow.Add(-1) >= 0 {
		return errLost
	}
	time.Sleep(time.Duration(p.delay.Load()))
	return nil
}

// frames carries whole frames until either side ends or before refuses one.
func frames(from io.Reader, to io.Writer, before func(frame []byte) error) {
	for {
		frame, err := frame(from)
		if err != nil || before(frame) != nil {
			return
		}
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

var errLongFrame = errors.New("the frame is longer than any of ours")

// frame reads a whole frame, its length included.
func frame(from io.Reader) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(from, frame); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(frame)
	if size > maxProxyFrame {
		return nil, errLongFrame
	}
	frame = append(frame, make([]byte, size)...)
	_, err := io.ReadFull(from, frame[4:])
	return frame, err
}
