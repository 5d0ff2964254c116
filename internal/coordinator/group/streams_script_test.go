package group

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
)

// testTopology is one of those that scripts name, with "@" and its epoch behind:
//
//   - plain: a subtopology that reads t
//   - count: one that reads t and writes the repartition topic r, and one that reads r and keeps a store
//   - pair: one that reads t and u, which must have the same number of partitions, and keeps a store
//   - regex: one that reads what matches a pattern
func testTopology(name string) *kmsg.StreamsGroupHeartbeatRequestTopology {
	name, epoch, _ := strings.Cut(name, "@")
	n, _ := strconv.Atoi(epoch)
	t := kmsg.NewStreamsGroupHeartbeatRequestTopology()
	t.Epoch = int32(n)
	store := []kmsg.TopicInfo{{Topic: "store", Configs: []kmsg.TopicInfoConfig{{Key: "cleanup.policy", Value: "compact"}}}}
	switch name {
	case "plain":
		t.Subtopologies = []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{{SubtopologyID: "0", SourceTopics: []string{"t"}}}
	case "count":
		t.Subtopologies = []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{
			{SubtopologyID: "0", SourceTopics: []string{"t"}, RepartitionSinkTopics: []string{"r"}},
			{SubtopologyID: "1", RepartitionSourceTopics: []kmsg.TopicInfo{{Topic: "r"}}, StateChangelogTopics: store},
		}
	case "pair":
		t.Subtopologies = []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{{
			SubtopologyID: "0", SourceTopics: []string{"t", "u"}, StateChangelogTopics: store,
			CopartitionGroups: []kmsg.StreamsGroupHeartbeatRequestTopologySubtopologyCopartitionGroup{{SourceTopics: []int16{0, 1}}},
		}}
	case "regex":
		t.Subtopologies = []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{{SubtopologyID: "0", SourceTopicRegex: []string{"t.*"}}}
	case "invalid":
		t.Subtopologies = []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{
			{SubtopologyID: "0", SourceTopics: []string{"t"}, StateChangelogTopics: []kmsg.TopicInfo{{Topic: "store", NumPartitions: 3}}},
		}
	default:
		panic("no such topology: " + name)
	}
	return &t
}

// sh G M epoch=N [topology=NAME[@EPOCH]] [process=P] [active=0:0.1+1:0] [standby=...] [warmup=...] [rebalance=30s] [endpoint=HOST:PORT]
// [endpoints=EPOCH] [tags=k:v+...] [rack=R] [instance=I] [shutdown=yes]: a heartbeat of the streams protocol. The first one of a member
// says that it has nothing, and has the topology "plain" unless it says another; "active=none" says so later, and without active nothing is
// said of any kind of task.
func (r *runner) streamsHeartbeat(a args) []string {
	req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	req.Group, req.MemberID = groupArg(a), a.get("member", a.plain[1])
	req.MemberEpoch, req.EndpointInformationEpoch = int32(a.number("epoch", 0)), int32(a.number("endpoints", 0))
	req.InstanceID, req.RackID, req.ProcessID = a.optional("instance"), a.optional("rack"), a.optional("process")
	req.ShutdownApplication = a.get("shutdown", "") != ""
	req.RebalanceTimeoutMillis = -1
	if _, ok := a.named["rebalance"]; ok || req.MemberEpoch == 0 {
		req.RebalanceTimeoutMillis = a.millis("rebalance", "30s")
	}
	if name, ok := a.named["topology"]; ok || req.MemberEpoch == 0 {
		if !ok {
			name = "plain"
		}
		if name != "none" {
			req.Topology = testTopology(name)
		}
	}
	if req.MemberEpoch == 0 && req.ProcessID == nil {
		req.ProcessID = ptr("p-" + req.MemberID)
	}
	if _, ok := a.named["active"]; ok || req.MemberEpoch == 0 {
		req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = taskIDs(a.get("active", "none")), taskIDs(a.get("standby", "none")), taskIDs(a.get("warmup", "none"))
	}
	if endpoint, ok := a.named["endpoint"]; ok {
		host, port, _ := strings.Cut(endpoint, ":")
		n, _ := strconv.Atoi(port)
		req.UserEndpoint = &kmsg.StreamsGroupHeartbeatRequestUserEndpoint{Host: host, Port: uint16(n)}
	}
	for _, tag := range split(a.get("tags", ""), "+") {
		k, v, _ := strings.Cut(tag, ":")
		req.ClientTags = append(req.ClientTags, kmsg.StreamsGroupHeartbeatRequestClientTag{Key: k, Value: v})
	}
	expect(r, a.plain[1], r.service.StreamsGroupHeartbeat(Client{ID: a.plain[1], Host: "/127.0.0.1"}, req), showStreamsHeartbeat)
	return nil
}

