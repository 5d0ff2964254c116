package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ottlaio/ottla/internal/cli"
)

func TestLinesComeBackByteForByte(t *testing.T) {
	t.Parallel()
	inputs := map[string]string{
		"one line":          "hello\n",
		"no newline at end": "a\nb",
		"carriage returns":  "a\r\n\r\nb\r",
		"empty lines":       "\n\n\n",
		"binary":            "\x00\xff\xfe\x80\n\x1b[0m\n",
		"nothing":           "",
	}
	for name, input := range inputs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &session{t: t}
			topic := "bytes-" + strings.ReplaceAll(name, " ", "-")
			s.create(topic, 1)
			s.produce(input, cli.Produce{Topic: topic, Partition: -1})
			want := input
			if want != "" && !strings.HasSuffix(want, "\n") {
				want += "\n"
			}
			if got := s.consume(cli.Consume{Topics: []string{topic}}); got != want {
				t.Errorf("wrote %q, read %q", want, got)
			}
		})
	}
}

// Lines of every length, in files and with every codec, so that they cross the bounds of reads, chunks and batches.
func TestFilesComeBackInOrder(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			s := &session{t: t}
			topic := "files-" + codec
			s.create(topic, 1)
			random := rand.New(rand.NewPCG(1, 2))
			var want bytes.Buffer
			var files []string
			for i := range 3 {
				var text bytes.Buffer
				for n := range 3000 {
					fmt.Fprintf(&text, "%d %d %s\n", i, n, strings.Repeat("x", random.IntN(1+random.IntN(1+random.IntN(4000)))))
				}
				file := filepath.Join(t.TempDir(), fmt.Sprint(i))
				if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
				files = append(files, file)
				want.Write(text.Bytes())
			}
			s.produce("", cli.Produce{Topic: topic, Files: files, Partition: -1, Compression: codec})
			if got := s.err.String(); !strings.HasPrefix(got, "9,000 records, ") {
				t.Errorf("the summary is %q", got)
			}
			if got := s.consume(cli.Consume{Topics: []string{topic}}); got != want.String() {
				t.Error("what was read is not what was written")
			}
		})
	}
}

func TestKeysHeadersAndNulls(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("keys", 1)
	s.produce("a:1\nb:x:y\n:\nc:NULL\n-:5\n", cli.Produce{Topic: "keys", Partition: 0, KeySeparator: ":", NullValue: "NULL", NullKey: "-", Headers: []string{"h=1", "i=é"}})
	got := s.consume(cli.Consume{Topics: []string{"keys"}, Print: cli.Print{KeySeparator: "|", Null: "NIL"}})
	if want := "a|1\nb|x:y\n|\nc|NIL\nNIL|5\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = s.consume(cli.Consume{Topics: []string{"keys"}, Count: 1, Print: cli.Print{Format: `%t/%p/%o %k=%s %S [%h]\n`}})
	if want := "keys/0/0 a=1 1 [h=1,i=é]\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestALineWithoutKeySeparatorStopsThere(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("no-key", 1)
	err := s.run("a:1\nb:2\nthree\nd:4\n", func(ctx context.Context, c *cli.Client) error {
		return c.Produce(ctx, cli.Produce{Topic: "no-key", Partition: -1, KeySeparator: ":"})
	})
	if err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("the error is %v", err)
	}
	if got := s.consume(cli.Consume{Topics: []string{"no-key"}}); got != "1\n2\n" {
		t.Errorf("sent %q", got)
	}
}

func TestALongLineIsNamedWithTheLimit(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("long", 1, "max.message.bytes=100000")
	for name, size := range map[string]int{"by one byte": 100000 - 75 + 1, "longer than a read": 3 << 20} {
		input := "first\nsecond\n" + strings.Repeat("x", size) + "\nlast\n"
		err := s.run(input, func(ctx context.Context, c *cli.Client) error {
			return c.Produce(ctx, cli.Produce{Topic: "long", Partition: -1})
		})
		if err == nil || !strings.Contains(err.Error(), "line 3") {
			t.Errorf("%s: the error is %v", name, err)
		}
		if !strings.Contains(cli.Next(err), "max.message.bytes=100000") {
			t.Errorf("%s: next is %q", name, cli.Next(err))
		}
	}
	s.produce(strings.Repeat("y", 100000-75), cli.Produce{Topic: "long", Partition: -1})
	got := s.consume(cli.Consume{Topics: []string{"long"}, Count: 4})
	if got != "first\nsecond\nfirst\nsecond\n" {
		t.Errorf("before the long line %q was sent", got)
	}
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("offsets", 1)
	s.produce("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", cli.Produce{Topic: "offsets", Partition: -1})
	for _, c := range []struct {
		o    cli.Consume
		want string
	}{
		{cli.Consume{Offset: "earliest", Count: 2}, "0 1 "},
		{cli.Consume{Offset: "latest"}, ""},
		{cli.Consume{Offset: "7"}, "7 8 9 "},
		{cli.Consume{Offset: "-2"}, "8 9 "},
		{cli.Consume{Offset: "-100", Until: "2"}, "0 1 "},
		{cli.Consume{Offset: "100"}, ""},
		{cli.Consume{Offset: "@-1h", Count: 1}, "0 "},
		{cli.Consume{Offset: "@2100-01-01"}, ""},
		{cli.Consume{Offset: "3", Until: "-5"}, "3 4 "},
	} {
		c.o.Topics, c.o.Print.Format = []string{"offsets"}, "%v "
		if got := s.consume(c.o); got != c.want {
			t.Errorf("--offset %q --until %q --count %d: got %q, want %q", c.o.Offset, c.o.Until, c.o.Count, got, c.want)
		}
	}
}

