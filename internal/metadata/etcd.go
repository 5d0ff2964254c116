package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
)

const (
	// etcdRoot stands before every key, so that an etcd can be shared with others.
	etcdRoot = "ottla/"
	// etcdPeer names the only member. Nothing listens there: a cluster of one has no peers.
	etcdPeer = "http://ottla.invalid:2380"

	etcdQuotaBytes = 1 << 30
	// etcdSegmentBytes is how much etcd's wal allocates at a time; it always has the next one ready.
	etcdSegmentBytes = 16 << 20
	etcdKeepRevs     = "2000"
	// etcdSnapshotEntries is how long etcd's log gets before there is a snapshot of it on disk. A start compacts the log in memory once it
	// has applied a hundred entries (etcd's memorySnapshotCount), while raft may still have to read it from the last snapshot on, and panics if
	// it cannot: where there is none at all. So there must be one before the log has that many.
	etcdSnapshotEntries = 100
	// etcdStopTime bounds the closing of a member that failed: its goroutines may wait for each other then.
	etcdStopTime = 2 * time.Second
)

func init() { wal.SegmentSizeBytes = etcdSegmentBytes } // 64 MB otherwise, and two of them

// EtcdConfig says how to run the embedded etcd member.
type EtcdConfig struct {
	// Dir is the member's folder, created if need be.
	Dir string
	// SpaceFloor is how many bytes must be free on Dir's file system for a write to be let through; 0 means DefaultSpaceFloor.
	SpaceFloor int64
	// BallastBytes is the size of the file that is given up when space gets short; 0 means DefaultBallastBytes, negative none.
	BallastBytes int64
	// DiskFree returns the bytes free to this process on dir's file system; nil asks the system.
	DiskFree func(dir string) (int64, error)
	// Logger takes etcd's log, less its noise. It may be nil.
	Logger *slog.Logger
}

// Etcd is a Store in a single-member etcd that runs in this process and listens nowhere. Every write is synced.
//
// etcd ends its process when it can write no more. Here its last word becomes an error on Failed, and what it was doing is
// abandoned; nothing of it is used again before the next start.
type Etcd struct {
	log    *slog.Logger
	space  *spaceGuard
	etcd   *embed.Etcd
	client *clientv3.Client

	quit  context.Context // ends when the store closes
	stop  context.CancelCauseFunc
	calls sync.WaitGroup // what runs under spawn
	alarm *alarm
	once  sync.Once
	err   error // of Close
}

// alarm is how etcd's dying words reach the store.
type alarm struct {
	mu      sync.Mutex // guards err and closing
	err     error
	closing bool
	failed  chan struct{}
}

func (a *alarm) raise(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = fmt.Errorf("%w: %w", ErrFailed, err)
		close(a.failed)
	}
}

func (a *alarm) cause() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// OpenEtcd starts the member on its folder, or on an empty one, and returns when it takes writes.
//
// Errors: ErrNoSpace when the disk is too full to start, ErrFailed with etcd's own words when it cannot read its files.
func OpenEtcd(ctx context.Context, cfg EtcdConfig) (*Etcd, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open metadata store: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil { // it may have been there already
		return nil, fmt.Errorf("open metadata store: %w", err)
	}
	if err := setAsideUnfinished(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open metadata store %s: %w", cfg.Dir, err)
	}
	space := newSpaceGuard(cfg)
	if err := space.makeRoom(); err != nil {
		return nil, fmt.Errorf("open metadata store %s: %w", cfg.Dir, err)
	}
	e := &Etcd{log: cfg.Logger, space: space, alarm: &alarm{failed: make(chan struct{})}}
	e.quit, e.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := e.start(ctx, cfg.Dir); err != nil {
		return nil, fmt.Errorf("open metadata store %s: %w", cfg.Dir, errors.Join(err, e.Close()))
	}
	e.spawn(func() { space.watch(e.quit) })
	return e, nil
}

