package side

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Side is a way to run a broker.
type Side struct {
	Name string
	// Prepare does what an operator does once, before the first start; it is not timed. second is free as well as addr.
	Prepare func(ctx context.Context, dir, addr, second string) error
	// Command starts the broker on the folder. It is nil for a broker that runs already.
	Command func(dir, addr string) *exec.Cmd
	// Addr and PID are those of a broker that runs already; PID is 0 if it is not known.
	Addr string
	PID  int
}

// Remote says whether the broker runs already, so that it can neither be started nor stopped here.
func (s Side) Remote() bool { return s.Command == nil }

// Broker is a running Side.
type Broker struct {
	Side
	Addr    string
	Dir     string    // holds its data; empty for a remote one
	Started time.Time // when its process was started the last time

	cmd    *exec.Cmd
	exited chan struct{}
}

// stopTimeout is how long a broker may take to stop before it is killed.
const stopTimeout = 2 * time.Minute

// Start starts the side on a new folder below scratch and returns at once: the caller waits for its first answer. A remote one is
// returned as it is.
func (s Side) Start(ctx context.Context, scratch string) (*Broker, error) {
	if s.Remote() {
		return &Broker{Side: s, Addr: s.Addr}, nil
	}
	dir, err := os.MkdirTemp(scratch, s.Name)
	if err != nil {
		return nil, err
	}
	b := &Broker{Side: s, Dir: dir}
	addrs, err := freeAddrs(2)
	if err == nil {
		b.Addr = addrs[0]
		if s.Prepare != nil {
			err = s.Prepare(ctx, dir, addrs[0], addrs[1])
		}
	}
	if err == nil {
		err = b.Restart()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return b, nil
}

// Restart starts a broker that has stopped again, on the same folder and address.
func (b *Broker) Restart() error {
	output, err := os.OpenFile(b.outputFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = output.Close() }() // the process has it open
	b.cmd, b.exited = b.Command(b.Dir, b.Addr), make(chan struct{})
	b.cmd.Stdout, b.cmd.Stderr = output, output
	tieToParent(b.cmd)
	b.Started = time.Now()
	if err := b.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(b.exited)
		_ = b.cmd.Wait() // the status of a broker that was told to stop says nothing; one that stops by itself is seen by its clients
	}()
	return nil
}

func (b *Broker) outputFile() string { return filepath.Join(b.Dir, "output") }

// Stop tells the process to stop and waits until it has, flushed and all.
func (b *Broker) Stop() error {
	if b.Remote() {
		return nil
	}
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-b.exited:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("%s did not stop within %v and was killed", b.Name, stopTimeout), b.Kill())
	}
}

// Kill ends the process as a crash does.
func (b *Broker) Kill() error {
	if b.Remote() {
		return nil
	}
	err := b.cmd.Process.Kill()
	<-b.exited
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Discard kills the process, if it still runs, and removes its folder.
func (b *Broker) Discard() error {
	if b.Remote() {
		return nil
	}
	return errors.Join(b.Kill(), os.RemoveAll(b.Dir))
}

// LastOutput is the end of what the broker printed, for errors.
func (b *Broker) LastOutput() string {
	output, err := os.ReadFile(b.outputFile())
	if err != nil {
		return ""
	}
	return string(output[max(0, len(output)-2000):])
}

// Process is the broker's process id, 0 if it is not known.
func (b *Broker) Process() int {
	if b.Remote() {
		return b.PID
	}
	return b.cmd.Process.Pid
}

// freeAddrs are addresses of loopback that nobody listens to, no two of them the same.
func freeAddrs(n int) (addrs []string, err error) {
	for range n {
		ln, lerr := net.Listen("tcp", "127.0.0.1:0")
		if lerr != nil {
			return nil, errors.Join(err, lerr)
		}
		defer func() { err = errors.Join(err, ln.Close()) }() // once all are found
		addrs = append(addrs, ln.Addr().String())
	}
	return addrs, nil
}
