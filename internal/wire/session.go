package wire

import (
	"net"
	"time"
)

// ID returns a number that no other connection of the process has or had.
func (c *Conn) ID() uint64 { return c.id }

// Listener says which listener the connection came in on.
func (c *Conn) Listener() ListenerInfo { return c.listener }

// LocalAddr returns the address by which the client reached this broker.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr returns the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Opened returns when the connection was accepted.
func (c *Conn) Opened() time.Time { return c.opened }

// Principal returns who the client has proven to be, Anonymous before a login.
func (c *Conn) Principal() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.principal
}

// SetPrincipal marks the connection as logged in.
func (c *Conn) SetPrincipal(principal string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.principal, c.loggedIn = principal, true
}

// LoggedIn reports whether the client has logged in, or need not.
func (c *Conn) LoggedIn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loggedIn
}

// ClientSoftware returns the name and version that the client gave in ApiVersions (KIP-511), empty if it gave none.
func (c *Conn) ClientSoftware() (name, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.software[0], c.software[1]
}

// SetClientSoftware stores what ClientSoftware returns.
func (c *Conn) SetClientSoftware(name, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.software = [2]string{name, version}
}

// Draining is closed when the server begins to shut down. A long poll that sees it should answer with what it has.
func (c *Conn) Draining() <-chan struct{} { return c.server.draining }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// SessionKey names one value of type T kept on a connection. Make one per use with NewSessionKey, at package level.
type SessionKey[T any] struct{ name string }

// NewSessionKey returns a key that is equal to no other. name is for people reading a dump.
func NewSessionKey[T any](name string) *SessionKey[T] { return &SessionKey[T]{name} }

// Get returns the value stored on c, and whether there is one.
func (k *SessionKey[T]) Get(c *Conn) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.session[k].(T)
	return v, ok
}

// Set stores v on c in place of what was there.
func (k *SessionKey[T]) Set(c *Conn, v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		c.session = map[any]any{}
	}
	c.session[k] = v
}
