package metadata

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// A member that ended before it had written its first raft entries, because the process was killed in its first moments, never elects
// a leader again: every later start would wait for ever. So a file beside the member's folder says that the member was ready once.
// Nothing was ever written to a member without it, and such a member makes way for a new one.
const (
	memberFolder = "member"     // etcd's own
	readyFile    = "ready"      // exists once the member has been ready
	asideFolder  = "unfinished" // the last member that never was; nothing reads it
)

// setAsideUnfinished moves a member that never was ready out of the way. It deletes no member: if the ready file was lost, an operator
// finds everything in the folder "unfinished", and Options.Existing keeps an empty store from being taken for the broker's.
func setAsideUnfinished(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, readyFile)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	member := filepath.Join(dir, memberFolder)
	if _, err := os.Stat(member); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	aside := filepath.Join(dir, asideFolder)
	for n := 2; ; n++ {
		if _, err := os.Stat(aside); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		aside = filepath.Join(dir, fmt.Sprint(asideFolder, "-", n))
	}
	if err := os.Rename(member, aside); err != nil {
		return fmt.Errorf("set a member aside that never was ready: %w", err)
	}
	return disk.SyncDir(disk.Default(), dir)
}

// noteReady writes the ready file, durably.
func noteReady(dir string) error {
	name := filepath.Join(dir, readyFile)
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	f, err := os.Create(name)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err == nil {
		err = disk.SyncDir(disk.Default(), dir)
	}
	if err != nil {
		return fmt.Errorf("note that the member is ready: %w", err)
	}
	return nil
}
