package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ottlaio/ottla"
	"github.com/ottlaio/ottla/internal/cli"
)

// decode reads the JSON that a verb wrote.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

func TestTopicsAreListedAndDescribed(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("listed", 2, "retention.ms=1234")
	s.produce("a\nb\nc\n", cli.Produce{Topic: "listed", Partition: 1})
	type row struct {
		Name       string
		Partitions int
		Records    int64
		Bytes      int64
	}
	rows := decode[[]row](t, s.must("", func(ctx context.Context, c *cli.Client) error { return c.ListTopics(ctx, false, cli.FormatJSON) }))
	found := false
	for _, r := range rows {
		if r.Name == "listed" {
			found = true
			if r.Partitions != 2 || r.Records != 3 || r.Bytes < 3 {
				t.Errorf("the row is %+v", r)
			}
		}
		if strings.HasPrefix(r.Name, "__") {
			t.Errorf("%s is listed without being asked for", r.Name)
		}
	}
	if !found {
		t.Errorf("listed is not in %+v", rows)
	}
	text := s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.DescribeTopics(ctx, []string{"listed"}, cli.FormatText)
	})
	want := regexp.MustCompile(`^Topic: listed  TopicId: [A-Za-z0-9_-]{22}  PartitionCount: 2  ReplicationFactor: 1  Configs: retention.ms=1234
PARTITION  LEADER  EPOCH  REPLICAS  ISR  START  END  RECORDS  ERROR
        0       1      \d  1         1        0    0        0  -
        1       1      \d  1         1        0    3        3  -
$`)
	if !want.MatchString(text) {
		t.Errorf("wrote\n%s", text)
	}
}

func TestTopicsAreAltered(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("altered", 1, "retention.ms=1")
	s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.AlterTopic(ctx, cli.AlterTopic{Partitions: 3, Configs: []string{"retention.bytes=5"}, DeleteConfigs: []string{"retention.ms"}}, "altered")
	})
	got := s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.DescribeTopics(ctx, []string{"altered"}, cli.FormatText)
	})
	if !strings.Contains(got, "PartitionCount: 3") || !strings.Contains(got, "Configs: retention.bytes=5\n") {
		t.Errorf("it is\n%s", got)
	}
}

type describedGroup struct {
	Group      string
	State      string
	Lag        int64
	Members    int
	TimeLag    *float64 `json:"time_lag_seconds"`
	Partitions []struct {
		Topic     string
		Partition int32
		Committed *int64 `json:"committed_offset"`
		End       int64  `json:"log_end_offset"`
		Lag       int64
		TimeLag   *float64 `json:"time_lag_seconds"`
	}
}

func (s *session) group(name string) describedGroup {
	s.t.Helper()
	groups := decode[[]describedGroup](s.t, s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.DescribeGroups(ctx, []string{name}, cli.FormatJSON)
	}))
	if len(groups) != 1 {
		s.t.Fatalf("described are %+v", groups)
	}
	return groups[0]
}

func TestLagInRecordsAndSeconds(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("lagging", 1)
	s.produce("a\nb\n", cli.Produce{Topic: "lagging", Partition: -1})
	began := time.Now()
	s.produce("c\nd\ne\n", cli.Produce{Topic: "lagging", Partition: -1})
	s.consume(cli.Consume{Topics: []string{"lagging"}, Group: "slow", Count: 2})
	g := s.group("slow")
	if g.Lag != 3 || len(g.Partitions) != 1 || g.Partitions[0].Lag != 3 || g.Partitions[0].Committed == nil || *g.Partitions[0].Committed != 2 {
		t.Errorf("the group is %+v", g)
	}
	if age := g.Partitions[0].TimeLag; age == nil || *age < 0 || *age > time.Since(began).Seconds()+0.01 {
		t.Errorf("the time lag is %v, %v after the record", age, time.Since(began))
	}
	s.consume(cli.Consume{Topics: []string{"lagging"}, Group: "slow"})
	if g := s.group("slow"); g.Lag != 0 || g.TimeLag == nil || *g.TimeLag != 0 || g.State != "Empty" {
		t.Errorf("the group is %+v", g)
	}
	list := s.must("", func(ctx context.Context, c *cli.Client) error { return c.ListGroups(ctx, cli.FormatText) })
	if !regexp.MustCompile(`(?m)^slow +classic +Empty +\S+ +1 +0 +0 +-$`).MatchString(list) {
		t.Errorf("the list is\n%s", list)
	}
}

