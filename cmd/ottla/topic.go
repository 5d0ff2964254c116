package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

func topic() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "topic",
		Aliases: []string{"topics"},
		Short:   "Create, list, describe, alter and delete topics",
		Example: "  ottla topic create logs --partitions 3\n  ottla topic list",
	}
	c := client(cmd)
	cmd.AddCommand(topicCreate(c), topicList(c), topicDescribe(c), topicAlter(c), topicDelete(c))
	return cmd
}

func topicCreate(c *cli.Connection) *cobra.Command {
	var o cli.CreateTopics
	cmd := &cobra.Command{
		Use:     "create NAME...",
		Short:   "Create topics",
		Example: "  ottla topic create logs\n  ottla topic create orders --partitions 12 --config retention.ms=604800000 --if-not-exists",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.CreateTopics(ctx, o, args) })
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.Int32VarP(&o.Partitions, "partitions", "p", -1, "number of partitions; -1 is the broker's num.partitions")
	f.Int16VarP(&o.ReplicationFactor, "replication-factor", "r", -1, "copies of every partition; -1 is the broker's default")
	f.StringArrayVarP(&o.Configs, "config", "c", nil, "setting as key=value; may be repeated")
	f.BoolVar(&o.IfNotExists, "if-not-exists", false, "do not mind topics that exist already")
	return cmd
}

func topicList(c *cli.Connection) *cobra.Command {
	var internal bool
	var format string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List topics with their partitions, records and size",
		Example: "  ottla topic list\n  ottla topic list --format json | jq -r '.[].name'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.ListTopics(ctx, internal, format) })
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "list the topics that brokers keep for themselves too")
	formatFlag(cmd, &format)
	return cmd
}

func topicDescribe(c *cli.Connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "describe [NAME...]",
		Aliases: []string{"show"},
		Short:   "Show partitions, leaders, replicas, offsets and settings of topics",
		Example: "  ottla topic describe logs\n  ottla topic describe --format json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.DescribeTopics(ctx, args, format) })
		},
		ValidArgsFunction: completeTopics(c, 0),
	}
	formatFlag(cmd, &format)
	return cmd
}

func topicAlter(c *cli.Connection) *cobra.Command {
	var o cli.AlterTopic
	cmd := &cobra.Command{
		Use:     "alter NAME",
		Short:   "Add partitions to a topic or change its settings",
		Example: "  ottla topic alter logs --partitions 6\n  ottla topic alter logs --config retention.bytes=1073741824 --delete-config retention.ms",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.AlterTopic(ctx, o, args[0]) })
		},
		ValidArgsFunction: completeTopics(c, 1),
	}
	f := cmd.Flags()
	f.Int32VarP(&o.Partitions, "partitions", "p", 0, "the new number of partitions, more than there are; keys move to other partitions")
	f.StringArrayVarP(&o.Configs, "config", "c", nil, "setting as key=value; may be repeated")
	f.StringArrayVar(&o.DeleteConfigs, "delete-config", nil, "setting to go back to its default; may be repeated")
	return cmd
}

func topicDelete(c *cli.Connection) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete NAME...",
		Aliases: []string{"rm"},
		Short:   "Delete topics with all their records",
		Example: "  ottla topic delete logs\n  ottla topic delete logs orders --yes",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.DeleteTopics(ctx, args, yes) })
		},
		ValidArgsFunction: completeTopics(c, 0),
	}
	yesFlag(cmd, &yes, "delete without asking")
	return cmd
}
