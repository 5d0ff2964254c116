package disk

import "github.com/cockroachdb/pebble/v2/vfs"

// ResidentTeller is a file that can tell what the page cache has of it. Files of a file system that is not the machine's implement it where they
// imitate a page cache.
type ResidentTeller interface {
	// Resident is as the function.
	Resident(off, n int64) (bool, error)
}

// Resident reports whether the page cache has all of the n bytes of f from off on. It reads nothing.
//
// It returns errors.ErrUnsupported where the system or f cannot tell.
func Resident(f vfs.File, off, n int64) (bool, error) {
	if r, ok := f.(ResidentTeller); ok {
		return r.Resident(off, n)
	}
	return resident(f.Fd(), off, n)
}