func TestResetShowsThePlanAndActsWhenTold(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("reset", 2)
	s.produce("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", cli.Produce{Topic: "reset", Partition: 0})
	s.consume(cli.Consume{Topics: []string{"reset"}, Group: "again", Count: 6})
	back, far := int64(-2), int64(100)
	for _, c := range []struct {
		name      string
		o         cli.ResetGroup
		committed int64
	}{
		{"a plan", cli.ResetGroup{To: "earliest"}, 6},
		{"back", cli.ResetGroup{ShiftBy: &back, Execute: true}, 4},
		{"too far", cli.ResetGroup{ShiftBy: &far, Execute: true}, 10},
		{"an offset", cli.ResetGroup{To: "7", Topics: []string{"reset:0"}, Execute: true}, 7},
		{"a time", cli.ResetGroup{To: "@-1h", Execute: true}, 0},
		{"the future", cli.ResetGroup{To: "@2100-01-01", Execute: true}, 10},
		{"earliest", cli.ResetGroup{To: "earliest", Topics: []string{"reset"}, Execute: true}, 0},
		{"latest", cli.ResetGroup{To: "latest", Execute: true}, 10},
	} {
		s.must("", func(ctx context.Context, client *cli.Client) error {
			return client.ResetGroup(ctx, "again", c.o, cli.FormatText)
		})
		if !strings.HasPrefix(s.out.String(), "TOPIC ") {
			t.Errorf("%s: no plan in %q", c.name, s.out.String())
		}
		for _, p := range s.group("again").Partitions {
			if p.Partition == 0 && (p.Committed == nil || *p.Committed != c.committed) {
				t.Errorf("%s: committed is %v, not %d", c.name, p.Committed, c.committed)
			}
		}
	}
	s.must("", func(ctx context.Context, c *cli.Client) error { return c.DeleteGroups(ctx, []string{"again"}, true) })
	err := s.run("", func(ctx context.Context, c *cli.Client) error {
		return c.DescribeGroups(ctx, []string{"again"}, cli.FormatText)
	})
	if err == nil || !strings.Contains(err.Error(), "there is no group again") {
		t.Errorf("the error is %v", err)
	}
}

func TestAGroupWithMembersIsNotReset(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("busy", 1)
	s.produce("one\n", cli.Produce{Topic: "busy", Partition: -1})
	reader, writer := io.Pipe()
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- cli.With(ctx, cli.Connection{Servers: server}, cli.Streams{In: strings.NewReader(""), Out: writer, Err: io.Discard},
			func(ctx context.Context, c *cli.Client) error {
				return c.Consume(ctx, cli.Consume{Topics: []string{"busy"}, Group: "busy", Follow: true})
			})
	}()
	if _, err := io.ReadFull(reader, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	err := s.run("", func(ctx context.Context, c *cli.Client) error {
		return c.ResetGroup(ctx, "busy", cli.ResetGroup{To: "earliest", Topics: []string{"busy"}, Execute: true}, cli.FormatText)
	})
	if err == nil || !strings.Contains(err.Error(), "1 member") {
		t.Errorf("the error is %v", err)
	}
	if g := s.group("busy"); g.Members != 1 {
		t.Errorf("the group is %+v", g)
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if g := s.group("busy"); g.Lag != 0 || g.Members != 0 {
		t.Errorf("after the member has left, the group is %+v", g)
	}
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	s := &session{t: t}
	s.create("configured", 1)
	topic := cli.Resource{Kind: "topic", Name: "configured"}
	s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.SetConfigs(ctx, topic, []string{"retention.ms=60000"}, nil)
	})
	got := s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.GetConfig(ctx, topic, "retention.ms", cli.FormatText)
	})
	if got != "60000\n" {
		t.Errorf("got %q", got)
	}
	got = s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.DescribeConfigs(ctx, topic, false, cli.FormatText)
	})
	if !regexp.MustCompile(`(?m)^retention.ms +60000 +topic `).MatchString(got) {
		t.Errorf("described as\n%s", got)
	}
	got = s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.ExplainConfig(ctx, &topic, "retention.ms", cli.FormatText)
	})
	if !strings.Contains(got, "value      60000\n") || !strings.Contains(got, "ottla config set topic configured retention.ms=VALUE") {
		t.Errorf("explained as\n%s", got)
	}
	s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.SetConfigs(ctx, topic, nil, []string{"retention.ms"})
	})
	got = s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.GetConfig(ctx, topic, "retention.ms", cli.FormatText)
	})
	if got != "604800000\n" {
		t.Errorf("after deleting it is %q", got)
	}
	got = s.must("", func(ctx context.Context, c *cli.Client) error {
		return c.ExplainConfig(ctx, nil, "ottla.ack.when", cli.FormatText)
	})
	if !strings.Contains(got, "ottla.ack.when of broker 1") {
		t.Errorf("explained as\n%s", got)
	}
	err := s.run("", func(ctx context.Context, c *cli.Client) error {
		return c.GetConfig(ctx, topic, "retention.mss", cli.FormatText)
	})
	if err == nil || cli.Next(err) != "did you mean retention.ms?" {
		t.Errorf("the error is %v, next: %s", err, cli.Next(err))
	}
}

