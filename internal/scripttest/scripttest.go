// Package scripttest runs the scripts of a package's tests: commands, each followed by the output that is expected of it, which is indented
// by two blanks. Blank lines and those that begin with # are comments.
package scripttest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output of the scripts in testdata")

// Files runs each testdata/*.script in a test of its own, which fails unless run gives the script as it is. With -update the file becomes what
// run gives. See Play.
func Files(t *testing.T, run func(t *testing.T, script string) string) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".script"), func(t *testing.T) {
			t.Parallel()
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, string(in))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(in) {
				t.Errorf("%s: output differs; run with -update and look at the difference\n%s", file, firstDifference(string(in), got))
			}
		})
	}
}

// Play gives each command of a script to do and returns the script with the lines that do returns below each command, in place of those that
// were there.
func Play(script string, do func(command string) []string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "  ") {
			continue // expected output
		}
		out.WriteString(line)
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for _, l := range do(line) {
			out.WriteString("  " + l + "\n")
		}
	}
	return out.String()
}

// Do gives the command that begins a line to the one of that name, with the other words of the line, and returns its answer. The test ends if
// there is none.
func Do[R any](t testing.TB, r R, commands map[string]func(R, []string) string, line string) string {
	t.Helper()
	fields := strings.Fields(line)
	command := commands[fields[0]]
	if command == nil {
		t.Fatalf("no such command: %s", line)
	}
	return command(r, fields[1:])
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\n want: %s\n  got: %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}
