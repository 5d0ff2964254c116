package ottla_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/ottlaio/ottla"
)

// start runs a broker until the test ends, on a free port if the configuration names none.
func start(t *testing.T, c ottla.Config) *ottla.Broker {
	t.Helper()
	if c.Listen == "" && !c.NoSockets && c.Settings["listeners"] == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Data == "" {
		c.Data = t.TempDir()
	}
	b, err := ottla.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, b) })
	return b
}

func stop(t *testing.T, b *ottla.Broker) {
	t.Helper()
	// The context of a test has ended when its clean-up runs.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// connect returns a client of b that comes in through its port, or through Dial if it has none.
func connect(t *testing.T, b *ottla.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	seed := b.Addr()
	if seed == "" {
		seed = "in-process:9092"
		opts = append(opts, kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) { return b.Dial(ctx) }))
	}
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(seed), kgo.RetryTimeout(20*time.Second), kgo.AllowAutoTopicCreation())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func createTopic(t *testing.T, client *kgo.Client, name string, partitions int32) {
	t.Helper()
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, 1, nil, name); err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}

// produce sends values from the given number on and waits until all are acknowledged.
func produce(t *testing.T, client *kgo.Client, topic string, from, to int) {
	t.Helper()
	records := make([]*kgo.Record, 0, to-from)
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: topic, Value: fmt.Append(nil, i)})
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("produce to %s: %v", topic, err)
	}
}

// expect reads topic, of one partition, from its start and compares it with the numbers below count.
func expect(t *testing.T, b *ottla.Broker, topic string, count int) {
	t.Helper()
	client := connect(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for next := 0; next < count; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s after %d of %d records: %v", topic, next, count, err)
		}
		for r := range fetches.RecordsAll() {
			if got := string(r.Value); got != fmt.Sprint(next) || r.Offset != int64(next) {
				t.Fatalf("%s: offset %d holds %q, want offset %d with %d", topic, r.Offset, got, next, next)
			}
			next++
		}
	}
}

func TestBrokerServesClients(t *testing.T) {
	cases := []struct {
		name   string
		config ottla.Config
	}{
		{"on a free port", ottla.Config{}},
		{"without sockets", ottla.Config{NoSockets: true}},
		{"on two listeners", ottla.Config{Settings: map[string]string{
			"listeners":                      "INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.1:0",
			"listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
			"inter.broker.listener.name":     "INSIDE",
		}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, c.config)
			client := connect(t, b)
			createTopic(t, client, "numbers", 1)
			produce(t, client, "numbers", 0, 1000)
			expect(t, b, "numbers", 1000)
			if len(b.ClusterID()) != 22 {
				t.Errorf("cluster id %q", b.ClusterID())
			}
			if got, want := len(b.Addrs()), map[bool]int{true: 0, false: 1}[c.config.NoSockets]; got < want || c.config.NoSockets && b.Addr() != "" {
				t.Errorf("addresses %v, first %q", b.Addrs(), b.Addr())
			}
		})
	}
}

// TestClientOfOneListenerStaysThere: the address in the answer is the one that the client came in by.
func TestClientOfOneListenerStaysThere(t *testing.T) {
	b := start(t, ottla.Config{Settings: map[string]string{
		"listeners":                      "INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.1:0",
		"listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
		"inter.broker.listener.name":     "INSIDE",
	}})
	for _, addr := range b.Addrs() {
		client, err := kgo.NewClient(kgo.SeedBrokers(addr.String()))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		brokers, err := kadm.NewClient(client).ListBrokers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := net.JoinHostPort(brokers[0].Host, fmt.Sprint(brokers[0].Port)); len(brokers) != 1 || got != addr.String() {
			t.Errorf("a client of %s was sent to %v", addr, brokers)
		}
	}
}

func TestBrokersRunSideBySide(t *testing.T) {
	const brokers = 4
	var all [brokers]*ottla.Broker
	ids := map[string]bool{}
	for i := range all {
		all[i] = start(t, ottla.Config{NoSockets: i%2 == 1})
		ids[all[i].ClusterID()] = true
	}
	if len(ids) != brokers {
		t.Errorf("cluster ids %v, want %d", ids, brokers)
	}
	for i, b := range all {
		client := connect(t, b)
		createTopic(t, client, "numbers", 1)
		produce(t, client, "numbers", 0, 100*(i+1))
	}
	stop(t, all[0]) // the others go on
	for i, b := range all[1:] {
		expect(t, b, "numbers", 100*(i+2))
	}
}

