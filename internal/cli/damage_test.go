package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ottlaio/ottla"
	"github.com/ottlaio/ottla/internal/cli"
)

// A consumer that meets damage says where it is and where to go on, and describe and doctor name the partition.
func TestDamageIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startBroker(t, dir)
	u := &user{t: t, server: b.Addr()}
	u.must("", func(ctx context.Context, c *cli.Client) error {
		return c.CreateTopics(ctx, cli.CreateTopics{Partitions: 2}, []string{"logs"})
	})
	// Each run is a batch of its own, of 70 records and about as many KiB.
	const runs, each = 4, 70
	for run := range runs {
		var lines strings.Builder
		for i := range each {
			fmt.Fprintf(&lines, "%d-%d %s\n", run, i, strings.Repeat("x", 1000))
		}
		u.must(lines.String(), func(ctx context.Context, c *cli.Client) error {
			return c.Produce(ctx, cli.Produce{Topic: "logs", Partition: 1, Compression: "none"})
		})
	}
	closeBroker(t, b)
	flip(t, filepath.Join(dir, "topics", "logs-1", "00000000000000000000.log"), 150_000) // the third block: of the second and third batch

	b = startBroker(t, dir)
	u.server = b.Addr()
	if got := u.describe("logs"); strings.Contains(got, "damaged") {
		t.Errorf("damage is known before it was met:\n%s", got)
	}
	behind := ""
	for _, group := range []string{"", "readers"} {
		out, err := u.run("", func(ctx context.Context, c *cli.Client) error {
			return c.Consume(ctx, cli.Consume{Topics: []string{"logs"}, Group: group})
		})
		if lines := strings.Count(out, "\n"); lines != each {
			t.Errorf("group %q: %d records before the damage, want %d", group, lines, each)
		}
		if err == nil || !strings.Contains(err.Error(), "partition 1 of logs cannot be read at offset 70") || !strings.Contains(err.Error(), "KAFKA_STORAGE_ERROR") {
			t.Fatalf("group %q: %v", group, err)
		}
		next := goOn.FindStringSubmatch(cli.Next(err))
		if next == nil || (group != "") != strings.Contains(cli.Next(err), "ottla group reset readers --topic logs:1 --to-offset "+next[1]) {
			t.Fatalf("group %q: next: %s", group, cli.Next(err))
		}
		behind = next[1]
	}
	// One that follows waits for what comes at the end of partition 0 and is told of partition 1 all the same.
	if _, err := u.run("", func(ctx context.Context, c *cli.Client) error {
		return c.Consume(ctx, cli.Consume{Topics: []string{"logs"}, Follow: true})
	}); err == nil || !strings.Contains(err.Error(), "at offset 70") {
		t.Errorf("following: %v", err)
	}
	rest, err := u.run("", func(ctx context.Context, c *cli.Client) error {
		return c.Consume(ctx, cli.Consume{Topics: []string{"logs"}, Partitions: []int32{1}, Offset: behind})
	})
	if err != nil || !strings.HasPrefix(rest[strings.LastIndexByte(strings.TrimSpace(rest), '\n')+1:], "3-69 ") {
		t.Errorf("from offset %s, behind the damage: %d records, %v", behind, strings.Count(rest, "\n"), err)
	}
	if got := u.describe("logs"); !strings.Contains(got, "damaged in part") {
		t.Errorf("describe does not show it:\n%s", got)
	}
	var out bytes.Buffer
	err = cli.Doctor(t.Context(), cli.Connection{Servers: u.server}, cli.Streams{Out: &out, Err: &out}, "text")
	if err == nil || !strings.Contains(out.String(), "1 partition damaged in part") || !strings.Contains(out.String(), "logs:1") {
		t.Errorf("the doctor says %v:\n%s", err, out.String())
	}
	closeBroker(t, b)
}

var goOn = regexp.MustCompile(`ottla consume logs --partition 1 --offset (\d+)`)

// user is somebody at a shell with a broker of his own.
type user struct {
	t      *testing.T
	server string
}

func (u *user) run(input string, do func(context.Context, *cli.Client) error) (string, error) {
	var out, errOut bytes.Buffer
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	defer cancel()
	err := cli.With(ctx, cli.Connection{Servers: u.server}, cli.Streams{In: strings.NewReader(input), Out: &out, Err: &errOut}, do)
	return out.String(), err
}

func (u *user) must(input string, do func(context.Context, *cli.Client) error) string {
	u.t.Helper()
	out, err := u.run(input, do)
	if err != nil {
		u.t.Fatal(err)
	}
	return out
}

func (u *user) describe(topic string) string {
	u.t.Helper()
	return u.must("", func(ctx context.Context, c *cli.Client) error { return c.DescribeTopics(ctx, []string{topic}, "text") })
}

func startBroker(t *testing.T, dir string) *ottla.Broker {
	t.Helper()
	b, err := ottla.Start(t.Context(), ottla.Config{
		Data: dir, Listen: "127.0.0.1:0", Settings: map[string]string{"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	return b
}

func closeBroker(t *testing.T, b *ottla.Broker) {
	t.Helper()
	if err := errors.Join(b.Close(t.Context()), b.Err()); err != nil {
		t.Fatal(err)
	}
}

// flip changes one byte of a file.
func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}
