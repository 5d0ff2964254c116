package main

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

func doctor() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong between here and a cluster",
		Long: `Find out what is wrong between here and a cluster: what listens at the address, which addresses the brokers send clients to and whether
they can be reached from here, who the controller is, partitions without a leader, how durable an acknowledged record is, how full the
disks are. Nothing is changed.

The exit status is 1 if there is a problem; each comes with what to do next. A warning is no problem.`,
		Example: "  ottla doctor\n  ottla doctor --bootstrap-server broker.example.com:9092 --format json",
		Args:    cobra.NoArgs,
	}
	c := client(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return cli.Doctor(ctx, *c, streams(cmd), format)
	}
	formatFlag(cmd, &format)
	return cmd
}
