package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

func txn() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "txn",
		Aliases: []string{"transaction", "transactions"},
		Short:   "List, describe and abort transactions",
		Example: "  ottla txn list --state Ongoing\n  ottla txn describe payments-1",
	}
	c := client(cmd)
	cmd.AddCommand(txnList(c), txnDescribe(c), txnAbort(c))
	return cmd
}

func txnList(c *cli.Connection) *cobra.Command {
	var format string
	var states []string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List transactional ids with their state",
		Example: "  ottla txn list\n  ottla txn list --state Ongoing --format json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.ListTxns(ctx, states, format) })
		},
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only ids in this state: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort; may be repeated")
	formatFlag(cmd, &format)
	return cmd
}

func txnDescribe(c *cli.Connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "describe [ID...]",
		Aliases: []string{"show"},
		Short:   "Show the producer and the open transaction of transactional ids",
		Long: `Show the producer and the open transaction of transactional ids.

OPEN-FOR tells how long a transaction has been open. Consumers of committed records wait for it; the broker aborts it after its TIMEOUT.`,
		Example: "  ottla txn describe payments-1\n  ottla txn describe --format json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.DescribeTxns(ctx, args, format) })
		},
		ValidArgsFunction: complete(c, 0, (*cli.Client).TxnNames),
	}
	formatFlag(cmd, &format)
	return cmd
}

func txnAbort(c *cli.Connection) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "abort ID...",
		Short: "Abort open transactions and fence their producers",
		Long: `Abort open transactions and fence their producers.

It does what a new producer with the same transactional id does: the transaction that is open is aborted, and the producer that had the id
before gets an error for whatever it does next.`,
		Example: "  ottla txn abort payments-1",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.AbortTxns(ctx, args, yes) })
		},
		ValidArgsFunction: complete(c, 0, (*cli.Client).TxnNames),
	}
	yesFlag(cmd, &yes, "abort without asking")
	return cmd
}
