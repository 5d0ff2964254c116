// Package ottla runs an Ottla broker inside a Go program or test.
//
//	broker, err := ottla.Start(ctx, ottla.Config{Data: t.TempDir(), Listen: "127.0.0.1:0"})
//	if err != nil { … }
//	defer broker.Close(ctx)
//	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()))
//
// It is the same broker that `ottla serve` runs: what it acknowledges is on disk, in the folder Config.Data. Any number of brokers may
// run side by side in one process, each with a folder of its own. A broker starts in a fraction of a second, so a test can have its own.
// It does real I/O even with Config.NoSockets, and does not come to rest inside a bubble of testing/synctest.
package ottla

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/server"
)

// Config says what to run. The zero value is a broker on 127.0.0.1:9092 with its data in ./data.
type Config struct {
	// Data is the data folder. It is created if need be, and locked: one broker at a time. Default "data".
	Data string
	// Listen is HOST:PORT; port 0 is any free port, see Broker.Addr. Default "127.0.0.1:9092". For several listeners, leave it
	// empty and use Settings["listeners"].
	Listen string
	// NoSockets opens no port at all: clients connect with Broker.Dial.
	NoSockets bool
	// Settings are Kafka's broker settings, and Ottla's own, by name: "log.segment.bytes": "1048576".
	Settings map[string]string
	// File is the path of a server.properties or YAML file with further settings; those in Settings win. Default: none.
	File string
	// Environ are "NAME=value" pairs, as os.Environ returns; OTTLA_* and KAFKA_* of them are settings. Default: none.
	Environ []string
	// OwnProcess says that the process is the broker's alone, as that of `ottla serve` is: then Start sets Go's memory limit (see the setting
	// ottla.memory.limit.bytes). A broker inside of another program leaves that alone.
	OwnProcess bool
	// Logger hears what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// Broker is a running broker. Its methods are safe for concurrent use.
type Broker struct {
	server *server.Server
	config *config.Broker
}

// Start starts a broker and returns when clients can use it. ctx bounds the start only; Close ends the broker.
//
// The error of bad settings lists every one of them. Other errors: the data folder is in use or holds something else, a port is in use,
// the log is damaged where it cannot be read around.
func Start(ctx context.Context, c Config) (*Broker, error) {
	flags := map[string]string{}
	if c.Data != "" {
		flags["log.dirs"] = c.Data
	}
	if c.Listen != "" {
		flags["listeners"] = "PLAINTEXT://" + c.Listen
	}
	sets := make([]string, 0, len(c.Settings))
	for key, value := range c.Settings {
		sets = append(sets, key+"="+value)
	}
	slices.Sort(sets)
	settings, err := config.Load(config.Sources{File: c.File, Environ: c.Environ, Flags: flags, Sets: sets})
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	logger := c.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	settings.Log(logger)
	if c.OwnProcess {
		server.LimitMemory(settings, logger)
	}
	s, err := server.Start(ctx, server.Options{Config: settings, Logger: logger, NoSockets: c.NoSockets})
	if err != nil {
		return nil, err
	}
	return &Broker{server: s, config: settings}, nil
}

// Addr returns HOST:PORT of the first listener; empty with NoSockets.
func (b *Broker) Addr() string {
	addrs := b.server.Addrs()
	if len(addrs) == 0 {
		return ""
	}
	return addrs[0].String()
}

// Addrs returns the address of every listener, in the order of the listeners setting.
func (b *Broker) Addrs() []net.Addr { return b.server.Addrs() }

// Dial connects a client within the process, with or without sockets. Pass it to a client as its dialer:
//
//	kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) { return broker.Dial(ctx) })
func (b *Broker) Dial(ctx context.Context) (net.Conn, error) { return b.server.Dial(ctx) }

// ClusterID returns the cluster's id, 22 characters.
func (b *Broker) ClusterID() string { return b.server.ClusterID() }

// Data returns the path of the data folder.
func (b *Broker) Data() string { return b.config.DataDir }

// Failed is closed when the broker can no longer keep its promises, after a failed write or sync for instance. Err then says why, and
// the broker is to be closed. Nothing is acknowledged after it; what was acknowledged before is safe.
func (b *Broker) Failed() <-chan struct{} { return b.server.Failed() }

// Err returns why Failed is closed, nil before.
func (b *Broker) Err() error { return b.server.Err() }

// Close stops the broker: requests in flight are answered until ctx ends, then the log is flushed. It returns when every goroutine of
// the broker has ended.
func (b *Broker) Close(ctx context.Context) error { return b.server.Close(ctx) }
