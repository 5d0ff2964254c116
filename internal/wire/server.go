package wire

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Server serves the Kafka protocol on any number of listeners. Make one with NewServer. Its methods are safe for
// concurrent use.
type Server struct {
	cfg      Config
	handler  Handler
	frames   budget
	decoding budget
	draining chan struct{}
	stats    counters
	logLimit [closeReasons]logLimit

	mu        sync.Mutex // guards the fields below
	stopped   bool
	listeners map[net.Listener]struct{}
	conns     map[*Conn]struct{}
	perIP     map[netip.Addr]int
	lastID    uint64
	room      chan struct{} // closed when a connection ended, nil if nobody waits for one to
	running   sync.WaitGroup
}

// NewServer returns a server that hands every request to h.
func NewServer(cfg Config, h Handler) *Server {
	cfg.setDefaults()
	return &Server{
		cfg: cfg, handler: h,
		frames:    budget{limit: cfg.MaxBytesTotal, overdraft: true},
		decoding:  budget{limit: cfg.DecodeBytesTotal},
		draining:  make(chan struct{}),
		listeners: map[net.Listener]struct{}{},
		conns:     map[*Conn]struct{}{},
		perIP:     map[netip.Addr]int{},
	}
}

// Serve accepts connections from ln until ctx ends, Shutdown is called or ln fails, and closes ln. It returns nil
// after Shutdown or the end of ctx. Connections outlive Serve: Shutdown waits for them, the end of ctx closes them.
func (s *Server) Serve(ctx context.Context, ln net.Listener, info ListenerInfo) error {
	defer func() { _ = ln.Close() }()
	if !s.enter(ln) {
		return nil
	}
	defer s.leave(ln)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for delay := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			delay = 0
			s.accept(ctx, nc, info)
		case s.isDraining() || ctx.Err() != nil:
			return nil
		case !passing(err):
			return err
		default:
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.cfg.Logger.Warn("accept failed, trying again", slog.String("listener", info.Name), slog.Duration("in", delay), slog.Any("err", err))
			s.pause(ctx, delay)
		}
	}
}

// passing reports whether an error of Accept is about one connection or about a shortage, and may not come again.
func passing(err error) bool {
	for _, errno := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED,
		syscall.ECONNRESET, syscall.EPROTO, syscall.EINTR, syscall.EAGAIN, syscall.EPERM,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (s *Server) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-s.draining:
	}
}

// accept starts to serve nc in a goroutine of its own, or closes it. While the server is full, it waits.
func (s *Server) accept(ctx context.Context, nc net.Conn, info ListenerInfo) {
	c, connCtx := s.open(ctx, nc, info)
	if c == nil {
		_ = nc.Close()
		return
	}
	go s.run(ctx, connCtx, c) // open has added it to running, which Shutdown waits for
}

// ServeConn serves one connection that was made elsewhere (net.Pipe, say) and returns when it has ended. It closes nc.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, info ListenerInfo) {
	c, connCtx := s.open(ctx, nc, info)
	if c == nil {
		_ = nc.Close()
		return
	}
	s.run(ctx, connCtx, c)
}

func (s *Server) run(ctx, connCtx context.Context, c *Conn) {
	defer s.running.Done()
	c.serve(ctx, connCtx)
	s.forget(c)
	s.logClose(c)
}

// open registers a connection, after waiting for room, and makes its context; nil means that it must not be served.
func (s *Server) open(ctx context.Context, nc net.Conn, info ListenerInfo) (*Conn, context.Context) {
	ip := addrOf(nc)
	for {
		s.mu.Lock()
		switch {
		case s.stopped || ctx.Err() != nil:
			s.mu.Unlock()
			return nil, nil
		case s.ipFullLocked(ip):
			s.mu.Unlock()
			s.refuse(nc, info)
			return nil, nil
		case s.cfg.MaxConns > 0 && len(s.conns) >= s.cfg.MaxConns:
			if s.room == nil {
				s.room = make(chan struct{})
			}
			room := s.room
			s.mu.Unlock()
			select {
			case <-room:
			case <-s.draining:
			case <-ctx.Done():
			}
			continue
		}
		s.lastID++
		c := newConn(s, nc, info, s.lastID)
		connCtx, cancel := context.WithCancelCause(ctx)
		c.cancel, c.done = cancel, connCtx.Done()
		s.conns[c] = struct{}{}
		if ip.IsValid() {
			s.perIP[ip]++
		}
		s.running.Add(1)
		s.mu.Unlock()
		s.stats.accepted.Add(1)
		return c, connCtx
	}
}

// ipFullLocked reports whether ip has as many connections as it may.
func (s *Server) ipFullLocked(ip netip.Addr) bool {
	if !ip.IsValid() {
		return false
	}
	limit := s.cfg.MaxConnsPerIP
	if n, ok := s.cfg.MaxConnsPerIPOverrides[ip.String()]; ok {
		return s.perIP[ip] >= n
	}
	return limit < 0 || limit > 0 && s.perIP[ip] >= limit
}

// forget takes a connection that has ended out of the books.
func (s *Server) forget(c *Conn) {
	ip := addrOf(c.raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if ip.IsValid() {
		if s.perIP[ip]--; s.perIP[ip] == 0 {
			delete(s.perIP, ip)
		}
	}
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

// addrOf returns the IP address of the other end, the zero Addr if it has none.
func addrOf(nc net.Conn) netip.Addr {
	tcp, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// enter and leave keep the books of listeners.
func (s *Server) enter(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.listeners[ln] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) leave(ln net.Listener) {
	s.mu.Lock()
	delete(s.listeners, ln)
	s.mu.Unlock()
	s.running.Done()
}

// Shutdown stops accepting and reading, lets requests in flight be answered until ctx ends, then ends the contexts of
// those that still wait and closes what is left. It returns when every goroutine of the server has ended: nil if all
// were answered, else the cause of ctx. Every later call of Serve returns at once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.draining)
	}
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()

	ended := make(chan struct{})
	go func() { // ends before Shutdown returns
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.force(forceGrace)
	}
	s.mu.Unlock()
	<-ended
	return context.Cause(ctx)
}

// Draining is closed when Shutdown begins.
func (s *Server) Draining() <-chan struct{} { return s.draining }

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}
