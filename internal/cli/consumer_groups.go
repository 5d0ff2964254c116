package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// groupsOf asks for groups of all protocols, with their lags, in order of name. What could not be described is in failed.
func (c *Client) groupsOf(ctx context.Context, names []string) (details []groupDetail, failed []kadm.DescribedGroupLag, err error) {
	if len(names) == 0 {
		return nil, nil, nil
	}
	lags, err := c.admin.Lag(ctx, names...)
	if err != nil {
		return nil, nil, err
	}
	var others []string // not of the classic protocol
	for _, l := range lags.Sorted() {
		if errors.Is(l.DescribeErr, kerr.GroupIDNotFound) {
			others = append(others, l.Group)
		}
	}
	var consumers kadm.DescribedConsumerGroups
	if len(others) > 0 {
		if consumers, err = c.admin.DescribeConsumerGroups(ctx, others...); err != nil {
			return nil, nil, err
		}
	}
	others = slices.DeleteFunc(others, func(name string) bool { return consumers[name].Err == nil })
	streams, err := c.streamsGroups(ctx, others)
	if err != nil {
		return nil, nil, err
	}
	shares, err := c.shareGroups(ctx, slices.DeleteFunc(others, func(name string) bool { _, ok := streams[name]; return ok }))
	if err != nil {
		return nil, nil, err
	}
	for _, l := range lags.Sorted() {
		if g, ok := consumers[l.Group]; ok && g.Err == nil {
			d, err := c.consumerDetail(ctx, "consumer", g)
			if err != nil {
				return nil, nil, err
			}
			details = append(details, d)
			continue
		}
		if g, ok := streams[l.Group]; ok {
			d, err := c.streamsDetail(ctx, g)
			if err != nil {
				return nil, nil, err
			}
			details = append(details, d)
			continue
		}
		if g, ok := shares[l.Group]; ok {
			d, err := c.shareDetail(ctx, g)
			if err != nil {
				return nil, nil, err
			}
			details = append(details, d)
			continue
		}
		if missing(l) != nil {
			failed = append(failed, l)
			continue
		}
		details = append(details, newGroupDetail(l))
	}
	return details, failed, nil
}

// consumerDetail works out the lags of a consumer group: of the partitions that it has committed, and of those that members have.
func (c *Client) consumerDetail(ctx context.Context, kind string, g kadm.DescribedConsumerGroup) (groupDetail, error) {
	d := groupDetail{groupRow: groupRow{
		Group: g.Group, State: g.State, Kind: kind, Type: kind, Assignor: g.AssignorName, Coordinator: g.Coordinator.NodeID, Members: len(g.Members),
		Epoch: &g.Epoch, AssignmentEpoch: &g.AssignmentEpoch,
	}, Partitions: []groupPartition{}, Consumers: []groupMember{}}
	fetched, err := c.admin.FetchOffsets(ctx, g.Group)
	if err != nil {
		return d, err
	}
	partitions := g.AssignedPartitions()
	fetched.Each(func(o kadm.OffsetResponse) { partitions.Add(o.Topic, o.Partition) })
	var starts, ends kadm.ListedOffsets
	if topics := partitions.Topics(); len(topics) > 0 {
		if starts, err = c.admin.ListStartOffsets(ctx, topics...); err != nil {
			return d, err
		}
		if ends, err = c.admin.ListEndOffsets(ctx, topics...); err != nil {
			return d, err
		}
	}
	owner := map[topicPartition]*kadm.ConsumerGroupMember{}
	for i := range g.Members {
		m := &g.Members[i]
		for topic, of := range m.Assignment {
			for p := range of {
				owner[topicPartition{topic, p}] = m
			}
		}
		d.Consumers = append(d.Consumers, consumerMember(m))
	}
	for _, t := range partitions.Sorted() {
		for _, p := range t.Partitions {
			row := groupPartition{Topic: t.Topic, Partition: p, Lag: -1}
			start, _ := starts.Lookup(t.Topic, p)
			end, ok := ends.Lookup(t.Topic, p)
			if !ok && kind == streamsKind {
				continue // of a topic with fewer partitions than the subtopology has tasks
			}
			row.next = start.Offset
			if o, ok := fetched.Lookup(t.Topic, p); ok && o.At >= 0 {
				row.Committed = &o.At
				row.next = max(o.At, start.Offset)
			}
			switch err := errors.Join(end.Err, start.Err); {
			case !ok:
				row.Error = kerr.UnknownTopicOrPartition.Message
			case err != nil:
				row.Error = err.Error()
			default:
				row.End, row.Lag = end.Offset, max(end.Offset-row.next, 0)
			}
			if m := owner[topicPartition{t.Topic, p}]; m != nil {
				row.Member, row.ClientID, row.Host = m.MemberID, m.ClientID, m.ClientHost
			}
			d.Partitions = append(d.Partitions, row)
			if row.Lag < 0 {
				d.Lag = -1
			} else if d.Lag >= 0 {
				d.Lag += row.Lag
			}
		}
	}
	return d, nil
}

func consumerMember(m *kadm.ConsumerGroupMember) groupMember {
	member := groupMember{
		Member: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost, Epoch: &m.MemberEpoch,
		Partitions: partitionTexts(m.Assignment), Target: partitionTexts(m.TargetAssignment),
	}
	if m.InstanceID != nil {
		member.Instance = *m.InstanceID
	}
	return member
}

func partitionTexts(s kadm.TopicsSet) []string {
	texts := []string{}
	for _, t := range s.Sorted() {
		slices.Sort(t.Partitions)
		texts = append(texts, fmt.Sprintf("%s:%s", t.Topic, idsText(t.Partitions)))
	}
	return texts
}
