package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/ottlaio/ottla/internal/api"
	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group"
	"github.com/ottlaio/ottla/internal/coordinator/sharestate"
	"github.com/ottlaio/ottla/internal/coordinator/txn"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/share"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/wal"
	"github.com/ottlaio/ottla/internal/wire"
)

// tombstoneInterval is the time between looks for deleted topics that nothing on disk names any more.
const tombstoneInterval = time.Minute

// minFreeBytes is the room on the disk that records never take. The metadata store needs most of it: below its own floor it refuses
// changes, and deleting a topic, which makes room, is one.
const minFreeBytes = metadata.DefaultSpaceFloor + metadata.DefaultBallastBytes + 16<<20

// ErrStopped is the cause with which background work ends when the broker is closed.
var ErrStopped = errors.New("the broker is stopping")

// Options say what to start.
type Options struct {
	// Config holds the settings. Required.
	Config *config.Broker
	// Logger hears what an operator should know. Required.
	Logger *slog.Logger
	// NoSockets opens no listener: clients come in through Server.Dial only.
	NoSockets bool
}

// Server is a running broker. Its methods are safe for concurrent use.
type Server struct {
	cfg    *config.Broker
	logger *slog.Logger
	fs     disk.FS // that the log and the coordinators' snapshots are on

	// The parts, in the order in which they are started; Close stops them in reverse.
	folder     *dataFolder
	store      *metadata.Etcd
	metadata   *metadata.Metadata
	engine     *storage.Engine
	topics     *topicSync
	groups     *group.Service
	txns       *txn.Service
	shareState *sharestate.Service
	shares     *share.Manager
	wire       *wire.Server

	producerIDs   *api.ProducerIDs
	groupSettings *api.GroupSettings

	listeners []openListener

	snapshotEvery base.Offset // see coordinator.Snapshots; tests have them more often

	workMu  sync.Mutex // guards stopped; held while a goroutine is added, so that none comes after the wait has begun
	stopped bool
	work    sync.WaitGroup
	cancel  context.CancelCauseFunc
	runCtx  context.Context //nolint:containedctx // the lifetime of the background work, ended by Close

	failed   chan struct{}
	failOnce sync.Once
	failure  error // read after failed is closed

	closeOnce sync.Once
	closeErr  error
}

// openListener is a listener that accepts connections.
type openListener struct {
	net.Listener
	info wire.ListenerInfo
}

// Start starts a broker and returns when it serves. ctx bounds the start only. When a part cannot be started, those that
// already run are stopped again in reverse order, and the error names the part.
func Start(ctx context.Context, o Options) (*Server, error) {
	s := newServer(ctx, o, disk.Default())
	steps := []func(context.Context) error{s.openFolder, s.openMetadata, s.openEngine, s.startShareState, s.startGroups, s.startTxns, s.startWire}
	if !o.NoSockets {
		steps = append(steps, s.listen)
	}
	if err := s.start(ctx, steps); err != nil {
		return nil, err
	}
	s.watchFailures()
	s.background(s.forgetTombstones)
	if o.Config.ScrubInterval > 0 {
		s.background(s.scrub)
	}
	return s, nil
}

func newServer(ctx context.Context, o Options, fs disk.FS) *Server {
	s := &Server{cfg: o.Config, logger: o.Logger, fs: fs, failed: make(chan struct{})}
	s.runCtx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return s
}

// start starts the parts in order, or none.
func (s *Server) start(ctx context.Context, steps []func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return errors.Join(err, s.Close(ctx))
		}
	}
	return nil
}

func (s *Server) openFolder(context.Context) (err error) {
	s.folder, err = openDataFolder(s.cfg.DataDir, s.cfg.NodeID)
	return err
}

func (s *Server) openMetadata(ctx context.Context) (err error) {
	s.store, err = metadata.OpenEtcd(ctx, metadata.EtcdConfig{
		Dir:    filepath.Join(s.folder.path, "etcd"),
		Logger: s.logger.With("part", "etcd"),
	})
	if err != nil {
		return fmt.Errorf("start the metadata store: %w", err)
	}
	s.metadata, err = metadata.Open(ctx, metadata.Options{
		Store:                    s.store,
		BrokerID:                 s.cfg.NodeID,
		ClusterID:                s.folder.meta.clusterID,
		Existing:                 s.folder.hasLog(),
		DefaultPartitions:        s.cfg.NumPartitions,
		DefaultReplicationFactor: s.cfg.DefaultReplicationFactor,
		Logger:                   s.logger,
	})
	if errors.Is(err, metadata.ErrClusterID) {
		return fmt.Errorf("read the metadata in %s: %w; put that folder back from where the rest of %s comes from, the log cannot be read without it",
			filepath.Join(s.folder.path, "etcd"), err, s.folder.path)
	}
	if err != nil {
		return fmt.Errorf("read the metadata: %w", err)
	}
	return nil
}

