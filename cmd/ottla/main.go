// Command ottla is the broker and its command line in one binary. `ottla serve` runs a broker; every other verb is a client that speaks
// the Kafka protocol, to Ottla or to any other Kafka.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	if err := root().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "ottla:", err)
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
	cmd.AddCommand(serve())
	return cmd
}

// withStatus is an error that ends the process with a status of its own.
type withStatus struct {
	error
	status int
}

func (w withStatus) Unwrap() error { return w.error }

func exitStatus(err error) int {
	var w withStatus
	if errors.As(err, &w) {
		return w.status
	}
	return 1
}
