package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

func config() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Aliases: []string{"configs"},
		Short:   "Show, explain and change settings of topics, brokers and groups",
		Example: "  ottla config describe topic logs\n  ottla config explain retention.ms",
	}
	c := client(cmd)
	cmd.AddCommand(configDescribe(c), configGet(c), configSet(c), configExplain(c))
	return cmd
}

// resource reads "KIND [NAME]"; the brokers' common default has no name.
func resource(args []string) cli.Resource {
	r := cli.Resource{Kind: args[0]}
	if len(args) > 1 {
		r.Name = args[1]
	}
	return r
}

// completeResource completes KIND and NAME, which begin at the argument skip.
func completeResource(c *cli.Connection, skip int) completion {
	topics, groups := completeTopics(c, 0), completeGroups(c, 0)
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == skip:
			return cli.ResourceKinds, cobra.ShellCompDirectiveNoFileComp
		case len(args) == skip+1 && args[skip] == "topic":
			return topics(cmd, nil, word)
		case len(args) == skip+1 && args[skip] == "group":
			return groups(cmd, nil, word)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

func configDescribe(c *cli.Connection) *cobra.Command {
	var all bool
	var format string
	cmd := &cobra.Command{
		Use:   "describe KIND [NAME]",
		Short: "Show the settings of a topic, broker or group that differ from the defaults",
		Example: `  ottla config describe topic logs
  ottla config describe broker 1 --all
  ottla config describe topic logs --format json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error {
				return client.DescribeConfigs(ctx, resource(args), all, format)
			})
		},
		ValidArgsFunction: completeResource(c, 0),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "show every setting")
	formatFlag(cmd, &format)
	return cmd
}

func configGet(c *cli.Connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "get KIND NAME KEY",
		Short:   "Write the value of one setting",
		Example: "  ottla config get topic logs retention.ms\n  ottla config get broker 1 ottla.ack.when",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error {
				return client.GetConfig(ctx, resource(args), args[2], format)
			})
		},
		ValidArgsFunction: completeResource(c, 0),
	}
	formatFlag(cmd, &format)
	return cmd
}

func configSet(c *cli.Connection) *cobra.Command {
	var remove []string
	cmd := &cobra.Command{
		Use:   "set KIND [NAME] KEY=VALUE...",
		Short: "Change settings while everything runs",
		Long: `Change settings while everything runs.

KIND is topic, broker or group. A broker without a NAME is the default of all brokers.`,
		Example: `  ottla config set topic logs retention.ms=86400000
  ottla config set topic logs --delete retention.ms
  ottla config set broker log.retention.ms=86400000`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, set := cli.Resource{Kind: args[0]}, args[1:]
			if len(set) > 0 && !strings.Contains(set[0], "=") {
				r.Name, set = set[0], set[1:]
			}
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.SetConfigs(ctx, r, set, remove) })
		},
		ValidArgsFunction: completeResource(c, 0),
	}
	cmd.Flags().StringArrayVarP(&remove, "delete", "d", nil, "setting to go back to its default; may be repeated")
	return cmd
}

func configExplain(c *cli.Connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "explain KEY [KIND NAME]",
		Short:   "Tell what a setting does, its value, and where the value comes from",
		Example: "  ottla config explain retention.ms\n  ottla config explain retention.ms topic logs",
		Args:    cobra.RangeArgs(1, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var r *cli.Resource
			if len(args) > 1 {
				named := resource(args[1:])
				r = &named
			}
			return with(cmd, c, func(ctx context.Context, client *cli.Client) error {
				return client.ExplainConfig(ctx, r, args[0], format)
			})
		},
		ValidArgsFunction: completeResource(c, 1),
	}
	formatFlag(cmd, &format)
	return cmd
}
