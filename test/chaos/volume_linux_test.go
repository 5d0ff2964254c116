package chaos_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ottlaio/ottla/internal/proof"
)

// volumePrefix begins the name of every folder that a file system is mounted on; the process's number follows.
const volumePrefix = "ottla-volume-"

// volume is a file system of its own on a loop device, in an image file.
type volume struct {
	kind  string // ext4 or xfs
	image string
	dir   string // where it is mounted
}

// needVolumes ends the test as not run where the machine does not let it mount file systems.
func needVolumes(row *proof.Proof, kinds ...string) {
	if os.Getuid() != 0 {
		row.NotRun("mounting a file system needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		row.NotRun("there are no loop devices")
	}
	for _, kind := range kinds {
		if _, err := exec.LookPath("mkfs." + kind); err != nil {
			row.NotRun("mkfs." + kind + " is not installed")
		}
	}
}

// makeImage makes a file system in a sparse file.
func makeImage(t *testing.T, kind, image string, bytes int64) {
	t.Helper()
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(bytes), f.Close()); err != nil {
		t.Fatal(err)
	}
	args := map[string][]string{"ext4": {"-q", "-F", "-E", "lazy_itable_init=0,nodiscard"}, "xfs": {"-q", "-K", "-s", "size=4096"}}[kind]
	if out, err := exec.Command("mkfs."+kind, append(args, image)...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.%s: %v\n%s", kind, err, out)
	}
}

// newVolume is an image that is mounted by mount.
func newVolume(t *testing.T, kind, image string) *volume {
	t.Helper()
	dir, err := os.MkdirTemp("", volumePrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		t.Fatal(err)
	}
	v := &volume{kind: kind, image: image, dir: dir}
	mounted.add(dir)
	t.Cleanup(func() {
		if err := mounted.remove(dir); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return v
}

// mount attaches a loop device and mounts it; the device goes with the mount.
func (v *volume) mount() error {
	options := "loop"
	if v.kind == "xfs" {
		options += ",nouuid" // images of one file system have its id
	}
	out, err := exec.Command("mount", "-t", v.kind, "-o", options, v.image, v.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	return nil
}

func (v *volume) unmount() error { return unix.Unmount(v.dir, 0) }

// powerFails shuts the file system down as if power failed: nothing that is in memory only gets to the device any more, its journal
// included, and every write and sync fails from now on.
func (v *volume) powerFails() error {
	const (
		shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN
		noLogFlush = 2
	)
	dir, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	err = unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noLogFlush)
	return errors.Join(err, dir.Close())
}

// mounts are the folders to unmount when the test ends, however it ends.
type mounts struct {
	mu   sync.Mutex // guards dirs
	dirs map[string]bool
}

var mounted = &mounts{dirs: map[string]bool{}}

func (m *mounts) add(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirs[dir] = true
}

// remove unmounts a folder, lazily if it is in use, and removes it.
func (m *mounts) remove(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.dirs, dir)
	err := unix.Unmount(dir, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) {
		err = nil // it is not mounted
	}
	return errors.Join(err, os.Remove(dir))
}

func (m *mounts) removeAll() {
	m.mu.Lock()
	var dirs []string
	for dir := range m.dirs {
		dirs = append(dirs, dir)
	}
	m.mu.Unlock()
	for _, dir := range dirs {
		if err := m.remove(dir); err != nil {
			fmt.Fprintf(os.Stderr, "unmount %s: %v\n", dir, err)
		}
	}
}

func init() {
	unmountStale()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		living.killAll()
		mounted.removeAll()
		os.Exit(1)
	}()
}

// unmountStale takes down what a process that was killed has left.
func unmountStale() {
	table, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		rest, ours := strings.CutPrefix(filepath.Base(fields[1]), volumePrefix)
		pid, _, _ := strings.Cut(rest, "-")
		if n, err := strconv.Atoi(pid); ours && err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			_ = unix.Unmount(fields[1], unix.MNT_DETACH)
			_ = os.Remove(fields[1])
		}
	}
}