func (s *Server) openEngine(ctx context.Context) error {
	cfg, err := s.engineConfig(ctx)
	if err != nil {
		return err
	}
	return s.startEngine(ctx, cfg)
}

// engineConfig takes a new leader epoch for the engine to lead with.
func (s *Server) engineConfig(ctx context.Context) (storage.Config, error) {
	epoch, err := s.metadata.BeginEpoch(ctx)
	if err != nil {
		return storage.Config{}, fmt.Errorf("take a leader epoch: %w", err)
	}
	image := s.metadata.Image()
	return storage.Config{
		FS:                s.fs,
		Dir:               s.folder.path,
		WALMaxBytes:       s.cfg.WALMaxBytes,
		MinFreeBytes:      minFreeBytes,
		TailBytes:         s.cfg.TailBytes,
		LeaderEpoch:       epoch,
		AckMode:           ackMode(s.cfg.AckWhen),
		ProducerExpiry:    s.cfg.ProducerIDExpiration,
		RetentionInterval: s.cfg.LogRetentionCheckInterval,
		Cleaner:           cleanerConfig(dynamicConfig(s.cfg, image)),
		Partitions:        partitionSpecs(image, s.cfg),
		Tombstones:        tombstoneIDs(image),
		Logger:            s.logger,
	}, nil
}

func (s *Server) startEngine(ctx context.Context, cfg storage.Config) (err error) {
	if s.engine, err = storage.Open(ctx, cfg); err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	s.metadata.RaiseProducerIDs(s.engine.HighestProducerID())
	s.topics = newTopicSync(s.engine, s.cfg, s.logger)
	s.topics.follow(s.metadata)
	s.background(s.topics.run)
	return nil
}

func (s *Server) startShareState(context.Context) (err error) {
	s.shareState, err = sharestate.New(shareStateConfig(s.cfg), sharestate.Deps{
		Topic: shareTopic(s.cfg, s.metadata, s.engine), Partitions: api.TopicPartitions(s.metadata), Logger: s.logger,
	})
	if err != nil {
		return fmt.Errorf("start the share coordinator: %w", err)
	}
	s.groupSettings = api.NewGroupSettings(s.cfg, s.metadata)
	s.shares = share.NewManager(share.Config{
		Persister: s.shareState, MaxSessions: s.cfg.MaxShareSessions, Settings: s.groupSettings.SharePartitions,
	})
	s.background(func(ctx context.Context) {
		if err := s.shareState.Run(ctx); err != nil && ctx.Err() == nil {
			s.fail(fmt.Errorf("share coordinator: %w", err))
		}
	})
	return nil
}

// topicsDeleted has the coordinators forget what they keep of topics that were deleted.
func (s *Server) topicsDeleted(topics []*metadata.Topic) {
	names, ids := make([]string, len(topics)), make([]base.TopicID, len(topics))
	for i, t := range topics {
		names[i], ids[i] = t.Name, t.ID
	}
	s.groups.TopicsDeleted(names)
	s.shareState.TopicsDeleted(ids)
}

// snapshots is where the coordinators' snapshots are.
func (s *Server) snapshots() coordinator.Snapshots {
	return coordinator.Snapshots{FS: s.fs, Dir: filepath.Join(s.folder.path, "coordinator"), Every: s.snapshotEvery}
}

func (s *Server) startGroups(context.Context) (err error) {
	s.groups, err = group.New(groupConfig(s.cfg), group.Deps{
		Topic:     offsetsTopic(s.cfg, s.metadata, s.engine),
		Topics:    api.GroupTopics(s.metadata),
		Settings:  s.groupSettings.Consumer,
		Logger:    s.logger,
		Snapshots: s.snapshots(),

		ShareSettings:   s.groupSettings.ShareMembers,
		ShareListener:   s.shares,
		StreamsSettings: s.groupSettings.Streams,
	})
	if err != nil {
		return fmt.Errorf("start the group coordinator: %w", err)
	}
	s.topics.onDeleted(s.topicsDeleted)
	s.background(func(ctx context.Context) {
		if err := s.groups.Run(ctx); err != nil && ctx.Err() == nil {
			s.fail(fmt.Errorf("group coordinator: %w", err))
		}
	})
	return nil
}

