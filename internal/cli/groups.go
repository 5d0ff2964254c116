package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// groupRow is a group in `group list` and the head of `group describe`.
type groupRow struct {
	Group       string `json:"group"`
	Kind        string `json:"type"` // classic, consumer, streams or share: the protocol of its members
	State       string `json:"state"`
	Type        string `json:"protocol_type"`
	Assignor    string `json:"assignor"`
	Coordinator int32  `json:"coordinator"`
	Members     int    `json:"members"`
	Lag         int64  `json:"lag"` // records, of all partitions; -1 if it is not known
	Error       string `json:"error,omitempty"`

	// Of all but classic groups.
	Epoch           *int32 `json:"epoch,omitempty"`
	AssignmentEpoch *int32 `json:"assignment_epoch,omitempty"`
}

type groupDetail struct {
	groupRow
	TimeLag    *float64         `json:"time_lag_seconds"` // the largest of all partitions; null if it is not known
	Partitions []groupPartition `json:"partitions"`
	Consumers  []groupMember    `json:"consumers"`
}

type groupPartition struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Committed *int64   `json:"committed_offset"` // of share groups: where what is not finished begins; null if there is none
	End       int64    `json:"log_end_offset"`
	Lag       int64    `json:"lag"`              // records; -1 if it is not known
	TimeLag   *float64 `json:"time_lag_seconds"` // null if it is not known
	Member    string   `json:"member_id,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	Host      string   `json:"host,omitempty"`
	Error     string   `json:"error,omitempty"`

	next int64 // the offset that the group reads next
}

type groupMember struct {
	Member     string   `json:"member_id"`
	Instance   string   `json:"group_instance_id,omitempty"`
	ClientID   string   `json:"client_id"`
	Host       string   `json:"host"`
	Partitions []string `json:"assignment"`

	// Of consumer and streams groups; of the latter, the assignment is tasks.
	Epoch  *int32   `json:"member_epoch,omitempty"`
	Target []string `json:"target_assignment,omitempty"`
}

// ListGroups writes what groups there are.
func (c *Client) ListGroups(ctx context.Context, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	names, err := c.GroupNames(ctx)
	if err != nil {
		return err
	}
	details, failed, err := c.groupsOf(ctx, names)
	if err != nil {
		return err
	}
	rows := []groupRow{}
	for _, d := range details {
		rows = append(rows, d.groupRow)
	}
	for _, l := range failed {
		rows = append(rows, newGroupRow(l))
	}
	return c.print(format, rows, func(w io.Writer) error {
		if len(rows) == 0 {
			fmt.Fprintln(c.Err, "no groups; one comes into being when a consumer joins it: `ottla consume TOPIC --group NAME`")
			return nil
		}
		t := newTable("GROUP", "TYPE", "STATE", "ASSIGNOR", ">COORDINATOR", ">MEMBERS", ">LAG", "ERROR")
		for _, r := range rows {
			t.add(r.Group, r.Kind, r.State, r.Assignor, r.Coordinator, r.Members, knownText(r.Lag), r.Error)
		}
		return t.write(w)
	})
}

func newGroupRow(l kadm.DescribedGroupLag) groupRow {
	row := groupRow{
		Group: l.Group, Kind: "classic", State: l.State, Type: l.ProtocolType, Assignor: l.Protocol, Coordinator: l.Coordinator.NodeID, Members: len(l.Members), Lag: -1,
	}
	if err := l.Error(); err != nil {
		row.Error = err.Error()
		return row
	}
	row.Lag = 0
	for _, p := range l.Lag.Sorted() {
		if p.Err != nil {
			row.Lag = -1
			break
		}
		row.Lag += p.Lag
	}
	return row
}

// knownText writes a number that is negative if it is not known.
func knownText(n int64) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

// DescribeGroups writes the partitions, lags and members of the named groups, or of all.
func (c *Client) DescribeGroups(ctx context.Context, names []string, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	if len(names) == 0 {
		var err error
		if names, err = c.GroupNames(ctx); err != nil {
			return err
		}
	}
	details, failed, err := c.groupsOf(ctx, names)
	if err != nil {
		return err
	}
	var problems []error
	for _, l := range failed {
		problems = append(problems, missing(l))
	}
	for i := range details {
		if err := c.addTimeLags(ctx, &details[i]); err != nil {
			return err
		}
	}
	if details == nil {
		details = []groupDetail{}
	}
	err = c.print(format, details, func(w io.Writer) error { return writeDetails(w, details) })
	return errors.Join(append(problems, err)...)
}

// missing returns an error if there is no such group. Brokers call a group that does not exist dead.
func missing(l kadm.DescribedGroupLag) error {
	if l.DescribeErr != nil && !errors.Is(l.DescribeErr, kerr.GroupIDNotFound) {
		return refused("group "+l.Group, l.DescribeErr, "")
	}
	if l.State == "Dead" && l.Lag.IsEmpty() || l.DescribeErr != nil {
		return &Error{Message: "there is no group " + l.Group, Next: hints[kerr.GroupIDNotFound]}
	}
	if l.FetchErr != nil {
		return refused("group "+l.Group, l.FetchErr, "")
	}
	return nil
}

func newGroupDetail(l kadm.DescribedGroupLag) groupDetail {
	d := groupDetail{groupRow: newGroupRow(l), Partitions: []groupPartition{}, Consumers: []groupMember{}}
	for _, p := range l.Lag.Sorted() {
		row := groupPartition{Topic: p.Topic, Partition: p.Partition, End: p.End.Offset, Lag: p.Lag, next: max(p.Commit.At, p.Start.Offset)}
		if p.Commit.At >= 0 {
			row.Committed = &p.Commit.At
		}
		if p.Err != nil {
			row.Error = p.Err.Error()
		}
		if p.Member != nil {
			row.Member, row.ClientID, row.Host = p.Member.MemberID, p.Member.ClientID, p.Member.ClientHost
		}
		d.Partitions = append(d.Partitions, row)
	}
	for _, m := range l.Members {
		member := groupMember{Member: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost, Partitions: []string{}}
		if m.InstanceID != nil {
			member.Instance = *m.InstanceID
		}
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range assigned.Topics {
				slices.Sort(t.Partitions)
				member.Partitions = append(member.Partitions, fmt.Sprintf("%s:%s", t.Topic, idsText(t.Partitions)))
			}
		}
		slices.Sort(member.Partitions)
		d.Consumers = append(d.Consumers, member)
	}
	return d
}

func (d groupDetail) write(w io.Writer) error {
	fmt.Fprintf(w, "Group: %s  Type: %s  State: %s  Assignor: %s  Coordinator: %d  Members: %d  Lag: %s  TimeLag: %s\n",
		d.Group, d.Kind, d.State, cmp.Or(d.Assignor, "-"), d.Coordinator, d.Members, knownText(d.Lag), secondsText(d.TimeLag))
	if d.Epoch != nil {
		fmt.Fprintf(w, "Epoch: %d  AssignmentEpoch: %d\n", *d.Epoch, *d.AssignmentEpoch)
	}
	// The columns are those of kafka-consumer-groups, which scripts know, and the time lag.
	t := newTable("TOPIC", ">PARTITION", ">CURRENT-OFFSET", ">LOG-END-OFFSET", ">LAG", ">TIME-LAG", "CONSUMER-ID", "HOST", "CLIENT-ID")
	for _, p := range d.Partitions {
		committed := ""
		if p.Committed != nil {
			committed = fmt.Sprint(*p.Committed)
		}
		t.add(p.Topic, p.Partition, committed, p.End, knownText(p.Lag), secondsText(p.TimeLag), p.Member, p.Host, p.ClientID)
	}
	if len(d.Partitions) > 0 {
		if err := t.write(w); err != nil {
			return err
		}
	}
	for _, p := range d.Partitions {
		if p.Error != "" {
			fmt.Fprintf(w, "%s:%d: %s\n", p.Topic, p.Partition, p.Error)
		}
	}
	if d.Epoch != nil && len(d.Consumers) > 0 {
		members := newTable("CONSUMER-ID", ">EPOCH", "ASSIGNMENT", "TARGET-ASSIGNMENT")
		for _, m := range d.Consumers {
			members.add(m.Member, *m.Epoch, cmp.Or(strings.Join(m.Partitions, " "), "-"), cmp.Or(strings.Join(m.Target, " "), "-"))
		}
		return members.write(w)
	}
	for _, m := range d.Consumers {
		if len(m.Partitions) == 0 {
			fmt.Fprintf(w, "member %s (%s at %s) has no partition\n", m.Member, m.ClientID, m.Host)
		}
	}
	return nil
}

// secondsText writes seconds as a duration for people, "?" if they are not known.
func secondsText(s *float64) string {
	if s == nil {
		return "?"
	}
	d := time.Duration(*s * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < 48*time.Hour:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%.1fd", d.Hours()/24)
}

// DeleteGroups deletes groups with their committed offsets, after asking.
func (c *Client) DeleteGroups(ctx context.Context, names []string, yes bool) error {
	if err := c.confirm(yes, fmt.Sprintf("Delete %s with all committed offsets from %s?", strings.Join(names, ", "), c.servers())); err != nil {
		return err
	}
	ctx, done := c.bounded(ctx)
	defer done()
	responses, err := c.admin.DeleteGroups(ctx, names...)
	if err != nil && len(responses) == 0 {
		return err
	}
	var failed []error
	for _, r := range responses.Sorted() {
		if r.Err != nil {
			failed = append(failed, refused("delete group "+r.Group, r.Err, ""))
			continue
		}
		fmt.Fprintf(c.Out, "deleted %s\n", r.Group)
	}
	return errors.Join(failed...)
}
