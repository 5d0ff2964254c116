package wire

import (
	"log/slog"
	"time"
)

// ListenerInfo says which listener a connection came in on.
type ListenerInfo struct {
	// Name is the listener's name as in Kafka's listeners setting, for example PLAINTEXT or EXTERNAL.
	Name string
	// RequiresLogin holds connections to Config.PreAuthBytes per frame until Conn.SetPrincipal was called (SASL
	// listeners). A connection on any other listener counts as logged in.
	RequiresLogin bool
}

// Config sets the limits of a Server. The zero value of a field means the default written at it.
type Config struct {
	// MaxRequestBytes is the largest frame accepted (socket.request.max.bytes). Default 100 MiB.
	MaxRequestBytes int
	// PreAuthBytes is the largest frame accepted from a client that has yet to log in. Default 16 KiB.
	PreAuthBytes int
	// MaxInFlightPerConn is how many requests of one connection may be waiting for their answer; when it is reached
	// the connection is not read. Default 64.
	MaxInFlightPerConn int
	// MaxBytesPerConn bounds the frame bytes that the unanswered requests of one connection hold. A single frame may
	// be larger, if it is alone. Default MaxRequestBytes.
	MaxBytesPerConn int64
	// MaxBytesTotal bounds the frame bytes of all connections together. One frame at a time may overdraw it, so that
	// half-arrived frames cannot block each other for good. Default 512 MiB.
	MaxBytesTotal int64
	// DecodeBytesTotal bounds what decoding requests may take in the worst case, all connections together; see
	// Decode. Default 512 MiB.
	DecodeBytesTotal int64
	// BudgetTimeout is how long a connection waits for room in a budget before it is closed. Default 60 s.
	BudgetTimeout time.Duration
	// IdleTimeout closes a connection on which nothing was read or written and nothing is waiting for that long
	// (connections.max.idle.ms). Default 10 min; negative means never.
	IdleTimeout time.Duration
	// FrameTimeout is the longest pause inside a frame, and the head start that MinReadRate is granted. Default 30 s.
	FrameTimeout time.Duration
	// MinReadRate is how fast a frame has to arrive, in bytes per second, once FrameTimeout has passed. Default 16 KiB/s.
	MinReadRate int
	// WriteTimeout cuts a connection whose socket accepted no byte for that long. Default 30 s.
	WriteTimeout time.Duration
	// MaxConns bounds the open connections; at the limit new ones wait in the listen queue (max.connections).
	// Default 0: no limit.
	MaxConns int
	// MaxConnsPerIP bounds the open connections from one address; more are closed at once (max.connections.per.ip).
	// Negative means none. Default 0: no limit.
	MaxConnsPerIP int
	// MaxConnsPerIPOverrides sets MaxConnsPerIP for single addresses (max.connections.per.ip.overrides), written as
	// netip.Addr writes them, without a zone.
	MaxConnsPerIPOverrides map[string]int
	// Logger receives what an operator may want to know. Default slog.Default().
	Logger *slog.Logger
}

// setDefaults replaces zero values.
func (c *Config) setDefaults() {
	def(&c.MaxRequestBytes, 100<<20)
	def(&c.PreAuthBytes, 16<<10)
	def(&c.MaxInFlightPerConn, 64)
	def(&c.MaxBytesPerConn, int64(c.MaxRequestBytes))
	def(&c.MaxBytesTotal, 512<<20)
	def(&c.DecodeBytesTotal, 512<<20)
	def(&c.BudgetTimeout, time.Minute)
	def(&c.IdleTimeout, 10*time.Minute)
	def(&c.FrameTimeout, 30*time.Second)
	def(&c.MinReadRate, 16<<10)
	def(&c.WriteTimeout, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