func (s *Server) startTxns(context.Context) (err error) {
	s.producerIDs = api.NewProducerIDs(s.metadata)
	s.txns, err = txn.New(txn.Config{
		MaxTimeout:     s.cfg.TransactionMaxTimeout,
		AbortInterval:  s.cfg.TransactionAbortInterval,
		Expiration:     s.cfg.TransactionalIDExpiration,
		ExpiryInterval: s.cfg.TransactionalIDExpiryInterval,
	}, txn.Deps{
		Topic:            transactionTopic(s.cfg, s.metadata, s.engine),
		Markers:          &api.Markers{Metadata: s.metadata, Engine: s.engine, Groups: s.groups, Logger: s.logger},
		ProducerIDs:      s.producerIDs,
		Logger:           s.logger,
		Snapshots:        s.snapshots(),
		CoordinatorEpoch: int32(s.engine.LeaderEpoch()),
	})
	if err != nil {
		return fmt.Errorf("start the transaction coordinator: %w", err)
	}
	s.background(func(ctx context.Context) {
		if err := s.txns.Run(ctx); err != nil && ctx.Err() == nil {
			s.fail(fmt.Errorf("transaction coordinator: %w", err))
		}
	})
	return nil
}

func (s *Server) startWire(context.Context) error {
	handler := api.New(api.Deps{
		Config:      s.cfg,
		Metadata:    s.metadata,
		Engine:      s.engine,
		Groups:      s.groups,
		Txns:        s.txns,
		ShareState:  s.shareState,
		Shares:      s.shares,
		ProducerIDs: s.producerIDs,
		Logger:      s.logger,

		ShareSettings: s.groupSettings.Share,
	})
	s.wire = wire.NewServer(wire.Config{
		MaxRequestBytes:        s.cfg.SocketRequestMaxBytes,
		MaxInFlightPerConn:     s.cfg.MaxInFlightPerConnection,
		MaxBytesPerConn:        s.cfg.MaxBytesPerConnection,
		MaxBytesTotal:          s.cfg.MaxRequestMemory,
		WriteTimeout:           s.cfg.WriteTimeout,
		IdleTimeout:            s.cfg.ConnectionsMaxIdle,
		MaxConns:               s.cfg.MaxConnections,
		MaxConnsPerIP:          s.cfg.MaxConnectionsPerIP,
		MaxConnsPerIPOverrides: s.cfg.MaxConnectionsPerIPOverrides,
		Logger:                 s.logger,
	}, handler)
	return nil
}

// listen opens every listener before it serves the first, so that a port in use is found before a client comes in.
func (s *Server) listen(ctx context.Context) error {
	for _, l := range s.cfg.Listeners {
		address := net.JoinHostPort(l.Host, strconv.Itoa(l.Port))
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("listener %s: %w; free the port or choose another with --listen HOST:PORT", l.Name, err)
		}
		s.listeners = append(s.listeners, openListener{ln, wire.ListenerInfo{Name: l.Name}})
	}
	for _, l := range s.listeners {
		s.background(func(ctx context.Context) {
			if err := s.wire.Serve(ctx, l.Listener, l.info); err != nil {
				s.fail(fmt.Errorf("listener %s: %w", l.info.Name, err))
			}
		})
	}
	return nil
}

// background runs f on a goroutine that Close waits for; its ctx ends when Close begins to stop background work. It reports false,
// and runs nothing, once Close has come that far.
func (s *Server) background(f func(ctx context.Context)) bool {
	s.workMu.Lock()
	defer s.workMu.Unlock()
	if s.stopped {
		return false
	}
	s.work.Go(func() { f(s.runCtx) })
	return true
}

// watchFailures turns the failure of a part into the failure of the broker.
func (s *Server) watchFailures() {
	s.background(func(ctx context.Context) {
		select {
		case <-s.engine.Failed():
			s.fail(s.engine.Err())
		case <-s.metadata.Failed():
			s.fail(s.metadata.Err())
		case <-s.store.Failed():
			s.fail(s.store.Err())
		case <-ctx.Done():
		}
	})
}

func (s *Server) fail(err error) {
	s.failOnce.Do(func() {
		s.failure = err
		close(s.failed)
	})
}

func (s *Server) forgetTombstones(ctx context.Context) {
	ticker := time.NewTicker(tombstoneInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		ids := s.engine.ForgetTombstones()
		if len(ids) == 0 {
			continue
		}
		if err := s.metadata.ForgetTombstones(ctx, ids); err != nil && ctx.Err() == nil {
			s.logger.Warn("tombstones of deleted topics are kept for now", "err", err)
		}
	}
}

