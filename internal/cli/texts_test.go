package cli

import (
	"strings"
	"testing"
	"time"
)

func TestProgressText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		records, bytes, total int64
		want                  string
	}{
		{0, 0, -1, "0 records  0 B  0.0 MB/s  0 records/s"},
		{1_000_000, 39_000_000, -1, "1,000,000 records  39.0 MB  19.5 MB/s  500,000 records/s"},
		{1_000_000, 39_000_000, 160_000_000, " 25%  1,000,000 records  39.0 MB  19.5 MB/s  500,000 records/s  ETA 6s"},
	} {
		if got := progressText(c.records, c.bytes, c.total, 2*time.Second); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestDurabilityOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ack, flush, grade, what string }{
		{"synced", "9223372036854775807", gradeOK, "on stable storage (ottla.ack.when=synced)"},
		{"unsafe-memory", "", gradeWarning, "before they are on stable storage (ottla.ack.when=unsafe-memory)"},
		{"", "9223372036854775807", gradeWarning, "log.flush.interval.messages=never"},
		{"", "10000", gradeWarning, "log.flush.interval.messages=10000"},
		{"", "1", gradeOK, "syncs every batch"},
	} {
		f := durabilityOf(1, c.ack, c.flush)
		if f.Grade != c.grade || !strings.Contains(f.What, c.what) || (f.Next == "") != (c.grade == gradeOK) {
			t.Errorf("ack %q, flush %q: %+v", c.ack, c.flush, f)
		}
	}
}

func TestTableColumns(t *testing.T) {
	t.Parallel()
	table := newTable("NAME", ">COUNT", "NOTE")
	table.add("ä", 5, "")
	table.add("longer", 1234, "x")
	var b strings.Builder
	if err := table.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "NAME    COUNT  NOTE\nä           5  -\nlonger   1234  x\n"
	if b.String() != want {
		t.Errorf("wrote\n%s", b.String())
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	for _, good := range [][]string{
		{"metadata.broker.list=a:1", "client.id=me", "linger.ms=5"},
		{"security.protocol=SASL_PLAINTEXT", "sasl.mechanisms=SCRAM-SHA-256", "sasl.username=u", "sasl.password=p"},
		{"security.protocol=ssl", "enable.ssl.certificate.verification=false"},
		{"fetch.min.bytes=1", "fetch.wait.max.ms=100"},
	} {
		if _, err := parseProperties(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"client.id", "no.such.key=1", "linger.ms=soon", "fetch.min.bytes=-1", "security.protocol=NONE", "sasl.username=u", "ssl.ca.location=/does/not/exist"} {
		pairs := []string{bad}
		if strings.HasPrefix(bad, "ssl.") {
			pairs = append(pairs, "security.protocol=SSL")
		}
		if _, err := parseProperties(pairs); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	candidates := []string{"retention.ms", "retention.bytes", "segment.ms"}
	for word, want := range map[string]string{"retention.mss": "retention.ms", "segmentms": "segment.ms", "cleanup.policy": ""} {
		if got := nearest(word, candidates); got != want {
			t.Errorf("%q is near %q, want %q", word, got, want)
		}
	}
}
