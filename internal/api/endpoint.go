package api

import (
	"net"
	"strconv"

	"github.com/ottlaio/ottla/internal/base"
)

// endpoint is a broker's address as one client is told it.
type endpoint struct {
	id   base.BrokerID
	host string
	port int32
	rack *string // nil = none
}

// endpoints lists the brokers with the addresses at which the client of c reaches them, by id.
//
// A broker's address is the one advertised for the listener that the client came in on. This broker, where nothing is advertised,
// is where the client reached it: the local address of the connection. So containers and port maps need no setting.
func (a *API) endpoints(c *call) []endpoint {
	var list []endpoint
	var listed bool
	for _, b := range a.view().image.Brokers() {
		e := endpoint{id: b.ID, rack: optional(b.Rack)}
		if b.ID == a.config.NodeID {
			listed = true
			e = a.ownEndpoint(c)
		} else {
			found := false
			for _, l := range b.Endpoints {
				if l.Name == c.Conn.Listener().Name {
					e.host, e.port, found = l.Host, int32(l.Port), true
				}
			}
			if !found {
				continue // as Kafka: a broker without that listener is not there for this client
			}
		}
		list = append(list, e)
	}
	if !listed {
		list = append(list, a.ownEndpoint(c))
	}
	return list
}

// endpointOf is the address of one broker; false if the client cannot reach it.
func (a *API) endpointOf(c *call, id base.BrokerID) (endpoint, bool) {
	if id == a.config.NodeID {
		return a.ownEndpoint(c), true
	}
	for _, e := range a.endpoints(c) {
		if e.id == id {
			return e, true
		}
	}
	return endpoint{}, false
}

func (a *API) ownEndpoint(c *call) endpoint {
	e := endpoint{id: a.config.NodeID, rack: optional(a.config.Rack)}
	e.host, e.port = hostPort(c.Conn.LocalAddr())
	for _, l := range a.config.Advertised {
		if l.Name != c.Conn.Listener().Name {
			continue
		}
		e.host = l.Host
		if l.Port != 0 {
			e.port = int32(l.Port)
		}
	}
	return e
}

// hostPort takes an address apart. An address that has no port (an in-memory connection) has port 0.
func hostPort(addr net.Addr) (string, int32) {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		ip := tcp.AddrPort().Addr().Unmap()
		return ip.String(), int32(tcp.Port)
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String(), 0
	}
	n, _ := strconv.ParseUint(port, 10, 16)
	return host, int32(n)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
