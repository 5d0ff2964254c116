package api

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/sharestate"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/wal"
	"github.com/ottlaio/ottla/internal/wire"
)

// testListener is the listener that the clients of a testBroker come in on.
const testListener = "PLAINTEXT"

// testBroker is a whole broker in memory: real metadata, storage engine, group coordinator and connections.
type testBroker struct {
	tb         testing.TB
	config     *config.Broker
	fs         disk.FS
	store      *metadata.Memory
	metadata   *metadata.Metadata
	engine     *storage.Engine
	shares     *share.Manager
	shareState *sharestate.Service
	api        *API
	wire       *wire.Server
	ctx        context.Context
	serving    sync.WaitGroup
	faults     faultLog
}

// newBroker starts a broker with the given settings ("key=value").
func newBroker(tb testing.TB, sets ...string) *testBroker {
	tb.Helper()
	cfg, err := config.Load(config.Sources{Sets: append([]string{"log.dirs=/data", "group.initial.rebalance.delay.ms=0"}, sets...)})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	b := &testBroker{tb: tb, config: cfg, ctx: ctx, fs: disk.Wrap(vfs.NewMem())}
	logger := slog.New(&b.faults)
	b.store = metadata.NewMemory()
	b.metadata, err = metadata.Open(ctx, metadata.Options{Store: b.store, BrokerID: cfg.NodeID, Logger: logger})
	if err != nil {
		tb.Fatal(err)
	}
	var epoch base.LeaderEpoch
	for epoch < 3 { // so that there are older epochs than this broker's
		if epoch, err = b.metadata.BeginEpoch(ctx); err != nil {
			tb.Fatal(err)
		}
	}
	if err := b.fs.MkdirAll("/data", 0o755); err != nil {
		tb.Fatal(err)
	}
	b.engine, err = storage.Open(ctx, storage.Config{
		FS: b.fs, Dir: "/data", LeaderEpoch: epoch, Logger: logger, WALFileBytes: 4 << 20, WALMaxBytes: 64 << 20, TailBytes: 32 << 20,
	})
	if err != nil {
		tb.Fatal(err)
	}
	empty := b.metadata.Subscribe(b.follow)
	b.follow(empty, b.metadata.Image())
	settings := NewGroupSettings(cfg, b.metadata)
	groups, err := group.New(group.Config{InitialRebalanceDelay: -1}, group.Deps{
		Topic: testInternalTopic{b, group.Topic}, Topics: GroupTopics(b.metadata), Settings: settings.Consumer,
		StreamsSettings: settings.Streams, ShareSettings: settings.ShareMembers, Logger: logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	ids := NewProducerIDs(b.metadata)
	txns, err := txn.New(txn.Config{MaxTimeout: cfg.TransactionMaxTimeout}, txn.Deps{
		Topic:   testInternalTopic{b, txn.Topic},
		Markers: &Markers{Metadata: b.metadata, Engine: b.engine, Groups: groups, Logger: logger}, ProducerIDs: ids, Logger: logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	b.serving.Go(func() { _ = txns.Run(ctx) })
	state, err := sharestate.New(sharestate.Config{}, sharestate.Deps{
		Topic: testInternalTopic{b, sharestate.Topic}, Partitions: TopicPartitions(b.metadata), Logger: logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	b.shareState = state
	b.shares = share.NewManager(share.Config{Persister: state, MaxSessions: cfg.MaxShareSessions, Settings: settings.SharePartitions})
	b.api = New(Deps{
		Config: cfg, Metadata: b.metadata, Engine: b.engine, Groups: groups, Txns: txns, ShareState: state, Shares: b.shares,
		ShareSettings: settings.Share, ProducerIDs: ids, Logger: logger,
	})
	b.wire = wire.NewServer(wire.Config{Logger: logger, MaxRequestBytes: cfg.SocketRequestMaxBytes}, b.api)
	tb.Cleanup(func() {
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		errs := errors.Join(b.wire.Shutdown(stop), b.shares.Close(), txns.Close(), groups.Close(), state.Close())
		cancel()
		b.serving.Wait()
		errs = errors.Join(errs, b.engine.Close(stop), b.metadata.Close(), b.store.Close())
		cancel()
		if errs != nil {
			tb.Error(errs)
		}
		for _, fault := range b.faults.take() {
			tb.Error(fault)
		}
	})
	return b
}

// faultLog is a log handler that keeps what is logged as an error: panics in handlers, and errors that have no code of their own.
type faultLog struct {
	mu     sync.Mutex // guards faults
	faults []string
}

func (f *faultLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (f *faultLog) WithAttrs([]slog.Attr) slog.Handler               { return f }
func (f *faultLog) WithGroup(string) slog.Handler                    { return f }

func (f *faultLog) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += "\n" + a.String()
		return true
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, text)
	return nil
}

// take returns the faults so far and forgets them.
func (f *faultLog) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	faults := f.faults
	f.faults = nil
	return faults
}

// follow applies the metadata to the engine.
func (b *testBroker) follow(prev, next *metadata.Image) {
	delta := next.Diff(prev)
	add := func(t *metadata.Topic, from int) {
		for i := from; i < len(t.Partitions); i++ {
			_, err := b.engine.Create(storage.PartitionSpec{Topic: t.Name, ID: base.TopicIDPartition{ID: t.ID, Partition: int32(i)}})
			if err != nil {
				b.tb.Error(err)
			}
		}
	}
	for _, t := range delta.Created {
		add(t, 0)
	}
	for _, c := range delta.Changed {
		add(c.Next, len(c.Prev.Partitions))
	}
	for _, t := range delta.Deleted {
		if err := b.engine.Delete(b.ctx, t.ID); err != nil {
			b.tb.Error(err)
		}
	}
}

// testInternalTopic is the topic of a coordinator.
type testInternalTopic struct {
	*testBroker
	name string
}

func (o testInternalTopic) Ensure(ctx context.Context) error {
	r := o.metadata.CreateTopics(ctx, []metadata.NewTopic{{
		Name: o.name, Partitions: 4, ReplicationFactor: 1, Internal: true, Configs: map[string]string{"cleanup.policy": "compact"},
	}}, false)
	if errors.Is(r[0].Err, metadata.ErrTopicExists) {
		return nil
	}
	return r[0].Err
}

func (o testInternalTopic) Partitions() int32 {
	t, ok := o.metadata.Image().Topic(o.name)
	if !ok {
		return 0
	}
	return int32(len(t.Partitions))
}

func (o testInternalTopic) Log(partition int32) (coordinator.Log, error) {
	t, ok := o.metadata.Image().Topic(o.name)
	if !ok {
		return nil, coordinator.ErrNotCoordinator
	}
	p, ok := o.engine.Partition(base.TopicIDPartition{ID: t.ID, Partition: partition})
	if !ok {
		return nil, coordinator.ErrNotCoordinator
	}
	return testLog{o.engine, p}, nil
}

type testLog struct {
	engine *storage.Engine
	*storage.Partition
}

func (l testLog) Append(ctx context.Context, batch []byte) (coordinator.Appended, error) {
	h, err := record.ParseHeader(batch)
	if err != nil {
		return coordinator.Appended{}, err
	}
	a, err := l.Partition.Append(ctx, batch, h, storage.AppendOptions{Origin: storage.Coordinator, ExpectedEpoch: base.NoLeaderEpoch})
	return coordinator.Appended{Base: a.Base, Token: coordinator.Token(a.Sequence)}, err
}

func (l testLog) Wait(ctx context.Context, token coordinator.Token) error {
	return l.engine.Wait(ctx, wal.Sequence(token))
}

func (l testLog) Read(from base.Offset, maxBytes int) ([]byte, error) {
	s, err := l.Partition.Read(from, storage.ReadOptions{MaxBytes: maxBytes, AtLeastOne: true, Upto: storage.LogEnd})
	if err != nil {
		return nil, err
	}
	return s.Bytes()
}

func (l testLog) Offsets() (start, end base.Offset) {
	o := l.Partition.Offsets()
	return o.LogStart, o.LogEnd
}

// testClient is one connection to a testBroker.
type testClient struct {
	tb   testing.TB
	conn net.Conn
	next int32
}

// client opens a connection in memory.
func (b *testBroker) client() *testClient {
	b.tb.Helper()
	near, far := net.Pipe()
	b.serving.Go(func() { b.wire.ServeConn(b.ctx, far, wire.ListenerInfo{Name: testListener}) })
	c := &testClient{tb: b.tb, conn: near}
	b.tb.Cleanup(func() { near.Close() })
	return c
}

// send sends a request without waiting for its answer.
func (c *testClient) send(req kmsg.Request) int32 {
	c.tb.Helper()
	c.next++
	c.sendRaw(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, c.next))
	return c.next
}

func (c *testClient) sendRaw(frame []byte) {
	c.tb.Helper()
	if _, err := c.conn.Write(frame); err != nil {
		c.tb.Fatal(err)
	}
}

// receive reads the answer to req.
func (c *testClient) receive(req kmsg.Request) (kmsg.Response, error) {
	var size [4]byte
	if err := c.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c.conn, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	body = body[4:]
	if resp.IsFlexible() && resp.Key() != 18 {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, err
	}
	again := resp.AppendTo(nil)
	if string(again) != string(body) {
		c.tb.Errorf("%s v%d: the answer is not what its own decoding encodes to:\n%x\n%x", kmsg.NameForKey(req.Key()), req.GetVersion(), body, again)
	}
	return resp, nil
}

// ask sends a request and returns its answer.
func ask[R kmsg.Response](c *testClient, req kmsg.Request) R {
	c.tb.Helper()
	c.send(req)
	return answered[R](c, req)
}

// answered returns the answer to a request that was sent.
func answered[R kmsg.Response](c *testClient, req kmsg.Request) R {
	c.tb.Helper()
	resp, err := c.receive(req)
	if err != nil {
		c.tb.Fatalf("%s v%d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return resp.(R)
}

// closedBy sends a request and requires that the broker closes the connection.
func (c *testClient) closedBy(req kmsg.Request) {
	c.tb.Helper()
	c.send(req)
	if resp, err := c.receive(req); err == nil {
		c.tb.Fatalf("%s v%d was answered with %+v, want the connection closed", kmsg.NameForKey(req.Key()), req.GetVersion(), resp)
	}
}

// createTopic creates a topic and returns its id.
func (b *testBroker) createTopic(name string, partitions int32, configs ...string) base.TopicID {
	b.tb.Helper()
	settings := map[string]string{}
	for i := 0; i+1 < len(configs); i += 2 {
		settings[configs[i]] = configs[i+1]
	}
	r := b.metadata.CreateTopics(b.ctx, []metadata.NewTopic{{Name: name, Partitions: partitions, ReplicationFactor: 1, Configs: settings}}, false)
	if r[0].Err != nil {
		b.tb.Fatal(r[0].Err)
	}
	return r[0].Topic.ID
}

// batchOf builds a batch of records with the given values, all of them at timestamp.
func batchOf(timestamp int64, values ...string) []byte {
	b := record.NewBuilder(record.BuilderOptions{})
	for _, v := range values {
		b.Append(timestamp, nil, []byte(v))
	}
	return b.Build(0)
}

// produceRequest asks to append records to one partition.
func produceRequest(version int16, topic string, id base.TopicID, partition int32, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 10_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = topic, id
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// produced1 is the answer for the one partition of a produce.
func produced1(c *testClient, req *kmsg.ProduceRequest) kmsg.ProduceResponseTopicPartition {
	c.tb.Helper()
	return ask[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0]
}

// mustProduce appends values to a partition.
func mustProduce(c *testClient, topic string, partition int32, values ...string) {
	c.tb.Helper()
	got := produced1(c, produceRequest(12, topic, base.TopicID{}, partition, batchOf(1000, values...)))
	if got.ErrorCode != 0 {
		c.tb.Fatalf("produce to %s-%d: code %d", topic, partition, got.ErrorCode)
	}
}

// recordsOf lists the records of a fetch answer as "offset:value".
func recordsOf(tb testing.TB, batches []byte) []string {
	tb.Helper()
	var list []string
	for len(batches) > 0 {
		batch, rest, err := record.Next(batches)
		if err != nil {
			tb.Fatal(err)
		}
		for r, err := range record.Records(batch, 1<<20) {
			if err != nil {
				tb.Fatal(err)
			}
			list = append(list, strconv.FormatInt(int64(r.Offset), 10)+":"+string(r.Value))
		}
		batches = rest
	}
	return list
}
