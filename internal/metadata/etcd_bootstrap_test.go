package metadata

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestFirstStartMayEndEarly: a store whose first start was cancelled, or killed anywhere before it was ready, starts the next time.
func TestFirstStartMayEndEarly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "etcd")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 { // it depends on how far etcd comes
		if store, err := OpenEtcd(ended, EtcdConfig{Dir: dir}); err == nil {
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		store, err := OpenEtcd(t.Context(), EtcdConfig{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, bootstrapMark)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the mark of the first start is still there: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnfinishedFirstStartIsMadeAnew: what a killed first start leaves is a mark and some of etcd's files.
func TestUnfinishedFirstStartIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if due, err := beginBootstrap(dir); !due || err != nil {
		t.Fatal(due, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "member", "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if due, err := beginBootstrap(dir); !due || err != nil {
		t.Fatal(due, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "member")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished member is still there: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "member", "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := endBootstrap(dir); err != nil {
		t.Fatal(err)
	}
	if due, err := beginBootstrap(dir); due || err != nil {
		t.Fatal(due, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "member")); err != nil {
		t.Errorf("a member that has been ready is gone: %v", err)
	}
}
