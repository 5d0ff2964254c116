package segment

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// Names of Kafka's text files in a partition's folder.
const (
	LeaderEpochFile       = "leader-epoch-checkpoint"
	PartitionMetadataFile = "partition.metadata"
)

// maxSmallFile bounds what is read of a text file or a snapshot: far more than any can have.
const maxSmallFile = 64 << 20

// EpochStart is a leader epoch and the first offset written in it.
type EpochStart struct {
	Epoch base.LeaderEpoch
	Start base.Offset
}

// WriteLeaderEpochs writes leader-epoch-checkpoint into dir: epochs in order, by temporary file, sync, rename and folder sync.
func WriteLeaderEpochs(fs disk.FS, dir string, epochs []EpochStart) error {
	return replaceFile(fs, dir, LeaderEpochFile, formatLeaderEpochs(epochs))
}

// ReadLeaderEpochs reads leader-epoch-checkpoint. Errors: of the file system (a missing file among them), and *DamageError.
func ReadLeaderEpochs(fs disk.FS, dir string) ([]EpochStart, error) {
	var epochs []EpochStart
	err := readSmall(fs, dir, LeaderEpochFile, func(b []byte) (err error) {
		epochs, err = parseLeaderEpochs(b)
		return err
	})
	return epochs, err
}

// formatLeaderEpochs is Kafka's CheckpointFile: the version 0, the number of lines, and "epoch offset" in each.
func formatLeaderEpochs(epochs []EpochStart) []byte {
	b := fmt.Appendf(nil, "0\n%d\n", len(epochs))
	for _, e := range epochs {
		b = fmt.Appendf(b, "%d %d\n", e.Epoch, e.Start)
	}
	return b
}

func parseLeaderEpochs(b []byte) ([]EpochStart, error) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	if !lines.Scan() || lines.Text() != "0" {
		return nil, fmt.Errorf("unknown version %q", lines.Text())
	}
	if !lines.Scan() {
		return nil, io.ErrUnexpectedEOF
	}
	count, err := strconv.Atoi(lines.Text())
	if err != nil || count < 0 {
		return nil, fmt.Errorf("bad number of lines %q", lines.Text())
	}
	epochs := []EpochStart{}
	for lines.Scan() {
		epoch, start, ok := strings.Cut(lines.Text(), " ")
		e, err := strconv.ParseInt(epoch, 10, 32)
		o, err2 := strconv.ParseInt(start, 10, 64)
		if !ok || err != nil || err2 != nil || e < 0 || o < 0 {
			return nil, fmt.Errorf("bad line %q", lines.Text())
		}
		if n := len(epochs); n > 0 && (base.LeaderEpoch(e) <= epochs[n-1].Epoch || base.Offset(o) < epochs[n-1].Start) {
			return nil, fmt.Errorf("line %q does not follow epoch %d at %d", lines.Text(), epochs[n-1].Epoch, epochs[n-1].Start)
		}
		epochs = append(epochs, EpochStart{base.LeaderEpoch(e), base.Offset(o)})
	}
	if lines.Err() != nil || len(epochs) != count {
		return nil, fmt.Errorf("%d lines of %d", len(epochs), count)
	}
	return epochs, nil
}

// WritePartitionMetadata writes partition.metadata into dir: the topic's id, by temporary file, sync, rename and folder sync.
func WritePartitionMetadata(fs disk.FS, dir string, id base.TopicID) error {
	return replaceFile(fs, dir, PartitionMetadataFile, formatPartitionMetadata(id))
}

// DraftPartitionMetadata is WritePartitionMetadata without its syncs: until disk.FS.SyncAll a power loss may leave anything of the file.
func DraftPartitionMetadata(fs disk.FS, dir string, id base.TopicID) error {
	path := fs.PathJoin(dir, PartitionMetadataFile)
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(formatPartitionMetadata(id))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// ReadPartitionMetadata reads partition.metadata. Errors: of the file system (a missing file among them), and *DamageError.
func ReadPartitionMetadata(fs disk.FS, dir string) (base.TopicID, error) {
	var id base.TopicID
	err := readSmall(fs, dir, PartitionMetadataFile, func(b []byte) (err error) {
		id, err = parsePartitionMetadata(b)
		return err
	})
	return id, err
}

// formatPartitionMetadata is Kafka's PartitionMetadataFile, version 0.
func formatPartitionMetadata(id base.TopicID) []byte {
	return fmt.Appendf(nil, "version: 0\ntopic_id: %s", id)
}

func parsePartitionMetadata(b []byte) (base.TopicID, error) {
	version, rest, _ := strings.Cut(strings.TrimRight(string(b), "\n"), "\n")
	if version != "version: 0" {
		return base.TopicID{}, fmt.Errorf("unknown version %q", version)
	}
	text, ok := strings.CutPrefix(rest, "topic_id: ")
	if !ok {
		return base.TopicID{}, fmt.Errorf("no topic_id in %q", rest)
	}
	id, err := base.ParseTopicID(text)
	if err == nil && id.IsZero() {
		err = fmt.Errorf("topic id of zeros")
	}
	return id, err
}

// replaceFile writes a file whole or not at all.
func replaceFile(fs disk.FS, dir, name string, data []byte) error {
	path := fs.PathJoin(dir, name)
	tmp := path + ".tmp"
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fs.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return disk.SyncDir(fs, dir)
}

// readSmall reads a small file and has it parsed; what parse refuses is damage.
func readSmall(fs disk.FS, dir, name string, parse func([]byte) error) error {
	path := fs.PathJoin(dir, name)
	f, err := fs.Open(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { _ = f.Close() }() // it is only read
	b, err := io.ReadAll(io.LimitReader(f, maxSmallFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxSmallFile {
		err = fmt.Errorf("larger than %d bytes", maxSmallFile)
	} else {
		err = parse(b)
	}
	if err != nil {
		return &DamageError{File: path, Len: int64(len(b)), FirstOffset: base.NoOffset, Reason: "it cannot be read", Err: err}
	}
	return nil
}
