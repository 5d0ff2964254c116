package group

import (
	"slices"
	"strconv"

	"github.com/ottlaio/ottla/internal/coordinator"
	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
	"github.com/ottlaio/ottla/internal/coordinator/group/topology"
)

// retargetStreams computes a new assignment where the group's epoch is ahead of it. It returns why it does not yet, as members are told.
func (m *Machine) retargetStreams(fx *coordinator.Effects, g *streamsGroup) (delayed string) {
	now := fx.Now.UnixMilli()
	interval := m.env.StreamsSettings(g.id).AssignmentInterval.Milliseconds()
	switch {
	case g.delayed:
		return "Assignment delayed due to the configured initial rebalance delay."
	case g.targetEpoch >= g.epoch:
		return ""
	case g.targetAt != 0 && now < g.targetAt+interval:
		return "Assignment delayed due to the configured assignment interval."
	}
	spec := g.taskSpec()
	targets := make([]assignor.TaskAssignment, len(spec.Members)) // none, while topics are missing
	if g.configured.Status == topology.Ready {
		targets = assignor.Sticky(spec)
	}
	if m.env.Budget.full(spaceFor(targets)) || slices.ContainsFunc(targets, func(a assignor.TaskAssignment) bool {
		return m.tooLong(g.id, encodeStreamsTarget(&a))
	}) {
		return "" // who is there keeps what it has
	}
	for i := range targets {
		id := spec.Members[i].ID
		if old, ok := g.target[id]; !ok || !sameAssignment(&old, &targets[i]) {
			fx.Append(streamsTargetKey(g.id, id), encodeStreamsTarget(&targets[i]))
		}
	}
	fx.Append(streamsTargetMetadataKey(g.id), encodeTargetMetadata(g.epoch, now))
	m.log("group has a new target assignment", g.id, "epoch", g.epoch, "members", len(g.members))
	return ""
}

func spaceFor(targets []assignor.TaskAssignment) (n int64) {
	for i := range targets {
		n += taskTargetSize("", &targets[i])
	}
	return n
}

// taskSpec is the group as the assignor sees it.
func (g *streamsGroup) taskSpec() *assignor.TaskGroup {
	spec := &assignor.TaskGroup{}
	spec.StandbyReplicas, _ = strconv.Atoi(g.configs[standbyReplicas])
	for i := range g.configured.Subtopologies {
		s := &g.configured.Subtopologies[i]
		spec.Subtopologies = append(spec.Subtopologies, assignor.SubtopologyShape{ID: s.ID, Tasks: s.Tasks, Stateful: s.Stateful()})
	}
	for _, id := range sortedKeys(g.members) {
		spec.Members = append(spec.Members, assignor.TaskMember{ID: id, Process: g.members[id].process, Former: g.target[id]})
	}
	return spec
}

// reconcileTasks brings a member a step nearer to its target and returns it:
//
//	                 it is to give something back
//	streamsStable ──────────────────────────────────▶ unrevokedTasks
//	  │    ▲                                            │    ▲
//	  │    │ it has all of its target                   │    │ a new target takes more away
//	  │    └────────────────────◀───────────────────────┤    │
//	  │    │ what it waits for is free                  │    │
//	  └──▶ unreleasedTasks ◀────────────────────────────┘    │
//	       some of its target is with others                 │
//	         └───────────────────────────────────────────────┘
//
// A task is given to a member only once it is free, see taskOwners.taken. The member's epoch goes up to that of the target when it has nothing
// left to give back. owned is what it says that it has, nil: it does not say.
func (m *Machine) reconcileTasks(fx *coordinator.Effects, g *streamsGroup, id string, owned *taskSet) *streamsMember {
	mb := g.members[id]
	if mb.reconciledTo(g.targetEpoch) {
		return mb
	}
	next := g.taskStep(mb, owned)
	if next == nil || next.sameProgress(mb) {
		return mb
	}
	value := encodeStreamsCurrent(next)
	if grown := next.size() - mb.size(); m.tooLong(g.id, value) || grown > 0 && m.env.Budget.full(grown) {
		return mb
	}
	fx.Append(streamsCurrentKey(g.id, id), value)
	if mb = g.members[id]; mb.state == unrevokedTasks {
		fx.SetTimer(streamsRebalanceTimer(g, id), millis(mb.rebalanceTimeout))
	} else {
		fx.CancelTimer(streamsRebalanceTimer(g, id))
	}
	return mb
}

// taskStep returns what a member becomes; nil: it stays as it is.
func (g *streamsGroup) taskStep(mb *streamsMember, owned *taskSet) *streamsMember {
	epoch := mb.epoch
	switch mb.state {
	case unrevokedTasks:
		if owned == nil || mb.revoking.any(owned) {
			return nil
		}
		epoch++ // it came that far, if a newer target takes more away
	case unknownTasksState:
		epoch = g.targetEpoch
	}
	target := g.target[mb.id]
	next := *mb
	next.previous = mb.epoch
	for kind, wanted := range lists(&target) {
		has := mb.assigned[kind]
		keeps, gives := heldTasks{}, heldTasks{}
		for t, since := range has {
			if wanted.Has(t.subtopology, t.partition) {
				keeps[t] = since
			} else {
				gives[t] = since
			}
		}
		next.assigned[kind], next.revoking[kind] = keeps, gives
	}
	if next.revoking.any(owned) {
		next.epoch, next.state = epoch, unrevokedTasks
		return &next
	}
	next.epoch, next.state, next.revoking = g.targetEpoch, streamsStable, taskSet{}
	waits := false
	for kind, wanted := range lists(&target) {
		for _, s := range wanted {
			for _, p := range s.Partitions {
				t := task{s.Subtopology, p}
				if _, ok := next.assigned[kind][t]; ok {
					continue
				}
				switch {
				case g.owners.taken(kind, t, mb.process):
					waits = true
				case kind == activeTasks:
					next.assigned[kind][t] = g.targetEpoch
				default:
					next.assigned[kind][t] = 0
				}
			}
		}
	}
	if waits {
		next.state = unreleasedTasks
	}
	return &next
}
