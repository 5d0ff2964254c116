package metadata

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
)

// How long to insist where others, or a slow disk, get in the way.
const (
	maxConflicts    = 20
	maxReloads      = 6
	reloadPauseBase = 50 * time.Millisecond // doubles with each try
)

// Options say what Open works with.
type Options struct {
	// Store is where everything is kept. It stays the caller's: close it after the Metadata.
	Store Store
	// BrokerID is this broker, which leads everything.
	BrokerID base.BrokerID
	// ClusterID is what the data folder says its cluster is; empty means unknown. A store that has no id yet takes this one or
	// a new random one.
	ClusterID string
	// Existing says that the data folder was in use before, so that a store that holds nothing has lost everything and must
	// not be taken for a new one.
	Existing bool
	// DefaultPartitions is num.partitions: what NewTopic.Partitions -1 means. 0 means 1.
	DefaultPartitions int32
	// DefaultReplicationFactor is default.replication.factor: what NewTopic.ReplicationFactor -1 means. 0 means 1.
	DefaultReplicationFactor int16
	// Logger may be nil.
	Logger *slog.Logger
}

// Metadata keeps the image up to date and carries out changes. All methods are safe for concurrent use.
type Metadata struct {
	opts  Options
	store Store
	log   *slog.Logger

	image      atomic.Pointer[Image]
	producerID atomic.Int64  // ids below this are never allocated, whatever the store says
	turn       chan struct{} // holds one token: changes are made one after the other, so that they seldom conflict

	cancel context.CancelCauseFunc
	done   sync.WaitGroup
	failed chan struct{}

	// applying is held while an image is put in place and its subscribers are told. mu may be taken under it.
	applying    sync.Mutex
	subscribers []func(prev, next *Image)

	mu       sync.Mutex    // guards the fields below
	applied  int64         // the revision that subscribers have been told of
	advanced chan struct{} // closed and replaced when applied or ended changes
	ended    error         // why the image no longer follows the store
	err      error         // ended, if that is a failure
}

