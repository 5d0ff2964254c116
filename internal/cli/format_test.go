package cli

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestTemplates(t *testing.T) {
	t.Parallel()
	record := &kgo.Record{
		Topic: "t", Partition: 3, Offset: 42, Timestamp: time.UnixMilli(1_700_000_000_123), Key: []byte("key"), Value: []byte("värde"),
		Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b", Value: nil}},
	}
	for template, want := range map[string]string{
		`%v\n`:                  "värde\n",
		`%s`:                    "värde",
		`%k=%v`:                 "key=värde",
		`%K %V %S`:              "3 6 6",
		`%t/%p/%o`:              "t/3/42",
		`%T|%d`:                 "1700000000123|1700000000123",
		`%h;`:                   "a=1,b=;",
		`%h{%k:%v }`:            "a:1 b: ",
		`%d{go[2006-01-02]}`:    "2023-11-14",
		`%v{hex}%%%T`:           "76c3a47264651700000000123"[:12] + "%1700000000123",
		`%k{base64}`:            "a2V5",
		`\x41\t%o%%`:            "A\t42%",
		`%{%v%}`:                "{värde}",
		`100%% of %t`:           "100% of t",
		`no letters but %% and`: "no letters but % and",
	} {
		f, err := Print{Format: template}.formatter()
		if err != nil {
			t.Errorf("%q: %v", template, err)
			continue
		}
		if got := string(f(nil, record)); got != want {
			t.Errorf("%q writes %q, want %q", template, got, want)
		}
	}
	for _, template := range []string{"jsn", "%", "%q", "%v{", `%d{go}`, `\q%v`} {
		if _, err := (Print{Format: template}).formatter(); err == nil {
			t.Errorf("%q is taken for a format", template)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"%v\n", "%h{%k}", "%d{go##2006##}", "%{%}", "%", "%T{", `%k{unpack{>bB}}`} {
		f.Add(seed)
	}
	record := &kgo.Record{Key: []byte("k"), Headers: []kgo.RecordHeader{{Key: "h"}}}
	f.Fuzz(func(t *testing.T, template string) {
		if format, err := (Print{Format: template}).formatter(); err == nil {
			format(nil, record)
		}
	})
}

func FuzzJSONCanBeReadBack(f *testing.F) {
	f.Add("topic", []byte("key"), []byte("value\x00\"\\\n\u2028<&>"))
	f.Add("t", []byte(nil), []byte{0xff, 0xfe})
	f.Fuzz(func(t *testing.T, topic string, key, value []byte) {
		if !utf8.ValidString(topic) {
			return // Kafka has no such topics
		}
		line := Print{}.json(nil, &kgo.Record{Topic: topic, Key: key, Value: value, Offset: 7, Headers: []kgo.RecordHeader{{Key: topic, Value: value}}})
		var got struct {
			Topic       string
			Offset      int64
			Key, Value  *string
			KeyBase64   []byte `json:"key_base64"`
			ValueBase64 []byte `json:"value_base64"`
			Headers     []struct {
				Key         string
				Value       *string
				ValueBase64 []byte `json:"value_base64"`
			}
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		check := func(name string, text *string, encoded, want []byte) {
			switch {
			case want == nil && text == nil && encoded == nil:
			case text != nil && *text == string(want) && utf8.Valid(want):
			case text == nil && reflect.DeepEqual(encoded, want) && !utf8.Valid(want):
			default:
				t.Errorf("%s %q came back as %v, %q in %s", name, want, text, encoded, line)
			}
		}
		check("key", got.Key, got.KeyBase64, key)
		check("value", got.Value, got.ValueBase64, value)
		check("header", got.Headers[0].Value, got.Headers[0].ValueBase64, value)
		if got.Topic != topic || got.Offset != 7 {
			t.Errorf("%s does not say topic %q, offset 7", line, topic)
		}
	})
}

func TestUnescape(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{`\t`: "\t", `a\\b`: `a\b`, `\x1f`: "\x1f", `\0`: "\x00", "::": "::"} {
		if got, err := Unescape(s); err != nil || got != want {
			t.Errorf("%q is %q, %v", s, got, err)
		}
	}
	for _, s := range []string{`\`, `\x1`, `\xzz`, `\q`} {
		if got, err := Unescape(s); err == nil {
			t.Errorf("%q is taken for %q", s, got)
		}
	}
}
