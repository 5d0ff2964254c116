package hostile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla"
)

// buildBroker builds the real binary once for all tests of the package. PROVE_BINARY names one that is built already.
var buildBroker = sync.OnceValues(func() (string, error) {
	if binary := os.Getenv("PROVE_BINARY"); binary != "" {
		return binary, nil
	}
	dir, err := os.MkdirTemp("", "ottla-hostile")
	if err != nil {
		return "", err
	}
	buildDir = dir
	binary := filepath.Join(dir, "ottla")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/ottlaio/ottla/cmd/ottla").CombinedOutput(); err != nil {
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

// TestStartUpErrors runs the binary on what it must refuse: it ends with status 1 and says which key, file or folder is wrong and what to
// do, without a stack, and the folder is as it was.
func TestStartUpErrors(t *testing.T) {
	t.Parallel()
	binary, err := buildBroker()
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	running := startEmbedded(t, t.TempDir())
	used := t.TempDir()
	produceAndClose(t, used, 200)

	file := func(name, text string) func(t *testing.T) string {
		return func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	folder := func(name, text string) func(t *testing.T) string {
		return func(t *testing.T) string { return filepath.Dir(file(name, text)(t)) }
	}
	damaged := func(pattern string, damage func(path string) error) func(t *testing.T) string {
		return func(t *testing.T) string {
			data := t.TempDir()
			if err := os.CopyFS(data, os.DirFS(used)); err != nil {
				t.Fatal(err)
			}
			found, err := filepath.Glob(filepath.Join(data, pattern))
			if err != nil || len(found) == 0 {
				t.Fatalf("no %s in the folder: %v", pattern, err)
			}
			for _, f := range found {
				if err := damage(f); err != nil {
					t.Fatal(err)
				}
			}
			return data
		}
	}
	flip := func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 0x10
		return os.WriteFile(path, b, 0o600)
	}
	// Whoever opens and closes the file of the lock in the broker's own process does not open the lock.
	if _, err := os.ReadFile(filepath.Join(running.Data(), "lock")); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		data   func(t *testing.T) string // default: a new folder
		config func(t *testing.T) string
		args   []string
		env    string
		want   []string
	}{
		{name: "second broker", data: func(*testing.T) string { return running.Data() }, want: []string{running.Data(), "in use by another process", "--data"}},
		{name: "somebody's files", data: folder("thesis.tex", "x"), want: []string{"thesis.tex", "not ours", "--data"}},
		{name: "Kafka's folder", data: folder("meta.properties", "version=1\ncluster.id=abc\nnode.id=1\n"), want: []string{"meta.properties", "Apache Kafka", "--data"}},
		{name: "newer format", data: folder("meta.properties", "version=1\ncluster.id=abc\nnode.id=1\ndirectory.id=4L6g3nShT-eMCtK--X86sw\nottla.format=2\n"), want: []string{"meta.properties", "ottla.format", "start it with the version that wrote it"}},
		{name: "broken meta.properties", data: damaged("meta.properties", func(path string) error { return os.WriteFile(path, []byte("nonsense"), 0o600) }), want: []string{"meta.properties", "nonsense"}},
		{name: "folder is a file", data: file("data", "x"), want: []string{"not a directory"}},
		{name: "broken checkpoint", data: damaged("checkpoint", flip), want: []string{"checkpoint"}},
		{name: "checkpoint cut", data: damaged("checkpoint", func(path string) error { return os.Truncate(path, 20) }), want: []string{"checkpoint"}},
		{name: "etcd folder lost", data: damaged("etcd", os.RemoveAll), want: []string{"metadata", "/etcd", "put that folder back"}},
		{name: "typo in the file", config: file("server.properties", "# mine\nnum.partitions=3\nlog.retention.hour=3\n"), want: []string{"server.properties:3", "log.retention.hour", `did you mean "log.retention.hours"`}},
		{name: "bad value in the file", config: file("server.properties", "num.partitions=many\n"), want: []string{"server.properties:1", "num.partitions", "many"}},
		{name: "typo in --set", args: []string{"--set", "num.partition=3"}, want: []string{"num.partition", `did you mean "num.partitions"`}},
		{name: "bad value in --set", args: []string{"--set", "log.segment.bytes=-5"}, want: []string{"log.segment.bytes", "-5"}},
		{name: "--set without =", args: []string{"--set", "num.partitions"}, want: []string{"num.partitions", "key=value"}},
		{name: "typo in the environment", env: "OTTLA_NUM_PARTITION=3", want: []string{"OTTLA_NUM_PARTITION", `did you mean "num.partitions"`}},
		{name: "two mistakes", args: []string{"--set", "num.partition=3", "--set", "log.segment.bytes=x"}, want: []string{"num.partition", "log.segment.bytes"}},
		{name: "port in use", args: []string{"--listen", taken.Addr().String()}, want: []string{taken.Addr().String(), "in use", "--listen"}},
		{name: "no such file", config: func(*testing.T) string { return "/nowhere/server.properties" }, want: []string{"/nowhere/server.properties"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			if c.data != nil {
				data = c.data(t)
			}
			args := []string{"serve", "--data", data}
			if !strings.HasPrefix(strings.Join(c.args, " "), "--listen") {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			if c.config != nil {
				args = append(args, "--config", c.config(t))
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, append(args, c.args...)...)
			cmd.Env = os.Environ()
			if c.env != "" {
				cmd.Env = append(cmd.Env, c.env)
			}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = io.Discard, &out
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Fatalf("the process ended with %v, want status 1:\n%s", err, out.String())
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the message does not say %q:\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), "goroutine ") {
				t.Errorf("the message has a stack:\n%s", out.String())
			}
			t.Log(out.String())
		})
	}
}

