package metadata

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A first start may end at any moment, also before etcd has written what it needs to start again.
func TestAMemberThatNeverWasReadyMakesWay(t *testing.T) {
	t.Parallel()
	for wait := time.Duration(0); wait < 60*time.Millisecond; wait += 6 * time.Millisecond {
		dir := t.TempDir()
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		first, err := OpenEtcd(ctx, EtcdConfig{Dir: dir, BallastBytes: -1})
		cancel()
		if err == nil {
			err = first.Close()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		again, cancel := context.WithTimeout(t.Context(), time.Minute)
		s, err := OpenEtcd(again, EtcdConfig{Dir: dir, BallastBytes: -1})
		cancel()
		if err != nil {
			t.Fatalf("after a first start that ended after %v: %v", wait, err)
		}
		mustCommit(t, s, put("key", "v"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A member without the ready file is kept beside, never deleted; with the file it is used.
func TestSetAsideUnfinishedDeletesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for n, want := range []string{"unfinished", "unfinished-2"} {
		if err := os.MkdirAll(filepath.Join(dir, "member", "wal"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := setAsideUnfinished(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, want, "wal")); err != nil {
			t.Errorf("member %d was not kept: %v", n, err)
		}
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "member"), 0o700), noteReady(dir), setAsideUnfinished(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "member")); err != nil {
		t.Errorf("a member that was ready is gone: %v", err)
	}
}
