package group

import (
	"cmp"
	"maps"
	"slices"

	"github.com/ottlaio/ottla/internal/coordinator/group/assignor"
	"github.com/ottlaio/ottla/internal/plant"
)

// task is the unit that streams groups assign: one partition of all topics that a subtopology reads.
type task struct {
	subtopology string
	partition   int32
}

// The kinds of tasks, as indexes of taskSet and friends. Kafka 4.3 knows warm-up tasks and gives none out.
const (
	activeTasks = iota
	standbyTasks
	warmupTasks
	taskKinds
)

// heldTasks are tasks with the epoch at which each was assigned (KIP-1251), 0 for those that are not active. They are not changed once
// they are made.
type heldTasks map[task]int32

// taskSet is what a member has or has to give back, by kind of task.
type taskSet [taskKinds]heldTasks

func (s *taskSet) equal(o *taskSet) bool {
	return maps.Equal(s[activeTasks], o[activeTasks]) && maps.Equal(s[standbyTasks], o[standbyTasks]) && maps.Equal(s[warmupTasks], o[warmupTasks])
}

func (s *taskSet) count() int {
	return len(s[activeTasks]) + len(s[standbyTasks]) + len(s[warmupTasks])
}

// size is about the memory that they take.
func (s *taskSet) size() int64 { return int64(taskOverhead * s.count()) }

// any reports whether one of the tasks is among those that a member says it owns; one that does not say may have all.
func (s *taskSet) any(owned *taskSet) bool {
	if s.count() == 0 {
		return false
	}
	if owned == nil {
		return true
	}
	for kind, tasks := range s {
		for t := range tasks {
			if _, ok := owned[kind][t]; ok {
				return true
			}
		}
	}
	return false
}

// covers reports whether the tasks of o are all in s.
func (s *taskSet) covers(o *taskSet) bool {
	for kind, tasks := range o {
		for t := range tasks {
			if _, ok := s[kind][t]; !ok {
				return false
			}
		}
	}
	return true
}

// list gives tasks by subtopology, in order.
func (h heldTasks) list() assignor.Tasks {
	sorted := slices.SortedFunc(maps.Keys(h), func(a, b task) int {
		return cmp.Or(cmp.Compare(a.subtopology, b.subtopology), cmp.Compare(a.partition, b.partition))
	})
	var list assignor.Tasks
	for _, t := range sorted {
		if len(list) == 0 || list[len(list)-1].Subtopology != t.subtopology {
			list = append(list, assignor.SubtopologyTasks{Subtopology: t.subtopology})
		}
		last := &list[len(list)-1]
		last.Partitions = append(last.Partitions, t.partition)
	}
	return list
}

// lists are the tasks of an assignment, by kind.
func lists(a *assignor.TaskAssignment) [taskKinds]assignor.Tasks {
	return [taskKinds]assignor.Tasks{activeTasks: a.Active, standbyTasks: a.Standby, warmupTasks: a.Warmup}
}

func sameAssignment(a, b *assignor.TaskAssignment) bool {
	return a.Active.Equal(b.Active) && a.Standby.Equal(b.Standby) && a.Warmup.Equal(b.Warmup)
}

// taskOwners counts the members of each process that have a task, or are yet to give it back.
type taskOwners [taskKinds]map[task]map[string]int

func newTaskOwners() (o taskOwners) {
	for kind := range o {
		o[kind] = map[task]map[string]int{}
	}
	return o
}

func (o *taskOwners) count(tasks *taskSet, process string, by int) {
	for kind, held := range tasks {
		for t := range held {
			processes := o[kind][t]
			if processes == nil {
				processes = map[string]int{}
				o[kind][t] = processes
			}
			if tally(processes, process, by); len(processes) == 0 {
				delete(o[kind], t)
			}
		}
	}
}

// taken reports whether a task cannot be given to a member of a process yet. An active task is with one member at a time; and a process
// has one copy of a task's state at a time, whatever the kind, because its members share a folder.
func (o *taskOwners) taken(kind int, t task, process string) bool {
	if kind == activeTasks && len(o[activeTasks][t]) > 0 && !plant.On(plant.TaskTwice) {
		return true
	}
	for k := range o {
		if o[k][t][process] > 0 {
			return true
		}
	}
	return false
}
