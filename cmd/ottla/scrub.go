package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottlaio/ottla/internal/cli"
	"github.com/ottlaio/ottla/internal/scrub"
)

// statusDamage says that there is damage which has cost something, or may.
const statusDamage = 4

type scrubOptions struct {
	data, format, export string
	repair, yes, list    bool
	print                cli.Print
}

func scrubFolder() *cobra.Command {
	var o scrubOptions
	cmd := &cobra.Command{
		Use:   "scrub",
		Short: "Check the data folder of a broker that has stopped",
		Long: `Check the data folder of a broker that has stopped: every block of every segment, indexes, checksums, the write-ahead log, the checkpoint, the
metadata, and the snapshots of groups. Each finding names file, partition and offsets. Damaged ranges are noted in the folder, so that the broker
knows them at its next start; nothing else is changed. A running broker does the same in the background, at the pace of ottla.scrub.interval.hours.

--repair mends what can be made anew from the log, such as an index. What can not is set aside: its bytes are copied to set-aside/, and the
range becomes a gap. A consumer that comes to it goes on with the next record behind it, as it does where compaction has removed records;
without --repair it gets KAFKA_STORAGE_ERROR and waits. Everything else of the partition is served in either case.

--list-aside lists what was set aside, now or by the broker. --export NAME writes the records of such a file that are whole, in the formats of
consume, so that they can be produced again.

The exit status is 0 if nothing is damaged, or all of it was mended or set aside; 4 if damage is left; 1 for everything else.`,
		Example: `  ottla scrub --data /var/lib/ottla
  ottla scrub --data /var/lib/ottla --repair --yes
  ottla scrub --data /var/lib/ottla --list-aside
  ottla scrub --data /var/lib/ottla --export NAME --print '%k\t%v\n' | ottla produce logs --key-separator '\t'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			switch s := streams(cmd); {
			case o.list:
				return listAside(o, s)
			case o.export != "":
				return exportAside(o, s)
			default:
				return runScrub(ctx, o, s)
			}
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "data", "data folder (log.dirs)")
	f.BoolVar(&o.repair, "repair", false, "mend what can be made anew, and set aside what can not")
	yesFlag(cmd, &o.yes, "set aside without asking")
	f.BoolVar(&o.list, "list-aside", false, "list what was set aside, and nothing else")
	f.StringVar(&o.export, "export", "", "write the whole records of a file that --list-aside has named, and nothing else")
	f.StringVar(&o.print.Format, "print", cli.FormatJSON, "--export: text, json, or a template, as consume's --format")
	f.StringVarP(&o.print.KeySeparator, "key-separator", "K", "", "--export with text: write the key and SEP in front of the value")
	formatFlag(cmd, &o.format)
	cmd.MarkFlagsMutuallyExclusive("repair", "list-aside", "export")
	return cmd
}

// scrubReport is what --format json writes.
type scrubReport struct {
	Data     string          `json:"data"`
	Findings []scrub.Finding `json:"findings"`
	Bytes    int64           `json:"bytes_read"`
	Left     int             `json:"damage_left"`
}

func runScrub(ctx context.Context, o scrubOptions, s cli.Streams) error {
	if o.repair {
		question := fmt.Sprintf("set aside damaged ranges in %s? Consumers go on behind them without an error", o.data)
		if err := s.Confirm(o.yes, question); err != nil {
			return err
		}
	}
	r := scrubReport{Data: o.data, Findings: []scrub.Finding{}}
	bar := cli.StartBar(s, "checked")
	err := scrub.Run(ctx, scrub.Options{
		Data: o.data, Repair: o.repair, Total: bar.Total,
		Progress: func(n int64) { r.Bytes += n; bar.Add(n) },
		Report: func(f scrub.Finding) {
			r.Findings = append(r.Findings, f)
			if f.State == scrub.Found {
				r.Left++
			}
		},
	})
	bar.Stop()
	switch {
	case errors.Is(err, scrub.ErrLocked):
		return &cli.Error{Message: err.Error(), Next: "a running broker checks its folder itself, in the background; stop it to check all of it now, or to repair"}
	case err != nil && ctx.Err() != nil:
		return cli.ErrInterrupted
	case err != nil:
		return err
	}
	if err := s.Print(o.format, r, func(w io.Writer) error { return writeFindings(w, o, r) }); err != nil {
		return err
	}
	if r.Left == 0 {
		return nil
	}
	next := "set it aside with `ottla scrub --repair`, so that consumers go on behind it, or put the files back from a backup"
	if o.repair {
		next = "it can not be repaired here: put the folder back from a backup"
	}
	return withStatus{&cli.Error{Message: fmt.Sprintf("%s: damage was found in %d places", o.data, r.Left), Next: next}, statusDamage}
}

func writeFindings(w io.Writer, o scrubOptions, r scrubReport) error {
	for _, f := range r.Findings {
		text := fmt.Sprintf("%-9s  %s", f.State, f.File)
		if f.Bytes > 0 {
			text += fmt.Sprintf("  bytes %d to %d", f.Pos, f.Pos+f.Bytes-1)
		}
		if f.Topic != "" && f.Partition != nil {
			text += fmt.Sprintf("  %s-%d", f.Topic, *f.Partition)
		}
		if f.FirstOffset != nil {
			text += fmt.Sprintf("  offsets %d to %d", *f.FirstOffset, *f.LastOffset)
		}
		if _, err := fmt.Fprintf(w, "%s\n           %s\n", text, f.Reason); err != nil {
			return err
		}
	}
	if len(r.Findings) == 0 {
		_, err := fmt.Fprintf(w, "%s: %s of logs and everything else is what was written\n", o.data, cli.BytesText(r.Bytes))
		return err
	}
	return nil
}

func listAside(o scrubOptions, s cli.Streams) error {
	files, err := scrub.List(o.data)
	if err != nil {
		return err
	}
	return s.Print(o.format, files, func(w io.Writer) error {
		for _, f := range files {
			note := ""
			if f.Damaged {
				note = "  (the file itself is damaged)"
			}
			if _, err := fmt.Fprintf(w, "%s  %s  topic id %s  partition %d  offsets %d to %d  %s  %d whole batches%s\n",
				f.Name, f.What, f.TopicID, f.Partition, f.FirstOffset, f.LastOffset, cli.BytesText(f.Bytes), f.Batches, note); err != nil {
				return err
			}
		}
		return nil
	})
}

func exportAside(o scrubOptions, s cli.Streams) error {
	out, err := cli.NewRecordWriter(s, o.print)
	if err != nil {
		return err
	}
	err = scrub.Export(o.data, o.export, func(r scrub.Record) error {
		k := kgo.Record{
			Topic: r.TopicID, Partition: r.Partition, Offset: r.Offset, Timestamp: time.UnixMilli(r.Timestamp), Key: r.Key, Value: r.Value,
		}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		return out.Write(&k)
	})
	err = errors.Join(err, out.Flush())
	if errors.Is(err, scrub.ErrDamaged) {
		return withStatus{err, statusDamage}
	}
	return err
}
