package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// streamsKind is the type of groups of the streams protocol (KIP-1071).
const streamsKind = "streams"

// streamsGroups describes those of the groups that are streams groups. A broker that does not serve them has none.
func (c *Client) streamsGroups(ctx context.Context, names []string) (map[string]streamsGroup, error) {
	found := map[string]streamsGroup{}
	err := c.atCoordinators(ctx, names, func(name string, node int32) error {
		req := kmsg.NewPtrStreamsGroupDescribeRequest()
		req.Groups = []string{name}
		answer, err := c.base.Broker(int(node)).RetriableRequest(ctx, req)
		if err != nil {
			return err
		}
		for _, g := range answer.(*kmsg.StreamsGroupDescribeResponse).Groups {
			if kerr.ErrorForCode(g.ErrorCode) == nil {
				found[g.Group] = streamsGroup{g, node}
			}
		}
		return nil
	})
	return found, err
}

type streamsGroup struct {
	kmsg.StreamsGroupDescribeResponseGroup
	coordinator int32
}

// streamsDetail describes a streams group by the partitions that its members' active tasks read, as consumerDetail does, and the members
// by their tasks.
func (c *Client) streamsDetail(ctx context.Context, g streamsGroup) (groupDetail, error) {
	reads := map[string][]string{} // subtopology → topics
	if g.Topology != nil {
		for _, s := range g.Topology.Subtopologies {
			topics := slices.Clone(s.SourceTopics)
			for _, t := range s.RepartitionSourceTopics {
				topics = append(topics, t.Topic)
			}
			reads[s.SubtopologyID] = topics
		}
	}
	as := kadm.DescribedConsumerGroup{
		Group: g.Group, State: g.State, Epoch: g.Epoch, AssignmentEpoch: g.AssignmentEpoch, AssignorName: "sticky",
		Coordinator: kadm.BrokerDetail{NodeID: g.coordinator},
	}
	for _, m := range g.Members {
		member := kadm.ConsumerGroupMember{MemberID: m.MemberID, MemberEpoch: m.MemberEpoch, ClientID: m.ClientID, ClientHost: m.ClientHost, Assignment: kadm.TopicsSet{}}
		for _, tasks := range m.Assignment.ActiveTasks {
			for _, topic := range reads[tasks.SubtopologyID] {
				member.Assignment.Add(topic, tasks.Partitions...)
			}
		}
		as.Members = append(as.Members, member)
	}
	d, err := c.consumerDetail(ctx, streamsKind, as)
	for i := range d.Consumers {
		m := &g.Members[i]
		d.Consumers[i].Partitions, d.Consumers[i].Target = taskTexts(m.Assignment), taskTexts(m.TargetAssignment)
	}
	return d, err
}

// taskTexts names tasks by subtopology and partitions, what is not active with its kind.
func taskTexts(a kmsg.StreamsAssignment) []string {
	texts := []string{}
	for _, kind := range []struct {
		prefix string
		tasks  []kmsg.TaskIDs
	}{{"", a.ActiveTasks}, {"standby:", a.StandbyTasks}, {"warmup:", a.WarmupTasks}} {
		for _, t := range kind.tasks {
			texts = append(texts, fmt.Sprintf("%s%s:%s", kind.prefix, t.SubtopologyID, idsText(t.Partitions)))
		}
	}
	return texts
}