// taskIDs reads tasks of the form 0:0.1+1:0.
func taskIDs(s string) []kmsg.TaskIDs {
	ids := []kmsg.TaskIDs{}
	if s == "none" {
		return ids
	}
	for _, t := range split(s, "+") {
		id, partitions, _ := strings.Cut(t, ":")
		of := kmsg.TaskIDs{SubtopologyID: id}
		for _, p := range split(partitions, ".") {
			n, _ := strconv.Atoi(p)
			of.Partitions = append(of.Partitions, int32(n))
		}
		ids = append(ids, of)
	}
	return ids
}

func showTaskIDs(ids []kmsg.TaskIDs) string {
	var tasks assignor.Tasks
	for _, s := range ids {
		tasks = append(tasks, assignor.SubtopologyTasks{Subtopology: s.SubtopologyID, Partitions: s.Partitions})
	}
	return showTasks(tasks)
}

func showTasks(tasks assignor.Tasks) string {
	var out []string
	for _, s := range tasks {
		out = append(out, s.Subtopology+":"+showInts(s.Partitions, nil))
	}
	return "[" + strings.Join(out, " ") + "]"
}

func showStreamsHeartbeat(h StreamsHeartbeat) []string {
	resp := h.Response
	if resp.ErrorCode != 0 {
		return []string{codeName(resp.ErrorCode) + ": " + deref(resp.ErrorMessage)}
	}
	s := fmt.Sprintf("member=%s epoch=%d", resp.MemberID, resp.MemberEpoch)
	if n := resp.HeartbeatIntervalMillis; resp.MemberEpoch >= 0 && n != 5000 {
		s += fmt.Sprintf(" next=%dms", n)
	}
	if resp.ActiveTasks != nil {
		s += fmt.Sprintf(" active=%s standby=%s warmup=%s", showTaskIDs(resp.ActiveTasks), showTaskIDs(resp.StandbyTasks), showTaskIDs(resp.WarmupTasks))
	}
	if resp.EndpointInformationEpoch != 0 {
		s += fmt.Sprintf(" endpoints=%d", resp.EndpointInformationEpoch)
	}
	out := []string{s}
	for _, st := range resp.Status {
		out = append(out, fmt.Sprintf("status %d: %s", st.StatusCode, st.StatusDetail))
	}
	for _, t := range h.Create {
		out = append(out, fmt.Sprintf("create %s partitions=%d replication=%d %v", t.Name, t.Partitions, t.ReplicationFactor, t.Configs))
	}
	for _, e := range resp.PartitionsByUserEndpoint {
		line := fmt.Sprintf("at %s:%d", e.UserEndpoint.Host, e.UserEndpoint.Port)
		for _, p := range e.ActivePartitions {
			line += fmt.Sprintf(" %s:%s", p.Topic, showInts(p.Partitions, nil))
		}
		for _, p := range e.StandbyPartitions {
			line += fmt.Sprintf(" standby %s:%s", p.Topic, showInts(p.Partitions, nil))
		}
		out = append(out, line)
	}
	return out
}

