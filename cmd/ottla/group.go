package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

func group() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "group",
		Aliases: []string{"groups"},
		Short:   "List, describe, reset and delete consumer groups",
		Example: "  ottla group list\n  ottla group describe billing",
	}
	c := client(cmd)
	cmd.AddCommand(groupList(c), groupDescribe(c), groupReset(c), groupDelete(c))
	return cmd
}

func groupList(c *cli.Connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List groups with their type, state, members and lag",
		Example: "  ottla group list\n  ottla group list --format json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.ListGroups(ctx, format) })
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

func groupDescribe(c *cli.Connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "describe [GROUP...]",
		Aliases: []string{"show"},
		Short:   "Show offsets, lag and members of groups",
		Long: `Show offsets, lag and members of groups.

LAG counts records. TIME-LAG is the age of the oldest record that the group has not consumed, by the record's own timestamp: how far behind
the group is for those who wait for it. Of a group of the consumer protocol it shows its epochs, and what each member
has and is to have.`,
		Example: "  ottla group describe billing\n  ottla group describe billing --format json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.DescribeGroups(ctx, args, format) })
		},
		ValidArgsFunction: completeGroups(c, 0),
	}
	formatFlag(cmd, &format)
	return cmd
}

func groupReset(c *cli.Connection) *cobra.Command {
	var o cli.ResetGroup
	var earliest, latest, yes bool
	var shift, offset int64
	var at, format string
	cmd := &cobra.Command{
		Use:   "reset GROUP",
		Short: "Move the committed offsets of a group",
		Long: `Move the committed offsets of a group.

It shows the plan and changes nothing until --execute is given. The group must have no members then. Without --topic, every partition is
moved that the group has committed.`,
		Example: `  ottla group reset billing --to-earliest
  ottla group reset billing --topic orders --to-time 2026-01-31T09:30:00Z --execute
  ottla group reset billing --topic orders:0,2 --shift-by -100 --execute`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch flags := cmd.Flags(); {
			case earliest:
				o.To = "earliest"
			case latest:
				o.To = "latest"
			case flags.Changed("to-offset"):
				o.To = strconv.FormatInt(max(0, offset), 10)
			case flags.Changed("to-time"):
				o.To = "@" + at
			case flags.Changed("shift-by"):
				o.ShiftBy = &shift
			}
			o.Execute = o.Execute || yes
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.ResetGroup(ctx, args[0], o, format) })
		},
		ValidArgsFunction: completeGroups(c, 1),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.Topics, "topic", "t", nil, "topic to move, or TOPIC:0,2 for some partitions; may be repeated")
	f.BoolVar(&earliest, "to-earliest", false, "to the first record there is")
	f.BoolVar(&latest, "to-latest", false, "to the end")
	f.Int64Var(&offset, "to-offset", 0, "to an offset")
	f.StringVar(&at, "to-time", "", "to the first record at or after a time: 2026-01-31, 2026-01-31T09:30:00Z, Unix milliseconds, -10m")
	f.Int64Var(&shift, "shift-by", 0, "by so many records, back if negative")
	f.BoolVar(&o.Execute, "execute", false, "do it")
	yesFlag(cmd, &yes, "the same as --execute")
	formatFlag(cmd, &format)
	cmd.MarkFlagsOneRequired("to-earliest", "to-latest", "to-offset", "to-time", "shift-by")
	cmd.MarkFlagsMutuallyExclusive("to-earliest", "to-latest", "to-offset", "to-time", "shift-by")
	_ = cmd.RegisterFlagCompletionFunc("topic", completeTopics(c, 0))
	return cmd
}

func groupDelete(c *cli.Connection) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete GROUP...",
		Aliases: []string{"rm"},
		Short:   "Delete groups with their committed offsets",
		Example: "  ottla group delete billing\n  ottla group delete billing reports --yes",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.DeleteGroups(ctx, args, yes) })
		},
		ValidArgsFunction: completeGroups(c, 0),
	}
	yesFlag(cmd, &yes, "delete without asking")
	return cmd
}
