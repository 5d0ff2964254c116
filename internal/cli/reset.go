package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// ResetGroup are the options of `group reset`. Exactly one of To and ShiftBy is given.
type ResetGroup struct {
	Topics  []string // NAME or NAME:0,1,2; none: every partition that the group has committed
	To      string   // a Place
	ShiftBy *int64   // records, negative for back
	Execute bool     // without it the plan is only shown
}

// resetRow is what becomes of one partition.
type resetRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Current   *int64 `json:"current_offset"` // null if nothing is committed
	New       int64  `json:"new_offset"`
	Lag       int64  `json:"new_lag"`
	Note      string `json:"note,omitempty"`
}

// ResetGroup moves the committed offsets of a group, and shows how.
func (c *Client) ResetGroup(ctx context.Context, group string, o ResetGroup, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	committed, err := c.admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	rows, err := c.planReset(ctx, o, committed)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return &Error{Message: "group " + group + " has committed nothing", Next: "name topics with --topic NAME, or see `ottla group list`"}
	}
	if o.Execute {
		if err := c.commit(ctx, group, rows); err != nil {
			return err
		}
	}
	err = c.print(format, rows, func(w io.Writer) error {
		t := newTable("TOPIC", ">PARTITION", ">CURRENT-OFFSET", ">NEW-OFFSET", ">NEW-LAG", "NOTE")
		for _, r := range rows {
			current := ""
			if r.Current != nil {
				current = fmt.Sprint(*r.Current)
			}
			t.add(r.Topic, r.Partition, current, r.New, r.Lag, r.Note)
		}
		return t.write(w)
	})
	if !o.Execute {
		fmt.Fprintln(c.Err, "nothing was changed yet: add --execute to do it")
	}
	return err
}

// planReset works out the new offsets, sorted by topic and partition.
func (c *Client) planReset(ctx context.Context, o ResetGroup, committed kadm.OffsetResponses) ([]resetRow, error) {
	chosen, err := c.chosen(ctx, o.Topics, committed)
	if err != nil || len(chosen) == 0 {
		return nil, err
	}
	names := []string{}
	for topic := range chosen {
		names = append(names, topic)
	}
	all, err := c.bounds(ctx, false, names...)
	if err != nil {
		return nil, err
	}
	within := partitionBounds{}
	for topic, partitions := range chosen {
		within[topic] = map[int32]bounds{}
		for _, p := range partitions {
			b, ok := all[topic][p]
			if !ok {
				return nil, &Error{Message: fmt.Sprintf("%s has no partition %d", topic, p), Next: "see `ottla topic describe " + topic + "`"}
			}
			within[topic][p] = b
		}
	}
	var targets offsets
	if o.ShiftBy == nil {
		place, err := ParsePlace(o.To, time.Now())
		if err != nil {
			return nil, err
		}
		if targets, err = c.resolve(ctx, place, within); err != nil {
			return nil, err
		}
	}
	var rows []resetRow
	for topic, partitions := range within {
		for p, b := range partitions {
			row := resetRow{Topic: topic, Partition: p}
			if was, ok := committed.Lookup(topic, p); ok && was.At >= 0 {
				row.Current = &was.At
			}
			target := targets[topic][p]
			if o.ShiftBy != nil {
				if row.Current == nil {
					return nil, &Error{Message: fmt.Sprintf("partition %d of %s has no committed offset to shift", p, topic), Next: "use --to-earliest, --to-latest, --to-offset or --to-time"}
				}
				target = *row.Current + *o.ShiftBy
			}
			row.New = min(max(target, b.start), b.end)
			row.Lag = b.end - row.New
			if row.New != target {
				row.Note = fmt.Sprintf("%d is outside of %d to %d", target, b.start, b.end)
			}
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b resetRow) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return rows, nil
}

// chosen are the partitions to reset: those named, or those that are committed.
func (c *Client) chosen(ctx context.Context, named []string, committed kadm.OffsetResponses) (map[string][]int32, error) {
	chosen := map[string][]int32{}
	if len(named) == 0 {
		committed.Each(func(o kadm.OffsetResponse) { chosen[o.Topic] = append(chosen[o.Topic], o.Partition) })
		return chosen, nil
	}
	for _, name := range named {
		topic, list, some := strings.Cut(name, ":")
		detail, err := c.topic(ctx, topic)
		if err != nil {
			return nil, err
		}
		if !some {
			chosen[topic] = detail.Partitions.Numbers()
			continue
		}
		for s := range strings.SplitSeq(list, ",") {
			p, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
			if err != nil {
				return nil, &Error{Message: fmt.Sprintf("--topic %q: %q is not a partition", name, s), Next: "for example --topic logs:0,2"}
			}
			chosen[topic] = append(chosen[topic], int32(p))
		}
	}
	return chosen, nil
}

// commit writes the new offsets. Brokers refuse it while the group has members.
func (c *Client) commit(ctx context.Context, group string, rows []resetRow) error {
	described, err := c.admin.DescribeGroups(ctx, group)
	if err != nil {
		return err
	}
	members := len(described[group].Members)
	if described[group].Err != nil { // it may be of the consumer protocol
		consumers, err := c.admin.DescribeConsumerGroups(ctx, group)
		if err != nil {
			return err
		}
		members = len(consumers[group].Members)
	}
	if members > 0 {
		return &Error{Message: fmt.Sprintf("group %s has %s; their next commit would undo a reset", group, plural(int64(members), "member")),
			Next: fmt.Sprintf("stop them first; `ottla group describe %s` names them", group)}
	}
	offsets := kadm.Offsets{}
	for _, r := range rows {
		offsets.Add(kadm.Offset{Topic: r.Topic, Partition: r.Partition, At: r.New, LeaderEpoch: -1})
	}
	responses, err := c.admin.CommitOffsets(ctx, group, offsets)
	if err != nil {
		return err
	}
	var failed []error
	responses.Each(func(r kadm.OffsetResponse) {
		if r.Err != nil {
			failed = append(failed, refused(fmt.Sprintf("partition %d of %s", r.Partition, r.Topic), r.Err, ""))
		}
	})
	return errors.Join(failed...)
}
