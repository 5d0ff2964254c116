package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// buildBroker builds the real binary once for all tests of the package. PROVE_BINARY names one that is built already.
var buildBroker = sync.OnceValues(func() (string, error) {
	if binary := os.Getenv("PROVE_BINARY"); binary != "" {
		return binary, nil
	}
	dir, err := os.MkdirTemp("", "ottla-chaos")
	if err != nil {
		return "", err
	}
	buildDir = dir
	binary := filepath.Join(dir, "ottla")
	args := append([]string{"build", "-o", binary}, buildFlags...)
	out, err := exec.Command("go", append(args, "github.com/ottlaio/ottla/cmd/ottla")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
})

// buildDir is where buildBroker has put the binary, if it was called.
var buildDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(code)
}

// process is the real binary on a data folder that outlives it.
type process struct {
	binary string
	addr   string
	args   []string
	env    []string
	rest   time.Duration // from a kill to the next start

	cmd    *exec.Cmd
	output *output
	exited chan error
}

// newProcess prepares a broker on a port that stays its own over restarts.
func newProcess(t *testing.T, settings ...string) *process {
	t.Helper()
	return newProcessIn(t, filepath.Join(t.TempDir(), "data"), settings...)
}

// newProcessIn is newProcess with a data folder of the caller's.
func newProcessIn(t *testing.T, data string, settings ...string) *process {
	t.Helper()
	binary, err := buildBroker()
	if err != nil {
		t.Fatal(err)
	}
	addr := unusedAddr(t)
	args := []string{"serve", "--data", data, "--listen", addr}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	p := &process{binary: binary, addr: addr, args: args, env: brokerEnv}
	t.Cleanup(p.kill)
	return p
}

// unusedAddr is an address of loopback that nobody listens to.
func unusedAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// output is what a process wrote so far.
type output struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes.String()
}

// trouble is what a broker that is merely killed never says.
func (o *output) trouble() bool {
	s := o.String()
	return strings.Contains(s, "level=ERROR") || strings.Contains(s, "panic") || strings.Contains(s, "DATA RACE")
}

// start starts the binary; it is up when serving returns.
func (p *process) start() error {
	p.output = &output{}
	p.cmd = exec.Command(p.binary, p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.exited = make(chan error, 1)
	living.set(p.cmd.Process, true)
	go func(cmd *exec.Cmd, exited chan<- error) {
		err := cmd.Wait()
		living.set(cmd.Process, false)
		exited <- err
	}(p.cmd, p.exited)
	return nil
}

// serving waits until the broker accepts connections.
func (p *process) serving(ctx context.Context) error {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case err := <-p.exited:
			p.exited <- err
			return fmt.Errorf("the broker ended: %w\n%s", err, p.output)
		case <-ctx.Done():
			return fmt.Errorf("the broker does not serve: %w\n%s", errors.Join(ctx.Err(), err), p.output)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// says waits until the broker has written words, and returns what it has written.
func (p *process) says(ctx context.Context, words string) (string, error) {
	for {
		if s := p.output.String(); strings.Contains(s, words) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return p.output.String(), fmt.Errorf("the broker does not say %q: %w", words, context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// processes are those that run, to be killed when the test is interrupted.
type processes struct {
	mu  sync.Mutex // guards all
	all map[*os.Process]bool
}

var living = &processes{all: map[*os.Process]bool{}}

func (p *processes) set(process *os.Process, runs bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if runs {
		p.all[process] = true
	} else {
		delete(p.all, process)
	}
}

func (p *processes) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for process := range p.all {
		_ = process.Kill()
	}
}

// kill sends SIGKILL and returns when the process is gone. A process that does not run is gone.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Kill()
	<-p.exited
	p.cmd = nil
}

// pause stops the process for a while, as a machine that is suspended or short of memory does.
func (p *process) pause(d time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(d)
	return p.cmd.Process.Signal(syscall.SIGCONT)
}

// stop sends SIGTERM and returns the exit error.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := <-p.exited
	p.cmd = nil
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, strings.TrimSpace(p.output.String()))
	}
	return err
}
