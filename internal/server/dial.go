package server

import (
	"context"
	"net"

	"github.com/ottlaio/ottla/internal/wire"
)

// memoryAddr is what both ends of a connection without sockets show as their address. Clients want a host and a port.
var memoryAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092}

// memoryConn is one end of a net.Pipe with an address that clients can parse.
type memoryConn struct{ net.Conn }

func (memoryConn) LocalAddr() net.Addr  { return memoryAddr }
func (memoryConn) RemoteAddr() net.Addr { return memoryAddr }

// Dial connects to the broker within the process, without a socket. Broker addresses in answers on such a connection lead back to
// Dial: give clients a dialer that ignores the address.
func (s *Server) Dial(context.Context) (net.Conn, error) {
	name := "PLAINTEXT"
	if len(s.cfg.Listeners) > 0 {
		name = s.cfg.Listeners[0].Name
	}
	select {
	case <-s.wire.Draining():
		return nil, net.ErrClosed
	default:
	}
	client, server := net.Pipe()
	if !s.background(func(ctx context.Context) {
		s.wire.ServeConn(ctx, memoryConn{server}, wire.ListenerInfo{Name: name})
	}) {
		return nil, net.ErrClosed
	}
	return memoryConn{client}, nil
}
