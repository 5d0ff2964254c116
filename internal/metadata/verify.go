package metadata

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// revisionBytes is the length of a key in etcd's bucket: a revision, and one byte more where a key was deleted.
const revisionBytes = 8 + 1 + 8

// VerifyFolder checks the store in dir, which no member has open: that the pages of etcd's database hang together, that every value in it is what
// was written, that no topic has gone, and the checksums of etcd's own log. report is told of each fault, with the file it is in; nothing is
// changed. A store that was never started is whole.
//
// It returns ctx's cause, or an error of the file system.
func VerifyFolder(ctx context.Context, dir string, report func(file, reason string)) error {
	if _, err := os.Stat(filepath.Join(dir, readyFile)); errors.Is(err, os.ErrNotExist) {
		return nil // its first start has not come to an end: there is nothing in it
	}
	db := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(db); err != nil {
		report(db, err.Error())
		return nil
	}
	if err := verifyDatabase(db, report); err != nil {
		report(db, err.Error())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	logs := filepath.Join(dir, "member", "wal")
	if err := verifyLog(logs); err != nil {
		report(logs, err.Error())
	}
	return context.Cause(ctx)
}

// verifyDatabase reads every page. The library trusts what it reads, so a damaged page may also show as a panic or a fault.
func verifyDatabase(path string, report func(file, reason string)) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the database cannot be read: %v", r)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			report(path, err.Error())
		}
		snap, err := readDatabase(tx)
		if err != nil {
			return err
		}
		_, _, err = loadImage(snap, 0, nil)
		return err
	})
}

// readDatabase reads the newest value of each of our keys.
func readDatabase(tx *bolt.Tx) (Snapshot, error) {
	var snap Snapshot
	bucket := tx.Bucket([]byte("key"))
	if bucket == nil {
		return snap, errors.New("the database has no keys")
	}
	newest := map[string]KV{}
	err := bucket.ForEach(func(k, v []byte) error {
		if len(k) < revisionBytes {
			return fmt.Errorf("a key of %d bytes", len(k))
		}
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(v, &kv); err != nil {
			return fmt.Errorf("revision %d: %w", binary.BigEndian.Uint64(k), err)
		}
		key, ours := strings.CutPrefix(string(kv.Key), etcdRoot)
		if !ours {
			return nil
		}
		if len(k) > revisionBytes {
			delete(newest, key)
		} else {
			newest[key] = KV{Key: key, Value: slices.Clone(kv.Value), ModRevision: int64(binary.BigEndian.Uint64(k))}
		}
		snap.Revision = max(snap.Revision, int64(binary.BigEndian.Uint64(k)))
		return nil
	})
	for _, kv := range newest {
		snap.KVs = append(snap.KVs, kv)
	}
	slices.SortFunc(snap.KVs, func(a, b KV) int { return strings.Compare(a.Key, b.Key) })
	return snap, err
}

// verifyLog checks the checksums of etcd's own log. Its end may be torn, as after a loss of power.
func verifyLog(dir string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("etcd's log cannot be read: %v", r)
		}
	}()
	snapshots, err := wal.ValidSnapshotEntries(zap.NewNop(), dir)
	if err != nil {
		return err
	}
	if len(snapshots) == 0 {
		return errors.New("etcd's log has no snapshot entry")
	}
	_, err = wal.Verify(zap.NewNop(), dir, snapshots[len(snapshots)-1])
	return err
}