// Failed is closed when the broker can no longer keep its promises, on a failed write for instance: Err says why, and the broker is
// to be closed. What was acknowledged is safe.
func (s *Server) Failed() <-chan struct{} { return s.failed }

// Err is why Failed is closed; nil before.
func (s *Server) Err() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

// Addrs returns the address of every open listener, in the order of the listeners setting.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, 0, len(s.listeners))
	for _, l := range s.listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// ClusterID returns the id of the cluster, as clients see it.
func (s *Server) ClusterID() string { return s.metadata.Image().ClusterID() }

// Close stops the broker in order: no new connections and requests; requests in flight are answered until ctx ends; coordinators; the
// log, flushed and checkpointed; the metadata; the lock. It returns when every goroutine of the broker has ended. Later calls
// return the same.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() { s.closeErr = s.close(ctx) })
	return s.closeErr
}

func (s *Server) close(ctx context.Context) error {
	var errs []error
	stop := func(part string, f func() error) {
		if err := f(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", part, err))
		}
	}
	if s.wire != nil {
		// Connections that were still busy at the deadline are cut; their clients try again elsewhere or later.
		if err := s.wire.Shutdown(ctx); err != nil && ctx.Err() == nil {
			errs = append(errs, fmt.Errorf("stop serving: %w", err))
		}
	}
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.cancel(ErrStopped)
	if s.txns != nil {
		stop("the transaction coordinator", s.txns.Close)
	}
	if s.groups != nil {
		stop("the group coordinator", s.groups.Close)
	}
	if s.shares != nil {
		stop("share partitions", s.shares.Close)
	}
	if s.shareState != nil {
		stop("the share coordinator", s.shareState.Close)
	}
	s.workMu.Lock()
	s.stopped = true
	s.workMu.Unlock()
	s.work.Wait()
	if s.engine != nil {
		// The flush is not cut short by the deadline of answering clients: unflushed data would only cost the next start time.
		stop("the log", func() error { return s.engine.Close(context.WithoutCancel(ctx)) })
	}
	if s.metadata != nil {
		stop("the metadata", s.metadata.Close)
	}
	if s.store != nil {
		stop("the metadata store", s.store.Close)
	}
	if s.folder != nil {
		stop("the data folder", s.folder.Close)
	}
	return errors.Join(errs...)
}

func ackMode(when config.AckWhen) wal.AckMode {
	switch when {
	case config.AckUnsafeWritten:
		return wal.UnsafeWritten
	case config.AckUnsafeMemory:
		return wal.UnsafeMemory
	default:
		return wal.Synced
	}
}

func tombstoneIDs(image *metadata.Image) map[base.TopicID]struct{} {
	ids := map[base.TopicID]struct{}{}
	for id := range image.Tombstones() {
		ids[id] = struct{}{}
	}
	return ids
}

func shareStateConfig(c *config.Broker) sharestate.Config {
	updates := c.ShareUpdatesPerSnapshot
	if updates == 0 {
		updates = -1 // sharestate.Config's word for none
	}
	return sharestate.Config{UpdatesPerSnapshot: updates, PruneInterval: c.SharePruneInterval, ColdInterval: c.ShareColdInterval}
}

func groupConfig(c *config.Broker) group.Config {
	delay := c.GroupInitialRebalanceDelay
	if delay == 0 {
		delay = -1 // group.Config's word for none
	}
	return group.Config{
		InitialRebalanceDelay:  delay,
		MinSessionTimeout:      c.GroupMinSessionTimeout,
		MaxSessionTimeout:      c.GroupMaxSessionTimeout,
		MaxSize:                c.GroupMaxSize,
		OffsetMetadataMaxBytes: c.OffsetMetadataMaxBytes,
		OffsetsRetention:       c.OffsetsRetention,
		RetentionCheckInterval: c.OffsetsRetentionCheckInterval,
		Assignors:              c.ConsumerGroupAssignors,
		ConsumerMaxSize:        c.ConsumerGroupMaxSize,
		Migration:              group.ParseMigrationPolicy(c.ConsumerGroupMigration),
		RegexRefreshInterval:   c.ConsumerGroupRegexRefresh,
		StreamsMaxSize:         c.StreamsGroupMaxSize,
		ShareMaxSize:           c.ShareGroupMaxSize,
		ShareInitializeRetry:   c.ShareGroupInitializeRetry,
	}
}