func TestDataSurvivesCloseAndStart(t *testing.T) {
	data := t.TempDir()
	var clusterID string
	for round := range 4 {
		b := start(t, ottla.Config{Data: data, NoSockets: round%2 == 1})
		if round == 0 {
			clusterID = b.ClusterID()
		} else {
			expect(t, b, "numbers", 100*round)
		}
		if b.ClusterID() != clusterID {
			t.Errorf("cluster id %s in round %d, %s before", b.ClusterID(), round, clusterID)
		}
		client := connect(t, b)
		if round == 0 {
			createTopic(t, client, "numbers", 1)
		}
		produce(t, client, "numbers", 100*round, 100*(round+1))
		client.Close()
		stop(t, b)
	}
}

// TestCloseLeavesNothingBehind starts and stops brokers and counts goroutines and descriptors.
func TestCloseLeavesNothingBehind(t *testing.T) {
	cycle := func(data string) {
		b, err := ottla.Start(t.Context(), ottla.Config{Data: data, Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		client := connect(t, b)
		produce(t, client, "auto", 0, 1)
		if offsets, err := kadm.NewClient(client).ListGroups(t.Context()); err != nil {
			t.Fatal(offsets, err)
		}
		client.Close()
		stop(t, b)
	}
	data := t.TempDir()
	cycle(data) // what a library keeps for good, it has now
	before := goleak.IgnoreCurrent()
	open := descriptors(t)
	for range 4 {
		cycle(data)
		cycle(t.TempDir())
	}
	goleak.VerifyNone(t, before)
	if now := descriptors(t); now > open {
		t.Errorf("%d descriptors are open, %d were before", now, open)
	}
}

// descriptors counts the open file descriptors of the process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestCloseAnswersWhatIsInFlight closes a broker under load: what a client was told is there after the next start, in order, and no
// offset is used twice. Producers are idempotent, and their retries end with the first broker.
func TestCloseAnswersWhatIsInFlight(t *testing.T) {
	data := t.TempDir()
	b := start(t, ottla.Config{Data: data})
	client := connect(t, b)
	createTopic(t, client, "load", 1)

	var mu sync.Mutex // guards acked
	acked := map[int64]string{}
	loaded := make(chan struct{})
	const wanted = 2000
	ctx, cancel := context.WithCancel(t.Context())
	var producers sync.WaitGroup
	var clients []*kgo.Client
	for p := range 4 {
		producer := connect(t, b, kgo.ManualFlushing())
		clients = append(clients, producer)
		producers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				var batch sync.WaitGroup
				for j := range 10 {
					value := fmt.Sprintf("%d-%d-%d", p, i, j)
					batch.Add(1)
					producer.Produce(ctx, &kgo.Record{Topic: "load", Value: []byte(value)}, func(r *kgo.Record, err error) {
						defer batch.Done()
						if err != nil {
							return
						}
						mu.Lock()
						defer mu.Unlock()
						if other, ok := acked[r.Offset]; ok {
							t.Errorf("offset %d was acknowledged for %s and for %s", r.Offset, other, value)
						}
						if acked[r.Offset] = value; len(acked) == wanted {
							close(loaded)
						}
					})
				}
				_ = producer.Flush(ctx)
				batch.Wait()
			}
		})
	}
	<-loaded
	stop(t, b)
	cancel()
	for _, c := range clients {
		c.Close() // fails what nobody has answered
	}
	producers.Wait()

	b = start(t, ottla.Config{Data: data})
	reader := connect(t, b, kgo.ConsumeTopics("load"))
	found := map[int64]string{}
	for missing := true; missing; {
		fetches := reader.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for r := range fetches.RecordsAll() {
			found[r.Offset] = string(r.Value)
		}
		missing = len(found) < len(acked)
	}
	for offset, value := range acked {
		if found[offset] != value {
			t.Errorf("offset %d was acknowledged for %s and holds %q", offset, value, found[offset])
		}
	}
	t.Logf("%d records were acknowledged", len(acked))
}

// TestCloseWakesLongPolls: a consumer that waits for hours does not hold the broker up.
func TestCloseWakesLongPolls(t *testing.T) {
	b := start(t, ottla.Config{})
	createTopic(t, connect(t, b), "quiet", 1)
	client := connect(t, b, kgo.ConsumeTopics("quiet"), kgo.FetchMaxWait(time.Hour))
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		client.PollFetches(ctx)
	}()
	<-polled // by now its fetch is waiting
	began := time.Now()
	stop(t, b)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("close took %s", took)
	}
}

func TestCloseTwiceIsOneClose(t *testing.T) {
	b := start(t, ottla.Config{NoSockets: true})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { stop(t, b) })
	}
	all.Wait()
	if _, err := b.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial after Close: %v", err)
	}
	if err := b.Err(); err != nil {
		t.Errorf("a closed broker has failed: %v", err)
	}
}

