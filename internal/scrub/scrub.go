package scrub

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/server"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// Finding is something that is not what was written.
type Finding struct {
	// File is the path of the damaged file.
	File string `json:"file"`
	// Topic is empty where no partition is concerned, or nobody can say which.
	Topic     string `json:"topic,omitempty"`
	TopicID   string `json:"topic_id,omitempty"`
	Partition *int32 `json:"partition,omitempty"`
	// FirstOffset and LastOffset, both inclusive, bound the records that can not be read; nil where there are none.
	FirstOffset *int64 `json:"first_offset,omitempty"`
	LastOffset  *int64 `json:"last_offset,omitempty"`
	Pos         int64  `json:"pos"`
	Bytes       int64  `json:"bytes"`
	Reason      string `json:"reason"`
	State       State  `json:"state"`
}

// State is what has become of a Finding.
type State string

// The states of a finding.
const (
	Found    State = "found"     // and left as it is
	SetAside State = "set aside" // given up: consumers go on behind it
	Mended   State = "mended"    // made anew; nothing is lost
)

// ErrLocked is the error for a folder on which a broker runs.
var ErrLocked = server.ErrFolderLocked

// Options say what to check.
type Options struct {
	Data   string // the data folder
	Repair bool
	// Report is told of each finding. Required.
	Report func(Finding)
	// Total is told how many bytes of logs there are to read, before Progress is told how many more were read. Both may be nil.
	Total, Progress func(n int64)
}

// Run checks a data folder. Findings are no error.
//
// Errors: ErrLocked, server.ErrFolderForeign, those of the file system, and ctx's cause.
func Run(ctx context.Context, o Options) (err error) {
	lock, err := server.LockFolder(o.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	dir, err := filepath.Abs(o.Data)
	if err != nil {
		return err
	}
	fault := func(file, reason string) { o.Report(Finding{File: file, Reason: reason, State: Found}) }
	if err := server.CheckMeta(dir); err != nil {
		fault(filepath.Join(dir, "meta.properties"), err.Error())
	}
	if err := metadata.VerifyFolder(ctx, filepath.Join(dir, "etcd"), fault); err != nil {
		return fmt.Errorf("check the metadata: %w", err)
	}
	snapshots := coordinator.Snapshots{FS: disk.Default(), Dir: filepath.Join(dir, "coordinator")}
	if err := checkSnapshots(&snapshots, o); err != nil {
		return fmt.Errorf("check snapshots of groups: %w", err)
	}
	return storage.ScrubFolder(ctx, storage.FolderScrub{
		FS: disk.Default(), Dir: dir, Repair: o.Repair, Total: o.Total,
		ScrubOptions: storage.ScrubOptions{Progress: o.Progress, Report: func(d storage.Damage) { o.Report(findingOf(d)) }},
	})
}

// checkSnapshots checks the snapshots of consumer groups. A damaged one costs only time: the log is read from its start instead. So to
// repair is to remove it.
func checkSnapshots(s *coordinator.Snapshots, o Options) error {
	return s.Verify(func(file string, reason error) error {
		f := Finding{File: file, Reason: reason.Error() + "; the groups are read from the log instead", State: Found}
		if o.Repair {
			if err := s.FS.Remove(file); err != nil {
				return err
			}
			f.State = Mended
		}
		o.Report(f)
		return nil
	})
}

func findingOf(d storage.Damage) Finding {
	f := Finding{File: d.File, Topic: d.Topic, Pos: d.Pos, Bytes: d.Len, Reason: d.Reason, State: Found}
	switch {
	case d.Mended:
		f.State = Mended
	case d.SetAside:
		f.State = SetAside
	}
	if d.Partition != (base.TopicIDPartition{}) {
		f.TopicID, f.Partition = d.Partition.ID.String(), &d.Partition.Partition
	}
	if d.FirstOffset >= 0 && !d.Mended {
		first, last := int64(d.FirstOffset), int64(d.LastOffset)
		f.FirstOffset, f.LastOffset = &first, &last
	}
	return f
}