func TestAGroupCommitsWhatWasWritten(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("grouped", 1)
	s.produce("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", cli.Produce{Topic: "grouped", Partition: -1})
	for _, c := range []struct {
		offset string
		count  int64
		want   string
	}{
		{"-9", 3, "1 2 3 "}, // nothing is committed yet, so --offset counts
		{"earliest", 2, "4 5 "},
		{"", 0, "6 7 8 9 "},
		{"", 0, ""},
	} {
		got := s.consume(cli.Consume{Topics: []string{"grouped"}, Group: "readers", Offset: c.offset, Count: c.count, Print: cli.Print{Format: "%v "}})
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// closedPipe takes some bytes and then behaves as the pipe of a reader that is gone.
type closedPipe struct{ left int }

func (p *closedPipe) Write(b []byte) (int, error) {
	if p.left -= len(b); p.left < 0 {
		return 0, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}
	}
	return len(b), nil
}

func TestAClosedPipeEndsQuietly(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("pipe", 1)
	s.produce(strings.Repeat("0123456789\n", 100000), cli.Produce{Topic: "pipe", Partition: -1})
	streams := cli.Streams{In: strings.NewReader(""), Out: &closedPipe{left: 1 << 17}, Err: io.Discard}
	err := cli.With(t.Context(), cli.Connection{Servers: server}, streams, func(ctx context.Context, c *cli.Client) error {
		return c.Consume(ctx, cli.Consume{Topics: []string{"pipe"}})
	})
	if err != nil {
		t.Errorf("the error is %v", err)
	}
}

func TestFollowGoesOnUntilInterrupted(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("follow", 1)
	s.produce("before\n", cli.Produce{Topic: "follow", Partition: -1})
	reader, writer := io.Pipe()
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		streams := cli.Streams{In: strings.NewReader(""), Out: writer, Err: io.Discard}
		ended <- cli.With(ctx, cli.Connection{Servers: server}, streams, func(ctx context.Context, c *cli.Client) error {
			return c.Consume(ctx, cli.Consume{Topics: []string{"follow"}, Follow: true})
		})
	}()
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(reader, got); err != nil || string(got) != want {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	expect("before\n")
	s.produce("after\n", cli.Produce{Topic: "follow", Partition: -1})
	expect("after\n")
	interrupt()
	if err := <-ended; err != nil {
		t.Errorf("an interrupted --follow returns %v", err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("exists", 2)
	for name, c := range map[string]struct {
		do        func(context.Context, *cli.Client) error
		what, how string
	}{
		"create what exists": {func(ctx context.Context, c *cli.Client) error {
			return c.CreateTopics(ctx, cli.CreateTopics{}, []string{"exists"})
		}, "TOPIC_ALREADY_EXISTS", "--if-not-exists"},
		"a bad name": {func(ctx context.Context, c *cli.Client) error {
			return c.CreateTopics(ctx, cli.CreateTopics{}, []string{"a b"})
		}, "INVALID_TOPIC_EXCEPTION", "249"},
		"produce to nothing": {func(ctx context.Context, c *cli.Client) error {
			return c.Produce(ctx, cli.Produce{Topic: "nothing", Partition: -1})
		}, "there is no topic nothing", "ottla topic create nothing"},
		"consume from nothing": {func(ctx context.Context, c *cli.Client) error {
			return c.Consume(ctx, cli.Consume{Topics: []string{"nothing"}})
		}, "there is no topic nothing", "ottla topic list"},
		"no such partition": {func(ctx context.Context, c *cli.Client) error {
			return c.Produce(ctx, cli.Produce{Topic: "exists", Partition: 2})
		}, "no partition 2, only 0 to 1", "--partitions"},
		"fewer partitions": {func(ctx context.Context, c *cli.Client) error {
			return c.AlterTopic(ctx, cli.AlterTopic{Partitions: 1}, "exists")
		}, "INVALID_PARTITIONS", "never taken away"},
		"an unknown setting": {func(ctx context.Context, c *cli.Client) error {
			return c.AlterTopic(ctx, cli.AlterTopic{Configs: []string{"retention.sm=1"}}, "exists")
		}, "INVALID_CONFIG", "ottla config"},
		"delete without yes": {func(ctx context.Context, c *cli.Client) error {
			return c.DeleteTopics(ctx, []string{"exists"}, false)
		}, "nothing was changed", "--yes"},
	} {
		err := s.run("", c.do)
		if err == nil || !strings.Contains(err.Error(), c.what) || !strings.Contains(cli.Next(err), c.how) {
			t.Errorf("%s: the error is %v, next: %s", name, err, cli.Next(err))
		}
	}
}

func TestNoBroker(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{"127.0.0.1:1": "ottla serve", "no-such-host.invalid": "host's name"} {
		streams := cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}
		err := cli.With(t.Context(), cli.Connection{Servers: address}, streams, func(ctx context.Context, c *cli.Client) error {
			return c.ListTopics(ctx, false, cli.FormatText)
		})
		var known *cli.Error
		if !errors.As(err, &known) || !strings.Contains(known.Next, want) {
			t.Errorf("%s: the error is %v, next: %s", address, err, cli.Next(err))
		}
	}
}

func TestDeleteAsks(t *testing.T) {
	t.Parallel()
	s := &session{t: t, terminal: true}
	s.create("asked", 1)
	remove := func(ctx context.Context, c *cli.Client) error { return c.DeleteTopics(ctx, []string{"asked"}, false) }
	if err := s.run("n\n", remove); err == nil {
		t.Error("a no was taken for a yes")
	}
	if got := s.must("y\n", remove); got != "deleted asked\n" {
		t.Errorf("wrote %q", got)
	}
}
