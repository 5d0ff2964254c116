//go:build !linux

package disk

import (
	"errors"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Default returns the file system of the machine: buffered writes, each synced file followed by fsync (F_FULLFSYNC on macOS).
func Default() FS { return osFS{wrapped{vfs.Default}} }

type osFS struct{ wrapped }

func (osFS) Truncate(name string, size int64) error { return os.Truncate(name, size) }

func (o osFS) OpenDirect(name string, opts DirectOptions) (DirectFile, error) {
	f, err := o.wrapped.OpenDirect(name, opts)
	return roomless{f}, err
}

// roomless is a file of which nobody can say that there is room for it.
type roomless struct{ DirectFile }

func (roomless) Allocate(int64, int64) error { return errors.ErrUnsupported }
