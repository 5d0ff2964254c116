package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

func produce() *cobra.Command {
	var o cli.Produce
	cmd := &cobra.Command{
		Use:   "produce TOPIC [FILE...]",
		Short: "Send the lines of files, or of standard input, as records",
		Long: `Send the lines of files, or of standard input, as records.

The value of a record is its line without the final \n, byte for byte: a \r stays, an empty line is an empty value, and the last line
counts without a \n. Lines keep their order within a partition. Records without a key go to the partitions in turns of 64 KiB, so that
only a topic with one partition, or --partition, keeps the order of the whole input.

The exit status is 0 if every record was acknowledged. If not, the error names the first line that was not.`,
		Example: `  ottla produce logs < /var/log/syslog
  ottla produce logs a.log b.log --compression zstd
  tail -F app.log | ottla produce logs
  echo 'user-1:{"name":"Ada"}' | ottla produce users --key-separator :`,
		Args: cobra.MinimumNArgs(1),
	}
	c := client(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Topic, o.Files = args[0], args[1:]
		var err error
		if o.KeySeparator, err = cli.Unescape(o.KeySeparator); err != nil {
			return err
		}
		return with(cmd, c, func(ctx context.Context, client *cli.Client) error { return client.Produce(ctx, o) })
	}
	topics := completeTopics(c, 1)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault // files
		}
		return topics(cmd, args, word)
	}
	f := cmd.Flags()
	f.StringVarP(&o.KeySeparator, "key-separator", "K", "", `what comes before the first SEP of a line is the key; \t and \xNN are understood`)
	f.StringArrayVarP(&o.Headers, "header", "H", nil, "header of every record as key=value; may be repeated")
	f.Int32VarP(&o.Partition, "partition", "p", -1, "partition; -1 chooses by the key, or in turns without one")
	f.StringVar(&o.Acks, "acks", "", `all, 1 or 0: who must have a record before it counts as sent (default "all")`)
	f.StringVarP(&o.Compression, "compression", "z", "", `none, gzip, snappy, lz4 or zstd (default "none")`)
	f.StringVar(&o.NullValue, "null-value", "", "text of a value that stands for null (a tombstone)")
	f.StringVar(&o.NullKey, "null-key", "", "text of a key that stands for null")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "no progress and no summary")
	_ = cmd.RegisterFlagCompletionFunc("acks", cobra.FixedCompletions([]string{"all", "1", "0"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("compression", cobra.FixedCompletions([]string{"none", "gzip", "snappy", "lz4", "zstd"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
