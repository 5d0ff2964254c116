//go:build !linux

package disk

import (
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Default returns the file system of the machine: buffered writes, each synced file followed by fsync (F_FULLFSYNC on macOS).
func Default() FS { return osFS{wrapped{vfs.Default}} }

type osFS struct{ wrapped }

func (osFS) Truncate(name string, size int64) error { return os.Truncate(name, size) }