// Open reads the whole store, gives it a cluster id if it has none, and starts to watch it. The image is complete when Open
// returns. ctx bounds only the opening.
//
// Errors: *DamageError (joined, naming every damaged key), ErrUnknownFormat, ErrClusterID, those of the store.
func Open(ctx context.Context, o Options) (*Metadata, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.DefaultPartitions = max(o.DefaultPartitions, 1)
	o.DefaultReplicationFactor = max(o.DefaultReplicationFactor, 1)
	m := &Metadata{
		opts: o, store: o.Store, log: o.Logger,
		turn:     make(chan struct{}, 1),
		failed:   make(chan struct{}),
		advanced: make(chan struct{}),
	}
	img, err := m.load(ctx, nil)
	if err == nil && img.clusterMod == 0 {
		img, err = m.found(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	if o.ClusterID != "" && o.ClusterID != img.clusterID {
		return nil, fmt.Errorf("open metadata: %w: the data folder is of cluster %s, the metadata of cluster %s", ErrClusterID, o.ClusterID, img.clusterID)
	}
	m.image.Store(img)
	m.applied = img.revision
	watching, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	m.cancel = cancel
	m.done.Go(func() { m.follow(watching) })
	return m, nil
}

// load reads the whole store.
func (m *Metadata) load(ctx context.Context, prev *Image) (*Image, error) {
	snap, err := m.store.Get(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	img, unknown, err := loadImage(snap, m.opts.BrokerID, prev)
	if err != nil {
		return nil, err
	}
	if len(unknown) > 0 {
		m.log.Warn("metadata holds keys of no known kind; they are left alone", "count", len(unknown), "first", unknown[0])
	}
	return img, nil
}

// found writes the cluster id into an empty store.
func (m *Metadata) found(ctx context.Context) (*Image, error) {
	if m.opts.Existing {
		return nil, fmt.Errorf("%w: the store is empty, but the data folder was in use before", ErrClusterID)
	}
	id := m.opts.ClusterID
	if id == "" {
		id = base.NewTopicID().String() // the same kind of id, made in the same way
	}
	if raw, err := base64.RawURLEncoding.DecodeString(id); err != nil || len(raw) != 16 {
		return nil, fmt.Errorf("%w: %q is not 22 characters of URL-safe base64", ErrClusterID, id)
	}
	// If another broker was faster, its id is read below.
	_, err := m.store.Commit(ctx, Txn{
		Compares: []Compare{{Key: keyCluster}},
		Ops:      []Op{{Key: keyCluster, Value: encodeValue(keyCluster, clusterValue{ID: id})}},

		Essential: true,
	})
	if err != nil {
		return nil, err
	}
	return m.load(ctx, nil)
}

// Image returns the newest image. It never blocks.
func (m *Metadata) Image() *Image { return m.image.Load() }

// Subscribe returns the image of the moment and has f called after every later change of it, in order and one call at a
// time, on the goroutine that applies changes: f must be quick enough for admin calls to wait for it, and must make none.
func (m *Metadata) Subscribe(f func(prev, next *Image)) *Image {
	m.applying.Lock()
	defer m.applying.Unlock()
	m.subscribers = append(m.subscribers, f)
	return m.image.Load()
}

// Failed is closed when the image can no longer follow the store (it failed, or holds a damaged value); Err then says why.
// Images stay readable.
func (m *Metadata) Failed() <-chan struct{} { return m.failed }

// Err returns nil until Failed is closed.
func (m *Metadata) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Close ends the watch. It returns when no callback runs any more. The store stays open.
func (m *Metadata) Close() error {
	m.cancel(ErrClosed)
	m.done.Wait()
	return nil
}

// follow keeps the image up to date until ctx ends or the store cannot be followed any more.
func (m *Metadata) follow(ctx context.Context) {
	err := m.watch(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = ErrClosed
	if ctx.Err() == nil {
		m.ended = err
		if !errors.Is(err, ErrFailed) {
			m.ended = fmt.Errorf("%w: %w", ErrFailed, err)
		}
		m.err = m.ended
		m.log.Error("metadata can no longer be followed", "revision", m.applied, "err", m.err)
		close(m.failed)
	}
	m.wakeLocked()
}

func (m *Metadata) watch(ctx context.Context) error {
	for {
		w := m.store.Watch("", m.Image().revision+1)
		err := m.consume(ctx, w)
		w.Close()
		if !errors.Is(err, ErrCompacted) {
			return err
		}
		if err := m.reload(ctx); err != nil {
			return err
		}
	}
}

// consume applies what a watch tells. It always ends with an error.
func (m *Metadata) consume(ctx context.Context, w Watch) error {
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return err
		}
		next, err := m.Image().apply(events)
		if err != nil {
			return err
		}
		m.publish(next)
	}
}

// reload replaces the image by what the store holds now, since the changes in between are no longer to be had.
func (m *Metadata) reload(ctx context.Context) error {
	for try := 1; ; try++ {
		next, err := m.load(ctx, m.Image())
		switch {
		case err == nil:
			m.log.Info("metadata was read anew, its history being compacted", "revision", next.revision)
			m.publish(next)
			return nil
		case try == maxReloads || errors.Is(err, ErrDamaged) || errors.Is(err, ErrFailed) || errors.Is(err, ErrClosed):
			return err
		}
		pause := time.NewTimer(reloadPauseBase << try)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

// publish puts an image in place and tells everyone.
func (m *Metadata) publish(next *Image) {
	m.applying.Lock()
	prev := m.image.Swap(next)
	for _, f := range m.subscribers {
		f(prev, next)
	}
	m.applying.Unlock()
	m.mu.Lock()
	m.applied = next.revision
	m.wakeLocked()
	m.mu.Unlock()
}

func (m *Metadata) wakeLocked() {
	close(m.advanced)
	m.advanced = make(chan struct{})
}

// reached waits until subscribers have been told of a revision.
func (m *Metadata) reached(ctx context.Context, revision int64) error {
	for {
		m.mu.Lock()
		applied, advanced, ended := m.applied, m.advanced, m.ended
		m.mu.Unlock()
		if applied >= revision {
			return nil
		}
		if ended != nil {
			return ended
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// update makes one change: plan looks at an image and returns the transaction that it leads to, or one without operations if
// there is nothing to do. The transaction must compare all keys whose values plan relied on. When one of them was changed in
// between, plan is called again with a newer image. update returns when the change has been applied here.
func (m *Metadata) update(ctx context.Context, plan func(*Image) (Txn, error)) error {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for range maxConflicts {
		if err := m.alive(); err != nil {
			return err
		}
		img := m.Image()
		txn, err := plan(img)
		if err != nil || len(txn.Ops) == 0 {
			return err
		}
		res, err := m.store.Commit(ctx, txn)
		if err != nil {
			return err
		}
		if res.Succeeded && plant.On(plant.AnswerBeforeImage) {
			return nil
		}
		if res.Succeeded {
			return m.reached(ctx, res.Revision)
		}
		// Something that plan relied on has changed since, so the image has a change before it.
		if err := m.reached(ctx, img.revision+1); err != nil {
			return err
		}
	}
	return ErrConflict
}

func (m *Metadata) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}
