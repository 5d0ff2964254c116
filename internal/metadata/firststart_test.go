package metadata

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// A first start may end at any moment, also after etcd has made its log and before it has written to it what it needs to start again.
func TestAMemberThatNeverWasReadyMakesWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id, err := proto.Marshal(&etcdserverpb.Metadata{NodeID: proto.Uint64(1), ClusterID: proto.Uint64(2)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := wal.Create(zap.NewNop(), filepath.Join(dir, "member", "wal"), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // without the ready file etcd waits for ever
	defer cancel()
	s, err := OpenEtcd(ctx, EtcdConfig{Dir: dir, BallastBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, put("key", "v"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
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
