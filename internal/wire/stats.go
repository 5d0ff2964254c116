package wire

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Stats are counters of a Server since its start, and what it holds now.
type Stats struct {
	Connections int64 // open now
	Accepted    int64 // connections ever opened
	Requests    int64
	Answers     int64
	BytesIn     int64
	BytesOut    int64
	Panics      int64
	FrameBytes  int64 // memory of unanswered requests now
	DecodeBytes int64 // memory that requests being decoded may take now, at worst
	Closed      map[CloseReason]int64
}

type counters struct {
	accepted, requests, answers, bytesIn, bytesOut, panics atomic.Int64
	closed                                                 [closeReasons]atomic.Int64
}

// Stats returns the counters. Safe for concurrent use.
func (s *Server) Stats() Stats {
	st := Stats{
		Accepted: s.stats.accepted.Load(), Requests: s.stats.requests.Load(), Answers: s.stats.answers.Load(),
		BytesIn: s.stats.bytesIn.Load(), BytesOut: s.stats.bytesOut.Load(), Panics: s.stats.panics.Load(),
		FrameBytes: s.frames.inUse(), DecodeBytes: s.decoding.inUse(),
		Closed: map[CloseReason]int64{},
	}
	for r := range s.stats.closed {
		if n := s.stats.closed[r].Load(); n > 0 {
			st.Closed[CloseReason(r)] = n
		}
	}
	s.mu.Lock()
	st.Connections = int64(len(s.conns))
	s.mu.Unlock()
	return st
}

// logClose counts and logs the end of a connection. What a client can cause at will is logged once a second at most.
func (s *Server) logClose(c *Conn) {
	c.mu.Lock()
	ce := c.closeReason
	c.mu.Unlock()
	s.countClose(ce, c.raw.RemoteAddr(), c.listener.Name, c.id)
}

// refuse counts and logs a connection that is one too many from its address.
func (s *Server) refuse(nc net.Conn, info ListenerInfo) {
	s.countClose(&CloseError{Reason: CloseTooManyFromIP}, nc.RemoteAddr(), info.Name, 0)
}

func (s *Server) countClose(ce *CloseError, remote net.Addr, listener string, id uint64) {
	s.stats.closed[ce.Reason].Add(1)
	log, suppressed, ok := s.cfg.Logger.Debug, int64(0), true
	switch ce.Reason {
	case CloseBadFrame, CloseFrameTooLarge, CloseSlowFrame, CloseSlowReader, CloseNoMemory, CloseByHandler, CloseTooManyFromIP:
		log = s.cfg.Logger.Warn
		suppressed, ok = s.logLimit[ce.Reason].allow(time.Now())
	}
	if !ok {
		return
	}
	attrs := []any{
		slog.String("reason", ce.Reason.String()), slog.Any("remote", remote), slog.String("listener", listener), slog.Uint64("conn", id),
	}
	if ce.Err != nil {
		attrs = append(attrs, slog.Any("err", ce.Err))
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int64("suppressed", suppressed))
	}
	log("connection closed", attrs...)
}

// logLimit lets one line a second through and counts the others.
type logLimit struct {
	mu         sync.Mutex
	last       time.Time
	suppressed int64
}

func (l *logLimit) allow(now time.Time) (suppressed int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() && now.Sub(l.last) < time.Second {
		l.suppressed++
		return 0, false
	}
	suppressed, l.suppressed, l.last = l.suppressed, 0, now
	return suppressed, true
}

// keyName returns the API's name for logs.
func keyName(key int16) string { return kmsg.NameForKey(key) }
