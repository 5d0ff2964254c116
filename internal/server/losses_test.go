package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/internal/storage/disk"
	"github.com/ottlaio/ottla/internal/storage/disk/crashfs"
)

// What storage's power-loss test does to the engine alone is done here to the whole broker, put together as Start does, but without sockets: engine,
// coordinators, and the metadata in its twin in memory, which is durable at once. A workload runs on it. After each write, sync, rename and folder
// sync images are taken of what a power loss could leave (see crashfs), with the metadata as it was at that moment. On each a broker is
// started, and what it has is held against what the workload knows.

const lossDir = "/data"

// openOn starts a broker on a file system and a metadata store, with a small wal and tail. It does nothing in its own time.
func openOn(ctx context.Context, cfg *config.Broker, fs disk.FS, store metadata.Store) (*Server, error) {
	s := newServer(ctx, Options{Config: cfg, Logger: slog.New(slog.DiscardHandler)}, fs)
	s.folder = &dataFolder{path: lossDir, lock: nobody{}}
	s.snapshotEvery = 10
	openMetadata := func(ctx context.Context) (err error) {
		s.metadata, err = metadata.Open(ctx, metadata.Options{Store: store, BrokerID: 1, ClusterID: "lossylossylossylossyAA", DefaultPartitions: 1, DefaultReplicationFactor: 1})
		return err
	}
	openEngine := func(ctx context.Context) error {
		c, err := s.engineConfig(ctx)
		if err != nil {
			return err
		}
		c.WALMaxBytes, c.WALFileBytes, c.TailBytes, c.MinFreeBytes = 1<<20, 64<<10, 256<<10, 0
		c.CheckpointInterval, c.IdleFlush, c.RetentionInterval = time.Hour, time.Hour, time.Hour
		return s.startEngine(ctx, c)
	}
	err := s.start(ctx, []func(context.Context) error{openMetadata, openEngine, s.startShareState, s.startGroups, s.startTxns, s.startWire})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// nobody holds the lock of a folder that nobody else has.
type nobody struct{}

func (nobody) Close() error { return nil }

// kill ends the broker as the end of the process does: nothing more gets to the disk.
func (s *Server) kill(fs *crashfs.FS) {
	fs.SetFault(func(crashfs.Op) error { return errKilled })
	_ = s.Close(context.Background()) // says so
	fs.SetFault(nil)
}

var errKilled = errors.New("killed by a test")

// losses takes images of what a power loss could leave, and has them checked beside the workload. K is what the workload knows at a moment: what
// was acknowledged, and what was asked for.
type losses[K any] struct {
	t     *testing.T
	row   *proof.Proof
	seed  uint64
	cfg   *config.Broker
	fs    *crashfs.FS
	store *metadata.Memory
	// known is a copy of what is known, made with mu held. What it shares with the workload may change until release, by which the check of the
	// image begins.
	known func() K
	// keep says which images are taken: for each how much it keeps of what was not synced, in percent. Where all is synced only the first is.
	keep func(rng *rand.Rand) []int
	// check holds a broker that was started on an image against what was known.
	check func(ctx context.Context, s *Server, known K) error

	mu     sync.Mutex // guards the fields below, and what is known
	rng    *rand.Rand
	points int
	taken  []lossImage[K] // since the last release

	failed atomic.Bool
	images chan lossImage[K]
}

type lossImage[K any] struct {
	n     int
	at    string
	fs    *crashfs.FS
	store metadata.Snapshot
	known K
}

// newLosses is for one run. The workload sets what images are about.
func newLosses[K any](t *testing.T, row *proof.Proof, seed uint64, sets ...string) *losses[K] {
	t.Helper()
	cfg, err := config.Load(config.Sources{Sets: append([]string{"node.id=1", "log.dirs=" + t.TempDir()}, sets...)})
	if err != nil {
		t.Fatal(err)
	}
	l := &losses[K]{
		t: t, row: row, seed: seed, cfg: cfg, fs: crashfs.New(), store: metadata.NewMemory(), rng: rand.New(rand.NewPCG(seed, 2)), images: make(chan lossImage[K], 64),
	}
	if err := errors.Join(l.fs.MkdirAll(lossDir, 0o755), disk.SyncDir(l.fs, "/")); err != nil {
		t.Fatal(err)
	}
	l.fs.SetFragile(func(path string) bool { return strings.HasSuffix(path, ".log") })
	return l
}

// run runs a workload, which lets images be taken from when it calls watch, and releases them. It returns the number of writes and syncs.
func (l *losses[K]) run(workload func() error) int {
	var checkers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		checkers.Go(func() {
			for image := range l.images {
				if l.failed.Load() {
					continue
				}
				if err := l.try(image); err != nil {
					l.failed.Store(true)
					l.row.Lost(1)
					l.t.Errorf("SEED=%d: power loss after write or sync %d (%s): %v", l.seed, image.n, image.at, err)
				}
				l.row.Tried(1)
			}
		})
	}
	err := workload()
	l.fs.SetHook(nil)
	l.release()
	close(l.images)
	checkers.Wait()
	if err != nil {
		l.t.Errorf("SEED=%d: %v", l.seed, err)
	}
	return l.points
}

// watch has images taken from now on.
func (l *losses[K]) watch() { l.fs.SetHook(l.hook) }

func (l *losses[K]) hook(op crashfs.Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.points++
	keep := l.keep(l.rng)
	if l.fs.Settled() {
		keep = keep[:min(1, len(keep))]
	}
	for _, percent := range keep {
		image := lossImage[K]{n: l.points, at: fmt.Sprintf("%v %s @%d+%d", op.Kind, op.Path, op.Offset, op.Length), known: l.known()}
		image.fs = l.fs.CrashImageKeeping(l.rng, percent)
		var err error
		if image.store, err = l.store.Get(context.Background(), "", 0); err != nil {
			l.t.Errorf("read the metadata: %v", err)
			return
		}
		l.taken = append(l.taken, image)
	}
}

// release has the images checked that were taken since the last call. It waits while too many are.
func (l *losses[K]) release() {
	l.mu.Lock()
	taken := l.taken
	l.taken = nil
	l.mu.Unlock()
	for _, image := range taken {
		l.images <- image
	}
}

// with changes what is known.
func (l *losses[K]) with(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// open starts the workload's broker.
func (l *losses[K]) open() (*Server, error) { return openOn(l.t.Context(), l.cfg, l.fs, l.store) }

// try starts a broker on an image and checks what it has.
func (l *losses[K]) try(image lossImage[K]) error {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	store := metadata.NewMemory()
	restored := metadata.Txn{}
	for _, kv := range image.store.KVs {
		restored.Ops = append(restored.Ops, metadata.Op{Key: kv.Key, Value: kv.Value})
	}
	if len(restored.Ops) > 0 {
		if _, err := store.Commit(ctx, restored); err != nil {
			return err
		}
	}
	s, err := openOn(ctx, l.cfg, image.fs, store)
	if err != nil {
		return err
	}
	defer s.kill(image.fs)
	if d := s.engine.Damage(); len(d) > 0 {
		return fmt.Errorf("damage found: %+v", d)
	}
	return l.check(ctx, s, image.known)
}