// TestDamageInTheMiddleOfTheWAL flips a bit of an acknowledged record in the log of a broker that was killed: the broker says loudly
// which record is damaged, refuses that one, and serves those before and after.
func TestDamageInTheMiddleOfTheWAL(t *testing.T) {
	const records, damaged = 200, 100
	running := startEmbedded(t, t.TempDir())
	produceTo(t, running, records)
	// The folder of a broker that is running and idle is what a SIGKILL leaves.
	data := filepath.Join(t.TempDir(), "crashed")
	if err := os.CopyFS(data, os.DirFS(running.Data())); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(data, "wal", "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("wal files %v: %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, fmt.Appendf(nil, "value-%d.", damaged))] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}

	var log logBuffer
	broker, err := ottla.Start(t.Context(), ottla.Config{Data: data, Listen: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close(t.Context())
	for _, want := range []string{"damaged data", "topic=used", fmt.Sprintf("offset=%d", damaged), files[0]} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
	for offset := int64(0); offset < records; offset++ {
		value, code := fetchOne(t, broker.Addr(), offset)
		switch {
		case offset == damaged && code == 0:
			t.Errorf("the damaged record came as %q", value)
		case offset != damaged && (code != 0 || !strings.Contains(value, fmt.Sprintf("value-%d.", offset))):
			t.Errorf("offset %d: error %v, %q", offset, kerr.ErrorForCode(code), value)
		}
	}
}

// fetchOne returns the bytes of the batches at an offset of topic "used", or the error.
func fetchOne(t *testing.T, addr string, offset int64) (string, int16) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(11)
	req.ReplicaID, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, 1, 1<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.CurrentLeaderEpoch, p.FetchOffset, p.LogStartOffset, p.PartitionMaxBytes = -1, offset, -1, 1
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.Partitions = "used", []kmsg.FetchRequestTopicPartition{p}
	req.Topics = append(req.Topics, topic)
	resp, err := call(t, conn, req)
	if err != nil {
		t.Fatal(err)
	}
	answer := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
	return string(answer.RecordBatches), answer.ErrorCode
}

func startEmbedded(t *testing.T, data string) *ottla.Broker {
	t.Helper()
	b, err := ottla.Start(t.Context(), ottla.Config{Data: data, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.WithoutCancel(t.Context())) })
	return b
}

func produceAndClose(t *testing.T, data string, records int) {
	t.Helper()
	b := startEmbedded(t, data)
	produceTo(t, b, records)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// produceTo sends records one by one, each in a commit of its own.
func produceTo(t *testing.T, b *ottla.Broker, records int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.DefaultProduceTopic("used"), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i := range records {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Value: fmt.Appendf(nil, "value-%d.", i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}
