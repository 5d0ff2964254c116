package cli

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// CreateTopics are the options of `topic create`.
type CreateTopics struct {
	Partitions        int32 // -1: the broker's num.partitions
	ReplicationFactor int16 // -1: the broker's default.replication.factor
	Configs           []string
	IfNotExists       bool
}

// CreateTopics creates topics and says for each what it became.
func (c *Client) CreateTopics(ctx context.Context, o CreateTopics, names []string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	pairs, err := parsePairs("--config", o.Configs)
	if err != nil {
		return err
	}
	configs := map[string]*string{}
	for key, value := range pairs {
		configs[key] = &value
	}
	responses, err := c.admin.CreateTopics(ctx, cmp.Or(o.Partitions, -1), cmp.Or(o.ReplicationFactor, -1), configs, names...)
	if err != nil {
		return err
	}
	var failed []error
	for _, r := range responses.Sorted() {
		switch {
		case r.Err == nil:
			fmt.Fprintf(c.Out, "created %s: %s\n", r.Topic, createdText(r))
		case errors.Is(r.Err, kerr.TopicAlreadyExists) && o.IfNotExists:
			fmt.Fprintf(c.Out, "%s exists already\n", r.Topic)
		default:
			failed = append(failed, refused("create topic "+r.Topic, r.Err, r.ErrMessage))
		}
	}
	return errors.Join(failed...)
}

func createdText(r kadm.CreateTopicResponse) string {
	if r.NumPartitions < 1 { // a broker before CreateTopics v5 does not say
		return "done"
	}
	return fmt.Sprintf("%s, replication factor %d", plural(int64(r.NumPartitions), "partition"), r.ReplicationFactor)
}

// topicRow is a topic in `topic list`.
type topicRow struct {
	Name        string `json:"name"`
	ID          string `json:"id"`
	Internal    bool   `json:"internal"`
	Partitions  int    `json:"partitions"`
	Replication int    `json:"replication_factor"`
	Records     int64  `json:"records"` // offsets between log start and end: an upper bound once the topic is compacted or transactional
	Bytes       int64  `json:"bytes"`   // on the disks of all brokers; -1 if they do not say
}

// ListTopics writes what topics there are.
func (c *Client) ListTopics(ctx context.Context, internal bool, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	topics, err := c.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	if !internal {
		topics.FilterInternal()
	}
	sizes := c.topicSizes(ctx)
	starts, ends, err := c.listBounds(ctx, topics.Names())
	if err != nil {
		return err
	}
	rows := []topicRow{}
	for _, t := range topics.Sorted() {
		if t.Err != nil {
			return refused("topic "+t.Topic, t.Err, "")
		}
		row := topicRow{Name: t.Topic, ID: idText(t.ID), Internal: t.IsInternal, Partitions: len(t.Partitions), Replication: t.Partitions.NumReplicas(), Bytes: -1}
		for p := range t.Partitions {
			row.Records += max(0, ends[t.Topic][p].Offset-starts[t.Topic][p].Offset)
		}
		if sizes != nil {
			row.Bytes = sizes[t.Topic]
		}
		rows = append(rows, row)
	}
	return c.print(format, rows, func(w io.Writer) error {
		if len(rows) == 0 {
			fmt.Fprintln(c.Err, "no topics; make one with `ottla topic create NAME`")
			return nil
		}
		t := newTable("TOPIC", ">PARTITIONS", ">REPLICATION", ">RECORDS", ">SIZE")
		for _, r := range rows {
			size := "?"
			if r.Bytes >= 0 {
				size = bytesText(r.Bytes)
			}
			t.add(r.Name, r.Partitions, r.Replication, r.Records, size)
		}
		return t.write(w)
	})
}

// listBounds returns the first offset and the end of every partition of the topics. Partitions that cannot say are left out.
func (c *Client) listBounds(ctx context.Context, names []string) (starts, ends kadm.ListedOffsets, err error) {
	if len(names) == 0 {
		return kadm.ListedOffsets{}, kadm.ListedOffsets{}, nil
	}
	var shards *kadm.ShardErrors
	if starts, err = c.admin.ListStartOffsets(ctx, names...); err != nil && !errors.As(err, &shards) {
		return nil, nil, err
	}
	if ends, err = c.admin.ListEndOffsets(ctx, names...); err != nil && !errors.As(err, &shards) {
		return nil, nil, err
	}
	return starts, ends, nil
}

