package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What the client calls itself to brokers.
const (
	softwareName    = "ottla-cli"
	softwareVersion = "1"
)

// Limits of the client.
const (
	// DefaultServer is where a broker listens that nobody configured.
	DefaultServer = "127.0.0.1:9092"
	// dialTimeout bounds one attempt to connect.
	dialTimeout = 5 * time.Second
	// advertisedAttempts is how often an address that a broker advertises may refuse us before we say that the address is wrong.
	advertisedAttempts = 3
)

// Connection says which cluster to talk to and how.
type Connection struct {
	// Servers is a comma-separated list of HOST:PORT. Default: the environment (see DefaultServers).
	Servers string
	// Properties are key=value pairs with the names that librdkafka and the Java clients use.
	Properties []string
	// Timeout bounds a whole admin verb. Producing and consuming are not bounded by it. Default 30 s.
	Timeout time.Duration
	// Verbose writes the client library's log to Streams.Err.
	Verbose bool
	// Dial replaces the dialer, for brokers within the process. Default: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// DefaultServers returns the servers to use when no flag names them: OTTLA_BOOTSTRAP_SERVER, KAFKA_BOOTSTRAP_SERVERS, DefaultServer.
func DefaultServers() string {
	return cmp.Or(os.Getenv("OTTLA_BOOTSTRAP_SERVER"), os.Getenv("KAFKA_BOOTSTRAP_SERVERS"), DefaultServer)
}

// Client is an open connection to a cluster with the streams of the verb that uses it.
type Client struct {
	Streams
	seeds []string
	opts  []kgo.Opt // of every client that the verb opens
	props properties
	base  *kgo.Client
	admin *kadm.Client
	limit time.Duration
	reach *reach
}

// With opens a client, runs do with it and closes it. The context that do gets ends, with an Error as its cause, when the cluster cannot be
// reached at all. Errors that With returns are explained.
func With(ctx context.Context, c Connection, s Streams, do func(context.Context, *Client) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client, err := open(c, s, cancel)
	if err != nil {
		return err
	}
	defer client.admin.Close()
	return explain(ctx, do(ctx, client))
}

func open(c Connection, s Streams, cancel context.CancelCauseFunc) (*Client, error) {
	props, err := parseProperties(c.Properties)
	if err != nil {
		return nil, err
	}
	seeds, err := parseServers(cmp.Or(c.Servers, props.servers, DefaultServers()))
	if err != nil {
		return nil, err
	}
	r := &reach{seeds: seeds, cancel: cancel, failed: map[string]int{}, connected: map[string]bool{}, notice: func(text string) { fmt.Fprintln(s.Err, "ottla:", text) }}
	opts := []kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.ClientID(softwareName),
		kgo.SoftwareNameAndVersion(softwareName, softwareVersion),
		kgo.DisableClientMetrics(),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.WithHooks(r),
	}
	if c.Dial != nil {
		opts = append(opts, kgo.Dialer(c.Dial))
	} else if props.tls == nil {
		opts = append(opts, kgo.DialTimeout(dialTimeout))
	}
	if c.Verbose {
		opts = append(opts, kgo.WithLogger(kgo.BasicLogger(s.Err, kgo.LogLevelDebug, nil)))
	}
	opts = append(opts, props.opts...)
	base, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, &Error{Message: "client", Next: "check the -X settings", Err: err}
	}
	return &Client{
		Streams: s, seeds: seeds, opts: opts, props: props, base: base, admin: kadm.NewClient(base), reach: r,
		limit: cmp.Or(c.Timeout, 30*time.Second),
	}, nil
}

// bounded returns a context for one admin verb.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	c.admin.SetTimeoutMillis(int32(min(c.limit, time.Hour).Milliseconds()))
	return context.WithTimeout(ctx, c.limit)
}

// another opens a second client with more options, for producing or consuming.
func (c *Client) another(opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(append(slices.Clone(c.opts), opts...)...)
	if err != nil {
		return nil, &Error{Message: "client", Next: "check the -X settings", Err: err}
	}
	return cl, nil
}

// servers is the seed list as the user would type it.
func (c *Client) servers() string { return strings.Join(c.seeds, ",") }

// parseServers splits a list of HOST:PORT; the port defaults to 9092, and a listener's name in front ("PLAINTEXT://") is let go.
func parseServers(list string) ([]string, error) {
	var servers []string
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimSpace(s)
		if _, rest, ok := strings.Cut(s, "://"); ok {
			s = rest
		}
		if s == "" {
			continue
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = strings.Trim(s, "[]"), "9092"
			if strings.Contains(host, ":") && net.ParseIP(host) == nil {
				return nil, &Error{Message: fmt.Sprintf("--bootstrap-server %q is not HOST:PORT", s), Next: "for example --bootstrap-server 127.0.0.1:9092"}
			}
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, &Error{Message: fmt.Sprintf("--bootstrap-server %q has no valid port", s), Next: "for example --bootstrap-server 127.0.0.1:9092"}
		}
		servers = append(servers, net.JoinHostPort(host, port))
	}
	if len(servers) == 0 {
		return nil, &Error{Message: "--bootstrap-server is empty", Next: "for example --bootstrap-server 127.0.0.1:9092"}
	}
	return servers, nil
}

// reach watches the client's connections and ends the verb as soon as it is clear that the cluster cannot be reached, instead of letting
// the library try for half a minute. A broker that was there and went away is waited for.
type reach struct {
	seeds  []string
	cancel context.CancelCauseFunc
	notice func(string)

	mu        sync.Mutex // guards the fields below
	failed    map[string]int
	connected map[string]bool
	waiting   bool
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (r *reach) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	addr := net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		if r.waiting {
			r.waiting = false
			r.notice("connected to " + addr + " again")
		}
		r.connected[addr] = true
		return
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	r.failed[addr]++
	switch {
	case r.connected[addr]:
		if !r.waiting {
			r.waiting = true
			r.notice(fmt.Sprintf("lost %s (%v); waiting for it to come back", addr, rootCause(err)))
		}
	case len(r.connected) == 0:
		for _, seed := range r.seeds {
			if r.failed[seed] == 0 {
				return // others are still to be tried
			}
		}
		r.cancel(unreachable(r.seeds, err))
	case meta.NodeID >= 0 && r.failed[addr] >= advertisedAttempts:
		r.cancel(&Error{
			Message: fmt.Sprintf("broker %d says its address is %s, which cannot be reached from here: %v", meta.NodeID, addr, rootCause(err)),
			Next:    "set advertised.listeners of that broker to an address that works from here; `ottla doctor` shows every address",
		})
	}
}

func unreachable(seeds []string, err error) error {
	e := &Error{Message: "cannot reach " + strings.Join(seeds, ", "), Err: rootCause(err)}
	var dns *net.DNSError
	var eof *kgo.ErrFirstReadEOF
	var op *net.OpError
	switch {
	case errors.As(err, &eof):
		return err
	case errors.As(err, &dns):
		e.Next = "is the host's name right? Name another with --bootstrap-server HOST:PORT"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Next = "is a broker running there? Start one with `ottla serve`, or name another with --bootstrap-server HOST:PORT"
	case errors.As(err, &op) && op.Op == "dial":
		e.Next = "is the address right, and does a firewall stand between? Name another with --bootstrap-server HOST:PORT"
	default:
		e.Message = "what listens at " + strings.Join(seeds, ", ") + " does not answer as a Kafka broker does"
		e.Next = "is it a Kafka listener? If it wants TLS, add -X security.protocol=SSL"
	}
	return e
}

// rootCause is the innermost error: the library wraps it in words that repeat the address.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
