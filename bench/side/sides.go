package side

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// Ottla is the binary under test. Profile, if it is set, names the file that the CPU profile of the next start goes to.
func Ottla(binary string, profile func() string) Side {
	return Side{
		Name: "ottla",
		Command: func(dir, addr string) *exec.Cmd {
			args := []string{"serve", "--data", filepath.Join(dir, "data"), "--listen", addr, "--set", "group.initial.rebalance.delay.ms=0",
				"--set", "group.consumer.assignment.interval.ms=0"}
			if profile != nil {
				args = append(args, "--cpuprofile", profile())
			}
			return exec.Command(binary, args...)
		},
	}
}

// FloorProgram is the program in bench/floor.
func FloorProgram(binary string) Side {
	return Side{
		Name: "floor",
		Command: func(dir, addr string) *exec.Cmd {
			return exec.Command(binary, "--data", filepath.Join(dir, "data"), "--listen", addr)
		},
	}
}

// At is a broker that runs already. A pid of 0 is one that is not known.
func At(addr string, pid int) Side { return Side{Name: addr, Addr: addr, PID: pid} }

// Kafka is Apache Kafka as released, with the JVM flags of its own start script.
func Kafka(classPath string) Side {
	return Side{
		Name: "kafka",
		Prepare: func(ctx context.Context, dir, addr, second string) error {
			file, err := writeKafkaProperties(dir, addr, second)
			if err != nil {
				return err
			}
			format := exec.CommandContext(ctx, "java", "-cp", classPath, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", file)
			if out, err := format.CombinedOutput(); err != nil {
				return fmt.Errorf("format Kafka's folder: %w: %s", err, out)
			}
			return nil
		},
		Command: func(dir, _ string) *exec.Cmd {
			return exec.Command("java", "-cp", classPath, "-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
				"-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true",
				"kafka.Kafka", filepath.Join(dir, "server.properties"))
		},
	}
}

// writeKafkaProperties writes what one node needs and its defaults do not say. Durability is left as shipped.
func writeKafkaProperties(dir, addr, controller string) (string, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
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
group.consumer.assignment.interval.ms=0
`, port, controller, dir)
	file := filepath.Join(dir, "server.properties")
	return file, os.WriteFile(file, []byte(properties), 0o600)
}

// KafkaClassPath fetches Apache Kafka and its tools from Maven Central once and returns their class path. It runs in the root of the
// repository, where the version is pinned.
func KafkaClassPath(ctx context.Context, cache string) (string, error) {
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("Apache Kafka needs a JVM, and Maven to fetch it: %w", err) //nolint:staticcheck // begins with a name
		}
	}
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