type finding struct{ Grade, About, What, Next string }

func examine(t *testing.T, address string) ([]finding, error) {
	t.Helper()
	var out bytes.Buffer
	err := cli.Doctor(t.Context(), cli.Connection{Servers: address}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: io.Discard}, cli.FormatJSON)
	return decode[[]finding](t, out.String()), err
}

func TestDoctorFindsNothingWrongWithAGoodBroker(t *testing.T) {
	t.Parallel()
	findings, err := examine(t, server)
	if err != nil {
		t.Errorf("the error is %v: %+v", err, findings)
	}
	seen := map[string]bool{}
	for _, f := range findings {
		seen[f.About] = true
		if f.Grade == "problem" || f.About == "durability" && (f.Grade != "ok" || !strings.Contains(f.What, "stable storage")) {
			t.Errorf("found %+v", f)
		}
	}
	for _, about := range []string{"listener", "protocol", "advertised", "cluster", "durability", "disk", "partitions"} {
		if !seen[about] {
			t.Errorf("it did not look at %s: %+v", about, findings)
		}
	}
}

func TestAnAdvertisedAddressThatCannotBeReachedIsNamed(t *testing.T) {
	t.Parallel()
	broker, err := ottla.Start(t.Context(), ottla.Config{Data: t.TempDir(), Settings: map[string]string{
		"listeners": "PLAINTEXT://127.0.0.1:0", "advertised.listeners": "PLAINTEXT://127.0.0.1:1", "ottla.ack.when": "unsafe-memory",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close(context.WithoutCancel(t.Context()))
	findings, err := examine(t, broker.Addr())
	if err == nil || err.Error() != "1 problem found" {
		t.Errorf("the error is %v", err)
	}
	found := false
	for _, f := range findings {
		found = found || f.About == "advertised" && f.Grade == "problem" && strings.Contains(f.What, "127.0.0.1:1") && strings.Contains(f.Next, "advertised.listeners")
	}
	if !found {
		t.Errorf("found only %+v", findings)
	}
	began := time.Now()
	err = cli.With(t.Context(), cli.Connection{Servers: broker.Addr()}, cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard},
		func(ctx context.Context, c *cli.Client) error { return c.ListTopics(ctx, false, cli.FormatText) })
	if err != nil && !strings.Contains(cli.Next(err), "advertised.listeners") || time.Since(began) > 10*time.Second {
		t.Errorf("after %v: %v, next: %s", time.Since(began), err, cli.Next(err))
	}
}

func TestDoctorKnowsWhatIsNotKafka(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	findings, err := examine(t, listener.Addr().String())
	if err == nil || len(findings) != 2 || findings[0].Grade != "ok" || findings[1].Grade != "problem" || !strings.Contains(findings[1].Next, "Kafka listener") {
		t.Errorf("found %+v, %v", findings, err)
	}
	listener.Close()
	<-ended
}

// What was acknowledged is in the topic, and the error names the first line that was not.
func TestProduceNamesTheFirstLineThatWasNotAcknowledged(t *testing.T) {
	t.Parallel()
	broker, err := ottla.Start(t.Context(), ottla.Config{Data: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	connection := cli.Connection{Servers: broker.Addr(), Properties: []string{"delivery.timeout.ms=1000"}}
	err = cli.With(t.Context(), connection, cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}, func(ctx context.Context, c *cli.Client) error {
		return c.CreateTopics(ctx, cli.CreateTopics{Partitions: 1}, []string{"cut"})
	})
	if err != nil {
		t.Fatal(err)
	}
	reader, writer := io.Pipe()
	// The broker goes away between two reads of the input.
	go func() {
		_, _ = io.WriteString(writer, "one\ntwo\n")
		for written := false; !written; {
			_ = cli.With(t.Context(), connection, cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}, func(ctx context.Context, c *cli.Client) error {
				var out bytes.Buffer
				c.Out = &out
				err := c.Consume(ctx, cli.Consume{Topics: []string{"cut"}})
				written = strings.Count(out.String(), "\n") == 2
				return err
			})
		}
		_ = broker.Close(context.WithoutCancel(t.Context()))
		_, _ = io.WriteString(writer, "three\nfour\n")
		_ = writer.Close()
	}()
	var said bytes.Buffer
	err = cli.With(t.Context(), connection, cli.Streams{In: reader, Out: io.Discard, Err: &said}, func(ctx context.Context, c *cli.Client) error {
		return c.Produce(ctx, cli.Produce{Topic: "cut", Partition: -1})
	})
	if err == nil || !strings.Contains(err.Error(), "2 records not acknowledged; the first is line 3 of standard input") || cli.Next(err) == "" {
		t.Errorf("the error is %v, next: %s", err, cli.Next(err))
	}
	if !strings.Contains(said.String(), "2 records, 6 B to cut") {
		t.Errorf("it said %q", said.String())
	}
}
