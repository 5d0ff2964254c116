package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestKernelAtLeast(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]bool{
		"5.8.0": true, "5.8": true, "5.10.0-21-amd64": true, "6.1.0+deb12": true, "6.18.44": true,
		"5.7.19": false, "4.19.0": false, "3.10.0-1160.el7": false, "": false, "odd": false,
	} {
		if got := kernelAtLeast(release, 5, 8); got != want {
			t.Errorf("kernel %q: %t", release, got)
		}
	}
}

// TestSyncAll: it works on the file system of the tests or says that it is not to be had, and names what is missing.
func TestSyncAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Default().SyncAll(dir); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := Default().SyncAll(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}
