package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla"
)

// statusStorageFailed tells a supervisor that a write or sync failed: the disk wants looking at before the next start.
const statusStorageFailed = 3

// stopTimeout is how long requests in flight may take to be answered when the broker is told to stop.
const stopTimeout = 20 * time.Second

type serveOptions struct {
	data, listen, config string
	set                  []string
	verbose              bool
	cpuProfile           string
}

func serve() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a broker",
		Long: `Run a broker in the foreground until it gets SIGINT or SIGTERM.

Settings have Kafka's names. They come from, in rising order of precedence: the defaults, --config FILE (a server.properties as it is,
or YAML), KAFKA_* and OTTLA_* environment variables, flags and --set.

The exit status is 0 after a stop by signal, 3 when a write or sync failed (what was acknowledged is safe; look at the disk before the
next start), 1 for everything else.`,
		Example: `  ottla serve
  ottla serve --data /var/lib/ottla --listen 0.0.0.0:9092 --set log.retention.hours=24
  ottla serve --config server.properties`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runServe(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", `data folder (log.dirs); made if it does not exist (default "data")`)
	f.StringVar(&o.listen, "listen", "", `HOST:PORT to listen on (listeners) (default "127.0.0.1:9092")`)
	f.StringVar(&o.config, "config", "", "server.properties or YAML file")
	f.StringArrayVar(&o.set, "set", nil, "setting as key=value; may be repeated")
	f.BoolVar(&o.verbose, "verbose", false, "log debug messages too")
	f.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile from start to stop to this file, for go tool pprof")
	return cmd
}

func runServe(ctx context.Context, o serveOptions, out, errOut io.Writer) (err error) {
	if o.cpuProfile != "" {
		stopProfile, startErr := startProfile(o.cpuProfile)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, stopProfile()) }()
	}
	settings := map[string]string{}
	for _, s := range o.set {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("--set %q is not key=value", s)
		}
		settings[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	// Signals are caught before the start, so that one that comes early stops the broker as one that comes late does.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()

	began := time.Now()
	broker, err := ottla.Start(ctx, ottla.Config{
		Data:     o.data,
		Listen:   o.listen,
		Settings: settings,
		File:     o.config,
		Environ:  os.Environ(),
		Logger:   slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: level})),

		OwnProcess: true,
	})
	if err != nil {
		return err
	}
	welcome(out, broker, time.Since(began))

	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "stopping")
	case <-broker.Failed():
	}
	stop() // a second signal ends the process at once
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	closeErr := broker.Close(stopCtx)
	if err := broker.Err(); err != nil {
		return withStatus{fmt.Errorf("the broker stopped itself: %w", err), statusStorageFailed}
	}
	return closeErr
}

// startProfile writes a CPU profile to a file until the function that it returns is called.
func startProfile(name string) (func() error, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// welcome says where the broker is and what to type next. Scripts wait for "Kafka Server started" and for the transition line, which
// they know from other brokers.
func welcome(out io.Writer, b *ottla.Broker, took time.Duration) {
	addrs := make([]string, 0, len(b.Addrs()))
	for _, a := range b.Addrs() {
		addrs = append(addrs, a.String())
	}
	data, err := filepath.Abs(b.Data())
	if err != nil {
		data = b.Data()
	}
	server := clientAddr(b.Addr())
	fmt.Fprintf(out, "Kafka Server started in %d ms (Transitioning from RECOVERY to RUNNING)\n", took.Milliseconds())
	fmt.Fprintf(out, `
  listening on  %s
  data in       %s

Next, in another terminal:
  ottla topic create hello --bootstrap-server %[3]s
  echo "hello, world" | ottla produce hello --bootstrap-server %[3]s
  ottla consume hello --offset earliest --count 1 --bootstrap-server %[3]s

`, strings.Join(addrs, ", "), data, server)
}

// clientAddr is an address that a client on this machine can use.
func clientAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
