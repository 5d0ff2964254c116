package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ottlaio/ottla"
	"github.com/ottlaio/ottla/internal/cli"
)

//go:generate go test . -run TestCommandLineDocs -update

var update = flag.Bool("update", false, "write docs/cli.md instead of comparing with it")

// commands returns every command that a user can type, in order.
func commands() []*cobra.Command {
	var all []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if !sub.IsAvailableCommand() || sub.Name() == "help" {
				continue
			}
			all = append(all, sub)
			walk(sub)
		}
	}
	walk(root())
	return all
}

// The house rules of the command line.
func TestEveryCommandIsExplained(t *testing.T) {
	t.Parallel()
	listings := []string{"list", "describe", "get", "explain", "doctor", "consume", "version", "reset"}
	for _, cmd := range commands() {
		path := cmd.CommandPath()
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s has no description or no example", path)
		}
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short description is no sentence and has no full stop", path)
		}
		if !strings.Contains(cmd.Example, path) {
			t.Errorf("%s: the example does not show it:\n%s", path, cmd.Example)
		}
		if slices.Contains(listings, cmd.Name()) && cmd.Flags().Lookup("format") == nil {
			t.Errorf("%s lists something and has no --format", path)
		}
		if cmd.Name() == "delete" && cmd.Flags().Lookup("yes") == nil {
			t.Errorf("%s destroys something and has no --yes", path)
		}
		talks := !slices.Contains([]string{"serve", "scrub", "version"}, cmd.Name()) && !strings.HasPrefix(path, "ottla completion")
		if talks && cmd.Flag("bootstrap-server") == nil && cmd.InheritedFlags().Lookup("bootstrap-server") == nil {
			t.Errorf("%s does not understand --bootstrap-server", path)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s is not explained", path, f.Name)
			}
		})
	}
}

// TestCommandLineDocs holds docs/cli.md to what --help says.
func TestCommandLineDocs(t *testing.T) {
	t.Parallel()
	var doc bytes.Buffer
	doc.WriteString("# The command line\n\nThis page is made from `ottla --help` by `go generate ./cmd/ottla`; change the commands, not the page.\n\n" +
		"`ottla serve` runs a broker. The other verbs are clients that speak the Kafka protocol, to Ottla or to any other Kafka. The cluster\n" +
		"is named with `--bootstrap-server` (`-b`), or in the environment with `OTTLA_BOOTSTRAP_SERVER` or `KAFKA_BOOTSTRAP_SERVERS`; without any, it is\n" +
		"`" + cli.DefaultServer + "`. `-X key=value` takes the settings of librdkafka and the Java clients that have a meaning here:\n" +
		strings.Join(quoted(cli.PropertyNames()), ", ") + ".\n\n" +
		"Results go to standard output, everything else to standard error. The exit status is 0 if all that was asked for was done, 130 after an\n" +
		"interrupt, and 1 for everything else unless the command says more.\n")
	for _, cmd := range commands() {
		if strings.HasPrefix(cmd.CommandPath(), "ottla completion ") {
			continue // the shell's own instructions, in cobra's words
		}
		fmt.Fprintf(&doc, "\n%s %s\n\n", strings.Repeat("#", 1+strings.Count(cmd.CommandPath(), " ")), cmd.CommandPath())
		text := cmd.Long
		if text == "" {
			text = cmd.Short + "."
		}
		fmt.Fprintf(&doc, "%s\n\n    %s\n\n", indentLists(text), cmd.UseLine())
		fmt.Fprintf(&doc, "Examples:\n\n%s\n", indent(cmd.Example, "  "))
		if flags := cmd.LocalFlags().FlagUsages(); flags != "" {
			fmt.Fprintf(&doc, "\nFlags:\n\n%s", indent(strings.TrimRight(flags, "\n"), "  ")+"\n")
		}
	}
	const file = "../../docs/cli.md"
	if *update {
		if err := os.WriteFile(file, doc.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, doc.Bytes()) {
		t.Error("docs/cli.md is out of date: run go generate ./cmd/ottla")
	}
}

func quoted(words []string) []string {
	for i := range words {
		words[i] = "`" + words[i] + "`"
	}
	return words
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			b.WriteString("\n")
			continue
		}
		b.WriteString(by + line)
	}
	return b.String()
}

// indentLists makes code of the tables of a long description, which are indented by two.
func indentLists(text string) string {
	var b strings.Builder
	inTable := false
	for line := range strings.Lines(text) {
		table := strings.HasPrefix(line, "  ")
		if table != inTable && strings.TrimSpace(line) != "" {
			b.WriteString("\n")
		}
		inTable = table
		if table {
			line = "  " + line
		}
		b.WriteString(line)
	}
	return strings.ReplaceAll(b.String(), "\n\n\n", "\n\n")
}