// topicSizes returns the bytes on disk of each topic, nil if the brokers do not say.
func (c *Client) topicSizes(ctx context.Context) map[string]int64 {
	dirs, err := c.admin.DescribeAllLogDirs(ctx, nil)
	if err != nil && len(dirs) == 0 {
		return nil
	}
	sizes := map[string]int64{}
	for _, broker := range dirs {
		broker.EachPartition(func(p kadm.DescribedLogDirPartition) { sizes[p.Topic] += p.Size })
	}
	return sizes
}

type topicDetail struct {
	Name        string            `json:"name"`
	ID          string            `json:"id"`
	Internal    bool              `json:"internal"`
	Replication int               `json:"replication_factor"`
	Configs     map[string]string `json:"configs"` // those that differ from the defaults
	Partitions  []partitionDetail `json:"partitions"`
}

type partitionDetail struct {
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Epoch     int32   `json:"leader_epoch"`
	Replicas  []int32 `json:"replicas"`
	ISR       []int32 `json:"isr"`
	Offline   []int32 `json:"offline_replicas"`
	Start     int64   `json:"log_start_offset"`
	End       int64   `json:"log_end_offset"`
	Error     string  `json:"error,omitempty"`
}

// DescribeTopics writes everything about the named topics, or about all.
func (c *Client) DescribeTopics(ctx context.Context, names []string, format string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	topics, err := c.admin.ListTopicsWithInternal(ctx, names...)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		topics.FilterInternal()
	}
	details := []topicDetail{}
	var failed []error
	for _, name := range topics.Names() {
		if err := topics[name].Err; err != nil {
			failed = append(failed, refused("topic "+name, err, ""))
			delete(topics, name)
		}
	}
	if len(topics) > 0 {
		if details, err = c.topicDetails(ctx, topics); err != nil {
			return err
		}
	}
	err = c.print(format, details, func(w io.Writer) error { return writeDetails(w, details) })
	return errors.Join(append(failed, err)...)
}

func (c *Client) topicDetails(ctx context.Context, topics kadm.TopicDetails) ([]topicDetail, error) {
	names := topics.Names()
	starts, ends, err := c.listBounds(ctx, names)
	if err != nil {
		return nil, err
	}
	configs, err := c.admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, err
	}
	details := make([]topicDetail, 0, len(topics))
	for _, t := range topics.Sorted() {
		d := topicDetail{Name: t.Topic, ID: idText(t.ID), Internal: t.IsInternal, Replication: t.Partitions.NumReplicas(), Configs: map[string]string{}}
		if rc, err := configs.On(t.Topic, nil); err == nil {
			for _, config := range rc.Configs {
				if setByUser(config) {
					d.Configs[config.Key] = config.MaybeValue()
				}
			}
		}
		for _, p := range t.Partitions.Sorted() {
			row := partitionDetail{Partition: p.Partition, Leader: p.Leader, Epoch: p.LeaderEpoch, Replicas: p.Replicas, ISR: p.ISR, Offline: p.OfflineReplicas, Start: -1, End: -1}
			start, end := starts[t.Topic][p.Partition], ends[t.Topic][p.Partition]
			if err := cmp.Or(p.Err, start.Err, end.Err); err != nil { //nolint:staticcheck // SA4023 takes cmp.Or for one that is never nil
				row.Error = err.Error()
			} else {
				row.Start, row.End = start.Offset, end.Offset
				if damaged(p) {
					row.Error = "damaged in part: see ottla doctor"
				}
			}
			d.Partitions = append(d.Partitions, row)
		}
		details = append(details, d)
	}
	return details, nil
}