func etcdConfig(dir string, lg *zap.Logger) (*embed.Config, error) {
	peer, err := url.Parse(etcdPeer)
	if err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Name = "ottla"
	cfg.Dir = dir
	cfg.ListenPeerUrls, cfg.ListenClientUrls = nil, nil
	cfg.AdvertisePeerUrls = []url.URL{*peer}
	cfg.AdvertiseClientUrls = []url.URL{*peer}
	cfg.InitialCluster = cfg.Name + "=" + etcdPeer
	cfg.InitialClusterToken = "ottla"
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.SnapshotCount = etcdSnapshotEntries
	cfg.SnapshotCatchUpEntries = 500
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, etcdKeepRevs
	cfg.QuotaBackendBytes = etcdQuotaBytes
	cfg.BootstrapDefragThresholdMegabytes = 64
	cfg.MaxTxnOps = MaxTxnOps + 1
	cfg.MaxRequestBytes = 2 * MaxTxnBytes  // compares and framing count too
	cfg.WarningApplyDuration = time.Second // thousands of topics in one transaction take their time
	cfg.EnableGRPCGateway = false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)
	return cfg, nil
}

// start runs etcd on a goroutine of its own, because it may give up in the middle of it.
func (e *Etcd) start(ctx context.Context, dir string) error {
	cfg, err := etcdConfig(dir, newEtcdLogger(e.log, e.alarm))
	if err != nil {
		return err
	}
	var started *embed.Etcd
	var startErr error
	done := make(chan struct{})
	e.spawn(func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				e.alarm.raise(fmt.Errorf("etcd cannot read its files: %v", r))
			}
		}()
		started, startErr = embed.StartEtcd(cfg)
	})
	// ctx cannot hurry it.
	select {
	case <-done: // also when it gave up there
		e.etcd = started
	case <-e.alarm.failed: // on a goroutine of its own, maybe, for which it then waits without end
	}
	if err := e.alarm.cause(); err != nil {
		return err
	}
	if startErr != nil {
		return startErr
	}
	select {
	case <-e.etcd.Server.ReadyNotify():
	case <-e.etcd.Server.StopNotify():
		return errors.New("etcd stopped while starting")
	case <-e.alarm.failed:
		return e.alarm.cause()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := noteReady(dir); err != nil {
		return err
	}
	e.client = v3client.New(e.etcd.Server)
	return nil
}

// spawn runs f on a goroutine that Close waits for, unless the store is closing.
func (e *Etcd) spawn(f func()) bool {
	e.alarm.mu.Lock() // so that nothing begins once Close waits
	defer e.alarm.mu.Unlock()
	if !e.alarm.closing {
		e.calls.Go(f)
	}
	return !e.alarm.closing
}

// call runs f, which calls into etcd, and gives up on it when etcd has failed, the store closes or ctx ends. f runs on its
// own goroutine because a fatal error of etcd ends the goroutine that it happens on.
func (e *Etcd) call(ctx context.Context, f func(context.Context) error) error {
	if err := e.usable(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.quit, func() { cancel(ErrClosed) })()
	result := make(chan error, 1)
	if !e.spawn(func() { result <- f(ctx) }) {
		return ErrClosed
	}
	select {
	case err := <-result:
		return e.explain(ctx, err)
	case <-e.alarm.failed:
		return e.alarm.cause()
	}
}

func (e *Etcd) usable() error {
	if err := e.alarm.cause(); err != nil {
		return err
	}
	return context.Cause(e.quit)
}