// TestHalfBuiltStartUndoesItself: a start that fails says why, leaves no goroutine and no descriptor, and the same folder starts
// when the cause is gone.
func TestHalfBuiltStartUndoesItself(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	locked := start(t, ottla.Config{NoSockets: true})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	stop(t, start(t, ottla.Config{})) // what a library keeps for good, it has now

	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		ctx    context.Context
		config ottla.Config
		want   []string // of the error's text
	}{
		{name: "port in use", config: ottla.Config{Listen: taken.Addr().String()}, want: []string{taken.Addr().String(), "in use", "--listen"}},
		{name: "second listener in use", config: ottla.Config{Settings: map[string]string{
			"listeners":                      "A://127.0.0.1:0,B://" + taken.Addr().String(),
			"listener.security.protocol.map": "A:PLAINTEXT,B:PLAINTEXT",
			"inter.broker.listener.name":     "A",
		}}, want: []string{taken.Addr().String(), "listener B", "in use"}},
		{name: "locked folder", config: ottla.Config{Data: locked.Data()}, want: []string{locked.Data(), "in use by another process", "--data"}},
		{name: "folder is a file", config: ottla.Config{Data: file}, want: []string{file, "not a directory"}},
		{name: "unknown setting", config: ottla.Config{Settings: map[string]string{"log.retention.hour": "1"}}, want: []string{"log.retention.hour", `did you mean "log.retention.hours"`}},
		{name: "bad value", config: ottla.Config{Settings: map[string]string{"log.segment.bytes": "many"}}, want: []string{"log.segment.bytes", "many"}},
		{name: "bad address", config: ottla.Config{Listen: "nowhere"}, want: []string{"listeners", "nowhere"}},
		{name: "missing file", config: ottla.Config{File: filepath.Join(t.TempDir(), "server.properties")}, want: []string{"server.properties"}},
		{name: "context has ended", ctx: ended, want: []string{"context canceled"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before, open := goleak.IgnoreCurrent(), descriptors(t)
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			if c.config.Data == "" {
				c.config.Data = t.TempDir()
			}
			if c.config.Listen == "" && c.config.Settings["listeners"] == "" {
				c.config.Listen = "127.0.0.1:0"
			}
			b, err := ottla.Start(c.ctx, c.config)
			if err == nil {
				stop(t, b)
				t.Fatal("the broker started")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			goleak.VerifyNone(t, before)
			if now := descriptors(t); now > open {
				t.Errorf("%d descriptors are open, %d were before", now, open)
			}
			if c.config.Data == file || c.config.Data == locked.Data() {
				return
			}
			again, err := ottla.Start(t.Context(), ottla.Config{Data: c.config.Data, NoSockets: true})
			if err != nil {
				t.Fatalf("the folder does not start afterwards: %v", err)
			}
			stop(t, again)
		})
	}
	produce(t, connect(t, locked), "still", 0, 1)
}

// TestStartMayEndAtAnyTime cancels the start at various moments: it either serves or leaves nothing behind.
func TestStartMayEndAtAnyTime(t *testing.T) {
	stop(t, start(t, ottla.Config{}))
	before, open := goleak.IgnoreCurrent(), descriptors(t)
	data := t.TempDir()
	for _, after := range []time.Duration{0, time.Microsecond, 100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond, time.Minute} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		b, err := ottla.Start(ctx, ottla.Config{Data: data, Listen: "127.0.0.1:0"})
		switch {
		case err == nil:
			stop(t, b)
		case !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("after %s: %v", after, err)
		}
		cancel()
	}
	goleak.VerifyNone(t, before)
	if now := descriptors(t); now > open {
		t.Errorf("%d descriptors are open, %d were before", now, open)
	}
}

// TestStartOutlivesItsContext: the context bounds the start only.
func TestStartOutlivesItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b, err := ottla.Start(ctx, ottla.Config{Data: t.TempDir(), NoSockets: true})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	defer stop(t, b)
	client := connect(t, b)
	produce(t, client, "auto", 0, 10)
	expect(t, b, "auto", 10)
}

func TestLoggerHearsTheBroker(t *testing.T) {
	var log syncBuffer
	b := start(t, ottla.Config{
		Settings: map[string]string{"ottla.ack.when": "unsafe-memory"},
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
	})
	stop(t, b)
	if !strings.Contains(log.String(), "acknowledged records can be lost") {
		t.Errorf("the log does not warn of ottla.ack.when=unsafe-memory:\n%s", log.String())
	}
}

// syncBuffer is a buffer that may be written and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
