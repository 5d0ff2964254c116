package coordinator_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/proof"
)

// A snapshot that can not be written or read costs time and nothing else, whichever call of the disk fails.
func TestAnErrorFromEveryCallOfASnapshot(t *testing.T) {
	row := proof.Start(t, "errors-snapshot", "calls of a group snapshot that fail", 0)
	for n := int64(1); ; n++ {
		var calls atomic.Int64
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			failing := errorfs.Wrap(disk, errorfs.InjectorFunc(func(errorfs.Op) error {
				if calls.Add(1) == n {
					return errorfs.ErrInjected
				}
				return nil
			}))
			topic := withSnapshot(t, failing)
			for _, fs := range []vfs.FS{failing, disk} {
				f := startWith(t, topic, coordinator.Snapshots{FS: fs, Dir: "/snapshots", Every: 10})
				got, err := f.read().Wait(t.Context())
				if errors.Is(err, coordinator.ErrNotCoordinator) { // the client asks again, and so the state is loaded anew
					time.Sleep(time.Minute)
					got, err = f.read().Wait(t.Context())
				}
				if err != nil || got != 55 {
					row.Lost(1)
					t.Errorf("call %d failed: answer %d, %v; want 55", n, got, err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
		if calls.Load() < n {
			return
		}
		row.Tried(1)
	}
}

// Verify names every snapshot that is not what was written, and only those.
func TestVerifyNamesDamagedSnapshots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		withSnapshot(t, disk)
		s := coordinator.Snapshots{FS: disk, Dir: "/snapshots"}
		var named []string
		verify := func() {
			named = nil
			if err := s.Verify(func(path string, _ error) error { named = append(named, path); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if verify(); len(named) > 0 {
			t.Fatalf("a whole snapshot is named: %v", named)
		}
		whole := readFile(t, disk)
		for bit := range 8 * len(whole) {
			b := append([]byte(nil), whole...)
			b[bit/8] ^= 1 << (bit % 8)
			writeFile(t, disk, b)
			if verify(); len(named) != 1 || named[0] != snapshotFile {
				t.Fatalf("bit %d: named %v", bit, named)
			}
		}
	})
}
