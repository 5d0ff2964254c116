package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// The command-line clients take a number of records and not a time. These are about what they do in a second, of 1 KiB each.
const (
	jvmPerSecond       = 120_000
	rdkafkaPerSecond   = 300_000
	endToEndPerSecond  = 500
	toolRecordBytes    = 1 << 10
	consumedAtOnceMax  = 12 * gib // what the consuming tools read, at most
	consumedPerSecond  = 300e6    // about what they do in a second, in bytes
	toolPartitions     = 12
	perfTimeoutSeconds = 60
)

// tool runs a command-line client and returns what it printed.
func (r *sideRun) tool(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", filepath.Base(name), err, out[max(0, len(out)-1000):])
	}
	return string(out), err
}

// jvm runs one of Kafka's tools, in the heap that its start script gives it.
func (r *sideRun) jvm(ctx context.Context, class string, args ...string) (string, error) {
	if r.kafkaErr != nil {
		return "", r.kafkaErr
	}
	return r.tool(ctx, "java", append([]string{"-Xmx512m", "-cp", r.classPath, "org.apache.kafka.tools." + class}, args...)...)
}

var errOutput = errors.New("the tool's output is not as expected")

// numbers finds the last match of pattern and returns its groups.
func numbers(output string, pattern *regexp.Regexp) ([]float64, error) {
	all := pattern.FindAllStringSubmatch(output, -1)
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %s", errOutput, output[max(0, len(output)-500):])
	}
	var values []float64
	for _, group := range all[len(all)-1][1:] {
		v, err := strconv.ParseFloat(group, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errOutput, err)
		}
		values = append(values, v)
	}
	return values, nil
}

var producerPerfLine = regexp.MustCompile(`(\d+) records sent, ([\d.]+) records/sec .*?([\d.]+) ms 99th`)

func runProducerPerf(ctx context.Context, r *sideRun, lingerMillis int) error {
	all, err := r.startWithTopic(ctx, toolPartitions)
	if err != nil {
		return err
	}
	var output string
	u, err := r.measure(func() (err error) {
		output, err = r.jvm(ctx, "ProducerPerformance", "--bootstrap-server", r.broker.Addr, "--topic", all[0].Topic,
			"--num-records", strconv.Itoa(jvmPerSecond*r.seconds), "--record-size", strconv.Itoa(toolRecordBytes), "--throughput", "-1",
			"--command-property", "acks=all", "linger.ms="+strconv.Itoa(lingerMillis))
		return err
	})
	if err != nil {
		return err
	}
	got, err := numbers(output, producerPerfLine)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("jvm-linger%d", lingerMillis)
	r.put(name+"-mbps", got[1]*toolRecordBytes/1e6)
	r.put(name+"-p99", got[2])
	r.putCPU(name+"-cpu", u, int64(got[0])*toolRecordBytes)
	return nil
}

// toConsume fills a topic for a consuming tool and returns how many records it may read.
func (r *sideRun) toConsume(ctx context.Context) (topic string, count int64, err error) {
	all, err := r.startWithTopic(ctx, toolPartitions)
	if err != nil {
		return "", 0, err
	}
	n, err := r.fill(ctx, all, min(consumedAtOnceMax, int64(consumedPerSecond*float64(r.seconds))))
	return all[0].Topic, n / (toolRecordBytes + toolRecordBytes/64), err // a batch is a little larger than its records
}

var consumerPerfLine = regexp.MustCompile(`\d, ([\d.]+), [\d.]+, \d+, [\d.]+, -?\d+, \d+, ([\d.]+), [\d.]+`)

func runConsumerPerf(ctx context.Context, r *sideRun) error {
	topic, count, err := r.toConsume(ctx)
	if err != nil {
		return err
	}
	var output string
	u, err := r.measure(func() (err error) {
		output, err = r.jvm(ctx, "ConsumerPerformance", "--bootstrap-server", r.broker.Addr, "--topic", topic,
			"--num-records", strconv.FormatInt(count, 10), "--timeout", strconv.Itoa(perfTimeoutSeconds*1000))
		return err
	})
	if err != nil {
		return err
	}
	got, err := numbers(output, consumerPerfLine) // both in MiB
	if err != nil {
		return err
	}
	r.put("jvm-consume-mbps", got[1]*(1<<20)/1e6)
	r.putCPU("jvm-consume-cpu", u, int64(got[0]*(1<<20)))
	return nil
}

var endToEndLine = regexp.MustCompile(`50th = ([\d.]+), 99th = ([\d.]+), 99.9th = ([\d.]+)`)

func runEndToEndTool(ctx context.Context, r *sideRun) error {
	if _, err := r.startWithTopic(ctx, toolPartitions); err != nil {
		return err
	}
	one, err := r.topicNamed(ctx, "one", 1) // the tool reads all partitions, but is slow to begin with many records
	if err != nil {
		return err
	}
	output, err := r.jvm(ctx, "EndToEndLatency", "--bootstrap-server", r.broker.Addr, "--topic", one[0].Topic,
		"--num-records", strconv.Itoa(endToEndPerSecond*r.seconds), "--producer-acks", "all", "--record-size", strconv.Itoa(toolRecordBytes))
	if err != nil {
		return err
	}
	got, err := numbers(output, endToEndLine)
	if err != nil {
		return err
	}
	r.put("jvm-e2e-p50", got[0])
	r.put("jvm-e2e-p99", got[1])
	r.put("jvm-e2e-p999", got[2])
	return nil
}

var rdkafkaLine = regexp.MustCompile(`in (\d+)ms: (\d+) msgs/s`)

func runRdkafkaProduce(ctx context.Context, r *sideRun, lingerMillis int) error {
	program, err := r.rdkafka(ctx)
	if err != nil {
		return err
	}
	all, err := r.startWithTopic(ctx, toolPartitions)
	if err != nil {
		return err
	}
	count := rdkafkaPerSecond * r.seconds
	var output string
	u, err := r.measure(func() (err error) {
		output, err = r.tool(ctx, program, "-P", "-b", r.broker.Addr, "-t", all[0].Topic, "-s", strconv.Itoa(toolRecordBytes), "-c", strconv.Itoa(count),
			"-a", "-1", "-X", "linger.ms="+strconv.Itoa(lingerMillis))
		return err
	})
	if err != nil {
		return err
	}
	if !strings.Contains(output, fmt.Sprintf("%d delivered", count)) {
		return fmt.Errorf("%w: not all of %d were delivered: %s", errOutput, count, output[max(0, len(output)-500):])
	}
	got, err := numbers(output, rdkafkaLine)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("rdkafka-linger%d", lingerMillis)
	r.put(name+"-mbps", got[1]*toolRecordBytes/1e6)
	r.putCPU(name+"-cpu", u, int64(count)*toolRecordBytes)
	return nil
}

func runRdkafkaConsume(ctx context.Context, r *sideRun) error {
	program, err := r.rdkafka(ctx)
	if err != nil {
		return err
	}
	topic, count, err := r.toConsume(ctx)
	if err != nil {
		return err
	}
	var output string
	u, err := r.measure(func() (err error) {
		output, err = r.tool(ctx, program, "-G", "bench", "-b", r.broker.Addr, "-t", topic, "-c", strconv.FormatInt(count, 10),
			"-X", "auto.offset.reset=earliest")
		return err
	})
	if err != nil {
		return err
	}
	got, err := numbers(output, rdkafkaLine)
	if err != nil {
		return err
	}
	r.put("rdkafka-consume-mbps", got[1]*toolRecordBytes/1e6)
	r.putCPU("rdkafka-consume-cpu", u, count*toolRecordBytes)
	return nil
}
