package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

func consume() *cobra.Command {
	var o cli.Consume
	cmd := &cobra.Command{
		Use:   "consume TOPIC...",
		Short: "Write the records of topics to standard output",
		Long: `Write the records of topics to standard output.

It stops at the end of every partition as that was when it began; --follow goes on. Records of one partition come in order.

--offset says where to begin: earliest (the default), latest, an offset, -N for the last N records of each partition, or @TIME:
@2026-01-31, @2026-01-31T09:30:00Z, Unix milliseconds, or an age such as @-10m or @-7d. --until takes the same, and stops there.

With --group it reads as a member of that group, begins where the group has committed (--offset counts where it has not), and commits
what it has written, no more and no less.

--format text writes the value and a \n, json one object a line (key_base64 and value_base64 where bytes are not UTF-8). Anything with a %
in it is a template:
  %k %v  key, value (%s is the value too)       %t %p %o  topic, partition, offset
  %K %V  their lengths (%S is the value's too)  %T %d     timestamp, Unix milliseconds
  %h     headers as k=v,k=v                     %%        a percent sign; \n \t \xNN as usual
Braces say more: %d{go[2006-01-02 15:04:05]}, %v{base64}, %v{hex}, %h{%k=%v;}.`,
		Example: `  ottla consume logs
  ottla consume logs --follow --offset latest
  ottla consume logs --offset @-10m --format json | jq .value
  ottla consume orders --group billing --count 10 --format '%p:%o %k=%v\n'`,
		Args: cobra.MinimumNArgs(1),
	}
	c := client(cmd)
	cmd.ValidArgsFunction = completeTopics(c, 0)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Topics = args
		var err error
		if o.Print.KeySeparator, err = cli.Unescape(o.Print.KeySeparator); err != nil {
			return err
		}
		return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.Consume(ctx, o) })
	}
	f := cmd.Flags()
	f.StringVarP(&o.Group, "group", "g", "", "read as a member of this group and commit")
	f.StringVarP(&o.Offset, "offset", "o", "earliest", "where to begin: earliest, latest, N, -N, @TIME")
	f.StringVar(&o.Until, "until", "", "where to stop: the same; default is the end as it is now")
	f.Int32SliceVarP(&o.Partitions, "partition", "p", nil, "partition to read; may be repeated; default is all")
	f.Int64VarP(&o.Count, "count", "n", 0, "stop after so many records; 0 is no limit")
	f.BoolVar(&o.Follow, "follow", false, "go on at the end and wait for more")
	f.StringVarP(&o.Print.Format, "format", "f", cli.FormatText, "text, json, or a template")
	f.StringVarP(&o.Print.KeySeparator, "key-separator", "K", "", "text: write the key and SEP in front of the value")
	f.StringVar(&o.Print.Null, "null-value", "", "text: what to write for a null key or value")
	f.BoolVar(&o.Print.Base64, "base64", false, "write keys and values in base64")
	f.StringVar(&o.Isolation, "isolation", "", `read_committed or read_uncommitted (default "read_committed")`)
	_ = cmd.RegisterFlagCompletionFunc("group", completeGroups(c, 0))
	_ = cmd.RegisterFlagCompletionFunc("offset", cobra.FixedCompletions([]string{"earliest", "latest", "@-10m"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(cli.Formats, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("isolation", cobra.FixedCompletions([]string{"read_committed", "read_uncommitted"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