// explain turns etcd's errors into those of Store.
func (e *Etcd) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case e.usable() != nil:
		return e.usable()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, rpctypes.ErrCompacted):
		return ErrCompacted
	case errors.Is(err, rpctypes.ErrFutureRev):
		return ErrFutureRevision
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w: %w", ErrTxnTooLarge, err)
	case errors.Is(err, rpctypes.ErrTimeout), errors.Is(err, rpctypes.ErrTooManyRequests),
		errors.Is(err, rpctypes.ErrNoLeader), errors.Is(err, rpctypes.ErrLeaderChanged):
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// Get implements Store.
func (e *Etcd) Get(ctx context.Context, prefix string, revision int64) (s Snapshot, err error) {
	var res *clientv3.GetResponse
	err = e.call(ctx, func(ctx context.Context) (err error) {
		res, err = e.client.Get(ctx, etcdRoot+prefix, clientv3.WithPrefix(), clientv3.WithRev(revision))
		return err
	})
	if err != nil {
		return Snapshot{}, err
	}
	s = Snapshot{Revision: res.Header.Revision, KVs: make([]KV, 0, len(res.Kvs))}
	if revision != 0 {
		s.Revision = revision
	}
	for _, kv := range res.Kvs { // a range comes sorted by key
		s.KVs = append(s.KVs, KV{string(kv.Key[len(etcdRoot):]), kv.Value, kv.ModRevision})
	}
	return s, nil
}

// Commit implements Store.
func (e *Etcd) Commit(ctx context.Context, txn Txn) (TxnResult, error) {
	if err := checkTxn(txn); err != nil {
		return TxnResult{}, err
	}
	if err := context.Cause(ctx); err != nil {
		return TxnResult{}, err
	}
	if err := e.space.admit(txn.Essential); err != nil {
		return TxnResult{}, err
	}
	compares := make([]clientv3.Cmp, 0, len(txn.Compares))
	for _, c := range txn.Compares {
		compares = append(compares, clientv3.Compare(clientv3.ModRevision(etcdRoot+c.Key), "=", c.ModRevision))
	}
	ops := make([]clientv3.Op, 0, len(txn.Ops))
	for _, op := range txn.Ops {
		if op.Delete {
			ops = append(ops, clientv3.OpDelete(etcdRoot+op.Key))
		} else {
			ops = append(ops, clientv3.OpPut(etcdRoot+op.Key, string(op.Value)))
		}
	}
	var res *clientv3.TxnResponse
	err := e.call(ctx, func(ctx context.Context) (err error) {
		res, err = e.client.Txn(ctx).If(compares...).Then(ops...).Commit()
		return err
	})
	if err != nil {
		return TxnResult{}, err
	}
	return TxnResult{Succeeded: res.Succeeded, Revision: res.Header.Revision}, nil
}

// Compact implements Store.
func (e *Etcd) Compact(ctx context.Context, revision int64) error {
	return e.call(ctx, func(ctx context.Context) error {
		_, err := e.client.Compact(ctx, revision, clientv3.WithCompactPhysical())
		return err
	})
}

// Failed implements Store.
func (e *Etcd) Failed() <-chan struct{} { return e.alarm.failed }

// Err implements Store.
func (e *Etcd) Err() error { return e.alarm.cause() }

// Close implements Store. Only a member that failed may leave goroutines behind, which Close then says; they hold nothing that
// a later member needs, but its folder's lock until the process ends.
func (e *Etcd) Close() error {
	e.once.Do(func() { e.err = e.close() })
	return e.err
}

func (e *Etcd) close() error {
	e.stop(ErrClosed)
	e.alarm.mu.Lock()
	e.alarm.closing = true
	e.alarm.mu.Unlock()
	done := make(chan error, 1)
	go func() { // waited for below, within bounds
		var err error
		if e.client != nil {
			err = e.client.Close()
		}
		if e.etcd != nil {
			e.etcd.Close()
		}
		e.calls.Wait()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-e.alarm.failed:
	}
	late := time.NewTimer(etcdStopTime)
	defer late.Stop()
	select {
	case <-done:
		return nil
	case <-late.C:
		return fmt.Errorf("close metadata store: etcd, having failed, did not stop within %s", etcdStopTime)
	}
}
