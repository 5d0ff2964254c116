package config

import (
	"os"
	"strings"
	"testing"
)

// TestParseAnswersAsKafka compares every verdict on a value with one of the reference.
func TestParseAnswersAsKafka(t *testing.T) {
	compareVerdicts(t, "testdata/parse.tsv")
}

func compareVerdicts(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lookup := map[string]func(string) *Def{"broker": BrokerDef, "topic": TopicDef, "group": GroupDef, "client-metrics": ClientMetricsDef}
	n := 0
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			continue
		}
		d := lookup[f[0]](f[1])
		if d == nil {
			t.Errorf("%s setting %s is not in the table", f[0], f[1])
			continue
		}
		if d.Type == Class { // Kafka loads the class
			continue
		}
		got := ""
		if v, err := d.parse(f[2]); err != nil {
			got = err.Error()
		} else if got = "ok " + format(v); d.Sensitive {
			got = "ok [hidden]"
		}
		if n++; got != f[3] {
			t.Errorf("%s %s=%q:\n got %s\nwant %s", f[0], f[1], f[2], got, f[3])
		}
	}
	if n < 1000 {
		t.Errorf("only %d values were compared", n)
	}
}
