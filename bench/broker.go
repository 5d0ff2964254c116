package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTicks is USER_HZ, in which /proc counts CPU time; it is 100 on every Linux that Go runs on.
const clockTicks = 100

// product is a broker that can be started on an empty folder.
type product struct {
	name string
	// prepare does what an operator does once, before the first start; it is not timed.
	prepare func(ctx context.Context, dir, addr string) error
	// command starts the broker on the folder.
	command func(dir, addr string) *exec.Cmd
}

// broker is a running product.
type broker struct {
	product
	addr    string
	dir     string
	cmd     *exec.Cmd
	log     *os.File
	started time.Time
	exited  chan struct{}
}

// ottla is the binary under test.
func ottla(binary string) product {
	return product{
		name:    "ottla",
		prepare: func(context.Context, string, string) error { return nil },
		command: func(dir, addr string) *exec.Cmd {
			return exec.Command(binary, "serve", "--data", filepath.Join(dir, "data"), "--listen", addr,
				"--set", "group.initial.rebalance.delay.ms=0")
		},
	}
}

// kafka is Apache Kafka as released, with the JVM flags of its own start script.
func kafka(classPath string) product {
	return product{
		name: "kafka",
		prepare: func(ctx context.Context, dir, addr string) error {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return err
			}
			controller, err := freeAddr()
			if err != nil {
				return err
			}
			properties := fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@%[2]s
listeners=PLAINTEXT://127.0.0.1:%[1]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]s
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%[3]s/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
`, port, controller, dir)
			file := filepath.Join(dir, "server.properties")
			if err := os.WriteFile(file, []byte(properties), 0o600); err != nil {
				return err
			}
			format := exec.CommandContext(ctx, "java", "-cp", classPath, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", file)
			if out, err := format.CombinedOutput(); err != nil {
				return fmt.Errorf("format Kafka's folder: %w: %s", err, out)
			}
			return nil
		},
		command: func(dir, _ string) *exec.Cmd {
			return exec.Command("java", "-cp", classPath, "-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
				"-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true",
				"kafka.Kafka", filepath.Join(dir, "server.properties"))
		},
	}
}

// kafkaClassPath fetches Apache Kafka from Maven Central once and returns its class path.
func kafkaClassPath(ctx context.Context, cache string) (string, error) {
	libs := filepath.Join(cache, "kafka-libs")
	if _, err := os.Stat(filepath.Join(libs, ".done")); err != nil {
		fmt.Fprintln(os.Stderr, "fetching Apache Kafka (once)")
		mvn := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", "test/interop/kafka/pom.xml", "dependency:copy-dependencies", "-DoutputDirectory="+libs)
		if out, err := mvn.CombinedOutput(); err != nil {
			return "", fmt.Errorf("fetch Apache Kafka with Maven: %w: %s", err, out)
		}
		if err := os.WriteFile(filepath.Join(libs, ".done"), nil, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(libs, "*"), nil
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// start starts the product on a new folder below scratch and returns at once: the caller waits for its first answer.
func (p product) start(ctx context.Context, scratch string) (*broker, error) {
	dir, err := os.MkdirTemp(scratch, p.name)
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	if err := p.prepare(ctx, dir, addr); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, err
	}
	b := &broker{product: p, addr: addr, dir: dir, cmd: p.command(dir, addr), log: log, exited: make(chan struct{})}
	b.cmd.Stdout, b.cmd.Stderr = log, log
	b.started = time.Now()
	if err := b.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() {
		defer close(b.exited)
		_ = b.cmd.Wait() // the exit status of a broker that was told to stop says nothing; one that stops by itself is seen by its clients
	}()
	return b, nil
}

// stop ends the process that start started, and removes its folder.
func (b *broker) stop() error {
	err := b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.exited:
	case <-time.After(30 * time.Second):
		err = errors.Join(err, b.cmd.Process.Kill())
		<-b.exited
	}
	return errors.Join(err, b.log.Close(), os.RemoveAll(b.dir))
}

// cpu is the processor time that the broker has used, user and system.
func (b *broker) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field, the command's name, is in parentheses and may hold spaces.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}

// resident is the broker's resident memory in bytes.
func (b *broker) resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("the process has no VmRSS")
}
