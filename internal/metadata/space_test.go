package metadata

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ottlaio/ottla/internal/base"
)

// fakeDisk is a file system with a set number of free bytes, to which a ballast file's are added once it is gone.
type fakeDisk struct {
	free    atomic.Int64
	ballast string
	size    int64
}

func (d *fakeDisk) diskFree(string) (int64, error) {
	free := d.free.Load()
	if _, err := os.Stat(d.ballast); err != nil {
		free += d.size
	}
	return free, nil
}

func TestSpaceGuardMarks(t *testing.T) {
	const floor, ballast = 1600, 500
	for _, c := range []struct {
		name         string
		free         int64 // with the ballast in place
		grow, shrink bool
		kept         bool
	}{
		{"plenty", 2000, true, true, true},
		{"at the floor", 1600, true, true, true},
		{"below the floor", 1599, false, true, true},
		{"at a quarter", 400, false, true, true},
		{"below a quarter, the ballast goes", 399, false, true, false},
		{"nothing but the ballast", 0, false, true, false},
		{"not even that", -450, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			d := &fakeDisk{ballast: filepath.Join(dir, ballastName), size: ballast}
			d.free.Store(c.free)
			g := newSpaceGuard(EtcdConfig{Dir: dir, SpaceFloor: floor, BallastBytes: ballast, DiskFree: d.diskFree, Logger: testLogger(t)})
			if err := writeBallast(d.ballast, ballast); err != nil {
				t.Fatal(err)
			}
			if err := g.makeRoom(); (err == nil) != c.shrink || err != nil && !errors.Is(err, ErrNoSpace) {
				t.Errorf("start: %v", err)
			}
			if err := g.admit(false); (err == nil) != c.grow || err != nil && !errors.Is(err, ErrNoSpace) {
				t.Errorf("growing: %v", err)
			}
			if err := g.admit(true); (err == nil) != c.shrink || err != nil && !errors.Is(err, ErrNoSpace) {
				t.Errorf("freeing: %v", err)
			}
			if _, err := os.Stat(d.ballast); (err == nil) != c.kept {
				t.Errorf("ballast: %v", err)
			}
		})
	}
}

func TestSpaceGuardMakesTheBallastAnew(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{ballast: filepath.Join(dir, ballastName), size: 500}
		g := newSpaceGuard(EtcdConfig{Dir: dir, SpaceFloor: 1600, BallastBytes: 500, DiskFree: d.diskFree, Logger: testLogger(t)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.watch(ctx)
		}()
		for _, c := range []struct {
			free int64 // with the ballast in place
			want bool
		}{{1600, false}, {2100, true}, {1000, true}, {100, false}, {1500, false}, {3000, true}} {
			d.free.Store(c.free)
			time.Sleep(2 * spaceInterval) // of simulated time
			synctest.Wait()
			st, err := os.Stat(d.ballast)
			if (err == nil) != c.want || err == nil && st.Size() != 500 {
				t.Errorf("with %d free: %v", c.free, err)
			}
		}
		cancel()
		<-done
	})
}

func TestEtcdTakesOnlyEssentialsWhenSpaceIsShort(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	dir := t.TempDir()
	cfg := EtcdConfig{Dir: dir, DiskFree: func(string) (int64, error) { return free.Load(), nil }}
	s := openEtcd(t, cfg)
	m := openOn(t, s)
	topic := mustCreate(t, m, "a")[0]

	free.Store(DefaultSpaceFloor - 1)
	if err := m.CreateTopics(t.Context(), []NewTopic{named("b")}, false)[0].Err; !errors.Is(err, ErrNoSpace) {
		t.Errorf("creating: %v", err)
	}
	if err := m.DeleteTopics(t.Context(), []base.TopicID{topic.ID})[0]; err != nil {
		t.Errorf("deleting: %v", err)
	}
	if _, err := m.BeginEpoch(t.Context()); err != nil {
		t.Errorf("starting to lead: %v", err)
	}
	if err := m.RegisterBroker(t.Context(), Broker{ID: 1}); err != nil {
		t.Errorf("registering: %v", err)
	}
	if _, _, err := m.AllocateProducerIDs(t.Context()); !errors.Is(err, ErrNoSpace) {
		t.Errorf("allocating: %v", err)
	}
	free.Store(1 << 40)
	mustCreate(t, m, "b")
	if err := errors.Join(m.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	free.Store(0)
	if _, err := OpenEtcd(t.Context(), cfg); !errors.Is(err, ErrNoSpace) {
		t.Errorf("starting: %v", err)
	}
	s = openEtcd(t, EtcdConfig{Dir: dir})
	if got := mustGet(t, s, prefixTopics, 0); len(got.KVs) != 1 || got.KVs[0].Key != "topics/b" {
		t.Errorf("after a refused start: %v", got)
	}
}