func (d topicDetail) write(w io.Writer) error {
	configs := make([]string, 0, len(d.Configs))
	for _, key := range slices.Sorted(maps.Keys(d.Configs)) {
		configs = append(configs, key+"="+d.Configs[key])
	}
	fmt.Fprintf(w, "Topic: %s  TopicId: %s  PartitionCount: %d  ReplicationFactor: %d  Configs: %s\n",
		d.Name, d.ID, len(d.Partitions), d.Replication, cmp.Or(strings.Join(configs, ","), "-"))
	t := newTable(">PARTITION", ">LEADER", ">EPOCH", "REPLICAS", "ISR", ">START", ">END", ">RECORDS", "ERROR")
	for _, p := range d.Partitions {
		t.add(p.Partition, p.Leader, p.Epoch, idsText(p.Replicas), idsText(p.ISR), p.Start, p.End, p.End-p.Start, p.Error)
	}
	return t.write(w)
}

// idText writes a topic id as Kafka does.
func idText(id kadm.TopicID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func idsText(ids []int32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
}

// AlterTopic are the options of `topic alter`.
type AlterTopic struct {
	Partitions    int32 // the new total; 0: leave as it is
	Configs       []string
	DeleteConfigs []string
}

// AlterTopic adds partitions to a topic and changes its settings.
func (c *Client) AlterTopic(ctx context.Context, o AlterTopic, name string) error {
	ctx, done := c.bounded(ctx)
	defer done()
	changes, err := parseChanges(o.Configs, o.DeleteConfigs)
	if err != nil {
		return err
	}
	if len(changes) == 0 && o.Partitions == 0 {
		return &Error{Message: "nothing to change", Next: "give --partitions, --config key=value or --delete-config key"}
	}
	if err := c.topicExists(ctx, name); err != nil {
		return err
	}
	if len(changes) > 0 {
		if err := c.alterConfigs(ctx, Resource{Kind: "topic", Name: name}, changes); err != nil {
			return err
		}
	}
	if o.Partitions > 0 {
		responses, err := c.admin.UpdatePartitions(ctx, int(o.Partitions), name)
		if err != nil {
			return err
		}
		if r, err := responses.On(name, nil); err != nil || r.Err != nil {
			return refused("topic "+name, cmp.Or(err, r.Err), r.ErrMessage)
		}
		fmt.Fprintf(c.Out, "%s has %s now\n", name, plural(int64(o.Partitions), "partition"))
	}
	return nil
}

// topicExists returns an error for people if there is no such topic.
func (c *Client) topicExists(ctx context.Context, name string) error {
	_, err := c.topic(ctx, name)
	return err
}

func (c *Client) topic(ctx context.Context, name string) (kadm.TopicDetail, error) {
	topics, err := c.admin.ListTopicsWithInternal(ctx, name)
	if err != nil {
		return kadm.TopicDetail{}, err
	}
	t := topics[name]
	switch {
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition), t.Err == nil && len(t.Partitions) == 0:
		return t, &Error{Message: "there is no topic " + name, Next: fmt.Sprintf("make it with `ottla topic create %s`, or see `ottla topic list`", name)}
	case t.Err != nil:
		return t, refused("topic "+name, t.Err, "")
	}
	return t, nil
}

// DeleteTopics deletes topics for good, after asking.
func (c *Client) DeleteTopics(ctx context.Context, names []string, yes bool) error {
	if err := c.confirm(yes, fmt.Sprintf("Delete %s with all records from %s?", strings.Join(names, ", "), c.servers())); err != nil {
		return err
	}
	ctx, done := c.bounded(ctx)
	defer done()
	responses, err := c.admin.DeleteTopics(ctx, names...)
	if err != nil {
		return err
	}
	var failed []error
	for _, r := range responses.Sorted() {
		if r.Err != nil {
			failed = append(failed, refused("delete topic "+r.Topic, r.Err, r.ErrMessage))
			continue
		}
		fmt.Fprintf(c.Out, "deleted %s\n", r.Topic)
	}
	return errors.Join(failed...)
}

// parsePairs splits key=value pairs.
func parsePairs(flag string, pairs []string) (map[string]string, error) {
	values := map[string]string{}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, &Error{Message: fmt.Sprintf("%s %q is not key=value", flag, pair)}
		}
		values[strings.TrimSpace(key)] = value
	}
	return values, nil
}
