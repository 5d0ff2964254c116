package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ottlaio/ottla"
	"github.com/ottlaio/ottla/internal/cli"
)

// server is the address of the broker that all tests of this package share; each uses topics and groups of its own name.
var server string

func TestMain(m *testing.M) { os.Exit(withBroker(m)) }

func withBroker(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ottla-cli")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	broker, err := ottla.Start(ctx, ottla.Config{
		Data: dir, Listen: "127.0.0.1:0",
		Settings: map[string]string{"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "2", "auto.create.topics.enable": "false"},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer broker.Close(context.Background())
	server = broker.Addr()
	return m.Run()
}

// session is a user at a shell: what was typed in and what came out.
type session struct {
	t        *testing.T
	out, err bytes.Buffer
	terminal bool // a person is there to answer
}

// run runs one verb with input as standard input and returns its error.
func (s *session) run(input string, do func(context.Context, *cli.Client) error) error {
	s.t.Helper()
	s.out.Reset()
	s.err.Reset()
	streams := cli.Streams{In: strings.NewReader(input), Out: &s.out, Err: &s.err, InTerminal: s.terminal}
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	return cli.With(ctx, cli.Connection{Servers: server}, streams, do)
}

// must runs a verb that is to succeed and returns what it wrote.
func (s *session) must(input string, do func(context.Context, *cli.Client) error) string {
	s.t.Helper()
	if err := s.run(input, do); err != nil {
		s.t.Fatalf("%v (next: %s)\n%s", err, cli.Next(err), s.err.String())
	}
	return s.out.String()
}

// create makes a topic that is deleted when the test ends.
func (s *session) create(topic string, partitions int32, configs ...string) {
	s.t.Helper()
	s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.CreateTopics(ctx, cli.CreateTopics{Partitions: partitions, Configs: configs}, []string{topic})
	})
	s.cleanUp(func(ctx context.Context, c *cli.Client) error { return c.DeleteTopics(ctx, []string{topic}, true) })
}

// cleanUp runs a verb when the test ends. What it is to remove may be gone already.
func (s *session) cleanUp(do func(context.Context, *cli.Client) error) {
	s.t.Cleanup(func() {
		streams := cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}
		_ = cli.With(context.WithoutCancel(s.t.Context()), cli.Connection{Servers: server}, streams, do)
	})
}

func (s *session) produce(input string, o cli.Produce) {
	s.t.Helper()
	s.must(input, func(ctx context.Context, c *cli.Client) error { return c.Produce(ctx, o) })
}

func (s *session) consume(o cli.Consume) string {
	s.t.Helper()
	if o.Group != "" {
		s.cleanUp(func(ctx context.Context, c *cli.Client) error { return c.DeleteGroups(ctx, []string{o.Group}, true) })
	}
	return s.must("", func(ctx context.Context, c *cli.Client) error { return c.Consume(ctx, o) })
}
