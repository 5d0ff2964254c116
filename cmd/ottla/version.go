package main

import (
	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

func version() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Tell which build this is",
		Example: "  ottla version\n  ottla version --format json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cli.Version(streams(cmd), format) },
	}
	formatFlag(cmd, &format)
	return cmd
}