// run executes a command line as the shell would and returns the exit status.
func run(ctx context.Context, input string, args ...string) (stdout, stderr string, status int) {
	var out, errOut bytes.Buffer
	cmd := root()
	cmd.SetIn(strings.NewReader(input))
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetArgs(args)
	if err := cmd.ExecuteContext(ctx); err != nil {
		report(&errOut, err)
		status = exitStatus(err)
	}
	return out.String(), errOut.String(), status
}

// TestTheWholeWay types what the README shows.
func TestTheWholeWay(t *testing.T) {
	t.Parallel()
	broker, err := ottla.Start(t.Context(), ottla.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close(context.WithoutCancel(t.Context()))
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte("two\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		input  string
		args   string
		stdout string // in it
		stderr string // in it
		status int
	}{
		{"", "topic create logs --partitions 1", "created logs: 1 partition", "", 0},
		{"", "topic create logs", "", "next: add --if-not-exists", 1},
		{"one", "produce logs", "", "1 record, 3 B to logs", 0},
		{"", "produce logs " + file, "", "2 records", 0},
		{"", "produce nothing " + file, "", "ottla topic create nothing", 1},
		{"", "produce logs /does/not/exist", "", "no such file", 1},
		{"", "consume logs", "one\ntwo\nthree\n", "", 0},
		{"", "consume logs --group readers --count 2", "one\ntwo\n", "", 0},
		{"", "consume logs --offset sometimes", "", "it is one of earliest, latest", 1},
		{"", "group describe readers", "readers", "", 0},
		{"", "group reset readers --to-earliest", "NEW-OFFSET", "add --execute", 0},
		{"", "group reset readers --to-earliest --execute", "NEW-OFFSET", "", 0},
		{"", "consume logs --group readers --format %v,", "one,two,three,", "", 0},
		{"", "config set topic logs retention.ms=1000", "retention.ms=1000", "", 0},
		{"", "config get topic logs retention.ms", "1000", "", 0},
		{"", "txn list", "", "no transactional ids", 0},
		{"", "doctor", "on stable storage", "", 0},
		{"", "topic delete logs", "", "--yes", 1},
		{"", "topic delete logs --yes", "deleted logs", "", 0},
		{"", "topic list --format json", "[]", "", 0},
		{"", "topic list --format xml", "", "text, json", 1},
		{"", "topic list -X foo=bar", "", "-X does not know foo", 1},
	}
	for _, step := range steps {
		args := append(strings.Fields(step.args), "--bootstrap-server", broker.Addr())
		stdout, stderr, status := run(t.Context(), step.input, args...)
		if status != step.status || !strings.Contains(stdout, step.stdout) || !strings.Contains(stderr, step.stderr) {
			t.Errorf("ottla %s: status %d, not %d\nstdout %q, expected %q\nstderr %q, expected %q", step.args, status, step.status, stdout, step.stdout, stderr, step.stderr)
		}
	}
}

// TestCompletionAsksTheBroker completes names as a shell does, by the hidden command __complete.
func TestCompletionAsksTheBroker(t *testing.T) {
	t.Parallel()
	broker, err := ottla.Start(t.Context(), ottla.Config{Data: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close(context.WithoutCancel(t.Context()))
	if _, stderr, status := run(t.Context(), "", "topic", "create", "completed", "-b", broker.Addr()); status != 0 {
		t.Fatal(stderr)
	}
	for _, line := range []string{"topic describe", "topic alter", "topic delete", "produce", "consume", "config get topic"} {
		args := append([]string{"__complete"}, strings.Fields(line)...)
		stdout, stderr, _ := run(t.Context(), "", append(args, "--bootstrap-server", broker.Addr(), "")...)
		if !strings.HasPrefix(stdout, "completed\n") {
			t.Errorf("ottla %s <TAB> offers %q (%s)", line, stdout, stderr)
		}
	}
	began := time.Now()
	run(t.Context(), "", "__complete", "topic", "describe", "--bootstrap-server", "127.0.0.1:1", "")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("without a broker a <TAB> takes %v", took)
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]int{
		errors.New("any"):  1,
		cli.ErrInterrupted: 130,
		withStatus{errors.New("disk"), statusStorageFailed}: 3,
		fmt.Errorf("wrapped: %w", cli.ErrInterrupted):       130,
	} {
		if got := exitStatus(err); got != want {
			t.Errorf("%v ends with %d, not %d", err, got, want)
		}
	}
}
