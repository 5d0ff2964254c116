package metadata

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// bootstrapMark is there from before the first start of etcd in a folder until etcd has been ready in it once.
//
// etcd makes its wal first and the entry that makes it a member of its own cluster later. If it ends between the two, it finds a wal
// without a member at the next start, takes itself for one that was told to wait for others, and waits for good. Nobody has used such a
// folder yet, so it is made anew.
const bootstrapMark = "bootstrapping"

// beginBootstrap makes the folder new if it is, or if its first start did not come to its end. It reports whether endBootstrap is due.
func beginBootstrap(dir string) (due bool, err error) {
	mark, member := filepath.Join(dir, bootstrapMark), filepath.Join(dir, "member")
	switch _, err := os.Stat(mark); {
	case err == nil:
		if err := os.RemoveAll(member); err != nil {
			return false, fmt.Errorf("remove what an unfinished first start has left: %w", err)
		}
		return true, nil
	case !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	switch _, err := os.Stat(member); {
	case err == nil:
		return false, nil
	case !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	f, err := os.OpenFile(mark, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return false, err
	}
	return true, syncDir(dir)
}

// endBootstrap is called when etcd is ready, before anybody uses it.
func endBootstrap(dir string) error {
	if err := os.Remove(filepath.Join(dir, bootstrapMark)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
