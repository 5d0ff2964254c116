// Command ottla is the broker and its command line in one binary. `ottla serve` runs a broker; every other verb is a client that speaks
// the Kafka protocol, to Ottla or to any other Kafka.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

func main() {
	if err := root().ExecuteContext(context.Background()); err != nil {
		report(os.Stderr, err)
		os.Exit(exitStatus(err))
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "ottla",
		Short:         "An event streaming platform that speaks the Kafka protocol",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.AddCommand(serve(), topic(), produce(), consume(), group(), txn(), config(), doctor(), scrubFolder(), version())
	addCompletion(cmd)
	return cmd
}

// withStatus is an error that ends the process with a status of its own.
type withStatus struct {
	error
	status int
}

func (w withStatus) Unwrap() error { return w.error }

// statusInterrupted is what shells give a command that SIGINT has ended.
const statusInterrupted = 130

// report says what went wrong and what can be done about it.
func report(w io.Writer, err error) {
	fmt.Fprintln(w, "ottla:", err)
	if next := cli.Next(err); next != "" {
		fmt.Fprintln(w, "  next:", next)
	}
}

func exitStatus(err error) int {
	var w withStatus
	if errors.Is(err, cli.ErrInterrupted) {
		return statusInterrupted
	}
	if errors.As(err, &w) {
		return w.status
	}
	return 1
}
