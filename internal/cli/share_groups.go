package cli

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shareKind is the type of share groups (KIP-932).
const shareKind = "share"

type shareGroup struct {
	kmsg.ShareGroupDescribeResponseGroup
	coordinator int32
	offsets     []kmsg.DescribeShareGroupOffsetsResponseGroupTopic
}

// shareGroups describes those of the groups that are share groups. A broker that does not serve them has none.
func (c *Client) shareGroups(ctx context.Context, names []string) (map[string]shareGroup, error) {
	found := map[string]shareGroup{}
	err := c.atCoordinators(ctx, names, func(name string, node int32) error {
		describe := kmsg.NewPtrShareGroupDescribeRequest()
		describe.GroupIDs = []string{name}
		answer, err := c.base.Broker(int(node)).RetriableRequest(ctx, describe)
		if err != nil {
			return err
		}
		groups := answer.(*kmsg.ShareGroupDescribeResponse).Groups
		if len(groups) != 1 || kerr.ErrorForCode(groups[0].ErrorCode) != nil {
			return nil
		}
		offsets := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
		offsets.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: name}}
		if answer, err = c.base.Broker(int(node)).RetriableRequest(ctx, offsets); err != nil {
			return err
		}
		g := shareGroup{ShareGroupDescribeResponseGroup: groups[0], coordinator: node}
		for _, of := range answer.(*kmsg.DescribeShareGroupOffsetsResponse).Groups {
			g.offsets = append(g.offsets, of.Topics...)
		}
		found[name] = g
		return nil
	})
	return found, err
}

// atCoordinators asks each group's coordinator about the group. One whose coordinator cannot be found is left out: that has been told already.
func (c *Client) atCoordinators(ctx context.Context, groups []string, ask func(group string, node int32) error) error {
	if len(groups) == 0 {
		return nil
	}
	coordinators := c.admin.FindGroupCoordinators(ctx, groups...)
	for _, at := range coordinators.Sorted() {
		if at.Err != nil {
			continue
		}
		if err := ask(at.Name, at.NodeID); err != nil {
			return err
		}
	}
	return nil
}

// shareDetail describes a share group by the partitions whose state is kept: in place of a committed offset there is the one where the
// records begin that are not finished. Several members may have the same partition, so they are shown by themselves.
func (c *Client) shareDetail(ctx context.Context, g shareGroup) (groupDetail, error) {
	d := groupDetail{groupRow: groupRow{
		Group: g.GroupID, State: g.GroupState, Kind: shareKind, Type: shareKind, Assignor: g.Assignor, Coordinator: g.coordinator, Members: len(g.Members),
		Epoch: &g.GroupEpoch, AssignmentEpoch: &g.AssignmentEpoch,
	}, Partitions: []groupPartition{}, Consumers: []groupMember{}}
	var topics []string
	for _, t := range g.offsets {
		topics = append(topics, t.Topic)
	}
	if len(topics) > 0 {
		ends, err := c.admin.ListEndOffsets(ctx, topics...)
		if err != nil {
			return d, err
		}
		for _, t := range g.offsets {
			for _, p := range t.Partitions {
				end, _ := ends.Lookup(t.Topic, p.Partition)
				row := groupPartition{Topic: t.Topic, Partition: p.Partition, End: end.Offset, Lag: p.Lag, next: p.StartOffset}
				if p.StartOffset >= 0 {
					row.Committed = &p.StartOffset
				}
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					row.Error = err.Error()
				}
				if d.Lag >= 0 {
					d.Lag += p.Lag
				}
				if p.Lag < 0 {
					d.Lag = -1
				}
				d.Partitions = append(d.Partitions, row)
			}
		}
	}
	for i := range g.Members {
		m := &g.Members[i]
		row := groupMember{Member: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost, Epoch: &m.MemberEpoch, Partitions: []string{}}
		for _, t := range m.Assignment.TopicPartitions {
			row.Partitions = append(row.Partitions, fmt.Sprintf("%s:%s", t.Topic, idsText(t.Partitions)))
		}
		d.Consumers = append(d.Consumers, row)
	}
	return d, nil
}
