package server

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// metaFile names the file that makes a folder ours. It has the name and the form that Kafka's has, and one more line of our own.
const metaFile = "meta.properties"

// formatVersion is the layout of the data folder that this code reads and writes.
const formatVersion = 1

// Errors of opening a data folder. They are wrapped with the folder's name and what to do.
var (
	ErrFolderLocked  = errors.New("the data folder is in use by another process")
	ErrFolderForeign = errors.New("the folder holds something that is not ours")
)

// dataFolder is a locked data folder. Its lock is held until Close, or until the process ends in whatever way.
type dataFolder struct {
	path string
	meta meta
	lock io.Closer
}

// meta is the content of meta.properties.
type meta struct {
	clusterID   string
	brokerID    base.BrokerID
	directoryID base.TopicID // Kafka's directory.id, a UUID like a topic's id
}

// openDataFolder locks the folder and reads who it belongs to; a folder that is missing or empty is formatted.
// A folder with other content is refused with ErrFolderForeign, one that is in use with ErrFolderLocked: nothing in it is touched.
func openDataFolder(path string, id base.BrokerID) (*dataFolder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := refuseForeign(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(path, "lock"))
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, fmt.Errorf("%w: %s; stop that process or give this one another folder with --data", ErrFolderLocked, path)
	case err != nil:
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	f := &dataFolder{path: path, lock: lock}
	if err := f.readOrFormat(id); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return f, nil
}

// LockFolder locks the data folder of a broker that has stopped, for a tool. ErrFolderLocked if one runs on it, ErrFolderForeign if it is no
// data folder; a folder that does not exist is not made.
func LockFolder(path string) (io.Closer, error) {
	if err := refuseForeign(path); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(path, metaFile)); err != nil {
		return nil, fmt.Errorf("%w: %w; name the data folder of a broker with --data", ErrFolderForeign, err)
	}
	lock, err := lockFile(filepath.Join(path, "lock"))
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: %s", ErrFolderLocked, path)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return lock, nil
}

// CheckMeta reads meta.properties of a data folder.
func CheckMeta(path string) error {
	file, err := os.Open(filepath.Join(path, metaFile))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it is only read
	_, err = readMeta(file)
	return err
}

// refuseForeign looks before anything is written, so that a mistyped --data leaves no trace.
func refuseForeign(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the data folder: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if slices.Contains(names, metaFile) {
		return nil // whose it is, its content says
	}
	for _, n := range names {
		// The lock and a half-written meta.properties are what a first start leaves when it is killed early.
		if n != "lock" && n != metaFile+".tmp" && n != "lost+found" {
			return fmt.Errorf("%w: %s has %q but no %s; give an empty or new folder with --data", ErrFolderForeign, path, n, metaFile)
		}
	}
	return nil
}

func (f *dataFolder) readOrFormat(id base.BrokerID) error {
	name := filepath.Join(f.path, metaFile)
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		f.meta = meta{clusterID: newClusterID(), brokerID: id, directoryID: base.NewTopicID()}
		return f.writeMeta(name)
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it is only read
	f.meta, err = readMeta(file)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if f.meta.brokerID != id {
		return fmt.Errorf("%s: the folder belongs to broker %d, but node.id is %d; set node.id=%d or give another folder with --data",
			name, f.meta.brokerID, id, f.meta.brokerID)
	}
	return nil
}

func readMeta(r io.Reader) (meta, error) {
	values := map[string]string{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return meta{}, fmt.Errorf("line %q is not key=value", line)
		}
		values[key] = value
	}
	if err := lines.Err(); err != nil {
		return meta{}, err
	}
	layout, ours := values["ottla.format"]
	if !ours {
		return meta{}, fmt.Errorf("%w: it was written by another broker, Apache Kafka perhaps; give an empty or new folder with --data", ErrFolderForeign)
	}
	if v, err := strconv.Atoi(layout); err != nil || v != formatVersion {
		return meta{}, fmt.Errorf("ottla.format is %q, this version reads %d; start it with the version that wrote it", layout, formatVersion)
	}
	id, err := strconv.ParseInt(values["node.id"], 10, 32)
	if err != nil {
		return meta{}, fmt.Errorf("node.id is %q: %w", values["node.id"], err)
	}
	directory, err := base.ParseTopicID(values["directory.id"])
	if err != nil {
		return meta{}, fmt.Errorf("directory.id: %w", err)
	}
	if values["cluster.id"] == "" {
		return meta{}, errors.New("cluster.id is missing")
	}
	return meta{clusterID: values["cluster.id"], brokerID: base.BrokerID(id), directoryID: directory}, nil
}

// writeMeta makes the file appear whole or not at all, also after a power loss.
func (f *dataFolder) writeMeta(name string) error {
	text := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\nottla.format=%d\n",
		f.meta.clusterID, f.meta.brokerID, f.meta.directoryID, formatVersion)
	file, err := os.Create(name + ".tmp")
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return err
	}
	for _, dir := range []string{f.path, filepath.Dir(f.path)} {
		if err := disk.SyncDir(disk.Default(), dir); err != nil {
			return err
		}
	}
	return nil
}

// newClusterID makes an id of the form that Kafka's are: 16 random bytes as URL-safe base64.
func newClusterID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// hasLog reports whether the folder holds a log that an earlier start has written: then its metadata must be there too.
func (f *dataFolder) hasLog() bool {
	_, err := os.Stat(filepath.Join(f.path, "checkpoint"))
	return err == nil
}

// Close gives the lock back.
func (f *dataFolder) Close() error { return f.lock.Close() }
