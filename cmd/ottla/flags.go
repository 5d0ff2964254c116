package main

import (
	"context"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ottlaio/ottla/internal/cli"
)

// completionTimeout bounds the question to the broker while a shell completes a word.
const completionTimeout = time.Second

// client gives a verb, and the verbs below it, the flags that say which cluster to talk to.
func client(cmd *cobra.Command) *cli.Connection {
	c := &cli.Connection{}
	f := cmd.PersistentFlags()
	f.StringVarP(&c.Servers, "bootstrap-server", "b", "", `HOST:PORT[,HOST:PORT...] of the cluster (default $OTTLA_BOOTSTRAP_SERVER, else $KAFKA_BOOTSTRAP_SERVERS, else "`+cli.DefaultServer+`")`)
	f.StringArrayVarP(&c.Properties, "property", "X", nil, "client setting as key=value, with the names of librdkafka or the Java clients; may be repeated")
	f.DurationVar(&c.Timeout, "timeout", 30*time.Second, "how long to wait for the cluster's answer")
	f.BoolVar(&c.Verbose, "verbose", false, "write the client's log to standard error")
	_ = cmd.RegisterFlagCompletionFunc("property", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		names := cli.PropertyNames()
		for i := range names {
			names[i] += "="
		}
		return names, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// with runs do against the cluster. SIGINT and SIGTERM end do's context; a second one ends the process.
func with(cmd *cobra.Command, c *cli.Connection, do func(context.Context, *cli.Client) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	// A reader that has seen enough ends a verb as an error of its write, so that it can still commit and say goodbye.
	signal.Ignore(syscall.SIGPIPE)
	return cli.With(ctx, *c, streams(cmd), do)
}

// streams are the process's, unless a test has given the command others.
func streams(cmd *cobra.Command) cli.Streams {
	s := cli.OSStreams()
	s.In, s.Out, s.Err = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	return s
}

// formatFlag adds --format to a listing.
func formatFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "format", "f", cli.FormatText, "output: "+strings.Join(cli.Formats, " or "))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(cli.Formats, cobra.ShellCompDirectiveNoFileComp))
}

// yesFlag adds --yes to a verb that destroys something.
func yesFlag(cmd *cobra.Command, yes *bool, usage string) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, usage)
}

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// complete asks the cluster for names to complete a word with. At most limit of them are taken; 0 is no limit.
func complete(c *cli.Connection, limit int, names func(*cli.Client, context.Context) ([]string, error)) completion {
	return func(cmd *cobra.Command, args []string, _ string) (found []string, _ cobra.ShellCompDirective) {
		if limit > 0 && len(args) >= limit {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		err := cli.With(ctx, *c, streams(cmd), func(ctx context.Context, client *cli.Client) (err error) {
			found, err = names(client, ctx)
			return err
		})
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func completeTopics(c *cli.Connection, limit int) completion {
	return complete(c, limit, (*cli.Client).TopicNames)
}

func completeGroups(c *cli.Connection, limit int) completion {
	return complete(c, limit, (*cli.Client).GroupNames)
}