// describeStreams is StreamsGroupDescribe.
func (r *runner) describeStreams(a args) []string {
	expect(r, "streams", r.service.DescribeStreamsGroup(groupArg(a)), func(g kmsg.StreamsGroupDescribeResponseGroup) []string {
		if g.ErrorCode != 0 {
			return []string{codeName(g.ErrorCode) + ": " + deref(g.ErrorMessage)}
		}
		out := []string{fmt.Sprintf("%s epoch=%d assignment=%d", g.State, g.Epoch, g.AssignmentEpoch)}
		topics := func(list []kmsg.TopicInfo) string {
			var names []string
			for _, t := range list {
				names = append(names, fmt.Sprintf("%s/%d/%d", t.Topic, t.NumPartitions, t.ReplicationFactor))
			}
			return "[" + strings.Join(names, " ") + "]"
		}
		for _, s := range g.Topology.Subtopologies {
			out = append(out, fmt.Sprintf("subtopology %s of epoch %d: sources=%v sinks=%v repartition=%s changelogs=%s", s.SubtopologyID, g.Topology.Epoch,
				s.SourceTopics, s.RepartitionSinkTopics, topics(s.RepartitionSourceTopics), topics(s.StateChangelogTopics)))
		}
		show := func(a kmsg.StreamsAssignment) string {
			return showTaskIDs(a.ActiveTasks) + showTaskIDs(a.StandbyTasks) + showTaskIDs(a.WarmupTasks)
		}
		for _, m := range g.Members {
			s := fmt.Sprintf("member=%s rack=%s epoch=%d client=%s host=%s topology=%d process=%s has=%s target=%s", m.MemberID, deref(m.RackID), m.MemberEpoch,
				m.ClientID, m.ClientHost, m.TopologyEpoch, m.ProcessID, show(m.Assignment), show(m.TargetAssignment))
			if m.UserEndpoint != nil {
				s += fmt.Sprintf(" endpoint=%s:%d", m.UserEndpoint.Host, m.UserEndpoint.Port)
			}
			for _, t := range m.ClientTags {
				s += " " + t.Key + ":" + t.Value
			}
			out = append(out, s)
		}
		return out
	})
	return nil
}

// dumpStreams shows the hard state of a streams group.
func dumpStreams(g *streamsGroup) []string {
	s := fmt.Sprintf("%s streams %s epoch=%d target=%d validated=%d standbys=%s", g.id, g.stateName(), g.epoch, g.targetEpoch, g.validated, g.configs[standbyReplicas])
	if g.hash != 0 {
		s += " hash"
	}
	if g.topology != nil {
		s += fmt.Sprintf(" topology=%d/%d", g.topology.Epoch, len(g.topology.Subtopologies))
	}
	out := []string{s}
	show := func(set *taskSet) string {
		var active []string
		for _, t := range set[activeTasks].list() {
			epochs := make([]int32, len(t.Partitions))
			for i, p := range t.Partitions {
				epochs[i] = set[activeTasks][task{t.Subtopology, p}]
			}
			active = append(active, t.Subtopology+":"+showInts(t.Partitions, epochs))
		}
		return "[" + strings.Join(active, " ") + "]" + showTasks(set[standbyTasks].list()) + showTasks(set[warmupTasks].list())
	}
	states := map[streamsState]string{streamsStable: "stable", unrevokedTasks: "unrevoked", unreleasedTasks: "unreleased", unknownTasksState: "unknown"}
	for _, id := range sortedKeys(g.members) {
		mb, target := g.members[id], g.target[id]
		s := fmt.Sprintf("- %s process=%s rebalance=%d topology=%d epoch=%d/%d %s has=%s", id, mb.process, mb.rebalanceTimeout, mb.topologyEpoch, mb.epoch,
			mb.previous, states[mb.state], show(&mb.assigned))
		if mb.revoking.count() > 0 {
			s += " gives=" + show(&mb.revoking)
		}
		out = append(out, s+" target="+showTasks(target.Active)+showTasks(target.Standby)+showTasks(target.Warmup))
	}
	for _, id := range sortedKeys(g.target) {
		if g.members[id] == nil {
			out = append(out, fmt.Sprintf("- target of %s, who is not there: %s", id, showTasks(g.target[id].Active)))
		}
	}
	return out
}

// describeStreamsRecord shows a record of a streams group by what it makes of an empty state.
func describeStreamsRecord(t *testing.T, key, value []byte) string {
	k := kbin.Reader{Src: key[2:]}
	s := consumerRecordNames[key[1]] + " " + k.String()
	if len(k.Src) > 0 {
		s += " " + k.String()
	}
	if value == nil {
		return s + " deleted"
	}
	m := newTestMachine()
	mustReplay(t, m, key, value)
	for _, g := range m.groups {
		g := g.(*streamsGroup)
		switch key[1] {
		case keyStreamsGroup:
			s += fmt.Sprintf(" %d validated=%d %v", g.epoch, g.validated, g.configs)
		case keyStreamsTargetMetadata:
			s += fmt.Sprintf(" %d", g.targetEpoch)
		case keyStreamsTopology:
			s += fmt.Sprintf(" %d/%d", g.topology.Epoch, len(g.topology.Subtopologies))
		case keyStreamsMember:
			mb := g.members[sortedKeys(g.members)[0]]
			s += fmt.Sprintf(" process=%s topology=%d", mb.process, mb.topologyEpoch)
		default:
			s += strings.TrimPrefix(dumpStreams(g)[1], "-")
		}
	}
	return s
}
