package cli

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzLines holds lines to what bytes.Split says, however the input comes in.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nlast"), true)
	f.Add([]byte("\n"), false)
	f.Add([]byte(strings.Repeat("x", 3*readSize)+"\ny"), false)
	f.Fuzz(func(t *testing.T, input []byte, slowly bool) {
		var in io.Reader = bytes.NewReader(input)
		if slowly {
			in = iotest.HalfReader(in)
		}
		l := &lines{in: in, limit: 1 << 30}
		var got []string
		var buf []byte
		for {
			var err error
			buf, err = l.next(buf, func(line []byte) error { got = append(got, string(line)); return nil })
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		want := strings.Split(string(input), "\n")
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") || len(got) != len(want) {
			t.Errorf("%q is cut into %q", input, got)
		}
		if l.line != int64(len(want)) {
			t.Errorf("%d lines are counted as %d", len(want), l.line)
		}
	})
}

func TestLinesKeepWhatTheyGaveUntilTheNextRead(t *testing.T) {
	t.Parallel()
	l := &lines{in: strings.NewReader("one\ntwo\nthree"), limit: 100}
	var first [][]byte
	buf, err := l.next(nil, func(line []byte) error { first = append(first, line); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.next(nil, func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := string(bytes.Join(first, []byte(","))); got != "one,two" {
		t.Errorf("the lines are %q, in %q", got, buf)
	}
}

func BenchmarkLines(b *testing.B) {
	input := bytes.Repeat([]byte("line 00000000000000000000000000000000001\n"), 100_000)
	b.SetBytes(int64(len(input)))
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		l := &lines{in: bytes.NewReader(input), limit: 1 << 20}
		for {
			var err error
			if buf, err = l.next(buf, func([]byte) error { return nil }); err != nil {
				break
			}
		}
	}
}
